"""What is open on a model: edits, a rotary scaling, keys kept before rotation. Each is set by a `with` block.

One `Scopes` per model, whichever labs are around it. A scope belongs to the thread or asyncio task that opened it
(contextvars), and to those started inside it: its hooks are placed once, act there alone, and are inert elsewhere.

Python can be interrupted anywhere, also before the first line of `__exit__`. So nothing here relies on having been
undone: a scope is over once it was left, or once the interpreter has dropped its exit without calling it; a hook of a
scope that is over does nothing; and the next call takes such hooks away and turns the frequencies to what is in force
(`Scopes.mend`). Locks are taken and given back by `with` alone, which cannot be interrupted in between.
"""

import contextvars
import dataclasses
import functools
import threading
import weakref
from collections.abc import Callable, Sequence

import torch

from labkit.errors import InputError
from labkit.families import Family
from labkit.identity import Watched
from labkit.rotary import Rotation, Scaling

_OPEN = contextvars.ContextVar("labkit's open scopes", default=())
_OF = weakref.WeakKeyDictionary()  # model -> Scopes
KWARGS = ("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")  # where PyTorch notes how to call a hook


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a hook goes: `before` or `after` a module; `first` among its hooks; `kwargs` when it takes keywords."""

    module: torch.nn.Module
    side: str
    function: Callable
    kwargs: bool = False
    first: bool = False


class Hook:
    """A hook of labkit's, which acts only while its owner does."""

    of_labkit = True

    def __init__(self, owner, function):
        self.owner, self.function = owner, function

    def __call__(self, module, *given):
        return self.function(module, *given) if self.owner.acts else None

    def __deepcopy__(self, memo):
        return self  # in a copied model it acts, and ends, with the scope


class _Exit:
    """`__exit__` bound in an object that the interpreter alone holds while the block runs; see the module."""

    def __get__(self, scope, kind):
        if scope is None:
            return _leave
        bound = functools.partial(_leave, scope)
        scope.exit = weakref.ref(bound)
        return bound


def _leave(scope, kind, error, trace):
    scope.ended = True
    with scope.scopes.lock:
        _OPEN.set(tuple(each for each in _OPEN.get() if each is not scope))
        scope.scopes.mend()
    if kind is None and scope.check is not None:
        scope.check()


class Scope:
    """One `with` block on a model.

    Args:
        scopes: of the model. value: what the block is handed.
        edits: interventions. scaling, reach: rotary scaling, and the positions that it allows.
        unrotated: `layer -> cache layer` of keys before rotation.
        places: hooks to place. check: called when the block ends without an error.
    """

    def __init__(
        self,
        scopes: "Scopes",
        value: object,
        *,
        edits: Sequence = (),
        scaling: Scaling | None = None,
        reach: int | None = None,
        unrotated: Callable | None = None,
        places: Sequence[Place] = (),
        check: Callable | None = None,
    ):
        self.scopes, self.value, self.places, self.check = scopes, value, list(places), check
        self.edits, self.scaling, self.reach, self.unrotated = tuple(edits), scaling, reach, unrotated
        self.handles, self.exit, self.ended = [], None, False

    @property
    def over(self) -> bool:
        """Whether its block has ended, in order or not."""
        return self.ended or (self.exit is not None and self.exit() is None)

    @property
    def acts(self) -> bool:
        """Whether it is open for the running thread or task."""
        return self in _OPEN.get() and not self.over

    def __enter__(self):
        if self.handles or self.ended:
            raise InputError("a scope is opened once", hint="make another one for another block")
        with self.scopes.lock:
            self.scopes.mend()
            self.scopes.place(self, self.places)
            _OPEN.set((*_OPEN.get(), self))
            self.scopes.turn()
        return self.value

    __exit__ = _Exit()


