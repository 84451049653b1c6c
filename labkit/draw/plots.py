"""Labelled data in, plotly figure out: maps, lines, bars, token strips, and frames that need no kernel.

Every function takes a dataset and the name of one of its variables; axis arguments are names of dims. Nothing is
computed but the layout, the dataset stays as it was, and finer changes are made on the figure that comes back.
"""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labkit.draw.theme import INK, LIMIT, SERIES, Figure, colours, escape, finish, named, ticks, variable
from labkit.errors import InputError

DASHES = ("solid", "dot")
FACETS = 8  # more small maps than this become a slider


def heatmap(ds, name="weight", *, x=None, y=None, facet=None, slider=None, title=None):
    """Maps: the last dim runs right, the one before down; one more dim becomes small maps or a slider.

    Args:
        ds: dataset with `name`.
        x, y: dims; None takes the last and the one before.
        facet: dim of small maps side by side. slider: dim of a slider. With neither, up to 8 entries become facets.
        title: a claim; None names layer and reading.

    Raises:
        InputError: no such variable or dim, too many dims, or more than a million cells.
    """
    array = variable(ds, name)
    rest = [d for d in array.dims if d not in (x, y)]
    x = x or rest.pop()
    y = y or (rest.pop() if rest else None)
    if y is None:
        raise InputError("a map has two dims", got=array.dims, hint=f"draw.bars(ds, {name!r}) or draw.lines")
    for dim in (x, y, facet, slider):
        if dim is not None and dim not in array.dims:
            raise InputError("no such dim", got=dim, expected=", ".join(map(str, array.dims)))
    extra = [d for d in array.dims if d not in (x, y, facet, slider)]
    if len(extra) == 1 and facet is None and slider is None:
        facet, slider = (extra[0], None) if array.sizes[extra[0]] <= FACETS else (None, extra[0])
        extra = []
    if extra:
        raise InputError("too many dims for one figure", got=array.dims, hint=f"ds.sel({extra[0]}=...) chooses one")
    if array.size > LIMIT:
        raise InputError(
            "too many cells for a browser",
            got=f"{array.size:,} cells",
            expected=f"at most {LIMIT:,}",
            hint="choose heads or a range of tokens with ds.isel, or means over blocks with ds.coarsen",
        )
    array = array.transpose(*(d for d in (slider, facet) if d), y, x)
    if slider is not None and facet is None:
        return frames(ds, name, along=slider, x=x, y=y, title=title)
    if slider is not None:
        raise InputError("facets and a slider do not go together", got=f"facet={facet}, slider={slider}")
    panels = [(array, None)] if facet is None else [(array.isel({facet: i}), i) for i in range(array.sizes[facet])]
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    names = [escape(f"{facet} {array[facet].values[i]}") if i is not None else "" for _, i in panels]
    fig = Figure(make_subplots(rows, columns, subplot_titles=names if facet else None, horizontal_spacing=0.06))
    for n, (part, _) in enumerate(panels):
        fig.add_trace(_map(part, y, x, coloraxis="coloraxis"), n // columns + 1, n % columns + 1)
    fig.update_layout(coloraxis=_bar(array))
    _axes(fig, array, y, x, room=max(6, 40 // columns))
    for n in range(2, columns + 1):
        fig.update_yaxes(showticklabels=False, title=None, col=n)
    return finish(fig, ds, title, height=160 + 340 * rows)


def maps(*panels, slider=None, title=None):
    """Different maps next to each other, each with its own colours: `maps((ds, name, subtitle), ...)`.

    Each variable must have two dims, and `slider` as a third if one is named; zooming into one zooms into all when
    their axes have the same length.

    Raises:
        InputError: no panel, or one that is not a map.
    """
    if not panels:
        raise InputError("nothing to draw", hint="maps((ds, 'weight', 'subtitle'), ...)")
    arrays = [variable(ds, name) for ds, name, _ in panels]
    moved = [array.isel({slider: 0}) if slider in array.dims else array for array in arrays]
    for array in moved:
        if array.ndim != 2 or (slider is not None and len(moved) and slider not in arrays[0].dims):
            raise InputError("a map has two dims", got=array.dims, hint="choose the others with ds.sel(...)")
    whole, arrays = arrays, moved
    same = len({tuple(map(str, ticks(array, array.dims[0])[2])) for array in arrays}) == 1  # one set of row labels
    titles = [escape(text) for *_, text in panels]
    fig = Figure(make_subplots(1, len(panels), subplot_titles=titles, horizontal_spacing=0.05 if same else 0.14))
    for n, array in enumerate(arrays):
        y, x = array.dims
        fig.add_trace(_map(array, y, x, coloraxis=f"coloraxis{n + 1}"), 1, n + 1)
        left, right = fig.layout[f"xaxis{n + 1 if n else ''}"].domain
        bar = _bar(whole[n])
        bar["colorbar"] |= {"orientation": "h", "x": (left + right) / 2, "len": 0.9 * (right - left)}
        bar["colorbar"] |= {"y": 0.02, "yanchor": "bottom", "yref": "container"}
        bar["colorbar"]["title"]["side"] = "bottom"
        fig.update_layout({f"coloraxis{n + 1}": bar})
        _axes(fig, array, y, x, room=40 // len(panels), column=n + 1, rows=n == 0 or not same)
    if len({array.shape for array in arrays}) == 1:
        for n in range(2, len(panels) + 1):
            fig.update_xaxes(matches="x", col=n)
            fig.update_yaxes(matches="y", col=n)
    if slider is not None:
        _slide(fig, whole, slider)
    fig = finish(fig, panels[0][0], title, height=600 if slider is None else 680)
    return fig.update_layout(margin={"b": 150 if slider is None else 230})


def frames(ds, name="weight", *, along, x=None, y=None, title=None):
    """One map with a slider over a dim, kept in the figure itself: it works in a saved notebook or page, offline.

    Raises:
        InputError: as `heatmap`.
    """
    array = variable(ds, name)
    if along not in array.dims:
        raise InputError("no such dim", got=along, expected=", ".join(map(str, array.dims)))
    rest = [d for d in array.dims if d != along]
    x, y = x or rest[-1], y or rest[0]
    if len(rest) != 2:
        raise InputError("a slider runs over maps of two dims", got=array.dims, hint="choose with ds.sel(...)")
    if array.size > LIMIT:
        raise InputError("too many cells for a browser", got=f"{array.size:,} cells", expected=f"at most {LIMIT:,}")
    array = array.transpose(along, y, x)
    fig = Figure(make_subplots(1, 1))
    fig.add_trace(_map(array.isel({along: 0}), y, x, coloraxis="coloraxis"))
    fig.update_layout(coloraxis=_bar(array))
    _slide(fig, [array], along)
    _axes(fig, array, y, x, room=40)
    return finish(fig, ds, title, height=620)


def lines(ds, name, *, x="token", color=None, facet=None, title=None):
    """A variable along `x`, one line per entry of `color`; `facet` puts groups of lines side by side.

    Raises:
        InputError: no such variable or dim, or dims left over.
    """
    array = variable(ds, name)
    color, facet = _named_dims(array, x, color, facet)
    groups = [(None, array)] if facet is None else [(v, array.isel({facet: i})) for i, v in _entries(array, facet)]
    heads = None if facet is None else [escape(f"{facet} {value}") for value, _ in groups]
    fig = Figure(make_subplots(1, len(groups), subplot_titles=heads, shared_yaxes=True, horizontal_spacing=0.04))
    chosen, short, full = ticks(array, x, room=24)
    for n, (_, part) in enumerate(groups):
        for i, value in [(None, None)] if color is None else _entries(part, color):
            line = part if i is None else part.isel({color: i})
            fig.add_trace(
                go.Scatter(
                    y=np.asarray(line.transpose(x), dtype=np.float32),
                    x=np.arange(array.sizes[x]),
                    text=full,
                    mode="lines",
                    name=escape(f"{color} {value}") if color else escape(name),
                    line={
                        "color": SERIES[(i or 0) % len(SERIES)],
                        "dash": DASHES[(i or 0) // len(SERIES) % 2],
                    },
                    hovertemplate=f"{escape(x)} %{{text}}<br>{named(array)} %{{y:.4g}}",
                    showlegend=n == 0 and color is not None,
                ),
                1,
                n + 1,
            )
    fig.update_xaxes(tickvals=chosen, ticktext=short, title=escape(x))
    fig.update_yaxes(title=named(array), col=1)
    _range(fig, array)
    return finish(fig, ds, title)


def bars(ds, name, *, x=None, color=None, title=None):
    """A variable as bars along `x`, grouped by `color`.

    Raises:
        InputError: no such variable or dim, or dims left over.
    """
    array = variable(ds, name)
    x = x or array.dims[-1]
    color, _ = _named_dims(array, x, color, None)
    chosen, short, full = ticks(array, x, room=32)
    fig = Figure()
    for i, value in [(None, None)] if color is None else _entries(array, color):
        part = array if i is None else array.isel({color: i})
        fig.add_trace(
            go.Bar(
                x=np.arange(array.sizes[x]),
                y=np.asarray(part.transpose(x), dtype=np.float32),
                text=full,
                textposition="none",
                name=escape(f"{color} {value}") if color else escape(name),
                marker={"color": SERIES[(i or 0) % len(SERIES)]},
                hovertemplate=f"{escape(x)} %{{text}}<br>{named(array)} %{{y:.4g}}",
                showlegend=color is not None,
            )
        )
    fig.update_xaxes(tickvals=chosen, ticktext=short, title=escape(x))
    fig.update_yaxes(title=named(array))
    _range(fig, array)
    return finish(fig, ds, title)


def tokens(ds, name, *, width=16, title=None):
    """The prompt itself as coloured cells, one per token, in lines of `width`.

    Raises:
        InputError: the variable has other dims than one of tokens.
    """
    array = variable(ds, name)
    if array.ndim != 1:
        raise InputError("a strip has one dim", got=array.dims, hint="choose the others with ds.sel(...)")
    (dim,) = array.dims
    _, _, full = ticks(array, dim)
    words = array[f"{dim}_text"].values if f"{dim}_text" in array.coords else array[dim].values
    count = len(words)
    rows = -(-count // width)
    grid = np.full((rows, width), np.nan, dtype=np.float32)
    grid.flat[:count] = np.asarray(array, dtype=np.float32)
    look = colours(array)
    hover = np.full((rows, width), "", dtype=object)
    hover.flat[:count] = full
    fig = Figure(
        go.Heatmap(
            z=grid,
            customdata=hover,
            coloraxis="coloraxis",
            hovertemplate=f"{escape(dim)} %{{customdata}}<br>{named(array)} %{{z:.4g}}<extra></extra>",
            xgap=3,
            ygap=6,
        )
    )
    for i, word in enumerate(words):
        value = (float(array[i]) - look["zmin"]) / (look["zmax"] - look["zmin"] or 1)
        dark = value > 0.6 if look["zmin"] == 0 else abs(value - 0.5) > 0.35
        fig.add_annotation(
            x=i % width,
            y=i // width,
            text=escape(word),
            showarrow=False,
            font={"size": 12, "family": "ui-monospace, monospace", "color": "#ffffff" if dark else "#1f2937"},
        )
    fig.update_layout(coloraxis=_bar(array))
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False, autorange="reversed")
    return finish(fig, ds, title, height=190 + 46 * rows)


def _slide(fig, arrays, along):
    """A slider over a dim: one frame per entry, each with the maps of all panels."""
    names = [escape(f"{along} {value}") for _, value in _entries(arrays[0], along)]

    def shown(n, array, i):
        part = array.isel({along: i})
        return _map(part, *part.dims, coloraxis=fig.data[n].coloraxis)

    fig.frames = [
        go.Frame(
            data=[shown(n, array, i) for n, array in enumerate(arrays)], name=text, traces=list(range(len(arrays)))
        )
        for i, text in enumerate(names)
    ]
    redraw = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": text.rsplit(" ", 1)[1], "method": "animate", "args": [[text], redraw]} for text in names]
    fig.update_layout(sliders=[{"steps": steps, "currentvalue": {"prefix": f"{along} "}, "pad": {"t": 95}, "len": 0.9}])


def _map(array, y, x, *, coloraxis):
    values = np.array(array, dtype=np.float32)
    if {y, x} == {"token", "source"} and {y, x} <= set(array.coords):
        later = array["source"].values[None, :] > array["token"].values[:, None]
        values[later if y == "token" else later.T] = np.nan
    _, _, down = ticks(array, y)
    _, _, right = ticks(array, x)
    text = np.stack(np.meshgrid(down, right, indexing="ij"), -1) if values.size <= 4096 else None
    place = ("%{customdata[0]}", "%{customdata[1]}") if text is not None else ("%{y}", "%{x}")
    hover = f"{escape(y)} {place[0]}<br>{escape(x)} {place[1]}<br>{named(array)} %{{z:.4g}}<extra></extra>"
    return go.Heatmap(z=values, coloraxis=coloraxis, customdata=text, hovertemplate=hover)


def _bar(array):
    look = colours(array)
    shape = {"title": {"text": named(array), "side": "right"}, "thickness": 12, "len": 0.9, "outlinewidth": 0}
    return {
        "colorscale": look["colorscale"],
        "cmin": look["zmin"],
        "cmax": look["zmax"],
        "colorbar": shape | {"tickfont": {"color": INK}},
    }


def _axes(fig, array, y, x, *, room, column=None, rows=True):
    where = {} if column is None else {"col": column}
    at, text, _ = ticks(array, x, room)
    fig.update_xaxes(tickvals=at, ticktext=text, title=escape(x), showgrid=False, **where)
    at, text, _ = ticks(array, y, 40)
    fig.update_yaxes(tickvals=at, ticktext=text, showgrid=False, autorange="reversed", showticklabels=rows, **where)
    if rows:
        fig.update_yaxes(title=escape(y), col=column or 1)


def _entries(array, dim):
    values = array[dim].values if dim in array.coords else range(array.sizes[dim])
    return list(enumerate(values))


def _named_dims(array, x, color, facet):
    for dim in (x, color, facet):
        if dim is not None and dim not in array.dims:
            raise InputError("no such dim", got=dim, expected=", ".join(map(str, array.dims)))
    rest = [d for d in array.dims if d not in (x, color, facet)]
    if color is None and len(rest) == 1:
        color = rest.pop()
    if rest:
        raise InputError("too many dims for one figure", got=array.dims, hint=f"ds.sel({rest[0]}=...) chooses one")
    return color, facet


def _range(fig, array):
    if array.attrs.get("scale") == "fraction":
        fig.update_yaxes(range=[-0.02, 1.02])
