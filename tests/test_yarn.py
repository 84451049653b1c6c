"""The stretched window: tables, scopes, bands, counterfactuals and probes, each against a law."""

import copy
import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
import tiny
import torch
import xarray
from transformers.cache_utils import Cache, DynamicCache

import labkit as lk
from labkit import attention, deltanet, edit, passes, plan, spec, stats, stream, yarn
from labkit.errors import BackendError, BudgetError, InputError
from labkit.rotary import Scaling
from labkit.trace import cache_parameter
from labkit.yarn import counterfactual, losses, margins

BIG = spec.read("Qwen3.6-27B")
IDS = tiny.ids(150)


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


# ------------------------------------------------------------------------------------------------------- tables


def test_the_pairs_of_the_27b():
    """Ten of 32 never turn once in the window; 15 untouched, 7 blended, 10 interpolated; m and m² at 4 and 2."""
    ds = yarn.wavelengths(BIG)
    assert ds.sizes["pair"] == 32 and int((ds.turns < 1).sum()) == 10 and (ds.turns[22:] < 1).all()
    assert [int((ds.kind == kind).sum()) for kind in yarn.CLASSES] == [15, 7, 10]
    assert ds.attrs["attention_factor"] == pytest.approx(1.13863, abs=1e-5) and ds.attrs[
        "attention_factor"
    ] ** 2 == pytest.approx(1.2965, abs=1e-4)
    assert yarn.wavelengths(BIG, 2).attrs["attention_factor"] ** 2 == pytest.approx(1.1434, abs=1e-4)
    for pair, wavelength, turns in ((0, 6.283, 41_722), (14, 7256, 36.1), (18, 54_410, 4.82), (22, 408_019, 0.643)):
        assert float(ds.wavelength[pair]) == pytest.approx(wavelength, rel=2e-4)
        assert float(ds.turns[pair]) == pytest.approx(turns, rel=2e-3)
    exact = 2 * math.pi / yarn.frequencies(BIG)
    assert (
        np.allclose(ds.scaled_wavelength, exact)
        and yarn.frequencies(BIG, 1, dtype=torch.float32).dtype == torch.float32
    )
    slowed = [1.103, 1.231, 1.391, 1.6, 1.882, 2.286, 2.909, 4]
    assert ds.slowed[15:23].values == pytest.approx(slowed, abs=6e-4)
    paper = [1.326, 1.835, 2.388, 2.921, 3.376, 3.726, 3.976, 4]
    assert yarn.wavelengths(BIG, ramp="paper").slowed[15:23].values == pytest.approx(paper, abs=6e-4)
    half = [1.067, 1.143, 1.231, 1.333, 1.455, 1.6, 1.778, 2]
    assert yarn.wavelengths(BIG, 2).slowed[15:23].values == pytest.approx(half, abs=6e-4)


@pytest.mark.parametrize(("factor", "most"), [(4, 0.45), (2, 0.25)])
def test_the_two_ramps_differ_most_at_pair_18(factor, most):
    index, paper = (yarn.wavelengths(BIG, factor, ramp=ramp).slowed for ramp in ("index", "paper"))
    differ = 1 - index / paper
    assert int(differ.argmax("pair")) == 18 and float(differ.max()) == pytest.approx(most, abs=0.005)
    assert np.flatnonzero(differ > 1e-3).tolist() == list(range(15, 22))


def test_phases_at_a_million_tokens():
    ds = yarn.phase_coverage(BIG, 1_010_000)
    plain, scaled = ds.sel(scaling="none"), ds.sel(scaling="yarn 4")
    assert int(plain.covered.sum()) == 22 and not plain.covered[22:].any() and scaled.covered.all()
    assert float(scaled.new.max()) == 0 and (plain.new[22:] > 0).all() and float(plain.new[:22].max()) == 0
    for pair, without, with_ in ((16, 50.8, 41.3), (21, 4.10, 1.41), (22, 2.48, 0.619), (24, 0.904, 0.226)):
        assert float(plain.turns[pair]) == pytest.approx(without, rel=2e-3)
        assert float(scaled.turns[pair]) == pytest.approx(with_, rel=5e-3)
    assert (ds.attrs["channels"], ds.attrs["position_free"]) == (64, 192)
    assert (ds.attrs["attention_layers"], ds.attrs["layers"]) == (16, 64)
    inside = yarn.phase_coverage(BIG, BIG.window)
    assert inside.covered.all() and float(inside.new.max()) == 0
    with pytest.raises(InputError, match="(?s)tokens out of range.*1 or more"):
        yarn.phase_coverage(BIG, 0)


def test_errors_of_phases_grow_with_the_position():
    ds = yarn.phase_error(BIG)
    assert ds.phase.max("pair").values == pytest.approx([0.009, 0.018, 0.035], abs=6e-4)
    assert (ds.phase.argmax("pair") == 1).all() and (ds.phase[:, 0] == 0).all()
    assert 2**-10 < float(ds.bfloat16.max()) < 2**-8 and float(ds.half_angles[0].max()) > 100


# -------------------------------------------------------------------------------------------------------- scopes


def test_factor_one_is_the_identity_and_the_scope_restores_exactly(lab):
    base, module = lab.trace(IDS).logits, lab.model.model.rotary_emb
    before = (
        module.inv_freq.clone(),
        module.inv_freq.data_ptr(),
        module.attention_scaling,
        lab.window,
        dict(vars(module)),
    )
    for kind in ("yarn", "linear", "ntk", "none"):
        with yarn.scaled(lab, 1, kind=kind):
            assert torch.equal(lab.trace(IDS).logits, base)
    with pytest.raises(RuntimeError, match="stop"), yarn.scaled(lab, 4):
        assert not torch.equal(lab.trace(IDS).logits, base) and lab.window == 2048
        with yarn.scaled(lab, 2, ramp="paper"):
            assert lab.window == 1024 and str(lab.scaling) == "yarn 2 paper ramp"
        assert lab.window == 2048 and str(lab.scaling) == "yarn 4"
        raise RuntimeError("stop")
    after = module.inv_freq, module.inv_freq.data_ptr(), module.attention_scaling, lab.window
    assert torch.equal(before[0], after[0]) and before[1:4] == after[1:] and vars(module).keys() == before[4].keys()
    assert torch.equal(lab.trace(IDS).logits, base) and lab.scaling == Scaling() and not tiny.hooks(lab.model)


