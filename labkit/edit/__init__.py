"""Interventions: change a tensor at a seam, or a cached state at a token, for as long as a `with` block lasts.

    with lab.edit(edit.scale("gated", layer=2, heads=[1], factor=0.0)):
        changed = lab.trace(prompt)

Token positions of an edit are absolute: it holds for any prompt. A state edit happens between two forward passes: `Lab`
splits the prompt there, and whatever else runs the model is stopped if it steps over the place. An edit that found no
place in the passes of its block is an error when the block ends.

In this folder: `kinds` (what an edit is), `edits` (ready ones), `hooks` (how it is held on the model).
"""

from labkit.edit.edits import (
    ablate,
    add,
    function,
    indices,
    patch,
    patch_state,
    scale,
    set,
    state,
)
from labkit.edit.hooks import Interventions
from labkit.edit.kinds import Edit, OfModel, SeamEdit, StateEdit, checked
from labkit.edit.values import fitted, tensor

__all__ = [
    "Edit",
    "Interventions",
    "OfModel",
    "SeamEdit",
    "StateEdit",
    "ablate",
    "add",
    "checked",
    "fitted",
    "function",
    "indices",
    "patch",
    "patch_state",
    "scale",
    "set",
    "state",
    "tensor",
]


def __dir__():
    return sorted(__all__)
