"""Attribution through Kimi Linear: decay by channel, and attention whose keys and values are made of latents."""

import numpy as np
import pytest
import siblings
import tiny
import torch

from labkit import attribution, deltanet, edit
from labkit.attribution.frozen import Frozen
from labkit.errors import ParityError

IDS, SPLIT = tiny.ids(23), 14
D, A = "linear_attention", "full_attention"


@pytest.fixture(scope="module")
def kimi():
    return tiny.make_lab(siblings.kimi())


def last(kinds, **changes):
    """A lab in float64 whose last layer has an MLP that adds nothing: its heads act directly."""
    model = siblings.kimi64(layer_types=kinds, **changes)
    mlp = model.model.layers[-1].mlp
    for weight in (mlp.experts.down_proj, mlp.shared_experts.down_proj.weight):
        weight.zero_()
    return tiny.make_lab(model)


def way(lab, run, of, against, token=-1):
    """What one unit of the last stream is worth."""
    x = run.seams[lab.spec.layers - 1, "resid_post"][token]
    rows = lab.unembedding.weight[of] - lab.unembedding.weight[against]
    return rows * lab.final_norm.weight / (x.square().mean() + lab.spec.eps).sqrt()


def maps(lab, ids):
    """(P [query_head, token, source], v [source, query_head, value]) as the model itself makes them, eagerly."""
    lab.model.config._attn_implementation = "eager"
    kept = []
    mixer = lab.model.model.layers[-1].self_attn
    handles = [mixer.register_forward_hook(lambda module, args, out: kept.append(out[1][0]))]
    handles += [mixer.kv_b_proj.register_forward_hook(lambda module, args, out: kept.append(out.view(-1, 6, 34)))]
    with torch.no_grad():
        lab.model(ids[None])
    for handle in handles:
        handle.remove()
    expanded, weight = kept
    return weight, expanded[..., 18:]


@pytest.mark.parametrize("compressed", [None, 30], ids=["plain queries", "compressed queries"])
def test_a_head_of_latents_adds_the_models_own_map_times_its_values(compressed):
    lab = last([D, D, A, D, A], q_lora_rank=compressed)
    run = lab.trace(IDS)
    exact, direct = (ask(lab, IDS, of=9, against=30) for ask in (attribution.exact, attribution.logit))
    weight, v = maps(lab, IDS)
    columns = lab.projection(4).weight.view(44, 6, 16)
    by_hand = weight[:, -1].double() * torch.einsum("shc,dhc,d->hs", v, columns, way(lab, run, 9, 30))
    assert np.allclose(direct.added[4, :6], by_hand, atol=1e-5) and abs(by_hand).max() > 0.01
    assert np.isnan(direct.added[4, 6:]).all() and np.allclose(exact.stored[4, :6], by_hand, atol=1e-5)


def test_a_head_that_decays_by_channel_adds_its_implied_map_times_its_values():
    lab = last([D, D, A, A, D])
    run = lab.trace(IDS)
    weight = torch.tensor(deltanet.implied_attention(run, layer=4).weight.values)[:, -1].double()
    o, z = run.seams[4, "read"][-1], run.seams[4, "z"][-1]
    norm = run.parameters[4, "norm.weight"] * z.sigmoid() / (o.square().mean(-1, keepdim=True) + lab.spec.eps).sqrt()
    opened = deltanet.inputs(run, 4).v.double() * norm
    columns = lab.projection(4).weight.view(44, 9, 10)
    by_hand = weight * torch.einsum("shc,dhc,d->hs", opened, columns, way(lab, run, 9, 30))
    for found in (
        attribution.logit(lab, IDS, of=9, against=30).added,
        attribution.exact(lab, IDS, of=9, against=30).stored,
    ):
        assert np.allclose(found[4], by_hand, atol=1e-5)
    assert abs(by_hand).max() > 0.01


@pytest.mark.parametrize("count", [1, 9, SPLIT], ids=lambda n: f"{n} cached")
def test_what_heads_read_is_what_values_and_cache_bring(count):
    """At every layer: by head and source what is stored, by layer what is cached; and by token what mixers hand on."""
    lab = tiny.make_lab(siblings.kimi64())
    cache = lab.cache()
    lab.trace(IDS[:count], cache=cache)
    ds = attribution.exact(lab, IDS[count:], of=9, against=30, snap=lab.snapshot(cache))
    read, stored = ds.read.sum(("reader", "source")), ds.stored.sum(("reader", "source"))
    held = ds.cached.sel(held=["state", "values"]).sum("held")
    assert np.allclose(read, stored + held, atol=1e-10) and abs(held).min() > 1e-4
    assert np.allclose(ds.read.sum("reader"), ds.branch.sel(term="mixer"), atol=1e-9)
    attend = list(lab.spec.attention_layers)
    assert (ds.cached.sel(layer=attend, held=["state", "convolution"]) == 0).all()
    assert (ds.cached.sel(layer=[0, 1, 3], held="values") == 0).all()


