"""Interventions: change a tensor at a seam, or a cached state at a token, for as long as a `with` block lasts.

    with lab.edit(edit.scale("gated", layer=2, heads=[1], factor=0.0)):
        changed = lab.trace(prompt)

A seam edit sees [selected tokens, *dims] and returns the same shape. Token positions are absolute and count from the
first real token of each row, in prefill, in chunks and in decode alike. A state edit happens between two forward
passes: `Lab` splits the prompt there, and whatever else runs the model is stopped if it steps over the place.
"""

import contextlib
import dataclasses
from collections.abc import Callable

import torch

from labkit.cache import is_linear
from labkit.errors import InputError, LayerError
from labkit.notation import is_index, select
from labkit.trace import Pass, decoder


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


def indices(values):
    if values is None:
        return None
    if isinstance(values, slice):
        if values.stop is None:
            raise InputError("an open slice has no end", got=values, expected="slice(start, stop)")
        return tuple(range(values.start or 0, values.stop, values.step or 1))
    return (int(values),) if is_index(values) else tuple(int(value) for value in values)


def function(change, *, seam, layer, heads=None, tokens=None, name="function"):
    """Any function `(values, positions) -> values` at a seam; see `SeamEdit`."""
    return SeamEdit(seam, layer, change, indices(heads), indices(tokens), name)


def set(seam, *, layer, value, heads=None, tokens=None):
    """Set a seam to a number or to a tensor that broadcasts over [batch, token, head, ...]."""
    write = lambda x, at: torch.as_tensor(value, dtype=x.dtype, device=x.device).expand_as(x)  # noqa: E731
    return function(write, seam=seam, layer=layer, heads=heads, tokens=tokens, name="set")


def scale(seam, *, layer, factor, heads=None, tokens=None):
    """Multiply a seam by a number; 0 removes it, 1 changes nothing."""
    return function(lambda x, at: x * factor, seam=seam, layer=layer, heads=heads, tokens=tokens, name="scale")


def add(seam, *, layer, vector, heads=None, tokens=None):
    """Add a number or a tensor that broadcasts over [batch, token, head, ...]: steering."""
    plus = lambda x, at: x + torch.as_tensor(vector, dtype=x.dtype, device=x.device)  # noqa: E731
    return function(plus, seam=seam, layer=layer, heads=heads, tokens=tokens, name="add")


def patch(seam, *, layer, run, heads=None, tokens=None, source=None):
    """Take the values that the same seam had in another run: activation patching.

    Args:
        run: `Run` that kept this seam.
        tokens: absolute positions to patch; None means all of `run`'s.
        source: tokens of `run` to read from, relative to its first and negative from its end, one per entry of
            `tokens`; None means the same absolute positions.

    Raises:
        InputError: tokens that `run` does not have, or lists of different lengths.
    """
    values, first = run.seams[layer, seam], run.start.length
    tokens = tuple(range(first, first + len(run))) if tokens is None else indices(tokens)
    if source is None:
        if outside := [token for token in tokens if not first <= token < first + len(run)]:
            expected = f"{first} to {first + len(run) - 1}"
            raise InputError("the source run lacks these tokens", got=outside, expected=expected, hint="source=[0]")
        source = [token - first for token in tokens]
    source = select(source, len(run), "source")
    if len(source) != len(tokens):
        raise InputError("one source per patched token", got=f"{len(source)} sources", expected=len(tokens))
    row = dict(zip(tokens, source, strict=True))
    chosen = indices(heads)

    def change(x, positions):
        rows = torch.tensor([[row.get(int(p), 0) for p in line] for line in positions])
        new = values[rows.to(values.device)]
        new = new if chosen is None else new[:, :, list(chosen)]
        return new.to(x)

    return SeamEdit(seam, layer, change, chosen, tokens, "patch")


def state(change=None, *, layer, at, heads=None, window=None):
    """Change the recurrent state (and, by `window`, the convolution window) of a DeltaNet layer after token `at`."""
    return StateEdit(layer, at, change, indices(heads), window)


def ablate(layers):
    """Edits that take the mixers of layers away, of either kind: `lab.edit(*edit.ablate([3, 7]))`."""
    return [scale("mixer_out", layer=layer, factor=0) for layer in indices(layers)]


def patch_state(snap, *, layer, at, heads=None, window=True):
    """Put a snapshot's state (and convolution window) of this layer in place after token `at`.

    Args:
        snap: `labkit.cache.Snapshot` with this layer.
        window: also replace the convolution window; the window is shared by all heads.
    """
    chosen = indices(heads)
    if layer not in snap.state:
        raise LayerError("the snapshot holds no state of this layer", got=layer, expected=sorted(snap.state))
    new = snap.state[layer] if chosen is None else snap.state[layer][:, list(chosen)]
    replace = (lambda old: snap.conv[layer].to(old)) if window else None
    return StateEdit(layer, at, lambda old: new.to(old), chosen, replace, "patch_state")


