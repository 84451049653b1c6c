"""Drawing: the right numbers on the right axes, colours by meaning, hostile text inert, input untouched."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
import xarray

from labkit import draw
from labkit.draw import theme
from labkit.draw.words import escape
from labkit.errors import InputError
from labkit.notation import label

WORDS = ["<think>", " fox", " fox", "<script>alert(1)</script>", "a&b $x^2$", "<b>"]


@pytest.fixture
def ds():
    """weight (head 3, token 5, source 6), keep (head 3, token 5), error (head 3)."""
    r = torch.Generator().manual_seed(0)
    return label(
        {
            "weight": (("head", "token", "source"), torch.randn(3, 5, 6, generator=r), "weight"),
            "keep": (("head", "token"), torch.rand(3, 5, generator=r), "keep"),
            "error": (("head",), torch.rand(3, generator=r) * 7, "error"),
        },
        coords={
            "head": [0, 1, 4],
            "token": [1, 2, 3, 4, 5],
            "token_text": ("token", WORDS[1:]),
            "source": range(6),
            "source_text": ("source", WORDS),
        },
        attrs={"model": "nano", "layer": 2, "reading": "deltanet.memory", "parity": 3e-7, "tolerance": 1e-4},
    )


def states(ds):
    """state (head 3, token 4, key 5, value 7), as a reading at four tokens gives it."""
    r = torch.Generator().manual_seed(1)
    data = {"state": (("head", "token", "key", "value"), torch.randn(3, 4, 5, 7, generator=r), "state")}
    coords = {"token": [2, 3, 5, 11], "token_text": ("token", WORDS[2:]), "head": [0, 1, 4]}
    return label(data, coords=coords, attrs=ds.attrs)


def every(ds):
    """One figure of each kind."""
    return [
        draw.heatmap(ds),
        draw.heatmap(ds, slider="head"),
        draw.heatmap(states(ds), "state"),
        draw.heatmap(ds.isel(head=1)),
        draw.heatmap(ds, "keep", x="token", y="head"),
        draw.maps((ds.isel(head=0), "weight", "a <i>"), (ds, "keep", "b"), title="two <b> maps"),
        draw.maps((ds, "weight", "a"), (ds.isel(head=0), "weight", "<b>"), slider="head"),
        draw.frames(ds, along="head"),
        draw.lines(ds, "keep"),
        draw.lines(ds, "keep", facet="head"),
        draw.bars(ds, "error"),
        draw.bars(ds, "keep", x="token"),
        draw.tokens(ds.isel(head=2), "keep"),
    ]


def test_drawing_leaves_the_data_alone_and_shows_its_facts(ds):
    before = ds.copy(deep=True)
    for fig in every(ds):
        assert fig.layout.meta["labkit"]["layer"] == 2
        assert "within 1e-05 of the model's own next seam" in fig.layout.title.subtitle.text
        assert fig.layout.title.text
    assert ds.identical(before)


@pytest.mark.parametrize(
    ("error", "said"), [(0.0, "1e-05"), (9.9e-6, "1e-05"), (1e-5, "1e-05"), (1.1e-5, "1e-04"), (0.004, "1e-02")]
)
def test_the_proof_is_a_bound_that_other_processors_keep(ds, error, said):
    fig = draw.bars(ds.assign_attrs(parity=error), "error")
    assert f"within {said} of" in fig.layout.title.subtitle.text


def test_rows_run_down_columns_right_and_later_sources_are_blank(ds):
    fig = draw.heatmap(ds.isel(head=1))
    z = np.array(fig.data[0].z)
    assert z.shape == (5, 6) and fig.layout.yaxis.autorange == "reversed"
    for i, token in enumerate(ds.token.values):
        for j, source in enumerate(ds.source.values):
            expected = float(ds.weight[1, i, j])
            assert np.isnan(z[i, j]) if source > token else z[i, j] == pytest.approx(expected)
    turned = draw.heatmap(ds.isel(head=1), x="token", y="source")
    assert np.array(turned.data[0].z).shape == (6, 5)
    assert np.array(turned.data[0].z)[0, 3] == pytest.approx(float(ds.weight[1, 3, 0]))


def test_colours_follow_the_meaning(ds):
    signed = draw.heatmap(ds.isel(head=0)).layout.coloraxis
    top = float(abs(ds.weight[0]).max())
    assert (signed.cmin, signed.cmax) == (pytest.approx(-top), pytest.approx(top))
    fraction = draw.heatmap(ds, "keep").layout.coloraxis
    assert (fraction.cmin, fraction.cmax) == (0, 1)
    assert theme.colours(ds.error)["zmin"] == 0 and theme.colours(ds.error)["zmax"] == pytest.approx(ds.error.max())
    assert signed.colorbar.title.text == "A" and fraction.colorbar.title.text == "α [fraction]"


def test_equal_tokens_stay_apart_and_texts_are_inert(ds):
    for fig in (draw.heatmap(ds.isel(head=0)), draw.lines(ds, "keep"), draw.bars(ds, "keep", x="token")):
        axis = fig.layout.xaxis
        at = [round(value) for value in axis.tickvals]
        assert at == list(range(len(at))) and np.allclose(axis.tickvals, at, atol=0.01)
    axis = draw.heatmap(ds.isel(head=0)).layout.xaxis
    assert axis.ticktext[:4] == ("&lt;think&gt;", " fox", " fox", "&lt;script&gt;ale…")
    assert axis.labelalias["2"] == "2  fox" and axis.labelalias["4"] == "4 a&amp;b &#36;x^2&#36;"
    assert axis.labelalias["3"] == "3 &lt;script&gt;alert(1)&lt;/script&gt;"
    for fig in every(ds):
        text = re.sub("<br>|<extra></extra>", "", fig.to_json())
        assert not re.search(r"<\w|</|\$", text)


def test_many_tokens_are_thinned_to_ticks_that_fit():
    words = [f"w{i}" for i in range(300)]
    coords = {"token": range(300), "token_text": ("token", words)}
    long = label({"keep": (("token",), torch.rand(300), "keep")}, coords=coords)
    axis = draw.lines(long, "keep").layout.xaxis
    assert 20 < len(axis.ticktext) <= 36 and len(axis.labelalias) == 300
    assert [f"w{round(at)}" for at in axis.tickvals] == list(axis.ticktext)


def test_three_heads_become_small_maps_and_many_become_a_slider(ds):
    few = draw.heatmap(ds)
    assert [a.text for a in few.layout.annotations] == ["head 0", "head 1", "head 4"] and not few.frames
    for i, trace in enumerate(few.data):
        assert np.nanmax(abs(trace.z - ds.weight[i].values)) < 1e-6 and trace.coloraxis == "coloraxis"
    many = ds.isel(head=[0, 1, 2] * 4).assign_coords(head=range(12))
    fig = draw.heatmap(many)
    assert len(fig.data) == 1 and len(fig.frames) == 12
    steps = fig.layout.sliders[0].steps
    assert [step.label for step in steps] == [str(i) for i in range(12)]
    for i in (0, 7):
        shown, expected = np.array(fig.frames[i].data[0].z), np.array(many.weight[i])
        assert shown.shape == (5, 6) and np.nanmax(abs(shown - expected)) < 1e-6
        assert steps[i].args[0] == (fig.frames[i].name,)
    assert len({frame.name for frame in fig.frames}) == 12
    top = float(abs(many.weight).max())
    assert fig.layout.coloraxis.cmax == pytest.approx(top), "one colour range for all steps"


def test_the_hover_tells_other_variables(ds):
    """In small maps and in every step of a slider, each cell's own, and the names are escaped."""
    size = ds.weight.isel(token=0, drop=True) * 3  # (head, source)
    more = ds.assign(size=size.assign_attrs(symbol="<b>"))
    for options in ({"facet": "head"}, {"slider": "head"}, {"slider": "token", "y": "head"}):
        fig = draw.heatmap(more, hover=["size", "keep"], **options)
        shown = fig.data[0]
        assert shown.customdata.shape == (*shown.z.shape, 2)
        assert "<br>&lt;b&gt; %{customdata[0]:.4g}" in shown.hovertemplate and "customdata[1]" in shown.hovertemplate
    fig = draw.heatmap(more, hover=["size", "keep"], slider="head")
    for i, frame in enumerate(fig.frames):
        told, seen = frame.data[0].customdata, ~np.isnan(frame.data[0].z)
        expected = np.broadcast_to(size.values[i], seen.shape)
        np.testing.assert_allclose(told[..., 0][seen], expected[seen], rtol=1e-6)
        np.testing.assert_allclose(told[3, 0, 1], ds.keep.values[i, 3], rtol=1e-6)
    with pytest.raises(InputError, match="(?s)'keep' has dims that the map lacks.*token"):
        draw.heatmap(more, "size", hover=["keep"])


