"""The stream says at the last layer what the model says, and is the sum of what its branches add."""

import measure
import numpy as np
import pytest
import tiny
import torch

from labkit import edit, plan, residual
from labkit.errors import BudgetError, InputError, ParityError, SeamError

IDS = tiny.ids(23)
FAMILIES = sorted(tiny.FAMILY_SIZES)


@pytest.fixture(scope="module", params=FAMILIES)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(tiny.model(family=request.param))


@pytest.fixture(scope="module")
def wide():
    """A lab in float64."""
    return tiny.make_lab(tiny.model(dtype=torch.float64))


def by_hand(lab, stream):
    """RMS norm and unembedding from their definition, in float64."""
    norm, wide = lab.final_norm, stream.double()
    wide = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + norm.weight.double())
    return wide @ lab.unembedding.weight.double().T


def test_the_lens_is_norm_and_unembedding_at_every_layer(own):
    run, answers = own.trace(IDS), [3, 7, 150]
    ds = residual.lens(run, own, of=answers, tokens=[2, -4, 9, 0], top=6)
    assert ds.best.dims == ("layer", "token", "choice") and ds.best.shape == (5, 4, 6)
    assert ds.answer_rank.dims == ("layer", "token", "answer") and ds.token.values.tolist() == [2, 19, 9, 0]
    for layer in range(5):
        said = by_hand(own, run.seams[layer, "resid_post"][[2, -4, 9, 0]])
        chances = said.softmax(-1)
        assert np.allclose(ds.answer_logit[layer], said[:, answers], atol=1e-4)
        assert np.allclose(ds.answer_probability[layer], chances[:, answers], atol=1e-5)
        assert np.allclose(ds.probability[layer], chances.sort(descending=True).values[:, :6], atol=1e-5)
        assert (ds.best[layer].values == said.argsort(descending=True)[:, :6].numpy()).all()
        places = [[(row > row[answer]).sum() for answer in answers] for row in said]
        assert ds.answer_rank[layer].values.tolist() == places
        assert np.allclose(ds.entropy[layer], torch.special.entr(chances).sum(-1), atol=1e-4)


def test_the_last_layer_says_what_the_model_says(own):
    with torch.no_grad():
        said = own.model(IDS[None]).logits[0].log_softmax(-1)
    ds = residual.lens(own.trace(IDS), own, of=11)
    assert np.allclose(np.log(ds.answer_probability[-1, :, 0]), said[:, 11], atol=1e-4)
    assert abs(ds.divergence[-1]).max() < 1e-6
    first = by_hand(own, own.trace(IDS).seams[0, "resid_post"]).log_softmax(-1)
    far = torch.nn.functional.kl_div(first, said.double(), log_target=True, reduction="none").sum(-1)
    assert np.allclose(ds.divergence[0], far, atol=1e-4) and float(ds.divergence[0].min()) > 0.01


def test_before_a_layer_is_after_the_one_below(own):
    run = own.trace(IDS)
    before, after = (residual.lens(run, own, of=[5, 6], seam=seam) for seam in ("resid_pre", "resid_post"))
    np.testing.assert_array_equal(before.answer_logit[1:], after.answer_logit[:-1])
    words = own.model.get_input_embeddings().weight[IDS]
    assert np.allclose(before.answer_logit[0], by_hand(own, words)[:, [5, 6]], atol=1e-4)


def test_an_int_drops_its_axis_and_a_layer_is_named(lab):
    ds = residual.lens(lab.trace(IDS), lab, layers=3, tokens=-1, of=4)
    assert ds.best.dims == ("choice",) and (int(ds.layer), int(ds.token)) == (3, 22)
    assert ds.answer_logit.dims == ("answer",) and ds.answer_id.values.tolist() == [4]


def test_rows_in_parts_are_rows_at_once(lab, monkeypatch):
    run = lab.trace(IDS)
    whole = residual.lens(run, lab, of=[9, 8])
    monkeypatch.setattr("labkit.residual.costs.SCRATCH", 4 * 211 * 3)
    for name, values in residual.lens(run, lab, of=[9, 8]).data_vars.items():
        if values.dtype.kind in "UO":
            assert (values == whole[name]).all()
        else:
            assert np.allclose(values, whole[name], atol=1e-5)


def test_the_lens_sees_what_an_edit_did(own):
    plain = own.trace(IDS)
    with own.edit(edit.scale("mixer_out", layer=1, factor=0)):
        run = own.trace(IDS)
        inside = residual.lens(run, own, of=12)
    ds, before = (residual.lens(each, own, of=12) for each in (run, plain))
    xr_equal = np.array_equal(inside.answer_logit, ds.answer_logit)
    assert xr_equal and np.array_equal(ds.answer_logit[0], before.answer_logit[0])
    assert all(abs(ds.answer_logit[layer] - before.answer_logit[layer]).max() > 1e-3 for layer in range(1, 5))


