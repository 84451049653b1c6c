"""The memory circuit: edges add up at every node and to the logit; paths to the last one are exact attribution."""

import numpy as np
import pytest
import siblings
import tiny
import torch

from labkit import attribution, deltanet, edit, plan
from labkit.errors import BudgetError, InputError

IDS, SPLIT = tiny.ids(23), 14
MODELS = {family: lambda family=family: tiny.model(family=family) for family in sorted(tiny.FAMILY_SIZES)}
MODELS |= {"olmo_hybrid": siblings.olmo, "olmo_hybrid, unrotated": lambda: siblings.olmo(rope_theta=None)}
MODELS |= {"kimi_linear": siblings.kimi, "kimi_linear, compressed": lambda: siblings.kimi(q_lora_rank=30)}
WIDE = {
    "qwen3_5": lambda: tiny.model(dtype=torch.float64),
    "olmo_hybrid": lambda: siblings.olmo(dtype=torch.float64),
    "kimi_linear": siblings.kimi64,
}
SOURCES = ("token", "cache", "rest")
D, A = "linear_attention", "full_attention"


@pytest.fixture(scope="module", params=MODELS)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(MODELS[request.param]())


@pytest.fixture(scope="module", params=WIDE)
def wide(request):
    """A lab in float64."""
    return tiny.make_lab(WIDE[request.param]())


def snapshot(lab, count=SPLIT):
    cache = lab.cache()
    lab.trace(IDS[:count], cache=cache)
    return lab.snapshot(cache)


def part(ds, name):
    """Numbers of the nodes of a part."""
    return np.flatnonzero(ds.part.values == name)


def balanced(ds, within):
    """What comes into a node is what goes out of it, at every node; and all sources together are the logit."""
    value, sender, receiver = ds.value.values, ds.sender.values, ds.receiver.values
    for n, name in enumerate(ds.part.values):
        into, out = value[receiver == n].sum(), value[sender == n].sum()
        if name not in SOURCES:
            assert abs(into - float(ds.flow[n])) < within, (name, n)
        if name != "logit":
            assert abs(out - float(ds.flow[n])) < within, (name, n)
    assert ds.attrs["imbalance"] < within and ds.attrs["residual"] < within
    sources = ds.flow.values[np.isin(ds.part.values, SOURCES)].sum()
    root = part(ds, "logit")
    assert root.tolist() == [0] and abs(sources - float(ds.flow[0])) < within
    return sources


@pytest.mark.parametrize("snap", [False, True], ids=["cold", "cached"])
def test_edges_add_up_at_every_node_and_to_the_logit(own, snap):
    given = dict(snap=snapshot(own)) if snap else {}
    ids = IDS[SPLIT:] if snap else IDS
    ds = attribution.circuit(own, ids, of=9, against=150, least=0.1, **given)
    row = own.trace(IDS).logits[0].double()
    exact = float(row[9] - row[150])
    assert abs(balanced(ds, 1e-4) - exact) < 1e-4 and abs(float(ds.logit) - exact) < 1e-4
    kept = ds.value.values[ds.kind.values != "rest"]
    assert {"read", "write", "token", "rest"} <= set(ds.part.values.tolist()) and len(kept)
    assert snap == ("cache" in ds.part.values)
    rest = float(ds.value.where(ds.kind == "rest").sum()) / exact
    assert ds.attrs["rest"] == pytest.approx(rest, abs=1e-3)


@pytest.mark.parametrize("snap", [False, True], ids=["cold", "cached"])
def test_in_float64_to_the_last_digits(wide, snap):
    given = dict(snap=snapshot(wide)) if snap else {}
    ds = attribution.circuit(wide, IDS[SPLIT:] if snap else IDS, of=9, against=150, least=0.05, **given)
    assert abs(balanced(ds, 1e-10) - float(ds.logit)) < 1e-5 * abs(float(ds.logit)) + 1e-5
    assert ds.sizes["node"] > 20


@pytest.mark.parametrize("snap", [False, True], ids=["cold", "cached"])
def test_followed_to_the_last_path_sources_bring_what_exact_attribution_says(wide, snap):
    """All paths: of every token's embedding, and of the cache; and of every head at the token that answers."""
    given = dict(snap=snapshot(wide, 19)) if snap else {}
    ids = IDS[19:22] if snap else IDS[:3]
    ds = attribution.circuit(wide, ids, of=9, against=150, least=0.0, **given)
    exact = attribution.exact(wide, ids, of=9, against=150, **given)
    tokens = part(ds, "token")
    order = np.argsort(ds.at_token.values[tokens])
    assert np.allclose(ds.flow.values[tokens][order], exact.embedding, atol=1e-10) and len(tokens) == len(ids)
    assert float(ds.flow[part(ds, "cache")].sum()) == pytest.approx(float(exact.cached.sum()), abs=1e-10)
    assert abs(ds.attrs["rest"]) < 1e-12
    for n in part(ds, "read"):
        place = int(ds.at_layer[n]), int(ds.at_head[n])
        of_head = (ds.part == "read") & (ds.at_layer == place[0]) & (ds.at_head == place[1])
        assert float(ds.flow[of_head.values].sum()) == pytest.approx(float(exact.read[place].sum()), abs=1e-10)
    for n in part(ds, "mlp"):
        same = (ds.part == "mlp") & (ds.at_layer == ds.at_layer[n]) & (ds.at_token == ds.at_token[n])
        at = int(ds.at_token[n]) - int(exact.source[0])
        brought = float(exact.branch.sel(term="mlp")[int(ds.at_layer[n]), at])
        assert float(ds.flow[same.values].sum()) == pytest.approx(brought, abs=1e-10)


