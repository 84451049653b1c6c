"""Numbers that a user gives: plain below, refused where they are none or out of bounds."""

import decimal
import fractions
import math

import numpy as np
import pytest
import torch

from labkit.arguments import number, whole
from labkit.errors import InputError

NAN = float("nan")
NONE = [NAN, math.inf, -math.inf, np.float32("nan"), torch.tensor(NAN), decimal.Decimal("NaN"), True, np.True_, "1"]
NONE += [None, 1j, [1.0], torch.tensor([1.0]), 10**400, torch.tensor(True)]


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(InputError, match="share"):
        number(value, "share")


@pytest.mark.parametrize(
    "value", [*NONE, 1.0, np.float64(2), fractions.Fraction(3), torch.tensor(1.0), 2**63], ids=repr
)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(InputError, match="chunk"):
        whole(value, "chunk")


@pytest.mark.parametrize("value", [2, np.int8(2), np.uint64(2), torch.tensor(2, dtype=torch.uint8)])
def test_numbers_of_others_become_plain(value):
    assert type(whole(value, "chunk")) is int and whole(value, "chunk") == 2
    assert type(number(value, "share")) is float and number(value, "share") == 2.0


def test_bounds_belong_to_the_range_or_not():
    assert whole(1, "chunk", least=1) == 1 and whole(3, "chunk", most=3) == 3
    assert number(0, "share", least=0, most=1) == 0.0 and number(1, "share", least=0, most=1) == 1.0
    for wrong in (dict(above=0.5), dict(below=0.5), dict(least=0.6), dict(most=0.4)):
        with pytest.raises(InputError, match="share out of range"):
            number(0.5, "share", **wrong)
    with pytest.raises(InputError, match="(?s)chunk out of range.*chunk=0.*1 or more"):
        whole(0, "chunk", least=1)
