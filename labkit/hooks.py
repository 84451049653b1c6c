"""Hooks of labkit's on modules: each belongs to an owner, acts while the owner does, and can be swept away later.

An owner has `handles`, a list; `acts`, whether it acts in the running thread or task; and `over`, whether it has ended.
A hook is its own key among a module's hooks: so it is placed and lifted without a handle, which costs PyTorch more than
calling it.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

HOOKS = {"before": "_forward_pre_hooks", "after": "_forward_hooks"}  # of a module, by side
KWARGS = {side: f"{hooks}_with_kwargs" for side, hooks in HOOKS.items()}  # where PyTorch notes how to call a hook


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
    __slots__ = ("owner", "function", "everywhere", "hooks", "notes", "__weakref__")

    def __init__(self, owner, function: Callable | None = None, everywhere: bool = False):
        self.owner, self.function, self.everywhere = owner, function, everywhere

    def __call__(self, module, *given):
        acts = not self.owner.over if self.everywhere else self.owner.acts
        return self.function(module, *given) if acts else None

    def __deepcopy__(self, memo):
        return self  # in a copied model it acts, and ends, with the scope


def place(owner, places: Iterable[Place]) -> None:
    """Place hooks of an owner."""
    for each in places:
        put(Hook(owner, each.function, each.everywhere), each.module, each.side, kwargs=each.kwargs, first=each.first)


def put(hook: Hook, module: torch.nn.Module, side: str, *, kwargs: bool = False, first: bool = False) -> None:
    """Place one hook on a module."""
    hooks, notes = getattr(module, HOOKS[side]), getattr(module, KWARGS[side])
    stand(hook, hooks, notes if kwargs else None)
    if first:
        hooks.move_to_end(hook, last=False)


def stand(hook: Hook, hooks: dict, notes: dict | None = None) -> None:
    """Place a hook behind the others of one side of a module; with `notes` it takes keywords."""
    hook.hooks, hook.notes = hooks, notes
    hook.owner.handles.append(hook)
    if notes is not None:
        notes[hook] = True
    hooks[hook] = hook


def lift(owner) -> None:
    """Take an owner's hooks away."""
    for hook in owner.handles:
        hook.hooks.pop(hook, None)
        if hook.notes is not None:
            hook.notes.pop(hook, None)


def sweep(modules: Iterable[torch.nn.Module]) -> bool:
    """Take away hooks whose owners are over, also those whose handles were lost; returns whether others are left."""
    living = False
    for module in modules:
        for side in HOOKS:
            hooks = getattr(module, HOOKS[side])
            for key, hook in list(hooks.items()) if hooks else ():
                if isinstance(hook, Hook) and hook.owner.over:
                    hooks.pop(key, None)
                    getattr(module, KWARGS[side]).pop(key, None)
                elif isinstance(hook, Hook):
                    living = True
    return living
