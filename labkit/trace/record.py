"""Hooks as a scope: placed when it opens, gone when it closes, whatever happens in between."""

import contextlib

import torch

from labkit.errors import SeamError
from labkit.trace.seams import SEAMS, decoder, shaped


class Recorder:
    """Hooks as a scope: open it, run the model any number of times, read `pieces`.

    Tensors are kept by reference (nothing in the forward pass changes them afterwards); `device` moves each to
    another device at once, which frees accelerator memory on long prompts.
    """

    def __init__(self, model, spec, wanted, *, device=None):
        self.stack = decoder(model)
        self.spec, self.wanted, self.device = spec, wanted, device
        self.pieces: dict[tuple[int, str], list[torch.Tensor]] = {}
        self.rotary: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._shape = (1, 0)

    def __enter__(self):
        with contextlib.ExitStack() as scope:
            scope.callback(self.stack.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
            scope.callback(self.stack.rotary_emb.register_forward_hook(self._rotary).remove)
            for layer, names in self.wanted.items():
                for name in names:
                    scope.callback(self._attach(layer, name).remove)
            self._scope = scope.pop_all()
        return self

    def __exit__(self, *error):
        self._scope.close()

    def clear(self):
        """Forget what was recorded; the hooks stay."""
        self.pieces, self.rotary = {}, []

    def joined(self, tokens):
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
        source = args[0] if args else kwargs.get("input_ids")
        source = kwargs["inputs_embeds"] if source is None else source
        self._shape = tuple(source.shape[:2])

    def _rotary(self, module, args, output):
        self.rotary.append(tuple(self._moved(part) for part in output))

    def _moved(self, tensor):
        tensor = tensor.detach()
        return tensor if self.device is None else tensor.to(self.device, non_blocking=True)

    def _attach(self, layer, name):
        kind = self.spec.kind(layer)
        seam = SEAMS[kind][name]
        module = self.stack.layers[layer].get_submodule(seam.path)
        bucket = (layer, name)

        def keep(tensor):
            value = shaped(tensor, seam, self.spec, kind, *self._shape)
            self.pieces.setdefault(bucket, []).append(self._moved(value))

        if seam.side == "in":
            return module.register_forward_pre_hook(lambda module, args: keep(args[0]))
        return module.register_forward_hook(
            lambda module, args, output: keep(output[0] if isinstance(output, tuple) else output)
        )
