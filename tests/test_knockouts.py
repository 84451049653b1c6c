"""Joint knock-outs, slopes for patches, and whether readings agree: by hand, and on what nano is known to do."""

import random

import numpy as np
import pytest
import tiny
import torch
import xarray

import labkit as lk
from labkit import attribution, edit
from labkit.errors import InputError
from labkit.nano import questions

IDS, OTHER = tiny.ids(9), tiny.ids(9, seed=4)
OF, AGAINST = 3, 150
BACKUP = {"layer 3": [(3, None)], "heads": [(4, 0), (4, 1), (4, 2)], "layer 7": [(7, None)]}


@pytest.fixture(scope="module")
def nano():
    return lk.load("nano")


def recall(count):
    """(clean prompts, right answers, wrong answers)."""
    drawn = [questions.contrast(random.Random(seed)) for seed in range(count)]
    return [clean + question for clean, _, question, *_ in drawn], *([each[n] for each in drawn] for n in (3, 4))


def said(lab, ids, *edits):
    with lab.edit(*edits):
        row = lab.logits(ids[None])[0]
    return float(row[OF] - row[AGAINST])


def test_pairs_are_knocked_out_as_edits_would(lab):
    parts = {"a": [(1, 2), (1, 7)], "b": [(2, None)], "c": [(4, 5)]}
    off = {
        "a": [edit.scale("gated", layer=1, heads=[2, 7], factor=0)],
        "b": [edit.scale("mixer_out", layer=2, factor=0)],
        "c": [edit.scale("gated", layer=4, heads=[5], factor=0)],
    }
    ds = attribution.knockout_pairs(lab, [IDS, OTHER], of=OF, against=AGAINST, parts=parts)
    for n, ids in enumerate((IDS, OTHER)):
        base = said(lab, ids)
        lost = lambda *names, ids=ids, base=base: 1 - said(lab, ids, *(i for name in names for i in off[name])) / base
        for one, other in (("a", "b"), ("c", "a"), ("b", "c")):
            both = float(ds.lost.sel(part=one, other_part=other)[n])
            assert both == pytest.approx(lost(one, other), rel=1e-3, abs=1e-3)
            beyond = float(ds.interaction.sel(part=one, other_part=other)[n])
            assert beyond == pytest.approx(both - lost(one) - lost(other), rel=1e-3, abs=1e-3)
            assert float(ds.lost.sel(part=one, other_part=one)[n]) == pytest.approx(lost(one), rel=1e-3, abs=1e-3)
    assert ds.correction == "holm, 3 cells" and np.isnan(ds.interaction.values.diagonal(axis1=1, axis2=2)).all()
    assert ds.p.equals(
        ds.p.transpose("other_part", "part").rename(part="other_part", other_part="part").transpose(*ds.p.dims)
    )


def test_parts_that_share_a_head_lose_it_once(lab):
    ds = attribution.knockout_pairs(lab, [IDS], of=OF, against=AGAINST, parts={"a": [(1, 2)], "b": [(1, 2), (1, 3)]})
    both, wider = (float(ds.lost.sel(part=part, other_part="b")[0]) for part in "ab")
    assert both == pytest.approx(wider, abs=1e-4) and wider != 0


def test_layer_3_and_heads_of_layer_4_stand_in_for_each_other(nano):
    prompts, of, against = recall(8)
    ds = attribution.knockout_pairs(nano, prompts, of=of, against=against, parts=BACKUP)
    right = lambda *parts: float(ds.right.sel(part=parts[0], other_part=parts[-1]).mean())
    assert right("layer 3") == right("heads") == 1 and right("layer 3", "heads") <= 0.5
    both, control = (ds.sel(part="heads", other_part=other) for other in ("layer 3", "layer 7"))
    assert float(both["low"]) > 0.1 and float(both.p_adjusted) < 0.05 and float(control["mean"]) < 0.1


