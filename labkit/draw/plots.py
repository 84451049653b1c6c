"""Lines, bars and the strip of the prompt itself.

Lines differ by dash, and short ones by marker, as well as by colour, bars by pattern. Every function takes a dataset
and the name of one of its variables; axis arguments are names of dims. Nothing is computed but the layout, the dataset
stays as it was, and finer changes are made on the figure that comes back.
"""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray

from labkit.arguments import whole
from labkit.draw.grid import above, arranged, grid, height, link, room
from labkit.draw.scales import place, places, scale, widths
from labkit.draw.theme import DASHES, INK, MARKERS, PATTERNS, SERIES, Figure, colours, finish, ink
from labkit.draw.words import (
    axis,
    called,
    check_dims,
    check_places,
    drawn,
    entries,
    escape,
    folded,
    interval_of,
    left_over,
    named,
    variable,
    words,
)
from labkit.errors import InputError

FEW = 24  # points of a line that are marked
STRIP = 4096  # tokens whose text a browser draws fluently


@drawn
def lines(
    ds: xarray.Dataset,
    name: str,
    *,
    x: str = "token",
    color: str | None = None,
    facet: str | None = None,
    interval: tuple[str, str] | None = None,
    levels: Mapping[str, float] | None = None,
    at: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """A variable along `x`, one line per entry of `color`; `facet` puts groups of lines side by side.

    Args:
        interval: two variables with the same dims, the ends of an interval that is drawn at each point.
        levels: `{name: value}`, level lines that the picture must hold: a ceiling, a baseline.
        at: `{name: place along x}`, upright lines: the end of a window, the token where something came.

    Raises:
        InputError: no such variable or dim, dims left over, more than a million values, or a place of `at` that a
            logarithmic axis does not have.
    """
    array = variable(ds, name)
    color, facet = _places(array, x, color, facet)
    groups = entries(array, facet)
    ends = [end.broadcast_like(array) for end in interval_of(ds, interval)] or None
    levels, at = check_places(levels, "levels"), check_places(at, "at")
    fig, cells, columns = grid([text for text, _ in groups])
    for n, (_, part) in enumerate(groups):
        for i, (text, line) in enumerate(entries(part, color)):
            style = {"color": SERIES[i % len(SERIES)], "dash": DASHES[i % len(DASHES)]}
            trace = _trace(go.Scatter, array, line, x, text, showlegend=color is not None and n == 0)
            trace.update(mode="lines", line=style, legendgroup=str(i))
            if array.sizes[x] <= FEW:
                trace.update(mode="lines+markers", marker={"symbol": MARKERS[i % len(MARKERS)], "size": 7})
            if ends is not None:
                chosen = {dim: at for dim, at in ((facet, n), (color, i)) if dim is not None}
                trace.update(error_y=_whiskers(trace.y, *(end.isel(chosen).transpose(x) for end in ends)))
            fig.add_trace(trace, **cells[n])
        _beside(fig, array, x, levels, at, cells[n], first=n == 0)
    fig.update_xaxes(axis(array, x, **room(facet, columns)))
    ends_of_x = _ends(array, x, at or {}, 0.04 if facet else 0)  # labels of one panel would meet those of the next
    fig.update_xaxes(autorangeoptions={"include": ends_of_x})
    fig.update_yaxes(title={"text": folded(named(array), 24 if facet else 48)}, **_range(array, levels, ends))
    link(fig, cells, columns)
    return finish(fig, ds, title, height=height(cells), above=above(fig), arranged=arranged(cells, columns))


@drawn
def bars(
    ds: xarray.Dataset,
    name: str,
    *,
    x: str | None = None,
    color: str | None = None,
    stacked: bool = False,
    interval: tuple[str, str] | None = None,
    levels: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """A variable as bars along `x`, by default its last dim, grouped by `color`, beside each other or `stacked`.

    `interval` names two variables with the same dims, the ends of an interval that is drawn on each bar; `levels` are
    level lines `{name: value}` that the picture must hold: what chance gives, a bound.

    Raises:
        InputError: no such variable or dim, dims left over, or more than a million values.
    """
    array = variable(ds, name)
    if not array.dims:
        raise InputError("bars need a dim", got=f"{name} is one number", expected="at least one dim")
    x = x or [dim for dim in array.dims if dim != color][-1]
    color, _ = _places(array, x, color, None)
    parts, ends, levels = entries(array, color), interval_of(ds, interval), check_places(levels, "levels")
    kind, where = scale(array, x), places(array, x)
    left, right = widths(where, kind)
    fig = Figure()
    for i, (text, part) in enumerate(parts):
        trace = _trace(go.Bar, array, part, x, text, showlegend=color is not None)
        shape = PATTERNS[i % len(PATTERNS)] if color is not None else ""
        pattern = {"shape": shape, "fillmode": "overlay", "solidity": 0.3}
        trace.update(marker={"color": SERIES[i % len(SERIES)], "pattern": pattern})
        if kind is not None:
            trace.update(_standing(where, left, right, kind, *((0, 1) if stacked else (i, len(parts))), stacked))
        if ends:
            chosen = [end if color is None else end.isel({color: i}) for end in ends]
            trace.update(error_y=_whiskers(trace.y, *(end.transpose(x) for end in chosen)) | {"color": INK})
        fig.add_trace(trace)
    _beside(fig, array, x, levels, None, {}, first=True)
    fig.update_layout(barmode="stack" if stacked else "group")
    fig.update_xaxes(axis(array, x, **room(None, 1)))
    fig.update_yaxes(title={"text": folded(named(array), 48)}, **({} if stacked else _range(array, levels, ends)))
    return finish(fig, ds, title, arranged=arranged([{}], 1))


@drawn
def tokens(ds: xarray.Dataset, name: str, *, width: int = 12, title: str | None = None) -> Figure:
    """The prompt itself as coloured cells, one per token, in lines of `width`; the hover shows the full text.

    Raises:
        InputError: the variable has other dims than one of tokens, or more than 4,096 of them.
    """
    array = variable(ds, name)
    if array.ndim != 1:
        hint = "choose the others with ds.isel(...)"
        raise InputError("a strip has one dim", got=array.dims, expected="token or source", hint=hint)
    width = whole(width, "width", least=1)
    (dim,) = array.dims
    count = array.size
    if count > STRIP:
        hint = f"ds.isel({dim}=slice(0, {STRIP})), or draw.lines(ds, {name!r}, x={dim!r})"
        raise InputError("too many tokens to read", got=f"{count:,}", expected=f"at most {STRIP:,}", hint=hint)
    width = min(width, count)
    shape = (-(-count // width), width)
    cells, look = np.full(shape, np.nan, dtype=np.float32), colours(array)
    full = np.full(shape, "", dtype=object)
    cells.flat[:count], full.flat[:count] = array, words(array, dim)
    hover = f"{called(array, dim)} %{{customdata}}<br>{named(array)} %{{z:.4g}}<extra></extra>"
    bar = {"title": {"text": folded(named(array), 30), "side": "right"}, "thickness": 12, "outlinewidth": 0}
    scale = {"colorscale": look["colorscale"], "zmin": look["zmin"], "zmax": look["zmax"], "colorbar": bar}
    font = {"family": "ui-monospace, monospace", "size": 11, "color": ink(array, look)}
    where, texts = np.arange(count), words(array, dim, 8)
    text = go.Scatter(x=where % width, y=where // width, text=texts, textfont=font, mode="text", hoverinfo="skip")
    fig = Figure(go.Heatmap(z=cells, customdata=full, hovertemplate=hover, xgap=3, ygap=6, hoverongaps=False, **scale))
    fig.add_trace(text.update(showlegend=False))
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False, autorange="reversed")
    fig = finish(fig, ds, title, height=max(230, 130 + 42 * shape[0]), arranged={"strip": width})
    return fig.update_layout(margin={"l": 20, "b": 30})


def _trace(kind, whole, part, x, text, **properties):
    hover = f"{called(whole, x)} %{{x}}<br>{named(whole)} %{{y:.4g}}"
    y = np.array(part.transpose(x), dtype=np.float32)
    if scale(whole, x) is not None:
        properties["x"] = places(whole, x)
    return kind(y=y, name=text or named(whole), hovertemplate=hover, **properties)


def _standing(where, left, right, kind, n, count, stacked):
    """Width and offset of the n-th of `count` bars that share the room from left to right."""
    if stacked:  # plotly stacks only bars that it centres itself
        return {"width": np.minimum(right - left, 1.2 * abs(where)) if kind == "log" else right - left}
    low, high = (
        left * (right / left) ** (m / count) if kind == "log" else left + m / count * (right - left) for m in (n, n + 1)
    )
    return {"width": high - low, "offset": low - where}


def _whiskers(y, low, high):
    low, high = (np.array(end, dtype=np.float32) for end in (low, high))
    return {"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low, "thickness": 1.2}


def _beside(fig, array, x, levels, at, cell, *, first):
    """Level and upright lines of one panel, named once in the legend."""
    style, where = {"color": INK, "width": 1.5, "dash": "longdash"}, places(array, x)
    for name, value in (levels or {}).items():
        hover = f"{escape(name)} {value:g}<extra></extra>"
        ends = {"x": [float(where[0]), float(where[-1])], "y": [value, value]}
        line = go.Scatter(ends, mode="lines", line=style, name=escape(name), hovertemplate=hover)
        fig.add_trace(line.update(legendgroup=f"level {name}", showlegend=first), **cell)
    for name, value in (at or {}).items():
        here = place(array, x, value)
        upright = {"type": "line", "x0": here, "x1": here, "y0": 0, "y1": 1, "yref": "y domain"}
        fig.add_shape(upright | {"line": style | {"dash": "dot"}, "name": escape(name), "showlegend": first}, **cell)


def _ends(array, x, at, share):
    """Places that the x axis must hold: its own, with a share of their span at either end, and those of `at`."""
    where, kind = places(array, x), scale(array, x)
    along = np.log(where) if kind == "log" else where.astype(float)
    rim = share * (along.max() - along.min())
    ends = np.array([along.min() - rim, along.max() + rim])
    return [*(np.exp(ends) if kind == "log" else ends).tolist(), *(place(array, x, value) for value in at.values())]


def _places(array, x, color, facet):
    if x is None:
        raise InputError("no such dim", got="x=None", expected=", ".join(map(str, array.dims)))
    check_dims(array, x, color, facet)
    rest = [dim for dim in array.dims if dim not in (x, color, facet)]
    if color is None and rest:
        color = rest.pop()
    left_over(array, rest)
    return color, facet


def _range(array, levels, ends):
    """A fraction is seen from 0 to 1, and further where an interval or a level reaches beyond."""
    if array.attrs.get("scale") != "fraction":
        return {}
    beyond = [float(value) for end in ends or () for value in (end.min(), end.max())] + [*(levels or {}).values()]
    reach = [value for value in beyond if np.isfinite(value)]
    return {"range": [min([0.0, *reach]) - 0.02, max([1.0, *reach]) + 0.02]}
