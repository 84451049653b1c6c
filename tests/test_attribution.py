"""A logit is the sum of what was found: over sources at every layer, over heads and sources, also after a cache."""

import copy

import measure
import numpy as np
import pytest
import siblings
import tiny
import torch

import labkit
from labkit import attention, attribution, deltanet, edit, pictures, plan, residual
from labkit.errors import BackendError, BudgetError, InputError, ParityError

IDS = tiny.ids(23)
SPLIT = 14
MODELS = {family: lambda family=family: tiny.model(family=family) for family in sorted(tiny.FAMILY_SIZES)}
MODELS |= {"olmo_hybrid": siblings.olmo, "olmo_hybrid, unrotated": lambda: siblings.olmo(rope_theta=None)}
MODELS |= {"kimi_linear": siblings.kimi, "kimi_linear, compressed": lambda: siblings.kimi(q_lora_rank=30)}
WIDE = {
    "qwen3_5": lambda: tiny.model(dtype=torch.float64),
    "olmo_hybrid": lambda: siblings.olmo(dtype=torch.float64),
    "kimi_linear": siblings.kimi64,
}


@pytest.fixture(scope="module", params=MODELS)
def own(request):
    """A lab of each family."""
    return tiny.make_lab(MODELS[request.param]())


@pytest.fixture(scope="module", params=WIDE)
def wide(request):
    """A lab in float64."""
    return tiny.make_lab(WIDE[request.param]())


def snapshot(lab):
    cache = lab.cache()
    lab.trace(IDS[:SPLIT], cache=cache)
    return lab.snapshot(cache)


def after(ds):
    """What the cache brings from each layer on."""
    return ds.cached.sum("held").values[::-1].cumsum()[::-1]


def difference(lab, ids, of, against, token=-1):
    with torch.no_grad():
        row = lab.model(ids[None]).logits[0, token].double()
    return float(row[of] - row[against])


@pytest.mark.parametrize("snap", [False, True], ids=["cold", "cached"])
def test_the_sum_is_the_logit_and_nothing_is_lost_at_any_layer(own, snap):
    given = dict(snap=snapshot(own)) if snap else {}
    ids = IDS[SPLIT:] if snap else IDS
    ds = attribution.exact(own, ids, of=3, against=150, **given)
    exact = difference(own, IDS, 3, 150)
    assert abs(float(ds.embedding.sum() + ds.cached.sum()) - exact) < 1e-4 and abs(float(ds.logit) - exact) < 1e-4
    assert abs(ds.stream.sum("source").values + after(ds) - exact).max() < 1e-4
    assert ds.attrs["residual"] < 2e-5 and ds.source.values.tolist() == list(range(23))[-len(ids) :]
    assert bool((ds.cached != 0).any()) == snap


@pytest.mark.parametrize("snap", [False, True], ids=["cold", "cached"])
def test_in_float64_it_is_complete_to_the_last_digits(wide, snap):
    given = dict(snap=snapshot(wide)) if snap else {}
    ids = IDS[SPLIT:] if snap else IDS
    ds = attribution.exact(wide, ids, of=3, **given)
    assert ds.attrs["residual"] < 1e-10
    summed = ds.stream.sum("source").values + after(ds)
    assert np.ptp(summed) < 1e-10 and abs(summed - float(ds.logit)).max() < 1e-5


def test_what_leaves_branches_and_the_stream_is_the_logit(wide):
    """The stream at a layer and every branch from there on, whose inputs are no part of it, would count twice: a branch
    only hands on. So what branches of the last layer bring is what the stream after it has beyond the one before."""
    ds = attribution.exact(wide, IDS, of=9, against=10, token=-3)
    direct = residual.contributions(wide.trace(IDS), wide, of=9, against=10, tokens=-3)
    last = ds.branch[-1].sum("source")
    assert (
        abs(float(last.sel(term="mlp")) - float(direct.added[-1].sel(term="mlp")[0])) < 3e-6
    )  # norms are float32 in any model
    assert np.allclose(ds.branch[:, 0].sum("source"), ds.read.sum(("reader", "source")), atol=1e-9)


