"""Slopes at seams are finite differences of the model; with cuts, of the model in which the cut seams stay."""

import measure
import numpy as np
import pytest
import siblings
import tiny
import torch

from labkit import attribution, edit
from labkit.errors import InputError, LayerError

IDS = tiny.ids(21)
OF, AGAINST = 9, 150
MODELS = {family: lambda family=family: tiny.model(family=family) for family in sorted(tiny.FAMILY_SIZES)}
MODELS |= {"olmo_hybrid": siblings.olmo, "kimi_linear": siblings.kimi}
STEP = 4e-3  # of a seam's own size; transformers computes states in float32
READ = [name for name in MODELS if name != "kimi_linear"]


@pytest.fixture(scope="module")
def labs():
    """A lab of each family, made once."""
    return {name: tiny.make_lab(make()) for name, make in MODELS.items()}


def number(lab, *edits, says=lambda run: run.logits[-1, OF].double() - run.logits[-1, AGAINST].double()):
    with lab.edit(*edits):
        return float(says(lab.trace(IDS, layers=[])))


def grown(lab, place, *held, tokens=None, heads=None, **options):
    """Change of the number per share by which a seam grows, `held` edits open; central difference.

    Where experts are chosen the number has edges, and small steps drown in rounding: of five steps, each half of the
    one before, the two that agree best are taken, without the error that goes with the step's square (Richardson).
    """
    (layer, seam), found = place, []
    for step in (STEP, STEP / 2, STEP / 4, STEP / 8, STEP / 16):
        at = lambda step: edit.scale(seam, layer=layer, factor=1 + step, tokens=tokens, heads=heads)  # noqa: E731
        ends = [number(lab, *held, at(sign * step), **options) for sign in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * step))
        if len(found) > 1 and abs(found[-1] - found[-2]) < 2e-3 * abs(found[-1]) + 2e-4:
            break
    wide, fine = min(zip(found, found[1:], strict=False), key=lambda pair: abs(pair[0] - pair[1]))
    return (4 * fine - wide) / 3


def every(lab):
    """All seams of one layer of each kind, the last of its kind but one where there are more."""
    spec = lab.spec
    for layer in (1, 2):
        for seam, kind in spec.seams[spec.kind(layer)].items():
            if kind.indexes is None and not (layer == 2 and seam == "mixer_in" and spec.family == "olmo_hybrid"):
                yield layer, seam


@pytest.mark.parametrize("name", MODELS)
def test_every_seam_of_either_kind_in_every_family_has_its_slope(labs, name):
    lab = labs[name]
    places = list(every(lab))
    ds = attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=places)
    assert float(ds.number) == pytest.approx(number(lab), abs=1e-5)
    scale = float(abs(ds.passed.sum("token")).max())
    for n, place in enumerate(places):
        found = float(ds.passed[n].sum())
        assert abs(found - grown(lab, place)) < 1e-2 * abs(found) + 2e-3 * scale, place
    assert len(places) > 15 and float(abs(ds.passed.sum("token")).min()) != 0


def held(lab, through, run):
    """Edits that put back what a run had, where a word cuts."""
    spec, kept = lab.spec, 2 * lab.spec.key_heads * lab.spec.dk
    for layer, kind in enumerate(spec.kinds):
        if through != "values":
            if kind != through:
                yield edit.set("mixer_out", layer=layer, value=run.seams[layer, "mixer_out"])
            continue
        for seam in ("q", "k", "gate", "z", "a", "b", "routed"):
            if seam in spec.seams[kind]:
                yield edit.set(seam, layer=layer, value=run.seams[layer, seam])
        if "qkv" in spec.seams[kind]:
            keys = run.seams[layer, "qkv"][None, :, :kept]
            put = lambda x, at, keys=keys: torch.cat([keys, x[..., kept:]], -1)  # noqa: E731
            yield edit.function(put, seam="qkv", layer=layer)


@pytest.mark.parametrize("through", attribution.gradients.THROUGH)
@pytest.mark.parametrize("name", READ)
def test_slopes_along_chosen_paths_are_those_of_the_model_with_the_others_held(labs, name, through):
    lab = labs[name]
    own, places = list(held(lab, through, lab.trace(IDS))), [(0, "resid_pre"), (1, "v" if "v" in seams(lab) else "qkv")]
    places += [(2, "resid_post")]
    ds, free = (
        attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=places, through=word) for word in (through, None)
    )
    assert float(ds.number) == pytest.approx(float(free.number), abs=1e-6), "numbers go on as they are"
    for n, place in enumerate(places):
        if place[1] == "qkv" and through == "values":
            continue  # which is held in part
        found, other = (float(each.passed[n].sum()) for each in (ds, free))
        assert abs(found - grown(lab, place, *own)) < 1e-2 * max(abs(found), abs(other)) + 3e-3, place
    assert float(abs(ds.passed - free.passed).max()) > 1e-2 and ds.attrs["through"] == through


