"""The recomputed softmax maps are those of transformers' eager attention, rows and heads of them too."""

import pytest
import tiny
import torch
from tiny import make_lab

from labkit import attention, edit
from labkit.attention import softmax
from labkit.errors import InputError, ParityError
from labkit.rotary import rotate

IDS = tiny.ids(61)


@pytest.fixture(scope="module")
def eager():
    """Maps of transformers itself: entry i of the tuple is the i-th *attention* layer."""
    model = tiny.model()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(IDS[None], output_attentions=True).attentions
    return dict(zip((2, 4), (weights[0] for weights in found), strict=True))


@pytest.mark.parametrize("layer", [2, 4])
def test_pattern_equals_eager_attention(lab, eager, layer):
    ds = attention.pattern(lab.trace(IDS), layer=layer)
    assert ds.weight.dims == ("query_head", "token", "source") and ds.weight.shape == (6, 61, 61)
    assert abs(ds.weight.values - eager[layer].numpy()).max() < 1e-6
    assert abs(ds.weight.sum("source") - 1).max() < 1e-5
    assert float(abs(ds.weight.where(ds.source > ds.token, 0)).max()) == 0


def test_rows_and_heads_are_slices_of_the_whole(lab):
    run = lab.trace(IDS)
    whole = attention.pattern(run, layer=4)
    some = attention.pattern(run, layer=4, heads=[5, 1], rows=[60, 3])
    assert some.weight.shape == (2, 2, 61) and some.token.values.tolist() == [60, 3]
    assert abs(some.weight.values - whole.weight.sel(query_head=[5, 1], token=[60, 3]).values).max() < 1e-6
    assert abs(some.gate.values - whole.gate.sel(query_head=[5, 1], token=[60, 3]).values).max() == 0
    assert attention.pattern(run, layer=4, heads=2, rows=-1).weight.shape == (1, 1, 61)


def test_several_layers_have_an_axis(lab):
    run = lab.trace(IDS)
    both = attention.pattern(run, layer=[4, 2], heads=[4, 1], rows=range(-9, 0))
    assert both.weight.dims == ("layer", "query_head", "token", "source") and both.weight.shape == (2, 2, 9, 61)
    for layer in (2, 4):
        alone = attention.pattern(run, layer=layer, heads=[4, 1], rows=range(-9, 0))
        assert (both.weight.sel(layer=layer) == alone.weight).all() and int(alone.layer) == layer
        assert alone.attrs["parity"] <= both.attrs["parity"] <= both.attrs["tolerance"] == 1e-4
    assert both.attrs["layer"] == [4, 2] and both.weight.attrs["symbol"] == "P" and both.gate.attrs["symbol"] == "σ(g)"


def test_gate_is_the_mean_of_the_sigmoid(lab):
    run = lab.trace(IDS)
    block = lab.model.model.layers[2]
    raw = block.self_attn.q_proj(run.seams[2, "mixer_in"]).view(61, 6, 32)[..., 16:]
    ds = attention.pattern(run, layer=2)
    assert abs(ds.gate.values - raw.sigmoid().mean(-1).T.numpy()).max() < 1e-6