class Scopes:
    """All that a model's labs know between calls, and the lock that lets one call at a time use the model.

    Attributes:
        lock: held by a call; another thread waits. calling: taken inside it, so that a call within a call is seen.
        watched: the model's modules and weights. rotation: its rotary module.
        rescaled: whether another scaling than the configuration's was ever open, so that keys of a cache that labkit
            has not seen may be of any.
        recorder: what is recording. aside: what was set aside of the model's attributes for the running call.
        seen: `Identity` of the model as of the last pass.
    """

    def __init__(self, model: torch.nn.Module, stack: torch.nn.Module, family: Family, constants: dict):
        self.lock, self.calling = threading.RLock(), threading.Lock()
        self.watched, self.rotation = Watched(model, stack, family), Rotation(stack, constants)
        self.clean, self.rescaled, self.recorder, self.aside, self.seen = True, False, None, None, None

    @property
    def open(self) -> tuple[Scope, ...]:
        """Scopes of this model that act now, innermost last."""
        return tuple(each for each in _OPEN.get() if each.scopes is self and not each.over)

    @property
    def edits(self) -> list:
        """Open interventions, in the order in which they were opened."""
        return [item for each in self.open for item in each.edits]

    @property
    def scaled(self) -> Scope | None:
        """The innermost scope with a rotary scaling."""
        return next((each for each in reversed(self.open) if each.scaling is not None), None)

    @property
    def scaling(self) -> Scaling | None:
        """The scaling of an open `yarn.scaled`, or None."""
        return None if (scope := self.scaled) is None else scope.scaling

    @property
    def unrotated(self) -> Callable | None:
        """Inside `yarn.dynamic`, what makes an attention layer's part of a cache, `layer -> cache layer`; or None."""
        return next((each.unrotated for each in reversed(self.open) if each.unrotated is not None), None)

    @property
    def cuts(self) -> list[int]:
        """Token counts at which an open state edit needs a prompt to be split."""
        return sorted({item.cut for item in self.edits if item.cut is not None})

    def alone(self) -> threading.Lock:
        """What a call holds beside `lock`: `with scopes.lock, scopes.alone():`.

        Raises:
            InputError: a call inside a call, for example from a function of an edit or from a probe.
        """
        if self.calling.locked():
            hint = "make that call before or after; an edit sees the pass by its arguments, a probe by its run"
            raise InputError("this model is in the middle of another call", got="a call within a call", hint=hint)
        self.recorder = None
        self.mend()
        return self.calling

    def place(self, owner, places: Sequence[Place]) -> None:
        """Place hooks of an owner: something with `handles`, `acts` and `over`."""
        self.clean = False
        for place in places:
            register = "register_forward_pre_hook" if place.side == "before" else "register_forward_hook"
            hook, options = Hook(owner, place.function), dict(with_kwargs=place.kwargs, prepend=place.first)
            owner.handles.append(getattr(place.module, register)(hook, **options))

    def turn(self) -> None:
        """Turn the rotary module to what is in force here."""
        scope = self.scaled
        if scope is None:
            self.rotation.turn(None)
        else:
            self.rotation.turn(scope.scaling, scope.reach)

    def mend(self) -> None:
        """Take away what scopes and calls that are over have left; then everything is as the open ones say."""
        if self.clean:
            return
        if self.aside is not None and not self.calling.locked():
            self.put_back()
        living = False
        for module in self.watched.modules.values():
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for number, hook in list(hooks.items()) if hooks else ():
                    if isinstance(hook, Hook) and hook.owner.over:
                        hooks.pop(number, None)
                        for notes in KWARGS:
                            getattr(module, notes).pop(number, None)
                    elif isinstance(hook, Hook):
                        living = True
        self.turn()
        self.clean = not living

    def set_aside(self, module: torch.nn.Module, names: Sequence[str]) -> dict:
        """Attributes of a module become None until `put_back`; returns what they were."""
        self.clean = False
        self.aside = module, {name: getattr(module, name) for name in names if hasattr(module, name)}
        for name in self.aside[1]:
            setattr(module, name, None)
        return self.aside[1]

    def put_back(self) -> None:
        """Undo `set_aside`."""
        module, carried = self.aside
        for name, value in carried.items():
            setattr(module, name, value)
        self.aside = None


def scopes_of(model: torch.nn.Module, stack: torch.nn.Module, family: Family, constants: dict) -> Scopes:
    """The scopes of a model: the same for every lab around it.

    Args:
        stack: its decoder layers. constants: `rotary.constants(spec)`.
    """
    if model not in _OF:
        _OF[model] = Scopes(model, stack, family, constants)
    return _OF[model]