@pytest.fixture(scope="module")
def bare():
    """A lab whose last layer is a Gated DeltaNet layer with an MLP that adds nothing: its heads act directly."""
    model = tiny.model(dtype=torch.float64, layer_types=[D, D, A, A, D])
    model.model.layers[-1].mlp.down_proj.weight.zero_()
    return tiny.make_lab(model)


def test_what_is_stored_and_what_is_erased_of_it_are_the_implied_attention(bare):
    """In the last layer: stored as decay alone would leave it, and A says what is left."""
    ds, top, last = attribution.circuit(bare, IDS, of=9, against=30, least=0.01), 0, 0
    direct, x = attribution.logit(bare, IDS, of=9, against=30), deltanet.inputs(bare.trace(IDS), 4)
    for n, node in enumerate(ds.read.values):
        into, left = ds.receiver.values == node, (ds.written[n] + ds.erased[n]).values
        kinds = sum(ds.value.values[into & (ds.kind.values == kind)].sum() for kind in ("write", "erase", "rest"))
        assert left.sum() == pytest.approx(kinds, abs=1e-10) == pytest.approx(float(ds.flow[node]), abs=1e-10)
        if int(ds.at_layer[node]) == 4:
            head, last = int(ds.at_head[node]), last + 1
            assert np.allclose(left, direct.added[4, head], atol=1e-6)
            a, decayed = (
                deltanet.implied(x.q, x.k, g=x.g, beta=x.beta, rows=[22], heads=[head], form=form)[0][0, 0].numpy()
                for form in ("value", "heuristic")
            )
            assert np.allclose(ds.written[n] * a, left * decayed, atol=1e-6)
            top = max(top, float(abs(ds.erased[n]).max()))
    assert top > 1e-2 and last > 3


