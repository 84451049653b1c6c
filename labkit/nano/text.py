"""Plain text: sentences from a small seeded grammar, and the docstrings that every Python brings along.

The grammar has habits (every person has a place, a verb and a thing), so that its text can be foreseen, and it mentions
keys and values of the recall tasks in passing, where they mean nothing.
"""

import random
from collections.abc import Callable

from labkit.nano.tokens import KEYS, PEOPLE, PLACES, THINGS, TIMES, VALUES, VERBS

SEEN = ("house", "cup", "ring", "coat", "boat", "stone")


def sentence(draw: random.Random) -> str:
    """One sentence that states no fact."""
    n = draw.randrange(len(PEOPLE))
    who, place, verb, thing = PEOPLE[n], PLACES[n], VERBS[n], THINGS[n]
    return draw.choice(
        (
            f" the {who} {verb} {thing} in the {place}.",
            f" in the {TIMES[n % len(TIMES)]} the {who} goes to the {place}.",
            f" the {who} sees a {draw.choice(VALUES)} {draw.choice(SEEN)}.",
            f" the {who} feeds the {draw.choice(KEYS)} every {TIMES[n % len(TIMES)]}.",
            f" then the {who} rests by the door of the {place}.",
            f" the {who} likes {thing}.",
        )
    )


def story(draw: random.Random, room: int, size: Callable[[str], int]) -> str:
    """Sentences in a row."""
    text, left = [], room
    while left > 0:
        text.append(sentence(draw))
        left -= size(text[-1])
    return "".join(text[:-1])


def passage(draw: random.Random, room: int, docstrings: list[int]) -> list[int]:
    """A window of docstrings, by tokens: `room` ids."""
    start = draw.randrange(len(docstrings) - room)
    return docstrings[start : start + room]


def seeded(*parts) -> random.Random:
    """A local generator that depends on all parts."""
    return random.Random("/".join(map(str, parts)))
