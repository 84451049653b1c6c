"""Attacks: damaged files, hostile sessions, interrupts and threads; none may give a wrong number without a word.

An attack is a function `(tries, seed, folder) -> Iterator[Outcome]`, registered by `@attack`. The suite runs each with
few tries (tests/test_attacks.py); `python -m tests.attacks` runs them long and prints one table.
"""

import dataclasses
import importlib
import pathlib
import pkgutil
import resource
import signal
import traceback
from collections.abc import Callable, Iterator

from labkit.errors import LabError

KINDS = ("clear error", "right", "raw", "hang", "wrong")
BAD = KINDS[2:]
ATTACKS: dict[str, "Attack"] = {}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one try: one of `KINDS`, and what was done and what came, for whoever mends it."""

    kind: str
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Attack:
    """One attack: its function, and how often it is tried in the suite and in the long form."""

    name: str
    function: Callable
    short: int
    long: int

    def outcomes(self, tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
        """Run it."""
        return self.function(tries, seed, folder)


def attack(name: str, *, short: int, long: int) -> Callable:
    """Register a function `(tries, seed, folder) -> Iterator[Outcome]`."""

    def register(function):
        ATTACKS[name] = Attack(name, function, short, long)
        return function

    return register


def collected() -> dict[str, Attack]:
    """All attacks, by name; imports every module of this folder."""
    for module in pkgutil.iter_modules(__path__):
        if module.name != "__main__":
            importlib.import_module(f"{__name__}.{module.name}")
    return ATTACKS


class Hang(BaseException):
    """A try that took too long."""


def tried(
    call: Callable,
    right: Callable,
    what: str,
    *,
    clear: type | tuple = LabError,
    seconds: float = 20,
    memory: int = 2**30,
) -> Outcome:
    """What came of `call()`.

    Args:
        call: the try. right: `result -> bool`, whether a result may be given for it.
        what: names the try. clear: exceptions that are a clear answer.
        seconds: longer is a hang. memory: bytes by which the process may grow; more is a hang too.
    """

    def late(*_):
        raise Hang

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    handler = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        result = call()
        kind, text = ("right", "") if right(result) else ("wrong", repr(result)[:300])
    except clear as error:
        kind, text = "clear error", str(error)
    except Hang:
        kind, text = "hang", f"more than {seconds} s\n{traceback.format_exc(limit=-6)}"
    except Exception:
        kind, text = "raw", traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if kind != "hang" and grown > memory:
        kind, text = "hang", f"grew by {grown / 2**20:.0f} MiB"
    return Outcome(kind, f"{what}: {text}" if kind in BAD else what)
