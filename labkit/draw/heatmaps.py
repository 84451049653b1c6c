"""Maps: one, many small ones, several different ones side by side, or one with a slider that needs no kernel.

The last dim runs right and the one before runs down, row 0 at the top. What lies after the reading token is blank.
Cells below 0 carry a minus sign in maps small enough to read it, so that the sign survives a print in grey.
"""

import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go
import xarray
from plotly.subplots import make_subplots

from labkit.arguments import whole
from labkit.calling import described
from labkit.draw.cells import Cells, scale_of
from labkit.draw.grid import above, arranged, grid, height, link, room
from labkit.draw.theme import BLANK, Figure, finish
from labkit.draw.words import (
    axis,
    called,
    check_dims,
    drawn,
    entries,
    escape,
    interval_of,
    left_over,
    variable,
    words,
)
from labkit.errors import InputError
from labkit.notation import select

FACETS = 8  # more small maps than this become a slider


@drawn
def heatmap(
    ds: xarray.Dataset,
    name: str = "weight",
    *,
    x: str | None = None,
    y: str | None = None,
    facet: str | None = None,
    slider: str | None = None,
    start: int = 0,
    hover: Sequence[str] = (),
    interval: tuple[str, str] | None = None,
    title: str | None = None,
) -> Figure:
    """Maps of one variable; a first dim becomes small maps (up to 8) or a slider, a second the other of the two.

    Args:
        ds: dataset with `name`.
        x, y: dims; None takes the last and the one before.
        facet: dim of small maps with common axes and colours.
        slider: dim of a slider inside the figure, which works in a saved notebook or page, offline.
        start: entry of the slider that is shown at first; -1 is the last.
        hover: other variables of `ds` whose values are shown under the pointer; they may lack some of the dims.
        interval: two variables, the ends of an interval: under the pointer, and in the cells where they are few.
        title: a claim; None names layer and reading.

    Raises:
        InputError: no such variable or dim, no such entry, dims left over, or more than a million cells.
    """
    array = variable(ds, name)
    x, y, facet, slider = _places(array, x, y, facet, slider)
    array = array.transpose(*(dim for dim in (slider, facet) if dim), y, x)
    beside = [_spread(variable(ds, other), array) for other in hover]
    beside += [_spread(end, array) for end in interval_of(ds, interval)]
    stages = _parts(slider, array, beside)
    (start,) = select(whole(start, "start"), len(stages), slider or "start")
    first = _parts(facet, *stages[start][1:])
    cells = Cells(array, y, x, beside, count=len(first), interval=interval is not None)
    fig, places, columns = grid([text for text, *_ in first])
    for place, (_, part, more) in zip(places, first, strict=True):
        fig.add_trace(cells.trace(part, "coloraxis", more), **place)
    fig.update_layout(coloraxis=scale_of(array), plot_bgcolor=BLANK)
    fig.update_xaxes(axis(array, x, cells=True, **room(facet, columns)))
    fig.update_yaxes(axis(array, y, room=13 if facet else 24, width=9, cells=True), showgrid=False)
    fig.update_yaxes(autorange="reversed")
    link(fig, places, columns)
    if slider is not None:
        for i, (_, *stage) in enumerate(stages):
            data = [cells.moved(part, "coloraxis", more) for _, part, more in _parts(facet, *stage)]
            fig.frames += (go.Frame(data=data, traces=list(range(len(data))), name=str(i)),)
        below = 100 if f"{x}_text" in array.coords else 60
        fig.update_layout(sliders=[_slide(array, slider, below=below) | {"active": start}])
    tall = height(places) + (140 if slider else 0)
    return finish(fig, ds, title, height=tall, above=above(fig), arranged=arranged(places, columns))


@drawn
def frames(ds: xarray.Dataset, name: str = "weight", *, along: str, **options) -> Figure:
    """`heatmap` with a slider along a dim: layers, heads, steps; its other `options` are those of `heatmap`.

    Raises:
        InputError: as `heatmap`.
    """
    return heatmap(ds, name, slider=along, **options)


