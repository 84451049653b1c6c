"""Patching sweeps: a fork says what the whole prompt says, whatever is patched; kept, killed and spread alike."""

import functools
import itertools

import numpy as np
import pytest
import siblings
import tiny
import torch
import xarray

import labkit as lk
from labkit import attribution, edit, stats, sweeps
from labkit.attribution import cells, evidence, forks, patching
from labkit.errors import InputError, LayerError, ParityError

CLEAN, LENGTH = tiny.ids(13), 13
CORRUPT = torch.cat([CLEAN[:4], tiny.ids(3, seed=5), CLEAN[7:]])
OF, AGAINST = 3, 150
MODELS = {family: functools.partial(tiny.model, family=family) for family in sorted(tiny.FAMILY_SIZES)}
MODELS |= {"olmo_hybrid": siblings.olmo, "kimi_linear": siblings.kimi}


@pytest.fixture(scope="module", params=MODELS)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(MODELS[request.param]())


def sweep(lab, pairs=((CLEAN, CORRUPT),), **options):
    return attribution.patch_sweep(lab, list(pairs), of=OF, against=AGAINST, ends="any", **options)


def said(lab, ids, *edits):
    """The difference of the two logits, on the whole prompt."""
    with lab.edit(*edits):
        row = lab.logits(ids[None])[0]
    return float(row[OF] - row[AGAINST])


def held(lab, ids, after):
    cache = lab.cache()
    lab.trace(ids[: after + 1], layers=[0], cache=cache)
    return lab.snapshot(cache)


@pytest.mark.parametrize("layer", [1, 2], ids=["DeltaNet", "attention"])
def test_a_fork_is_a_rerun_of_heads_and_streams(own, layer):
    clean, tokens = own.trace(CLEAN), [5, 12, 7]
    heads = sweep(own, seam="gated", layers=layer if layer == 2 else [1], tokens=tokens).score[0]
    count = own.spec.query_heads if layer == 2 else own.spec.value_heads
    for reader, n in itertools.product(range(0, count, 2), range(3)):
        patch = edit.patch("gated", layer=layer, run=clean, heads=[reader], tokens=[tokens[n]])
        assert float(heads.squeeze("layer")[reader, n]) == pytest.approx(said(own, CORRUPT, patch), abs=1e-4)
    streams = sweep(own, seam="resid_post", layers=[layer], tokens=range(LENGTH)).score[0, 0]
    for token in (5, 8, 12):
        patch = edit.patch("resid_post", layer=layer, run=clean, tokens=[token])
        assert float(streams[token]) == pytest.approx(said(own, CORRUPT, patch), abs=1e-4)
    assert (
        np.ptp(streams[4:].values) > 0.01 and np.ptp(streams[:4].values) == 0
    )  # before the pair differs there is nothing to patch


@pytest.mark.parametrize("seam", ["state", "window"])
def test_a_fork_is_a_rerun_of_states(own, seam):
    ds, tokens = sweep(own, seam=seam, layers=[1, 3], tokens=[6, 10, 4]), (6, 10, 4)
    for (n, layer), (m, token) in itertools.product(enumerate((1, 3)), enumerate(tokens)):
        snap = held(own, CLEAN, token)
        for head in (0, 5) if seam == "state" else (None,):
            if seam == "state":
                change = edit.patch_state(snap, layer=layer, at=token, heads=[head], window=False)
            else:
                change = edit.state(None, layer=layer, at=token, window=lambda x, s=snap, n=layer: s.conv[n])
            found = ds.score[0, n, head, m] if seam == "state" else ds.score[0, n, m]
            assert float(found) == pytest.approx(said(own, CORRUPT, change), abs=1e-4)
    assert np.nanmax(abs(ds.change)) > 1e-3


