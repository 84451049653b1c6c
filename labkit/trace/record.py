"""Hooks as a scope: placed when it opens, gone when it closes, whatever happens in between."""

import contextlib

import torch

from labkit.errors import SeamError
from labkit.trace.seams import Pass, decoder


class Recorder:
    """Hooks as a scope: open it, run the model any number of times, read `pieces`.

    Tensors are kept by reference (nothing in the forward pass changes them afterwards); `device` moves each to another
    device at once, which frees accelerator memory on long prompts. With `grad` the embeddings are where gradients
    begin, nothing is detached, and `crossed` holds what went through each boundary, for one pass.
    """

    def __init__(self, model, spec, wanted, *, device=None, grad=False):
        self.stack = decoder(model)
        self.spec, self.wanted, self.device, self.grad = spec, wanted, device, grad
        self.pieces: dict[tuple[int, str], list[torch.Tensor]] = {}
        self.rotary: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.crossed: dict[tuple[int, str], torch.Tensor] = {}
        self._shape = (1, 0)

    def __enter__(self):
        with contextlib.ExitStack() as scope:
            scope.callback(self.stack.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
            scope.callback(self.stack.rotary_emb.register_forward_hook(self._rotary).remove)
            if self.grad:
                begin = lambda module, args, output: output.detach().requires_grad_()  # noqa: E731
                scope.callback(self.stack.embed_tokens.register_forward_hook(begin).remove)
            for layer, names in self.wanted.items():
                for name in names:
                    scope.callback(self._attach(layer, name).remove)
            self._scope = scope.pop_all()
        return self

    def __exit__(self, *error):
        self._scope.close()

    def clear(self) -> None:
        """Forget what was recorded; the hooks stay."""
        self.pieces, self.rotary = {}, []

    def joined(self, tokens: int) -> tuple[dict[tuple[int, str], torch.Tensor], tuple[torch.Tensor, ...]]:
        """`{(layer, name): [batch, tokens, *dims]}` and rotary (cos, sin), each [batch, tokens, rotary].

        Raises:
            SeamError: a seam never fired, or fired for fewer tokens than were fed.
        """
        for layer, names in self.wanted.items():
            for name in names:
                seen = sum(piece.shape[1] for piece in self.pieces.get((layer, name), ()))
                if seen != tokens:
                    raise SeamError(
                        f"seam {name!r} of layer {layer} did not fire for every token",
                        got=f"{seen} of {tokens} tokens",
                        expected="one firing per forward pass",
                        hint="lab.backend shows fused kernels; load with backend='torch' to run the plain modules",
                    )
        join = lambda parts: parts[0] if len(parts) == 1 else torch.cat(parts, 1)  # noqa: E731
        rotary = tuple(join(list(parts)) for parts in zip(*self.rotary, strict=True))
        return {key: join(parts) for key, parts in self.pieces.items()}, rotary

    def _enter(self, module, args, kwargs):
        current = Pass.of(module, args, kwargs)
        self._shape = (current.batch, current.tokens)

    def _rotary(self, module, args, output):
        self.rotary.append(tuple(self._moved(part) for part in output))

    def _moved(self, tensor):
        tensor = tensor if self.grad else tensor.detach()
        return tensor if self.device is None else tensor.to(self.device, non_blocking=True)

    def _attach(self, layer, name):
        seam = self.spec.seams[self.spec.kind(layer)][name]
        module, place = self.stack.layers[layer].get_submodule(seam.path), (layer, name)

        def keep(tensor):
            if self.grad:
                self.crossed[place] = tensor
            self.pieces.setdefault(place, []).append(self._moved(seam.read(tensor, self.spec, *self._shape)))

        if seam.side == "in":
            return module.register_forward_pre_hook(lambda module, args: keep(args[0]))
        return module.register_forward_hook(
            lambda module, args, output: keep(output[0] if isinstance(output, tuple) else output)
        )
