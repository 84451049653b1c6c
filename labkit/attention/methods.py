"""Ways to the numbers of `Statistics`, and which is taken.

tiles    of the map, the reference: any rows, any type, any device
kernel   stock attention kernels with other values: all rows, no links; on a CPU, in float32, where they are cheaper
fused    two passes in Triton: any rows and links, on a card, in float32, bfloat16 and float16
"""

from collections.abc import Sequence

import torch

from labkit.attention import fused, kernel
from labkit.attention.softmax import Inputs
from labkit.attention.statistics import Statistics
from labkit.errors import InputError

METHODS = (None, "tiles", "kernel", "fused")


def check(method: str | None, whole: bool, links: int = 0) -> None:
    """Refuse an unknown method, and kernels for what they cannot do; `whole` says that every row is taken.

    Raises:
        InputError: either of them.
    """
    if method not in METHODS:
        raise InputError("unknown method", got=method, expected="None, 'tiles', 'kernel' or 'fused'")
    if method == "kernel" and (links or not whole):
        got, expected = f"{'all' if whole else 'chosen'} rows, links={links}", "all rows, links=0, or method='tiles'"
        raise InputError("kernels take all rows and name no links", got=got, expected=expected)


def way(method: str | None, statistics: Statistics, q: torch.Tensor, k: torch.Tensor, whole: bool) -> str:
    """The method that fills this `Statistics`: as asked; else fused on a card; kernels where exact and cheaper; tiles.

    Raises:
        InputError: as `check`, and a method asked for where it does not run. BackendError: as `fused.check`.
    """
    check(method, whole, statistics.links)
    if method == "fused":
        fused.check(q, k)
    able = q.device.type in ("cpu", "cuda")
    if method == "kernel" and not able:
        expected = "cpu or cuda, or method='tiles'"
        raise InputError("kernels run on a CPU or an NVIDIA card", got=q.device.type, expected=expected)
    if method is None and fused.takes(q, k):
        return "fused"
    exact = able and whole and not statistics.links and q.dtype == k.dtype == torch.float32
    return chosen(method, kernel.columns(statistics.blocks, statistics.kinds), q.shape[-1], exact)


def chosen(method: str | None, values: int, head_dim: int, exact: bool) -> str:
    """The method, where no card is known; kernels would mix so many `values`, and `exact` says that they could."""
    return method or ("kernel" if exact and kernel.cheaper(values, head_dim) else "tiles")


def fill(statistics: Statistics, x: Inputs, rows: Sequence[int], first: int, method: str | None) -> None:
    """Rows of a layer, by the method or the way that is taken.

    Args:
        rows: ascending, among the tokens of `x`. first: position of the first token among the sources.

    Raises:
        InputError, BackendError: see `way`.
    """
    whole = len(rows) == len(x.q)
    taken = way(method, statistics, x.q, x.k, whole)
    if taken == "kernel":
        kernel.add(statistics, x.q, x.k, first, x.gate)
        return
    at = torch.tensor(rows) + first
    if taken == "tiles":
        statistics.add(x.q[rows], x.k, at, x.opened(rows))
    elif whole:
        fused.add(statistics, x.q, x.k, at, x.gate)
    else:
        fused.add(statistics, x.q[rows], x.k, at, x.opened(rows))