def test_a_cached_continuation_says_the_same(own):
    whole, cache = residual.lens(own.trace(IDS), own, of=20), own.cache()
    own.trace(IDS[:14], cache=cache)
    part = residual.lens(own.trace(IDS[14:], cache=cache), own, of=20)
    assert part.token.values.tolist() == list(range(14, 23))
    assert np.allclose(part.answer_logit, whole.answer_logit[:, 14:], atol=1e-3)


def test_branches_add_up_to_the_logit(own):
    with torch.no_grad():
        said = own.model(IDS[None]).logits[0]
    ds = residual.contributions(own.trace(IDS), own, of=[3, 150, 7], tokens=None)
    assert ds.added.dims == ("layer", "term", "token", "answer") and ds.added.shape == (5, 2, 23, 3)
    summed = ds.embedding + ds.added.sum(("layer", "term"))
    assert np.allclose(summed, said[:, [3, 150, 7]], atol=1e-4) and np.allclose(ds.logit, summed, atol=1e-4)


def test_in_float64_branches_add_up_to_the_last_digits(wide):
    run = wide.trace(IDS)
    ds = residual.contributions(run, wide, of=[3, 150], against=77)
    summed = ds.embedding + ds.added.sum(("layer", "term"))
    exact = by_hand(wide, run.seams[4, "resid_post"][-1])  # transformers' norm rounds to float32
    assert abs(summed.values - (exact[[3, 150]] - exact[77]).numpy()).max() < 1e-10
    assert abs(summed - ds.logit).max() < 1e-5 and list(ds.answer.values) == ["[3] - [77]", "[150] - [77]"]


