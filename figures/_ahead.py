"""What every process that computes figures imports: done once, by the process that those are forked from.

Nothing is computed here, so that no library has threads yet, which a fork would lose.
"""

import contextlib

import plotly.graph_objects
import scipy.stats
import transformers.models.qwen3_5.modeling_qwen3_5
import xarray

import labkit
from figures import _build

with contextlib.suppress(ImportError):
    import dask.array  # xarray asks for it where it is installed

__all__ = ["_build", "dask", "plotly", "scipy", "transformers", "xarray"]

for name in labkit.__all__:
    getattr(labkit, name)
