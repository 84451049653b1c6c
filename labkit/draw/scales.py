"""Where things stand along an axis: one place each, or at their values where those are magnitudes in uneven steps.

Heads 0, 1 and 4 are names, three places beside each other. Gaps of 16, 96 and 496 tokens are magnitudes: drawn at equal
distances they would bend every curve. Magnitudes that are positive, span more than a factor of 16 and grow by factors
rather than by steps stand on a logarithmic axis, which says so.
"""

import numpy as np
import xarray

from labkit.errors import InputError
from labkit.notation import NUMBERED

FACTOR = 16  # of the largest over the smallest, above which an axis may be logarithmic
TOKENS = ("token", "source")  # names of rows and columns in maps, positions along a line


def values(array: xarray.DataArray, dim: str) -> np.ndarray:
    """What stands along a dim: its coordinate, or positions."""
    return array[dim].values if dim in array.coords else np.arange(array.sizes[dim])


def scale(array: xarray.DataArray, dim: str, *, cells: bool = False) -> str | None:
    """None if every entry has one place of its own; "linear" or "log" if it stands at its value.

    `cells` is for the axes of maps, where tokens have one place each.
    """
    where = values(array, dim)
    if dim in NUMBERED or (cells and dim in TOKENS) or where.dtype.kind not in "iuf" or len(where) < 3:
        return None
    steps = np.diff(where.astype(float))
    if not np.isfinite(steps).all() or not ((steps > 0).all() or (steps < 0).all()) or _uneven(where) < 1 + 1e-4:
        return None
    wide = where.min() > 0 and where.max() > FACTOR * where.min()
    return "log" if wide and _uneven(np.log(where)) < _uneven(where) else "linear"


def places(array: xarray.DataArray, dim: str, *, cells: bool = False) -> np.ndarray:
    """Where the entries along a dim stand on their axis, in the axis' own unit."""
    return np.arange(array.sizes[dim]) if scale(array, dim, cells=cells) is None else values(array, dim)


def place(array: xarray.DataArray, dim: str, value: float) -> float:
    """Where a value stands on an axis, also beyond its ends: 5.5 between the tokens 5 and 6.

    Raises:
        InputError: 0 or less on a logarithmic axis, which has no place for it.
    """
    where, known = places(array, dim).astype(float), values(array, dim)
    if scale(array, dim) == "log" and not value > 0:
        raise InputError("a logarithmic axis has no such place", got=f"{dim} {value:g}", expected="above 0")
    if known.dtype.kind not in "iuf" or scale(array, dim) is not None:
        return float(value)
    if len(known) < 2:
        return float(value - known[0])
    order = np.argsort(known, kind="stable")
    first, last = known[order[0]], known[order[-1]]
    inside = float(np.interp(value, known[order], where[order]))
    step = (where[order[-1]] - where[order[0]]) / (last - first)
    return inside + float(min(value - first, 0) + max(value - last, 0)) * float(step)


def thinned(where: np.ndarray, room: int, kind: str | None) -> list[int]:
    """At most `room` of the entries, none closer to the one before than that leaves room for."""
    if kind is None:
        return list(range(0, len(where), max(1, -(-len(where) // room))))
    along = np.log(where) if kind == "log" else where.astype(float)
    least, chosen = abs(along[-1] - along[0]) / room, [0]
    for i in range(1, len(along)):
        if abs(along[i] - along[chosen[-1]]) >= least:
            chosen.append(i)
    return chosen


def beside(where: np.ndarray, kind: str | None) -> np.ndarray:
    """How far from each place a hair beside it stands: the same distance on the screen everywhere."""
    if kind == "log":
        return where * (3e-4 * abs(np.log(where[-1] / where[0])))
    return np.full(len(where), round(float(abs(where[-1] - where[0]) + 1) * 3e-4, 6))


def widths(where: np.ndarray, kind: str | None, share: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """(left, right) ends of bars that stand at these places and do not meet."""
    along = np.log(where) if kind == "log" else where.astype(float)
    half = share / 2 * (float(abs(np.diff(along)).min()) if len(along) > 1 else 1.0)
    ends = along - half, along + half
    return tuple(map(np.exp, ends)) if kind == "log" else ends


def number(value: object) -> str:
    """A coordinate as text: whole numbers whole, others to six digits."""
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"
    return str(value)


def _uneven(where):
    """The largest step over the smallest, at least 1."""
    steps = abs(np.diff(where.astype(float)))
    return float(steps.max() / steps.min())
