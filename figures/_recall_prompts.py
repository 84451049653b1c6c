"""Prompts that ask for one of several facts, ` fox red. whale blue. fox`, with the answer and two wrong ones."""

import dataclasses
import random

from labkit.nano.tokens import KEYS, VALUES

FACTS = 6


@dataclasses.dataclass(frozen=True)
class Recall:
    """A prompt that ends in a key: the value that belongs to it, and two that belong to other keys of the prompt."""

    prompt: str
    answer: str
    foil: str
    other: str


def recall(seed: int) -> Recall:
    """The prompt of a seed; no key and no value stands in it twice."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, FACTS), draw.sample(VALUES, FACTS)
    asked, one, two = draw.sample(range(FACTS), 3)
    facts = "".join(f" {key} {value}." for key, value in zip(keys, values, strict=True))
    return Recall(f"{facts} {keys[asked]}", *(f" {values[n]}" for n in (asked, one, two)))