@pytest.mark.parametrize(("kind", "factor"), [("yarn", 4.0), ("yarn", 1.5), ("linear", 3.0)])
def test_switching_in_place_equals_a_model_built_that_way(lab, kind, factor):
    rope = tiny.SIZES["rope_parameters"] | {
        "rope_type": kind,
        "factor": factor,
        "original_max_position_embeddings": 512,
    }
    built = tiny.make_lab(tiny.model(rope_parameters=rope))
    with yarn.scaled(lab, factor, kind=kind):
        assert torch.equal(lab.trace(IDS).logits, built.trace(IDS).logits)
        assert lab.window == built.window == 512 * factor and lab.scaling.same(built.scaling, 512)
    assert built.spec.window == 512


def test_a_cache_belongs_to_one_scaling(lab, tmp_path):
    cache = lab.cache()
    lab.trace(IDS[:100], cache=cache)
    snap = lab.snapshot(cache)
    with yarn.scaled(lab, 4):
        for made in (cache, lab.restore(snap)):
            with pytest.raises(
                InputError, match="(?s)another rotary scaling.*under none, now yarn 4.*inside the scope"
            ):
                lab.trace(IDS[100:], cache=made)
        with pytest.raises(InputError, match="another rotary scaling"):
            lab.resume(snap, IDS)
        own = lab.cache()
        lab.trace(IDS[:100], cache=own)
        kept = lab.snapshot(own)
        assert torch.allclose(lab.resume(kept, IDS).logits, lab.trace(IDS).logits, atol=1e-4)
    with pytest.raises(InputError, match="under yarn 4, now none"):
        lab.trace(IDS[100:], cache=own)
    with yarn.scaled(lab, 1):
        lab.trace(IDS[100:], cache=cache)  # factor 1 turns nothing
    with pytest.raises(InputError, match="under yarn 4"):
        lab.resume(kept.stacked(1), IDS) if kept.stacked(1).ids is not None else lab.trace(
            IDS[100:], cache=lab.restore(kept)
        )
    lab.stream(IDS, probes=[deltanet.gates()], chunk=64, checkpoint=tmp_path)
    with yarn.scaled(lab, 2), pytest.raises(InputError, match="(?s)another request.*different scaling"):
        lab.stream(IDS, probes=[deltanet.gates()], chunk=64, checkpoint=tmp_path)


def test_positions_of_a_run(lab):
    """Shifting all positions moves logits by rounding alone (bound 1e-5); a gap moves them."""
    base, count = lab.trace(IDS).logits, torch.arange(150)
    assert torch.equal(lab.trace(IDS, position_ids=count).logits, base)
    with yarn.scaled(lab, 1, kind="none", reach=4096):
        shifted = lab.trace(IDS, position_ids=count + 3000)
    assert (shifted.logits - base).abs().max() < 1e-5 * base.abs().max()
    gap = lab.trace(IDS, position_ids=count + 200 * (count >= 100))
    assert (gap.logits - base).abs().max() > 1e-3 and gap.position_ids.tolist()[-1] == 349
    # Without the mask transformers would cut attention at the gap: the last row must still read the beginning.
    assert float(attention.pattern(gap, layer=4, rows=[-1]).weight[:, 0, :100].sum()) > 0.5
    cache = lab.cache()
    lab.trace(IDS[:100], cache=cache)
    pieces = lab.trace(IDS, position_ids=gap.position_ids, chunk=64)
    assert (pieces.logits - gap.logits).abs().max() < 1e-4 * base.abs().max()
    warm = lab.trace(IDS[100:], cache=cache, position_ids=count[100:] + 200)
    assert (warm.logits - gap.logits).abs().max() < 1e-4 * base.abs().max()


def test_a_run_keeps_its_scaling_and_places(lab, tmp_path):
    with yarn.scaled(lab, 4, ramp="paper"):
        run = lab.trace(IDS, position_ids=torch.arange(150) * 3)
    run.save(tmp_path / "run")
    again = lk.open_run(tmp_path / "run")
    assert again.scaling == run.scaling == Scaling("yarn", 4, "paper", original=512)
    assert torch.equal(again.position_ids, run.position_ids)
    xarray.testing.assert_identical(
        attention.bands(run, layer=2, rows=[3, 9]), attention.bands(again, layer=2, rows=[3, 9])
    )


