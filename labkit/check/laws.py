"""Exercises: what a reader built, held against the laws that it must obey; the first one that broke is named.

    @exercise(solution=_written)
    def delta_rule(yours):
        \"\"\"One write of the delta rule ...\"\"\"
        ...
        yield Law("what was written is read back", lambda: read(yours(S, k, v), k), v, "write the error, not the value")

An exercise is a generator of laws. Each is asked in turn, so that a law may build on those before it; at the first that
does not hold the rest are not asked. A notebook goes on with `verdict.working`, which is the reader's own work where it
obeys every law and the solution where it does not yet.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from labkit.errors import ClaimError, InputError

TOLERANCE = 1e-5  # of the largest expected number: float32 after a few products
SHOWN = 6  # numbers of a result that a message prints
UNTOUCHED = "what it is given is left as it was"
COPY = "work on a copy: x.clone() of a tensor, x.copy() of an array, list(x); `x += y` changes x itself"
UNWRITTEN = (None, Ellipsis)


class _Changed(Exception):
    """What a reader's function was given is not as it was."""


@dataclasses.dataclass(frozen=True)
class Law:
    """One thing that must be true of what a reader built.

    Attributes:
        says: the law as a sentence.
        got: what computes the reader's side; it is called once. Whatever it raises breaks the law.
        expected: the other side: a number, a text, a tensor, or a tuple or list of them.
        hint: what to look at if it broke.
        tolerance: of the difference of two numbers, as a share of the largest expected one; texts, whole numbers and
            truth values are compared exactly.
    """

    says: str
    got: Callable[[], Any]
    expected: Any
    hint: str = ""
    tolerance: float = TOLERANCE


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict:
    """What an exercise says of a reader's work; its text is what a cell shows.

    Attributes:
        name: of the exercise. held: laws that hold, in order. broken: the first that does not, or None.
        why: of the broken law: what was got and expected. written: whether there was anything to check.
        working: the reader's work if all laws hold, else the solution.
    """

    name: str
    held: tuple[str, ...]
    broken: Law | None
    why: str
    written: bool
    working: Any

    @property
    def passed(self) -> bool:
        """Whether every law holds."""
        return self.written and self.broken is None

    def must(self) -> "Verdict":
        """Itself; for a course's own grading.

        Raises:
            ClaimError: a law is broken, or nothing was written; with what the cell would show.
        """
        if not self.passed:
            raise ClaimError(f"{self.name} is not solved yet", got=repr(self), expected="every law to hold")
        return self

    def __repr__(self):
        if not self.written:
            return f"{self.name}: not written yet; what follows goes on with the solution"
        lines = [f"  holds   {says}" for says in self.held]
        if self.broken is None:
            count = "the law holds" if len(self.held) == 1 else f"all {len(self.held)} laws hold"
            return "\n".join([f"{self.name}: {count}", *lines])
        lines += [f"  BROKEN  {self.broken.says}", *(f"          {line}" for line in self.why.splitlines())]
        if self.broken.hint:
            lines.append(f"          try: {self.broken.hint}")
        return "\n".join([f"{self.name}: not yet; what follows goes on with the solution", *lines])


def exercise(*, solution) -> Callable:
    """Make a checker of a generator of laws: `checker(yours, **options)` gives a `Verdict`, `checker.solution` is kept.

    Args:
        solution: what solves it: a function, a number, or a function of the checker's options if it is marked `made`.

    Raises (when the checker is called):
        InputError: something else than a function where one is asked for.
    """

    def decorate(laws):
        @functools.wraps(laws)
        def checker(yours, **options):
            name, held = laws.__name__, []
            answer = solution(**options) if getattr(solution, "made", False) else solution
            if _unwritten(yours):
                return Verdict(name, (), None, "", False, answer)
            if callable(answer) and not callable(yours):
                hint = f"check.{name}(your_function)"
                raise InputError(f"{name} checks a function", got=type(yours).__name__, expected="a def", hint=hint)
            for law in laws(_asked(yours) if callable(yours) else yours, **options):
                try:
                    why = difference(law.got(), law.expected, law.tolerance)
                except NotImplementedError as error:
                    if not held:
                        return Verdict(name, (), None, "", False, answer)
                    why = str(error)
                except _Changed as error:
                    law, why = dataclasses.replace(law, says=UNTOUCHED, hint=COPY), str(error)
                except Exception as error:  # whatever a reader's code raises is an answer to the law
                    why = f"it raised {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                if why:
                    return Verdict(name, tuple(held), law, why, True, answer)
                held.append(law.says)
            return Verdict(name, tuple(held), None, "", True, yours)

        checker.solution = solution
        return checker

    return decorate


