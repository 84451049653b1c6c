"""Watch the seams of the unmodified model: where they are (`seams`), hooks as a scope (`record`), and the frozen `Run`
that they leave (`run`), on disk too (`saved`).

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
