"""Drawing: the right numbers on the right axes, colours by meaning, hostile text inert, input untouched."""

import json

import numpy as np
import pytest
import torch

from labkit import draw
from labkit.draw import theme
from labkit.errors import InputError
from labkit.notation import label

WORDS = ["<think>", " fox", " fox", "<script>alert(1)</script>", "a&b", "<b>"]


@pytest.fixture
def ds():
    """weight (head 3, token 5, source 6), keep (token 5, head 3), gate (head 3)."""
    r = torch.Generator().manual_seed(0)
    return label(
        {
            "weight": (("head", "token", "source"), torch.randn(3, 5, 6, generator=r)),
            "keep": (("token", "head"), torch.rand(5, 3, generator=r)),
            "error": (("head",), torch.rand(3, generator=r) * 7),
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


def every(ds):
    """One figure of each kind."""
    return [
        draw.heatmap(ds),
        draw.heatmap(ds, slider="head"),
        draw.heatmap(ds.isel(head=1)),
        draw.heatmap(ds, "keep", x="token", y="head"),
        draw.maps((ds.isel(head=0), "weight", "a <i>"), (ds, "keep", "b"), title="two <b> maps"),
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
        assert "3e-07 from the model's own next seam" in fig.layout.title.subtitle.text
        assert fig.layout.title.text
    assert ds.identical(before)


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
    fig = draw.heatmap(ds.isel(head=0))
    assert fig.layout.xaxis.tickvals == tuple(range(6))
    assert fig.layout.xaxis.ticktext[:3] == ("&lt;think&gt;", " fox", " fox")
    for fig in every(ds):
        text = json.dumps(json.loads(fig.to_json()))
        assert "<script" not in text and "<b>" not in text and "<think" not in text and "<i>" not in text


def test_three_heads_become_small_maps_and_many_become_a_slider(ds):
    assert len(draw.heatmap(ds).data) == 3
    many = ds.isel(head=[0, 1, 2] * 4).assign_coords(head=range(12))
    fig = draw.heatmap(many)
    assert len(fig.data) == 1 and len(fig.frames) == 12
    assert [step.label for step in fig.layout.sliders[0].steps] == [str(i) for i in range(12)]
    for i in (0, 7):
        shown, expected = np.array(fig.frames[i].data[0].z), np.array(many.weight[i])
        assert np.nanmax(abs(shown - expected)) < 1e-6
        assert fig.layout.sliders[0].steps[i].args[0] == (fig.frames[i].name,)


def test_lines_and_bars_carry_the_numbers(ds):
    fig = draw.lines(ds, "keep")
    assert len(fig.data) == 3 and fig.layout.yaxis.title.text == "α [fraction]"
    for i, trace in enumerate(fig.data):
        assert np.allclose(trace.y, ds.keep[:, i])
    bars = draw.bars(ds, "error")
    assert np.allclose(bars.data[0].y, ds.error) and bars.layout.xaxis.ticktext == ("0", "1", "4")


def test_tokens_show_each_token_once(ds):
    fig = draw.tokens(ds.isel(head=0), "keep", width=3)
    assert [a.text for a in fig.layout.annotations] == [theme.escape(w) for w in WORDS[1:]]
    z = np.array(fig.data[0].z)
    assert z.shape == (2, 3) and np.isnan(z[1, 2]) and z[1, 0] == pytest.approx(float(ds.keep[3, 0]))


def test_figures_are_small_and_never_offer_to_upload(ds):
    for fig in every(ds):
        bundle = fig._repr_mimebundle_()
        assert list(bundle) == ["application/vnd.plotly.v1+json"]
        shown = bundle["application/vnd.plotly.v1+json"]
        assert shown["config"]["showSendToCloud"] is False and shown["config"]["displaylogo"] is False
        assert len(json.dumps(shown)) < 30_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ds: draw.heatmap(ds, "gate"), "(?s)no such variable.*gate.*weight, keep, error"),
        (lambda ds: draw.heatmap(ds, x="layer"), "(?s)no such dim.*layer.*head, token, source"),
        (lambda ds: draw.heatmap(ds, "error"), "(?s)a map has two dims.*draw.bars"),
        (lambda ds: draw.heatmap(ds.isel(head=[])), "nothing to draw"),
        (lambda ds: draw.lines(ds, "weight"), "(?s)too many dims.*ds.sel"),
        (lambda ds: draw.lines(ds, "keep", x="source"), "(?s)no such dim.*source.*token, head"),
        (lambda ds: draw.tokens(ds, "keep"), "(?s)a strip has one dim.*ds.sel"),
        (lambda ds: draw.maps((ds, "weight", "x")), "(?s)a map has two dims"),
        (lambda ds: draw.maps(), "nothing to draw"),
        (lambda ds: draw.frames(ds, "keep", along="layer"), "no such dim"),
        (lambda ds: draw.frames(ds, "keep", along="head"), "(?s)maps of two dims"),
        (lambda ds: draw.panel(lambda: None), "a panel needs a control"),
        (lambda ds: draw.panel(lambda head: None, head=[]), "(?s)needs values.*head"),
    ],
)
def test_misuse(ds, call, message):
    with pytest.raises(InputError, match=message):
        call(ds)


def test_maps_too_large_for_a_browser_are_refused():
    big = label({"weight": (("token", "source"), torch.zeros(1001, 1000))})
    with pytest.raises(InputError, match="(?s)1,001,000 cells.*at most 1,000,000.*coarsen"):
        draw.heatmap(big)


def test_a_panel_follows_its_control_in_place_and_survives_errors(ds):
    def figure(head, form):
        if head == 2 and form == "bars":
            raise ValueError("<b>no bars</b> here")
        return draw.heatmap(ds.isel(head=head)) if form == "map" else draw.bars(ds, "error")

    panel = draw.panel(figure, head=range(3), form=["map", "bars"])
    widget, before = panel.figure, np.array(panel.figure.data[0].z)
    panel.controls["head"].value = 1
    assert panel.figure is widget and not np.allclose(np.nan_to_num(widget.data[0].z), np.nan_to_num(before))
    assert np.nanmax(abs(np.array(widget.data[0].z) - ds.weight[1].values)) < 1e-6
    panel.controls["form"].value = "bars"
    assert widget.data[0].type == "bar"
    panel.controls["head"].value = 2
    assert "&lt;b&gt;no bars" in panel.message.value and widget.data[0].type == "bar"
    panel.controls["form"].value = "map"
    assert panel.message.value == "" and widget.data[0].type == "heatmap"
    assert repr(panel) == "Panel(head=2, form=map)"
    assert widget._config["showSendToCloud"] is False
    assert panel._repr_mimebundle_()["text/plain"] == "Panel(head=2, form=map)"