@pytest.mark.parametrize("seam, kind", [("k", "attention"), ("v", "attention"), ("mlp_out", None), ("z", "deltanet")])
def test_every_seam_of_heads_and_channels(lab, seam, kind):
    clean = lab.trace(CLEAN)
    ds = sweep(lab, seam=seam, tokens=[-3, 6])
    layers = [n for n in range(5) if kind in (None, lab.spec.kind(n))]
    assert ds.layer.values.tolist() == layers and ds.token.values.tolist() == [-3, 6]
    for n, token in ((-1, 10), (0, 6)):
        heads = None if "reader" not in ds.dims else [1]
        patch = edit.patch(seam, layer=layers[n], run=clean, heads=heads, tokens=[token])
        found = ds.score[0, n].sel(token=token - LENGTH if token == 10 else token)
        assert float(found if heads is None else found.sel(reader=1)) == pytest.approx(
            said(lab, CORRUPT, patch), abs=1e-4
        )


def test_all_tokens_and_all_heads_at_once(lab):
    clean = lab.trace(CLEAN)
    each, together = sweep(lab), sweep(lab, whole=True)
    assert each.effect.dims == ("sample", "layer", "reader") and together.effect.dims == ("sample", "layer")
    assert each.effect.isnull().sum("reader")[0].values.tolist() == [0, 0, 3, 0, 3]
    for layer in (2, 3):
        patch = edit.patch("gated", layer=layer, run=clean, heads=[4])
        assert float(each.score[0, layer, 4]) == pytest.approx(said(lab, CORRUPT, patch), abs=1e-4)
        patch = edit.patch("gated", layer=layer, run=clean)
        assert float(together.score[0, layer]) == pytest.approx(said(lab, CORRUPT, patch), abs=1e-4)
        some = sweep(lab, layers=[layer], heads=[4, 1], whole=True).score[0, 0]
        patch = edit.patch("gated", layer=layer, run=clean, heads=[4, 1])
        assert float(some) == pytest.approx(said(lab, CORRUPT, patch), abs=1e-4)


def test_knocked_out_is_zero_or_the_mean_of_the_prompt(lab):
    mean = lab.trace(CLEAN).seams[2, "gated"].mean(0)[3]
    zero, usual = (
        attribution.patch_sweep(lab, [CLEAN], of=OF, against=AGAINST, layers=[2], put=put) for put in ("zero", "mean")
    )
    exact = said(lab, CLEAN, edit.scale("gated", layer=2, heads=[3], factor=0))
    assert float(zero.score[0, 0, 3]) == pytest.approx(exact, abs=1e-4)
    assert float(zero.effect[0, 0, 3]) == pytest.approx(1 - exact / float(zero.base[0]), abs=1e-3)
    exact = said(lab, CLEAN, edit.set("gated", layer=2, heads=[3], value=mean))
    assert float(usual.score[0, 0, 3]) == pytest.approx(exact, abs=1e-4)
    gone = attribution.patch_sweep(lab, [CLEAN], of=OF, against=AGAINST, seam="state", tokens=[5], put="zero")
    exact = said(lab, CLEAN, edit.state(lambda x: x * 0, layer=1, at=5, heads=[7]))
    assert float(gone.score.sel(layer=1, reader=7, token=5)[0]) == pytest.approx(exact, abs=1e-4)


def test_tokens_of_another_length_are_named(lab):
    longer = torch.cat([tiny.ids(2, seed=9), CLEAN])
    ds = sweep(lab, [(longer, CORRUPT)], seam="resid_post", layers=[2], tokens=[6, -1], source=[9, -1])
    for n, (token, source) in enumerate(((6, 9), (12, 14))):
        patch = edit.patch("resid_post", layer=2, run=lab.trace(longer), tokens=[token], source=[source])
        assert float(ds.score[0, 0, n]) == pytest.approx(said(lab, CORRUPT, patch), abs=1e-4)


