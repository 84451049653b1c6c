"""The rule by which a number of ours agrees with a published one, disagrees, or cannot tell; one for all papers.

    disagree      all of our interval lies outside what counts as the same
    cannot tell   it reaches over the border; or the control gives the same number, within the two intervals, or no
                  number at all; or what was measured is no number, or one draw, which has no interval; or the number
                  could not be measured, or the model cannot do the task whole
    agree         all of it lies inside, and the control gives another number

A paper disagrees if one of its numbers does, and agrees if all that could be measured do.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

from labkit.claims import number as shown

if TYPE_CHECKING:
    import xarray

AGREE, DISAGREE, CANNOT = "agree", "disagree", "cannot tell"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is said of one number: a word, and why."""

    name: str
    word: str
    why: str


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict:
    """What is said of a paper: a `word`, and in `findings` a `Finding` for each of its numbers."""

    word: str
    findings: tuple[Finding, ...]

    def __repr__(self):
        return "\n".join([self.word, *(f"  {each.name}: {each.word}; {each.why}" for each in self.findings)])


def verdict(ds: "xarray.Dataset") -> Verdict:
    """What the numbers of `replicate.measure` say of the published ones."""
    broken, unable = ds.attrs.get("broken", "").splitlines(), ds.attrs["unable"]
    findings = tuple(_finding(ds.sel(number=name), str(name), unable, broken) for name in ds.number.values)
    asked = [
        math.isfinite(value) or str(name) in broken
        for name, value in zip(ds.number.values, ds.ours.values, strict=True)
    ]
    words = {each.word for each, was in zip(findings, asked, strict=True) if was}
    if DISAGREE in words:
        return Verdict(DISAGREE, findings)
    return Verdict(AGREE if words == {AGREE} else CANNOT, findings)


def _finding(row, name, unable, broken):
    if unable:
        return Finding(name, CANNOT, unable)
    if name in broken:
        return Finding(name, CANNOT, "what was measured on this model is no number")
    low, high, least, most, below, above = (
        float(row[end]) for end in ("ours_low", "ours_high", "same_low", "same_high", "control_low", "control_high")
    )
    if not (math.isfinite(low) and math.isfinite(high)):
        value = float(row.ours)
        why = (
            f"{shown(value)} of a single draw has no interval" if math.isfinite(value) else "not measured on this model"
        )
        return Finding(name, CANNOT, why)
    ours, bounds = f"{shown(low)} to {shown(high)}", between(least, most)
    if high < least or low > most:
        return Finding(name, DISAGREE, f"all of {ours} lies outside of {bounds}")
    if low < least or high > most:
        return Finding(name, CANNOT, f"{ours} reaches over the border of {bounds}")
    if math.isnan(below) or math.isnan(above):
        return Finding(name, CANNOT, f"all of {ours} lies in {bounds}, but the control is not a number")
    if below <= high and above >= low:
        return Finding(name, CANNOT, f"the control gives it too, {shown(below)} to {shown(above)}")
    return Finding(name, AGREE, f"all of {ours} lies in {bounds}, the control outside of it")


def between(low: float, high: float) -> str:
    """Bounds in words: "at least 0.8", "at most 0.1", "41 to 164"."""
    if not math.isfinite(high):
        return f"at least {shown(low)}"
    return f"at most {shown(high)}" if not math.isfinite(low) else f"{shown(low)} to {shown(high)}"
