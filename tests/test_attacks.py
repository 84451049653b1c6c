"""Every attack of `tests.attacks`, with few tries: clear errors and right results alone."""

import collections

import pytest

from tests.attacks import BAD, collected


@pytest.mark.parametrize("name", sorted(collected()))
def test_an_attack_ends_in_a_clear_error_or_a_right_result(name, tmp_path):
    each = collected()[name]
    outcomes = list(each.outcomes(each.short, 7, tmp_path))
    bad = [f"{outcome.kind}: {outcome.text}" for outcome in outcomes if outcome.kind in BAD]
    assert not bad, "\n".join(bad[:5])
    assert len(outcomes) >= min(each.short, 5), collections.Counter(outcome.kind for outcome in outcomes)