@pytest.mark.parametrize("options", [dict(seam="gated"), dict(seam="resid_pre"), dict(seam="state")], ids=str)
def test_a_run_patched_with_itself_says_what_it_said(lab, options):
    ds = sweep(lab, [(CLEAN, CLEAN)], **options, tokens=[2, 5, 9])
    assert float(abs(ds.change).max()) == 0 and ds.effect.isnull().all() and ds["mean"].isnull().all()
    unit = {"ids": CLEAN.tolist(), "other": CLEAN.tolist(), "of": OF, "against": AGAINST}
    places = [[[options["seam"], 1, None, [token], [token]]] for token in (2, 5, 9)]
    found = forks.scores(lab, unit | {"cells": places}, put="other", batch=None)  # that really puts them there
    assert abs(found["score"] - found["base"][0]).max() < 1e-5


def test_rows_of_a_batch_do_not_see_each_other(lab):
    for options in (dict(seam="gated", tokens=[5, 9]), dict(seam="state", tokens=[5, 9])):
        at_once, one = sweep(lab, **options), sweep(lab, **options, batch=1)
        np.testing.assert_allclose(at_once.score, one.score, atol=1e-5)


def test_cells_that_begin_near_each_other_share_a_fork():
    cells_at = [[["gated", 0, 0, [token], [token]]] for token in (40, 10, 20, 63, 21, 10)]
    assert forks.shared(cells_at, 64) == [(10, [1, 5]), (20, [2, 4]), (40, [0]), (63, [3])]
    states = [[["state", 0, 0, [token], [token]]] for token in (40, 10, 41)]
    assert forks.shared(states, 640) == [(11, [1]), (41, [0]), (42, [2])]
    assert forks.shared([[], *cells_at[:1]], 64) == [(40, [1])]


def test_edits_that_are_open_hold_in_forks_too(lab):
    with lab.edit(edit.scale("gated", layer=1, factor=0.5), edit.state(lambda x: x / 2, layer=0, at=8)):
        ds = sweep(lab, seam="gated", layers=[3], tokens=[5, 10])
        patch = edit.patch("gated", layer=3, run=lab.trace(CLEAN), heads=[2], tokens=[5])
        assert float(ds.score[0, 0, 2, 0]) == pytest.approx(said(lab, CORRUPT, patch), abs=1e-4)


def test_a_fork_that_says_something_else_is_refused(lab, monkeypatch):
    rows = forks.Forks._rows
    monkeypatch.setattr(
        forks.Forks, "_rows", lambda self, most, fork: setattr(self, "ids", CLEAN) or rows(self, most, fork)
    )
    with pytest.raises(ParityError, match="a forked suffix does not say what the whole prompt says"):
        sweep(lab, seam="gated", layers=[1], tokens=[5])


# ------------------------------------------------------------------------------------------------------ what it says


def test_intervals_and_p_are_those_of_stats(lab):
    draws = xarray.DataArray(np.random.default_rng(3).normal(0.4, 1, (11, 3, 2)), dims=("sample", "layer", "reader"))
    draws[:, 1, 1], draws[4] = np.nan, np.nan
    ds = evidence.with_statistics(xarray.Dataset({"effect": draws, "change": 2 * draws}), "holm", 0)
    low, high = stats.bootstrap(draws)
    np.testing.assert_allclose(ds.low, low, atol=0.03)
    np.testing.assert_allclose(ds.high, high, atol=0.03)
    np.testing.assert_allclose(ds.p, stats.permutation(draws), atol=1e-12)  # 2^10 signs: exact
    known = np.isfinite(ds.p.values)
    np.testing.assert_allclose(ds.p_adjusted.values[known], stats.holm(ds.p.values[known]))
    assert not known[1, 1] and known.sum() == 5 and "5 cells" in ds.attrs["correction"]


def test_changes_that_rounding_makes_have_no_sign():
    """All of one sign and below what float32 rounds: no evidence; the same a hundred times as large is."""
    change = xarray.DataArray(np.full((9, 2), 0.9 * evidence.ROUNDED), dims=("sample", "reader"))
    change[:, 1] *= 100
    ds = evidence.with_statistics(xarray.Dataset({"effect": change, "change": change}), "holm", 0)
    assert ds.p.values.tolist() == [1, 2 / 2**9]


