"""The checkpoints of a stream as its book lists them: typed, in order, and which of them keep their states."""

import dataclasses
import pathlib
import re

from labkit.errors import CheckpointError

ROWS = re.compile(r"\d{1,4}/.+")


@dataclasses.dataclass(frozen=True)
class Point:
    """One checkpoint: tokens `done`, the digests of its piece and of its states, and how many rows every probe had so
    far, by "probe/name"; where states are kept no longer, None and no rows.
    """

    done: int
    piece: str
    states: str | None
    rows: dict


def kept(n: int) -> set[int]:
    """Of which of n checkpoints, counted from 1, states are kept: the last four multiples of every power of 2.

    About 2 log2 n; where the last k are lost, one is left less than 2k from the end; and none is needed again that was
    dropped before.
    """
    return {m for bits in range(n.bit_length()) for back in range(4) if (m := (n >> bits) - back << bits) > 0}


def names(done: int) -> tuple[str, str]:
    """Files of a checkpoint: its piece and its states."""
    return f"kv-{done:09d}.safetensors", f"states-{done:09d}.safetensors"


def read(listed: object, path: pathlib.Path, *, tokens: int, chunk: int, probes: int) -> tuple[Point, ...]:
    """The typed checkpoints of a book.

    Raises:
        CheckpointError: not checkpoints, in order, of a stream of so many tokens and probes.
    """
    points, done = [], 0
    for entry in listed if isinstance(listed, list) and listed else [None]:
        point = _point(entry, probes)
        if point is None or not done < point.done <= tokens or (point.done % chunk and point.done < tokens):
            got = f"{path}: entry {len(points) + 1} of `points`"
            raise CheckpointError("a file of this folder contradicts itself", got=got)
        points.append(point)
        done = point.done
    return tuple(points)


def _point(entry, probes):
    """A `Point` of what JSON holds; None where it is none."""
    if not isinstance(entry, dict) or set(entry) != {field.name for field in dataclasses.fields(Point)}:
        return None
    rows = entry["rows"].items() if isinstance(entry["rows"], dict) else [("", None)]
    good = type(entry["done"]) is int and isinstance(entry["piece"], str) and isinstance(entry["states"], str | None)
    good = good and all(type(count) is int and ROWS.fullmatch(name) for name, count in rows)
    return Point(**entry) if good and all(int(name.split("/")[0]) < probes for name, _ in rows) else None


def fit(path: pathlib.Path, tensors: dict, shapes: dict) -> None:
    """Refuse tensors of other names or shapes than these: lengths that do not add up.

    Raises:
        CheckpointError: names the first.
    """
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if found != shapes:
        name = min(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        got, expected = (str(list(part[name])) if name in part else "none" for part in (found, shapes))
        raise CheckpointError(
            "a file of this folder contradicts its book", got=f"{path}: {name} {got}", expected=f"{name} {expected}"
        )
