"""A published claim as a record: its numbers, where they stand, what would count as the same, and how it is measured.

What a measurement gives is laid out here once: a number of ours for each published one, the same number of a control
that ought not to give it, and numbers beside them on which no verdict is said.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import label

if TYPE_CHECKING:
    import xarray

READ = {
    "paper": "the paper itself",
    "data": "the result files that its authors published",
    "abstract": "the abstract alone",
    "secondary": "what others report of it",
}
LEAST = 2  # texts or questions, for an interval
ENDS = ("", "_low", "_high")


class Reading(NamedTuple):
    """A number with the ends of its interval; not-a-number where it could not be measured."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclasses.dataclass(frozen=True)
class Number:
    """One published number.

    Attributes:
        name: what it is of, with its unit. value: the number, not-a-number where none is printed. text: as it is told.
        place: section, table, figure or file. read: a key of `READ`, how far the source was reached.
        same: (low, high), between which ours counts as the same. because: why there, as a clause.
    """

    name: str
    value: float
    text: str
    place: str
    read: str
    same: tuple[float, float]
    because: str

    def __post_init__(self):
        low, high = self.same
        if self.read not in READ:
            raise InputError("unknown way of reading a source", got=self.read, expected=", ".join(READ))
        if self.value < low or self.value > high or low > high or (low, high) == (-math.inf, math.inf):
            got = f"{self.value} in {low} to {high}"
            raise InputError(f"{self.name}: what counts as the same holds the number, and not all numbers", got=got)


@dataclasses.dataclass(frozen=True)
class Paper:
    """A claim that was published.

    Attributes:
        arxiv: id without a version. title, claim: the claim as a sentence. model: on which it was measured.
        numbers: those that the claim rests on, as `Number`s.
        control: what else is measured, which would give the same numbers if the claim were about something else.
        reasons: what could explain that a model says otherwise.
        reads: "text", of the user's own or sentences that are made, or "questions", which are made.
        measure: `(lab, texts, samples, length) -> Dataset` made by `measured`, None being the paper's default.
    """

    arxiv: str
    title: str
    claim: str
    model: str
    numbers: tuple[Number, ...]
    control: str
    reasons: tuple[str, ...]
    reads: str
    measure: Callable


def measured(
    paper: Paper,
    lab: Lab,
    ours: Mapping[str, Reading],
    controls: Mapping[str, Reading] | None = None,
    beside: Mapping[str, Reading] | None = None,
    *,
    how: str,
    interval: str,
    unable: str = "",
) -> "xarray.Dataset":
    """What was measured for a paper, laid out for `verdict`.

    Args:
        ours: `{name of a published number: Reading}`; one that is missing was not measured on this model.
        controls: the same of the control, for those numbers that it can give.
        beside: numbers of another way to ask, on which no verdict is said.
        how: what was done, with counts and seeds. interval: how the intervals were made.
        unable: why this model cannot be asked at all, if so.

    Returns:
        Dataset: `published`, `same_low`, `same_high`, `ours`, `control` with `_low` and `_high` (number); `beside`
        with its ends (other), if there is any. The attribute `broken` names, one a line, what was measured and is no
        number, if anything.

    Raises:
        InputError: a number that was not published, an interval whose ends are exchanged.
    """
    names = [number.name for number in paper.numbers]
    variables = {"published": (("number",), [number.value for number in paper.numbers], None)}
    for n, end in enumerate(("low", "high")):
        variables[f"same_{end}"] = ("number",), [number.same[n] for number in paper.numbers], None
    for name, given in (("ours", ours), ("control", controls or {})):
        if unknown := sorted(set(given) - set(names)):
            raise InputError(f"{name}: no such published number", got=unknown, expected=", ".join(names))
        for each, reading in given.items():
            if reading.low > reading.high:
                got = f"{reading.low} to {reading.high}"
                raise InputError(f"{name}, {each}: an interval from its high end to its low one", got=got)
        for n, end in enumerate(ENDS):
            variables[name + end] = ("number",), [given.get(each, Reading())[n] for each in names], None
    coords = {"number": names}
    if beside:
        coords["other"] = list(beside)
        for n, end in enumerate(ENDS):
            variables["beside" + end] = ("other",), [reading[n] for reading in beside.values()], None
    facts = {"model": lab.name, "reading": "replicate.measure", "paper": paper.arxiv, "how": how}
    if broken := [name for name, reading in ours.items() if not math.isfinite(reading.value)]:
        facts["broken"] = "\n".join(broken)
    return label(variables, coords=coords, attrs=facts | {"interval": interval, "unable": unable})


def measure(
    lab: Lab,
    paper: str,
    *,
    texts: Sequence[str] | None = None,
    samples: int | None = None,
    length: int | None = None,
) -> "xarray.Dataset":
    """Measure on this model what a paper measured on its own; `verdict` says what came of it.

    Args:
        lab: `Lab` with a tokenizer.
        paper: an arXiv id of `replicate.papers()`.
        texts: your own, where the paper reads text; None makes sentences that state no facts.
        samples: how many texts or questions. length: tokens of each. None is the paper's own default.

    Returns:
        Dataset as of `record.measured`.

    Raises:
        InputError: an unknown paper, texts for one that asks questions, too few samples, a lab without a tokenizer.
        BudgetError: a length that would not fit.
    """
    from labkit.replicate.published import find

    found = find(paper)
    if texts is not None and found.reads != "text":
        raise InputError("this paper asks questions, which are made", got="texts", hint="leave the texts out")
    if lab.tokenizer is None:
        raise InputError("this lab has no tokenizer", got="a task in words", expected="a checkpoint with its tokenizer")
    samples = None if samples is None else whole(samples, "samples", least=LEAST)
    length = None if length is None else whole(length, "length", least=LEAST)
    return found.measure(lab, texts, samples, length)


def plain_id(given: str) -> str:
    """An arXiv id as it is written, `arXiv:2603.22473v1` or the address of its page, without what varies."""
    return re.sub(r"v\d+$", "", str(given).strip().rstrip("/").rpartition("/")[2].lower().removeprefix("arxiv:"))