def test_a_slider_can_start_elsewhere(ds):
    first, last = (draw.frames(ds.isel(token=slice(-3, None)), along="token", y="head", start=n) for n in (0, -1))
    assert (first.layout.sliders[0].active, last.layout.sliders[0].active) == (0, 2)
    np.testing.assert_array_equal(last.data[0].z, first.frames[2].data[0].z)
    assert len(last.frames) == 3 and not np.array_equal(last.data[0].z, first.data[0].z, equal_nan=True)
    with pytest.raises(InputError, match="(?s)token out of range.*0 to 2"):
        draw.frames(ds.isel(token=slice(-3, None)), along="token", y="head", start=3)


def test_a_state_is_small_maps_of_heads_with_a_slider_over_tokens(ds):
    chosen = states(ds)
    fig = draw.heatmap(chosen, "state")
    assert len(fig.data) == 3 and len(fig.frames) == 4
    assert [step.label for step in fig.layout.sliders[0].steps] == ["2  fox", *map(full, (3, 5, 11), WORDS[3:])]
    for t, frame in enumerate(fig.frames):
        assert frame.traces == (0, 1, 2)
        for h in range(3):
            assert np.allclose(frame.data[h].z, chosen.state[h, t]), "rows are keys, columns values"
    same = draw.frames(chosen, "state", along="token")
    assert same.to_json() == fig.to_json()
    turned = draw.heatmap(chosen, "state", slider="head", facet="token", x="key", y="value")
    assert np.allclose(turned.frames[1].data[3].z, chosen.state[1, 3].T)


