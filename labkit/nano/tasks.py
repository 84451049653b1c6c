"""The questions nano learns to answer. A task writes text; answers stand between two marks and are known to be right.

    pairs      " fox red crow blue fox‹ red›"                          a key asked again, its last value counts
    scattered  facts among sentences about other things, asked at the end; keys may be overwritten
    order      " list fox crow bear end first‹ fox› after crow‹ bear›" what stood where
    values     several values of one key: " first fox‹ red› last fox‹ gold›"
    copy       a row of random words, then the same row again
    chat       (in `labkit.nano.chat`) turns with thinking and tools

Every task takes a local `random.Random`, a `room` in tokens that it fills but does not exceed, and options that make
it harder. `Reader` turns its text into ids and a mask of answer tokens.
"""

import functools
import random
from collections.abc import Callable, Sequence

from labkit.nano.text import sentence
from labkit.nano.tokens import KEYS, ORDINALS, VALUES

OPEN, CLOSE = "\x02", "\x03"


def answer(text: str) -> str:
    """Text that is a right answer."""
    return f"{OPEN}{text}{CLOSE}"


def bare(text: str) -> str:
    """The text without the marks of its answers."""
    return text.replace(OPEN, "").replace(CLOSE, "")


class Reader:
    """From marked text to ids and answer mask.

    Args:
        tokenizer: `tokenizers.Tokenizer`.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.size = functools.lru_cache(50_000)(lambda text: len(tokenizer.encode(text).ids))

    def read(self, marked: str) -> tuple[list[int], list[bool]]:
        """(ids, answers): token ids, and for each whether it is an answer."""
        text, spans, begin = [], [], None
        place = 0
        for piece in _pieces(marked):
            if piece == OPEN:
                begin = place
            elif piece == CLOSE:
                spans.append((begin, place))
            else:
                text.append(piece)
                place += len(piece)
        encoded = self.tokenizer.encode("".join(text))
        marks = [False] * len(encoded.ids)
        span = iter(spans)
        now = next(span, None)
        for i, (start, end) in enumerate(encoded.offsets):
            while now and now[1] <= start:
                now = next(span, None)
            marks[i] = bool(now and start < now[1] and end > now[0])
        return encoded.ids, marks


def _pieces(marked):
    piece = []
    for sign in marked:
        if sign in (OPEN, CLOSE):
            yield "".join(piece)
            yield sign
            piece = []
        else:
            piece.append(sign)
    yield "".join(piece)


# ------------------------------------------------------------------------------------------------------- recall

FACTS = {"plain": " {key}{value}", "is": " {key} is{value}"}  # how a fact is said, and how it is asked again


def pairs(
    draw: random.Random,
    room: int,
    size: Callable[[str], int],
    *,
    keys: int = 64,
    values: int = 16,
    distinct: int = 16,
    overwrite: float = 0.1,
    styles: Sequence[str] = ("plain", "is"),
    ends: Sequence[str] = ("", ",", ".", ";"),
) -> str:
    """Facts in a row, about a few keys that come up again and again."""
    form, end = FACTS[draw.choice(styles)], draw.choice(ends)
    each = size(form.format(key="fox", value=" red") + end)
    chosen = draw.sample(KEYS[:keys], draw.randint(2, min(distinct, keys, max(2, room // each // 2))))
    known, text = {}, []
    for _ in range(room // each):
        key = draw.choice(chosen)
        value = known.get(key)
        if value is None or draw.random() < overwrite:
            value = draw.choice([v for v in VALUES[:values] if v != value])
            text.append(form.format(key=key, value=f" {value}") + end)
        else:
            text.append(form.format(key=key, value=answer(f" {value}")) + end)
        known[key] = value
    return "".join(text)


def scattered(
    draw: random.Random,
    room: int,
    size: Callable[[str], int],
    *,
    facts: int = 16,
    overwrite: float = 0.5,
    styles: Sequence[str] = ("plain", "is"),
    asked: int = 16,
) -> str:
    """Facts in sentences about other things; some keys get another value later; asked in any order at the end."""
    form = FACTS[draw.choice(styles)]
    each = size(form.format(key="fox", value=" red") + ".")
    count = draw.randint(1, max(1, min(facts, room // (3 * each))))
    keys = draw.sample(KEYS, count)
    stated = [(key, draw.choice(VALUES)) for key in keys]
    for key in keys:
        if draw.random() < overwrite / 2:
            stated.append((key, draw.choice(VALUES)))
    if draw.random() < 0.5:  # else the second values come last of all
        draw.shuffle(stated)
    known = dict(stated)
    questions = draw.sample(keys, min(asked, count))
    tail = "".join(form.format(key=key, value=answer(f" {known[key]}")) + "." for key in questions)
    facts_ = [form.format(key=key, value=f" {value}") + "." for key, value in stated]
    left = room - size(bare(tail)) - each * len(facts_) - 2
    filler = []
    while left > 0:
        other = sentence(draw)
        left -= size(other)
        filler.append(other)
    text = mixed(draw, facts_, filler[:-1])
    return text + "\n" + tail


def mixed(draw: random.Random, ordered: Sequence[str], loose: Sequence[str]) -> str:
    """Two lists merged at random, the order within each kept."""
    places = set(draw.sample(range(len(ordered) + len(loose)), len(ordered)))
    fixed, free = iter(ordered), iter(loose)
    return "".join(next(fixed) if i in places else next(free) for i in range(len(ordered) + len(loose)))


# -------------------------------------------------------------------------------------------------------- order


def order(
    draw: random.Random,
    room: int,
    size: Callable[[str], int],
    *,
    items: int = 12,
    kinds: Sequence[str] = ("ordinal", "last", "after", "before", "earlier", "later"),
) -> str:
    """Lists, each followed by a few questions of one kind about places in it, none asked twice.

    Sentences part the items or the questions from them, so that what is asked may lie far back.
    """
    text, left = [], room
    while left >= 24:
        listed = _listed(draw, min(left, draw.choice((48, 96, 192, left))), size, items, draw.choice(kinds))
        text.append(listed)
        left -= size(bare(listed))
    return "".join(text)


def _listed(draw, room, size, items, kind):
    count = draw.randint(4, max(4, min(items, room // 8)))
    words = draw.sample(KEYS, count)
    spread = draw.random() < 0.5  # sentences between the items; else between list and questions
    asked = [question(kind, words, i, j, draw.random() < 0.5) for i, j in _places(draw, kind, count)]
    asked = asked[: max(1, min(8, (room - count - 3) // 5))]
    left, filler = room - count - 2 - 4 * len(asked), []
    while left > 0:
        other = sentence(draw)
        left -= size(other)
        filler.append(other)
    head, filler = [f" {word}" for word in words], filler[:-1]
    body = mixed(draw, head, filler) if spread else "".join(head)
    return " list" + body + " end" + ("" if spread else "".join(filler)) + "".join(asked)


def _places(draw, kind, count):
    """Pairs of places a question may be about, in random order, none twice."""
    if kind in ("earlier", "later"):
        places = [(i, j) for i in range(count) for j in range(i + 1, count)]
    else:
        places = [(i, i + 1) for i in range(min(count - 1, len(ORDINALS)))]
    draw.shuffle(places)
    return places[:1] if kind == "last" else places


def question(kind: str, words: Sequence[str], i: int, j: int, swapped: bool = False) -> str:
    """A question about items i < j of a list, with its answer."""
    pair = f"{words[j]} {words[i]}" if swapped else f"{words[i]} {words[j]}"
    asked, right = {
        "ordinal": (ORDINALS[min(i, len(ORDINALS) - 1)], words[i]),
        "last": ("last", words[-1]),
        "after": (f"after {words[i]}", words[j]),
        "before": (f"before {words[j]}", words[i]),
        "earlier": (f"earlier {pair}", words[i]),
        "later": (f"later {pair}", words[j]),
    }[kind]
    return f" {asked}{answer(' ' + right)}"


def values(draw: random.Random, room: int, size: Callable[[str], int], *, keys: int = 4, most: int = 4) -> str:
    """Each key gets several values, sentences between; asked for the first and the last of them."""
    chosen = draw.sample(KEYS, draw.randint(1, keys))
    stated = [(key, value) for key in chosen for value in draw.sample(VALUES, draw.randint(2, most))]
    draw.shuffle(stated)
    first, last = {}, {}
    for key, value in stated:
        first.setdefault(key, value)
        last[key] = value
    asked = [
        f" {which} {key}{answer(' ' + known[key])}"
        for key in chosen
        for which, known in (("first", first), ("last", last))
    ]
    draw.shuffle(asked)
    left, filler = room - 3 * len(stated) - 3 * len(asked) - 1, []
    while left > 0:
        other = sentence(draw)
        left -= size(other)
        filler.append(other)
    return mixed(draw, [f" {key} {value}." for key, value in stated], filler[:-1]) + "\n" + "".join(asked)


def copy(draw: random.Random, room: int, size: Callable[[str], int], *, longest: int = 48) -> str:
    """A row of random words, said again and again."""
    count = draw.randint(3, min(longest, room // 2 - 1))
    row = [draw.choice(KEYS + VALUES) for _ in range(count)]
    text = [f" {word}" for word in row] + ["."]
    while len(text) + count + 1 <= room:
        text += [f" {row[0]}", *(answer(f" {word}") for word in row[1:]), "."]
    return "".join(text)
