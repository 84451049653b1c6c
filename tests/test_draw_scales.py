"""Magnitudes stand at their values, names one beside the other; nothing in a figure is told by colour alone."""

import json

import numpy as np
import pytest
import xarray

from labkit import draw
from labkit.draw import theme
from labkit.draw.scales import place, scale, widths
from labkit.errors import InputError
from labkit.notation import label, together


def series(dim, values, *, words=False, rows=3, name="effect"):
    """effect (row, `dim`) at these places, and the ends of an interval of each."""
    data = np.random.default_rng(0).standard_normal((rows, len(values)))
    ends = {"effect": data, "low": data - 2, "high": data + 3}
    coords = {dim: values} | ({f"{dim}_text": (dim, [f"w{n}" for n in range(len(values))])} if words else {})
    return label({key: (("row", dim), part, "effect") for key, part in ends.items()}, coords=coords)


@pytest.mark.parametrize(
    ("dim", "values", "kind"),
    [
        ("gap", [16, 96, 496], "log"),
        ("length", [256, 512, 1024, 2048], "linear"),
        ("length", [128, 512, 1024, 4096], "log"),
        ("depth", [0.0, 0.1, 0.5, 1.0], "linear"),
        ("facts after", [4, 16, 32, 48, 60], "linear"),
        ("step", [64, 128, 192, 1280, 1301], "linear"),
        ("step", [1, 2, 4, 8, 400], "log"),
        ("token", [2, 3, 5, 11], "linear"),
        ("gap", [10, 20, 30], None),
        ("gap", [16, 496], None),
        ("gap", [96, 16, 496], None),
        ("gap", [16, np.nan, 496], None),
        ("layer", [0, 1, 2, 4], None),
        ("query_head", [0, 1, 400], None),
        ("policy", ["a", "b", "c"], None),
        ("flag", [False, True, True], None),
    ],
)
def test_uneven_magnitudes_stand_at_their_values(dim, values, kind):
    """In lines, bars and maps; an axis that is logarithmic says so, and ticks stand where values do."""
    ds = series(dim, values)
    assert scale(ds.effect, dim) == kind
    for fig in (draw.lines(ds, "effect", x=dim), draw.bars(ds, "effect", x=dim)):
        axis = fig.layout.xaxis
        where = range(len(values)) if kind is None else values
        x = [trace.x for trace in fig.data]
        assert all(row is None if kind is None else np.array_equal(row, values) for row in x)
        assert axis.type == ("log" if kind == "log" else None)
        assert axis.title.text.endswith(", log scale") == (kind == "log")
        shown = [float(where[list(map(str, axis.ticktext)).index(text)]) for text in axis.ticktext]
        assert len(shown) > 1 or len(set(values)) < 3
        if kind is not None:
            assert np.allclose(axis.tickvals, shown, rtol=1e-3, atol=1e-3)
    map_ = draw.heatmap(ds, "effect", x=dim).data[0]
    assert (map_.x is None) == (kind is None or dim == "token")


def test_rows_of_tokens_stay_one_place_each_in_maps_alone():
    ds = series("token", [2, 3, 5, 11], words=True)
    cells, line = draw.heatmap(ds, "effect"), draw.lines(ds, "effect")
    assert cells.data[0].x is None and list(line.data[0].x) == [2, 3, 5, 11]
    assert line.layout.xaxis.labelalias["5"] == "5 w2" and cells.layout.xaxis.labelalias["2"] == "5 w2"


def test_upright_lines_stand_where_their_values_do():
    """Between places, beyond them, on either kind of axis; and the axis holds them."""
    even, uneven = series("gap", [10, 20, 30]), series("gap", [16, 96, 496])
    for ds, value, at in ((even, 25, 1.5), (even, 50, 4.0), (even, 0, -1.0), (uneven, 200, 200), (uneven, 9000, 9000)):
        fig = draw.lines(ds, "effect", x="gap", at={"here": value}, levels={"chance": 5.0})
        (shape,) = fig.layout.shapes
        assert shape.x0 == shape.x1 == at == place(ds.effect, "gap", value)
        assert min(fig.layout.xaxis.autorangeoptions.include) <= at <= max(fig.layout.xaxis.autorangeoptions.include)
        (level,) = [trace for trace in fig.data if trace.name == "chance"]
        ends = (16, 496) if ds is uneven else (0, 2)
        assert tuple(level.x) == ends and tuple(level.y) == (5.0, 5.0)


