"""Gated DeltaNet layers: the rule (`equation`), readings of a run (`readings`), probes for long prompts (`probes`)
and interventions on the gates."""

from labkit.deltanet.equation import chunks, implied, scan, step, unit
from labkit.deltanet.probes import gates, ledger_sums, norms
from labkit.deltanet.readings import implied_attention, implied_row, inputs, memory
from labkit.edit import function as _function

__all__ = [
    "chunks",
    "gates",
    "implied",
    "implied_attention",
    "implied_row",
    "inputs",
    "ledger_sums",
    "memory",
    "never_forget",
    "never_write",
    "norms",
    "scan",
    "step",
    "unit",
]


def never_forget(*, layer, head=None, tokens=None):
    """An edit that sets the decay α of a head to exactly 1: softplus of a very negative input is 0."""
    return _closed("a", layer, head, tokens, "never_forget")


def never_write(*, layer, head=None, tokens=None):
    """An edit that sets the write strength β of a head to 0: nothing is written and nothing erased."""
    return _closed("b", layer, head, tokens, "never_write")


def _closed(seam, layer, head, tokens, name):
    return _function(
        lambda x, at: x.new_full(x.shape, -1e4), seam=seam, layer=layer, heads=head, tokens=tokens, name=name
    )
