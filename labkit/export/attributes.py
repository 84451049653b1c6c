"""Attributes as JSON, and back with their types: what JSON has no word for is an object with one key that says it."""

import math

import numpy as np

from labkit.errors import InputError

DEEPEST = 32


def coded(value: object, name: str, deep: int = 0) -> object:
    """A value of plain JSON: None, truth values, whole numbers, texts and lists stand for themselves.

    Args:
        value: also floats, bytes, tuples, dicts, numpy's scalars and arrays, of each other.
        name: of the value, for the message.

    Raises:
        InputError: a value of another type, or more than 32 of them in each other.
    """
    if deep > DEEPEST:
        raise InputError(f"{name}: too deep for a file", expected=f"at most {DEEPEST} in each other")
    inner = lambda part: coded(part, name, deep + 1)  # noqa: E731
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is str:  # halves of surrogate pairs are no UTF-8
        return value if value.isascii() or value.encode("utf-8", "replace").decode() == value else {"text": _cut(value)}
    if type(value) is float:
        return {"float": repr(value)} if not math.isfinite(value) else value
    if type(value) is list:
        return [inner(part) for part in value]
    if type(value) is tuple:
        return {"tuple": [inner(part) for part in value]}
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if type(value) is dict:
        return {"dict": [[inner(key), inner(part)] for key, part in value.items()]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        return {"array": [value.dtype.str, None if isinstance(value, np.generic) else list(value.shape), _flat(value)]}
    if isinstance(value, str | int | float):  # a subclass, a member of an enumeration: what it holds
        return inner(str(value) if isinstance(value, str) else int(value) if isinstance(value, int) else float(value))
    raise InputError(f"{name}: no value of a file", got=type(value).__name__, expected="None, numbers, texts, or lists")


def decoded(value: object) -> object:
    """What `coded` was given. Raises ValueError or TypeError where it is not of `coded`."""
    if isinstance(value, list):
        return [decoded(part) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "float":
        return float(inner)
    if kind == "text":
        return "".join(map(chr, inner))
    if kind == "tuple":
        return tuple(decoded(part) for part in inner)
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "dict":
        return {decoded(key): decoded(part) for key, part in inner}
    if kind == "array":
        dtype, shape, flat = inner
        made = np.array(decoded(flat), dtype=np.dtype(dtype))
        return made[0] if shape is None else made.reshape(shape)
    raise ValueError(f"no such kind: {kind!r}")


def _cut(text):
    return [ord(sign) for sign in text]


def _flat(value):
    return [coded(part.item(), "an array") for part in np.asarray(value).ravel()]
