"""Hooks for one call: placed when it begins, gone when it ends, whatever happens in between."""

import threading

import torch

from labkit.errors import InputError, SeamError
from labkit.hooks import Hook, Place
from labkit.scopes import Call
from labkit.trace.seams import Pass, decoder
from labkit.watched import named

HINT = "lab.edit(edit.function(change, seam=..., layer=...)) makes the same change, and the run knows of it"


class Recorder:
    """Hooks for as long as a block inside a `scopes.Call` lasts: run the model any number of times, read `pieces`.

    Tensors are kept by reference (nothing in the forward pass changes them afterwards, or `joined` tells); `device`
    moves each to another device at once, which frees accelerator memory on long prompts. With `grad` the embeddings are
    where gradients begin, nothing is detached, and `crossed` holds what went through each boundary, for one pass.
    """

    def __init__(self, call: Call, model, spec, wanted, *, device=None, grad=False):
        self.call, self.scopes, self.stack = call, call.scopes, decoder(model)
        self.spec, self.wanted, self.device, self.grad = spec, wanted, device, grad
        self.pieces: dict[tuple[int, str], list[torch.Tensor]] = {}
        self.versions: dict[tuple[int, str], list[int]] = {}
        self.rotary: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.crossed: dict[tuple[int, str], torch.Tensor] = {}
        self.handles = []
        self._shape = (1, 0)

    @property
    def over(self) -> bool:
        """Whether its block has ended, in order or not."""
        return self.scopes.recorder is not self or self.call.over

    @property
    def acts(self) -> bool:
        """Whether its call is running in this thread."""
        return self.scopes.recorder is self and self.call.thread == threading.get_ident() and not self.call.over

    def __enter__(self):
        self._clean = self.scopes.clean
        self.scopes.recorder = self
        places = [Place(self.stack, "before", self._enter, kwargs=True)]
        places.append(Place(self.stack.rotary_emb, "after", self._rotary))
        if self.grad:
            begin = lambda module, args, output: output.detach().requires_grad_()
            places.append(Place(self.stack.embed_tokens, "after", begin))
        for layer, names in self.wanted.items():
            for name in names:
                places += self._places(layer, name)
        try:
            self.scopes.place(self, places)
        except BaseException:  # also of a hook that was placed and whose handle was lost
            self.scopes.recorder = None
            self.scopes.mend()
            raise
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()
        self.scopes.recorder = None
        self.scopes.clean = self._clean

    def clear(self) -> None:
        """Forget what was recorded; the hooks stay."""
        self.pieces, self.versions, self.rotary = {}, {}, []

    def joined(self, tokens: int) -> tuple[dict[tuple[int, str], torch.Tensor], tuple[torch.Tensor, ...]]:
        """`{(layer, name): [batch, tokens, *dims]}` and rotary (cos, sin), each [batch, tokens, rotary].

        Raises:
            SeamError: a seam never fired, or fired for fewer or more tokens than were fed; or something wrote into what
                it had carried.
        """
        for layer, names in self.wanted.items():
            for name in names:
                pieces = self.pieces.get((layer, name), ())
                seen = sum(piece.shape[1] for piece in pieces)
                if seen != tokens:
                    raise SeamError(
                        f"seam {name!r} of layer {layer} did not fire for every token",
                        got=f"{seen} of {tokens} tokens",
                        expected="one firing per forward pass",
                        hint="lab.backend shows fused kernels; load with backend='torch' to run the plain modules",
                    )
                if [_version(piece) for piece in pieces] != self.versions.get((layer, name), []):
                    got = f"seam {name!r} of layer {layer}, written into after it was recorded"
                    raise SeamError("something changed a tensor in place", got=got, hint=self._others() or HINT)
        join = lambda parts: parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        rotary = tuple(join(list(parts)) for parts in zip(*self.rotary, strict=True))
        return {key: join(parts) for key, parts in self.pieces.items()}, rotary

    def _others(self):
        hooks = self.scopes.watched.hooks()
        return f"remove one of these hooks: {'; '.join(hooks)}" if hooks else None

    def _enter(self, module, args, kwargs):
        current = Pass.of(module, args, kwargs)
        self._shape = (current.batch, current.tokens)

    def _rotary(self, module, args, output):
        self.rotary.append(tuple(self._moved(part) for part in output))

    def _moved(self, tensor):
        tensor = tensor if self.grad else tensor.detach()
        return tensor if self.device is None else tensor.to(self.device, non_blocking=True)

    def _places(self, layer, name):
        """The hook that keeps a seam; where others have hooks on its module, also one that comes before theirs."""
        seam = self.spec.seams[self.spec.kind(layer)][name]
        module, place = self.scopes.watched.module(layer, seam.path), (layer, name)
        side = "before" if seam.side == "in" else "after"
        mine = module._forward_pre_hooks if side == "before" else module._forward_hooks
        others = [hook for hook in mine.values() if not isinstance(hook, Hook)]
        came = []  # what crossed the boundary before the hooks of others

        def keep(tensor):
            if others and came.pop() != (id(tensor), _version(tensor)):
                got = f"{named(others[0])} at layer {layer}, seam {name!r}"
                raise InputError("a hook that is not labkit's changes what is watched", got=got, hint=HINT)
            piece = self._moved(seam.read(tensor, self.spec, *self._shape))
            if self.grad:
                self.crossed[place] = tensor
            self.versions.setdefault(place, []).append(_version(piece))
            self.pieces.setdefault(place, []).append(piece)

        def see(tensor):
            came[:] = [(id(tensor), _version(tensor))]

        def hook(function):
            if side == "before":
                return lambda module, args: function(args[0])
            return lambda module, args, output: function(output[0] if isinstance(output, tuple) else output)

        first = [Place(module, side, hook(see), first=True)] if others else []
        return [*first, Place(module, side, hook(keep))]


def _version(tensor):
    return 0 if tensor.is_inference() else tensor._version
