"""Words of a figure: which variable is meant, what its axes say, and token text made inert.

Along an axis everything stands at its integer position, so that equal tokens stay apart. Tick labels are thinned and
short; the hover shows position and full text.
"""

import html
from collections.abc import Sequence

import numpy as np
import xarray

from labkit.errors import InputError
from labkit.notation import visible
from labkit.signs import inert

LIMIT = 1_000_000  # values of one figure: a browser stays fluent below
NAMED = 20_000  # positions of one axis whose text is kept for the hover


def escape(text: object) -> str:
    """Text made inert and readable in plotly, which understands a subset of HTML, TeX between dollar signs and %{}."""
    text = html.escape(visible(str(text)) if str(text).strip() else str(text), quote=False)
    return text.replace("$", "&#36;").replace("%", "&#37;")


def variable(ds: xarray.Dataset, name: str) -> xarray.DataArray:
    """One variable of a dataset.

    Raises:
        InputError: no dataset, no such variable (names those there are), nothing in it, or more than a million values.
    """
    if not hasattr(ds, "data_vars"):
        hint = "a reading such as deltanet.memory(run, layer=0); of an array, array.to_dataset(name='weight')"
        raise InputError("draw takes a labelled dataset", got=type(ds).__name__, expected="xarray.Dataset", hint=hint)
    if name not in ds.data_vars:
        known = ", ".join(map(str, ds.data_vars)) or "no variables"
        raise InputError("no such variable in this dataset", got=name, expected=known, hint='draw.heatmap(ds, "keep")')
    array = ds[name]
    if not array.size:
        raise InputError("nothing to draw", got=f"{name} {dict(array.sizes)}", hint="choose at least one of each dim")
    if array.size > LIMIT:
        hint = "choose heads or a range of tokens with ds.isel, or means over blocks with ds.coarsen"
        got = f"{array.size:,} cells, {dict(array.sizes)}"
        raise InputError("too many cells for a browser", got=got, expected=f"at most {LIMIT:,}", hint=hint)
    return array


def check_dims(array: xarray.DataArray, *dims: str | None) -> None:
    """Refuse a dim that the variable does not have, and one that is used twice."""
    given = [dim for dim in dims if dim is not None]
    for dim in given:
        if dim not in array.dims:
            raise InputError("no such dim", got=dim, expected=", ".join(map(str, array.dims)))
    if len(set(given)) < len(given):
        raise InputError("a dim has one place in a figure", got=", ".join(given), expected="different dims")


def left_over(array: xarray.DataArray, dims: Sequence[str]) -> None:
    """Refuse dims that have no place in the figure."""
    if dims:
        hint = " or ".join(f"ds.isel({dim}=0)" for dim in dims)
        got = ", ".join(f"{dim} ({array.sizes[dim]})" for dim in dims)
        raise InputError("too many dims for one figure", got=f"left over: {got}", hint=f"{hint} chooses one")


def named(array: xarray.DataArray) -> str:
    """`symbol [unit]` of a variable, as its colour bar and axis say it."""
    symbol = array.attrs.get("symbol", array.name or "value")
    units = array.attrs.get("units")
    return escape(f"{symbol} [{units}]" if units and units != "1" else symbol)


def values(array: xarray.DataArray, dim: str) -> np.ndarray:
    """What stands along a dim: its coordinate, or positions."""
    return array[dim].values if dim in array.coords else np.arange(array.sizes[dim])


def words(array: xarray.DataArray, dim: str, width: int | None = None) -> list[str]:
    """Text of each position, escaped: with `width` as short as a tick label, else position and full text."""
    where, coord = values(array, dim), f"{dim}_text"
    if coord not in array.coords or array[coord].dims != (dim,):
        return [escape(_number(value)) for value in where]
    texts = array[coord].values
    if width is None:
        return [escape(f"{_number(at)} {text}") for at, text in zip(where, texts, strict=True)]
    return [escape(short(text, width)) for text in texts]


def short(text: str, width: int) -> str:
    """Text cut to `width` signs."""
    text = inert(str(text), keep="\n\t\r")
    return text if len(text) <= width else text[: width - 1] + "…"


def entries(array: xarray.DataArray, dim: str | None) -> list[tuple]:
    """`(text, part)` of each entry along a dim; None gives the whole array once, without text.

    An entry that is a number is named with its dim, `head 3`; one that is a word stands for itself.
    """
    if dim is None:
        return [(None, array)]
    spoken = values(array, dim).dtype.kind in "UO"
    names = [text if spoken else f"{escape(dim)} {text}" for text in words(array, dim)]
    return [(text, array.isel({dim: i})) for i, text in enumerate(names)]


def axis(array: xarray.DataArray, dim: str, *, room: int, width: int = 12, angle: int | None = None) -> dict:
    """Properties of a plotly axis along a dim: at most `room` tick labels of `width` signs; full texts for the hover.

    plotly shows a tick's label in place of the full text where both stand at one place, so ticks stand a hair beside,
    the last one on the side that is in the picture.
    """
    count = array.sizes[dim]
    texts = words(array, dim, width)
    chosen = range(0, count, max(1, -(-count // room)))
    hair = round(count * 3e-4, 6)
    properties = {
        "title": {"text": escape(array[dim].attrs.get("long_name", dim) if dim in array.coords else dim)},
        "tickvals": [i - hair if i == count - 1 else i + hair for i in chosen],
        "ticktext": [texts[i] for i in chosen],
        "tickformat": "d",
    }
    if count <= NAMED:
        properties["labelalias"] = {str(i): text for i, text in enumerate(words(array, dim))}
    if angle is not None and f"{dim}_text" in array.coords:
        properties["tickangle"] = angle
    return properties


def _number(value):
    return f"{value:g}" if isinstance(value, float | np.floating) else value