def test_tokens_after_the_answer_bring_nothing(own):
    ds = attribution.exact(own, IDS, of=3, token=9)
    assert np.abs(ds.embedding.values[10:]).max() == 0 and np.abs(ds.embedding.values[:10]).min() > 0


D, A = "linear_attention", "full_attention"


@pytest.mark.parametrize("kinds", [[D, D, A, A, D], [D, D, A, D, A]], ids=["DeltaNet last", "attention last"])
def test_a_head_adds_its_map_times_its_projected_values(kinds):
    """By hand, from the published maps: A or P, then gate, norm and projection of one head, then the way out."""
    model = tiny.model(dtype=torch.float64, layer_types=kinds)
    model.model.layers[-1].mlp.down_proj.weight.zero_()
    lab = tiny.make_lab(model)
    run, last, t = lab.trace(IDS), 4, 22
    way = lab.unembedding.weight[9] - lab.unembedding.weight[30]
    x = run.seams[last, "resid_post"][t]
    way = way * (1 + lab.final_norm.weight) / (x.square().mean() + 1e-6).sqrt()
    if kinds[-1] == D:
        weight = torch.tensor(deltanet.implied_attention(run, layer=last).weight.values)[:, t]
        values, o, z = deltanet.inputs(run, last).v, run.seams[last, "read"][t], run.seams[last, "z"][t]
        norm = run.parameters[last, "norm.weight"] * z * z.sigmoid() / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        opened = values * norm  # [source, head, value]
    else:
        weight = torch.tensor(attention.pattern(run, layer=last, rows=[t]).weight.values)[:, 0]
        heads = [lab.spec.kv_head(head) for head in range(lab.spec.query_heads)]
        opened = run.seams[last, "v"][:, heads] * run.seams[last, "gate"][t].sigmoid()
    columns = lab.projection(last).weight.view(lab.spec.hidden, *opened.shape[1:])
    by_hand = weight.double() * torch.einsum("shc,dhc,d->hs", opened.double(), columns, way)
    count = len(by_hand)
    direct = attribution.logit(lab, IDS, of=9, against=30)
    assert np.allclose(direct.added[last, :count], by_hand, atol=1e-5) and abs(by_hand).max() > 0.01
    assert np.isnan(direct.added[last, count:]).all()
    exact = attribution.exact(lab, IDS, of=9, against=30)  # with nothing behind it, all paths are direct
    assert np.allclose(exact.stored[last, :count], by_hand, atol=1e-5)


@pytest.mark.parametrize("snap", [False, True], ids=["cold", "cached"])
def test_heads_mlps_embedding_and_cache_add_up_to_the_logit(own, snap):
    given = dict(snap=snapshot(own)) if snap else {}
    ds = attribution.logit(own, IDS[SPLIT:] if snap else IDS, of=3, against=150, **given)
    exact = difference(own, IDS, 3, 150)
    summed = float(ds.added.sum() + ds.cached.sum() + ds.mlp.sum() + ds.embedding)
    assert abs(summed - exact) < 1e-4 and abs(float(ds.logit) - exact) < 1e-4
    assert bool((ds.cached != 0).all()) == snap
    parts = residual.contributions(own.trace(IDS), own, of=3, against=150)
    whole = ds.added.sum(("reader", "source")) + ds.cached
    assert np.allclose(whole, parts.added.sel(term="mixer").isel(answer=0), atol=1e-4)
    assert np.allclose(ds.mlp, parts.added.sel(term="mlp").isel(answer=0), atol=1e-4)


def test_seeing_leaves_the_model_as_it_was(own):
    before = own.trace(IDS).logits
    attribution.exact(own, IDS, of=3)
    attribution.logit(own, IDS, of=3)
    assert torch.equal(before, own.trace(IDS).logits) and tiny.hooks(own.model) == []