def test_a_place_that_a_logarithmic_axis_lacks_is_told():
    for value in (0, -3.0):
        with pytest.raises(InputError, match="a logarithmic axis has no such place\n  got: gap "):
            draw.lines(series("gap", [16, 96, 496]), "effect", x="gap", at={"here": value})


def test_ticks_stand_a_hair_beside_their_places_on_either_scale():
    for values in ([1, 10, 100, 1000, 10000], [3, 4, 6, 7, 11]):
        axis = draw.lines(series("token", values, words=True), "effect").layout.xaxis
        ticks = np.array([axis.tickvals, values], float)
        ticks = np.log(ticks) if axis.type == "log" else ticks
        off = (ticks[0] - ticks[1]) / np.ptp(ticks[1])
        assert axis.type == ("log" if values[0] == 1 else None) and (abs(off) < 1e-3).all() and (off != 0).all()
        assert (off[:-1] > 0).all() and off[-1] < 0


def test_a_page_takes_a_figure_that_asks_for_no_height(tmp_path):
    fig = draw.lines(series("gap", [16, 96, 496]), "effect", x="gap").update_layout(height=None)
    assert "height: 450px" in draw.page(tmp_path / "page.html", [fig], title="one").read_text(encoding="utf-8")


def test_the_axis_of_a_fraction_holds_its_levels_and_intervals():
    ds = label({name: (("token",), [0.2, 0.9], "keep") for name in ("keep", "low", "high")})
    ds = ds.assign(low=ds.low - 0.4, high=ds.high + 0.3)
    assert draw.lines(ds, "keep").layout.yaxis.range == (-0.02, 1.02)
    for drawn in (draw.lines, draw.bars):
        low, high = drawn(ds, "keep", x="token", interval=("low", "high"), levels={"bound": 1.5}).layout.yaxis.range
        assert low == pytest.approx(-0.22) and high == pytest.approx(1.52)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("values", [[16, 96, 496], [256, 512, 1024, 2048]])
def test_bars_to_scale_stand_on_their_values_and_do_not_meet(values, stacked):
    fig = draw.bars(series("gap", values), "effect", x="gap", color="row", stacked=stacked)
    ends = []
    for bar in fig.data:
        left = np.array(bar.x) + (-np.array(bar.width) / 2 if stacked else bar.offset)
        ends += list(zip(left, left + bar.width, range(len(values)), strict=True))
    for at in range(len(values)):
        low, high = (pick([end[i] for end in ends if end[2] == at]) for i, pick in ((0, min), (1, max)))
        assert low < values[at] < high and low > 0
        others = [end for end in ends if end[2] != at]
        assert all(end[1] <= low or end[0] >= high for end in others)
    if not stacked:
        mine = sorted(end[:2] for end in ends if end[2] == 1)
        assert all(one[1] <= other[0] + 1e-9 for one, other in zip(mine, mine[1:], strict=False))


def test_widths_are_equal_on_the_axis():
    left, right = widths(np.array([16, 96, 496]), "log")
    assert np.allclose(right / left, (right / left)[0]) and np.allclose(np.sqrt(left * right), [16, 96, 496])


# without colour ----------------------------------------