def full(at, word):
    return escape(f"{at} {word}")


def test_lines_and_bars_carry_the_numbers(ds):
    fig = draw.lines(ds, "keep")
    assert len(fig.data) == 3 and fig.layout.yaxis.title.text == "α [fraction]"
    for i, trace in enumerate(fig.data):
        assert np.allclose(trace.y, ds.keep[i])
    bars = draw.bars(ds, "error")
    assert np.allclose(bars.data[0].y, ds.error) and bars.layout.xaxis.ticktext == ("0", "1", "4")


def test_an_interval_reaches_from_its_low_to_its_high_end(ds):
    """Both ends at different distances, so that taking one for the other moves them; also in groups of bars."""
    ends = ds.assign(low=ds.keep - 0.05 - 0.1 * ds.keep, high=ds.keep + 0.3)
    for options, parts in (({}, [ends.isel(head=1)]), ({"color": "head"}, [ends.isel(head=i) for i in range(3)])):
        source = ends.isel(head=1) if not options else ends
        fig = draw.bars(source, "keep", x="token", interval=("low", "high"), **options)
        assert len(fig.data) == len(parts)
        for bar, part in zip(fig.data, parts, strict=True):
            assert np.allclose(bar.y + bar.error_y.array, part.high) and bar.error_y.symmetric is False
            assert np.allclose(bar.y - bar.error_y.arrayminus, part.low)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [-5.0, 1.0], [np.nan, -3.0, 0.5], [0.0, 0.0]])
