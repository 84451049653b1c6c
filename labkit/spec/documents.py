"""JSON files of a checkpoint, parsed within bounds (`labkit.bounded`), of a size that one may have.

Halves of surrogate pairs, which cannot be printed, are refused too.
"""

import pathlib
import re

from labkit.bounded import decoder, deep

BYTES = 64 * 2**20  # of one document; the index of the largest checkpoint takes a fourth of it
DEPTH = 32
DIGITS = 40  # tokenizer_config.json writes "no limit" as int(1e30)
DECODER = decoder(DIGITS, ValueError)
HALF, ESCAPED = re.compile("[\ud800-\udfff]"), re.compile(r"\\u[dD][89a-fA-F]")


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
    try:
        content = DECODER.decode(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH}") from None
    if type(content) in (dict, list) and deep(content, DEPTH):
        raise ValueError(f"nested deeper than {DEPTH}")
    if HALF.search(text) or ESCAPED.search(text):
        _check(content)
    return content


def shown(value, limit: int = 80) -> str:
    """The repr of a value from a file, short enough for a message."""
    if isinstance(value, list | dict) and len(value) > limit:
        return f"a {type(value).__name__} of {len(value):,}"
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _check(content):
    """Refuse halves of surrogate pairs anywhere in it."""
    stack = [content]
    while stack:
        value = stack.pop()
        if isinstance(value, str) and HALF.search(value):
            raise ValueError(f"half of a surrogate pair in {shown(value)}")
        if isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, list):
            stack += value
