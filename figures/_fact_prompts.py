"""Prompts of facts for the figures of states, ` fox red. whale blue.`, with keys that come back or do not."""

import random

from labkit.nano.tokens import KEYS, VALUES

WORDS = 3  # tokens of a fact; in nano the state takes it in at the token behind them


def stated(seed: int, order) -> str:
    """Facts about keys numbered by `order`, no value twice; equal numbers are the same key come back."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, 24), draw.sample(VALUES, len(VALUES))
    return "".join(f" {keys[number]} {value}." for number, value in zip(order, values, strict=False))


def behind(fact: int) -> int:
    """The token behind fact number `fact`, counted from 0."""
    return WORDS * (fact + 1)
