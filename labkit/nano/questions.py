"""The questions of the exam: each draws a prompt that fills a room of so many tokens, and the one right answer.

A question is `(draw, room, size, **options) -> (prompt, answer)`: a local `random.Random`, the room in tokens, and a
function that counts the tokens of a text. The right answer is the next token of the prompt.
"""

import random
from collections.abc import Callable, Sequence

from labkit.nano import chat, tasks, text
from labkit.nano.tokens import KEYS, VALUES

DEPTHS = 8


def among(
    draw: random.Random,
    room: int,
    size: Callable[[str], int],
    facts: Sequence[str],
    question: str,
    sentences: bool = True,
) -> str:
    """Facts in order among sentences that fill the room; then the question. `question` is its text."""
    left, filler = room - size(question) - sum(map(size, facts)) - 1, []
    while sentences and left > 0:
        other = text.sentence(draw)
        left -= size(other)
        filler.append(other)
    return tasks.mixed(draw, facts, filler[:-1]) + "\n" + question


def listed(draw: random.Random, room: int, size: Callable[[str], int], words: Sequence[str], question: str) -> str:
    """A list with sentences between its items that fill the room; then the question."""
    left, filler = room - len(words) - 2 - size(question), []
    while left > 0:
        other = text.sentence(draw)
        left -= size(other)
        filler.append(other)
    return " list" + tasks.mixed(draw, [f" {word}" for word in words], filler[:-1]) + " end" + question


def recall(draw: random.Random, room: int, size: Callable[[str], int], *, facts: int = 16) -> tuple[str, str]:
    """Different keys among sentences, all of the room; one is asked for."""
    keys = draw.sample(KEYS, facts)
    stated = [(key, draw.choice(VALUES)) for key in keys]
    key, value = draw.choice(stated)
    form = tasks.FACTS[draw.choice(("plain", "is"))]
    lines = [form.format(key=k, value=f" {v}") + "." for k, v in stated]
    return among(draw, room, size, lines, form.format(key=key, value="")), f" {value}"


def overwritten(draw: random.Random, room: int, size: Callable[[str], int], *, facts: int = 8) -> tuple[str, str]:
    """One key gets a second, different value somewhere after its first; the last counts."""
    keys = draw.sample(KEYS, facts)
    stated = [(key, draw.choice(VALUES)) for key in keys]
    at = draw.randrange(facts)
    key, old = stated[at]
    value = draw.choice([v for v in VALUES if v != old])
    stated.insert(draw.randint(at + 1, facts), (key, value))
    form = tasks.FACTS[draw.choice(("plain", "is"))]
    lines = [form.format(key=k, value=f" {v}") + "." for k, v in stated]
    return among(draw, room, size, lines, form.format(key=key, value="")), f" {value}"


def needle(draw: random.Random, room: int, size: Callable[[str], int], *, depth: int) -> tuple[str, str]:
    """A single fact at one of `DEPTHS` depths of the room, sentences before and after it."""
    key, value = draw.choice(KEYS), draw.choice(VALUES)
    form = tasks.FACTS[draw.choice(("plain", "is"))]
    fact, question = form.format(key=key, value=f" {value}") + ".", form.format(key=key, value="")
    left = room - size(fact) - size(question) - 1
    before, after = [], []
    place = left * (depth + 0.5) / DEPTHS
    while left > 0:
        other = text.sentence(draw)
        (before if sum(map(size, before)) < place else after).append(other)
        left -= size(other)
    return "".join(before) + fact + "".join(after[:-1]) + "\n" + question, f" {value}"


def single(draw: random.Random, room: int, size: Callable[[str], int]) -> tuple[str, str]:
    """A fact, sentences about other things that fill the room, and the question: the fact lies at its far end."""
    key, value, between = draw.choice(KEYS), draw.choice(VALUES), ""
    fact, question = f" {key} {value}.", f"\n {key}"
    while size(fact + between + (more := text.sentence(draw)) + question) <= room:
        between += more
    return fact + between + question, f" {value}"


def first_value(draw: random.Random, room: int, size: Callable[[str], int], *, which: str = "first") -> tuple[str, str]:
    """Two keys with three values each, mixed; the first or last value of one is asked for."""
    keys = draw.sample(KEYS, 2)
    stated = [(key, value) for key in keys for value in draw.sample(VALUES, 3)]
    draw.shuffle(stated)
    key = draw.choice(keys)
    own = [value for k, value in stated if k == key]
    lines = [f" {k} {v}." for k, v in stated]
    return among(draw, room, size, lines, f" {which} {key}"), f" {own[0 if which == 'first' else -1]}"


def earlier(draw: random.Random, room: int, size: Callable[[str], int], *, items: int = 8) -> tuple[str, str]:
    """A list with sentences between its items; which of two came first?"""
    words = draw.sample(KEYS, items)
    i, j = sorted(draw.sample(range(items), 2))
    one, two = draw.sample((words[i], words[j]), 2)
    return listed(draw, room, size, words, f" earlier {one} {two}"), f" {words[i]}"


def ordinal(draw: random.Random, room: int, size: Callable[[str], int], *, items: int = 8) -> tuple[str, str]:
    """A list with sentences between its items; the third, say."""
    words = draw.sample(KEYS, items)
    i = draw.randrange(items)
    return listed(draw, room, size, words, f" {tasks.ORDINALS[i]}"), f" {words[i]}"


def induction(draw: random.Random, room: int, size: Callable[[str], int]) -> tuple[str, str]:
    """A row of random words, then its beginning again; the next word is asked for."""
    row = [draw.choice(KEYS + VALUES) for _ in range(24)]
    at = draw.randint(2, 23)
    return "".join(f" {w}" for w in row) + "." + "".join(f" {w}" for w in row[:at]), f" {row[at]}"


def decided(draw: random.Random, preserve: bool) -> tuple[list[dict], str, str]:
    """(messages, key, value): something decided in thinking, two to five other turns, then the question about it."""
    keys = draw.sample(KEYS, 6)
    value = draw.choice(VALUES)
    messages = chat.decide(draw, keys[0], value)
    for key in keys[1 : draw.randint(3, 6)]:
        messages += draw.choice((chat.decide, chat.tell, chat.look))(draw, key, draw.choice(VALUES))
    return messages + [chat.user(draw.choice(chat.ASK).format(key=keys[0]))], keys[0], value


def contrast(draw: random.Random, *, facts: int = 4) -> tuple[str, str, str, str, str]:
    """Two prompts that state the same facts but one, for patching; not the last, which convolutions still hold.

    Returns:
        clean, other: the two texts. question: the question, to follow either. right, wrong: the answers, as text, after
        the clean and after the other one.
    """
    keys = draw.sample(KEYS, facts)
    values = [draw.choice(VALUES) for _ in keys]
    at = draw.randrange(facts - 1)
    new = draw.choice([value for value in VALUES if value != values[at]])
    clean, other = (
        "".join(f" {key} {value}." for key, value in zip(keys, chosen, strict=True))
        for chosen in (values, [*values[:at], new, *values[at + 1 :]])
    )
    return clean, other, f" {keys[at]}", f" {values[at]}", f" {new}"
