"""Edits held on a model: hooks for as long as a block lasts, and what is done to a state between two passes."""

import contextlib
from collections.abc import Iterator, Sequence

import torch

from labkit.cache import is_linear
from labkit.edit.edits import SeamEdit, StateEdit
from labkit.errors import InputError, LayerError
from labkit.spec import Spec
from labkit.trace import Pass, decoder


@contextlib.contextmanager
def applied(model, spec: Spec, edits: Sequence[SeamEdit | StateEdit]) -> Iterator[None]:
    """Hooks for these edits, for as long as the block lasts; removed also after an exception or an interrupt.

    Raises:
        InputError: when the block ends, an edit that found no place in any of the passes made in it.
    """
    stack = decoder(model)
    place, idle, reached = {}, list(edits), [0]  # the pass that is running; edits that did nothing yet; tokens read

    def enter(module, args, kwargs):
        current = Pass.of(module, args, kwargs)
        seen, tokens = current.before, current.tokens
        pads = torch.zeros(current.batch, dtype=torch.long)
        if current.mask is not None:
            pads = (current.mask == 0).sum(1).cpu()
        positions = torch.arange(tokens) + seen - pads[:, None]
        place.update(shape=(current.batch, tokens), positions=positions, cache=current.cache)
        place.update(end=seen + tokens)
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
                _done(idle, item)
        reached.append(place["end"])

    surgery = [item for item in edits if isinstance(item, StateEdit)]
    with contextlib.ExitStack() as scope:
        scope.callback(stack.register_forward_pre_hook(enter, with_kwargs=True).remove)
        scope.callback(stack.register_forward_hook(leave).remove)
        for item in edits:
            if isinstance(item, SeamEdit):
                scope.callback(_attach(stack, spec, item, place, idle).remove)
        yield
    if idle and max(reached):
        got = f"{', '.join(map(repr, idle))}; passes read up to {max(reached)} tokens"
        raise InputError("an edit found no place", got=got, expected="tokens that the prompts have, layers that run")


def _done(idle, item):
    idle[:] = [other for other in idle if other is not item]


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


def _attach(stack, spec, item, place, idle):
    seam = spec.seams[spec.kind(item.layer)][item.seam]
    module = stack.layers[item.layer].get_submodule(seam.path)

    def changed(tensor):
        positions = place["positions"]
        rows = positions >= 0
        if item.tokens is not None:
            rows = rows & torch.isin(positions, torch.tensor(item.tokens))
        if not rows.any():
            return None
        _done(idle, item)
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