def test_dynamic_scaling_keeps_keys_that_can_be_turned(lab):
    ids = tiny.ids(1200)
    base = lab.trace(ids[:400]).logits
    with yarn.dynamic(lab):
        assert lab.window == 2048
        cache = lab.cache()
        lab.trace(ids[:300], cache=cache)
        assert (lab.trace(ids[300:400], cache=cache).logits - base).abs().max() < 2e-5 * base.abs().max()
        run = lab.trace(ids[400:], cache=cache)
        now = run.scaling.at()
        assert now.factor == 1200 / 512 and run.start.position_ids.shape == (3, 400)
        seen = {layer: attention.pattern(run, layer=layer, rows=[0, -1], logits=True) for layer in (2, 4)}
        snap = lab.snapshot(cache)
        lab.generate(ids[:520], max_new_tokens=3)
        ds = lab.stream(ids, probes=[attention.watch(block=64)], chunk=128)
    with yarn.under(lab, now):
        cold = attention.pattern(lab.trace(ids), layer=2, rows=[400, -1], logits=True)
    # No scaling reaches the inputs of the first attention layer: after the switch its logits are those of a cold run.
    assert abs(seen[2].logit[:, -1] - cold.logit[:, -1]).max() < 1e-4 * abs(cold.logit[:, -1]).max()
    assert ds.attrs["tokens"] == 1200 and not tiny.hooks(lab.model) and lab.scaling == Scaling()
    assert torch.equal(lab.trace(ids[:400]).logits, base)
    with yarn.dynamic(lab):
        with pytest.raises(InputError, match="(?s)keys of this cache is closed.*before rotation.*another yarn.dynamic"):
            lab.trace(ids[:5], cache=cache)
        lab.trace(ids[:5], cache=lab.restore(snap))
        with pytest.raises(InputError, match="bands need one scaling"):
            attention.bands(lab.trace(ids[:50]), layer=2)
    with pytest.raises(InputError, match="keys of this cache is closed"), yarn.scaled(lab, 4):
        lab.trace(ids[:5], cache=cache)


def test_an_interrupted_pass_leaves_a_cache_that_is_refused(lab):
    def stop(module, args):
        raise KeyboardInterrupt

    for scope in (yarn.scaled(lab, 1), yarn.dynamic(lab)):
        with scope:
            cache = lab.cache()
            lab.trace(IDS[:100], cache=cache)
            before = lab.snapshot(cache)
            hook = lab.model.model.layers[3].register_forward_pre_hook(stop)
            with pytest.raises(KeyboardInterrupt):
                lab.trace(IDS[100:], cache=cache)
            hook.remove()
            message = "(?s)was interrupted.*different tokens.*lab.restore a snapshot"
            with pytest.raises(InputError, match=message):
                lab.trace(IDS[100:], cache=cache)
            with pytest.raises(InputError, match=message):
                lab.snapshot(cache)
            cold = lab.trace(IDS).logits
            assert (lab.resume(before, IDS).logits - cold).abs().max() < 1e-4 * cold.abs().max()


def test_what_dynamic_keeps_follows_edits_positions_and_interrupts(lab, tmp_path):
    ids, base = tiny.ids(700), {}
    for options in ({}, {"position_ids": torch.arange(100) + 300}):
        with lab.edit(edit.scale("k", layer=2, factor=0.5)):
            base[str(options)] = lab.trace(ids[:100], **options).logits
    with yarn.dynamic(lab):
        for at in (0, 300):
            with lab.edit(edit.scale("k", layer=2, factor=0.5)):
                cache = lab.cache()
                parts = {} if not at else {"position_ids": torch.arange(60) + at}
                lab.trace(ids[:60], cache=cache, **parts)
                rest = lab.trace(ids[60:100], cache=cache, position_ids=torch.arange(60, 100) + at)
            assert (rest.logits - base["{}"]).abs().max() < 1e-4 * rest.logits.abs().max(), "edits reach kept keys"
        probes = lambda: [deltanet.gates(block=64), Stop()]  # noqa: E731
        with pytest.raises(stream.Interrupted):
            lab.stream(ids, probes=probes(), chunk=128, checkpoint=tmp_path, every=1)
        Stop.after = 99
        again = lab.stream(ids, probes=probes(), chunk=128, checkpoint=tmp_path, every=1)
        whole = lab.stream(ids, probes=probes(), chunk=128)
    assert float(abs(again.logits - whole.logits).max()) < 1e-4 * float(abs(whole.logits).max())


class Stop(stream.Probe):
    """Watches nothing and stops a stream once, in its fourth chunk."""

    after = 3

    def needs(self, spec):
        self.layers = (0,)
        return {0: ("qkv",)}

    def eat(self, run):
        if run.start.length >= 128 * Stop.after:
            raise KeyboardInterrupt

    def result(self, model):
        return xarray.Dataset()


def test_scopes_that_do_not_mix(lab):
    outside = lab.cache()
    with yarn.dynamic(lab):
        with pytest.raises(InputError, match="(?s)no other scaling inside yarn.dynamic.*yarn 4.*close"):
            yarn.scaled(lab, 4).__enter__()
        with pytest.raises(InputError, match="no other scaling inside"):
            yarn.dynamic(lab).__enter__()
        with pytest.raises(InputError, match="(?s)made outside the scope.*rotated already"):
            lab.trace(IDS, cache=outside)
        cache = lab.cache()
        lab.trace(IDS, cache=cache)
        late = lab.snapshot(cache)
        assert lab.scaling.kind == "dynamic-yarn" and len(late.position_ids[0, 0]) == 150
        for call, message in (
            (
                lambda: lab.trace(tiny.ids(900), chunk=300),
                "(?s)every pass has its own scaling.*chunks of 300.*lab.stream",
            ),
            (lambda: lab.trace([tiny.ids(900), IDS]), "(?s)the length decides.*150, 900.*one by one"),
        ):
            with pytest.raises(InputError, match=message):
                call()
        made = lab.generate(tiny.ids(520), max_new_tokens=3)
        with pytest.raises(InputError, match="(?s)under different scalings.*lab.trace"):
            attention.pattern(made, layer=2)
        warm = lab.cache()
        lab.trace(tiny.ids(400), cache=warm)
        for call, message in (
            (lambda: lab.trace(IDS, cache=warm, chunk=100), "(?s)own scaling.*150 tokens after 400 in chunks of 100"),
            (
                lambda: lab.model.generate(IDS[None], max_new_tokens=2),
                "(?s)outside the scope.*lab.cache.. handed to lab.model.generate",
            ),
        ):
            with pytest.raises(InputError, match=message):
                call()
        with (
            lab.edit(edit.state(layer=1, at=700, change=lambda state: state)),
            pytest.raises(InputError, match="(?s)own scaling.*900 tokens, a state edit at 701"),
        ):
            lab.trace(tiny.ids(900))
        base = lab.restore(lab.snapshot(warm))
        branch = copy.deepcopy(warm)
        for n in range(3):
            step = tiny.ids(3, seed=8)[n : n + 1]
            one, two = lab.trace(step, cache=base).logits, lab.trace(step, cache=branch).logits
            assert (one - two).abs().max() < 1e-5, "a copy is turned like a snapshot"
        assert branch.layers[2].rotator is warm.layers[2].rotator
    with pytest.raises(InputError, match="(?s)is closed.*before rotation"):
        bare(lab, IDS, warm)
    lab.trace(IDS, cache=outside)
    plain = lab.snapshot(outside)
    for scope in (yarn.scaled(lab, 1), yarn.scaled(lab, 4, kind="dynamic-yarn", length=600)):
        with scope, pytest.raises(InputError, match="(?s)does not fit the scope.*before rotation.*inside yarn.dynamic"):
            lab.restore(late)
    with yarn.dynamic(lab), pytest.raises(InputError, match="(?s)does not fit the scope.*rotated already"):
        lab.restore(plain)
    for kind in ("dynamic", "dynamic-yarn"):
        with pytest.raises(InputError, match="(?s)needs a length.*yarn.dynamic"):
            yarn.scaled(lab, 4, kind=kind).__enter__()
    assert lab.scaling == Scaling() and not tiny.hooks(lab.model)


