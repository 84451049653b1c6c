"""A window is a part of the dense map, at any scale."""

import math

import pytest
import tiny
import torch

from labkit import attention
from labkit.attention import softmax
from labkit.errors import InputError, LayerError

IDS = tiny.ids(150)


@pytest.mark.parametrize("warm", [0, 61], ids=["cold", "warm"])
def test_a_window_is_a_part_of_the_map_at_any_scale(lab, warm, monkeypatch):
    cache = lab.cache() if warm else None
    if warm:
        lab.trace(IDS[:warm], cache=cache)
    run = lab.trace(IDS[warm:], cache=cache)
    whole = torch.tensor(attention.pattern(run, layer=4, heads=[4, 1]).weight.values).double()
    monkeypatch.setattr(softmax, "ELEMENTS", 2 * 150 * 13)  # parts of 13 rows
    for rows, sources, cells in [(None, None, 7), ((70, 131), (10, 90), 9), ((149, 150), (0, 150), 400)]:
        (a, b), (c, d) = rows or (warm, 150), sources or (0, 150)
        options = dict(
            rows=rows and range(a - warm, b - warm), sources=sources and range(c - 150, d - 150), cells=cells
        )
        ds = attention.window(run, layer=4, heads=[4, 1], **options)
        down = [a + i * (b - a) // min(cells, b - a) for i in range(min(cells, b - a) + 1)]
        right = [c + i * (d - c) // min(cells, d - c) for i in range(min(cells, d - c) + 1)]
        assert ds.mass.dims == ("query_head", "token", "source") and ds.query_head.values.tolist() == [4, 1]
        assert ds.token.values.tolist() == [t - 1 for t in down[1:]] and ds.source.values.tolist() == right[:-1]
        masses, lifts = ds.mass.values, ds.lift.values
        for n, p in enumerate(whole):
            for i, (top, low) in enumerate(zip(down, down[1:], strict=False)):
                for j, (left, end) in enumerate(zip(right, right[1:], strict=False)):
                    mass = float(p[top - warm : low - warm, left:end].sum(1).mean())
                    assert abs(masses[n, i, j] - mass) < 1e-6
                    even = sum(max(min(end, t + 1) - left, 0) / (t + 1) for t in range(top, low)) / (low - top)
                    lift = math.log2(max(mass, 1e-6) / even) if even else math.nan
                    assert lifts[n, i, j] == pytest.approx(lift, abs=1e-4, nan_ok=True)
    assert str(ds.token_text.values[0]) == run.tokens[-1] and ds.attrs["parity"] < 1e-5
    first, last = attention.window(run, layer=4, heads=0, rows=range(2), cells=2), run.tokens[1]
    assert first.token.values.tolist() == [warm, warm + 1] and str(first.token_text.values[1]) == last
    assert str(first.source_text.values[0]) == f"0–{(150 - 75) - 1}" and first.sizes["query_head"] == 1


def test_sources_are_relative_to_the_run_and_reach_back_into_the_cache(lab):
    """0 is the run's first token, -1 its last, -len(run) - 1 the last of the cache; coordinates are absolute."""
    cache = lab.cache()
    lab.trace(IDS[:61], cache=cache)
    run = lab.trace(IDS[61:], cache=cache)
    whole = attention.window(run, layer=4, rows=range(5), cells=150)
    asked = {
        (61, 64): range(3),
        (147, 150): range(-3, 0),
        (60, 61): -90,
        (58, 63): range(-92, -87),
        (0, 150): range(-150, 0),
        (149, 150): [88],
    }
    for (first, end), sources in asked.items():
        part = attention.window(run, layer=4, rows=range(5), sources=sources, cells=150)
        assert part.source.values.tolist() == list(range(first, end))
        assert (part.mass.values == whole.mass.values[..., first:end]).all()
    expected = r"(?s)source out of range.*0 to 88, or -150 to -1, of which those below -89 are cached; None for all"
    for outside in (range(86, 90), [-151], 89):
        with pytest.raises(InputError, match=expected):
            attention.window(run, layer=4, sources=outside)
    with pytest.raises(InputError, match="no source chosen"):
        attention.window(run, layer=4, sources=[])
    with pytest.raises(InputError, match=r"(?s)sources of a window follow one another.*\[149, 61\]"):
        attention.window(run, layer=4, sources=range(-1, 1))


def test_window_misuse(lab):
    run = lab.trace(IDS[:30])
    with pytest.raises(LayerError, match=r"(?s)attention.window: layer 3.*try: deltanet.implied_row\(run, layer=3\)"):
        attention.window(run, layer=3, heads=0)
    with pytest.raises(InputError, match=r"(?s)token out of range.*\[30\].*0 to 29"):
        attention.window(run, layer=4, heads=0, rows=range(31))
    with pytest.raises(InputError, match=r"(?s)sources of a window follow one another.*\[5, 7\].*range\(64, 128\)"):
        attention.window(run, layer=4, heads=0, sources=[5, 7])
    with pytest.raises(InputError, match="(?s)cells out of range.*cells=0"):
        attention.window(run, layer=4, heads=0, cells=0)
