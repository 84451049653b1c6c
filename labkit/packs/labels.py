"""Labelled data as a record of a book and back: names, axes, arrays, quantities, facts.

A record from elsewhere makes a Dataset only if xarray and `labkit.draw` can take it: names are identifiers, every axis
has one length, a coordinate of an axis lies along it, and what an attribute says is of its type.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from labkit.errors import InputError
from labkit.notation import Quantity
from labkit.packs import codec
from labkit.packs.codec import Blobs, Stored
from labkit.trace import fields

SAID = {field.name for field in dataclasses.fields(Quantity)}
SCALES = ("fraction", "signed", "positive")
ERROR = "stored_error"  # attribute of a variable that was rounded
SAFE = ("bin_text",)  # texts along an axis that say nothing of the prompt
BLANK = "·"
PLAIN = (str, bool, int, float, type(None))
ENTRIES = 2**16  # of a list among the facts


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable or coordinate: its axes, how its array is stored, and what it says of itself."""

    dims: tuple[str, ...]
    stored: Stored
    attrs: dict


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A Dataset before its arrays are read."""

    variables: dict[str, Variable]
    coords: dict[str, Variable]
    attrs: dict

    @property
    def sizes(self) -> dict[str, int]:
        """Lengths of the axes."""
        parts = [*self.variables.values(), *self.coords.values()]
        return {axis: size for part in parts for axis, size in zip(part.dims, part.stored.shape, strict=True)}

    @property
    def outline(self) -> tuple:
        """What several layers must have in common to be stacked."""
        parts = {**self.variables, **self.coords}
        along = {name: part.stored for name, part in self.coords.items() if name in part.dims}
        return self.sizes, along, {name: (part.dims, part.stored.kind) for name, part in parts.items()}, set(self.attrs)

    def dataset(self, array: Callable) -> "xarray.Dataset":  # noqa: F821
        """The Dataset, its arrays copied out of `array(stored)`; a variable that was rounded says by how much."""
        import xarray

        def of(parts):
            rounded = {name: {ERROR: part.stored.error} if part.stored.error else {} for name, part in parts.items()}
            return {
                name: (part.dims, array(part.stored).copy(), part.attrs | rounded[name]) for name, part in parts.items()
            }

        return xarray.Dataset(of(self.variables), coords=of(self.coords), attrs=dict(self.attrs))


def record(data: "xarray.Dataset", blobs: Blobs, *, bits: int, texts: bool) -> dict:  # noqa: F821
    """A Dataset as plain objects, its arrays among `blobs`; coordinates are kept as they are.

    Args:
        bits: of the variables. texts: whether those of tokens are kept.

    Raises:
        InputError: an attribute or an array that a pack does not know.
    """
    made = {"variables": {}, "coords": {}, "attrs": _facts(data.attrs)}
    for group, parts, width in (("variables", data.data_vars, bits), ("coords", data.coords, 32)):
        for name, part in parts.items():
            values, attrs = part.values, {key: value for key, value in part.attrs.items() if key != ERROR}
            if not texts and values.dtype.kind in "UO" and str(name).endswith("_text") and name not in SAFE:
                values = np.full(values.shape, BLANK)
            stored = blobs.add(values, width, part.attrs.get(ERROR, 0.0))
            made[group][name] = [list(part.dims), stored.to_json(), _facts(attrs)]
    return made


def _facts(attrs):
    """Attributes as JSON holds them, numpy's numbers as Python's.

    Raises:
        InputError: something else than numbers, texts and lists of them.
    """
    plain = {}
    for name, value in attrs.items():
        listed = [each.item() if isinstance(each, np.generic) else each for each in _list(value)]
        if wrong := [each for each in listed if type(each) not in PLAIN]:
            raise InputError("an attribute that cannot be packed", got=f"{name}: {wrong[0]!r}"[:80])
        plain[name] = listed if isinstance(value, list | tuple | np.ndarray) else listed[0]
    return plain


def _list(value):
    return value if isinstance(value, list | tuple) else value.tolist() if isinstance(value, np.ndarray) else [value]


# ----------------------------------------------------------------------------------------------- records from elsewhere


def of_json(value: object) -> Labelled:
    """The `Labelled` of what `record` gave. Raises fields.Odd."""
    value = fields.record(value, ("variables", "coords", "attrs"))
    read = {group: _variables(value[group], group) for group in ("variables", "coords")}
    made = Labelled(**read, attrs=_attrs(value["attrs"]))
    sizes = made.sizes
    for name, part in (made.variables | made.coords).items():
        fields.require(tuple(sizes[axis] for axis in part.dims) == part.stored.shape, name)
        fields.require(name not in sizes or part.dims == (name,), name)
    fields.require(not set(made.variables) & (set(made.coords) | set(sizes)), "two parts of one name")
    return made


def _variables(value, group):
    fields.require(isinstance(value, dict), value)
    read = {}
    for name, part in value.items():
        fields.require(name.isidentifier() and isinstance(part, list) and len(part) == 3, name)
        dims, stored, attrs = fields.texts(part[0]), codec.of_json(part[1]), _attrs(part[2])
        fields.require(all(map(str.isidentifier, dims)) and len(set(dims)) == len(dims) == len(stored.shape), part[0])
        said = all(isinstance(text, str) for text in attrs.values())
        quantity = set(attrs) in (SAID, set()) and attrs.get("scale", SCALES[0]) in SCALES
        fields.require(said and (quantity or (group == "coords" and set(attrs) == {"long_name"})), attrs)
        read[name] = Variable(dims, stored, attrs)
    return read


def _attrs(value):
    fields.require(isinstance(value, dict) and all(map(str.isidentifier, value)), value)
    for name, each in value.items():
        listed = each if isinstance(each, list) else [each]
        fields.require(len(listed) <= ENTRIES and all(type(part) in PLAIN for part in listed), name)
        for part in listed:
            fields.require(type(part) is not int or abs(part) < 2**63, name)
            fields.require(not isinstance(part, str) or codec.speakable(part), name)
    return value


def check_reading(made: Labelled, name: str, layer: int, head: tuple[str, int]) -> Labelled:
    """A Dataset that a reading of one layer can have given: it says so, and its heads are those of the layer.

    Args:
        head: the axis of heads and how many the layer has.

    Raises:
        fields.Odd: anything else.
    """
    facts, (axis, count) = made.attrs, head
    fields.require(facts.get("reading") == name and facts.get("layer") == layer, [facts.get("reading"), layer])
    fields.require(all(isinstance(facts.get(each), float) for each in ("parity", "tolerance")), name)
    at = made.coords.get("layer")
    fields.require(at is not None and at.dims == () and at.stored.kind in codec.WHOLE, "layer")
    if axis in made.sizes:
        heads = made.coords.get(axis)
        fields.require(heads is not None and heads.stored.kind in codec.WHOLE and made.sizes[axis] <= count, axis)
    return made