def bare(lab, ids, cache=None, *, by="keyword"):
    """The model called without the lab: the cache it returns."""
    name = cache_parameter(lab.model)
    with torch.no_grad():
        if cache is None:
            output = lab.model(ids[None], use_cache=True)
        elif by == "position":
            output = lab.model(ids[None], None, None, cache)
        else:
            output = lab.model(ids[None], **{name: cache})
    return next(value for value in output.values() if isinstance(value, Cache))


def test_the_stamp_of_a_cache_survives_copies_and_the_bare_model(lab):
    with yarn.scaled(lab, 4):
        expected = lab.trace(IDS).logits
        traced, by_name, by_position = lab.cache(), lab.cache(), lab.cache()
        lab.trace(IDS[:90], cache=traced)
        bare(lab, IDS[:90], by_name)
        bare(lab, IDS[:90], by_position, by="position")
        caches = [traced, by_name, by_position, bare(lab, IDS[:90])]
        caches += [copy.deepcopy(cache) for cache in caches]
        for cache in map(copy.deepcopy, caches):
            assert (lab.trace(IDS[90:], cache=cache).logits - expected).abs().max() < 1e-4 * expected.abs().max()
    for cache in caches:
        with pytest.raises(InputError, match="under yarn 4, now none"):
            lab.trace(IDS[90:], cache=cache)
        with pytest.raises(InputError, match="under yarn 4, now none"):
            bare(lab, IDS[90:], cache, by="position")
        with yarn.scaled(lab, 4), pytest.raises(InputError, match="was interrupted"):
            lab.trace(IDS[90:], cache=cache)  # layers below the first attention layer had read on
    plain = lab.cache()
    bare(lab, IDS[:90], plain)
    with yarn.scaled(lab, 4), pytest.raises(InputError, match="under none, now yarn 4"):
        bare(lab, IDS[90:], plain)
    with pytest.raises(InputError, match="out of range"):
        lab.trace(IDS[90:], cache=plain, position_ids=torch.arange(60) - 1)
    assert not lab.snapshot(plain).placed, "a refused pass leaves no mark"
    lab.trace(IDS[90:], cache=plain)


def test_caches_of_others_are_continued_where_they_are_known(tmp_path):
    """transformers' own cache has no book that a copy could carry: a copy is refused once scalings were open."""
    lab = tiny.make_lab(tiny.model())
    config, base = lab.model.config, lab.trace(IDS).logits
    native = bare(lab, IDS[:90], DynamicCache(config=config))
    early = copy.deepcopy(native)
    assert (lab.trace(IDS[90:], cache=early).logits - base).abs().max() < 1e-4 * base.abs().max()
    copied, known = copy.deepcopy(native), copy.deepcopy(early)
    lab.trace(IDS[:4], cache=native)
    with yarn.scaled(lab, 1):
        assert not lab.scopes.rescaled
    with yarn.scaled(lab, 4):
        scaled = lab.trace(IDS).logits
        filled = bare(lab, IDS[:90], DynamicCache(config=config))
        other = copy.deepcopy(filled)
        for cache in (copied, known, other):
            with pytest.raises(InputError, match="(?s)nobody knows.*DynamicCache.*lab.cache"):
                lab.trace(IDS[90:], cache=cache)
            with pytest.raises(InputError, match="nobody knows"):
                bare(lab, IDS[90:], cache)
        with pytest.raises(InputError, match="under none, now yarn 4"):
            lab.trace(IDS[90:], cache=native)
        assert (lab.trace(IDS[90:], cache=filled).logits - scaled).abs().max() < 1e-4 * scaled.abs().max()
    for cache in (copied, other):
        with pytest.raises(InputError, match="nobody knows"):
            lab.trace(IDS[90:], cache=cache)
    with pytest.raises(InputError, match="under yarn 4, now none"):
        lab.trace(IDS[90:], cache=filled)
    lab.trace(IDS[:4], cache=native)
    lab.trace(IDS[:4], cache=DynamicCache(config=config))  # an empty one is nobody's