def made(solution: Callable) -> Callable:
    """Mark a function as one that makes the solution from the checker's options (`lab=`, `run=`)."""
    solution.made = True
    return solution


def difference(got, expected, tolerance: float = TOLERANCE) -> str:
    """Why two sides of a law are not the same, in lines `got: …`, `expected: …`; empty if they are."""
    if isinstance(expected, list | tuple) and expected and all(isinstance(each, str | int) for each in expected):
        got = got.tolist() if hasattr(got, "tolist") else got
        mine, theirs = tuple(got) if isinstance(got, list | tuple) else got, tuple(expected)
        turned = isinstance(mine, tuple) and sorted(map(str, mine)) == sorted(map(str, theirs))
        order = "; in another order" if turned else ""
        return "" if mine == theirs else f"got: {_short(mine)}{order}\nexpected: {_short(theirs)}"
    if isinstance(expected, list | tuple) and not all(isinstance(each, int | float) for each in expected):
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            return f"got: {_short(got)}\nexpected: {len(expected)} things, {_short(expected)}"
        pairs = enumerate(zip(got, expected, strict=True), 1)
        return next((f"thing {n}: {why}" for n, (a, b) in pairs if (why := difference(a, b, tolerance))), "")
    if isinstance(expected, str | bool | int) and not hasattr(expected, "shape"):
        mine = got.item() if hasattr(got, "item") and _numbers(got).size == 1 else got
        same = type(mine) is type(expected) or {type(mine), type(expected)} == {int, float}
        return "" if same and mine == expected else f"got: {_short(mine)}\nexpected: {_short(expected)}"
    try:
        mine, theirs = _numbers(got), _numbers(expected)
    except (TypeError, ValueError):
        return f"got: {_short(got)}\nexpected: numbers like {_short(expected)}"
    if mine.shape != theirs.shape:
        turned = "; its axes look exchanged" if mine.shape == theirs.shape[::-1] else ""
        return f"got: shape {mine.shape}{turned}\nexpected: shape {theirs.shape}"
    largest = np.abs(theirs).max(initial=0)
    apart = np.abs(mine - theirs)
    if np.isfinite(mine).all() and apart.max(initial=0) <= tolerance * max(largest, tolerance):
        return ""
    where = ""
    if mine.ndim:
        place = np.unravel_index(int(np.nan_to_num(apart, nan=np.inf).argmax()), mine.shape)
        where = f", farthest apart at {tuple(map(int, place))}: {_short(mine[place])} for {_short(theirs[place])}"
    return f"got: {_short(mine)}\nexpected: {_short(theirs)}{where}"


def _asked(yours):
    """The reader's function; one that returns nothing is a stub, and none may change what it is given."""

    @functools.wraps(yours)
    def asked(*args, **kwargs):
        given = [*enumerate(args, 1), *kwargs.items()]
        before = _held([value for _, value in given])
        answer = yours(*args, **kwargs)
        if _unwritten(answer):
            raise NotImplementedError("it returned nothing")
        for (name, value), held in zip(given, before, strict=True):
            if _held([value]) != [held]:
                raise _Changed(f"got: argument {name} was made {_short(value)}\nexpected: no change of it")
        return answer

    return asked


def _held(value):
    """What lists, arrays and tensors hold, to be compared later; nothing of other objects."""
    if isinstance(value, list | tuple):
        return [_held(each) for each in value]
    if isinstance(value, dict):
        return {name: _held(each) for name, each in value.items()}
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    return value if isinstance(value, str | int | float) else None


def _unwritten(value):
    return any(value is nothing for nothing in UNWRITTEN)


def _numbers(value):
    value = value.detach().cpu().double() if hasattr(value, "detach") else value  # numpy knows no bfloat16
    return np.asarray(value, dtype=np.float64)


def _short(value):
    """A value in one line: a few numbers, or the beginning of its text."""
    if (
        isinstance(value, str | bool | int | type(None))
        or isinstance(value, tuple)
        and all(isinstance(each, str | int) for each in value)
    ):
        return repr(value)[:200]
    try:
        flat = _numbers(value)
    except (TypeError, ValueError):
        return f"{type(value).__name__} {' '.join(repr(value).split())}"[:200]
    texts = [f"{number:.4g}" for number in flat.ravel()[:SHOWN]]
    if not flat.ndim:
        return texts[0]
    return f"[{', '.join(texts)}{', …' if flat.size > SHOWN else ''}]"


def tensor(value):
    """What a reader's function gave as a tensor of float32, be it numpy's, of float64 or a list of rows."""
    import torch

    return torch.as_tensor(_numbers(value), dtype=torch.float32)
