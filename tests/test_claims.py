"""A claim is true of its numbers or an error; what is printed can be checked from the print alone."""

import itertools
import math

import pytest

from labkit import claims
from labkit.claims import Claim, Part, proven
from labkit.errors import ClaimError, InputError


@pytest.mark.parametrize(("sign", "true", "false"), [(">", 3, 2), ("≥", 2, 1), ("<", 1, 2), ("≤", 2, 3), ("=", 2, 3)])
def test_a_part_says_what_its_sign_says(sign, true, false):
    assert Part("facts", true, sign, 2).holds
    assert not Part("facts", false, sign, 2).holds


@pytest.mark.parametrize("sign", [*claims.SIGNS, claims.HOLDING])
@pytest.mark.parametrize("numbers", [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_what_is_no_number_carries_no_claim(sign, numbers):
    part = Part("facts", numbers[0], sign, numbers[1], interval=(0.0, 2.0))
    assert not part.holds
    assert str(part).endswith(" is false")


def test_all_of_an_interval_lies_on_the_side():
    assert Part("lost", 0.5, ">", 0.1, interval=(0.2, 0.8)).holds
    assert not Part("lost", 0.5, ">", 0.1, interval=(0.05, 0.95)).holds
    assert not Part("lost", 0.5, "<", 0.9, interval=(0.05, 0.95)).holds
    assert not Part("lost", 0.0, ">", 0.1, interval=(0.2, 0.8)).holds


def test_no_difference_is_an_interval_that_holds_the_number():
    assert Part("lost", 0.5, "∋", 0, interval=(-0.1, 1.1)).holds
    assert not Part("lost", 0.5, "∋", 0, interval=(0.1, 0.9)).holds
    with pytest.raises(InputError, match="∋ compares an interval with a number\n  got: no interval"):
        Part("lost", 0.5, "∋", 0)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (Part("chance", 0.99842, ">", 0.9), "chance: 0.998 > 0.9"),
        (Part("tokens", 12345, ">", 1234, "in the other"), "tokens: 12,345 > 1,234 (in the other)"),
        (Part("lost", 0.31, ">", 0, interval=(0.1, 0.5)), "lost: 0.31 [0.1 to 0.5] > 0"),
        (Part("moved", 3.21e-7, "<", 1e-5), "moved: 3.21e-07 < 1.00e-05"),
        (Part("lost", -0.25, ">", 0), "lost: -0.25 > 0 is false"),
        (Part("heads", -0.0, "=", 0), "heads: 0 = 0"),
        (Part("lost", -math.inf, "<", 0), "lost: minus infinite < 0 is false"),
    ],
)
def test_a_part_in_print(part, text):
    assert str(part) == text


CLOSE = (0.3, 0.3004, 0.30044, 1234.4, 1234.6, 1e-7, 1.0001e-7)


@pytest.mark.parametrize("sign", claims.SIGNS)
@pytest.mark.parametrize(("got", "than"), list(itertools.product(CLOSE, CLOSE)))
def test_the_printed_numbers_say_what_the_numbers_say(sign, got, than):
    part = Part("x", got, sign, than)
    left, right = str(part).removeprefix("x: ").removesuffix(" is false").split(f" {sign} ")
    assert claims.SIGNS[sign](*(float(text.replace(",", "")) for text in (left, right))) == part.holds


def test_a_claim_needs_all_its_parts():
    good, bad = Part("a", 2, ">", 1), Part("b", 1, ">", 2)
    assert Claim("so", [good]).title == "so"
    assert Claim("so", [good, bad]).title == "Not so here: so"
    assert str(Claim("so", [good, bad])) == "does not hold: so\n  a: 2 > 1\n  b: 1 > 2 is false"
    with pytest.raises(InputError, match='a claim compares something\n  got: no part\n  try: Part\\("what"'):
        Claim("so", [])


def test_what_is_proven_is_shown_with_its_control():
    said = repr(proven("so", Part("a", 2, ">", 1), controls={"shuffled": [Part("a", 0.5, ">", 1)]}))
    assert said == "holds: so\n  a: 2 > 1\ncontrol, shuffled: does not hold\n  a: 0.5 > 1 is false"


def test_a_sentence_that_its_numbers_do_not_carry_is_an_error():
    message = "the numbers do not carry the sentence\n  got: a: 1 > 2 is false\n  expected: so\n  try: a sentence that"
    with pytest.raises(ClaimError, match=message):
        proven("so", Part("a", 1, ">", 2), Part("b", 3, ">", 2))


def test_a_claim_that_no_control_refutes_is_an_error():
    message = "the claim holds on its control too: shuffled\n  got: a: 3 > 1\n  expected: a part that fails"
    with pytest.raises(ClaimError, match=message):
        proven("so", Part("a", 2, ">", 1), controls={"shuffled": [Part("a", 3, ">", 1)]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": "=="}, "unknown comparison\n  got: ==\n  expected: > ≥ < ≤ = ∋"),
        ({"interval": (2, 1)}, r"an interval has a low and a high end\n  got: \(2.0, 1.0\)"),
        ({"interval": (1, 2, 3)}, "an interval has a low and a high end"),
    ],
)
def test_a_part_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Part(**{"what": "a", "got": 1, "sign": ">", "than": 0} | options)
