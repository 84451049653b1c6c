"""A recording of a decode step on the CPU: what a CUDA graph keeps, operations and tensors, and none of the Python."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

LOOKS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::equal")  # a graph cannot wait for these


class Tape(TorchDispatchMode):
    """Records on construction, without an effect; `replay` runs the operations on what the tensors hold now.

    Like a graph it refuses to look at numbers, and knows nothing of Python values that the body read: they are what
    they were when it was recorded.
    """

    made = []  # all tapes, so that a test can count them

    def __init__(self, body, lab=None):
        super().__init__()
        self.steps, self.known, self.before, self.kept = [], {}, {}, []
        try:
            with self:
                body()
        finally:
            for tensor, contents in self.before.values():
                tensor.copy_(contents)
            self.known, self.before = {}, {}
        Tape.made.append(self)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.name().split(".")[0] in LOOKS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function.name()}")
        for value, argument in zip(args, function._schema.arguments, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and id(value) not in self.known:
                self.before.setdefault(id(value), (value, value.clone()))
        out = function(*args, **kwargs)
        made = [part for part in tree_leaves(out) if isinstance(part, torch.Tensor)]
        given = {id(part) for part in tree_leaves((args, kwargs)) if isinstance(part, torch.Tensor)}
        self.known |= {id(part): part for part in made if id(part) not in given}  # alive, so that ids stay theirs
        self.steps.append((function, self._named(args), self._named(kwargs), [self._name(part) for part in made]))
        return out

    def replay(self):
        held = {}
        read = lambda value: held[value.number] if isinstance(value, Made) else value  # noqa: E731
        for function, args, kwargs, names in self.steps:
            out = function(*tree_map(read, args), **tree_map(read, kwargs))
            parts = [part for part in tree_leaves(out) if isinstance(part, torch.Tensor)]
            held |= {name.number: part for name, part in zip(names, parts, strict=True) if isinstance(name, Made)}

    def _named(self, values):
        return tree_map(self._name, values)

    def _name(self, value):
        return Made(id(value)) if isinstance(value, torch.Tensor) and id(value) in self.known else value


class Made:
    """A tensor that the recorded operations make anew each time."""

    def __init__(self, number):
        self.number = number
