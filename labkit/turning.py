"""The rotary module of a model: whole, turned to another scaling in place, and back to exactly what it was."""

import contextlib
import math
from collections.abc import Iterator

from labkit.errors import InputError
from labkit.rotary import Scaling, check_rotated, frequencies, scaling_of

ROUNDED = 1e-5  # relative error of frequencies; float32 on any device keeps 1e-6, 16 bits at best 1e-4


class Rotation:
    """The rotary module of a stack of decoder layers, turned to a scaling and back to exactly what it was.

    Its tensors are exchanged, never written into, and what it was is noted before; so the next `turn` makes it right
    after an interrupt at any line. `stack` are the decoder layers, `constants` those of `constants(spec)`.
    """

    def __init__(self, stack, constants: dict):
        self.stack, self.constants = stack, constants
        self.native = self.now = self.checked = None  # what it was; what it is turned to; frequencies found whole

    @property
    def allowed(self) -> int:
        """Positions that the configuration allows by itself."""
        return self.stack.config.max_position_embeddings if self.native is None else self.native["reach"]

    def check(self) -> None:
        """Refuse frequencies that `model.to(dtype)` rounded, whatever they are held in now; looked at once.

        Raises:
            InputError: not in float32, or further from the configuration's own than float32 is exact.
        """
        import torch

        if not self.constants["width"]:  # nothing is rotated
            return
        held = self.stack.rotary_emb.inv_freq
        if held is self.checked or self.native is not None:
            return
        scaling, got = scaling_of(self.stack.config), str(held.dtype).removeprefix("torch.")
        if held.dtype == torch.float32:
            if scaling.kind == "dynamic":  # of the last length
                held = self.stack.rotary_emb.original_inv_freq
            exact = stated(self.stack, self.constants)
            off = ((held - exact) / exact).abs().max().item() if held.shape == exact.shape else math.inf
            if off < ROUNDED:
                self.checked = self.stack.rotary_emb.inv_freq
                return
            got = f"{off:.0e} off in float32, as after model.to(torch.bfloat16)"
        raise InputError(
            "the rotary frequencies were rounded",
            got=got,
            expected="float32, exact to the configuration: rounded angles are wrong after a few hundred tokens",
            hint="labkit.zoo.exact_rotation(model) puts them back; from_pretrained(..., dtype=...) leaves them whole",
        )

    def turn(self, scaling: Scaling | None, reach: int | None = None) -> None:
        """Turn it; None is back. `reach` are the positions that the configuration allows meanwhile.

        Raises:
            InputError: frequencies that are held in 16 bits.
        """
        if self.native is None and scaling is None:
            return
        check_rotated(self.constants["width"])
        if scaling is not None and self.now == (scaling, reach):
            return
        module, config = self.stack.rotary_emb, self.stack.config
        if self.native is None:
            self.check()
            fields = {name: getattr(module, name) for name in ("inv_freq", "attention_scaling", "rope_type")}
            self.native = fields | {"reach": config.max_position_embeddings}
        self.now, device = None, module.inv_freq.device
        if scaling is None:
            module.inv_freq = self.native["inv_freq"].to(device)  # the same tensor, unless the model has moved
            module.attention_scaling, module.rope_type = self.native["attention_scaling"], self.native["rope_type"]
            config.max_position_embeddings = self.native["reach"]
            self.native = None
            return
        module.inv_freq = frequencies(scaling, **self.constants).to(device)
        module.attention_scaling = scaling.at(window=self.constants["window"]).attention_factor
        module.rope_type = "default"  # "dynamic" would recompute by itself
        config.max_position_embeddings = reach
        self.now = scaling, reach


def stated(stack, constants: dict):
    """Rotary frequencies [pair] that the configuration of a stack states, in float32 and where its own are held."""
    return frequencies(scaling_of(stack.config), **constants).to(stack.rotary_emb.inv_freq.device)


@contextlib.contextmanager
def switched(stack, scaling: Scaling, *, theta: float, width: int, window: int, reach: int) -> Iterator[None]:
    """The rotary module of a model without a lab under a scaling, while the block lasts; then exactly as before.

    Raises:
        InputError: as `Rotation.turn`.
    """
    rotation = Rotation(stack, dict(theta=theta, width=width, window=window))
    try:
        rotation.turn(scaling, reach)
        yield
    finally:
        rotation.turn(None)
