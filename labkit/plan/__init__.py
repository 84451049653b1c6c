"""What a request will cost, told before it runs: bytes that stay, the peak on the way, FLOPs, and cheaper ways.

    lab.plan(tokens=262_144, want="attention.pattern", layers=[3])
    plan.readings()["deltanet.memory"]      # what a reading needs

The peak is found by walking the layers as the model does: at each layer, the seams kept so far plus the scratch of
that layer's largest moment. `tests/test_plan.py` and `tests/test_budgets.py` hold the estimates against counted bytes.

A request whose peak is above the budget (free accelerator memory; or what the host, its control group and the limits
of the process leave) is refused.

What a reading needs (seams, bytes, operations) is said by the reading itself (`labkit.reading`), what a probe needs by
the probe (`Probe.cost`).

In this folder: `bounds` (what bounds host memory), `card` (the `Plan` and its budget), `model` (one forward pass),
`requests` (what a lab does with passes), `estimate` (`lab.plan`, and the doors that refuse), `contexts` (what cards
hold).
"""

from labkit.plan.card import Cost, Plan, ProbeCost, admit, budget
from labkit.plan.contexts import CARDS, Fit, Fitted, Room, fit, stream_peak
from labkit.plan.estimate import (
    admit_copies,
    admit_generate,
    admit_logits,
    admit_room,
    admit_stream,
    admit_trace,
    make,
    planned,
    readings,
)
from labkit.plan.model import Pass, seam_bytes
from labkit.plan.model import mixer as mixer_bytes
from labkit.plan.model import mlp as mlp_bytes

__all__ = [
    "CARDS",
    "Cost",
    "Fit",
    "Fitted",
    "Pass",
    "Plan",
    "ProbeCost",
    "Room",
    "admit",
    "admit_copies",
    "admit_generate",
    "admit_logits",
    "admit_room",
    "admit_stream",
    "admit_trace",
    "budget",
    "fit",
    "make",
    "mixer_bytes",
    "mlp_bytes",
    "planned",
    "readings",
    "seam_bytes",
    "stream_peak",
]


def __dir__():
    return sorted(__all__)
