"""Words of a figure: which variable is meant, what its axes say, and token text made inert.

Along an axis everything stands at its integer position, so that equal tokens stay apart, or at its value where that is
a magnitude in uneven steps (`labkit.draw.scales`). Tick labels are thinned and short; the hover shows position and
full text.
"""

import functools
import html
import numbers
import textwrap
from collections.abc import Mapping, Sequence

import xarray

from labkit.calling import described, public
from labkit.draw.scales import beside, number, places, scale, thinned, values
from labkit.errors import InputError
from labkit.notation import spoken, visible
from labkit.signs import inert

LIMIT = 1_000_000  # values of one figure: a browser stays fluent below
NAMED = 20_000  # positions of one axis whose text is kept for the hover


def escape(text: object) -> str:
    """Text made inert and readable in plotly, which understands a subset of HTML, TeX between dollar signs and %{}."""
    text = html.escape(visible(str(text)) if str(text).strip() else str(text), quote=False)
    return text.replace("$", "&#36;").replace("%", "&#37;")


def labelled(ds: xarray.Dataset) -> None:
    """Refuse what is no dataset, and name the call that makes one of it.

    Raises:
        InputError: a run, a text, an array, ...
    """
    if hasattr(ds, "data_vars"):
        return
    kinds = {each.__name__ for each in type(ds).__mro__}
    reading = "deltanet.memory({}, layer=0)".format
    hint = f"a reading such as {reading('run')}; of an array, array.to_dataset(name='weight')"
    if "Run" in kinds:
        hint = f"draw.lines({reading('run')}, 'keep')"
    elif "Lab" in kinds or isinstance(ds, str):
        prompt = ds[:40] if isinstance(ds, str) and ds else "red fox"
        traced = reading(f"lab.trace({prompt!r})")
        hint = f"draw.lines({traced}, 'keep')"
    elif hasattr(ds, "shape") and "DataArray" not in kinds:
        dims = ", ".join(["'token'", "'source'", *["..."] * 9][: max(len(ds.shape), 1)])
        hint = f"labkit.notation.label({{'weight': (({dims},), array, None)}})"
    raise InputError("draw takes a labelled dataset", got=described(ds), expected="xarray.Dataset", hint=hint)


drawn = functools.partial(public, first=labelled)  # what a function that draws a dataset checks first


def variable(ds: xarray.Dataset, name: str) -> xarray.DataArray:
    """One variable of a dataset.

    Raises:
        InputError: no dataset, no such variable (names those there are), nothing in it, or more than a million values.
    """
    labelled(ds)
    if not isinstance(name, str | int | tuple) or name not in ds.data_vars:
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


def interval_of(ds: xarray.Dataset, interval: Sequence[str] | None) -> list[xarray.DataArray]:
    """The two ends of an interval, none without one.

    Raises:
        InputError: not the names of two variables.
    """
    if interval is None:
        return []
    if not isinstance(interval, tuple | list) or len(interval) != 2:
        known = ", ".join(map(str, ds.data_vars))
        raise InputError("an interval is two variables", got=repr(interval)[:80], expected=f"two of: {known}")
    return [variable(ds, end) for end in interval]


def check_places(given: Mapping | None, word: str) -> dict:
    """`{name: plain number}` of lines beside the data, empty for None; `word` is the argument.

    Raises:
        InputError: something else.
    """
    if given is None:
        return {}
    found = list(given.values()) if isinstance(given, Mapping) else [None]
    found = [value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value for value in found]
    if not all(isinstance(value, numbers.Real) for value in found):
        hint = f"{word}={{'a name': 1}}"
        raise InputError(f"{word} is named numbers", got=repr(given)[:80], expected="{name: number}", hint=hint)
    return dict(zip(given, found, strict=True))


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
    symbol = array.attrs.get("symbol") or array.attrs.get("long_name") or spoken(str(array.name or "value"))
    units = array.attrs.get("units")
    return escape(f"{symbol} [{units}]" if units and units != "1" else symbol)


def words(array: xarray.DataArray, dim: str, width: int | None = None) -> list[str]:
    """Text of each position, escaped: with `width` as short as a tick label, else position and full text."""
    where, coord = values(array, dim), f"{dim}_text"
    if coord not in array.coords or array[coord].dims != (dim,):
        return [escape(number(value)) for value in where]
    texts = array[coord].values
    if width is None:
        return [escape(f"{number(at)} {text}") for at, text in zip(where, texts, strict=True)]
    return [escape(short(text, width)) for text in texts]


def short(text: str, width: int) -> str:
    """Text cut to `width` signs."""
    text = inert(str(text), keep="\n\t\r")
    return text if len(text) <= width else text[: width - 1] + "…"


def folded(text: str, width: int) -> str:
    """An escaped text in lines of at most `width` signs, as far as its words allow."""
    return "<br>".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def called(array: xarray.DataArray, dim: str) -> str:
    """What an axis is called, escaped: what its coordinate says of itself, or the name of the dim as one speaks it."""
    attrs = array[dim].attrs if dim in array.coords else {}
    units = f" [{attrs['units']}]" if attrs.get("units", "1") not in ("", "1") else ""
    return escape(attrs.get("long_name", spoken(dim)) + units)


def entries(array: xarray.DataArray, dim: str | None) -> list[tuple]:
    """`(text, part)` of each entry along a dim; None gives the whole array once, without text.

    An entry that is a number is named with its dim, `head 3`; one that is a word stands for itself.
    """
    if dim is None:
        return [(None, array)]
    word = values(array, dim).dtype.kind in "UO"
    names = [text if word else f"{escape(spoken(dim))} {text}" for text in words(array, dim)]
    return [(text, array.isel({dim: i})) for i, text in enumerate(names)]


def axis(
    array: xarray.DataArray, dim: str, *, room: int, width: int = 12, angle: int | None = None, cells: bool = False
) -> dict:
    """Properties of a plotly axis along a dim: at most `room` tick labels of `width` signs; full texts for the hover.

    plotly shows a tick's label in place of the full text where both stand at one place, so ticks stand a hair beside,
    the last one on the side that is in the picture. `cells` is for the axes of maps.
    """
    count, kind, where = array.sizes[dim], scale(array, dim, cells=cells), places(array, dim, cells=cells)
    texts, told = words(array, dim, width), f"{dim}_text" in array.coords
    chosen = thinned(where, room, kind)
    hairs = beside(where, kind) if kind is None or told else 0.0 * where
    title = called(array, dim) + (", log scale" if kind == "log" else "")
    properties = {
        "title": {"text": title},
        "tickvals": [float(where[i]) + (-1 if i == count - 1 else 1) * float(hairs[i]) for i in chosen],
        "ticktext": [texts[i] for i in chosen],
        "tickformat": "d" if kind is None or where.dtype.kind in "iu" else ".7~r",
    }
    if kind == "log":
        properties["type"] = "log"
    if count <= NAMED and (kind is None or told):
        properties["labelalias"] = {number(at): text for at, text in zip(where, words(array, dim), strict=True)}
    if angle is not None and told:
        properties["tickangle"] = angle
    return properties
