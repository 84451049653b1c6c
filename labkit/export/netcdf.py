"""A dataset as netCDF 3, which opens again as it was.

netCDF 3 knows no truth values, no large whole numbers, no empty axes, and of texts only bytes; attributes are numbers
or texts. What it lacks stands in the file's attribute `labkit`, JSON that says for every variable and attribute what
it was, with a digest of every array. Other programs read the arrays, their units and names without it.
"""

import hashlib
import json
import pathlib
import re

import numpy as np
import xarray

from labkit import folders
from labkit.arguments import file_path
from labkit.errors import CheckpointError, InputError, one_line
from labkit.export.attributes import coded, decoded
from labkit.export.given import dataset

FORM = 1
BOOK = "labkit"
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.@+-]*")  # names that every reader of netCDF takes
EXACT = 2**53  # whole numbers that float64 tells apart
WRONG = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


def to_netcdf(ds: xarray.Dataset, path: str | pathlib.Path) -> pathlib.Path:
    """Write a dataset, or what a figure of labkit shows, as netCDF 3; a kill leaves what was there before.

    Args:
        ds: numbers, truth values and texts on any axes, empty ones too; attributes of None, truth values, numbers,
            texts, bytes, arrays, and lists, tuples and dicts of these. Or a figure, whose `numbers` are written.
        path: the file; its folder is made.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        InputError: no dataset, or a variable or attribute that no file can hold, with its name.
        CheckpointError: the file cannot be written.
    """
    ds, path = dataset(ds, "to_netcdf"), file_path(path, "export.to_netcdf", "export.to_netcdf(ds, 'memory.nc')")
    stored, book = {}, {}
    dims = {dim: str(dim) if PLAIN.fullmatch(str(dim)) else f"dim_{n}" for n, dim in enumerate(ds.sizes)}
    for n, (name, variable) in enumerate(ds.variables.items()):
        if not isinstance(name, str):
            raise InputError("variables of a file have names", got=repr(name), expected="a text")
        kind, values = _packed(name, variable)
        facts = {"name": name, "coord": name in ds.coords, "dims": list(variable.dims), "shape": list(variable.shape)}
        facts |= {"kind": kind, "dtype": variable.dtype.str if variable.dtype.kind not in "OT" else "O"}
        facts |= {"attrs": coded(dict(variable.attrs), f"attributes of {name}")}
        place = name if PLAIN.fullmatch(name) and name not in book else f"variable_{n}"
        if values is not None:
            facts["sha256"] = _digest(values)
            attrs = _shown(variable.attrs) | ({"_Encoding": "utf-8"} if kind == "text" else {})
            stored[place] = xarray.Variable([dims[dim] for dim in variable.dims], values, attrs, {"_FillValue": None})
        book[place] = facts
    head = {"format": FORM, "variables": book, "attrs": coded(dict(ds.attrs), "attributes")}
    attrs = _shown(ds.attrs) | {BOOK: folders.signed(head)}
    whole = xarray.Dataset(stored, attrs=attrs).set_coords([place for place in stored if book[place]["coord"]])
    with folders.told("the numbers cannot be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with folders.whole(path) as draft:
            whole.to_netcdf(draft, engine="scipy", format="NETCDF3_64BIT")
    return path


def open_netcdf(path: str | pathlib.Path) -> xarray.Dataset:
    """The dataset that `to_netcdf` wrote: equal in values, types, axes, coordinates and attributes.

    Raises:
        CheckpointError: the file is missing, damaged, or of another program.
        InputError: of a later version of labkit.
    """
    path = file_path(path, "export.open_netcdf", "export.open_netcdf('memory.nc')")
    with folders.told("the numbers cannot be read", path):
        path.open("rb").close()
    try:
        with xarray.open_dataset(path, engine="scipy", decode_cf=False) as opened:
            raw = opened.load()
    except Exception as error:  # what scipy says of bytes that are no netCDF is of any kind
        got = f"{path}: {one_line(error)}"
        raise CheckpointError("the numbers cannot be read", got=got, expected="netCDF 3 of labkit") from None
    book = folders.parsed(raw.attrs.get(BOOK, "").encode()) if isinstance(raw.attrs.get(BOOK), str) else None
    if not isinstance(book, dict):
        hint = "xarray can open files of other programs"
        raise CheckpointError("this file is not of labkit", got=str(path), expected=f"an attribute {BOOK}", hint=hint)
    if book.pop("sha256", None) != folders.mark(book):
        raise CheckpointError("these numbers are damaged", got=f"{path}: other words than were written")
    if book.get("format") != FORM:
        raise InputError("unknown format of numbers", got=book.get("format"), expected=FORM, hint="a newer labkit")
    try:
        data = {}
        for place, facts in book["variables"].items():
            attrs = decoded(facts["attrs"])
            data[facts["name"]] = xarray.Variable(facts["dims"], _unpacked(path, raw, place, facts), attrs)
        coords = [facts["name"] for facts in book["variables"].values() if facts["coord"]]
        return xarray.Dataset(data, attrs=decoded(book["attrs"])).set_coords(coords)
    except WRONG as error:
        raise CheckpointError("these numbers are damaged", got=f"{path}: {one_line(error)}") from None


# --------------------------------------------------------------------------------------------------- values in netCDF


def _packed(name, variable):
    """(kind, array of a type that netCDF 3 knows); the array is None where nothing is in it."""
    values = np.asarray(variable.values)
    kind = values.dtype.kind
    if kind not in "biufUOT":
        raise InputError("a file holds numbers, truth values and texts", got=f"{name} of type {values.dtype}")
    texts = kind in "UOT"
    if texts and (wrong := next((each for each in values.ravel() if not isinstance(each, str)), None)) is not None:
        got = f"{name} with a {type(wrong).__name__}"
        raise InputError("a file holds numbers, truth values and texts", got=got, expected="texts alone, or numbers")
    if not values.size:
        return "empty", None
    if texts:
        return _bytes(values)
    if kind == "b":
        return "number", values.astype(np.int8)
    if kind == "f":
        if values.dtype.itemsize > 8:
            raise InputError("a number is wider than a file can hold", got=f"{name} of type {values.dtype}")
        return "number", values.astype(np.float32) if values.dtype.itemsize < 4 else values
    low, high = int(values.min()), int(values.max())
    if low >= -(2**31) and high < 2**31:
        return "number", values.astype(np.int32)
    if low >= -EXACT and high <= EXACT:
        return "number", values.astype(np.float64)
    return "json", _bytes(np.vectorize(str, otypes=[object])(values))[1]


def _bytes(values):
    """Texts as bytes of one length: UTF-8, or JSON where a text has what bytes of a file lose."""
    plain = [str(each) for each in values.ravel()]
    whole = all("\0" not in each and each.encode("utf-8", "replace").decode() == each for each in plain)
    coded = [each.encode() if whole else json.dumps(each).encode() for each in plain]
    return "text" if whole else "json", np.array(coded, f"S{max(1, *map(len, coded), 1)}").reshape(values.shape)


def _unpacked(path, raw, place, facts):
    """An array as it was."""
    dtype, shape = np.dtype(facts["dtype"]), tuple(facts["shape"])
    if facts["kind"] == "empty":
        return np.zeros(shape, dtype)
    values = raw[place].values
    if facts["kind"] != "number":
        width = values.shape[-1]
        values = np.ascontiguousarray(values).view(f"S{width}").reshape(shape)
    if values.shape != shape or _digest(values) != facts["sha256"]:
        raise CheckpointError("these numbers are damaged", got=f"{path}: other bytes of {facts['name']!r}")
    if facts["kind"] == "number":
        return values.astype(dtype)
    texts = [each.decode() if facts["kind"] == "text" else json.loads(each) for each in values.ravel()]
    made = np.array([int(each) for each in texts] if dtype.kind in "iu" else texts, dtype=dtype)
    return made.reshape(shape)


def _digest(values):
    """SHA-256 of an array's bytes in the order of netCDF."""
    return hashlib.sha256(np.ascontiguousarray(values, values.dtype.newbyteorder(">")).tobytes()).hexdigest()


def _shown(attrs):
    """Attributes for other readers: numbers and texts as they are, the rest as JSON."""
    found = {}
    for name, value in attrs.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < EXACT
        text = value if isinstance(value, str) else json.dumps(coded(value, name), ensure_ascii=False)
        if PLAIN.fullmatch(str(name)) and name not in (BOOK, "coordinates", "_FillValue", "_Encoding", "dtype"):
            found[name] = float(value) if plain else text.encode("utf-8", "replace").decode().replace("\0", "")
    return {name: value for name, value in found.items() if value != ""}