def test_a_set_grows_by_what_hurts_most_beside_it(lab, tmp_path):
    parts = [(1, 2), (2, 1), (3, 0), (4, 5)]
    given = dict(of=OF, against=AGAINST, parts=parts, most=3, stop=1e6, controls=4, store=tmp_path)
    ds = attribution.knockout_greedy(lab, [IDS, OTHER], **given)
    names = [f"layer {layer}, head {head}" for layer, head in parts]
    pairs = attribution.knockout_pairs(
        lab, [IDS, OTHER], of=OF, against=AGAINST, parts={n: [p] for n, p in zip(names, parts, strict=True)}
    )
    lost = pairs.lost.mean("sample")
    alone = {name: float(lost.sel(part=name, other_part=name)) for name in names}
    first = max(alone, key=alone.get)
    second = max((n for n in names if n != first), key=lambda n: float(lost.sel(part=first, other_part=n)))
    assert ds.part.values.tolist()[:2] == [first, second] and ds.sizes == {"sample": 2, "step": 3, "draw": 4}
    assert float(ds["mean"][0]) == pytest.approx(alone[first], abs=1e-4)
    assert float(ds["mean"][1]) == pytest.approx(float(lost.sel(part=first, other_part=second)), abs=1e-4)
    singles = [float(pairs.lost.sel(part=name, other_part=name)[0]) for name in names]
    assert all(np.isclose(each, singles, atol=1e-4).any() for each in ds.chance[0, 0].values)
    assert ds.identical(attribution.knockout_greedy(lab, [IDS, OTHER], **given))
    stopped = attribution.knockout_greedy(lab, [IDS, OTHER], **given | dict(stop=float(ds["mean"][0]), store=None))
    assert stopped.sizes["step"] == 1


def test_a_misspelt_option_names_the_call_that_was_made(lab):
    for call in (attribution.knockout_pairs, attribution.knockout_greedy):
        with pytest.raises(TypeError, match=rf"attribution.{call.__name__} has no argument 'stroe'"):
            call(lab, [IDS], of=OF, against=AGAINST, stroe="folder")


@pytest.mark.parametrize(
    "parts, told",
    [
        ([(1, 2)], "two parts make a pair\n  got: 1 parts"),
        ([(1, 2), (2, 6)], "no such part\n  got: \\(2, 6\\)"),
        ({"a": [(9, None)], "b": [(1, 1)]}, "no such part\n  got: \\(9, None\\)"),
        ([1, 2], "no such part\n  got: 1"),
        (2, "no list of parts\n  got: 2"),
        ({"a": (1, 2), "b": [(1, 1)]}, "no such part\n  got: 1"),
        ({"a": [], "b": [(1, 1)]}, "a part holds something\n  got: an empty one"),
    ],
)
def test_parts_without_sense(lab, parts, told):
    with pytest.raises(InputError, match=told):
        attribution.knockout_pairs(lab, [IDS], of=OF, against=AGAINST, parts=parts)
    with pytest.raises(InputError, match="unknown values\n  got: put='other'"):
        attribution.knockout_greedy(lab, [IDS], of=OF, against=AGAINST, put="other")


# --------------------------------------------------------------------------------------------------------- slopes


def test_slopes_are_those_of_small_patches(lab):
    """Of a value that is moved a little, the change is slope times step; patch_sweep has the true change."""
    near = dict(of=OF, against=AGAINST, layers=[1, 2], tokens=[3, -1], ends="any")
    seams, slopes = lab.trace(IDS, seams=["gated"]).seams, attribution.patch_slopes(lab, [(OTHER, IDS)], **near)
    other, step = lab.trace(OTHER, seams=["gated"]).seams, 1e-2
    base = said(lab, IDS)
    for n, layer in enumerate((1, 2)):
        for m, token in enumerate((3, 8)):
            value = seams[layer, "gated"][token, 4]
            moved = value + step * (other[layer, "gated"][token, 4] - value)
            exact = said(lab, IDS, edit.set("gated", layer=layer, heads=[4], tokens=[token], value=moved)) - base
            assert float(slopes.change[0, n, 4, m]) * step == pytest.approx(exact, rel=0.1, abs=2e-5)
    assert abs(slopes.change).max() > 0.01 and "parity" not in slopes.attrs and "right" not in slopes


def test_slopes_are_exact_where_nothing_bends(lab):
    """At the last layer's output only the norm is curved: with a value that is nearly the same, both agree."""
    both = dict(of=OF, against=AGAINST, seam="mlp_out", layers=[4], tokens=[-1], ends="any")
    run = lab.trace(IDS)
    with lab.edit(edit.add("mlp_out", layer=4, vector=1e-3 * torch.ones(44), tokens=[8])):
        ran, slope = (ask(lab, [(IDS, OTHER)], **both) for ask in (attribution.patch_sweep, attribution.patch_slopes))
    assert float(slope.base[0]) == pytest.approx(float(ran.base[0]), abs=1e-4)
    assert float(slope.reference[0]) == pytest.approx(float(ran.reference[0]), abs=1e-4) and len(run) == 9
    gone = dict(of=OF, against=AGAINST, seam="gated", put="zero", whole=True)
    found = attribution.patch_slopes(lab, [IDS], **gone).change[0]
    with torch.enable_grad():
        run = lab.trace(IDS, grad=True)
    slopes = run.gradient(run.logits[-1, OF] - run.logits[-1, AGAINST], layer=3, seam="gated")
    assert float(found[3]) == pytest.approx(-float((slopes * run.seams[3, "gated"].detach()).sum()), rel=1e-4)