def seams(lab):
    return lab.spec.seams["deltanet"]


def test_slopes_end_at_a_layer_and_go_around_a_branch(labs):
    """Where the stream is cut, nothing comes from before; where a branch is, what goes around it is left."""
    lab = labs["qwen3_5"]
    at = [(0, "resid_pre"), (3, "resid_pre"), (2, "mixer_out")]
    ends = attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=at, cut=[(2, "resid_post")])
    free = attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=at)
    assert float(abs(ends.passed[0]).max()) == 0 == float(abs(ends.passed[2]).max())
    assert np.allclose(ends.passed[1], free.passed[1], atol=1e-6) and float(abs(free.passed[0]).max()) > 0.01
    around = attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=at, cut=[(2, "mixer_out")])
    run = lab.trace(IDS)
    own = edit.set("mixer_out", layer=2, value=run.seams[2, "mixer_out"])
    found = float(around.passed[0].sum())
    assert abs(found - grown(lab, (0, "resid_pre"), own)) < 4e-3 * abs(found) + 1e-3
    assert np.allclose(around.passed[2], free.passed[2], atol=1e-5), "the slope at the cut is that of what it hands on"
    assert around.attrs["cut"] == ["stop('mixer_out', layer=2)"]


def test_a_cut_is_of_heads_and_tokens(labs):
    lab, run = labs["qwen3_5"], labs["qwen3_5"].trace(IDS)
    cut = attribution.stop("gated", layer=1, heads=[2, 7], tokens=range(5, 20))
    value = run.seams[1, "gated"][:, [2, 7]]
    own = edit.set("gated", layer=1, heads=[2, 7], tokens=range(5, 20), value=value)
    ds = attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=[(0, "resid_pre"), (1, "read")], cut=[cut])
    for n, place in enumerate([(0, "resid_pre"), (1, "read")]):
        found = float(ds.passed[n].sum())
        assert abs(found - grown(lab, place, own)) < 4e-3 * abs(found) + 1e-3
    heads = ds.by_head[1].values
    assert np.abs(heads[[2, 7], 5:20]).max() == 0 and np.abs(heads[[2, 7], 20]).min() > 0
    assert np.abs(heads[[0, 1, 3]]).max() > 0


def test_shares_of_heads_and_tokens_are_their_own_differences(labs):
    lab = labs["qwen3_5"]
    at = [(1, "gated"), (2, "v"), (2, "mlp_out")]
    ds = attribution.slopes(lab, IDS, of=OF, against=AGAINST, at=at)
    assert ds.by_head.shape == (3, 9, 21) and np.isnan(ds.by_head[2]).all() and np.isnan(ds.by_head[1, 2:]).all()
    assert np.allclose(ds.by_head[:2].sum("reader"), ds.passed[:2], atol=1e-5)
    for n, heads, token in ((0, 4, 11), (1, 1, 6)):
        found = float(ds.by_head[n, heads, token])
        assert abs(found - grown(lab, at[n], heads=[heads], tokens=[token])) < 5e-3 * abs(found) + 5e-4
    assert abs(float(ds.passed[2, 20]) - grown(lab, at[2], tokens=[20])) < 1e-3 + 4e-3 * abs(float(ds.passed[2, 20]))
    run = lab.trace(IDS, grad=True)
    slope = run.gradient(run.logits[-1, OF] - run.logits[-1, AGAINST], layer=2, seam="v")
    assert np.allclose(ds.steep[1], slope.flatten(1).norm(dim=-1), atol=1e-5)
    assert ds.place.values.tolist() == ["layer 1, gated", "layer 2, v", "layer 2, mlp_out"]


