"""Gated DeltaNet layers: what a head holds, what it overwrites, where its reads come from, and edits that test it.

In this folder, from the rule upwards:

    equation   step, scan, the chunk form, one door to them, the exact implied attention, what is left of keys
    readings   memory, implied_attention, implied_row
    ledger     what decay, erasing and writing did at every token
    remains    survival of stored keys, parts of a state, forgetting of one key, half-lives
    recall     what the memory says when asked for a key, and who spoils it
    spectrum   singular values and ranks; difference of two states
    operate    edits of gates and states, and the response they must have
    patch      which head's state carries an answer
    probes     the same online, for `lab.stream`
"""

from labkit.deltanet.equation import chunks, delta_rule, implied, scan, step, unit
from labkit.deltanet.ledger import ledger
from labkit.deltanet.operate import (
    associate,
    clamp_keep,
    clamp_write,
    forget,
    measured,
    never_forget,
    never_write,
    replace_state,
    response,
)
from labkit.deltanet.patch import patch_states, patch_together
from labkit.deltanet.probes import gates, ledger_sums, norms, rows, saturation, spectra, surprise
from labkit.deltanet.readings import implied_attention, implied_row, inputs, memory
from labkit.deltanet.recall import recall
from labkit.deltanet.remains import forgetting, half_life, survival, written_by
from labkit.deltanet.spectrum import ranks, spectrum, state_difference

__all__ = [
    "associate",
    "chunks",
    "clamp_keep",
    "clamp_write",
    "delta_rule",
    "forget",
    "forgetting",
    "gates",
    "half_life",
    "implied",
    "implied_attention",
    "implied_row",
    "inputs",
    "ledger",
    "ledger_sums",
    "measured",
    "memory",
    "never_forget",
    "never_write",
    "norms",
    "patch_states",
    "patch_together",
    "ranks",
    "recall",
    "replace_state",
    "response",
    "rows",
    "saturation",
    "scan",
    "spectra",
    "spectrum",
    "state_difference",
    "step",
    "surprise",
    "survival",
    "unit",
    "written_by",
]
