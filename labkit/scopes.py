"""What is open on a model: edits, a rotary scaling, keys kept before rotation. Each is set by a `with` block.

One `Scopes` per model, whichever labs are around it. A scope belongs to the thread or asyncio task that opened it
(contextvars), and to tasks begun inside it: its hooks are placed once, act there alone, and are inert elsewhere.

Python can be interrupted anywhere, also before the first line of `__exit__`. So nothing here relies on having been
undone: a scope is over once it was left, or once the interpreter has dropped its exit without calling it; a hook of a
scope that is over does nothing; and the next call takes such hooks away and turns the frequencies to what is in force
(`Scopes.mend`). A call's turn at the model ends in the same way.
"""

import contextlib
import contextvars
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import torch

from labkit.errors import InputError
from labkit.families import Family
from labkit.hooks import Place, place, sweep
from labkit.rotary import Scaling
from labkit.turning import Rotation
from labkit.watched import Watched

_OPEN = contextvars.ContextVar("labkit's open scopes", default=())
_OF = weakref.WeakValueDictionary()  # id of a model -> its Scopes, which hold it; labs and open scopes hold them
WAIT = 0.001  # seconds between two looks whether it is one's turn


class _Exit:
    """`__exit__` bound in an object that the interpreter alone holds while the block runs; see the module."""

    def __get__(self, scope, kind):
        if scope is None:
            return _leave
        bound = functools.partial(_leave, scope)
        scope.exits.append(weakref.ref(bound))  # whoever only looks for an `__exit__` binds another one
        return bound


def _leave(held, kind, error, trace):
    held.ended = True
    held.leave(kind)


class _Held:
    """What a `with` block holds."""

    def __init__(self):
        self.exits, self.ended = [], False

    @property
    def over(self) -> bool:
        """Whether the block has ended, in order or not; no name here may hold an exit, which a traceback would keep."""
        if self.ended:
            return True
        exits = self.exits
        return bool(exits) and exits[-1]() is None and all(bound() is None for bound in exits)

    __exit__ = _Exit()


class Call(_Held):
    """One call's turn at the model: calls of other threads wait, a call within a call is refused.

    Args:
        inside: whether it may be made within another call of the same thread.
    """

    def __init__(self, scopes: "Scopes", *, inside: bool = False):
        super().__init__()
        self.scopes, self.inside, self.thread = scopes, inside, threading.get_ident()

    def __enter__(self):
        calls = self.scopes.calls
        calls.append(self)
        while (first := next(each for each in tuple(calls) if not each.over)) is not self:
            if first.thread == self.thread:
                if self.inside:
                    return self
                hint = "make that call before or after; an edit sees the pass by its arguments, a probe by its run"
                raise InputError("this model is in the middle of another call", got="a call within a call", hint=hint)
            time.sleep(WAIT)
        for each in tuple(calls):
            if each.over:
                self.scopes.forget(each)
        self.scopes.recorder = None
        self.scopes.mend()
        self.scopes.watched.look()
        return self

    def leave(self, kind: type | None) -> None:
        """Give the turn to the next."""
        self.scopes.forget(self)


class Scope(_Held):
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
        super().__init__()
        self.scopes, self.value, self.places, self.check = scopes, value, list(places), check
        self.edits, self.scaling, self.reach, self.unrotated = tuple(edits), scaling, reach, unrotated
        self.handles = []

    @property
    def acts(self) -> bool:
        """Whether it is open for the running thread or task."""
        return self in _OPEN.get() and not self.over

    def __enter__(self):
        if self.handles or self.ended:
            raise InputError("a scope is opened once", hint="make another one for another block")
        with Call(self.scopes, inside=True):
            self.scopes.place(self, self.places)
            _OPEN.set((*_OPEN.get(), self))
            self.scopes.turn()
        return self.value

    def leave(self, kind: type | None) -> None:
        """Undo it; an edit that did nothing is an error, unless there is another."""
        with Call(self.scopes, inside=True):
            _OPEN.set(tuple(each for each in _OPEN.get() if each is not self))
            self.scopes.mend()
        if kind is None and self.check is not None:
            self.check()


class Scopes:
    """All that a model's labs know between calls, and the queue that lets one call at a time use the model.

    Attributes:
        calls: those that run or wait, in their order.
        watched: the model's modules and weights. rotation: its rotary module.
        rescaled: whether another scaling than the configuration's was ever open, so that keys of a cache that labkit
            has not seen may be of any.
        recorder: what is recording. aside: what was set aside of the model's attributes for the running call.
        seen: `Identity` of the model as of the last pass.
    """

    def __init__(self, model: torch.nn.Module, stack: torch.nn.Module, family: Family, constants: dict):
        self.calls: list[Call] = []
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

    def call(self) -> Call:
        """A call's turn at the model, in a `with` block; another thread's waits.

        Raises:
            InputError: a call inside a call, for example from a function of an edit or from a probe.
        """
        return Call(self)

    @property
    def calling(self) -> bool:
        """Whether a call has its turn, or waits for it."""
        return any(not each.over for each in tuple(self.calls))

    def forget(self, call: Call) -> None:
        """Take a call that is over out of the queue."""
        with contextlib.suppress(ValueError):
            self.calls.remove(call)

    def place(self, owner, places: Sequence[Place]) -> None:
        """Place hooks of an owner: something with `handles`, `acts` and `over`."""
        self.clean = False
        place(owner, places)

    def turn(self) -> None:
        """Turn the rotary module to what is in force here."""
        scope = self.scaled
        if scope is None:
            self.rotation.turn(None)
        else:
            self.rotation.turn(scope.scaling, scope.reach)

    def mend(self) -> None:
        """Take away what scopes and calls that are over have left; then everything is as the open ones say."""
        if self.aside is not None and self.recorder is None:
            self.put_back()
        if self.clean:
            return
        living = sweep(self.watched.modules.values())
        self.turn()
        self.clean = not living

    def set_aside(self, module: torch.nn.Module, names: Sequence[str]) -> dict:
        """Attributes of a module become None until `put_back`; returns what they were."""
        self.aside = module, {name: getattr(module, name) for name in names if hasattr(module, name)}
        for name in self.aside[1]:
            setattr(module, name, None)
        return self.aside[1]

    def put_back(self) -> None:
        """Undo `set_aside`, if it has been done."""
        module, carried = self.aside or (None, {})
        for name, value in carried.items():
            setattr(module, name, value)
        self.aside = None


def scopes_of(model: torch.nn.Module, stack: torch.nn.Module, family: Family, constants: dict) -> Scopes:
    """The scopes of a model: the same for every lab around it.

    Args:
        stack: its decoder layers. constants: `rotary.constants(spec)`.
    """
    found = _OF.get(id(model))
    if found is None:
        found = _OF[id(model)] = Scopes(model, stack, family, constants)
    return found


def forked() -> None:
    """In a child process: the threads whose calls were running are not here, and nobody need wait for them."""
    for scopes in tuple(_OF.values()):
        scopes.calls.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forked)