def test_signed_colours_are_centred_on_0(values):
    """A value and its opposite lie equally far from the colour of 0, however lopsided the data."""
    ds = label({"effect": (("token",), np.array(values), "effect")})
    top = np.nanmax(np.abs(values)) or 1.0
    look = theme.colours(ds.effect)
    assert (look["zmin"], look["zmax"]) == (-top, top)
    cells = draw.tokens(ds, "effect").data[0]
    assert (cells.zmin, cells.zmax) == (-top, top)
    whole = draw.heatmap(ds.expand_dims(head=2), "effect").layout.coloraxis
    assert (whole.cmin, whole.cmax) == (-top, top)
    places, colours = zip(*look["colorscale"], strict=True)
    assert np.allclose(np.add(places, places[::-1]), 1) and colours[places.index(0.5)] == "#f5f5f5"
    assert theme.colours(abs(ds.effect).assign_attrs(ds.effect.attrs))["zmin"] == -top, "by meaning, not by sign"


def test_several_layers_are_a_first_axis(ds):
    """(layer, head, token): a slider or lines over layers, named in the title; none is left out."""
    deep = ds.keep.expand_dims(layer=[1, 5]).copy(data=np.stack([ds.keep, ds.keep / 2])).to_dataset()
    deep.attrs = ds.attrs | {"layer": [1, 5]}
    fig = draw.heatmap(deep, "keep", slider="layer")
    assert len(fig.data) == 1 and [step.label for step in fig.layout.sliders[0].steps] == ["1", "5"]
    assert np.allclose(fig.frames[1].data[0].z, ds.keep / 2) and fig.layout.title.text.startswith("layers 1, 5 · ")
    assert fig.layout.meta["labkit"]["layer"] == [1, 5]
    few = draw.heatmap(deep, "keep")
    assert [note.text for note in few.layout.annotations] == ["layer 1", "layer 5"]
    fig = draw.lines(deep.isel(head=2), "keep", color="layer")
    assert [trace.name for trace in fig.data] == ["layer 1", "layer 5"] and np.allclose(fig.data[1].y, ds.keep[2] / 2)
    fig = draw.lines(deep, "keep", color="layer", facet="head")
    assert len(fig.data) == 6 and np.allclose(fig.data[5].y, ds.keep[2] / 2)
    with pytest.raises(InputError, match=r"(?s)left over: layer \(2\).*ds.isel\(layer=0\)"):
        draw.lines(deep, "keep")
    blocks = label(
        {"keep": (("layer", "head", "block", "bin"), torch.rand(2, 9, 4, 3), "histogram")},
        coords={"layer": [1, 5], "head": range(9)},
    )
    fig = draw.heatmap(blocks, "keep")
    assert (len(fig.data), len(fig.frames)) == (2, 9) and np.allclose(fig.frames[7].data[1].z, blocks.keep[1, 7])


def test_lines_in_small_figures_share_one_zoom(ds):
    fig = draw.lines(ds, "keep", facet="head")
    assert len(fig.data) == 3 and fig.layout.xaxis2.matches == "x" and fig.layout.yaxis3.matches == "y"
    assert fig.layout.xaxis.matches is None
    assert np.allclose(fig.data[2].y, ds.keep[2])


def test_maps_zoom_together_only_if_their_axes_say_the_same(ds):
    one = draw.maps((ds.isel(head=0), "weight", "left"), (ds.isel(head=1), "weight", "right"))
    assert one.layout.xaxis2.matches == "x" and one.layout.yaxis2.matches == "y"
    other = ds.isel(head=1).assign_coords(source_text=("source", WORDS[::-1]))
    two = draw.maps((ds.isel(head=0), "weight", "left"), (other, "weight", "right"))
    assert two.layout.xaxis2.matches is None and two.layout.yaxis2.matches == "y"
    assert (two.data[0].coloraxis, two.data[1].coloraxis) == ("coloraxis", "coloraxis2")


def test_maps_of_different_axes_keep_both_titles(ds):
    """Rows 0 to 2 of one kind of head beside rows 0 to 2 of another: alike in words, and not the same axis."""
    other = ds.weight.isel(token=0, drop=True).rename(head="query_head").to_dataset(name="weight")
    mine = ds.weight.isel(token=0, drop=True).to_dataset(name="weight")
    fig = draw.maps((mine, "weight", "a"), (other, "weight", "b"))
    assert (fig.layout.yaxis.title.text, fig.layout.yaxis2.title.text) == ("head", "query head")
    assert draw.maps((mine, "weight", "a"), (mine, "weight", "b")).layout.yaxis2.title.text is None
    with pytest.raises(InputError, match="(?s)a panel is .ds, name, subtitle.*2 entries"):
        draw.maps((mine, "weight"))