def maps(*panels: tuple, slider: str | None = None, start: int = 0, title: str | None = None) -> Figure:
    """Different maps, the `panels`, next to each other, each with its own colours: `maps((ds, name, subtitle), ...)`.

    Each variable must have two dims; zooming into one zooms into all when their axes say the same. With `slider`, a
    dim that any of them may have as a third, one slider moves all that have it. `start` is as for `heatmap`; a fourth
    entry of a panel, a list of variables, is its `hover`.

    Raises:
        InputError: no panel, one that is not a map, or a slider that none has or that runs over different entries.
    """
    if not panels:
        raise InputError("nothing to draw", hint="maps((ds, 'weight', 'subtitle'), ...)")
    said = [f"{len(each)} entries" if isinstance(each, tuple | list) else described(each) for each in panels]
    if short := [text for text in said if text not in ("3 entries", "4 entries")]:
        hint = "draw.maps((ds, 'keep', 'what is kept'), (ds, 'write', 'what is written'))"
        raise InputError("a panel is (ds, name, subtitle) or (ds, name, subtitle, hover)", got=short[0], hint=hint)
    arrays = [variable(ds, name) for ds, name, *_ in panels]
    beside = []
    for (ds, _, _, *more), array in zip(panels, arrays, strict=True):
        beside.append([_spread(variable(ds, other), array) for others in more for other in others])
    count = _common(arrays, slider)
    (start,) = select(whole(start, "start"), count, slider or "start")
    first = [_at(array, slider, start) for array in arrays]
    for array in first:
        if array.ndim != 2:
            raise InputError("a map has two dims", got=array.dims, hint="choose the others with ds.isel(...)")
    downs, rights = ({(array.dims[n], *words(array, array.dims[n])) for array in first} for n in (0, 1))
    heads = [_wrapped(panel[2], 108 // len(panels)) for panel in panels]
    gap = 0.05 if len(downs) == 1 else 0.14
    fig = Figure(make_subplots(1, len(panels), subplot_titles=heads, horizontal_spacing=gap))
    cells = []
    for n, (every, array) in enumerate(zip(arrays, first, strict=True), 1):
        y, x = array.dims
        more = [_at(other, slider, start) for other in beside[n - 1]]
        cells.append(Cells(every, y, x, beside[n - 1], count=len(panels)))
        fig.add_trace(cells[-1].trace(array, f"coloraxis{n}", more), 1, n)
        left, right = fig.layout["xaxis" if n == 1 else f"xaxis{n}"].domain
        fig.update_layout({f"coloraxis{n}": _below(scale_of(every), left, right)})
        fig.update_xaxes(axis(array, x, room=44 // len(panels), angle=-45, cells=True), col=n)
        fig.update_yaxes(axis(array, y, room=24, cells=True), showgrid=False, title_standoff=6, col=n)
        fig.update_yaxes(autorange="reversed", col=n)
        if n > 1 and len(downs) == 1:
            fig.update_yaxes(matches="y", title=None, showticklabels=False, col=n)
        if n > 1 and len(rights) == 1:
            fig.update_xaxes(matches="x", col=n)
    lines = max(head.count("<br>") for head in heads)
    tall = 0 if slider is None else 95
    look = {"height": 630 + 18 * lines + tall, "above": 36 + 18 * lines}
    places = [{"row": 1, "col": n} for n in range(1, len(panels) + 1)]
    finish(fig, [ds for ds, *_ in panels], title, **look, arranged=arranged(places, len(panels)))
    if slider is not None:
        moving = [n for n, array in enumerate(arrays) if slider in array.dims]
        for i in range(count):
            at = lambda array, i=i: _at(array, slider, i)  # noqa: E731
            data = [cells[n].moved(at(arrays[n]), fig.data[n].coloraxis, list(map(at, beside[n]))) for n in moving]
            fig.frames += (go.Frame(data=data, traces=moving, name=str(i)),)
        fig.update_layout(sliders=[_slide(arrays[moving[0]], slider, below=120) | {"active": start}])
    return fig.update_layout(margin={"b": 165 + tall}, plot_bgcolor=BLANK)


def _common(arrays, slider):
    """How many entries the slider has, the same in all arrays that have it."""
    if slider is None:
        return 1
    texts = {tuple(words(array, slider)) for array in arrays if slider in array.dims}
    if not texts:
        known = " or ".join(", ".join(map(str, array.dims)) for array in arrays)
        raise InputError("no such dim", got=slider, expected=known)
    if len(texts) > 1:
        raise InputError("one slider, but the maps differ along it", got=sorted(texts), expected="equal entries")
    return len(texts.pop())


def _at(array, slider, i):
    return array.isel({slider: i}) if slider in array.dims else array


def _below(scale, left, right):
    """A colour scale whose bar lies below its map."""
    scale["colorbar"] |= {"orientation": "h", "x": (left + right) / 2, "xanchor": "center", "lenmode": "fraction"}
    scale["colorbar"] |= {"len": 0.9 * (right - left), "y": 0.02, "yanchor": "bottom", "yref": "container"}
    scale["colorbar"]["title"]["side"] = "bottom"
    return scale


def _places(array, x, y, facet, slider):
    check_dims(array, x, y, facet, slider)
    rest = [dim for dim in array.dims if dim not in (x, y, facet, slider)]
    x = x or (rest.pop() if rest else None)
    y = y or (rest.pop() if rest else None)
    if x is None or y is None:
        hint = f"draw.bars(ds, {array.name!r}) or draw.lines, or other places for its dims"
        raise InputError("a map has two dims", got=array.dims, hint=hint)
    left = []
    for dim in rest:
        if facet is None and array.sizes[dim] <= FACETS:
            facet = dim
        elif slider is None:
            slider = dim
        else:
            left.append(dim)
    left_over(array, left)
    return x, y, facet, slider


def _spread(other, array):
    """A variable of the hover on the dims of the map."""
    if wrong := [dim for dim in other.dims if dim not in array.dims]:
        hint = "choose an entry with ds.isel(...)"
        raise InputError(f"{other.name!r} has dims that the map lacks", got=wrong, expected=array.dims, hint=hint)
    return other.broadcast_like(array).transpose(*array.dims)


def _parts(dim, array, beside):
    """(text, part, parts of what is beside it) of each entry along a dim, or of the whole."""
    pick = lambda other, i: other if dim is None else other.isel({dim: i})  # noqa: E731
    return [(text, part, [pick(other, i) for other in beside]) for i, (text, part) in enumerate(entries(array, dim))]


def _slide(array, dim, *, below):
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    texts = enumerate(words(array, dim))
    steps = [{"label": text, "method": "animate", "args": [[str(i)], now]} for i, text in texts]
    return {"steps": steps, "currentvalue": {"prefix": f"{called(array, dim)} "}, "pad": {"t": below}, "len": 0.9}


def _wrapped(text, width):
    return "<br>".join(map(escape, textwrap.wrap(str(text), width)))
