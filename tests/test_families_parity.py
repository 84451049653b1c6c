"""Every reading, edit, resume, stream, generation and YaRN of every family, on small random models, in float32."""

import json

import checkpoints
import measure
import numpy as np
import pytest
import tiny
import torch

import labkit as lk
from labkit import attention, deltanet, edit, plan, yarn
from labkit.families import DELTANET

CLOSE = dict(rtol=2e-4, atol=2e-4)
IDS = tiny.ids(101)
MODULES = {"deltanet": deltanet, "attention": attention}
OPTIONS = {
    "deltanet.measured": {"at": 5},
    "deltanet.response": {"at": 5},
    "deltanet.forgetting": {"source": 3},
    "deltanet.recall": {"source": [3, 9]},
    "deltanet.written_by": {"segments": ["question", "thought", "answer", "end"] * 25 + ["end"]},
}
READINGS = sorted(name for name in plan.readings() if name.split(".")[0] in MODULES)


@pytest.fixture(scope="module", params=list(tiny.FAMILY_SIZES))  # test_families_lin.py has the others
def own(request):
    """A lab around a random hybrid of the family."""
    return lk.wrap(tiny.model(family=request.param), name=request.param)


def read(lab, run, name):
    """One reading of every layer of its kind."""
    kind, function = name.split(".")
    more = {"lab": lab, "other": run, "changed": run, "change": 0.1}
    given = [more[option] for option in plan.readings()[name].options if option in more]
    return getattr(MODULES[kind], function)(run, *given, layer=lab.spec.layers_of(kind), **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", READINGS)
def test_every_reading_agrees_with_the_model_in_every_family(own, name):
    """Readings that recompute carry their error; each is made of one long run in one pass, and in chunks."""
    whole, pieces = (own.trace(IDS, chunk=chunk) for chunk in (None, 16))
    found, again = read(own, whole, name), read(own, pieces, name)
    if "parity" in found.attrs:
        assert 0 <= found.attrs["parity"] < 1e-5
    for variable in found.data_vars:
        a, b = found[variable].values, again[variable].values
        if a.dtype.kind == "f" and not name.endswith(("similarity", "state_difference")):
            scale = np.nanmax(np.abs(a)) if np.isfinite(a).any() else 1
            same = np.isclose(a, b, rtol=2e-3, atol=2e-3 * max(scale, 1e-6), equal_nan=True)
            assert same.mean() > 0.999, variable


def test_every_way_through_a_prompt_gives_the_same(own):
    whole = own.trace(IDS, logits="all").logits
    with torch.no_grad():
        torch.testing.assert_close(own.model(IDS[None]).logits[0], whole, **CLOSE)
    for chunk in (1, 7, 64):
        torch.testing.assert_close(own.trace(IDS, logits="all", chunk=chunk).logits, whole, **CLOSE)
    short, long = own.trace([IDS[:37], IDS])
    torch.testing.assert_close(torch.stack([short.logits[0], long.logits[0]]), whole[[36, 100]], **CLOSE)
    cache = own.cache()
    own.trace(IDS[:60], cache=cache)
    snap = own.snapshot(cache)
    torch.testing.assert_close(own.resume(snap, IDS).logits[0], whole[-1], **CLOSE)
    for branch in own.fork(snap, 2):
        torch.testing.assert_close(own.trace(IDS[60:], cache=branch).logits[0], whole[-1], **CLOSE)
    streamed = own.stream(IDS, probes=[deltanet.gates(block=16)], chunk=32)
    torch.testing.assert_close(torch.from_numpy(streamed.logits.values), whole[-1], **CLOSE)
    keep = deltanet.memory(own.trace(IDS), layer=3).keep
    assert float(streamed.keep.sel(layer=3, head=5)[2]) == pytest.approx(
        float(keep.sel(head=5)[32:48].mean()), rel=1e-3
    )


def test_greedy_generation_is_transformers_own(own):
    ids = IDS[None, :30]
    with torch.no_grad():
        expected = own.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[0]
    grown = own.generate(IDS[:30], max_new_tokens=12)
    assert torch.equal(grown.ids[: len(expected)], expected)
    again = own.trace(grown.ids)
    for layer, name in grown.seams:
        if not name.startswith("chosen"):
            torch.testing.assert_close(grown.seams[layer, name], again.seams[layer, name], rtol=1e-3, atol=1e-3)
    for name in ("deltanet.memory", "attention.pattern"):
        assert read(own, grown, name).attrs["parity"] < 1e-5


def test_yarn_is_a_model_built_that_way(own):
    ids = tiny.ids(90)
    config = own.model.config
    scaled = dict(config.rope_parameters) | {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    built = tiny.model(family=own.spec.family, rope_parameters=scaled, max_position_embeddings=2048)
    built.load_state_dict(own.model.state_dict())
    with torch.no_grad():
        expected = built(ids[None]).logits[0]
    plain = own.trace(ids, logits="all").logits
    with yarn.scaled(own, 4):
        run = own.trace(ids, logits="all")
        torch.testing.assert_close(run.logits, expected, **CLOSE)
        torch.testing.assert_close(own.trace(ids, logits="all", chunk=16).logits, expected, **CLOSE)
        assert attention.pattern(run, layer=own.spec.attention_layers).attrs["parity"] < 1e-5
        assert attention.bands(run, layer=own.spec.attention_layers).attrs["parity"] < 1e-5
    assert (expected - plain).abs().max() > 1e-3
    assert torch.equal(own.trace(ids, logits="all").logits, plain)
    with yarn.dynamic(own):
        torch.testing.assert_close(own.trace(ids, logits="all", chunk=16).logits, plain, **CLOSE)
    stretched = lk.wrap(built)
    assert str(stretched.native) == "yarn 4" and stretched.spec.window == 512


@pytest.mark.parametrize("chunk", [None, 16])
@pytest.mark.parametrize("name", ["qkv", "z", "b", "a", "read", "gated"])
def test_an_edit_of_every_mixer_seam_does_what_its_reading_says(own, name, chunk):
    """The changed seam reads as it was set, nothing before its token moves, and readings of the rest still agree."""
    layer, at = 1, 40
    plain = own.trace(IDS, logits="all", chunk=chunk)
    with own.edit(edit.scale(name, layer=layer, factor=-0.5, tokens=[at])):
        changed = own.trace(IDS, logits="all", chunk=chunk)
    expected = plain.seams[layer, name].clone()
    expected[at] *= -0.5
    torch.testing.assert_close(changed.seams[layer, name], expected, rtol=1e-4, atol=1e-4)
    moved = (changed.logits - plain.logits).abs().amax(-1)
    # Tokens that choose an expert share a product, and some processors round its rows by how many there are.
    assert moved[:at].max() <= (1e-5 if own.spec.experts else 0) and moved[at] > 1e-5
    for other in {"qkv", "z", "b", "a"} - {name}:
        torch.testing.assert_close(changed.seams[layer, other], plain.seams[layer, other], rtol=1e-4, atol=1e-4)
    if name in ("qkv", "b", "a"):  # the rule sees the changed inputs
        assert deltanet.memory(changed, layer=layer).attrs["parity"] < 1e-5


def test_edits_of_gates_reach_the_rule(own):
    """Decay and write strength of one head are set; the model's own states follow."""
    layer, head = 3, 7
    with own.edit(deltanet.never_forget(layer=layer, heads=head)):
        kept = deltanet.memory(own.trace(IDS), layer=layer, heads=head)
    assert kept.keep.min() == 1 and kept.attrs["parity"] < 1e-5
    with own.edit(deltanet.never_write(layer=layer, heads=head)):
        cache = own.cache()
        own.trace(IDS, cache=cache)
    state = cache.layers[layer].recurrent_states[0][0]
    assert state[head].abs().max() < 1e-6 < state[head - 1].abs().max()


def test_state_edits_and_steps(own):
    with own.edit(edit.state(lambda state: 0 * state, layer=1, at=59)):
        wiped = own.trace(IDS).logits[0]
    cache = own.cache()
    own.trace(IDS[:60], cache=cache)
    cache.layers[1].recurrent_states[0].zero_()
    torch.testing.assert_close(own.trace(IDS[60:], cache=cache).logits[0], wiped, **CLOSE)
    cache = own.cache()
    own.trace(IDS[:60], cache=cache)
    stepped = [own.step(cache, int(token), seams=["qkv", "z", "b", "a", "read"]) for token in IDS[60:70]]
    torch.testing.assert_close(stepped[-1].logits[0], own.trace(IDS[:70]).logits[0], **CLOSE)
    whole = own.trace(IDS[:70])
    for name in ("qkv", "z", "b", "a", "read"):
        steps = torch.cat([run.seams[3, name] for run in stepped])
        torch.testing.assert_close(steps, whole.seams[3, name][60:], rtol=1e-3, atol=1e-3)


def test_gradients_reach_every_seam(own):
    run = own.trace(IDS[:20], grad=True)
    loss = run.logits[-1, 7]
    for name in ("qkv", "z", "b", "a"):
        slope = run.gradient(loss, layer=0, seam=name)
        assert slope.shape == run.seams[0, name].shape and slope.abs().max() > 0
    step = 1e-2
    with own.edit(edit.add("z", layer=0, vector=step, heads=[5], tokens=[4])):
        up = own.trace(IDS[:20]).logits[-1, 7]
    with own.edit(edit.add("z", layer=0, vector=-step, heads=[5], tokens=[4])):
        down = own.trace(IDS[:20]).logits[-1, 7]
    slope = run.gradient(loss, layer=0, seam="z")[4, 5].sum()
    assert float((up - down) / (2 * step)) == pytest.approx(float(slope), rel=0.05, abs=2e-4)


def test_a_saved_run_of_every_family_opens_again(own, tmp_path):
    run = own.trace(IDS[:23])
    run.save(tmp_path / "run")
    back = lk.open_run(tmp_path / "run")
    assert back.spec == own.spec
    assert all(torch.equal(back.seams[place], run.seams[place]) for place in run.seams)
    assert deltanet.memory(back, layer=0).attrs["parity"] < 1e-5


@pytest.mark.parametrize("apart", [False, True], ids=["fused", "apart"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_every_family_loads(own, shards, apart, tmp_path):
    folder = checkpoints.text_only(tmp_path / "stored", own.model, shards=shards, apart=apart)
    lab = lk.load(folder, device="cpu")
    assert lab.spec.differing(own.spec) == []
    for name, weight in own.model.named_parameters():
        assert torch.equal(lab.model.get_parameter(name), weight), name
    assert torch.equal(lab.trace(IDS, logits="all").logits, own.trace(IDS, logits="all").logits)


@pytest.mark.parametrize("options", [{}, {"chunk": 128}, {"seams": ["z"], "layers": [0, 3]}, {"grad": True}], ids=str)
def test_a_trace_of_every_family_takes_what_its_plan_says(own, options):
    tokens = 400
    own.trace(tiny.ids(3))
    planned = own.plan(tokens=tokens, **options)
    counted, *_ = measure.peak(lambda: own.trace(tiny.ids(tokens), **options))
    assert 0.8 < counted / planned.peak < 1.15, f"planned {planned.peak:,}, counted {counted:,}"


# ----------------------------------------------------------------------------------------- Qwen3-Next by key head


@pytest.fixture(scope="module")
def following():
    """A lab around a Qwen3-Next."""
    return lk.wrap(tiny.model(family="qwen3_next"))


def test_interleaved_seams_are_what_the_model_takes_apart(following):
    """q, k, v, z, b and a as transformers' own `fix_query_key_value_ordering` gives them."""
    run, spec = following.trace(IDS[:11]), following.spec
    mixer = following.model.model.layers[3].linear_attn
    x = run.seams[3, "mixer_in"][None]
    parts = mixer.fix_query_key_value_ordering(mixer.in_proj_qkvz(x), mixer.in_proj_ba(x))
    q, k, v, z, b, a = (part[0] for part in parts)
    width = spec.key_heads * spec.dk
    qkv = run.seams[3, "qkv"].split([width, width, spec.value_heads * spec.dv], -1)
    for ours, theirs in zip((*qkv, *(run.seams[3, name] for name in "zba")), (q, k, v, z, b, a), strict=True):
        torch.testing.assert_close(ours.flatten(1), theirs.flatten(1), rtol=1e-5, atol=1e-6)
    places = [place for name in ("qkv", "z") for place in spec.seams[DELTANET][name].channels(spec)]
    assert sorted(places) == list(range(mixer.in_proj_qkvz.out_features)) != places
    assert spec.seams[DELTANET]["qkv"].width(spec) == mixer.in_proj_qkvz.out_features
    assert spec.seams[DELTANET]["b"].width(spec) == mixer.in_proj_ba.out_features


@pytest.mark.parametrize("chunk", [None, 16])
@pytest.mark.parametrize(("name", "head"), [("z", 5), ("a", 4), ("b", 8)])
def test_one_heads_edit_is_a_change_of_that_heads_rows_of_the_weight(following, name, head, chunk):
    """Doubled by an edit of every token, a head's channel is what doubled rows of the projection make."""
    import copy

    spec = following.spec
    group, within = divmod(head, spec.value_heads // spec.key_heads)
    if name == "z":
        width = 2 * spec.dk + 2 * spec.dv * spec.value_heads // spec.key_heads
        first = group * width + 2 * spec.dk + (spec.value_heads // spec.key_heads + within) * spec.dv
        path, rows = "in_proj_qkvz", slice(first, first + spec.dv)
    else:
        each = spec.value_heads // spec.key_heads
        first = group * 2 * each + within + (each if name == "a" else 0)
        path, rows = "in_proj_ba", slice(first, first + 1)
    changed = copy.deepcopy(following.model)
    getattr(changed.model.layers[1].linear_attn, path).weight[rows] *= 2
    expected = lk.wrap(changed).trace(IDS, logits="all", chunk=chunk).logits
    plain = following.trace(IDS, logits="all", chunk=chunk).logits
    with following.edit(edit.scale(name, layer=1, heads=head, factor=2)):
        got = following.trace(IDS, logits="all", chunk=chunk).logits
    torch.testing.assert_close(got, expected, **CLOSE)
    assert (got - plain).abs().max() > 1e-3


def test_the_older_flat_configuration_is_read(following, tmp_path):
    """Rotary fields beside the sizes, as published."""
    folder = checkpoints.text_only(tmp_path / "stored", following.model)
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "partial_rotary_factor": 0.5, "rope_scaling": None}
    checkpoints.write_json(folder / "config.json", config)
    lab = lk.load(folder, device="cpu")
    assert lab.spec.rotary_dim == following.spec.rotary_dim == 8
    assert torch.equal(lab.trace(IDS).logits, following.trace(IDS).logits)