def test_what_one_token_erases_is_what_the_memory_says_to_its_key_by_channel():
    """By the loop over tokens: -N_ti β_i ⟨r_i, slope⟩, N_ti = Σ_κ q̃_tκ k_iκ exp(c_tκ - c_iκ)."""
    lab = last([D, D, A, A, D])
    run, seen = lab.trace(IDS), 0
    ds, x = attribution.circuit(lab, IDS, of=9, against=30, least=0.003), deltanet.inputs(run, 4)
    columns, out = lab.projection(4).weight.view(44, 9, 10), way(lab, run, 9, 30)
    for n in np.flatnonzero(ds.part.values == "erase"):
        layer, head, i, t = (int(ds[name][n]) for name in ("at_layer", "at_head", "at_token", "reader"))
        assert ds.value.values[ds.receiver.values == n].sum() == pytest.approx(float(ds.flow[n]), abs=1e-10)
        if layer != 4:
            continue
        state = x.v.new_zeros(10, 10)
        for j in range(i + 1):
            state = x.g[j, head].exp()[:, None] * state
            recalled = state.T @ x.k[j, head]
            state = state + torch.outer(x.k[j, head], x.beta[j, head] * (x.v[j, head] - recalled))
        net = (x.q[t, head] * x.k[i, head] * x.g[i + 1 : t + 1, head].sum(0).exp()).sum()
        z, o = run.seams[4, "z"][t, head], run.seams[4, "read"][t, head]
        norm = run.parameters[4, "norm.weight"] * z.sigmoid() / (o.square().mean() + lab.spec.eps).sqrt()
        slope = (out @ columns[:, head]) * norm
        brought = float(-net * x.beta[i, head] * (recalled.double() @ slope))
        assert brought == pytest.approx(float(ds.flow[n]), abs=1e-5)
        seen += 1
    assert seen > 3


def test_edits_of_gates_are_followed_and_one_of_latents_is_told(kimi):
    plain = kimi.trace(IDS)
    gates = [edit.scale("z", layer=1, factor=0.5), deltanet.never_forget(layer=0), edit.scale("a", layer=3, factor=2)]
    with kimi.edit(*gates):
        ds, own = attribution.exact(kimi, IDS, of=3), float(kimi.trace(IDS).logits[-1, 3])
        circuit = attribution.circuit(kimi, IDS, of=3, least=0.3)
    assert abs(float(ds.logit) - own) < 1e-5 and abs(float(circuit.logit) - own) < 1e-5
    assert abs(own - float(plain.logits[-1, 3])) > 1e-3
    told = "what was found does not add up to the logit(?s:.*)close edits"
    with kimi.edit(edit.add("latent", layer=2, vector=torch.ones(34))), pytest.raises(ParityError, match=told):
        attribution.exact(kimi, IDS, of=3)


EIGHTS = dict(hidden_size=48, moe_intermediate_size=24, num_shared_experts=2)  # as grouped products ask


def test_experts_are_those_of_the_run():
    """No seam holds a router's choice in this family, of which some layers have none: it is made again of the run's
    stream. In bfloat16 the frozen stream would choose other experts where two are close."""
    lab = tiny.make_lab(siblings.kimi(dtype=torch.bfloat16, **EIGHTS))
    seen, handles, differing = {}, [], 0
    for layer, block in enumerate(lab.model.model.layers):
        if hasattr(block.mlp, "experts"):
            keep = lambda module, args, layer=layer: seen.setdefault(layer, []).append(args[:2])  # noqa: E731
            handles.append(block.mlp.experts.register_forward_pre_hook(keep))
    run = lab.trace(tiny.ids(90))
    Frozen(lab, run).flow(89, [], None)
    for handle in handles:
        handle.remove()
    for layer, passes in seen.items():
        (_, own), (entered, chosen) = passes
        assert torch.equal(own, chosen)
        gate = lab.model.model.layers[layer].mlp.gate
        differing += int((gate(entered.detach())[2].sort(-1)[0] != chosen.sort(-1)[0]).sum())
    assert differing > 0 and len(seen) == 4
