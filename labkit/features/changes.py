"""Features as edits: a feature is set, scaled or taken away where it is read, and all else of the stream stays.

    x ← x + (s' - s) W_dec,f        what the dictionary does not explain is kept as it is

so that a factor of 1 changes nothing, to the last bit. `reconstruct` is the opposite: what is not explained goes.
Tokens are absolute. The edits are known by the digest of the dictionary, also in another process.
"""

from collections.abc import Callable, Sequence

import torch

from labkit import edit
from labkit.arguments import number
from labkit.calling import public
from labkit.edit import SeamEdit
from labkit.errors import InputError
from labkit.features.dictionary import Dictionary

Features = int | Sequence[int]
Tokens = int | Sequence[int] | None
MOST = 1e30


@public
def clamp(sae: Dictionary, features: Features, *, value: float, tokens: Tokens = None) -> SeamEdit:
    """An edit that gives features this strength, whatever they had.

    Raises:
        InputError: a feature out of range, a value that is no finite number.
    """
    value = number(value, "value", least=-MOST, most=MOST)
    return _moved(sae, features, lambda old: torch.full_like(old, value), tokens, "clamp")


@public
def scale(sae: Dictionary, features: Features, *, factor: float, tokens: Tokens = None) -> SeamEdit:
    """An edit that multiplies the strengths of features; 0 takes them away, 1 changes nothing.

    Raises:
        InputError: a feature out of range, a factor that is no finite number.
    """
    factor = number(factor, "factor", least=-MOST, most=MOST)
    return _moved(sae, features, lambda old: old * factor, tokens, "scale")


@public
def ablate(sae: Dictionary, features: Features, *, tokens: Tokens = None) -> SeamEdit:
    """An edit that takes features away where they are active."""
    return scale(sae, features, factor=0, tokens=tokens)


@public
def reconstruct(sae: Dictionary, *, tokens: Tokens = None) -> SeamEdit:
    """An edit that puts the reconstruction in place of the stream: what the dictionary leaves out is gone."""
    _check(sae, "features.reconstruct")
    return _held(sae, lambda rows: torch.cat([made for _, _, made in sae.parts(rows)]), tokens, "reconstruct")


def _moved(sae: Dictionary, features: Features, new: Callable, tokens: Tokens, name: str) -> SeamEdit:
    _check(sae, f"features.{name}")
    features = sae.chosen(features)
    if len(set(features)) < len(features):
        raise InputError("a feature is changed once", got=features[:8], expected="each of them once")

    def moved(rows):
        rows = sae.wide(rows)
        old = sae.strengths(rows, features)
        return rows + sae.change(new(old) - old, features, rows)

    return _held(sae, moved, tokens, name)


def _held(sae, moved, tokens, name):
    """The edit of a function of rows; no other tokens are read. Once held it refuses a model of another width."""
    tokens = edit.indices(tokens, "tokens")

    def change(x, positions):
        rows, places = x.flatten(2).flatten(0, 1).clone(), positions.flatten()
        at = places >= 0 if tokens is None else torch.isin(places, torch.tensor(tokens))
        at = at.nonzero()[:, 0].to(x.device)
        rows[at] = moved(rows[at]).to(x)
        return rows.view(x.shape)

    def of_model(spec):
        sae.check(spec)
        return change

    return edit.function(edit.OfModel(of_model), seam=sae.seam, layer=sae.layer, tokens=tokens, name=name)


def _check(sae, name):
    if not isinstance(sae, Dictionary):
        hint = "features.scale_atom(sae, feature, factor=0.0, at=12)"
        got = f"{type(sae).__name__}"
        raise InputError(f"{name} changes a dictionary of vectors", got=got, expected="a Dictionary", hint=hint)