def test_slopes_of_prompts_that_differ_nowhere_change_nothing(lab):
    ds = attribution.patch_slopes(lab, [(IDS, IDS)], of=OF, against=AGAINST, layers=[1])
    assert not ds.change.any() and ds.base == ds.reference


def test_slopes_of_states_are_refused(lab):
    with pytest.raises(InputError, match="a state is no seam"):
        attribution.patch_slopes(lab, [(IDS, OTHER)], of=OF, against=AGAINST, seam="state", tokens=[3])


# ------------------------------------------------------------------------------------------------------ agreement


def readings(noise, samples=12, cells=(4, 5), seed=0):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=cells)
    made = [true + noise * rng.normal(size=(samples, *cells)) for _ in range(2)]
    return {
        name: xarray.DataArray(each, dims=("sample", "layer", "reader")) for name, each in zip("ab", made, strict=True)
    }


def test_agreement_is_spearman_with_its_interval_and_control():
    from scipy.stats import spearmanr

    both = readings(0.8)
    both["a"][:, 1, 2] = np.nan
    ds = attribution.agreement(both, top=3)
    a, b = (np.delete(each.mean("sample").values.ravel(), 7) for each in both.values())
    assert float(ds["rank"][0, 1]) == pytest.approx(spearmanr(a, b).statistic) and ds.attrs["cells"] == 19
    assert ds.low[0, 1] < ds["rank"][0, 1] < ds.high[0, 1] and ds.beyond_chance[0, 1]
    tops = [set(np.argsort(-abs(each))[:3]) for each in (a, b)]
    assert int(ds.shared[0, 1]) == len(tops[0] & tops[1])
    assert (attribution.agreement(readings(0.0), top=3).shared == 3).all()
    assert 0.3 < float(ds.chance[0, 1]) < 0.7  # 1.96 / sqrt(18) is 0.46
    swapped = {"a": both["a"], "b": both["b"].copy(data=both["b"].values[:, ::-1, ::-1])}
    assert not attribution.agreement(swapped).beyond_chance[0, 1]


def test_the_cells_that_differ_most_are_named():
    both = readings(0.0)
    both["b"][:, 2, 3] = -5 * np.sign(both["b"][0, 2, 3])
    ds = attribution.agreement(both)
    assert ds.worst[0, 1, 0].item() == "layer 2, reader 3"


def test_readings_that_cannot_be_compared():
    both = readings(1.0)
    with pytest.raises(InputError, match="two readings are compared\n  got: 1 of them"):
        attribution.agreement({"a": both["a"]})
    with pytest.raises(InputError, match="readings of the same cells and samples"):
        attribution.agreement({"a": both["a"], "b": both["b"][:, :3]})
    with pytest.raises(InputError, match="cells that all readings have\n  got: 0"):
        attribution.agreement({"a": both["a"], "b": both["b"] * np.nan})


# ------------------------------------------------------------------------------------------------ every head in turn


def test_one_call_knocks_out_every_head(lab):
    """Of one prompt no axis of samples; a head is what an edit takes away, and the foil what is likeliest beside."""
    ds = attribution.knockout(lab, IDS, of=OF, against=AGAINST)
    spec = lab.spec
    assert ds.effect.dims == ("layer", "reader") and ds.layer.values.tolist() == list(range(spec.layers))
    assert "sample" not in ds.dims and "mean" not in ds and "interval" not in ds.attrs and "p" not in ds
    for layer in range(spec.layers):
        heads = spec.value_heads if spec.kind(layer) == "deltanet" else spec.query_heads
        assert int(ds.effect.sel(layer=layer).notnull().sum()) == heads and ds.kind.values[layer] == spec.kind(layer)
    base = said(lab, IDS)
    for layer, head in ((1, 7), (2, 3)):
        off = said(lab, IDS, edit.scale("gated", layer=layer, heads=[head], factor=0))
        assert float(ds.change.sel(layer=layer, reader=head)) == pytest.approx(off - base, abs=1e-5)
        assert float(ds.effect.sel(layer=layer, reader=head)) == pytest.approx((base - off) / base, abs=1e-4)
    assert ds.attrs["reading"] == "attribution.knockout" and float(ds.base) == pytest.approx(base, abs=1e-4)