def test_a_contribution_is_the_inner_product_with_the_way_out(wide):
    run = wide.trace(IDS)
    ds = residual.contributions(run, wide, of=9, tokens=[4, -2])
    last = run.seams[4, "resid_post"][[4, -2]]
    way = (
        (1 + wide.final_norm.weight) * wide.unembedding.weight[9] / (last.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    )
    for layer in range(5):
        for n, seam in enumerate(("mixer_out", "mlp_out")):
            branch = run.seams[layer, seam][[4, -2]]
            assert np.allclose(ds.added[layer, n, :, 0], (branch * way).sum(-1), atol=1e-10)
            assert np.allclose(ds["size"][layer, n], branch.norm(dim=-1), atol=1e-10)


def test_what_a_branch_adds_is_what_removing_it_takes_with_the_norm_frozen(wide):
    """The last MLP acts on nothing but the way out; a tenth of it is a small step, where the norm hardly moves."""
    run, small = wide.trace(IDS), 1e-4
    added = float(residual.contributions(run, wide, of=9, against=10).added.sel(term="mlp")[-1, 0])
    last, branch = run.seams[4, "resid_post"][-1], run.seams[4, "mlp_out"][-1]
    rms = lambda x: (x.square().mean() + 1e-6).sqrt()  # noqa: E731
    moved = [by_hand(wide, x) * rms(x) / rms(last) for x in (last, last - small * branch)]
    lost = (moved[0] - moved[1])[[9, 10]]
    assert abs(float(lost[0] - lost[1]) / small - added) < 1e-5


@pytest.mark.parametrize("stored", [torch.uint8, torch.float8_e4m3fn])
def test_packed_rows_of_the_unembedding_are_those_of_its_forward(lab, stored):
    """Bytes say nothing, and fp8 numbers miss their scales."""
    from labkit.residual import branches

    class Packed(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight, self.real = torch.zeros(weight.shape).to(stored), weight

        def forward(self, x):
            return x @ self.real.T

    weight = lab.unembedding.weight
    stand_in = type("Lab", (), dict(unembedding=Packed(weight), spec=lab.spec, device=lab.device, dtype=lab.dtype))
    assert torch.allclose(branches.unembedded(stand_in, [3, 9]), weight[[3, 9]], atol=1e-6)


# what it takes ------------------------------------------

CALLS = {
    "lens": (residual.lens, dict(of=[3, 7])),
    "lens of some": (residual.lens, dict(layers=[1, 2], tokens=[-40 * n for n in range(1, 7)])),
    "contributions": (residual.contributions, dict(of=3, tokens=None)),
    "contributions of answers": (residual.contributions, dict(of=[3, 4, 5], against=2, tokens=None)),
}
SHAPES = {"small": {}, "wide": dict(hidden_size=200, vocab_size=307), "bfloat16": dict(dtype=torch.bfloat16)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CALLS)
def test_it_takes_what_it_says(name, shape, monkeypatch):
    """Counted bytes against those that the call asks for, and that `lab.plan` tells beside the run's own."""
    lab = tiny.make_lab(tiny.model(max_position_embeddings=2048, **SHAPES[shape]))
    (function, options), run, asked = CALLS[name], lab.trace(tiny.ids(300)), []
    call, module = lambda: function(run, lab, **options), f"labkit.residual.{MODULES[function]}"  # noqa: E731
    call()
    peak, _, _ = measure.peak(call)
    monkeypatch.setattr(f"{module}.admit", lambda name, tokens, parts, *rest: asked.append(sum(parts.values())))
    call()
    assert 0.8 < peak / asked[0] < 1.15
    given = {("rows" if key == "tokens" else key): value for key, value in options.items()}
    planned = lab.plan(tokens=300, want=f"residual.{function.__name__}", **given)
    seams = (
        ["resid_pre", "resid_post", "mixer_out", "mlp_out"] if function is residual.contributions else ["resid_post"]
    )
    layers = sorted({*options.get("layers", range(5)), 4})
    run = lab.plan(tokens=300, layers=layers, seams=seams)
    assert planned.peak == max(run.peak, run.kept + asked[0]) and planned.want == f"residual.{function.__name__}"


MODULES = {residual.lens: "spoken", residual.contributions: "branches"}


def test_what_would_not_fit_is_refused_with_a_cheaper_way(lab, monkeypatch):
    run = lab.trace(tiny.ids(300))
    monkeypatch.setattr(plan.card, "budget", lambda device: (300_000, "a small machine"))
    with pytest.raises(BudgetError, match="(?s)residual.lens of 300 tokens.*logits of some rows"):
        residual.lens(run, lab, of=3)
    with pytest.raises(BudgetError, match=r"(?s)residual.contributions of 300 tokens.*try: tokens=-1 \("):
        residual.contributions(run, lab, of=3, tokens=None)
    told = lab.plan(tokens=300, want="residual.contributions", of=3, rows=None)
    assert not told.fits and [way for way, _ in told.cheaper] == []
    monkeypatch.undo()
    assert residual.contributions(run, lab, of=3, tokens=None).sizes["token"] == 300


# what is refused ----------------------------------------


def test_wrong_questions_are_refused(lab):
    run = lab.trace(IDS)
    with pytest.raises(InputError, match="residual.lens: no answer\n  expected: a token id"):
        residual.lens(run, lab, of=[])
    with pytest.raises(InputError, match="residual.contributions: no such token\n  got: 211\n  expected: 0 to 210"):
        residual.contributions(run, lab, of=211)
    with pytest.raises(
        InputError, match="residual.lens reads the stream\n  got: seam 'mlp_out'\n  expected: resid_post or"
    ):
        residual.lens(run, lab, seam="mlp_out")
    with pytest.raises(InputError, match="residual.lens: no answer\n  got: True"):
        residual.lens(run, lab, of=True)
    with pytest.raises(InputError, match="layer out of range"):
        residual.lens(run, lab, layers=5)
    with pytest.raises(InputError, match="residual.lens reads a run\n  got: a lab"):
        residual.lens(lab, run)
    with pytest.raises(InputError, match="as many answers as foils, or one foil\n  got: 3 and 2"):
        residual.contributions(run, lab, of=[1, 2, 3], against=[4, 5])


def test_a_text_of_several_tokens_is_no_answer():
    import labkit

    nano = labkit.load("nano")
    run = nano.trace(" fox red whale")
    with pytest.raises(
        InputError, match="an answer is one token\n  got: ' fox red': 2 tokens\n  try: its first token, of="
    ):
        residual.lens(run, nano, of=" fox red")


def test_another_model_and_a_seam_that_is_missing(lab):
    run, other = lab.trace(IDS), tiny.make_lab(tiny.model(seed=1))
    with pytest.raises(InputError, match="this run was made by another model"):
        residual.lens(run, other)
    with pytest.raises(SeamError, match="seam 'resid_post' of layer 4 was not kept"):
        residual.lens(lab.trace(IDS, layers=[0, 1]), lab, layers=0)
    with pytest.raises(SeamError, match="seam 'mlp_out'"):
        residual.contributions(lab.trace(IDS, seams=["resid_pre", "resid_post", "mixer_out"]), lab, of=3)


def test_what_is_no_branch_is_told(lab):
    with lab.edit(edit.scale("resid_post", layer=2, factor=1.5)):
        run = lab.trace(IDS)
    with pytest.raises(
        ParityError, match="the branches do not add up to the logit.*\n.*\n.*\n  try: an edit of the stream"
    ):
        residual.contributions(run, lab, of=3)