def test_a_cache_under_a_name_that_is_not_taken_is_refused(lab):
    names = {"cache", "past_key_values"} - {cache_parameter(lab.model)}
    with yarn.scaled(lab, 4), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers 5.24 still takes the old name
        expected, cache = lab.trace(IDS).logits[0], lab.cache()
        lab.trace(IDS[:90], cache=cache)
        try:
            with torch.no_grad():
                logits = lab.model(IDS[None, 90:], **{names.pop(): cache}).logits[0, -1]
        except BackendError as error:
            assert "cache is not taken as a cache" in str(error)
        else:
            assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()


def test_dynamic_keeps_the_keys_of_the_norm_at_any_factor(lab):
    """Kept keys are the seam k, whatever m was when they were read; turned anew they are those of a cold run."""
    ids = tiny.ids(1000)
    for m in (None, 1.7):
        with yarn.dynamic(lab, 3, attention_factor=m):
            cache, known = lab.cache(), []
            for a, b in ((0, 700), (700, 705), (705, 1000)):
                run = lab.trace(ids[a:b], cache=cache)
                known.append(run.seams[2, "k"].transpose(0, 1)[None])
                seam = torch.cat(known, 2)
                assert (cache.layers[2].keys - seam).abs().max() < 1e-5 * seam.abs().max(), (m, b)
            warm = attention.pattern(run, layer=2, rows=[-1], logits=True).logit[:, 0]
            now = run.scaling.at()
        assert now.factor == 1000 / 512 and now.attention_factor == (m or 0.1 * math.log(1000 / 512) + 1)
        with yarn.under(lab, now):
            cold = attention.pattern(lab.trace(ids), layer=2, rows=[-1], logits=True).logit[:, 0]
        assert float(abs(warm - cold).max()) < 1e-4 * float(abs(cold).max()), m


def test_rows_of_a_dynamic_cache_go_with_their_positions(lab):
    """A batch whose rows are swapped or copied, as in a beam search, reads on as these rows do."""
    ids = torch.stack([tiny.ids(600), tiny.ids(600, seed=4)])
    mask = torch.ones(2, 605, dtype=torch.long)
    mask[1, :50] = 0
    position_ids, more = (mask.cumsum(1) - 1).clamp(min=0), torch.stack([tiny.ids(5, seed=8), tiny.ids(5, seed=9)])

    def go_on(cache, rows):
        options = dict(attention_mask=mask[rows], position_ids=position_ids[rows, 600:])
        return lab.model(more[rows], **{cache_parameter(lab.model): cache}, **options).logits

    with yarn.dynamic(lab), torch.no_grad():
        cache = lab.cache()
        first = dict(attention_mask=mask[:, :600], position_ids=position_ids[:, :600])
        lab.model(ids, **{cache_parameter(lab.model): cache}, **first)
        copies = {rows: copy.deepcopy(cache) for rows in ((1, 0), (1, 1))}
        expected = go_on(cache, [0, 1])
        for rows, changed in copies.items():
            changed.reorder_cache(torch.tensor(rows))
            difference = go_on(changed, list(rows)) - expected[list(rows)]
            assert difference.abs().max() < 1e-4 * expected.abs().max(), rows


def test_a_dynamic_scaling_without_its_window_takes_the_models(lab):
    with yarn.scaled(lab, 2):
        expected = lab.trace(IDS).logits
    with yarn.under(lab, Scaling("dynamic-yarn", 4, length=1024)):
        assert torch.equal(lab.trace(IDS).logits, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda lab: yarn.scaled(lab, 0.5).__enter__(), InputError, "(?s)at least 1.*0.5"),
        (
            lambda lab: yarn.scaled(lab, 4, reach=100).__enter__(),
            InputError,
            "(?s)a reach that cannot be opened.*100 positions.*512",
        ),
        (lambda lab: yarn.scaled(lab, 2**20).__enter__(), InputError, "(?s)a reach that cannot be opened.*16,777,216"),
        (lambda lab: yarn.scaled(lab, 4, kind="wide").__enter__(), InputError, "no such rotary scaling"),
        (
            lambda lab: lab.trace(IDS, position_ids=[1, 2]),
            InputError,
            r"(?s)one rotary position per token.*\[2\].*\[150\]",
        ),
        (lambda lab: lab.trace(IDS, position_ids=torch.rand(150)), InputError, "(?s)per token.*float32.*whole numbers"),
        (lambda lab: lab.trace(IDS, position_ids=torch.arange(150) - 1), InputError, "(?s)out of range.*-1 to 148"),
        (lambda lab: lab.trace(IDS, position_ids="far"), InputError, "not rotary positions"),
        (
            lambda lab: lab.trace([IDS, IDS], position_ids=torch.arange(150)),
            InputError,
            "a list of prompts and position_ids",
        ),
        (lambda lab: yarn.grid(lab, seeds=3), InputError, "(?s)too few questions.*at least 8"),
        (lambda lab: yarn.question(lab, "needle", length=90, depth=0, seed=0), InputError, "no tokenizer"),
    ],
)
def test_misuse(lab, call, error, message):
    with pytest.raises(error, match=message):
        call(lab)
    assert lab.scaling == Scaling() and not tiny.hooks(lab.model)


def test_keys_and_values_that_would_not_fit_are_refused_before_a_stream(lab, monkeypatch):
    from labkit.plan import card

    monkeypatch.setattr(card, "budget", lambda device: (100_000, "a small machine"))
    with pytest.raises(
        BudgetError, match="(?s)stream of 300 tokens would not fit.*keys and values 150.*a small machine"
    ):
        lab.stream(tiny.ids(300), probes=[deltanet.gates()], chunk=64)


# ------------------------------------------------------------------------------------------------------- questions


