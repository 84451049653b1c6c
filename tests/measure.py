"""Bytes of live tensors, counted exactly: what a call holds at its highest, above what lived before."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Counts every new storage that an operation returns until it dies; `peak` is the most that lived at once.

    Scratch memory inside one operation is not seen.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        old = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        found = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self._seen and key not in old:
                    self._seen.add(key)
                    size = storage.nbytes()
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, key, size)
        return found

    def _gone(self, key, size):
        self._seen.discard(key)
        self.now -= size


def peak(call):
    """(most bytes of new tensors alive at once during `call()`, bytes of them still alive in its result, result)."""
    with Live() as live:
        result = call()
        return live.peak, live.now, result
