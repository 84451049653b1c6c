"""What every process that computes figures imports: done once, by the process that those are forked from.

Nothing is computed here, so that no library has threads yet, which a fork would lose.
"""

import contextlib
import importlib

import labkit

NEEDED = (
    "figures._build",
    "plotly.graph_objects",
    "scipy.stats",
    "transformers.models.qwen3_5.modeling_qwen3_5",
    "xarray",
)

for name in NEEDED:
    importlib.import_module(name)
for name in labkit.__all__:
    getattr(labkit, name)
with contextlib.suppress(ImportError):
    importlib.import_module("dask.array")  # xarray asks for it where it is installed
