"""Numbers and tensors that an edit puts in place: finite, real, and of a shape that fits."""

from collections.abc import Sequence

import torch

from labkit.errors import InputError

LARGEST = torch.finfo(torch.float32).max


def tensor(values: float | Sequence | torch.Tensor, name: str) -> torch.Tensor:
    """A finite number, or a copy of a tensor of real numbers: an edit stays what it was when it was made.

    Raises:
        InputError: texts, truth values, complex numbers, NaN or infinity.
    """
    try:
        given = torch.as_tensor(values)
        given = given if isinstance(values, torch.Tensor) else torch.as_tensor(values, dtype=torch.float64)
        truths = torch.as_tensor(values).dtype == torch.bool
    except (TypeError, ValueError, RuntimeError, OverflowError):
        got = type(values).__name__
        raise InputError(f"{name} holds no numbers", got=got, expected="a number or a tensor") from None
    if truths or given.is_complex() or not given.numel():
        got = "truth values" if truths else f"{given.dtype}, shape {list(given.shape)}"
        raise InputError(f"{name} holds no real numbers", got=got, expected="a number or a tensor")
    if not bool((given.abs() <= LARGEST).all()):
        raise InputError(f"{name} holds numbers that are not finite", expected=f"at most {LARGEST:.3g}, no NaN")
    return given.detach().clone()


def fitted(values: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
    """`tensor` broadcast to what it replaces or is added to.

    Raises:
        InputError: another shape.
    """
    try:
        return values.to(x).expand_as(x)
    except RuntimeError:
        expected = f"what broadcasts to {list(x.shape)}"
        raise InputError(f"{name} does not fit", got=list(values.shape), expected=expected) from None
