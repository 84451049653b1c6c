"""The recomputed softmax maps are those of transformers' eager attention, rows and heads of them too."""

import pytest
import tiny
import torch
from tiny import make_lab

from labkit import attention

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
    one = attention.pattern(run, layer=4, heads=2, rows=-1)
    assert one.weight.shape == (1, 1, 61)


def test_gate_is_the_mean_of_the_sigmoid(lab):
    run = lab.trace(IDS)
    block = lab.model.model.layers[2]
    raw = block.self_attn.q_proj(run.seams[2, "mixer_in"]).view(61, 6, 32)[..., 16:]
    ds = attention.pattern(run, layer=2)
    assert abs(ds.gate.values - raw.sigmoid().mean(-1).T.numpy()).max() < 1e-6


def test_logits_and_value_norms(lab, monkeypatch):
    """s = ⟨q, k⟩/√d in float64, -inf after the token; a warm run has the sources of its cache as well."""
    monkeypatch.setattr(attention.readings, "TILE", 5)
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
    monkeypatch.setattr(attention.readings, "TILE", 7)
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
    assert torch.equal(attention.rotate(x, cos, sin), theirs[0].transpose(0, 1))


def test_a_group_of_query_heads_reads_its_own_kv_head():
    """With one kv head silenced by an edit, only the query heads 3..5 of layer 2 lose their gated output."""
    from labkit import edit

    lab = make_lab(tiny.model(seed=5))
    with lab.edit(edit.scale("v", layer=2, heads=1, factor=0.0)):
        run = lab.trace(IDS)
    size = run.seams[2, "gated"].abs().amax((0, 2))
    assert size[:3].min() > 0.01 and size[3:].max() == 0
    assert attention.pattern(run, layer=2).attrs["parity"] < 1e-6