def test_logits_and_value_norms(lab, monkeypatch):
    """s = ⟨q, k⟩/√d in float64, -inf after the token; a warm run has the sources of its cache as well."""
    monkeypatch.setattr(softmax, "TILE", 5)
    whole, cache = lab.trace(IDS), lab.cache()
    lab.trace(IDS[:20], cache=cache)
    for run, first in ((whole, 0), (lab.trace(IDS[20:], cache=cache), 20)):
        rows = [40 - first, 3, 17]
        ds = attention.pattern(run, layer=4, heads=[4, 1], rows=rows, logits=True)
        x = attention.inputs(run, 4)
        for i, head in enumerate((4, 1)):
            for n, t in enumerate(rows):
                s = x.k[: first + t + 1, head // 3].double() @ x.q[t, head].double() / 16**0.5
                assert abs(ds.logit.values[i, n, : first + t + 1] - s.numpy()).max() < 1e-5
                assert (ds.logit.values[i, n, first + t + 1 :] == -float("inf")).all()
            assert abs(ds.value_norm.values[i] - x.v[:, head // 3].norm(dim=-1).numpy()).max() < 1e-5
        assert "logit" not in attention.pattern(run, layer=4, rows=0)


def test_tiles_do_not_show(lab, monkeypatch):
    run = lab.trace(IDS)
    whole = attention.pattern(run, layer=2).weight.values
    monkeypatch.setattr(softmax, "TILE", 7)
    assert abs(attention.pattern(run, layer=2).weight.values - whole).max() < 1e-6


def test_a_warm_cache_gives_the_rows_of_the_whole_run(lab):
    whole = attention.pattern(lab.trace(IDS), layer=4)
    cache = lab.cache()
    lab.trace(IDS[:40], cache=cache)
    rest = attention.pattern(lab.trace(IDS[40:], cache=cache), layer=4)
    assert rest.weight.shape == (6, 21, 61) and rest.token.values[0] == 40
    assert abs(rest.weight.values - whole.weight.values[:, 40:]).max() < 1e-5


def test_the_models_kernel_is_left_alone(lab):
    before = lab.model.config._attn_implementation
    attention.pattern(lab.trace(IDS), layer=2)
    assert lab.model.config._attn_implementation == before != "eager"


def test_rotation_is_the_models_own():
    from transformers.models.qwen3_5.modeling_qwen3_5 import apply_rotary_pos_emb

    r = torch.Generator().manual_seed(0)
    x, cos, sin = (torch.randn(shape, generator=r) for shape in ((9, 5, 16), (9, 8), (9, 8)))
    theirs, _ = apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos[None], sin[None])
    assert torch.equal(rotate(x, cos[:, None], sin[:, None]), theirs[0].transpose(0, 1))


@pytest.mark.parametrize(("query_heads", "kv_heads"), [(6, 3), (8, 2)])
def test_a_query_head_reads_its_own_kv_head(query_heads, kv_heads):
    """With one kv head silenced by an edit, its group of query heads alone loses its gated output."""
    sizes = dict(num_attention_heads=query_heads, num_key_value_heads=kv_heads)
    lab, shared = make_lab(tiny.model(seed=5, **sizes)), query_heads // kv_heads
    with lab.edit(edit.scale("v", layer=2, heads=1, factor=0.0)):
        run = lab.trace(IDS)
    size, group = run.seams[2, "gated"].abs().amax((0, 2)), range(shared, 2 * shared)
    assert size[list(group)].max() == 0 and all(size[h] > 0.01 for h in range(query_heads) if h not in group)
    ds = attention.pattern(run, layer=2)
    assert ds.attrs["parity"] < 1e-6 and [h for h in range(query_heads) if not ds.value_norm[h].any()] == list(group)
    assert run.spec.kv_groups([shared, 0, shared + 1]) == {1: [0, 2], 0: [1]}


def test_what_is_not_walked_is_not_proven(lab):
    """Rows whose maps were never made cannot pass for proven."""
    walk = softmax.Softmax(lab.trace(IDS), 2, heads=[1], rows=range(61))
    walk.maps(slice(0, 60))
    with pytest.raises(ParityError, match="(?s)attention.test: layer 2.*nan"):
        walk.proof("attention.test")
    walk.maps(slice(60, 61))
    assert walk.proof("attention.test")["parity"] < 1e-6


def test_an_edit_inside_the_layer_is_noticed_by_every_reading(lab):
    """What is recomputed from the seams is compared with what the model made of them."""
    with lab.edit(edit.scale("gated", layer=2, heads=[4], factor=1.01)):
        run = lab.trace(IDS)
    names = ("pattern", "summary", "similarity", "window", "bands", "bands_by_distance")
    calls = {name: lambda name=name: getattr(attention, name)(run, layer=2) for name in names}
    calls["contribution"] = lambda: attention.contribution(run, lab, layer=2)
    for name, call in calls.items():
        with pytest.raises(ParityError, match=f"attention.{name}: layer 2 recomputed"):
            call()
        assert ("attention." + name) in {reading for _, reading in run.parity}
    with pytest.raises(ParityError), lab.edit(edit.scale("gated", layer=2, factor=1.01)):
        attention.scores(lab, pool=range(2, 90), length=20, samples=1)
    for probe in (attention.watch(block=61), attention.watch_bands(block=61)):
        with pytest.raises(ParityError), lab.edit(edit.scale("gated", layer=2, factor=1.01)):
            lab.stream(IDS, probes=[probe], chunk=61)


def test_a_run_with_gradients_is_read(lab):
    run = lab.trace(IDS, grad=True)
    plain = attention.pattern(lab.trace(IDS), layer=4)
    assert abs(attention.pattern(run, layer=4).weight.values - plain.weight.values).max() < 1e-6


def test_misuse(lab):
    with pytest.raises(
        InputError, match=r"(?s)reads a run.*a text.*try: attention.pattern\(lab.trace\(' fox'\), layer=2\)"
    ):
        attention.pattern(" fox", layer=2)
    with pytest.raises(InputError, match="(?s)query_head out of range.*\\[6\\].*0 to 5"):
        attention.pattern(lab.trace(IDS), layer=2, heads=6)