def test_one_slider_moves_all_maps_that_have_it(ds):
    still = ds.isel(head=2)
    fig = draw.maps((ds, "weight", "left"), (still, "weight", "still"), (-ds, "weight", "right"), slider="head")
    assert len(fig.data) == 3 and len(fig.frames) == 3
    assert [step.label for step in fig.layout.sliders[0].steps] == ["0", "1", "4"]
    for i, frame in enumerate(fig.frames):
        assert frame.traces == (0, 2) and frame.name == fig.layout.sliders[0].steps[i].args[0][0]
        for sign, part in zip((1, -1), frame.data, strict=True):
            assert np.nanmax(abs(part.z - sign * ds.weight[i].values)) < 1e-6
        assert [part.coloraxis for part in frame.data] == ["coloraxis", "coloraxis3"]
    assert fig.layout.coloraxis.cmax == pytest.approx(float(abs(ds.weight).max()))
    assert fig.layout.coloraxis2.cmax == pytest.approx(float(abs(still.weight).max()))


def test_tokens_show_each_token_once(ds):
    fig = draw.tokens(ds.isel(head=0), "keep", width=3)
    cells, text = fig.data
    assert list(text.text) == [" fox", " fox", "&lt;script…", escape("a&b $x^…"), "&lt;b&gt;"]
    assert list(zip(text.x, text.y, strict=True)) == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    z = np.array(cells.z)
    assert z.shape == (2, 3) and np.isnan(z[1, 2]) and z[1, 0] == pytest.approx(float(ds.keep[0, 3]))
    assert cells.customdata[0][2] == "3 &lt;script&gt;alert(1)&lt;/script&gt;"


def test_text_stands_out_from_its_cell():
    array = xarray.DataArray([0.0, 1.0, np.nan], dims="token", attrs={"scale": "fraction"})
    assert theme.ink(array, theme.colours(array)) == ["#111827", "#ffffff", theme.INK]
    signed = xarray.DataArray([-2.0, 0.0, 2.0], dims="token", attrs={"scale": "signed"})
    assert theme.ink(signed, theme.colours(signed)) == ["#ffffff", "#111827", "#ffffff"]


def test_long_titles_wrap_and_numpy_facts_are_kept(ds):
    ds.attrs |= {"layer": np.int64(2), "parity": np.float32(3e-7)}
    fig = draw.bars(ds, "error", title="a & b " * 30)
    assert fig.layout.title.text.count("<br>") == 2 and "a &amp; b" in fig.layout.title.text
    assert fig.layout.margin.t > draw.bars(ds, "error").layout.margin.t
    assert fig.layout.meta["labkit"]["layer"] == 2 and "within 1e-05" in fig.layout.title.subtitle.text


