"""Runs: what crosses the seams of the unmodified model, watched once and kept.

    run = lab.trace("red fox, blue whale", layers=[2, 3])
    run.seams[2, "v"] if (2, "v") in run.seams else run.seams[2, "qkv"]
    run.names                                             # the same by the names of others

In this folder: `seams` (where they are), `record` (hooks as a scope), `run` (the frozen `Run` that they leave), `saved`
(the same on disk).

What no module returns (queries and keys after the convolution, decay, state, attention scores) is recomputed from the
seams by `labkit.deltanet` and `labkit.attention`.
"""

from labkit.trace.host import IN_FLIGHT
from labkit.trace.names import Names
from labkit.trace.record import Recorder
from labkit.trace.run import TOLERANCE, Run, Seams, Start
from labkit.trace.said import texts
from labkit.trace.saved import open_run
from labkit.trace.seams import (
    Pass,
    arguments,
    cache_parameter,
    decoder,
    layers_of,
    parameters_of,
    stateful,
    wanted_seams,
)
from labkit.trace.spans import ROPE_AXES, Pictures, Span, axes_of

__all__ = [
    "TOLERANCE",
    "Pass",
    "IN_FLIGHT",
    "Names",
    "Pictures",
    "ROPE_AXES",
    "Recorder",
    "Run",
    "Seams",
    "Span",
    "Start",
    "arguments",
    "axes_of",
    "cache_parameter",
    "decoder",
    "layers_of",
    "open_run",
    "parameters_of",
    "stateful",
    "texts",
    "wanted_seams",
]


def __dir__():
    return sorted(__all__)
