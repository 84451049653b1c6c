"""What an edit is: a function on a seam or on a state, and where it acts.

A function on a seam sees the whole pass, [batch, token, *dims] of the chosen heads, and the absolute positions
[batch, token]; what it returns is taken at the chosen tokens alone. Token positions count from the first real token of
each row, in prefill, in chunks and in decode alike.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch

from labkit.arguments import number, whole
from labkit.cache import Snapshot
from labkit.edit.values import LARGEST, fitted, tensor
from labkit.errors import InputError, LayerError
from labkit.notation import is_index, select, whole_numbers
from labkit.spec import Spec
from labkit.trace import Run


@dataclasses.dataclass(frozen=True)
class SeamEdit:
    """A function on a seam.

    Attributes:
        seam: name from `spec.seams` of the layer's kind.
        layer: index in the stack.
        change: `(values [batch, token, head, ...], positions [batch, token]) -> values`, for the chosen heads.
        heads: indices, or None for all.
        tokens: absolute positions, or None for all.
    """

    seam: str
    layer: int
    change: Callable
    heads: tuple[int, ...] | None = None
    tokens: tuple[int, ...] | None = None
    name: str = "edit"

    def __repr__(self):
        where = "" if self.heads is None else f", heads={list(self.heads)}"
        where += "" if self.tokens is None else f", tokens={list(self.tokens)}"
        return f"{self.name}({self.seam!r}, layer={self.layer}{where})"


@dataclasses.dataclass(frozen=True)
class StateEdit:
    """A function on what a DeltaNet layer carries, applied once token `at` has been absorbed.

    Attributes:
        layer: index in the stack.
        at: absolute position of the last token absorbed before the change.
        change: `[batch, head, key, value] -> same shape` on the recurrent state, for the chosen heads; or None.
        heads: indices, or None for all.
        window: `[batch, channel, taps] -> same shape` on the convolution window; or None.
    """

    layer: int
    at: int
    change: Callable | None = None
    heads: tuple[int, ...] | None = None
    window: Callable | None = None
    name: str = "state"

    def __repr__(self):
        where = "" if self.heads is None else f", heads={list(self.heads)}"
        return f"{self.name}(layer={self.layer}, at={self.at}{where})"


def indices(values: int | Sequence[int] | slice | None, axis: str) -> tuple[int, ...] | None:
    """Heads or absolute positions of an edit; None is all.

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


def function(
    change: Callable,
    *,
    seam: str,
    layer: int,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    name: str = "function",
) -> SeamEdit:
    """Any function `(values, positions) -> values` at a seam; see `SeamEdit`."""
    return SeamEdit(seam, layer, change, indices(heads, "heads"), indices(tokens, "tokens"), name)


def set(
    seam: str,
    *,
    layer: int,
    value: float | torch.Tensor,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Set a seam to a number or to a tensor that broadcasts over [batch, token, head, ...]."""
    new = tensor(value, "value")
    write = lambda x, at: fitted(new, x, "value")  # noqa: E731
    return function(write, seam=seam, layer=layer, heads=heads, tokens=tokens, name="set")


def scale(
    seam: str,
    *,
    layer: int,
    factor: float,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Multiply a seam by a number; 0 removes it, 1 changes nothing."""
    factor = number(factor, "factor", least=-LARGEST, most=LARGEST)
    return function(lambda x, at: x * factor, seam=seam, layer=layer, heads=heads, tokens=tokens, name="scale")


def add(
    seam: str,
    *,
    layer: int,
    vector: float | torch.Tensor,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> SeamEdit:
    """Add a number or a tensor that broadcasts over [batch, token, head, ...]: steering."""
    more = tensor(vector, "vector")
    plus = lambda x, at: x + fitted(more, x, "vector")  # noqa: E731
    return function(plus, seam=seam, layer=layer, heads=heads, tokens=tokens, name="add")


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


def state(
    change: Callable | None = None,
    *,
    layer: int,
    at: int,
    heads: int | Sequence[int] | None = None,
    window: Callable | None = None,
) -> StateEdit:
    """Change the recurrent state (and, by `window`, the convolution window) of a DeltaNet layer after token `at`."""
    return StateEdit(layer, whole(at, "at", least=0), change, indices(heads, "heads"), window)


def ablate(layers: int | Sequence[int]) -> list[SeamEdit]:
    """Edits that take the mixers of layers away, of either kind and of none: `lab.edit(*edit.ablate([3, 7]))`."""
    return [scale("mixer_out", layer=layer, factor=0) for layer in whole_numbers(layers, "layers")]


def patch_state(
    snap: Snapshot, *, layer: int, at: int, heads: int | Sequence[int] | None = None, window: bool = True
) -> StateEdit:
    """Put a snapshot's state (and convolution window) of this layer in place after token `at`.

    Args:
        snap: `labkit.cache.Snapshot` with this layer.
        window: also replace the convolution window; the window is shared by all heads.
    """
    chosen, at = indices(heads, "heads"), whole(at, "at", least=0)
    if layer not in snap.state:
        raise LayerError("the snapshot holds no state of this layer", got=layer, expected=sorted(snap.state))
    chosen = None if chosen is None else tuple(select(chosen, snap.state[layer].shape[1], "head"))
    new = snap.state[layer] if chosen is None else snap.state[layer][:, list(chosen)]
    replace = (lambda old: snap.conv[layer].to(old)) if window else None
    return StateEdit(layer, at, lambda old: new.to(old), chosen, replace, "patch_state")


def checked(edits: Iterable[SeamEdit | StateEdit], spec: Spec) -> tuple[SeamEdit | StateEdit, ...]:
    """The edits, if each fits the model.

    Raises:
        InputError: not an edit, a layer, head or token out of range, an unknown seam.
        LayerError: a seam of the other layer kind, heads at a seam without heads, a state edit on attention.
    """
    fitting = []
    for item in edits:
        if not isinstance(item, SeamEdit | StateEdit):
            raise InputError("not an edit", got=type(item).__name__, hint='edit.scale("gated", layer=0, factor=0.0)')
        if not is_index(item.layer):
            hint = f"[{item.name}(..., layer=layer) for layer in {item.layer!r}]"
            raise InputError("an edit is of one layer", got=f"layer={item.layer!r}", expected="an int", hint=hint)
        kind = spec.kind(item.layer)
        if isinstance(item, StateEdit):
            if kind != "deltanet":
                raise LayerError(
                    f"layer {item.layer} is a gated attention layer and carries no recurrent state",
                    expected=f"a DeltaNet layer: {list(spec.deltanet_layers)}",
                    hint=f'edit.scale("v", layer={item.layer}, factor=0.0)',
                )
            axis = "head"
        else:
            if item.seam not in spec.seams[kind]:
                raise LayerError(
                    f"layer {item.layer} is a {kind} layer and has no seam {item.seam!r}",
                    expected=", ".join(spec.seams[kind]),
                )
            axis = spec.seams[kind][item.seam].dims[0]
        if item.heads is not None:
            if axis == "channel":
                raise LayerError(
                    f"seam {item.seam!r} has no head axis",
                    got=f"heads={list(item.heads)}",
                    hint=f'edit.scale("gated", layer={item.layer}, heads={list(item.heads)}, factor=0.0)',
                )
            count = spec.axis_sizes[axis]
            item = dataclasses.replace(item, heads=tuple(select(item.heads, count, axis)))
        places = [item.at] if isinstance(item, StateEdit) else item.tokens or ()
        if negative := [p for p in places if p < 0]:
            raise InputError("token positions count from 0", got=negative, hint="len(run) - 1 for the last one")
        fitting.append(item)
    return tuple(fitting)
