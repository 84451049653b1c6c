"""A graph: every node stands in its row and column, every edge is as wide as its value and joins its two nodes."""

import numpy as np
import pytest
import xarray

from labkit import draw
from labkit.errors import InputError

VALUES = [3.0, -1.5, 0.5, 0.75]
KINDS = ["stream", "write", "stream", "rest"]


def made(**changes):
    """Four edges over five nodes: 1 and 2 in one cell of row 3, 3 below them, 0 above; 4 is where rests come from."""
    edge = {"sender": [1, 2, 3, 4], "receiver": [0, 0, 2, 1], "kind": KINDS} | changes
    node = {"at_token": [9, 9, 9, 5, -1], "level": [12, 3, 3, 0, 0]}
    node |= {"node_text": ["the $logit$", "head <b>1</b>", "head 2", "fox 5", "rest"], "node_short": list("LABF-")}
    node |= {"at_token_text": ["q", "q", "q", "fox", ""], "level_text": ["logit", "reads", "reads", "tokens", "tokens"]}
    coords = {name: ("edge", values) for name, values in edge.items()}
    coords |= {name: ("node", values) for name, values in node.items()}
    attrs = {"symbol": "c", "units": "nat", "scale": "signed"}
    return xarray.Dataset({"value": ("edge", VALUES, attrs)}, coords=coords)


def drawn(fig):
    """({node text: place}, [(start, end, trace)] of the edges) of a graph."""
    dots = next(trace for trace in fig.data if trace.mode == "markers+text")
    lines = [trace for trace in fig.data if trace.mode == "lines" and not trace.showlegend and len(trace.x) > 1]
    place = dict(zip(dots.text, zip(dots.x, dots.y, strict=True), strict=True))
    return place, [((t.x[0], t.y[0]), (t.x[-1], t.y[-1]), t) for t in lines]


def test_nodes_stand_in_rows_and_columns_without_room_for_those_that_are_empty():
    fig = draw.graph(made())
    place, _ = drawn(fig)
    assert set(place) == {"L", "A", "B", "F"}, "where rests come from is no node of the picture"
    assert [place[name][1] for name in "FABL"] == [0, 1, 1, 2]
    assert place["F"][0] < place["A"][0] < place["L"][0] < place["B"][0]
    assert fig.layout.yaxis.ticktext == ("tokens", "reads", "logit") and fig.layout.xaxis.ticktext == ("fox", "q")
    assert fig.layout.xaxis.tickvals[1] == pytest.approx(place["L"][0])


def test_edges_join_their_nodes_and_are_as_wide_as_their_values():
    place, lines = drawn(draw.graph(made()))
    ends = {tuple(np.round((*start, *end), 6)): trace for start, end, trace in lines}
    joined = {(a, b): ends[tuple(np.round((*place[a], *place[b]), 6))] for a, b in ("AL", "BL", "FB")}
    widths = [joined[pair].line.width for pair in (("A", "L"), ("B", "L"), ("F", "B"))]
    assert np.allclose(np.array(widths) / widths[0], [1, 0.5, 1 / 6])
    assert [joined[tuple(pair)].line.dash for pair in ("AL", "BL", "FB")] == ["solid", "dot", "solid"]
    assert joined["A", "L"].line.color == joined["F", "B"].line.color != joined["B", "L"].line.color
    (stub,) = [(start, end) for start, end, _ in lines if end == place["A"]]
    assert stub[0][0] < place["A"][0] and stub[0][1] < place["A"][1]


def test_the_legend_names_kinds_once_and_what_is_below_0():
    names = [trace.name for trace in draw.graph(made()).data if trace.showlegend is not False]
    assert names == ["stream", "write", "rest", "below 0"]
    above = made().assign(value=lambda ds: abs(ds.value))
    assert "below 0" not in [trace.name for trace in draw.graph(above).data]


def test_texts_are_inert_and_values_are_under_the_pointer():
    fig = draw.graph(made(), title="a claim")
    told = [trace.hovertemplate for trace in fig.data if trace.hovertemplate]
    assert any("head &lt;b&gt;1&lt;/b&gt; → the &#36;logit&#36;<br>c [nat] 3<" in text for text in told)
    assert fig.layout.title.text == "a claim" and fig.layout.meta["labkit"] == {}


@pytest.mark.parametrize(
    ("ds", "options", "match"),
    [
        (made(), dict(name="nothing"), "no such variable"),
        (made().drop_vars("kind"), {}, "(?s)a graph has coordinates.*none called kind.*along 'edge'"),
        (made(), dict(y="floor"), "(?s)none called floor"),
        (made(sender=[1, 2, 3, 5]), {}, "(?s)an edge joins two nodes.*nodes 0 to 5.*0 to 4"),
        (made().isel(edge=np.zeros(301, int)), {}, "(?s)too many edges to follow.*got: 301.*at most 300"),
        (made().expand_dims(part=2), {}, "(?s)edges have one dim"),
    ],
)
def test_what_is_no_graph_is_refused(ds, options, match):
    with pytest.raises(InputError, match=match):
        draw.graph(ds, **options)
