"""Graphs: nodes in rows and columns, edges as wide as what they bring, dashed where that is below 0.

A graph is a dataset with two dims, one of edges and one of nodes. Each edge has a value and the coordinates `sender`
and `receiver`, numbers of nodes; each node has coordinates that say in which row and which column it stands. Rows and
columns that hold no node take no room. Edges of one kind may be stubs: what comes from nowhere in particular.
"""

import numpy as np
import plotly.graph_objects as go
import xarray

from labkit.draw.grid import arranged
from labkit.draw.theme import INK, SERIES, Figure, finish
from labkit.draw.words import drawn, escape, named, short, variable
from labkit.errors import InputError
from labkit.notation import spoken
from labkit.orders import by_size

WIDEST, THINNEST = 9.0, 0.8  # pixels
STUB = (-0.16, -0.34)  # columns and rows from where one comes
BELOW = "dot"  # as long as they are wide
MOST = 300  # edges that a reader can follow, and more
ENDS = ("sender", "receiver")


@drawn
def graph(
    ds: xarray.Dataset,
    name: str = "value",
    *,
    node: str = "node",
    x: str = "at_token",
    y: str = "level",
    color: str = "kind",
    stub: str = "rest",
    title: str | None = None,
) -> Figure:
    """Nodes and edges, from the lowest row to the highest.

    Args:
        ds: with a variable `name` over edges, whose coordinates `sender` and `receiver` number the nodes.
        node: dim of the nodes. Its coordinate `<node>_short` is written beside each, `<node>_text` under the pointer.
        x, y: coordinates of the nodes that say in which column and row they stand; `<x>_text` and `<y>_text` name them.
        color: coordinate of the edges that colours them, and names them in the legend.
        stub: entry of `color` whose edges are drawn as short ones, and whose senders are not drawn.

    Raises:
        InputError: no such variable or coordinate, nodes that do not exist, or more than 300 edges.
    """
    array = variable(ds, name)
    if array.ndim != 1:
        raise InputError("edges have one dim", got=array.dims, hint="choose the others with ds.isel(...)")
    (edge,) = array.dims
    needed = {edge: (*ENDS, color), node: (x, y)}
    if lost := [each for dim, names in needed.items() for each in names if dim not in _dims(ds, each)]:
        got, expected = (
            f"none called {', '.join(lost)}",
            f"{', '.join(needed[edge])} along {edge!r}; {x}, {y} along {node!r}",
        )
        raise InputError("a graph has coordinates of edges and of nodes", got=got, expected=expected)
    if array.size > MOST:
        hint = f"ds.isel({edge}=range({MOST})), or a larger share that an edge must bring"
        raise InputError("too many edges to follow", got=f"{array.size:,}", expected=f"at most {MOST}", hint=hint)
    ends = np.stack([ds[end].values for end in ENDS]).astype(int)
    if ends.min() < 0 or ends.max() >= ds.sizes[node]:
        got = f"nodes {ends.min()} to {ends.max()}"
        raise InputError("an edge joins two nodes", got=got, expected=f"0 to {ds.sizes[node] - 1}")
    colours = ds[color].values.astype(str)
    used = np.unique(np.concatenate([ends[1], ends[0][colours != stub]]))
    columns, rows = (_ranked(ds[axis].values[used]) for axis in (x, y))
    across, centres = _spread(columns, rows)
    place = {int(n): (across[i], int(rows[i])) for i, n in enumerate(used)}
    kinds = [kind for kind in dict.fromkeys(colours.tolist()) if kind != stub]
    looks = {kind: SERIES[n % len(SERIES)] for n, kind in enumerate(kinds)} | {stub: INK}
    top = float(np.abs(array.values).max()) or 1.0
    fig, told, texts = Figure(), named(array), [escape(text) for text in _texts(ds, node)]
    for i in by_size(array.values)[::-1]:  # the widest last, in front
        value, (a, b), kind = float(array.values[i]), ends[:, i].tolist(), str(colours[i])
        start = place[a] if kind != stub else np.add(place[b], STUB)
        line = _line(start, place[b], value, max(WIDEST * abs(value) / top, THINNEST), looks[kind])
        sender = texts[a] if kind != stub else escape(stub)
        fig.add_trace(line.update(hovertemplate=f"{sender} → {texts[b]}<br>{told} {value:.3g}<extra></extra>"))
    behind = place[int(used[0])]  # where keys of the legend are drawn, without length
    for kind in (*kinds, *((stub,) if stub in colours else ())):
        fig.add_trace(_key(kind, behind, color=looks[kind], dash="solid"))
    if float(array.min()) < 0:
        fig.add_trace(_key("below 0", behind, color=INK, dash=BELOW))
    fig.add_trace(_nodes(ds, used, place, node, texts))
    _axes(fig, ds, used, (columns, rows), centres, (x, y))
    tall = 150 + 62 * (int(rows.max()) + 1)
    return finish(fig, ds, title, height=tall, arranged=arranged([{}], 1)).update_layout(margin={"b": 70})


