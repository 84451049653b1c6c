"""Routers: what was chosen is what the model chose, load is counted by hand, and edits of a router reach the model."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch

import labkit as lk
from labkit import edit, experts, plan
from labkit.errors import InputError, LayerError, ParityError
from labkit.trace import Seams

IDS = tiny.ids(53)


@pytest.fixture(scope="module", params=["qwen3_5_moe", "qwen3_next"])
def lab(request):
    return lk.wrap(tiny.model(family=request.param))


@pytest.fixture(scope="module")
def run(lab):
    return lab.trace(IDS, logits="all")


def returned(lab, ids, layer):
    """What the router of a layer returns in a plain pass: (logits, weights, chosen)."""
    seen = []
    handle = lab.model.model.layers[layer].mlp.gate.register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.no_grad():
        lab.model(ids[None])
    handle.remove()
    return seen[0]


def test_choices_are_those_that_the_model_made(lab, run):
    ds = experts.chosen(run, layer=range(lab.spec.layers))
    assert ds.expert.dims == ("layer", "token", "choice") and ds.expert.shape == (5, 53, 7)
    for layer in range(lab.spec.layers):
        logits, weights, chosen = returned(lab, IDS, layer)
        at = ds.sel(layer=layer)
        assert np.array_equal(at.expert, chosen)
        assert abs(at.weight - weights.numpy()).max() < 1e-6
        p = logits.softmax(-1)
        assert abs(at.mass - p.gather(-1, chosen).sum(-1).numpy()).max() < 1e-6
        assert abs(at.entropy - (-(p * p.log()).sum(-1)).numpy()).max() < 1e-5
    assert 0 <= ds.attrs["parity"] < 1e-6 and ds.attrs["reading"] == "experts.chosen"
    some = experts.chosen(run, layer=3, rows=[-1, 4])
    assert some.token.values.tolist() == [52, 4]
    assert np.array_equal(some.expert, ds.expert.sel(layer=3, token=[52, 4]))


def test_the_same_choices_in_chunks_in_decoding_and_behind_a_cache(lab, run):
    whole = experts.chosen(run, layer=[0, 4])
    for other in (lab.trace(IDS, chunk=9), lab.trace([IDS[:20], IDS])[1]):
        again = experts.chosen(other, layer=[0, 4])
        assert np.array_equal(again.expert, whole.expert) and abs(again.weight - whole.weight).max() < 1e-4
    cache = lab.cache()
    lab.trace(IDS[:30], cache=cache)
    rest = experts.chosen(lab.trace(IDS[30:], cache=cache), layer=[0, 4])
    assert rest.token.values.tolist() == list(range(30, 53))
    assert np.array_equal(rest.expert, whole.expert[:, 30:])
    grown = lab.generate(IDS[:30], max_new_tokens=5)
    assert experts.chosen(grown, layer=2).attrs["parity"] < 1e-6


def test_half_precision_and_equal_probabilities(lab):
    """In bfloat16 many logits are equal; which of them was chosen is the model's to say, and no error."""
    sizes = dict(hidden_size=48, moe_intermediate_size=24, shared_expert_intermediate_size=40)
    built = tiny.model(family=lab.spec.family, dtype=torch.bfloat16, **sizes)
    for layer in built.model.layers:
        layer.mlp.gate.weight[3:9] = layer.mlp.gate.weight[3]
    wide = lk.wrap(built)
    ds = experts.chosen(wide.trace(IDS), layer=list(range(5)))
    assert ds.attrs["parity"] < ds.attrs["tolerance"] == 1e-2
    assert np.array_equal(ds.expert.sel(layer=1), returned(wide, IDS, 1)[2])