@pytest.mark.parametrize("task", yarn.FACTS)
def test_questions_fill_the_length_and_put_the_fact_at_its_depth(nano, task):
    for length, depth in ((300, 0.0), (300, 0.5), (300, 1.0), (900, 0.25)):
        asked = yarn.question(nano, task, length=length, depth=depth, seed=7)
        assert length - 20 < len(asked.ids) <= length
        assert abs(asked.at / len(asked.ids) - depth) < 0.13, (depth, asked.at)
        text = nano.tokenizer.decode(asked.ids.tolist())
        key = text.rsplit("\n ", 1)[1].removesuffix(" is")
        answer, foil = (nano.tokenizer.decode(ids.tolist()).strip() for ids in (asked.answer, asked.foil))
        told = [line.strip(" .") for line in text.split(".")]
        if task == "variable":
            while answer not in (value := next(line for line in told if line.startswith(f"{key} is ")).split()[-1]):
                key = value
        else:
            last = [line for line in told if line.startswith(f"{key} is ")][-1]
            assert last == f"{key} is {answer}" and f" is {foil}." in text
        assert text.count(" is ") == text.count(" is") - 1 and asked.asked == 3
    one, two = (yarn.question(nano, task, length=300, depth=0.5, seed=seed) for seed in (1, 2))
    assert not torch.equal(one.ids, two.ids)
    assert torch.equal(one.ids, yarn.question(nano, task, length=300, depth=0.5, seed=1).ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(task="riddle"), "(?s)no such task.*riddle.*needle"),
        (dict(depth=1.5), "(?s)depth out of range.*0 to 1"),
        (dict(length=10), "(?s)no room for the facts of a keys question.*10 tokens.*or more"),
    ],
)
def test_questions_that_cannot_be_asked(nano, options, message):
    with pytest.raises(InputError, match=message):
        yarn.question(nano, **dict(task="keys", length=100, depth=0.5, seed=0) | options)


def test_a_margin_is_the_log_probability_of_answer_minus_foil(nano):
    asked = yarn.question(nano, "keys", length=120, depth=0.5, seed=3)
    logits = nano.trace(asked.ids).logits[-1].log_softmax(-1)
    expected = float(logits[asked.answer[0]] - logits[asked.foil[0]])
    assert margins.margin(nano, asked)[0] == pytest.approx(expected, abs=1e-5)
    long = dataclasses.replace(asked, answer=nano.encode(" red fox sees"), foil=nano.encode(" blue whale"))
    sums = []
    for ids in (long.answer, long.foil):
        whole = torch.cat([asked.ids, ids])
        found = nano.trace(whole, logits="all").logits.log_softmax(-1)
        sums.append(sum(float(found[len(asked.ids) - 1 + n, i]) for n, i in enumerate(ids.tolist())))
    assert len(long.answer) != len(long.foil)
    assert margins.margin(nano, long)[0] == pytest.approx(sums[0] - sums[1], abs=1e-3)


GRID = dict(tasks=("keys",), lengths=[150, 600], depths=2, scalings=[Scaling(), Scaling("yarn", 2, original=512)])


def test_a_grid_goes_on_where_it_was_stopped(nano, tmp_path, monkeypatch):
    whole = yarn.grid(nano, **GRID)
    assert whole.margin.dims == ("task", "scaling", "length", "depth", "sample") and whole.margin.shape == (
        1,
        2,
        2,
        2,
        8,
    )
    assert whole.margin.notnull().all() and set(np.unique(whole.right)) <= {0.0, 1.0}
    asked, real = [], margins.margin

    def stopped(*args, **options):
        if len(asked) == 11:
            raise KeyboardInterrupt
        asked.append(args)
        return real(*args, **options)

    monkeypatch.setattr(margins, "margin", stopped)
    with pytest.raises(stream.Interrupted, match="(?s)stopped after 11 of 64 answers.*goes on") as caught:
        yarn.grid(nano, **GRID, folder=tmp_path)
    part = caught.value.dataset
    assert int(part.margin.notnull().sum()) == 11 and (part.margin == whole.margin).sum() == 11
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 12 and json.loads(lines[0])["identity"]["dtype"] == "float32"
    (tmp_path / "answers.jsonl").write_text("\n".join(lines)[:-9])  # killed within the last line
    asked.clear()
    monkeypatch.setattr(margins, "margin", lambda *args, **options: asked.append(args) or real(*args, **options))
    again = yarn.grid(nano, **GRID, folder=tmp_path)
    xarray.testing.assert_identical(again, whole)
    assert len(asked) == 64 - 10
    more = yarn.grid(nano, **GRID | dict(seeds=9), folder=tmp_path)
    assert len(asked) == 54 + 8 and more.margin.isel(sample=slice(8)).equals(whole.margin)
    (tmp_path / "answers.jsonl").write_text(json.dumps({"format": 1, "model": "other", "edits": []}) + "\n")
    with pytest.raises(InputError, match="(?s)answers of another model or edits.*format 1, now 2.*those of nano"):
        yarn.grid(nano, **GRID, folder=tmp_path)
    few = GRID | dict(lengths=np.array([150]), depths=1, scalings=[Scaling()])
    for left in ("", '{"format": 1, "mo'):  # a kill before the header was whole
        (tmp_path / "answers.jsonl").write_text(left)
        assert yarn.grid(nano, **few, folder=tmp_path).margin.notnull().all()
    assert yarn.grid(nano, **few).depth.values.tolist() == [0.5]
    assert nano.scaling == Scaling() and nano.window == 512


