"""How a format is told from others: signs, the names and kinds of values that its rows have.

    {"role": str}              a mapping with this name and a text under it
    {"type": ("user", "bot")}  one of these values
    {"steps": [{"source": str}]}   a list that is empty or holds an entry of this kind among its first ones
    {"id": ...}                the name alone

A row may be a whole document; a document that is a list is a row too, with a sign that is a list.
"""

import dataclasses
from collections.abc import Callable, Sequence

FEW = 20  # entries of a list that are looked at


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of recorded sessions.

    Attributes:
        name; says: what it is, in a few words.
        signs: each alone tells the format, if a row fits it. The row that fits most closely decides.
        read: `(rows, gathered) -> None`, where a row is (line, object) and `gathered` takes the calls.
    """

    name: str
    says: str
    signs: Sequence[dict | list]
    read: Callable


def fits(sign, value) -> bool:
    """Whether a value is as a sign says."""
    if sign is ...:
        return True
    if isinstance(sign, dict):
        return isinstance(value, dict) and all(name in value and fits(part, value[name]) for name, part in sign.items())
    if isinstance(sign, list):
        return isinstance(value, list) and (
            not value or any(fits(part, entry) for part in sign for entry in value[:FEW])
        )
    if isinstance(sign, tuple):
        return any(type(value) is type(one) and value == one for one in sign)
    return isinstance(value, sign) and not (isinstance(value, bool) and sign is not bool)


def closeness(sign) -> int:
    """How much a sign asks for."""
    if isinstance(sign, dict):
        return sum(1 + closeness(part) for part in sign.values())
    if isinstance(sign, list):
        return 1 + sum(map(closeness, sign[:1]))
    return 0 if sign is ... else 2 if isinstance(sign, tuple) else 1


def recognised(formats: Sequence[Format], rows: Sequence[object]) -> Format | None:
    """The format whose sign asks for most among those that a row fits; of equals, the one that more rows fit."""
    best, chosen = (0, 0), None
    for format in formats:
        found = [max((closeness(sign) for sign in format.signs if fits(sign, row)), default=0) for row in rows]
        score = (max(found, default=0), sum(map(bool, found)))
        if score > best:
            best, chosen = score, format
    return chosen


def nearest(formats: Sequence[Format], rows: Sequence[object]) -> str:
    """What rows of no known format look like, and which format asks for least that they lack."""
    row = next((row for row in rows if row), None)
    entry = next((one for one in row if isinstance(one, dict)), None) if isinstance(row, list) else row
    if not isinstance(entry, dict):
        return "no objects in it"
    looks = ("a list of objects with " if entry is not row else "objects with ") + ", ".join(sorted(entry)[:8])
    best = None
    for format in formats:
        for sign in format.signs:
            inner = sign[0] if isinstance(sign, list) else sign
            if isinstance(inner, dict) and isinstance(sign, list) == isinstance(row, list):
                lacking = [name for name, part in inner.items() if name not in entry or not fits(part, entry[name])]
                share = 1 - len(lacking) / len(inner)
                if share and (best is None or share > best[0]):
                    best = (share, format.name, lacking)
    if best is None:
        return looks
    return f"{looks}; nearest is {best[1]}, which has another {', '.join(best[2])}"
