"""Numbers that a user gives: each is checked once, where it comes in, and is a plain int or float below.

Numbers of numpy and torch count as what they hold. Truth values, texts, NaN and infinity are no numbers.
"""

import numbers
import operator
import sys
from collections.abc import Container, Mapping

from labkit.errors import InputError

WIDEST = 2**63 - 1  # what a tensor of whole numbers can hold
LONGEST = 2**24  # positions that float32 tells apart; no selection names more


def is_whole(value: object) -> bool:
    """Whether this is one whole number; a truth value, a fraction and an array of one entry are not."""
    if type(value) is int:
        return True
    if isinstance(value, bool) or getattr(value, "ndim", 0) or str(getattr(value, "dtype", "")).endswith("bool"):
        return False
    try:
        operator.index(value)
    except Exception:  # also what a foreign type raises
        return False
    return True


def whole(value: int, name: str, *, least: int | None = None, most: int | None = WIDEST) -> int:
    """A whole number as an int.

    Raises:
        InputError: anything else, or one outside of `least` to `most`.
    """
    if not is_whole(value):
        raise InputError(f"{name} is a whole number", got=_shown(name, value), expected=_range(least, most))
    value = operator.index(value)
    if (least is not None and value < least) or (most is not None and value > most):
        raise InputError(f"{name} out of range", got=_shown(name, value), expected=_range(least, most))
    return value


def number(
    value: float,
    name: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number as a float.

    Raises:
        InputError: anything else, or one outside of its bounds; `above` and `below` are not met themselves.
    """
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    real = isinstance(plain, numbers.Real) and not isinstance(plain, bool)
    if not real or not abs(plain) <= sys.float_info.max:
        expected = _range(least, most, above, below)
        raise InputError(f"{name} is a finite number", got=_shown(name, value), expected=expected)
    low = (least is None or plain >= least) and (above is None or plain > above)
    if not low or (most is not None and plain > most) or (below is not None and plain >= below):
        raise InputError(f"{name} out of range", got=_shown(name, value), expected=_range(least, most, above, below))
    return float(plain)


def wholes(given: Mapping, least: Mapping[str, int], optional: Container[str] = ()) -> dict:
    """Named arguments, those that `least` names as whole numbers of at least so much; an `optional` one may be None.

    Raises:
        InputError: as `whole`.
    """
    asked = {name for name in given if name in least and not (given[name] is None and name in optional)}
    return {name: whole(value, name, least=least[name]) if name in asked else value for name, value in given.items()}


def _shown(name, value):
    text = repr(value)
    return f"{name}={text if len(text) <= 80 else f'... of type {type(value).__name__}'}"


def _range(least, most, above=None, below=None):
    low = f"above {above}" if above is not None else None if least is None else f"{least} or more"
    high = f"below {below}" if below is not None else None if most in (None, WIDEST) else f"at most {most}"
    if least is not None and high is not None and below is None:
        return f"{least} to {most}"
    return ", ".join(filter(None, (low, high))) or "a number"