def test_p_of_many_prompts_is_drawn():
    draws = np.random.default_rng(0).normal(0.35, 1, (40, 2))
    drawn = stats.permutation(xarray.DataArray(draws, dims=("sample", "cell")))
    np.testing.assert_allclose(evidence.signed(draws, 0)[0], drawn, atol=0.01)
    assert evidence.signed(np.ones((40, 1)), 0)[0, 0] == 1 / (evidence.SIGNS + 1)


def test_the_dataset_says_what_it_is(lab):
    pairs = [(CLEAN, CORRUPT), (CLEAN.flip(0), CORRUPT.flip(0)), (CORRUPT, CLEAN)]
    ds = sweep(lab, pairs, layers=[1, 2], tokens=[-1, 6], correction="benjamini_hochberg")
    assert ds["mean"].dims == ds.low.dims == ds.p_adjusted.dims == ("layer", "reader", "token")
    assert ds.attrs["interval"] == "95 %, bootstrap over 3 prompts"
    assert ds.attrs["parity"] < 1e-5 and ds.attrs["samples"] == 3 and "benjamini_hochberg, 30 cells" in ds.correction
    way = (ds.reference - ds.base).values[:, None, None, None]
    np.testing.assert_allclose(ds.effect * way, ds.change, atol=1e-5)
    assert float(ds.base[0]) == pytest.approx(said(lab, CORRUPT), abs=1e-4)
    assert float(ds.reference[0]) == pytest.approx(said(lab, CLEAN), abs=1e-4)
    assert float(ds.p.min()) >= 2 ** (1 - 3)


# ---------------------------------------------------------------------------------------------- stores and clusters


PAIRS = [(tiny.ids(9, seed=n, vocab=90).tolist(), tiny.ids(9, seed=n + 50, vocab=90).tolist()) for n in range(4)]


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


def on_nano(nano, **options):
    given = dict(seam="gated", layers=[2, 3], tokens=[3, -1], ends="any")
    return attribution.patch_sweep(nano, PAIRS, of=3, against=[50, 60, 70, 80], **given, **options)


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_and_begun_again_it_is_the_same_table(nano, tmp_path, monkeypatch, seed):
    whole, real, left = on_nano(nano), forks.Forks.patched, int(np.random.default_rng(seed).integers(1, 8))
    calls = []

    def dies(self, *given):
        calls.append(1)
        if len(calls) == left:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(forks.Forks, "patched", dies)
    with pytest.raises(KeyboardInterrupt):
        on_nano(nano, store=tmp_path)
    done = len(list(tmp_path.glob("unit-*")))
    again = on_nano(nano, store=tmp_path)
    assert again.identical(whole) and len(calls) == left + 2 * (len(PAIRS) - done)


def test_a_cluster_gives_the_same_table(nano, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    quiet = dict(dashboard_address=":0", silence_logs=50)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet)
    with cluster, distributed.Client(cluster) as client:
        spread = on_nano(nano, client=client, store=tmp_path)
    xarray.testing.assert_allclose(spread.drop_attrs(), on_nano(nano).drop_attrs(), atol=1e-5)
    assert len(list(tmp_path.glob("unit-*"))) == len(PAIRS)