# what it takes ------------------------------------------

SHAPES = {
    "small": lambda: tiny.model(max_position_embeddings=2048),
    "states": lambda: tiny.model(max_position_embeddings=2048, linear_key_head_dim=40, linear_value_head_dim=56),
    "heads": lambda: tiny.model(max_position_embeddings=2048, num_attention_heads=12, head_dim=32),
    "experts": lambda: tiny.model(experts=True, max_position_embeddings=2048),
    "olmo": lambda: siblings.olmo(max_position_embeddings=2048),
    "kimi": lambda: siblings.kimi(model_max_length=2048),
    "wide keys of latents": lambda: siblings.kimi(model_max_length=2048, qk_nope_head_dim=48),
}


def circuit(lab, ids, **asked):
    return attribution.circuit(lab, ids, least=0.3, **asked)


@pytest.mark.parametrize("cached", [None, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_takes_what_is_planned(shape, cached):
    """Counted bytes, with what autograd keeps; more than a trace, and less than one with all its gradients."""
    lab = tiny.make_lab(SHAPES[shape]())
    cache, snap = lab.cache(), None
    if cached:
        lab.trace(tiny.ids(cached, seed=3), layers=[], cache=cache)
        snap = lab.snapshot(cache)
    for ask in (attribution.exact, circuit, attribution.logit):
        for tokens in (300, 900):
            planned = lab.plan(tokens=tokens, want=f"attribution.{ask.__name__}", cached=cached)
            ask(lab, tiny.ids(20), of=3, snap=snap)
            peak, _, _ = measure.peak(lambda ask=ask, n=tokens: ask(lab, tiny.ids(n), of=3, against=7, snap=snap))
            assert 0.8 < peak / planned.peak < 1.15, (ask.__name__, tokens, peak / planned.peak)
            plain = lab.plan(tokens=tokens, cached=cached).peak  # of one mixer alone it may be the highest
            assert planned.peak > plain or (ask is attribution.logit and planned.peak == plain)


def test_it_is_refused_before_the_model_runs_and_runs_where_it_just_fits(lab, monkeypatch):
    planned = lab.plan(tokens=300, want="attribution.exact")
    assert [way for way, _ in planned.cheaper] == ["attribution.logit", "residual.contributions"]
    assert planned.parts["graph"] > planned.parts["seams"] and planned.kept == 0
    assert lab.plan(tokens=300, want=attribution.exact).peak == planned.peak
    monkeypatch.setattr(plan.card, "budget", lambda device: (planned.peak - 1, "a small machine"))
    handle = lab.model.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    try:
        with pytest.raises(BudgetError, match="(?s)attribution.exact of 300 tokens.*graph.*try: attribution.logit"):
            attribution.exact(lab, tiny.ids(300), of=3)
    finally:
        handle.remove()
    monkeypatch.setattr(plan.card, "budget", lambda device: (planned.peak, "a small machine"))
    assert attribution.exact(lab, tiny.ids(300), of=3).attrs["residual"] < 1e-4
    with pytest.raises(InputError, match="attribution.exact goes through all layers"):
        lab.plan(tokens=300, want="attribution.exact", layers=[2])


# what is refused ----------------------------------------


def test_one_answer_at_a_time(lab):
    with pytest.raises(
        InputError, match="attribution.exact: one answer at a time\n  got: 2 and 0\n  expected: one token"
    ):
        attribution.exact(lab, IDS, of=[3, 4])
    with pytest.raises(InputError, match="attribution.logit: no such token\n  got: 500"):
        attribution.logit(lab, IDS, of=3, against=500)


def test_one_prompt_at_a_time(lab):
    for ask in (attribution.exact, attribution.logit):
        with pytest.raises(InputError, match=f"attribution.{ask.__name__}: one prompt at a time\n  got: 2 prompts"):
            ask(lab, [IDS.tolist(), IDS.tolist()], of=3)


@torch.no_grad()
def test_slopes_are_taken_where_none_are_kept(lab):
    assert float(attribution.exact(lab, IDS, of=3).logit) == pytest.approx(float(lab.trace(IDS).logits[0, 3]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_that_are_as_likely_can_be_compared(dtype):
    """Parity is relative to the logits, not to what two of them leave."""
    lab = tiny.make_lab(tiny.model(dtype=dtype))
    run = lab.trace(IDS)
    order = run.logits[0].float().argsort()
    gaps = run.logits[0, order].float().diff()
    at = int(torch.where(gaps > 0, gaps, torch.inf).argmin())
    of, against = int(order[at + 1]), int(order[at])
    assert attribution.logit(lab, IDS, of=of, against=against).attrs["parity"] < 0.01
    made = residual.contributions(run, lab, of=[of, 3], against=[against, 7])
    assert made.attrs["tolerance"] == {torch.float32: 1e-4, torch.bfloat16: 1e-2}[dtype]
    if dtype == torch.float32:
        assert attribution.exact(lab, IDS, of=of, against=against).attrs["parity"] < 1e-5


EIGHTS = dict(hidden_size=48, moe_intermediate_size=24, shared_expert_intermediate_size=32)  # as grouped products ask


def test_of_bfloat16_a_copy_in_float32_adds_up():
    """Where the model's own precision is too rough, and says so; the rounding between the two is told."""
    lab = tiny.make_lab(tiny.model(dtype=torch.bfloat16))
    copied = tiny.make_lab(copy.deepcopy(lab.model).float())
    with pytest.raises(
        ParityError, match=r"(?s)expected: at most 0.01 for bfloat16.*attribution.exact\(..., wide=True\)"
    ):
        attribution.exact(lab, tiny.ids(25), of=9)
    ds = attribution.exact(lab, tiny.ids(25), of=9, against=150, wide=True)
    exact = attribution.exact(copied, tiny.ids(25), of=9, against=150)
    assert np.array_equal(ds.embedding, exact.embedding) and ds.attrs["parity"] < 1e-5
    own = lab.trace(tiny.ids(25)).logits[0].float()
    assert ds.attrs["rounding"] == pytest.approx(abs(float(own[9] - own[150]) - float(exact.logit)), abs=1e-5)
    assert ds.attrs["precision"] == "float32, of weights in bfloat16" and tiny.hooks(lab.model) == []
    planned = [lab.plan(tokens=300, want="attribution.exact", wide=wide) for wide in (False, True)]
    copy_of = sum(4 * weight.numel() for weight in lab.model.parameters())
    alone = copied.plan(tokens=300, want="attribution.exact").peak
    assert planned[1].peak == pytest.approx(alone + copy_of, rel=0.02) and planned[1].peak > planned[0].peak + copy_of


def test_what_is_not_copied_is_told(lab):
    with pytest.raises(InputError, match="(?s)wide=True copies weights.*got: a model in float32\n"):
        attribution.exact(lab, IDS, of=3, wide=True)
    half = tiny.make_lab(tiny.model(dtype=torch.bfloat16))
    with (
        half.edit(edit.scale("gate", layer=2, factor=0.5)),
        pytest.raises(InputError, match="got: an open edit or scal"),
    ):
        attribution.exact(half, IDS, of=3, wide=True)
    with pytest.raises(InputError, match="got: a snapshot"):
        attribution.exact(half, IDS, of=3, wide=True, snap=snapshot(half))


@pytest.mark.parametrize("family", ["qwen3_5_moe", "qwen3_next"])
def test_experts_are_those_of_the_run(family):
    """In bfloat16 the frozen stream is rounded otherwise, and would choose other experts where two are close."""
    lab, differing = tiny.make_lab(tiny.model(family=family, dtype=torch.bfloat16, **EIGHTS)), 0
    handles, seen = [], {}
    for layer, block in enumerate(lab.model.model.layers):
        keep = lambda module, args, layer=layer: seen.__setitem__(layer, (args[1].clone(), args[0].clone()))  # noqa: E731
        handles.append(block.mlp.experts.register_forward_pre_hook(keep))
    run = lab.trace(tiny.ids(90))
    ds = attribution.exact(lab, tiny.ids(90), of=3, against=150)
    for handle in handles:
        handle.remove()
    for layer, (chosen, entered) in seen.items():
        assert torch.equal(chosen, run.seams[layer, "chosen"])
        gate = lab.model.model.layers[layer].mlp.gate
        differing += int((gate(entered.detach())[2] != chosen).sum())
    assert differing > 0 and ds.attrs["parity"] < 0.01


def test_a_checkpoint_whose_unembedding_is_packed(tmp_path):
    """On a processor it is unpacked as it is loaded."""
    import checkpoints
    import packers

    checkpoints.text_only(tmp_path / "packed", tiny.model(**checkpoints.BLOCKS))
    packers.nf4(tmp_path / "packed", kept=("embed_tokens", "conv1d"))
    lab = labkit.load(tmp_path / "packed", dtype="float32", device="cpu")
    run = lab.trace(IDS)
    ds, direct = attribution.exact(lab, IDS, of=3, against=9), attribution.logit(lab, IDS, of=3, against=9)
    assert abs(float(ds.embedding.sum()) - float(run.logits[0, 3] - run.logits[0, 9])) < 1e-4
    assert abs(float(direct.logit) - float(ds.logit)) < 1e-5


def test_an_unembedding_without_slopes_is_told():
    class Opaque(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    model = tiny.model()
    opaque = Opaque(44, 211, bias=False).eval()
    opaque.weight = model.lm_head.weight
    model.lm_head = opaque
    with pytest.raises(BackendError, match="(?s)no slope passes the unembedding.*got: Opaque"):
        attribution.exact(tiny.make_lab(model), IDS, of=3)


def test_pictures_are_sources_like_words(tmp_path):
    pytest.importorskip("PIL", reason="pictures are read by Pillow, which is not installed")
    from PIL import Image

    lab = labkit.load(pictures.graft(labkit.load("nano"), tmp_path / "eyes", seed=3), images=True, device="cpu")
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype="uint8"))
    asked = [{"role": "user", "content": [{"type": "image", "image": drawn}, {"type": "text", "text": " fox red."}]}]
    seen = pictures.see(lab, asked)
    run = lab.trace(seen)
    span, said = run.pictures.spans[0], float(run.logits[0, lab.encode(" red")[0]])
    ds, direct = attribution.exact(lab, seen, of=" red"), attribution.logit(lab, seen, of=" red")
    for made in (ds, direct):
        assert abs(float(made.logit) - said) < 1e-5 and made.attrs["parity"] < 1e-5
    assert abs(float(ds.embedding.sum()) - said) < 1e-4
    assert np.abs(ds.embedding[span.first : span.last]).max() > 0
    assert abs(ds.stream.sum("source").values - said).max() < 1e-4
    plain = attribution.exact(lab, " fox red.", of=" red")
    assert float(plain.logit) == pytest.approx(
        float(attribution.exact(labkit.load("nano"), " fox red.", of=" red").logit)
    )


def test_an_edit_of_a_gate_is_followed_and_one_of_the_stream_is_told(lab):
    with lab.edit(edit.scale("gate", layer=2, factor=0.5), deltanet.never_forget(layer=1)):
        ds = attribution.exact(lab, IDS, of=3)
        assert abs(float(ds.logit) - float(lab.trace(IDS).logits[-1, 3])) < 1e-5
    assert abs(float(ds.logit) - float(lab.trace(IDS).logits[-1, 3])) > 1e-3
    told = "what was found does not add up to the logit(?s:.*)close edits"
    for change in (
        edit.add("resid_post", layer=1, vector=torch.ones(44)),
        edit.scale("mixer_out", layer=1, factor=0),
    ):
        with lab.edit(change), pytest.raises(ParityError, match=told):
            attribution.exact(lab, IDS, of=3)
