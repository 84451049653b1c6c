"""Hooks of labkit's on modules: each belongs to an owner, acts while the owner does, and can be swept away later.

An owner has `handles`, a list; `acts`, whether it acts in the running thread or task; and `over`, whether it has ended.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

KWARGS = ("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")  # where PyTorch notes how to call a hook


class Place(NamedTuple):
    """Where a hook goes.

    Attributes:
        side: "before" or "after" the module. kwargs: whether it takes keywords. first: before other hooks there.
        everywhere: whether it also acts in other threads and tasks while its owner is open.
    """

    module: torch.nn.Module
    side: str
    function: Callable
    kwargs: bool = False
    first: bool = False
    everywhere: bool = False


class Hook:
    """A hook of labkit's, which acts only while its owner does."""

    of_labkit = True
    __slots__ = ("owner", "function", "everywhere", "__weakref__")

    def __init__(self, owner, place: Place):
        self.owner, self.function, self.everywhere = owner, place.function, place.everywhere

    def __call__(self, module, *given):
        acts = not self.owner.over if self.everywhere else self.owner.acts
        return self.function(module, *given) if acts else None

    def __deepcopy__(self, memo):
        return self  # in a copied model it acts, and ends, with the scope


def place(owner, places: Iterable[Place]) -> None:
    """Place hooks of an owner."""
    for each in places:
        module = each.module
        register = module.register_forward_pre_hook if each.side == "before" else module.register_forward_hook
        owner.handles.append(register(Hook(owner, each), with_kwargs=each.kwargs, prepend=each.first))


def sweep(modules: Iterable[torch.nn.Module]) -> bool:
    """Take away hooks whose owners are over, also those whose handles were lost; returns whether others are left."""
    living = False
    for module in modules:
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number, hook in list(hooks.items()) if hooks else ():
                if isinstance(hook, Hook) and hook.owner.over:
                    hooks.pop(number, None)
                    for notes in KWARGS:
                        getattr(module, notes).pop(number, None)
                elif isinstance(hook, Hook):
                    living = True
    return living