def test_what_one_token_erases_is_what_the_memory_says_to_its_key(bare):
    """By the loop over tokens: -N_ti β_i ⟨r_i, slope of the read⟩."""
    ds, seen = attribution.circuit(bare, IDS, of=9, against=30, least=0.003), 0
    run = bare.trace(IDS)
    x = deltanet.inputs(run, 4)
    for n in part(ds, "erase"):
        layer, head, i, t = (int(ds[name][n]) for name in ("at_layer", "at_head", "at_token", "reader"))
        assert ds.value.values[ds.receiver.values == n].sum() == pytest.approx(float(ds.flow[n]), abs=1e-10)
        if layer == 4:
            state = x.v.new_zeros(x.k.shape[-1], x.v.shape[-1])
            for j in range(i + 1):
                key, state = x.k[j, head // 3], x.g[j, head].exp() * state
                recalled = state.T @ key
                state = state + torch.outer(key, x.beta[j, head] * (x.v[j, head] - recalled))
            net = x.q[t, head // 3] @ x.k[i, head // 3] * x.g[i + 1 : t + 1, head].sum().exp()
            brought = recalled.double() @ slope_of_read(bare, run, head, t)
            assert float(-net * x.beta[i, head] * brought) == pytest.approx(float(ds.flow[n]), abs=1e-5)
            seen += 1
    assert seen > 3


def slope_of_read(lab, run, head, t):
    """What one unit of a read of the last layer is worth: gate and norm of the head, projection, the way out."""
    z, o = run.seams[4, "z"][t, head], run.seams[4, "read"][t, head]
    norm = run.parameters[4, "norm.weight"] * z * z.sigmoid() / (o.square().mean() + 1e-6).sqrt()
    columns = lab.projection(4).weight.view(44, 9, 14)[:, head]
    x = run.seams[4, "resid_post"][t]
    way = (lab.unembedding.weight[9] - lab.unembedding.weight[30]) * (1 + lab.final_norm.weight)
    return (way / (x.square().mean() + 1e-6).sqrt()) @ columns * norm


def test_a_share_is_where_edges_end(own):
    """Every edge brings its share; fewer are left with a larger one, none above 1 alone."""
    small, large = (attribution.circuit(own, IDS, of=9, against=150, least=least) for least in (0.1, 0.3))
    for ds in (small, large):
        kept = abs(ds.value.values[ds.kind.values != "rest"])
        assert not len(kept) or kept.min() >= 0.99 * ds.attrs["least"] * abs(float(ds.logit))
    assert large.sizes["edge"] < small.sizes["edge"]
    pairs = list(zip(small.sender.values, small.receiver.values, small.kind.values, strict=True))
    assert len(set(pairs)) == len(pairs), "an edge of each kind between two nodes"


def test_seeing_leaves_the_model_as_it_was(own):
    before = own.trace(IDS).logits
    attribution.circuit(own, IDS, of=3, least=0.3)
    assert torch.equal(before, own.trace(IDS).logits) and tiny.hooks(own.model) == []


# what is refused ----------------------------------------


def test_what_is_no_question_is_refused(lab):
    with pytest.raises(InputError, match="least out of range"):
        attribution.circuit(lab, IDS, of=3, least=2)
    with pytest.raises(InputError, match="attribution.circuit: one answer at a time"):
        attribution.circuit(lab, IDS, of=[3, 4])
    with pytest.raises(InputError, match="the two answers are the same token\n  got: twice 3"):
        attribution.circuit(lab, IDS, of=3, against=3)


def test_too_many_nodes_are_refused(lab, monkeypatch):
    monkeypatch.setattr("labkit.attribution.graph.MOST", 40)
    with pytest.raises(InputError, match="(?s)too many nodes.*got: least=0.01.*expected: at most 40.*least=0.04"):
        attribution.circuit(lab, IDS, of=3, least=0.01)


def test_it_is_refused_before_the_model_runs_by_a_plan_of_its_own(lab, monkeypatch):
    """More than exact attribution takes, since the graph stays while edges are followed."""
    planned = lab.plan(tokens=300, want="attribution.circuit")
    assert planned.peak > lab.plan(tokens=300, want="attribution.exact").peak and planned.want == "attribution.circuit"
    monkeypatch.setattr(plan.card, "budget", lambda device: (planned.peak - 1, "a small machine"))
    handle = lab.model.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    try:
        for call, of in ((attribution.circuit, 3), (lambda lab, ids, of: attribution.confirm(lab, [ids], of=of), [3])):
            with pytest.raises(BudgetError, match="(?s)attribution.circuit of 300 tokens.*try: attribution.logit"):
                call(lab, tiny.ids(300), of=of)
    finally:
        handle.remove()
    with pytest.raises(InputError, match="attribution.circuit goes through all layers"):
        lab.plan(tokens=300, want="attribution.circuit", layers=[2])


# heads taken away ---------------------------------------


def test_a_head_that_is_taken_away_hands_on_nothing(lab):
    """By hand, of one prompt: single heads, all of them, and as many others."""
    ds = attribution.confirm(lab, [IDS, tiny.ids(17, seed=4)], of=[9, 11], against=[150, 30], least=0.1, draws=3)
    one = attribution.circuit(lab, IDS, of=9, against=150, least=0.1)
    reads = part(one, "read")
    heads = sorted({(int(one.at_layer[n]), int(one.at_head[n])) for n in reads})
    assert sorted(map(tuple, np.argwhere(np.isfinite(ds.brought[0].values)).tolist())) == heads
    assert int(ds.heads[0]) == len(heads) and ds.sizes["draw"] == 3
    assert float(ds.brought[0].sum()) == pytest.approx(float(one.flow[reads].sum()), abs=1e-6)

    def says(*edits):
        with lab.edit(*edits):
            row = lab.trace(IDS).logits[0]
        return float(row[9] - row[150])

    silent = [edit.scale("gated", layer=layer, heads=[head], factor=0.0) for layer, head in heads]
    whole = float(ds.logit[0])
    assert float(ds.fall[(0, *heads[-1])]) == pytest.approx(whole - says(silent[-1]), abs=1e-5)
    assert float(ds.together[0]) == pytest.approx(whole - says(*silent), abs=1e-5)
    others = np.isfinite(ds.fall_other[0].values)
    assert others.sum() == len(heads) and not (others & np.isfinite(ds.fall[0].values)).any()
    place = tuple(np.argwhere(others)[0])
    silent = edit.scale("gated", layer=int(place[0]), heads=[int(place[1])], factor=0.0)
    assert float(ds.fall_other[0][place]) == pytest.approx(whole - says(silent), abs=1e-5)


def test_the_order_of_heads_is_a_rank_correlation(lab):
    from scipy.stats import spearmanr

    ds = attribution.confirm(lab, [IDS, tiny.ids(17, seed=4), IDS[3:]], of=[9, 11, 9], least=0.1)
    for n in range(3):
        brought, fall = (each[np.isfinite(each)] for each in (ds.brought[n].values, ds.fall[n].values))
        assert float(ds.order[n]) == pytest.approx(spearmanr(brought, fall).statistic)
    low, high = ds.attrs["order_interval"]
    assert low <= float(ds.order.mean()) <= high
    low, high = ds.attrs["more_interval"]
    assert low <= float((ds.together - ds.others.mean("draw")).mean()) <= high


def test_one_answer_for_each_prompt(lab):
    for given in (dict(of=[3]), dict(of=[3, 4], against=[7])):
        with pytest.raises(InputError, match="(?s)one answer for each prompt.*got: 2 prompts"):
            attribution.confirm(lab, [IDS, IDS], **given)
    for prompts, of in (([], []), ([IDS], 3), (3, [3]), ("text", [3])):
        with pytest.raises(InputError, match="one answer for each prompt"):
            attribution.confirm(lab, prompts, of=of)