def test_load_is_counted_by_hand(lab, run):
    kinds = ["word" if int(token) % 3 else "sign" for token in IDS]
    whole, split = experts.load(run, layer=2), experts.load(run, layer=2, segments=kinds)
    assert whole.share.dims == ("expert",) and split.share.dims == ("segment", "expert")
    chosen = experts.chosen(run, layer=2)
    for kind, at in (("all", whole), *((kind, split.sel(segment=kind)) for kind in ("word", "sign"))):
        rows = [t for t in range(53) if kind in ("all", kinds[t])]
        count = np.zeros(13)
        weight = np.zeros(13)
        for t in rows:
            for choice in range(7):
                count[int(chosen.expert[t, choice])] += 1
                weight[int(chosen.expert[t, choice])] += float(chosen.weight[t, choice])
        assert abs(at.share - count / (7 * len(rows))).max() < 1e-6
        assert abs(at.weight - weight / len(rows)).max() < 1e-6
        assert float(at.share.sum()) == pytest.approx(1) == pytest.approx(float(at.weight.sum()))
        assert int(at.tokens) == len(rows)
        low, high = (round(float(at[name]) * 7 * len(rows)) for name in ("low", "high"))
        assert 0 < low < 7 * len(rows) / 13 < high
        beyond = (count < low) | (count > high)
        assert float(at.outside) == pytest.approx(beyond.mean())
        assert 1 < float(at.spread) <= 13
    assert float(whole.even) == pytest.approx(1 / 13)
    groups = experts.load(run, layer=2, segments={"early": range(9), "late": [-1, -2]})
    assert groups.tokens.values.tolist() == [9, 2]
    assert int(split.tokens.sum()) == 53 and split.segment.values.tolist() == list(dict.fromkeys(kinds))


def test_an_even_router_lies_within_its_interval():
    """Drawn evenly and anew for every token, 5 % of experts or fewer lie outside; chosen by the first ones, most do."""
    lab = lk.wrap(tiny.model(experts=True, num_experts=61, num_experts_per_tok=5))
    run = lab.trace(tiny.ids(400), layers=[0])
    noise = torch.randn(400, 61, generator=torch.Generator().manual_seed(3))
    slanted = noise + torch.linspace(0, 3, 61)
    found = {}
    for name, logits in (("even", noise), ("slanted", slanted)):
        with lab.edit(edit.set("router", layer=0, value=logits, tokens=range(400))):
            found[name] = experts.load(lab.trace(run.ids, layers=[0]), layer=0)
    assert float(found["even"].outside) <= 0.1 < 0.5 < float(found["slanted"].outside)
    assert float(found["slanted"].spread) < float(found["even"].spread) < 61
    low, high, even = (float(found["even"][name]) for name in ("low", "high", "even"))
    assert low < even < high and high - low < 1.2 * even


@pytest.mark.parametrize("chunk", [None, 8])
def test_an_expert_that_is_taken_away_is_chosen_nowhere(lab, run, chunk):
    """Logits decide: the model's own choices and weights follow, and it computes what one with that router does."""
    layer, gone = 1, int(experts.chosen(run, layer=1).expert[20, 0])
    with lab.edit(edit.add("router", layer=layer, heads=[gone], vector=-1e4, tokens=range(20, 53))):
        changed = lab.trace(IDS, logits="all", chunk=chunk)
    ds = experts.chosen(changed, layer=layer)
    assert not (ds.expert[20:] == gone).any() and (ds.expert[:20] == gone).any()
    assert ds.attrs["parity"] < 1e-6 and abs(ds.weight.sum("choice") - 1).max() < 1e-6
    moved = (changed.logits - run.logits).abs().amax(-1)
    assert moved[:20].max() < 1e-4 and moved[20] > 1e-3
    own = lab.model.model.layers[layer].mlp.gate
    plain = own.forward

    def forward(x):
        logits = torch.nn.functional.linear(x.reshape(-1, x.shape[-1]), own.weight)
        logits[20:, gone] -= 1e4
        p = logits.softmax(-1)
        weights, chosen = p.topk(7, -1)
        return logits, weights / weights.sum(-1, keepdim=True), chosen

    own.forward = forward
    try:
        with torch.no_grad():
            expected = lab.model(IDS[None]).logits[0]
    finally:
        own.forward = plain
        del own.__dict__["forward"]
    torch.testing.assert_close(changed.logits, expected, rtol=2e-4, atol=2e-4)


def test_an_edit_of_the_router_that_changes_nothing_changes_nothing(lab, run):
    with lab.edit(edit.scale("router", layer=2, factor=1)):
        assert torch.equal(lab.trace(IDS, logits="all").logits, run.logits)