def _dims(ds, name):
    return ds.coords[name].dims if name in ds.coords else ()


def _texts(ds, node):
    name = f"{node}_text"
    return ds[name].values.tolist() if name in ds.coords else [f"{node} {n}" for n in range(ds.sizes[node])]


def _ranked(values):
    """Places of values among those that occur, from 0."""
    return np.unique(values, return_inverse=True)[1].ravel()


def _spread(columns, rows):
    """(place of each node, {column: its middle}): columns as wide as their fullest row, nodes side by side in them."""
    across, centres, left = np.zeros(len(columns)), {}, 0.0
    for column in range(columns.max() + 1):
        here = np.flatnonzero(columns == column)
        wide = max(np.bincount(rows[here]).max(), 1)
        centres[column] = left + wide / 2
        for row in np.unique(rows[here]):
            some = here[rows[here] == row]
            across[some] = left + wide * (np.arange(len(some)) + 0.5) / len(some)
        left += wide + 0.35
    return across, centres


def _line(start, end, value, width, colour):
    (a, low), (b, high), bend = start, end, np.linspace(0, 1, 13)
    look = {"color": colour, "width": width, "dash": "solid" if value >= 0 else BELOW}
    across = a + (b - a) * bend * bend * (3 - 2 * bend)
    line = go.Scatter(x=across, y=low + (high - low) * bend, mode="lines", line=look, opacity=0.75)
    return line.update(showlegend=False)


def _key(name, behind, **look):
    x, y = ([at, at] for at in behind)
    return go.Scatter(x=x, y=y, mode="lines", line={"width": 3} | look, name=escape(name)).update(hoverinfo="skip")


def _nodes(ds, used, place, node, texts):
    name = f"{node}_short"
    labels = [escape(short(text, 12)) for text in (ds[name].values if name in ds.coords else texts)]
    x, y = zip(*(place[int(n)] for n in used), strict=True)
    look = {"size": 9, "color": INK, "line": {"width": 1, "color": "white"}}
    dots = go.Scatter(x=x, y=y, mode="markers+text", marker=look, text=[labels[n] for n in used])
    dots.update(
        textposition="middle right", textfont={"size": 11}, hovertext=[texts[n] for n in used], hoverinfo="text"
    )
    return dots.update(showlegend=False, cliponaxis=False)


def _axes(fig, ds, used, places, centres, names):
    for axis, place, name, at in (("xaxis", places[0], names[0], centres), ("yaxis", places[1], names[1], None)):
        text, texts = f"{name}_text", {}
        for i, n in enumerate(used):
            value = ds[name].values[n]
            word = str(ds[text].values[n]) if text in ds.coords else str(value)
            texts[int(place[i])] = escape(short(word, 16))
        ticks = sorted(texts)
        properties = {"tickvals": [at[t] if at else t for t in ticks], "ticktext": [texts[t] for t in ticks]}
        properties |= {
            "showgrid": axis == "yaxis",
            "automargin": True,
            "title": {"text": escape(spoken(name)), "standoff": 12},
        }
        fig.update_layout({axis: properties})
    fig.update_layout(yaxis={"range": [-0.5, max(places[1]) + 0.5]}, legend={"orientation": "h", "y": -0.1})
