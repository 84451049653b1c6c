"""Gated DeltaNet layers: what a head holds, what it overwrites, where its reads come from, and edits that test it.

    run = lab.trace(" fox red. whale blue. fox")
    ds = deltanet.memory(run, layer=[0, 1])                # what each head keeps, writes, gets wrong; its last state
    deltanet.implied_attention(run, layer=2, heads=1)      # what its output owes to every earlier token, exactly
    with lab.edit(deltanet.never_write(layer=4, tokens=[1])):
        changed = lab.trace(run.ids)

In this folder, from the rule upwards:

    equation   step, scan, the chunk form, one door to them, the exact implied attention, what is left of keys
    recompute  the rule's inputs from a run's seams; the one walk over its tokens, proven
    readings   memory, implied_attention, implied_row
    remains    survival of stored keys, parts of a state, forgetting of one key, half-lives
    card       what the memory says when asked for a key, and who spoils it
    singular   singular values and ranks; difference of two states
    operate    edits of gates and states
    changes    what such an edit must do to the layer's reads, and what it did
    patch      which head's state carries an answer
    probes     the same online, for `lab.stream`
    costs      what each reading needs, for `lab.plan`
"""

from labkit.deltanet.card import recall
from labkit.deltanet.changes import measured, response
from labkit.deltanet.equation import chunks, delta_rule, implied, scan, step, unit
from labkit.deltanet.operate import (
    associate,
    clamp_keep,
    clamp_write,
    forget,
    never_forget,
    never_write,
    replace_state,
)
from labkit.deltanet.patch import patch_states, patch_together
from labkit.deltanet.probes import gates, norms, rows, saturation, spectra, surprise, updates
from labkit.deltanet.readings import implied_attention, implied_row, memory
from labkit.deltanet.recompute import inputs
from labkit.deltanet.remains import forgetting, half_life, survival, written_by
from labkit.deltanet.singular import ranks, spectrum, state_difference

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
    "updates",
    "written_by",
]


def __dir__():
    return sorted(__all__)
