"""Atoms as edits of a state: added, scaled, or put in the place of what a token wrote.

    add_atom        S ← S + s V W ᵀ
    scale_atom      S ← S + (c - 1) s_f(S) V_f W_fᵀ             c = 0 erases what there is of it, c = 1 changes nothing
    replace_write   S ← S - β k vᵀ + a V_f W_fᵀ                 arXiv 2605.12770, section 2

All are edits of a state after one token, so that `deltanet.response(run, change, layer=...)` predicts what the layer's
own reads become, and `deltanet.measured` measures it. Tokens are absolute.
"""

import dataclasses

from labkit.arguments import number, whole
from labkit.edit import StateEdit
from labkit.errors import InputError
from labkit.features.atoms import Atoms

MOST = 1e30
MATCHES = "coefficient", "norm"


def add_atom(sae: Atoms, feature: int, *, strength: float, at: int) -> StateEdit:
    """An edit that adds an atom to the state after token `at`.

    Raises:
        InputError: a feature out of range, no atoms, a strength that is no finite number.
    """
    feature, at = _one(sae, feature, "features.add_atom"), whole(at, "at", least=0)
    strength = number(strength, "strength", least=-MOST, most=MOST)

    def change(old):
        states = _states(sae, old)
        return (states + strength * sae.atom(feature).to(states)).to(old)[:, None]

    return StateEdit(sae.layer, at, change, (sae.head,), None, "add_atom")


def scale_atom(sae: Atoms, feature: int, *, factor: float, at: int) -> StateEdit:
    """An edit that multiplies what there is of an atom in the state after token `at`.

    Raises:
        InputError: a feature out of range, no atoms, a factor that is no finite number.
    """
    feature, at = _one(sae, feature, "features.scale_atom"), whole(at, "at", least=0)
    step = number(factor, "factor", least=-MOST, most=MOST) - 1

    def change(old):
        states = _states(sae, old)
        moved = step * sae.encode(states)[:, feature, None, None] * sae.atom(feature).to(states)
        return (states + moved).to(old)[:, None]

    return StateEdit(sae.layer, at, change, (sae.head,), None, "scale_atom")


def replace_write(sae: Atoms, feature: int, write: StateEdit, *, match: str = "coefficient") -> StateEdit:
    """An edit that takes what a token has just written out of the state, and puts an atom there.

    Args:
        write: what takes it out, `deltanet.forget(run, layer=sae.layer, source=t, at=t, heads=sae.head)`: after the
            token itself that is β k vᵀ.
        match: how strong the atom is: "coefficient", its strength in the state before, as the paper has it; "norm", as
            large as what is taken out, as its script has it.

    Raises:
        InputError: a feature out of range, an edit of another layer, head, or of a window.
    """
    feature = _one(sae, feature, "features.replace_write")
    if match not in MATCHES:
        raise InputError("how strong is the atom", got=repr(match), expected=" or ".join(map(repr, MATCHES)))
    if not isinstance(write, StateEdit) or (write.layer, write.heads) != (sae.layer, (sae.head,)) or write.window:
        expected = f"an edit of the state of layer {sae.layer}, heads=({sae.head},)"
        raise InputError("what is taken out of the state", got=repr(write)[:200], expected=expected)
    takes = write.change

    def change(old):
        left, states = takes(old), _states(sae, old)
        atom = sae.atom(feature).to(states)
        if match == "norm":
            strength = (states - sae.wide(left[:, 0])).flatten(1).norm(dim=-1) / atom.norm()
        else:
            strength = sae.encode(states)[:, feature]
        return left + (strength[:, None, None] * atom).to(old)[:, None]

    return dataclasses.replace(write, change=change, name="replace_write")


def _states(sae, old):
    """The states [batch, key, value] of the head, as they are computed with.

    Raises:
        InputError: of another model.
    """
    if old.shape[-2:] != sae.axes:
        raise InputError("these atoms are of another model", got=list(old.shape[-2:]), expected=list(sae.axes))
    return sae.wide(old[:, 0])


def _one(sae, feature, name):
    if not isinstance(sae, Atoms):
        hint = "features.scale(sae, feature, factor=0.0)"
        raise InputError(f"{name} changes a state", got=type(sae).__name__, expected="Atoms", hint=hint)
    return sae.chosen(whole(feature, "feature"))[0]