def test_a_text_that_is_the_same_at_every_depth_is_read_once(nano, monkeypatch):
    """The facts of a spread question are all asked for after one reading, with the answers of separate ones."""
    depths, seeds = [0.0, 0.25, 1.0], 8
    asked = [
        yarn.question(nano, "spread", length=300, depth=depth, seed=seed) for seed in range(seeds) for depth in depths
    ]
    texts = [one.ids[: -one.asked].tolist() for one in asked]
    assert texts[0] == texts[1] == texts[2] != texts[3] and len({int(one.answer) for one in asked[:3]}) == 3
    alone = np.reshape([margins.margin(nano, one)[0] for one in asked], (seeds, len(depths)))
    read, real = [], passes.feed
    monkeypatch.setattr(
        passes, "feed", lambda lab, ids, **more: read.append(tuple(ids.shape)) or real(lab, ids, **more)
    )
    options = dict(tasks=("spread",), lengths=[300], depths=depths, scalings=[Scaling()], seeds=seeds)
    many = plan.budget
    for chunk, room in ((None, many), (100, many), (None, lambda device: (0, "no room"))):
        read.clear()
        monkeypatch.setattr(plan, "budget", room)  # without room for rows the questions are asked one by one
        found = yarn.grid(nano, **options, chunk=chunk).margin[0, 0, 0].transpose("sample", "depth")
        assert np.allclose(found, alone, atol=1e-3)
        tails = [(len(depths), asked[0].asked)] * seeds if room is many else [(1, asked[0].asked)] * len(asked)
        assert sorted(read) == sorted([*tails, *((1, len(text)) for text in texts[:: len(depths)])])


def test_only_questions_of_one_length_and_one_token_are_rows_of_a_pass(nano, monkeypatch):
    """Tails of two lengths and an answer of two tokens: the margins are those of whole prompts, in their order."""
    first = yarn.question(nano, "spread", length=200, depth=0.5, seed=4)
    text, tail = first.ids[: -first.asked], first.ids[-first.asked :]
    longer, two = torch.cat([nano.encode(" fox"), tail]), nano.encode(" red fox")
    tails = [(tail, first.answer), (tail, first.foil), (longer, first.answer), (tail, two), (tail, first.answer)]
    asked = [
        dataclasses.replace(first, ids=torch.cat([text, ids]), asked=len(ids), answer=answer, foil=nano.encode(" blue"))
        for ids, answer in tails
    ]
    read, real = [], passes.feed
    alone = [margins.margin(nano, one) for one in asked]
    monkeypatch.setattr(
        passes, "feed", lambda lab, ids, **more: read.append(tuple(ids.shape)) or real(lab, ids, **more)
    )
    found = list(margins._margins(nano, asked, None))
    assert np.allclose([one for one, _ in found], [one for one, _ in alone], atol=1e-3)
    assert [right for _, right in found] == [right for _, right in alone]
    assert read[:3] == [(1, len(text)), (2, len(tail)), (1, len(longer))] and read[3] == (1, len(tail))


def test_cells_with_their_intervals(nano):
    ds = yarn.grid(nano, **GRID)
    cells = yarn.cell_means(ds)
    one = ds.margin[0, 1, 1, 0].values
    half = 2.3646 * one.std(ddof=1) / math.sqrt(8)
    at = dict(task=0, scaling=1, length=1, depth=0)
    assert float(cells.margin_high[at] - cells.margin[at]) == pytest.approx(half, rel=1e-3)
    right = int(ds.right[0, 1, 1, 0].sum())
    assert (float(cells.right_low[at]), float(cells.right_high[at])) == pytest.approx(stats.wilson(right, 8))
    assert (cells.answers == 8).all()


# -------------------------------------------------------------------------------------------------- one cause each


def test_each_counterfactual_changes_one_thing(nano):
    """Keys, values and states that are put together are those of real passes; and nothing else is changed."""
    asked = yarn.question(nano, "keys", length=150, depth=0.5, seed=1)
    more = yarn.filler_ids(nano, 700, seed=1)
    with yarn.under(nano, Scaling(), 2048):
        case = counterfactual.Case(nano, asked, more, 300)
        n, text = len(case.text), case.text
        cache = nano.cache()
        nano.trace(torch.cat([text, more[:300]]), layers=[], cache=cache)
        straight = nano.snapshot(cache)
        one = case._diluted(300)
        for layer in nano.spec.attention_layers:
            assert torch.allclose(one.keys[layer], straight.keys[layer], atol=1e-4), (
                "one block is the text as it stands"
            )
        assert all(torch.equal(one.state[i], case.after_text.state[i]) for i in nano.spec.deltanet_layers)
        two = case._diluted(500)
        assert two.length == n + 500 == two.keys[3].shape[2]
        cut = nano.cache()
        nano.trace(torch.cat([text, more[300:500]]), layers=[], cache=cut)
        assert torch.allclose(two.keys[3][:, :, n + 300 :], nano.snapshot(cut).keys[3][:, :, n:], atol=1e-4)
        walked = case._walked(300)
        for layer in nano.spec.deltanet_layers:
            assert torch.allclose(walked.state[layer], straight.state[layer], atol=1e-4)
        assert walked.length == n and torch.equal(walked.keys[3], case.after_text.keys[3])
        far = case._walked(500)
        assert not torch.allclose(far.state[0], walked.state[0], atol=1e-2)
        assert case.ask("short", 0)[0] == pytest.approx(margins.margin(nano, asked)[0], abs=1e-3)
        whole = torch.cat([text, more[:500], asked.ids[n:]])
        logits = nano.trace(whole).logits[-1].log_softmax(-1)
        expected = float(logits[asked.answer[0]] - logits[asked.foil[0]])
        assert case.ask("all", 500)[0] == pytest.approx(expected, abs=1e-3)
        assert case.ask("gap", 0)[0] == pytest.approx(case.ask("short", 0)[0], abs=1e-3)
        # One block of filler, cold: with its states it is the text as it stands, without them only its keys are there.
        last, here = asked.ids[n:], torch.arange(asked.asked)
        for name, snap in (("dilution", dict(state=case.after_text.state, conv=case.after_text.conv)), ("states", {})):
            made = dataclasses.replace(straight, ids=None, **snap)
            if name == "states":
                kept = {part: {i: t[:, :, :n] for i, t in getattr(made, part).items()} for part in ("keys", "values")}
                made = dataclasses.replace(made, length=n, **kept)
            position_ids = made.length + here
            found = nano.trace(last, cache=nano.restore(made), position_ids=position_ids).logits[-1].log_softmax(-1)
            expected = float(found[asked.answer[0]] - found[asked.foil[0]])
            assert case.ask(name, 300)[0] == pytest.approx(expected, abs=1e-3), name
        values = [case.ask(name, 300)[0] for name in ("short", "gap", "dilution", "states", "all")]
        assert len({round(value, 2) for value in values}) == 5, "five different things"
        # More blocks of keys stand at the positions of the first: the question does not move.
        one, two = (case._diluted(extra) for extra in (300, 500))
        found = [
            nano.trace(last, cache=nano.restore(snap), position_ids=n + 300 + here).logits[-1].log_softmax(-1)
            for snap in (one, two)
        ]
        assert case.ask("dilution", 500)[0] == pytest.approx(
            float(found[1][asked.answer[0]] - found[1][asked.foil[0]]), abs=1e-3
        )


