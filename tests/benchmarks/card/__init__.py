"""The card's own book: named checks of at most two minutes, shortest first, on whatever card is there.

    make bench ARGS="on_card"                          all that fits the card
    make bench ARGS="on_card --list"                   what they measure, their goals, seconds and memory
    make bench ARGS="on_card --only trace --only laws" some of them
    make bench ARGS="on_card --budget 300"             stops before a check that would not fit
    make bench ARGS="on_card --dry"                    the same code at tiny sizes, without a card

A check prints one line and appends one JSON line to `results/<card>.jsonl` the moment it is done, so that a run cut
short leaves what it measured. README's table of speeds is made from those files (`table.py`). Rivals alternate, and
the median of the paired ratios is reported with its quartiles. Weights are seeded: nothing is said about quality.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Callable

RESULTS = pathlib.Path(__file__).parent / "results"
PARTS = ("laws", "readings", "attend", "passes", "decode", "peers")
LIMIT = 120  # seconds; longer checks run only when they are named


class Skip(Exception):
    """Why a check cannot run here; no failure."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound of one number of a check: at most `bound`, or at least with `least`."""

    number: str
    bound: float
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether a measured number is within the bound."""
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self):
        return f"{self.number} at {'least' if self.least else 'most'} {self.bound:g}"


@dataclasses.dataclass(frozen=True)
class Check:
    """One question to a card.

    Attributes:
        call: `(bench) -> (numbers, sizes)`; a number is a float, or `Bench.spread` of several. Its docstring's first
            line says what is measured.
        seconds: estimate on an H200, model apart. room: GiB that it takes beside the model.
        of: the model it runs on: "27B", "period", or "" for one of its own.
        goals: what must be reached. card: whether it says anything on a card alone.
        dtype: of what is measured.
    """

    call: Callable
    seconds: int
    room: float
    of: str = ""
    goals: tuple[Goal, ...] = ()
    card: bool = True
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.call.__name__

    @property
    def about(self) -> str:
        """What it measures, in one line."""
        return self.call.__doc__.partition("\n")[0]

    @property
    def asked(self) -> bool:
        """Whether it runs only when it is named, since it is longer than two minutes."""
        return self.seconds > LIMIT


def check(**facts) -> Callable[[Callable], Check]:
    """Make a function a `Check` with these facts."""
    return lambda call: Check(call, **facts)


def checks() -> list[Check]:
    """All checks, shortest first."""
    parts = [importlib.import_module(f"{__name__}.{part}") for part in PARTS]
    found = [value for part in parts for value in vars(part).values() if isinstance(value, Check)]
    return sorted(found, key=lambda one: one.seconds)
