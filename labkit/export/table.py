"""A dataset as CSV, tidy: a row for every point, a column for every axis, coordinate and variable, units in the header.

Variables on other axes than the first have rows of their own, in which the other columns are empty; nothing is
repeated. A spreadsheet computes cells that begin with `=`, `+`, `-`, `@`, a tab or a return: before a text that begins
so, or with an apostrophe, stands one apostrophe more, and a program that takes one from every text has the texts again.
Signs that CSV cannot hold (NUL, halves of surrogate pairs) are spelt out. Numbers are as short as they can be without
another number being meant; not-a-number is empty.
"""

import csv
import pathlib
from collections.abc import Iterator

import numpy as np
import xarray

from labkit import folders
from labkit.arguments import file_path
from labkit.errors import InputError
from labkit.export.given import dataset

FIRST = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # wide ones, too
MOST = 20_000_000  # points


def to_csv(ds: xarray.Dataset, path: str | pathlib.Path) -> pathlib.Path:
    """Write a dataset, or what a figure of labkit shows, as CSV in UTF-8; a kill leaves what was there before.

    Args:
        ds: the dataset, or a figure, whose `numbers` are written. An axis without coordinate counts from 0.
        path: the file; its folder is made.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        InputError: no dataset, no variable, or more than 20 million points.
        CheckpointError: the file cannot be written.
    """
    ds, path = dataset(ds, "to_csv"), file_path(path, "export.to_csv", "export.to_csv(ds, 'memory.csv')")
    points = sum(array.size for array in ds.data_vars.values())
    if not ds.data_vars or points > MOST:
        got = f"{points:,} points" if ds.data_vars else "no variable"
        raise InputError(
            "what CSV can hold", got=got, expected=f"1 to {MOST:,} points", hint="export.to_netcdf(ds, path)"
        )
    with folders.told("the numbers cannot be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with folders.whole(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows(ds))
    return path


def rows(ds: xarray.Dataset) -> Iterator[list[str]]:
    """The header, then a row of cells for every point."""
    axes = list(dict.fromkeys(dim for array in ds.data_vars.values() for dim in array.dims))
    beside = [name for name in ds.coords if name not in axes]
    values = list(ds.data_vars)
    yield [_head(ds, name) for name in (*axes, *beside, *values)]
    groups = {}
    for name in values:
        groups.setdefault(frozenset(ds[name].dims), []).append(name)
    for names in groups.values():
        yield from _points(ds, names, axes, beside, values)


def _head(ds, name):
    units = ds[name].attrs.get("units") if name in ds.variables else None
    return _text(f"{name} [{units}]" if units and units != "1" else str(name))


def _points(ds, names, axes, beside, values):
    """Rows of the variables that have the same axes, in the order of the first."""
    dims = ds[names[0]].dims
    shape = tuple(ds.sizes[dim] for dim in dims)
    columns = []
    for dim in axes:
        at = ds[dim].values if dim in ds.coords else np.arange(ds.sizes[dim])
        columns.append(_column(at, (dim,), dims, shape) if dim in dims else None)
    for name in beside:
        array = ds[name]
        columns.append(_column(array.values, array.dims, dims, shape) if set(array.dims) <= set(dims) else None)
    columns += [
        _column(ds[name].transpose(*dims).values, dims, dims, shape) if name in names else None for name in values
    ]
    count = int(np.prod(shape, dtype=int))
    for at in range(count):
        yield ["" if column is None else column(at) for column in columns]


def _column(values, own, dims, shape):
    """A function that gives the cell of a point, whose number counts the last axis fastest."""
    values, at = np.asarray(values), [dims.index(dim) for dim in own]
    cells = [_cell(each) for each in values.ravel()]
    places = np.arange(values.size).reshape(values.shape)
    order = sorted(range(len(at)), key=lambda n: at[n])
    places = places.transpose(order) if order else places
    full = tuple(shape[n] if n in at else 1 for n in range(len(dims)))
    flat = np.broadcast_to(places.reshape(full), shape).ravel()
    return lambda point: cells[flat[point]]


def _cell(value):
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating):
        return "" if value != value else str(value)
    return str(value) if isinstance(value, int | np.integer) else _text(str(value))


def _text(value):
    value = "".join(c if c != "\0" and not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}" for c in str(value))
    return f"'{value}" if value.startswith(FIRST) else value
