"""JSON from elsewhere within bounds: what Python's `json` lets through and JSON does not have is refused.

A name twice in one object, NaN and Infinity, numbers beyond every float, thousands of digits. How deep a value may be
nested is for the caller to say (`deep`), since Python's parser itself stops at the depth of the stack alone.
"""

import json
import math
import sys

SHOWN = 40  # signs of a name or number in a message


def decoder(digits: int, error: type[Exception]) -> json.JSONDecoder:
    """A decoder whose `decode` raises `error`, with the reason, for what is beyond the bounds.

    Args:
        digits: the longest number. error: called with a text.
    """

    def mapping(pairs):
        made = {sys.intern(name): value for name, value in pairs}
        if len(made) < len(pairs):
            seen = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))
            raise error(f"the key {twice[:SHOWN]!r} stands twice in one object")
        return made

    def whole(text):
        if len(text) > digits:
            raise error(f"a number of {len(text):,} digits")
        return int(text)

    def fraction(text):
        if len(text) > 10 * digits or not math.isfinite(value := float(text)):
            raise error(f"the number {text[:SHOWN]}, which is out of range")
        return value

    def constant(name):
        raise error(f"{name}, which JSON does not have")

    hooks = dict(object_pairs_hook=mapping, parse_int=whole, parse_float=fraction, parse_constant=constant)
    return json.JSONDecoder(**hooks)


def deep(value: object, depth: int) -> bool:
    """Whether lists and mappings are nested deeper than so many levels; level by level, with no stack of its own."""
    level = [value]
    for _ in range(depth):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [one for items in inner for one in items if type(one) in (dict, list)]
        if not level:
            return False
    return True