def test_figures_are_small_and_never_offer_to_upload(ds, tmp_path):
    for fig in every(ds):
        bundle = fig._repr_mimebundle_()
        assert list(bundle) == ["application/vnd.plotly.v1+json"] and fig._repr_html_() is None
        shown = bundle["application/vnd.plotly.v1+json"]
        assert shown["config"]["showSendToCloud"] is False and shown["config"]["displaylogo"] is False
        assert len(json.dumps(shown)) < 15_000
    fig.write_html(tmp_path / "a.html", include_plotlyjs=False)
    for page in (fig.to_html(include_plotlyjs=False), (tmp_path / "a.html").read_text(encoding="utf-8")):
        assert '"showSendToCloud": false' in page


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ds: draw.heatmap(ds, "gate"), r"(?s)no such variable.*got: gate\n.*expected: weight, keep, error\n"),
        (lambda ds: draw.heatmap(ds, x="layer"), "(?s)no such dim.*layer.*head, token, source"),
        (lambda ds: draw.heatmap(ds, "error"), "(?s)a map has two dims.*draw.bars"),
        (lambda ds: draw.heatmap(ds.isel(head=[])), "nothing to draw"),
        (lambda ds: draw.heatmap(ds.weight), "(?s)labelled dataset.*DataArray.*to_dataset"),
        (lambda ds: draw.heatmap(ds, x="head", facet="head"), "(?s)a dim has one place.*head, head"),
        (lambda ds: draw.heatmap(ds, "keep", facet="head"), "(?s)a map has two dims"),
        (lambda ds: draw.lines(ds, "weight"), r"(?s)too many dims.*head \(3\).*ds.isel\(head=0\)"),
        (lambda ds: draw.heatmap(states(ds).expand_dims(layer=9), "state"), r"(?s)left over: token \(4\)"),
        (lambda ds: draw.bars(ds.isel(head=0), "error"), "(?s)bars need a dim.*one number"),
        (lambda ds: draw.tokens(ds.isel(head=0), "keep", width=0), "(?s)width out of range.*width=0"),
        (lambda ds: draw.tokens(ds.isel(head=0, token=[0] * 4097), "keep"), "(?s)too many tokens.*4,097.*draw.lines"),
        (lambda ds: draw.lines(ds, "keep", x="source"), "(?s)no such dim.*source.*head, token"),
        (lambda ds: draw.tokens(ds, "keep"), "(?s)a strip has one dim.*ds.isel"),
        (lambda ds: draw.maps((ds, "weight", "x")), "(?s)a map has two dims"),
        (lambda ds: draw.maps(), "nothing to draw"),
        (lambda ds: draw.maps((ds, "weight", "x"), slider="layer"), "(?s)no such dim.*layer.*head, token, source"),
        (
            lambda ds: draw.maps((ds, "weight", "x"), (ds.isel(head=[0, 1]), "weight", "y"), slider="head"),
            r"(?s)differ along it.*'0', '1'\), \('0', '1', '4'",
        ),
        (lambda ds: draw.frames(ds, "keep", along="layer"), "no such dim"),
        (lambda ds: draw.frames(ds, "keep", along="head"), "(?s)a map has two dims"),
        (lambda ds: draw.panel(lambda: None), "a panel needs a control"),
        (lambda ds: draw.panel(lambda head: None, head=[]), "(?s)needs values.*head"),
        (lambda ds: draw.panel(lambda head: ds, head=[1]), "(?s)returns a figure.*Dataset"),
        (lambda ds: draw.panel(draw.heatmap(ds), head=[1]), "(?s)calls a function.*Figure"),
        (lambda ds: draw.panel(lambda n: draw.frames(ds, along="head"), n=[1]), "(?s)slider of its own.*3 frames"),
    ],
)
def test_misuse(ds, call, message):
    with pytest.raises(InputError, match=message):
        call(ds)


def test_maps_too_large_for_a_browser_are_refused():
    big = label({"weight": (("token", "source"), torch.zeros(1001, 1000), "weight")})
    for call in (draw.heatmap, lambda ds: draw.lines(ds, "weight")):
        with pytest.raises(InputError, match="(?s)1,001,000 cells.*at most 1,000,000.*coarsen"):
            call(big)


def test_a_panel_follows_its_control_in_place_and_survives_errors(ds):
    def figure(head, form):
        if head == 2 and form == "bars":
            raise ValueError("<b>no bars</b> here")
        return draw.heatmap(ds.isel(head=head)) if form == "map" else draw.bars(ds, "error")

    panel = draw.panel(figure, head=range(3), form=["map", "bars"])
    widget, shown = panel.figure, lambda: np.array(panel.figure.data[0].z, dtype=float)
    before = shown()
    panel.controls["head"].value = 1
    assert panel.figure is widget and np.nanmax(abs(shown() - before)) > 0.01
    assert np.isnan(shown()).any() and np.nanmax(abs(shown() - ds.weight[1].values)) < 1e-6
    assert not any(value != value for row in widget.data[0].z for value in row), "JSON knows no not-a-number"
    panel.controls["form"].value = "bars"
    assert widget.data[0].type == "bar"
    panel.controls["head"].value = 2
    assert "&lt;b&gt;no bars" in panel.message.value and widget.data[0].type == "bar"
    panel.controls["form"].value = "map"
    assert panel.message.value == "" and widget.data[0].type == "heatmap"
    assert repr(panel) == "Panel(head=2, form=map)"
    assert widget._config["showSendToCloud"] is False
    assert panel._repr_mimebundle_()["text/plain"] == "Panel(head=2, form=map)"