def test_the_null_control_moves_nothing_and_a_gap_does(nano):
    ds = yarn.counterfactuals(nano, extra=[300, 1324], seeds=8, causes=("short", "shift", "gap"))
    assert ds.margin.dims == ("cause", "scaling", "gap", "sample") and ds.margin.notnull().all()
    short = ds.margin.sel(cause="short")
    assert float(abs(ds.margin.sel(cause="shift") - short).max()) < 2e-3, "shifting all positions is rounding"
    assert float(abs(ds.margin.sel(cause="gap") - short).mean()) > 0.1
    assert nano.scaling == Scaling()


def test_counterfactuals_misuse_and_interrupt(nano, monkeypatch):
    with pytest.raises(InputError, match="(?s)no such cause.*boredom.*dilution"):
        yarn.counterfactuals(nano, causes=("boredom",))
    with pytest.raises(InputError, match="(?s)no room for filler.*500 tokens.*below 496"):
        yarn.counterfactuals(nano, length=500)
    count = []

    def stopped(self, kind, extra):
        count.append(kind)
        if len(count) > 3:
            raise KeyboardInterrupt
        return 1.0, True

    monkeypatch.setattr(counterfactual.Case, "ask", stopped)
    with pytest.raises(stream.Interrupted, match="stopped after 3 of 32 answers") as caught:
        yarn.counterfactuals(nano, extra=[300], causes=("short", "gap"))
    assert int(caught.value.dataset.margin.notnull().sum()) == 3 and nano.scaling == Scaling()


def test_the_cost_of_short_texts_is_two_by_two_and_zero_in_its_first_cell(nano):
    ds = yarn.short_context_cost(nano, samples=4, length=100)
    assert ds.loss.dims == ("frequencies", "attention_factor", "sample") and ds.loss.shape == (2, 2, 4)
    ids = yarn.filler_ids(nano, 100, seed=2)
    logits = nano.trace(ids, logits="all").logits[:-1]
    expected = torch.nn.functional.cross_entropy(logits, ids[1:])
    assert float(ds.loss[0, 0, 2]) == pytest.approx(float(expected), abs=1e-5)
    with yarn.scaled(nano, 4):
        assert float(ds.loss[1, 1, 2]) == pytest.approx(yarn.likelihood(nano, ids), abs=1e-6)
    with pytest.raises(InputError, match="(?s)cost of short texts.*600 tokens.*at most 512"):
        yarn.short_context_cost(nano, texts=[yarn.filler_ids(nano, 600, seed=0)])


def test_the_same_last_tokens_behind_more_text(nano, monkeypatch):
    ds = yarn.paired(nano, lengths=[50, 600], last=20, samples=3)
    ids = yarn.filler_ids(nano, 620, seed=1)
    assert float(ds.loss[0, 0, 1]) == pytest.approx(yarn.likelihood(nano, ids[-70:], last=20), abs=1e-6)
    assert (ds.effect.isel(length=0) == 0).all()
    assert np.allclose(ds.effect, ds.loss - ds.loss.isel(length=0))
    scored, real = [], losses.likelihood

    def stopped(*args, **options):
        if len(scored) == 5:
            raise KeyboardInterrupt
        return scored.append(real(*args, **options)) or scored[-1]

    monkeypatch.setattr(losses, "likelihood", stopped)
    with pytest.raises(stream.Interrupted, match="stopped after 5 of 12 answers") as caught:
        yarn.paired(nano, lengths=[50, 600], last=20, samples=3)
    part = caught.value.dataset.loss
    assert int(part.notnull().sum()) == 5 and part.isel(sample=0).equals(ds.loss.isel(sample=0))
    with pytest.raises(InputError, match="(?s)a text is too short.*100 tokens.*at least 620"):
        yarn.paired(nano, lengths=[50, 600], last=20, texts=[ids[:100]])


def test_scalings_of_one_name_are_refused(nano):
    twins = [Scaling("yarn", 4, original=512), Scaling("yarn", 4, original=64)]
    for call in (yarn.grid, yarn.counterfactuals, yarn.paired):
        with pytest.raises(InputError, match="(?s)scalings of one name.*yarn 4, yarn 4.*separate calls"):
            call(nano, scalings=twins)
    with yarn.under(nano, twins[1]):
        assert nano.window == 512
    for wrong in (dict(last=50), dict(last=0)):
        with pytest.raises(InputError, match="(?s)no token can be scored.*50 tokens"):
            yarn.likelihood(nano, IDS[:50], **wrong)
    with pytest.raises(InputError, match=r"(?s)lengths out of range.*got: \[0\].*1 or more"):
        yarn.paired(nano, lengths=[0, 50])
