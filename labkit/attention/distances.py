"""Distances in bins that double: bin n holds 2^n - 1 up to 2^(n+1) - 2 tokens back; 0 is the reading token itself."""

import math

import torch


def edges(length: int) -> list[int]:
    """Edges of the bins that hold all distances below a length: 0, 1, 3, 7, ..."""
    return [2**n - 1 for n in range(math.floor(math.log2(max(length, 1))) + 2)]


def bin_of(distance: torch.Tensor) -> torch.Tensor:
    """The bin of each distance, whole numbers from 0."""
    return torch.floor(torch.log2(distance.double() + 1)).long()


def stretch_text(first: int, end: int) -> str:
    """What a stretch of numbers below `end` is called."""
    return f"{first:,}" if end == first + 1 else f"{first:,}–{end - 1:,}"


def bin_axis(count: int) -> dict:
    """Coordinates of the first `count` bins."""
    return {"bin": range(count), "bin_text": ("bin", [stretch_text(2**n - 1, 2 ** (n + 1) - 1) for n in range(count)])}
