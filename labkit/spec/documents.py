"""JSON from elsewhere, parsed with bounds: what Python would take although no two readers agree on it is refused.

A name that stands twice, NaN and Infinity, numbers beyond every float, thousands of digits, nesting that exhausts the
stack, and halves of surrogate pairs, which cannot be printed.
"""

import json
import math
import pathlib

BYTES = 64 * 2**20  # of one document; the index of the largest checkpoint takes a fourth of it
DEPTH = 32
DIGITS = 40  # tokenizer_config.json writes "no limit" as int(1e30)


def read(path: pathlib.Path, limit: int = BYTES):
    """The content of a JSON file.

    Raises:
        OSError: cannot be read. ValueError: too large, no JSON, or beyond the bounds; says which.
    """
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{size:,} bytes, more than {limit:,}")
    return parse(path.read_bytes())


def parse(text: bytes | str):
    """The content of a JSON text.

    Raises:
        ValueError: no JSON, or beyond the bounds; says which.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    hooks = dict(parse_constant=_constant, parse_int=_whole, parse_float=_fraction, object_pairs_hook=_object)
    try:
        content = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH}") from None
    _check(content)
    return content


def shown(value, limit: int = 80) -> str:
    """The repr of a value from a file, short enough for a message."""
    if isinstance(value, list | dict) and len(value) > limit:
        return f"a {type(value).__name__} of {len(value):,}"
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _constant(name):
    raise ValueError(f"{name} is no number of JSON")


def _whole(digits):
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _fraction(text):
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:DIGITS]} is beyond every float")
    return value


def _object(pairs):
    made = dict(pairs)
    if len(made) < len(pairs):
        seen = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{shown(twice)} stands twice")
    return made


def _check(content):
    """Depth and text, level by level: a stack of its own, since the document may be deeper than Python's."""
    level = [content]
    for _ in range(DEPTH):
        inside = []
        for value in level:
            if isinstance(value, str):
                _text(value)
            elif isinstance(value, dict):
                inside += value
                inside += value.values()
            elif isinstance(value, list):
                inside += value
        level = inside
        if not level:
            return
    raise ValueError(f"nested deeper than {DEPTH}")


def _text(value):
    if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise ValueError(f"half of a surrogate pair in {shown(value)}")