def test_several_prompts_have_intervals(lab):
    ds = attribution.knockout(lab, [IDS, OTHER, IDS.flip(0)], of=OF, against=AGAINST, layers=[-1, 1], heads=[2, 0])
    assert ds.effect.dims == ("sample", "layer", "reader") and ds.effect.shape == (3, 2, 2)
    assert ds.layer.values.tolist() == [lab.spec.layers - 1, 1] and ds.reader.values.tolist() == [2, 0]
    low, mean, high = (ds[name].values for name in ("low", "mean", "high"))
    assert (low <= mean + 1e-6).all() and (mean <= high + 1e-6).all() and (low < high).any() and "p_adjusted" in ds
    alone = attribution.knockout(lab, OTHER, of=OF, against=AGAINST, layers=[-1, 1], heads=[2, 0])
    np.testing.assert_allclose(alone.effect, ds.effect.sel(sample=1), atol=1e-5)
    assert attribution.knockout(lab, [IDS], of=OF, against=AGAINST, layers=1).sizes["sample"] == 1
    assert attribution.knockout(lab, IDS.tolist(), of=OF, against=AGAINST, layers=1).effect.dims == ("layer", "reader")


def test_answers_that_are_not_given_are_the_likeliest():
    nano = lk.load("nano")
    prompt = " fox red. whale blue. crow green. fox"
    likeliest = nano.logits(nano.encode(prompt)[None])[0].topk(2).indices
    ds = attribution.knockout(nano, prompt, layers=[3])
    assert [str(ds.answer.values), str(ds.foil.values)] == [nano.tokenizer.decode([int(i)]) for i in likeliest]
    assert float(ds.base) > 0 and float(ds.base_right) == 1
    foil = attribution.knockout(nano, prompt, against=str(ds.answer.values), layers=[3])
    assert str(foil.answer.values) != str(ds.answer.values) and float(foil.base) < 0
    other = attribution.knockout(nano, [prompt, prompt], of=" blue", layers=[3], whole=True)
    assert other.answer.values.tolist() == [" blue"] * 2 and other.effect.dims == ("sample", "layer")


def test_knockouts_that_make_no_sense_are_refused(lab):
    for wrong in (3, None, 2.5):
        with pytest.raises(InputError, match="attribution.knockout: no prompt"):
            attribution.knockout(lab, wrong)
    with pytest.raises(InputError, match="(?s)knockout: unknown values.*put='other'.*zero, mean"):
        attribution.knockout(lab, IDS, put="other")
    with pytest.raises(InputError, match="(?s)an answer for each prompt, or one.*2 tokens for 3 prompts"):
        attribution.knockout(lab, [IDS, OTHER, IDS], of=[3, 4])
    with pytest.raises(InputError, match="no list of prompts"):
        attribution.knockout(lab, [], of=OF, against=AGAINST)


def test_parts_and_heads_count_from_the_end(lab):
    last, spec = lab.spec.layers - 1, lab.spec
    heads = spec.value_heads if spec.kind(last) == "deltanet" else spec.query_heads
    given = dict(of=OF, against=AGAINST)
    told = attribution.knockout_pairs(lab, [IDS], **given, parts=[(last, heads - 1), (1, 0)])
    same = attribution.knockout_pairs(lab, [IDS], **given, parts=[(-1, -1), (1 - spec.layers, 0)])
    assert told.identical(same) and told.part.values[0] == f"layer {last}, head {heads - 1}"
    for wrong in ((-spec.layers - 1, 0), (1, -spec.value_heads - 1), (None, 0), (1.5, 0)):
        with pytest.raises(InputError, match="no such part"):
            attribution.knockout_pairs(lab, [IDS], **given, parts=[wrong, (1, 0)])
    own = attribution.knockout(lab, IDS, **given, layers=[1], heads=-1)
    assert own.reader.values.tolist() == [spec.value_heads - 1]
    with pytest.raises(InputError, match="no such head"):  # of layers that differ in heads, -1 is another head in each
        attribution.knockout(lab, IDS, **given, layers=[1, 2], heads=-1)
