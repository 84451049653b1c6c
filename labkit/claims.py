"""Claims as code: a sentence, the comparisons that make it true of its numbers, and the control that refutes it.

    claims.proven(
        "layer 3 alone is not needed: another layer knows the answer too",
        claims.Part("answer without layer 3", 0.998, ">", 0.9),
        claims.Part("answer without both", 0.187, "<", 0.5),
        controls={"a layer that is needed": [claims.Part("answer without layer 0", 0.01, ">", 0.9)]},
    )

A sentence that its numbers do not carry is an error where it is made, in a notebook as in a figure. A part with an
interval holds only if all of the interval lies on the stated side. A control is the same comparison on numbers that
ought to break it; a claim that survives its control says nothing, and is refused as well.
"""

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence

from labkit.errors import ClaimError, InputError

__all__ = [
    "DIGITS",
    "HOLDING",
    "SIGNS",
    "Claim",
    "Part",
    "Proven",
    "check",
    "number",
    "proven",
]

SIGNS = {">": operator.gt, "≥": operator.ge, "<": operator.lt, "≤": operator.le, "=": operator.eq}
HOLDING = "∋"  # the interval holds the number: no difference could be told
DIGITS = range(3, 13)  # as many as it takes to see in print what was compared


@dataclasses.dataclass(frozen=True)
class Part:
    """One comparison, `what: got sign than`.

    Attributes:
        what: names `got`, with its unit: "tokens read again", "nats lost at 496 tokens".
        got: the number.
        sign: one of > ≥ < ≤ = and ∋ (the interval holds the number).
        than: what it is compared with. against: what that is, if it is more than a bound: "an even head".
        interval: (low, high) of `got`, at 95 % where nothing else is said; all of it must lie on the side.

    Raises:
        InputError: another sign, ends that are no interval, or ∋ without one.
    """

    what: str
    got: float
    sign: str
    than: float
    against: str = ""
    interval: tuple[float, float] | None = None

    def __post_init__(self):
        if self.sign not in (*SIGNS, HOLDING):
            raise InputError("unknown comparison", got=self.sign, expected=" ".join((*SIGNS, HOLDING)))
        ends = () if self.interval is None else tuple(self.interval)
        for name, value in (("got", float(self.got)), ("than", float(self.than))):
            object.__setattr__(self, name, value)
        if self.interval is not None:
            ends = tuple(map(float, ends))
            if len(ends) != 2 or ends[0] > ends[1]:
                raise InputError("an interval has a low and a high end", got=ends, expected="(low, high)")
            object.__setattr__(self, "interval", ends)
        elif self.sign == HOLDING:
            raise InputError(
                f"{HOLDING} compares an interval with a number", got="no interval", hint="interval=(low, high)"
            )

    @property
    def holds(self) -> bool:
        """Whether it is true; never of a number that is none."""
        if not math.isfinite(self.got) or not math.isfinite(self.than):
            return False
        if self.sign == HOLDING:
            return self.interval[0] <= self.than <= self.interval[1]
        return all(SIGNS[self.sign](end, self.than) for end in (self.got, *(self.interval or ())))

    def __str__(self):
        for digits in DIGITS:
            texts = [number(value, digits) for value in (self.got, *(self.interval or ()), self.than)]
            if _reads(self.sign, *texts) == self.holds:
                break
        got, *ends, than = texts
        between = f" [{ends[0]} to {ends[1]}]" if ends else ""
        against = f" ({self.against})" if self.against else ""
        return f"{self.what}: {got}{between} {self.sign} {than}{against}" + ("" if self.holds else " is false")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence and the comparisons without which it is not true.

    Attributes:
        sentence: what is claimed, with its numbers in it.
        parts: all must hold; at least one.
    """

    sentence: str
    parts: Sequence[Part]

    def __post_init__(self):
        if not self.parts:
            raise InputError("a claim compares something", got="no part", hint='Part("what", got, ">", than)')
        object.__setattr__(self, "parts", tuple(self.parts))

    @property
    def holds(self) -> bool:
        """Whether all parts do."""
        return all(part.holds for part in self.parts)

    @property
    def title(self) -> str:
        """The sentence, or that it does not hold."""
        return self.sentence if self.holds else f"Not so here: {self.sentence}"

    def __str__(self):
        verdict = "holds" if self.holds else "does not hold"
        return "\n".join([f"{verdict}: {self.sentence}", *(f"  {part}" for part in self.parts)])


@dataclasses.dataclass(frozen=True, repr=False)
class Proven:
    """A claim that holds, and its controls, on which it does not; made by `proven`."""

    claim: Claim
    controls: Mapping[str, Claim]

    def __repr__(self):
        lines = [str(self.claim)]
        for name, control in self.controls.items():
            lines += [f"control, {name}: does not hold", *(f"  {part}" for part in control.parts if not part.holds)]
        return "\n".join(lines)


def proven(sentence: str, *parts: Part, controls: Mapping[str, Sequence[Part]] | None = None) -> Proven:
    """A claim that its numbers carry, shown with them and with the controls that refute it.

    Args:
        sentence: what is claimed. parts: the comparisons, all of which must hold.
        controls: `{what was done: parts}`, the same comparisons on numbers of the opposite case; one must fail.

    Raises:
        ClaimError: a part does not hold, or a control holds.
        InputError: no part.
    """
    claim = Claim(sentence, parts)
    refuted = {name: Claim(sentence, other) for name, other in (controls or {}).items()}
    check(claim, refuted)
    return Proven(claim, refuted)


def check(claim: Claim, controls: Mapping[str, Claim]) -> None:
    """Refuse a claim that does not hold, and one that holds on a control.

    Args:
        claim: what is said. controls: `{what was done: the same claim on the numbers of the opposite case}`.

    Raises:
        ClaimError: with every comparison that failed.
    """
    if not claim.holds:
        failed = "; ".join(str(part) for part in claim.parts if not part.holds)
        hint = "a sentence that these numbers carry"
        raise ClaimError("the numbers do not carry the sentence", got=failed, expected=claim.sentence, hint=hint)
    for name, control in controls.items():
        if control.holds:
            kept = "; ".join(map(str, control.parts))
            hint = "a comparison that the control breaks, or another control"
            raise ClaimError(
                f"the claim holds on its control too: {name}", got=kept, expected="a part that fails", hint=hint
            )


def number(value: float, digits: int = 3) -> str:
    """A value as text, to so many digits and at least its whole part: 0.998, 1,234, 3.2e-07."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    after = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(after, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _reads(sign, *texts):
    """Whether the comparison is true of the numbers as they are printed."""
    try:
        got, *ends, than = (float(text.replace(",", "")) for text in texts)
    except ValueError:
        return False
    if sign == HOLDING:
        return ends[0] <= than <= ends[1]
    return all(SIGNS[sign](end, than) for end in (got, *ends))


def __dir__():
    return sorted(__all__)
