"""Rows for what a step gives: hundreds of small tensors joined, so that one operation a dtype keeps them all.

A layer's input is the tensor that the layer before gave, so it is written once and read under both names.
"""

from collections.abc import Hashable

import torch


class Rows:
    """`most` rows of named tensors [batch, 1, *axes]; which row is written is said by a tensor, for a recording."""

    def __init__(self, most: int):
        self.most, self.flat = most, {}  # dtype -> [batch, most, width]
        self.places: dict[Hashable, tuple] = {}  # name -> (dtype, first column, axes)
        self.written: dict[torch.dtype, list] = {}  # names whose tensors are joined, in their order

    def write(self, named: dict[Hashable, torch.Tensor], row: torch.Tensor) -> None:
        """Keep tensors of one step in a row [1]; the same names and shapes each time."""
        if not self.places:
            self._lay_out(named)
        for dtype, names in self.written.items():
            joined = torch.cat([named[name].flatten(1) for name in names], 1)
            self.flat[dtype].index_copy_(1, row, joined[:, None])

    def read(self, name: Hashable, first: int, last: int) -> torch.Tensor:
        """[batch, last - first, *axes], a view of these rows."""
        dtype, column, axes = self.places[name]
        part = self.flat[dtype][:, first:last, column : column + axes.numel()]
        return part.unflatten(2, axes) if axes else part[..., 0]

    def _lay_out(self, named):
        known, width = {}, {}
        for name, tensor in named.items():
            facts = tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
            if facts in known:
                self.places[name] = self.places[known[facts]]
                continue
            known[facts] = name
            first = width.setdefault(tensor.dtype, 0)
            self.places[name] = tensor.dtype, first, tensor.shape[2:]
            self.written.setdefault(tensor.dtype, []).append(name)
            width[tensor.dtype] = first + tensor.shape[2:].numel()
        like = next(iter(named.values()))
        shape = len(like), self.most
        self.flat = {dtype: like.new_empty(*shape, size, dtype=dtype) for dtype, size in width.items()}
