"""Singular values of many small matrices at once, in float64 and in operations on all of them: what a card is good at.

Reflections from both sides make each matrix bidiagonal (Golub and Kahan 1965). The symmetric tridiagonal matrix with
zeros on its diagonal and the bidiagonal's numbers d₁ e₁ d₂ e₂ ... beside it has the eigenvalues ±σ; how many of them
lie below a number is how often qᵢ = -x - bᵢ₋₁²/qᵢ₋₁ is negative (Sturm), so every σ is found by bisection, all of them
in step. Nothing is squared but single numbers: small values keep their digits, which those of SᵀS do not below 1e-8 of
the largest.

Error: 2⁻⁴³ of the Frobenius norm from the bisection, and as much from rounding; at most 1e-12 of it in all
(`tests/test_deltanet_memory.py`).
"""

import torch

STEPS = 42
AT_ONCE = 1024  # matrices: what they take in float64 is scratch
LEAST = 1e-290  # instead of a zero beside the diagonal, so that nothing is 0/0


def singular_values(matrices: torch.Tensor) -> torch.Tensor:
    """Singular values [..., min(m, n)] of matrices [..., m, n], largest first, in their dtype.

    A card's own routine takes them one after another: 2.8 ms for each 128 x 128 on an H200. LAPACK on the host is
    faster there than bisection.
    """
    return bisected(matrices) if matrices.is_cuda else torch.linalg.svdvals(matrices)


def bisected(matrices: torch.Tensor) -> torch.Tensor:
    """`singular_values` by bisection, on any device."""
    flat = matrices.flatten(0, -3) if matrices.ndim > 3 else matrices.view(-1, *matrices.shape[-2:])
    found = [_bisected(part.double()).to(matrices.dtype) for part in flat.split(AT_ONCE)]
    return torch.cat(found).view(*matrices.shape[:-2], -1)


def _bisected(a):
    """Of matrices [matrix, m, n] in float64."""
    size = a.flatten(1).norm(dim=1).clamp(min=1e-300)[:, None]
    d, e = _bidiagonal((a if a.shape[1] >= a.shape[2] else a.mT) / size[:, None])
    n = d.shape[1]
    beside = torch.stack([d, torch.nn.functional.pad(e, (0, 1))], -1).flatten(1)[:, :-1]
    squares = beside.square().clamp(min=LEAST).T[:, :, None].contiguous()  # [2n - 1, matrix, 1]
    low, high = torch.zeros_like(d), torch.ones_like(d)
    # How many eigenvalues lie below the largest, the second largest, ...
    below = torch.arange(2 * n - 1, n - 1, -1, device=d.device)
    for _ in range(STEPS):
        middle = (low + high) / 2
        q = -middle
        count = (q < 0).long()
        for square in squares:
            q = torch.addcdiv(-middle, square, q, value=-1)
            count += q < 0
        less = count > below  # the value is less than the middle
        low, high = torch.where(less, low, middle), torch.where(less, middle, high)
    return (low + high) / 2 * size


def _bidiagonal(a):
    """(diagonal [matrix, n], above it [matrix, n - 1]) of matrices [matrix, m, n], m >= n, which are overwritten."""
    n, above = a.shape[2], []
    diagonal = []
    for i in range(n):
        v, size = _reflection(a[:, i:, i])
        diagonal.append(size)
        rest = a[:, i:, i + 1 :]
        rest -= v[:, :, None] * (v[:, None] @ rest)
        if i < n - 1:
            v, size = _reflection(a[:, i, i + 1 :])
            above.append(size)
            rest = a[:, i + 1 :, i + 1 :]
            rest -= (rest @ v[:, :, None]) * v[:, None]
    return torch.stack(diagonal, 1), torch.stack(above, 1) if above else a.new_zeros(len(a), 0)


def _reflection(x):
    """(v with |v|² = 2, size): x - v (v·x) has `size` in its first place and zeros elsewhere."""
    norm = x.norm(dim=1)
    size = torch.where(x[:, 0] > 0, -norm, norm)
    v = x.clone()
    v[:, 0] -= size
    length = v.norm(dim=1, keepdim=True)
    return v * (2**0.5 / length.clamp(min=1e-300)), size
