"""Ready edits: set, scale, add, patch, ablate on a seam, and functions on a state."""

from collections.abc import Callable, Sequence

import torch

from labkit.arguments import number, whole
from labkit.cache import Snapshot
from labkit.calling import public
from labkit.edit.kinds import OfModel, SeamEdit, StateEdit
from labkit.edit.values import LARGEST, of_tokens, tensor
from labkit.errors import InputError, LayerError
from labkit.notation import select, whole_numbers
from labkit.trace import Run


def indices(values: int | Sequence[int] | slice | None, axis: str) -> tuple[int, ...] | None:
    """Heads or absolute positions of an edit, the `values` of an `axis`; None is all.

    Raises:
        InputError: none chosen, an open slice, or entries that are no whole numbers.
    """
    if values is None:
        return None
    if isinstance(values, slice):
        if values.stop is None:
            raise InputError("an open slice has no end", got=values, expected="slice(start, stop)")
        values = range(values.start or 0, values.stop, values.step or 1)
    chosen = tuple(whole_numbers(values, axis))
    if not chosen:
        raise InputError(f"an edit of no {axis} changes nothing", got=f"no {axis} chosen", expected="None for all")
    return chosen


@public
def function(
    change: Callable,
    *,
    seam: str,
    layer: int,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    name: str = "function",
) -> SeamEdit:
    """Any function `change(values, positions) -> values` at a seam; see `SeamEdit`.

    Raises:
        InputError: no function, no name of a seam.
    """
    if not callable(change) and not isinstance(change, OfModel):
        hint = 'edit.function(lambda x, at: 0 * x, seam="gated", layer=0)'
        raise InputError("an edit calls a function", got=type(change).__name__, expected="(x, at) -> x", hint=hint)
    if not isinstance(seam, str):
        hint = 'edit.scale("gated", layer=0, factor=0.0)'
        raise InputError("an edit acts at a seam", got=type(seam).__name__, expected="its name, of lab.spec", hint=hint)
    return SeamEdit(seam, layer, change, indices(heads, "heads"), indices(tokens, "tokens"), name)


@public
def set(
    seam: str,
    *,
    layer: int,
    value: float | torch.Tensor,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Set a seam to a `value`, a number, or a tensor that broadcasts over [head, ...] or has a row for every token."""
    new, some = tensor(value, "value"), tokens is not None
    write = lambda x, at: of_tokens(new, x, at, "value", some=some)
    return function(write, seam=seam, layer=layer, heads=heads, tokens=tokens, name="set")


@public
def scale(
    seam: str,
    *,
    layer: int,
    factor: float,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Multiply a seam by a number, the `factor`; 0 removes it, 1 changes nothing."""
    factor = number(factor, "factor", least=-LARGEST, most=LARGEST)
    return function(lambda x, at: x * factor, seam=seam, layer=layer, heads=heads, tokens=tokens, name="scale")


@public
def add(
    seam: str,
    *,
    layer: int,
    vector: float | torch.Tensor,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Add a `vector` at a seam: a number, or a tensor that broadcasts over [head, ...] or has a row for every token."""
    more, some = tensor(vector, "vector"), tokens is not None
    plus = lambda x, at: x + of_tokens(more, x, at, "vector", some=some)
    return function(plus, seam=seam, layer=layer, heads=heads, tokens=tokens, name="add")


@public
def patch(
    seam: str,
    *,
    layer: int,
    run: Run,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    source: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Take the values that the same seam had in another run: activation patching.

    Args:
        run: `Run` that kept this seam.
        tokens: absolute positions to patch; None means all of `run`'s.
        source: tokens of `run` to read from, relative to its first and negative from its end, one per entry of
            `tokens`; None means the same absolute positions.

    Raises:
        InputError: tokens that `run` does not have, or lists of different lengths.
    """
    if not isinstance(run, Run):
        hint = f'edit.patch({seam!r}, layer={layer!r}, run=lab.trace("red fox"))'
        raise InputError("values are taken from a run", got=type(run).__name__, expected="a Run", hint=hint)
    layer = select(whole(layer, "layer"), run.spec.layers, "layer")[0]
    values, first = run.seams[layer, seam], run.start.length
    tokens = tuple(range(first, first + len(run))) if tokens is None else indices(tokens, "tokens")
    if source is None:
        if outside := [token for token in tokens if not first <= token < first + len(run)]:
            expected = f"{first} to {first + len(run) - 1}"
            raise InputError("the source run lacks these tokens", got=outside, expected=expected, hint="source=[0]")
        source = [token - first for token in tokens]
    source = select(source, len(run), "source")
    if len(source) != len(tokens):
        raise InputError("one source per patched token", got=f"{len(source)} sources", expected=len(tokens))
    chosen, (where, row) = indices(heads, "heads"), torch.tensor(sorted(zip(tokens, source, strict=True))).T

    def change(x, positions):
        rows = row[torch.searchsorted(where.contiguous(), positions.contiguous()).clamp(max=len(row) - 1)]
        new = values[rows.to(values.device)]
        new = new if chosen is None else new[:, :, list(chosen)]
        return new.to(x)

    return SeamEdit(seam, layer, change, chosen, tokens, "patch")


@public
def state(
    change: Callable | None = None,
    *,
    layer: int,
    at: int,
    heads: int | Sequence[int] | None = None,
    window: Callable | None = None,
) -> StateEdit:
    """Change, by `change(state) -> state`, the recurrent state (and, by `window`, the convolution window) of a
    DeltaNet layer after token `at`.

    Raises:
        InputError: something that is no function, a token below 0.
    """
    if wrong := [type(each).__name__ for each in (change, window) if each is not None and not callable(each)]:
        hint = "edit.state(lambda state: 0 * state, layer=0, at=0)"
        raise InputError("an edit calls a function", got=wrong[0], expected="state -> state", hint=hint)
    return StateEdit(layer, whole(at, "at", least=0), change, indices(heads, "heads"), window)


def ablate(layers: int | Sequence[int]) -> list[SeamEdit]:
    """Edits that take the mixers of layers away, of either kind and of none: `lab.edit(*edit.ablate([3, 7]))`."""
    return [scale("mixer_out", layer=layer, factor=0) for layer in whole_numbers(layers, "layers")]


@public
def patch_state(
    snap: Snapshot, *, layer: int, at: int, heads: int | Sequence[int] | None = None, window: bool = True
) -> StateEdit:
    """Put a snapshot's state (and convolution window) of this layer in place after token `at`.

    Args:
        snap: `labkit.cache.Snapshot` with this layer.
        window: also replace the convolution window; the window is shared by all heads.

    Raises:
        LayerError: the snapshot holds no state of this layer. InputError: a layer or head out of range.
    """
    chosen, at = indices(heads, "heads"), whole(at, "at", least=0)
    layer = select(whole(layer, "layer"), len(snap.state) + len(snap.keys), "layer")[0]
    if layer not in snap.state:
        raise LayerError("the snapshot holds no state of this layer", got=layer, expected=sorted(snap.state))
    chosen = None if chosen is None else tuple(select(chosen, snap.state[layer].shape[1], "head"))
    new = snap.state[layer] if chosen is None else snap.state[layer][:, list(chosen)]
    taps = snap.conv[layer]
    replace = (lambda old: taps.to(old)) if window else None
    return StateEdit(layer, at, lambda old: new.to(old), chosen, replace, "patch_state")