def test_weights_are_edited_after_the_logits_that_decide_them(lab, run):
    """In whatever order the two edits are given; a reading of a run whose weights were set is refused."""
    halved = edit.scale("routed", layer=3, factor=0.5, tokens=[30])
    taken = edit.add("router", layer=3, heads=[2], vector=-1e4, tokens=[30])
    runs = []
    for edits in ((halved, taken), (taken, halved)):
        with lab.edit(*edits):
            runs.append(lab.trace(IDS, logits="all"))
    assert torch.equal(runs[0].logits, runs[1].logits)
    with lab.edit(taken):
        only = lab.trace(IDS)
    torch.testing.assert_close(runs[0].seams[3, "routed"][30], only.seams[3, "routed"][30] / 2)
    assert torch.equal(runs[0].seams[3, "chosen"], only.seams[3, "chosen"])
    with pytest.raises(ParityError, match="experts.chosen: layer 3"):
        experts.chosen(runs[0], layer=3)


def test_an_edit_of_the_router_leaves_weights_of_other_tokens_as_another_edit_set_them(lab, run):
    halved = edit.scale("routed", layer=3, factor=0.5, tokens=[9])
    with lab.edit(halved), lab.edit(edit.add("router", layer=3, heads=[2], vector=-1e4, tokens=[30])):
        both = lab.trace(IDS)
    torch.testing.assert_close(both.seams[3, "routed"][9], run.seams[3, "routed"][9] / 2)
    assert not (both.seams[3, "chosen"][30] == 2).any()


def test_choices_that_are_not_the_largest_are_refused(run):
    """Weights that fit the experts are not enough."""
    wrong = {name: run.seams[2, name].clone() for name in ("router", "routed", "chosen")}
    p = wrong["router"].softmax(-1)
    wrong["chosen"][17] = p[17].topk(7, largest=False).indices
    taken = p[17, wrong["chosen"][17]]
    wrong["routed"][17] = taken / taken.sum()
    changed = dataclasses.replace(run, seams=Seams({(2, name): seam for name, seam in wrong.items()}), parity={})
    with pytest.raises(ParityError, match="experts.load choice: layer 2"):
        experts.load(changed, layer=2)


def test_numbers_of_experts_are_no_numbers_to_change(lab):
    with pytest.raises(LayerError, match=r"names experts by number(.|\n)*router, routed(.|\n)*edit.add"):
        lab.edit(edit.add("chosen", layer=2, vector=1))


def test_what_no_router_answers(lab, run):
    dense = lk.wrap(tiny.model(), name="dense")
    with pytest.raises(LayerError, match=r"experts.load: no layer of this model has a router that is read\n.*dense"):
        experts.load(dense.trace(IDS[:4]), layer=0)
    with pytest.raises(InputError, match="layer out of range"):
        experts.chosen(run, layer=5)
    with pytest.raises(InputError, match=r"one kind of every token\n.*2 names\n.*53 names\n.*experts.load\(run, layer"):
        experts.load(run, layer=0, segments=["word", "sign"])
    with pytest.raises(InputError, match="no kinds of token"):
        experts.load(run, layer=0, segments={})
    with pytest.raises(InputError, match=r"token out of range"):
        experts.load(run, layer=0, segments={"late": [53]})


def test_a_plan_knows_routers(lab):
    assert {"experts.chosen", "experts.load"} <= set(plan.readings())
    planned = lab.plan(tokens=300, want="experts.load", layers=[0, 1])
    assert planned.fits and planned.kept > 0
    with pytest.raises(LayerError, match="router that is read"):
        lk.wrap(tiny.model()).plan(tokens=300, want=experts.load)


def test_seams_of_a_router_are_streamed_saved_and_opened(lab, run, tmp_path):
    from labkit.stream import capture

    ds = lab.stream(IDS, probes=[capture("router", tokens=[3, 40], layers=[1, 4])], chunk=16)
    assert ds.router.dims == ("layer", "expert", "token") and ds.router.shape == (2, 13, 2)
    assert abs(ds.router.sel(layer=4, token=40) - run.seams[4, "router"][40].numpy()).max() < 1e-4
    run.save(tmp_path / "run")
    back = lk.open_run(tmp_path / "run")
    assert torch.equal(back.seams[2, "chosen"], run.seams[2, "chosen"])
    assert np.array_equal(experts.load(back, layer=2).share, experts.load(run, layer=2).share)
    from safetensors.torch import load_file, save_file

    path = tmp_path / "run" / "run.safetensors"
    tensors = load_file(path)
    tensors["seams/2/chosen"][4, 1] = 13
    save_file(tensors, path)
    with pytest.raises(lk.LabError):
        lk.open_run(tmp_path / "run")
