"""Golden data: the numbers of a figure as readable JSON, and a comparison that says where they moved.

Floating point is kept as float32 in its shortest exact form, one row of the last axis per line, so that a
change is a readable difference. Not-a-number is null.
"""

import dataclasses
import json
import pathlib

from labkit import folders

RTOL, ATOL = 1e-4, 1e-6
SHOWN = 5


def text(dataset):
    """An `xarray.Dataset` (numbers, truth values and text; no infinity) as golden data.

    Raises:
        ValueError: a value that JSON cannot hold.
    """
    parts = []
    for name, array in dataset.variables.items():
        head = {"coord": name in dataset.coords, "dims": list(array.dims), "attrs": _plain(array.attrs)}
        values = _storable(array.values)
        head |= {
            "dtype": "str" if values.dtype.kind in "UO" else values.dtype.name,
            "shape": list(values.shape),
        }
        rows = values.reshape(-1, values.shape[-1]) if values.ndim and values.size else values.reshape(1, -1)
        lines = ",\n".join(_dump([_number(value) for value in row]) for row in rows)
        parts.append(f'{_dump(name)}: {_dump(head)[:-1]}, "rows": [\n{lines}\n]}}')
    body = ",\n".join(parts)
    return f'{{"attrs": {_dump(_plain(dataset.attrs))},\n"variables": {{\n{body}\n}}}}\n'


def write(path, dataset):
    """Store a dataset as golden data; a kill leaves what was recorded before.

    Raises:
        ValueError: a value that JSON cannot hold.
        CheckpointError: the file cannot be written.
    """
    path, words = pathlib.Path(path), text(dataset)
    with folders.told("golden data could not be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.write_text(path, words)


def read(path):
    """The `xarray.Dataset` that `write` stored."""
    return parse(pathlib.Path(path).read_text(encoding="utf-8"))


def parse(words):
    """The `xarray.Dataset` that `text` gave."""
    import numpy
    import xarray

    stored = json.loads(words)
    data, coords = {}, {}
    for name, part in stored["variables"].items():
        flat = [value for row in part["rows"] for value in row]
        array = numpy.array(flat, dtype=part["dtype"]).reshape(part["shape"])
        (coords if part["coord"] else data)[name] = (part["dims"], array, part["attrs"])
    return xarray.Dataset(data, coords=coords, attrs=stored["attrs"])


@dataclasses.dataclass(frozen=True)
class Change:
    """How far new data is from golden data.

    absolute: largest difference. relative: the same over the variable's largest golden value. share: largest
    difference over what its tolerance allows there (above 1 is a failure). failures: readable lines.
    """

    absolute: float
    relative: float
    share: float
    failures: tuple

    def __str__(self):
        verdict = "CHANGED" if self.failures else "ok"
        moved = f"largest change {self.absolute:.1e}, relative {self.relative:.1e}"
        return f"{moved}, {self.share:.1%} of tolerance   {verdict}"


def compare(golden, new, tolerance=None):
    """Compare two datasets: text, truth values and whole numbers exactly, other numbers by tolerance.

    Names, axes, sizes and units must agree, and so must the text and whole numbers among the dataset's
    attributes (a measured one, such as the parity error, may differ).

    Args:
        golden: `xarray.Dataset` as `read` gives it.
        new: `xarray.Dataset` computed now.
        tolerance: `{variable: {"rtol": ..., "atol": ...}}`; defaults 1e-4 and 1e-6.

    Returns:
        A `Change`.
    """
    failures, absolute, relative, share = [], 0.0, 0.0, 0.0
    for key in sorted(golden.attrs.keys() | new.attrs.keys()):
        before, now = (_plain(dataset.attrs).get(key) for dataset in (golden, new))
        if before != now and not (isinstance(before, float) and isinstance(now, float)):
            failures.append(f"attribute {key}: golden {before!r}, now {now!r}")
    for name in sorted(golden.variables.keys() | new.variables.keys()):
        if name not in golden.variables or name not in new.variables:
            failures.append(f"{name}: only in the {'new' if name in new.variables else 'golden'} data")
            continue
        before, now = golden.variables[name], new.variables[name]
        shapes = [dict(zip(array.dims, array.shape, strict=True)) for array in (before, now)]
        if shapes[0] != shapes[1] or before.dims != now.dims:
            failures.append(f"{name}: golden axes {shapes[0]}, now {shapes[1]}")
            continue
        units = [array.attrs.get("units") for array in (before, now)]
        if units[0] != units[1]:
            failures.append(f"{name}: golden unit {units[0]!r}, now {units[1]!r}")
        lines, moved = _moved(name, before, now, (tolerance or {}).get(name, {}))
        failures += lines
        absolute, relative, share = map(max, (absolute, relative, share), moved)
    return Change(absolute, relative, share, tuple(failures))


def _moved(name, before, now, tolerance):
    """Failure lines of one variable and its (absolute, relative, share) change."""
    import numpy

    axes, before, now = before.dims, _storable(before.values), _storable(now.values)
    if before.dtype.kind != now.dtype.kind:
        return [f"{name}: golden type {before.dtype}, now {now.dtype}"], (0.0, 0.0, 0.0)
    if before.dtype.kind != "f":
        bad, moved, rule = before != now, (0.0, 0.0, 0.0), "exactly equal"
    else:
        rtol, atol = tolerance.get("rtol", RTOL), tolerance.get("atol", ATOL)
        same = (before == now) | (numpy.isnan(before) & numpy.isnan(now))
        gap = numpy.where(same, 0.0, numpy.abs(now.astype(float) - before))
        gap = numpy.where(numpy.isnan(gap), numpy.inf, gap)
        room = atol + rtol * numpy.abs(numpy.nan_to_num(before.astype(float)))
        bad, rule = gap > room, f"within rtol {rtol:.0e}, atol {atol:.0e}"
        largest, top = float(numpy.max(gap, initial=0)), float(numpy.nanmax(numpy.abs(before), initial=0))
        moved = (largest, largest / (top or 1.0), float(numpy.max(gap / room, initial=0)))
    lines = [f"{name}: {int(bad.sum())} of {bad.size} values not {rule}"] if bad.any() else []
    for place in numpy.argwhere(bad)[:SHOWN]:
        index = ", ".join(f"{axis} {step}" for axis, step in zip(axes, place, strict=True))
        lines.append(f"  [{index}] golden {before[tuple(place)]}, now {now[tuple(place)]}")
    return lines, moved


def _storable(array):
    """Floating point as float32, everything else as it is."""
    return array.astype("float32") if array.dtype.kind == "f" else array


def _number(value):
    if hasattr(value, "dtype") and value.dtype.kind == "f":
        return None if value != value else float(str(value))
    return value.item() if hasattr(value, "item") else value


def _plain(attrs):
    """Attributes as JSON knows them: numpy scalars become Python's, tuples and arrays become lists."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in attrs.items()}


def _dump(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
