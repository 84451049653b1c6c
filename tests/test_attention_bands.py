"""The bands of a logit sum to it, at any place, scaling and cache; by distance they are means of themselves."""

import numpy as np
import pytest
import tiny
import torch

from labkit import attention, yarn
from labkit.errors import BudgetError, InputError, LayerError
from labkit.rotary import stretched

IDS = tiny.ids(150)


def test_the_attention_factor_multiplies_the_rotary_part_alone(lab):
    """m² on the rotated channels at every distance, 0 included; the others keep their logits."""
    run = lab.trace(IDS)
    with yarn.scaled(lab, 4, kind="none", attention_factor=1.2):
        grown = lab.trace(IDS)
    plain, more = (attention.bands(one, layer=2) for one in (run, grown))
    free = plain.part.sel(band="position-free")
    assert abs(more.part.sel(band="position-free") - free).max() == 0
    rotary = plain.logit - free
    assert abs(more.logit - (1.44 * rotary + free)).max() < 2e-5 * abs(plain.logit).max()
    assert float(abs(rotary.where(plain.distance == 0)).max()) > 0.1


@pytest.mark.parametrize("layer", [2, 4])
@pytest.mark.parametrize("by", ["class", "pair"])
def test_the_bands_of_a_logit_sum_to_it(lab, layer, by):
    run = lab.trace(IDS)
    ds = attention.bands(run, layer=layer, by=by, heads=[4, 1], rows=[7, 149, 0])
    whole = attention.pattern(run, layer=layer, heads=[4, 1], rows=[7, 149, 0], logits=True).logit
    seen = np.isfinite(whole.values)
    assert ds.part.dims == ("query_head", "token", "band", "source") and ds.query_head.values.tolist() == [4, 1]
    assert np.abs(ds.part.sum("band").values - whole.values)[seen].max() < 1e-4 * np.abs(whole.values[seen]).max()
    assert np.isnan(ds.logit.values[~seen]).all() and ds.attrs["parity"] < 1e-5
    assert ds.band.values[-1] == "position-free" and ds.sizes["band"] == (5 if by == "pair" else 4)
    assert (ds.distance == ds.token - ds.source).all()


def test_bands_under_a_scaling_and_at_chosen_places(lab):
    for options in (dict(factor=4), dict(factor=3, kind="linear"), dict(factor=4, ramp="paper", attention_factor=1)):
        with yarn.scaled(lab, **options):
            run = lab.trace(IDS, position_ids=torch.arange(150) * 5)
        ds = attention.bands(run, layer=4)
        whole = attention.pattern(run, layer=4, logits=True).logit.where(ds.logit.notnull())
        assert float(abs(ds.logit - whole).max()) < 1e-4 * float(abs(whole).max())
        assert int(ds.distance[10, 4]) == 30


def test_predictions_are_exact_where_no_scaling_reaches_the_inputs(lab):
    run = lab.trace(IDS)
    with yarn.scaled(lab, 4):
        again = lab.trace(IDS)
    first = attention.bands(run, layer=2, scaling=stretched(lab.spec, 4)), attention.bands(again, layer=2)
    assert float(abs(first[0].logit - first[1].logit).max()) < 1e-6 and first[0].attrs["scaling"] == "yarn 4"
    later = attention.bands(run, layer=4, scaling=stretched(lab.spec, 4)).logit - attention.bands(again, layer=4).logit
    moved = attention.bands(run, layer=4).logit - attention.bands(again, layer=4).logit
    assert 1e-3 < float((later**2).mean()) < float((moved**2).mean()), "closer than no prediction, not exact"
    assert first[0].attrs["parity"] < 1e-5, "the queries and keys that were frozen are the model's"
    same = attention.bands(run, layer=4, scaling=run.scaling)
    assert float(abs(same.logit - attention.bands(run, layer=4).logit).max()) == 0


def test_bands_by_distance_are_means_of_bands(lab):
    run = lab.trace(IDS)
    whole, ds = attention.bands(run, layer=4, heads=[4, 1]), attention.bands_by_distance(run, layer=4, heads=[4, 1])
    whole = whole.assign(part=whole.part - whole.part.mean("source"))  # from the row's mean
    bins = np.floor(np.log2(np.maximum(whole.distance.values, 0) + 1)).astype(int)
    seen = whole.distance.values >= 0
    assert ds.sizes["bin"] == 8 and int(ds["count"].sum()) == 150 * 151 // 2
    for n in range(8):
        part = whole.part.transpose("query_head", "band", ...).values[..., seen & (bins == n)]
        assert np.abs(ds.part.isel(bin=n).values - part.mean(-1)).max() < 1e-5
        assert np.abs(ds.spread.isel(bin=n).values - part.std(-1)).max() < 1e-4
    assert ds.bin_text.values[3] == "7–14" and ds.attrs["parity"] < 1e-5
    free = ds.part.sel(band="position-free") * 0 + 1
    assert free.notnull().all()


def test_bands_of_a_warm_run_are_those_of_the_cold_one(lab):
    for factor in (1, 4):
        with yarn.scaled(lab, factor):
            cache = lab.cache()
            lab.trace(IDS[:90], cache=cache)
            warm = attention.bands(lab.trace(IDS[90:], cache=cache), layer=4, rows=[0, 59])
            cold = attention.bands(lab.trace(IDS), layer=4, rows=[90, 149])
        assert warm.sizes["source"] == 150 and (warm.token == cold.token).all()
        assert np.nanmax(np.abs(warm.part.values - cold.part.values)) < 1e-3
        assert (np.isnan(warm.logit) == np.isnan(cold.logit)).all() and (warm.distance == cold.distance).all()
    far = lab.cache()
    lab.trace(IDS[:90], cache=far, position_ids=torch.arange(90) * 2)
    for cache in (far, lab.restore(lab.snapshot(far))):
        with pytest.raises(InputError, match="(?s)stand at chosen positions.*position_ids="):
            lab.trace(IDS[90:], cache=cache)
        rest = lab.trace(IDS[90:], cache=cache, position_ids=torch.arange(180, 240))
        with pytest.raises(InputError, match="(?s)positions of their own.*whole prompt traced at once"):
            attention.bands(rest, layer=4)
    with pytest.raises(InputError, match="(?s)snapshot's tokens stand at chosen positions.*position_ids="):
        lab.resume(lab.snapshot(far), IDS)


def test_bands_that_would_not_fit(lab, monkeypatch):
    from labkit.plan import card

    run = lab.trace(IDS)
    monkeypatch.setattr(card, "budget", lambda device: (3_000_000, "a small machine"))
    with pytest.raises(
        BudgetError, match=r"(?s)attention.bands of 150 tokens would not fit.*small machine.*try: rows=range"
    ):
        attention.bands(run, layer=2, by="pair")


def test_misuse(lab):
    run = lab.trace(IDS[:20])
    with pytest.raises(LayerError, match=r"deltanet.implied_row\(run, layer=0\)"):
        attention.bands(run, layer=0)
    with pytest.raises(InputError, match="(?s)no such bands.*octave.*'pair'"):
        attention.bands(run, layer=2, by="octave")