def test_any_number_of_a_run_has_slopes(labs):
    """A divergence from what another prompt says, and a length of a later seam."""
    lab = labs["qwen3_5_moe"]
    other = lab.trace(IDS.flip(0)).logits[-1].log_softmax(-1)

    def divergence(run):
        said = run.logits[-1].log_softmax(-1)
        return (other.exp() * (other - said)).sum()

    ds = attribution.slopes(lab, IDS, of=divergence, at=[(1, "gated"), (0, "router")])
    run = lab.trace(IDS)
    for n, (layer, seam) in enumerate([(1, "gated"), (0, "router")]):
        found = float(ds.passed[n].sum())
        assert abs(found - grown(lab, (layer, seam), says=divergence)) < 1e-2 * abs(found) + 1e-3
    assert float(ds.number) == pytest.approx(float(divergence(run)), abs=1e-5)
    assert ds.attrs["answer"] == "a function of the run"
    late = attribution.slopes(lab, IDS, of=lambda run: run.seams[3, "resid_pre"].square().sum(), at=[(3, "resid_pre")])
    assert np.allclose(late.passed[0], 2 * lab.trace(IDS).seams[3, "resid_pre"].square().sum(-1), rtol=1e-4)


def test_without_places_the_stream_and_both_branches_of_every_layer(labs):
    ds = attribution.slopes(labs["olmo_hybrid"], IDS, of=OF, token=-3)
    assert ds.sizes["place"] == 15 and float(abs(ds.passed[:, 19:]).max()) == 0
    assert ds.passed.dims == ("place", "token") and (ds.at_layer.values == np.repeat(range(5), 3)).all()


def test_seeing_leaves_the_model_as_it_was(labs):
    for name, lab in labs.items():
        before = lab.trace(IDS).logits
        attribution.slopes(lab, IDS, of=3, through="attention", cut=[(1, "mlp_out")], at=[(0, "resid_pre")])
        assert torch.equal(before, lab.trace(IDS).logits) and tiny.hooks(lab.model) == [], name


@torch.no_grad()
def test_slopes_are_taken_where_none_are_kept(lab):
    assert float(attribution.slopes(lab, IDS, of=3, at=[(1, "b")]).steep.max()) > 0


@pytest.mark.parametrize("name", MODELS)
def test_what_autograd_keeps_is_planned_in_every_family(labs, name, tokens=200):
    """Of a trace with all seams, and of slopes of the stream and both branches."""
    lab, ids = labs[name], tiny.ids(tokens)
    lab.trace(IDS, grad=True)
    plan = lab.plan(tokens=tokens, grad=True)
    peak, kept, _ = measure.peak(lambda: lab.trace(ids, grad=True))
    assert 0.8 < peak / plan.peak < 1.15 and 0.8 < kept / plan.kept < 1.15
    few = lab.plan(tokens=tokens, grad=True, seams=["resid_pre", "mixer_out", "mlp_out"])
    peak, _, _ = measure.peak(lambda: attribution.slopes(lab, ids, of=OF))
    assert 0.8 < peak / few.peak < 1.15, f"planned {few.peak:,}, counted {peak:,}"


# what is refused ----------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (dict(of=3, at=[]), InputError, "no seam chosen"),
        (dict(of=3, at=["v"]), InputError, "(?s)not a seam of a layer.*got: 'v'"),
        (dict(of=3, at=[(1, "q")]), LayerError, "(?s)layer 1 is a deltanet layer and has no seam 'q'.*qkv"),
        (
            dict(of=3, through="nothing"),
            InputError,
            "(?s)no such paths.*got: 'nothing'.*'values', 'deltanet', 'attention'",
        ),
        (dict(of=3, cut=[(9, "v")]), InputError, "layer"),
        (dict(of=[3, 4]), InputError, "one answer at a time"),
        (
            dict(of=lambda run: run.logits[0]),
            InputError,
            r"(?s)`of` gives one number.*shape \[211\].*run.logits\[0, 7\]",
        ),
        (dict(of=lambda run: 3.0), InputError, "(?s)`of` gives one number.*got: float"),
        (dict(of=lambda run: run.seams[0, "mlp_out"].sum(), at=[(0, "mlp_out"), (3, "b")]), InputError, "not depend"),
    ],
)
def test_what_has_no_slope_is_refused(lab, options, error, match):
    with pytest.raises(error, match=match):
        attribution.slopes(lab, IDS, **options)


def test_seams_without_slopes_of_their_own_are_refused(labs):
    with pytest.raises(InputError, match="(?s)whole numbers have no slope.*'chosen'"):
        attribution.slopes(labs["qwen3_5_moe"], IDS, of=3, at=[(1, "chosen")])
    with pytest.raises(LayerError, match="(?s)keys and values of layer 2 come out of one seam.*latent.*mixer_out"):
        attribution.slopes(labs["kimi_linear"], IDS, of=3, through="values")