def checked(edits, spec):
    """The edits, if each fits the model.

    Raises:
        InputError: not an edit, a layer, head or token out of range, an unknown seam.
        LayerError: a seam of the other layer kind, heads at a seam without heads, a state edit on attention.
    """
    for item in edits:
        if not isinstance(item, SeamEdit | StateEdit):
            raise InputError("not an edit", got=type(item).__name__, hint='edit.scale("gated", layer=0, factor=0.0)')
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
            if outside := [h for h in item.heads if not 0 <= h < count]:
                raise InputError(f"{axis} out of range", got=outside, expected=f"0 to {count - 1}")
        places = [item.at] if isinstance(item, StateEdit) else item.tokens or ()
        if negative := [p for p in places if p < 0]:
            raise InputError("token positions count from 0", got=negative, hint="len(run) - 1 for the last one")
    return tuple(edits)


@contextlib.contextmanager
def applied(model, spec, edits):
    """Hooks for these edits, for as long as the block lasts; removed also after an exception or an interrupt."""
    stack = decoder(model)
    place = {}  # filled at the start of each forward pass of the stack

    def enter(module, args, kwargs):
        current = Pass.of(module, args, kwargs)
        seen, tokens = current.before, current.tokens
        pads = torch.zeros(current.batch, dtype=torch.long)
        if current.mask is not None:
            pads = (current.mask == 0).sum(1).cpu()
        positions = torch.arange(tokens) + seen - pads[:, None]
        place.update(shape=(current.batch, tokens), positions=positions, cache=current.cache)
        for item in surgery:
            if seen <= item.at < seen + tokens - 1 or (current.cache is None and item.at < tokens):
                raise InputError(
                    f"{item!r} lies inside this forward pass",
                    got=f"tokens {seen} to {seen + tokens - 1} in one pass"
                    + (", no cache" if current.cache is None else ""),
                    expected=f"a pass that ends with token {item.at}",
                    hint="lab.trace, lab.generate and lab.stream split there by themselves",
                )

    def leave(module, args, output):
        cache = place["cache"]
        seen = 0 if cache is None else cache.get_seq_length()
        for item in surgery:
            if item.at == seen - 1:
                _operate(cache.layers[item.layer], item)

    surgery = [item for item in edits if isinstance(item, StateEdit)]
    with contextlib.ExitStack() as scope:
        scope.callback(stack.register_forward_pre_hook(enter, with_kwargs=True).remove)
        if surgery:
            scope.callback(stack.register_forward_hook(leave).remove)
        for item in edits:
            if isinstance(item, SeamEdit):
                scope.callback(_attach(stack, spec, item, place).remove)
        yield


def _operate(layer, item):
    if not is_linear(layer):
        raise LayerError("no recurrent state in the cache here", got=type(layer).__name__)
    held, window = layer.recurrent_states[0], layer.conv_states[0]
    if item.change is not None:
        chosen = slice(None) if item.heads is None else list(item.heads)
        new = item.change(held[:, chosen].clone())
        if tuple(new.shape) != tuple(held[:, chosen].shape):
            raise InputError(f"{item!r} changed the shape", got=tuple(new.shape), expected=tuple(held[:, chosen].shape))
        held[:, chosen] = new.to(held)
    if item.window is not None:
        window.copy_(item.window(window.clone()))


def _attach(stack, spec, item, place):
    seam = spec.seams[spec.kind(item.layer)][item.seam]
    module = stack.layers[item.layer].get_submodule(seam.path)

    def changed(tensor):
        positions = place["positions"]
        rows = positions >= 0
        if item.tokens is not None:
            rows = rows & torch.isin(positions, torch.tensor(item.tokens))
        if not rows.any():
            return None
        whole = tensor.clone(memory_format=torch.contiguous_format)
        values = seam.read(whole, spec, *place["shape"])
        heads = slice(None) if item.heads is None else list(item.heads)
        old = values[:, :, heads]
        new = item.change(old.clone(), positions)
        if tuple(new.shape) != tuple(old.shape):
            raise InputError(f"{item!r} changed the shape", got=tuple(new.shape), expected=tuple(old.shape))
        chosen = rows.to(values.device).view(*rows.shape, *[1] * (old.ndim - 2))
        values[:, :, heads] = torch.where(chosen, new.to(old), old)
        seam.write(whole, values, spec, *place["shape"])
        return whole

    if seam.side == "in":

        def before(module, args):
            new = changed(args[0])
            return None if new is None else (new, *args[1:])

        return module.register_forward_pre_hook(before)

    def after(module, args, output):
        first, *rest = output if isinstance(output, tuple) else (output,)
        new = changed(first)
        return None if new is None else (new, *rest) if isinstance(output, tuple) else new

    return module.register_forward_hook(after)