def test_a_panel_sends_only_what_changed(ds):
    def figure(head, title):
        fig = draw.heatmap(ds.isel(head=head), title=title)
        return fig.add_annotation(text="here", x=1, y=1) if head == 0 else fig

    panel = draw.panel(figure, head=range(3), title=["one", "two"])
    sent = []
    panel.figure._send_update_msg = lambda restyle_data, relayout_data=None, **more: sent.append(
        (restyle_data, relayout_data)
    )
    panel.controls["title"].value = "two"
    assert "two</div>" in panel.heading.value and panel.figure.layout.title.text is None
    assert not sent, "the figure, and with it a zoom, is not touched"
    panel.controls["head"].value = 1
    assert not panel.figure.layout.annotations, "what the new figure lacks goes away"
    panel.controls["head"].value = 0
    assert [note.text for note in panel.figure.layout.annotations] == ["here"]
    assert len(panel.figure.to_json()) < 15_000


def counted(x, y, cells=20):
    """A map that says which x and y every one of its cells begins at: x + y / 1000."""
    places = [[a + i * (b - a) // min(cells, b - a) for i in range(min(cells, b - a))] for a, b in (x, y)]
    values = np.array(places[0])[None] + np.array(places[1])[:, None] / 1000
    return draw.heatmap(xarray.Dataset({"weight": (("row", "column"), values)}))


def shown_bounds(zoom):
    first = zoom.figure.data[0].z[0][0]
    return int(first), round(1000 * (first % 1))


def test_a_zoom_asks_for_what_the_box_touches_and_leads_back():
    zoom = draw.zoom(counted, x=400, y=(100, 700))
    assert repr(zoom) == "Zoom(x=(0, 400), y=(100, 700))" and zoom.back.disabled
    zoom.figure.layout.xaxis.range = (3.2, 10.7)  # cells 3.2 + 0.5 to 10.7 + 0.5, so 3 up to 12, of 20 each
    assert (zoom.x, zoom.y) == ((60, 240), (100, 700)) and shown_bounds(zoom) == (60, 100)
    assert zoom.figure.layout.xaxis.range is None, "the new map fills the figure"
    assert zoom.figure.layout.yaxis.autorange == "reversed"
    zoom.figure.update_layout({"xaxis": {"range": (-2, 1.4)}, "yaxis": {"range": (8.5, 4.5)}})  # down the page
    assert (zoom.x, zoom.y) == ((60, 78), (250, 370)) and shown_bounds(zoom) == (60, 250)
    zoom.figure.layout.xaxis.range = (17.6, 99)
    assert zoom.x == (77, 78), "one token, the last"
    zoom.figure.layout.xaxis.range = (0.1, 0.2)
    assert zoom.x == (77, 78) and len(zoom.past) == 3, "closer is not possible"
    zoom.back.click()
    assert zoom.x == (60, 78) and not zoom.back.disabled
    zoom.whole.click()
    assert (zoom.x, zoom.y) == ((0, 400), (100, 700)) and zoom.back.disabled and zoom.whole.disabled
    stored = zoom._repr_mimebundle_()
    assert stored["text/plain"] == repr(zoom) and stored["application/vnd.plotly.v1+json"]["config"] == draw.CONFIG
    assert len(stored["application/vnd.plotly.v1+json"]["data"]) == 1


def test_a_zoom_survives_what_its_function_raises():
    def picky(x, y):
        if x[0]:
            raise ValueError("<b>no</b>")
        return counted(x, y)

    zoom = draw.zoom(picky, x=400, y=400)
    zoom.figure.layout.xaxis.range = (3.5, 8.5)
    assert "&lt;b&gt;no" in zoom.message.value and zoom.x == (0, 400) and shown_bounds(zoom) == (0, 0)
    zoom.figure.layout.yaxis.range = (8.5, 3.5)
    assert zoom.message.value == "" and zoom.y == (80, 180)
    with pytest.raises(InputError, match=r"(?s)something to show.*x=\(0, 0\)"):
        draw.zoom(counted, x=0, y=4)


def test_controls_follow_their_values(ds):
    values = dict(a=range(2, 9, 3), b=[0, 1, 2, 4], c=[False, True], d=np.array([3, 4]), e=["x"], f=[7])
    panel = draw.panel(lambda **chosen: draw.bars(ds, "error"), **values)
    kinds = {name: type(widget).__name__ for name, widget in panel.controls.items()}
    assert [name for name in kinds if kinds[name] == "IntSlider"] == ["a", "d"]
    slider = panel.controls["a"]
    assert (slider.min, slider.max, slider.step) == (2, 8, 3)
    assert repr(panel) == "Panel(a=2, b=0, c=False, d=3, e=x, f=7)"


HOVER = """<!doctype html><body>{figure}<script>window.onload = () => {{
  const plot = document.querySelector(".js-plotly-plot");
  Plotly.Fx.hover(plot, {{xval: 3, yval: 2}}, "xy");
  document.body.dataset.ready = "yes";
}}</script></body>"""


@pytest.mark.browser
def test_a_browser_shows_hostile_tokens_as_plain_text(ds, tmp_path):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no browser on the path")
    page = tmp_path / "page.html"
    figure = draw.heatmap(ds.isel(head=0)).to_html(full_html=False, include_plotlyjs=True)
    page.write_text(HOVER.format(figure=figure), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--virtual-time-budget=8000"]
    command = [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-ready="yes"' in dom
    ticks = re.findall(r'class="xtick".*?<text[^>]*>(.*?)</text>', dom, re.DOTALL)
    assert ticks == ["&lt;think&gt;", " fox", " fox", "&lt;script&gt;ale…", "a&amp;b $x^2$", "&lt;b&gt;"]
    (hover,) = re.findall(r'<g class="hovertext".*?</g>', dom, re.DOTALL)
    text = re.sub(r"<[^>]*>", "|", hover)
    assert "token 3 &lt;script&gt;alert(1)&lt;/script&gt;" in text and "source 3 &lt;script&gt;alert(1)" in text
    shown = float(re.search(r"A (\S+?)\|", text)[1].replace("−", "-"))
    assert shown == pytest.approx(float(ds.weight[0, 2, 3]), rel=1e-3)
    assert "Share" not in "".join(re.findall(r'data-title="([^"]*)"', dom))


def test_a_page_of_several_figures_is_one_file_without_a_network(ds, tmp_path):
    figures = [draw.heatmap(ds, "weight", facet="head"), (draw.lines(ds, "keep"), "words <script>alert(2)</script>")]
    path = draw.page(tmp_path / "new" / "page.html", figures, title="<b> & more", text="a  <td>\nb")
    text = path.read_text(encoding="utf-8")
    assert text.count('<div class="plot"') == 2 and text.count("plotly.js v") == 1
    assert "<title>&lt;b&gt; &amp; more</title>" in text and "<pre>a  &lt;td&gt;\nb</pre>" in text
    assert "words &lt;script&gt;alert(2)&lt;/script&gt;" in text and "<script>alert" not in text
    assert "default-src 'none'" in text and not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    assert "prefers-color-scheme: dark" in text and '"showSendToCloud": false' in text
    policy = re.search("script-src ([^;]*);", text)[1].split()
    scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)  # plotly.js, and what draws with it; nothing else
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy == [f"'sha256-{digest}'" for digest in digests] and len(scripts) == 2
    shown = [json.loads(part) for part in re.findall('-plot-json">(.*?)</script>', text)]
    assert [len(figure["data"]) for figure in shown] == [len(figures[0].data), len(figures[1][0].data)]
    with pytest.raises(InputError, match="(?s)without figures.*at least one"):
        draw.page(tmp_path / "none.html", [], title="x")