def grey(colour):
    """Luminance of a colour, 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def test_the_first_eight_lines_and_bars_differ_without_colour():
    ds = series("token", list(range(5)), rows=8)
    lines, bars = draw.lines(ds, "effect", color="row").data, draw.bars(ds, "effect", x="token", color="row").data
    assert len({line.line.dash for line in lines}) == 8 == len({line.marker.symbol for line in lines})
    assert len({bar.marker.pattern.shape for bar in bars}) == 8
    long = draw.lines(series("token", list(range(60)), rows=8), "effect", color="row").data
    assert len({line.line.dash for line in long}) == 8 and {line.mode for line in long} == {"lines"}


def test_negative_cells_carry_a_sign():
    """In every step of a slider too; none where a value is lighter than a tenth of the range, or maps are too large."""
    values = np.array([[[-5.0, -0.4, 0.4, 5.0]], [[-0.6, 3.0, np.nan, -2.0]]])
    ds = label({"effect": (("head", "row", "column"), values, "effect")})
    marks = [["\u2212", "", "", ""], ["\u2212", "", "", "\u2212"]]
    fig = draw.heatmap(ds, "effect", facet="head")
    assert [list(trace.text[0]) for trace in fig.data] == marks and fig.data[0].texttemplate == "%{text}"
    fig = draw.heatmap(ds, "effect", slider="head")
    assert [list(frame.data[0].text[0]) for frame in fig.frames] == marks
    assert (
        draw.heatmap(abs(ds).assign(effect=abs(ds.effect).assign_attrs(scale="positive")), "effect").data[0].text
        is None
    )
    large = label({"effect": (("row", "column"), np.full((65, 64), -1.0), "effect")})
    assert draw.heatmap(large, "effect").data[0].text is None
    assert draw.heatmap(large.isel(row=slice(64)), "effect").data[0].text[3][5] == "\u2212"
    ends = [grey(colour) for at, colour in theme.SIGNED if at in (0, 1)]
    assert abs(ends[0] - ends[1]) > 0.08, "and the ends differ in lightness"


def test_a_map_of_few_cells_says_its_intervals():
    ds = series("gap", [16, 96, 496])
    fig = draw.heatmap(ds, "effect", interval=("low", "high"), hover=["low"])
    trace, value = fig.data[0], float(ds.effect[1, 2])
    assert trace.text[1][2] == f"{value:.2g}<br>{value - 2:.2g} to {value + 3:.2g}"
    assert np.allclose(trace.customdata[1][2], [value - 2, value - 2, value + 3], atol=1e-5)
    assert "interval %{customdata[1]:.4g} to %{customdata[2]:.4g}" in trace.hovertemplate


# words ----------------------------------------


def test_no_raw_name_is_shown_on_axes_hovers_legends_and_sliders():
    r = np.random.default_rng(0)
    dims, quiet = ("kv_head", "source_block", "query_head"), {"a_raw_name": None}
    sizes = (9, 4, 5)
    ds = label({name: (dims, r.random(sizes), what) for name, what in quiet.items()})
    ds = ds.assign_coords(kv_head=range(9))
    figures = [
        draw.heatmap(ds, "a_raw_name", hover=["a_raw_name"]),
        draw.lines(ds.isel(kv_head=[0, 1]), *LINES, **AXES),
    ]
    figures += [
        draw.bars(ds.isel(kv_head=0), "a_raw_name"),
        draw.tokens(ds.isel(kv_head=0, query_head=0), "a_raw_name"),
    ]
    for fig in figures:
        text = json.dumps(json.loads(fig.to_json()) | {"layout": json.loads(fig.to_json())["layout"] | {"template": 0}})
        assert not [name for name in (*dims, "a_raw_name") if name in text], fig.layout.title
    assert "key/value head" in figures[0].layout.sliders[0].currentvalue.prefix
    assert (
        figures[0].layout.yaxis.title.text == "block of sources" and "a raw name" in figures[2].layout.yaxis.title.text
    )


LINES, AXES = ("a_raw_name",), {"x": "source_block", "color": "query_head", "facet": "kv_head"}


def test_a_symbol_follows_the_quantity_and_not_the_name():
    """A ratio that is called `share` is no share of a state, and terms put together have no symbol of the first."""
    ratio = label({"share": (("head",), [0.5, 2.0], None)})
    assert draw.bars(ratio, "share").layout.yaxis.title.text == "share"
    parts = {name: (("head",), [1.0, 2.0], name) for name in ("decayed", "erased", "written")}
    terms = together(dict(label(parts).data_vars)).to_dataset(name="norms")
    fig = draw.bars(terms, "norms", x="head", color="term")
    assert fig.layout.yaxis.title.text == "norms [norm]" and [bar.name for bar in fig.data] == list(parts)
    own = label({"x": (("prompt", "facts after"), np.ones((2, 3)), None)}, coords={"facts after": [1, 2, 3]})
    assert draw.lines(own, "x", x="facts after").layout.xaxis.title.text == "facts after"
    assert isinstance(own, xarray.Dataset)
