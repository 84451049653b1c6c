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
    """`tensor` of the values, broadcast to `x`, which it replaces or is added to.

    Raises:
        InputError: another shape.
    """
    try:
        return values.to(x).expand_as(x)
    except RuntimeError:
        expected = f"what broadcasts to {list(x.shape)}"
        raise InputError(f"{name} does not fit", got=list(values.shape), expected=expected) from None


def of_tokens(values: torch.Tensor, x: torch.Tensor, at: torch.Tensor, name: str, *, some: bool) -> torch.Tensor:
    """`fitted` to a seam x [batch, token, ...]; values with an axis of tokens go by absolute position.

    Args:
        at: positions [batch, token], below 0 for padding. some: whether the edit is of some tokens alone.

    Raises:
        InputError: another shape, or tokens that the values do not have.
    """
    own = x.ndim - 2  # axes of one token
    if values.ndim == own + 2 and len(values) == 1:
        values = values[0]
    if values.ndim <= own or (values.ndim == own + 1 and len(values) == 1):
        return fitted(values, x, name)
    if values.ndim > own + 1 or (not some and int(at.max()) >= len(values)):
        got, expected = f"{name} of shape {list(values.shape)}", f"up to token {int(at.max())}: a row for each, or one"
        raise InputError(f"{name} has no value for every token", got=got, expected=expected)
    return fitted(values.to(x.device)[at.clamp(0, len(values) - 1).to(x.device)], x, name)