def test_many_cells_are_several_units(lab, monkeypatch):
    whole = sweep(lab, tokens=[5, 9])
    monkeypatch.setattr(cells, "BLOCK", 17)
    seen = []
    real = sweeps.results
    monkeypatch.setattr(patching.sweeps, "results", lambda *a, **k: (seen.append(r) or r for r in real(*a, **k)))
    np.testing.assert_allclose(sweep(lab, tokens=[5, 9]).score, whole.score, atol=1e-5)
    assert [len(each["score"]) for each in seen] == [17, 17, 17, 17, 10]


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "given, told",
    [
        (dict(pairs=[(CLEAN, CORRUPT[:9])]), "pairs of unequal lengths\n  got: 13 and 9 tokens"),
        (dict(tokens=[13]), "no such token in a prompt of 13\n  got: 13\n  expected: 0 to 12"),
        (dict(seam="state", tokens=[12]), "no such token in a prompt of 13\n  got: 12\n  expected: 0 to 11, since"),
        (dict(seam="state", tokens=[-1]), "no such token in a prompt of 13\n  got: -1"),
        (dict(seam="state"), "a state is patched after a token\n  got: tokens=None"),
        (
            dict(seam="state", tokens=[0], pairs=[(CLEAN[:1], CORRUPT[:1])]),
            "no token is read after a state\n  got: a prompt of 1 token\n  expected: 2 or more: a state is patched b",
        ),
        (
            dict(seam="window", pairs=[(CLEAN[:1], CORRUPT[:1])]),
            "no token is read after a window\n  got: a prompt of 1",
        ),
        (dict(seam="state", tokens=[3], put="mean", pairs=[CLEAN]), "a state has no mean over tokens"),
        (dict(seam="window", tokens=[3], heads=[1]), "all heads share a window"),
        (dict(heads=[9]), "no such head\n  got: \\[9\\]\n  expected: 0 to 8"),
        (dict(put="noise"), "unknown values\n  got: put='noise'"),
        (dict(put="zero"), "a prompt is one sequence|not token ids"),
        (dict(pairs=[CLEAN]), "values come from another prompt"),
        (dict(pairs=[]), "no list of prompts"),
        (dict(source=[3]), "`source` names tokens of the other prompt\n  got: tokens=None"),
        (dict(tokens=[3], source=[3, 4]), "one source per patched token\n  got: 2 sources"),
        (dict(heads=[8], whole=True), "no such head\n  got: \\[8\\]\n  expected: 0 to 5"),  # of attention layers
        (dict(heads=[]), "no such head\n  got: \\[\\]"),
        (dict(tokens=[]), "no token chosen"),
        (dict(correction="bonferroni"), "unknown correction\n  got: 'bonferroni'"),
        (dict(correction=["holm"]), "unknown correction"),
        (dict(seed=-1), "seed out of range"),
    ],
)
def test_questions_without_sense(lab, given, told):
    given = dict(given)
    with pytest.raises(InputError, match=told):
        sweep(lab, given.pop("pairs", [(CLEAN, CORRUPT)]), **given)


def test_seams_of_the_other_kind_are_refused(lab):
    with pytest.raises(LayerError, match="layer 2 is a attention layer and has no seam 'z'"):
        sweep(lab, seam="z", layers=[2])
    with pytest.raises(LayerError, match="carries no recurrent state"):
        sweep(lab, seam="state", layers=[2], tokens=[3])
    with pytest.raises(LayerError, match="seam 'resid_post' has no head axis"):
        sweep(lab, seam="resid_post", heads=[1])


def test_answers_are_one_token_each(nano):
    ask = functools.partial(attribution.patch_sweep, nano, [(" fox red.", " fox blue.")])
    with pytest.raises(InputError, match="an answer is one token"):
        ask(of=" red fox", against=" blue")
    with pytest.raises(InputError, match="an answer for each prompt, or one\n  got: 2 for 1 prompts"):
        ask(of=[" red", " blue"], against=" blue")
    with pytest.raises(InputError, match="the two answers are the same token"):
        ask(of=" red", against=" red")


def test_changes_that_rounding_alone_makes_have_no_sign():
    """A patch that cannot matter moves logits by their rounding, which may be all of one sign."""
    size = np.array([1e-7, 1e-3])
    draws = xarray.DataArray(np.ones((8, 1)) * size, dims=("sample", "layer"))
    ds = evidence.with_statistics(xarray.Dataset({"effect": draws, "change": draws}), "holm", 0)
    assert ds.p.values.tolist() == [1.0, 2 / 2**8]
