"""Siblings of the gated-delta families: readings, edits and caches agree with transformers' own classes."""

import dataclasses
import json
import math

import checkpoints
import numpy
import pytest
import siblings
import test_families_parity as parity
import tiny
import torch

import labkit as lk
from labkit import attention, deltanet, edit, families, yarn
from labkit.deltanet.equation import implied_row
from labkit.errors import InputError, LayerError, ParityError
from labkit.families import ATTENTION, DELTANET, FAMILIES
from labkit.notation import AXES, QUANTITIES

IDS = tiny.ids(70)
CLOSE = dict(rtol=1e-3, atol=1e-3)
OF_DELTANET = (
    deltanet.memory,
    deltanet.implied_attention,
    deltanet.implied_row,
    deltanet.survival,
    deltanet.half_life,
    deltanet.spectrum,
)
OF_ATTENTION = (attention.pattern, attention.summary, attention.window, attention.similarity)


@pytest.fixture(scope="module", params=[1000.0, None], ids=["rotary", "no rotary"])
def olmo(request):
    return tiny.make_lab(siblings.olmo(request.param))


def agrees(lab, run):
    """Every reading of every layer of a run, below 1e-5 of the model's own next seam."""
    d, a = lab.spec.deltanet_layers, lab.spec.attention_layers
    found = [reading(run, layer=d) for reading in OF_DELTANET] + [reading(run, layer=a) for reading in OF_ATTENTION]
    found += [deltanet.recall(run, layer=d, source=3), deltanet.forgetting(run, layer=d, source=3)]
    found += [deltanet.written_by(run, layer=d, segments=["a", "b"] * (len(run) // 2))]
    found += [attention.contribution(run, lab, layer=a)]
    found += [attention.bands(run, layer=a), attention.bands_by_distance(run, layer=a)] if lab.spec.rotary_dim else []
    for data in found:
        assert 0 < data.attrs["parity"] < 1e-5, data.attrs


def test_readings_agree_with_the_model_cold_and_warm(olmo):
    cache = olmo.cache()
    olmo.trace(IDS[:40], cache=cache)
    agrees(olmo, olmo.trace(IDS))
    agrees(olmo, olmo.trace(IDS[40:], cache=cache))


@pytest.mark.parametrize("name", parity.READINGS)
def test_every_reading_agrees_with_the_model(olmo, kimi, name):
    """Or says by name what the model does not have: bands without rotary, maps of latent attention."""
    for lab in (olmo, kimi):
        latent = lab is kimi and name.startswith("attention")
        if latent or (name in ("attention.bands", "attention.bands_by_distance") and not lab.spec.rotary_dim):
            with pytest.raises(
                LayerError if latent else InputError, match="no readings" if latent else "rotates nothing"
            ):
                parity.read(lab, lab.trace(parity.IDS), name)
        else:
            assert parity.read(lab, lab.trace(parity.IDS), name).attrs.get("parity", 0.0) < 1e-5


def test_readings_in_bfloat16_stay_within_the_bound():
    lab = tiny.make_lab(siblings.olmo(dtype=torch.bfloat16))
    run = lab.trace(IDS)
    for reading, layers in (
        (deltanet.memory, lab.spec.deltanet_layers),
        (attention.pattern, lab.spec.attention_layers),
    ):
        assert reading(run, layer=layers).attrs["parity"] < 1e-2
    assert attention.inputs(run, 2).k.dtype == torch.bfloat16, "angles are float32, keys are not"


def test_a_record_says_what_transformers_has(olmo):
    family, spec, model = FAMILIES["olmo_hybrid"], olmo.spec, olmo.model
    assert families.of_model(model) is family is families.of_model_type("olmo_hybrid")
    assert (spec.head_dim, spec.most_write, spec.rotary_dim) == (16, 2, 16 if spec.rope_theta else 0)
    for ours, theirs in family.sizes.items():
        assert getattr(spec, ours) == getattr(model.config, theirs)
    assert set(family.unquantized) <= {name.rpartition(".")[2] for name, _ in model.named_modules()}
    assert lk.spec.parameters(spec)["text"] == sum(weight.numel() for weight in model.parameters())
    for kind, module, counted in (
        (DELTANET, model.model.layers[0].linear_attn, lk.spec.memory.deltanet_parameters),
        (ATTENTION, model.model.layers[2].self_attn, lk.spec.memory.attention_parameters),
    ):
        sizes = {name: weight.numel() for name, weight in module.named_parameters()}
        small = [n for name, n in sizes.items() if name.split(".")[0] not in LINEAR]
        assert counted(spec) == (sum(sizes.values()), sum(small)), kind


LINEAR = ("q_proj", "k_proj", "v_proj", "g_proj", "o_proj")


def test_every_seam_fires_as_its_record_says(olmo):
    run, spec = olmo.trace(tiny.ids(11)), olmo.spec
    for layer, kind in enumerate(spec.kinds):
        for name, seam in spec.seams[kind].items():
            assert set(seam.dims) <= set(AXES) and seam.quantity in QUANTITIES
            shape = (spec.hidden,) if seam.dims == ("channel",) else tuple(spec.axis_sizes[axis] for axis in seam.dims)
            assert tuple(run.seams[layer, name].shape) == (11, *shape), (layer, name)
        mixed, norm = olmo.projection(layer)(run.seams[layer, "gated"].flatten(1)), olmo.branch_norm(layer)
        assert (norm is None) == (kind == DELTANET)
        added = mixed if norm is None else norm(mixed)
        torch.testing.assert_close(added, run.seams[layer, "mixer_out"], rtol=1e-4, atol=1e-4)
        stream = run.seams[layer, "resid_pre"] + run.seams[layer, "mixer_out"] + run.seams[layer, "mlp_out"]
        torch.testing.assert_close(stream, run.seams[layer, "resid_post"], rtol=1e-5, atol=1e-5)
    assert torch.equal(run.seams[2, "mixer_in"], run.seams[2, "resid_pre"])


def test_every_way_to_read_a_prompt_gives_the_same(olmo, tmp_path):
    model, whole = olmo.model, olmo.trace(IDS, logits="all")
    with torch.no_grad():
        assert torch.equal(model(IDS[None]).logits[0], whole.logits)
    for chunk in (1, 7, 64):
        torch.testing.assert_close(olmo.trace(IDS, logits="all", chunk=chunk).logits, whole.logits, **CLOSE)
    asked = dict(attention_mask=torch.ones(1, 30).long(), max_new_tokens=8, do_sample=False)
    grown = olmo.generate(IDS[:30], max_new_tokens=8, states=[1])
    assert torch.equal(model.generate(IDS[None, :30], **asked)[0], grown.ids)
    assert deltanet.memory(grown, layer=1).attrs["parity"] < 1e-5 and (1, "deltanet.memory state") in grown.parity
    short, long = olmo.trace([IDS[:9], IDS])
    torch.testing.assert_close(long.logits[0], whole.logits[-1], **CLOSE)
    torch.testing.assert_close(short.logits[0], whole.logits[8], **CLOSE)
    assert deltanet.memory(short, layer=0).attrs["parity"] < 1e-5
    cache = olmo.cache()
    olmo.trace(IDS[:30], cache=cache)
    snap = olmo.snapshot(cache)
    torch.testing.assert_close(olmo.resume(snap, IDS).logits[0], whole.logits[-1], **CLOSE)
    torch.testing.assert_close(olmo.step(olmo.fork(snap, 2)[1], int(IDS[30])).logits[0], whole.logits[30], **CLOSE)
    whole.save(tmp_path / "run")
    back = lk.open_run(tmp_path / "run")
    assert back.spec == olmo.spec and back.rotary[0].shape == (70, olmo.spec.rotary_dim)
    assert attention.pattern(back, layer=2).attrs["parity"] < 1e-5


def test_streams_and_heads(olmo):
    probes = [deltanet.norms(block=10), deltanet.gates(block=10), deltanet.rows(tokens=[60]), deltanet.spectra()]
    probes += [attention.watch(block=10)]
    probes += [attention.watch_bands(block=10, samples=4)] if olmo.spec.rotary_dim else []
    data, run = olmo.stream(IDS, probes=probes, chunk=20), olmo.trace(IDS)
    assert data.attrs["parity"] < 1e-5 and "gate" not in data
    row = deltanet.implied_row(run, layer=3, token=60).weight.values
    found = data.weight.sel(layer=3, token=60).values
    numpy.testing.assert_allclose(found, row[:, :61], atol=1e-5 * abs(row).max())
    write = deltanet.memory(run, layer=3).write.values
    numpy.testing.assert_allclose(data.write.sel(layer=3)[:, 0], write[:, :10].mean(1), rtol=1e-4)
    scores = attention.scores(olmo, length=20, samples=2)
    assert "gate" not in scores and "sink" in scores and scores.attrs["parity"] < 1e-5


@pytest.mark.parametrize(
    "place", [(1, "q", 2), (1, "v", 7), (0, "z", 8), (3, "gated", 5), (2, "k", 1), (4, "gated", 5)]
)
def test_edits_land(olmo, place):
    layer, name, head = place
    plain = olmo.trace(IDS[:37], logits="all")
    with olmo.edit(edit.set(name, layer=layer, value=0.5, heads=head, tokens=[21])):
        changed = olmo.trace(IDS[:37], logits="all", chunk=16)
    moved = (changed.seams[layer, name] - plain.seams[layer, name]).abs()
    assert {21} == set((moved.flatten(1).amax(-1) > 1e-4).nonzero()[:, 0].tolist())
    assert moved[21].amax(-1).gt(1e-4).nonzero().flatten().tolist() == [head]
    later = (changed.logits - plain.logits).abs().amax(-1)
    assert later[:21].max() < 1e-4 and later[21] > 1e-3


def test_the_branch_is_normed_before_it_is_added(olmo):
    plain = olmo.trace(IDS[:9])
    with olmo.edit(edit.scale("branch", layer=2, factor=3.0)):  # a norm takes no notice
        scaled = olmo.trace(IDS[:9])
    torch.testing.assert_close(scaled.logits, plain.logits, rtol=1e-4, atol=1e-4)
    with olmo.edit(edit.scale("mixer_out", layer=2, factor=3.0)):
        scaled = olmo.trace(IDS[:9])
    assert (scaled.logits - plain.logits).abs().max() > 1e-2
    torch.testing.assert_close(scaled.seams[2, "mixer_out"], 3 * plain.seams[2, "mixer_out"])


def test_contributions_of_a_normed_branch_are_those_of_its_parts(olmo):
    run, row, head, spec = olmo.trace(IDS[:12]), 9, 4, olmo.spec
    data = attention.contribution(run, olmo, layer=2, heads=[head], rows=[row])
    norm, projection = olmo.branch_norm(2), olmo.projection(2)
    rms = (run.seams[2, "branch"][row].square().mean() + norm.variance_epsilon).sqrt()
    for source in range(row + 1):
        opened = torch.zeros(spec.query_heads, spec.head_dim)
        opened[head] = run.seams[2, "v"][source, spec.kv_head(head)] * float(data.weight[0, 0, source])
        expected = (norm.weight * projection(opened.flatten()) / rms).norm()
        assert float(data.contribution_norm[0, 0, source]) == pytest.approx(float(expected), rel=1e-4)
    other = tiny.make_lab(siblings.olmo(olmo.spec.rope_theta or None))
    other.branch_norm(2).weight.mul_(1.5)
    with pytest.raises((ParityError, InputError)):
        attention.contribution(run, other, layer=2)


# -------------------------------------------------------------------------------------------------- writes up to 2


def test_writes_reach_beyond_one_and_turn_a_memory_around():
    """Made to happen: one key is written, the same token again with β near 2 reflects what was there."""
    lab = tiny.make_lab(siblings.olmo())
    ids = torch.tensor([5, 9, 17, 17, 17, 17, 17, 17])  # from the fourth on the window holds one token alone
    edits = [deltanet.never_forget(layer=0), deltanet.clamp_write(layer=0, value=1.9)]
    with lab.edit(*edits):
        run = lab.trace(ids)
    memory, left = deltanet.memory(run, layer=0), deltanet.survival(run, layer=0)
    assert memory.write.values == pytest.approx(1.9, rel=1e-5)
    assert memory.write.attrs["scale"] == left.write.attrs["scale"] == "positive"
    assert left.survival.values.max() <= 1 + 1e-6
    second = left.isel(source=6)  # one reflection came after it
    assert second.returned.values == pytest.approx(-0.9, abs=1e-3)
    assert second.survival.values == pytest.approx(0.9, abs=1e-3)
    over = deltanet.forgetting(run, layer=0, source=5)
    assert over.returned.values[:, -1] == pytest.approx(0.81, abs=1e-3)
    assert over.removed.values[:, 1] == pytest.approx(1.9, abs=1e-3) and over.removed.attrs["scale"] == "positive"
    assert left.returned.attrs["scale"] == "signed" == over.returned.attrs["scale"]
    numpy.testing.assert_allclose(over.returned[:, -1], left.returned[:, 5], atol=1e-5)


def test_returned_is_what_the_key_itself_calls_up(olmo):
    run, layer, token = olmo.trace(IDS), 1, 50
    left, x = deltanet.survival(run, layer=layer, token=token), deltanet.inputs(run, layer)
    for source in (0, 20, 49):
        query = x.q.clone()
        query[token] = x.k[source]
        row, _ = implied_row(query, x.k, g=x.g, beta=x.beta, token=token)
        size = x.k[source].square().sum(-1).repeat_interleave(3)
        expected = row[:, source] / x.beta[source] / size
        numpy.testing.assert_allclose(left.returned[:, source], expected, atol=1e-5)
    assert left.returned.values.min() < -0.02, "some memory answers with the opposite sign"
    assert (abs(left.returned) <= left.survival + 1e-5).all()


def test_the_strength_of_a_write_is_set_on_the_models_own_scale(olmo):
    with olmo.edit(deltanet.clamp_write(layer=1, value=0.5, heads=[2])):
        run = olmo.trace(IDS[:9])
    write = deltanet.memory(run, layer=1).write
    assert write.sel(head=2).values == pytest.approx(0.5, rel=1e-5)
    assert abs(write.sel(head=3).values - 0.5).min() > 1e-3
    single = tiny.make_lab(siblings.olmo(linear_allow_neg_eigval=False))
    assert single.spec.most_write == 1 and "up to 2" not in str(single.spec) and "up to 2" in str(olmo.spec)
    with single.edit(deltanet.clamp_write(layer=1, value=0.5)):
        run = single.trace(IDS[:9])
    memory = deltanet.memory(run, layer=1)
    assert memory.write.values == pytest.approx(0.5, rel=1e-5) and memory.write.attrs["scale"] == "fraction"
    with (
        pytest.raises(InputError, match=r"value.*\n.*1\.5\n.*below 1"),
        single.edit(deltanet.clamp_write(layer=1, value=1.5)),
    ):
        pass


def test_a_change_of_a_state_has_the_response_that_is_foretold(olmo):
    run = olmo.trace(IDS)
    change = deltanet.associate(run, layer=1, heads=[1], source=5, value=9, at=20)
    with olmo.edit(change):
        changed = olmo.trace(IDS)
    foretold = deltanet.response(run, change, layer=1).predicted
    found = deltanet.measured(run, changed, layer=1, at=20, heads=[1]).measured
    assert float(abs(foretold - found).max()) < 1e-4 * float(abs(found).max())
    effect = deltanet.patch_states(olmo, IDS[:20], IDS[20:40], IDS[40:45], score=(3, 4), layers=[1])
    assert effect.attrs["parity"] < 1e-5


# ------------------------------------------------------------------------------------------------ what is refused


def test_what_needs_a_rotary_part_is_refused_without_one():
    lab = tiny.make_lab(siblings.olmo(None))
    run = lab.trace(IDS[:9])
    calls = {
        "scaled": lambda: yarn.scaled(lab, factor=2),
        "dynamic": lambda: yarn.dynamic(lab, 2),
        "wavelengths": lambda: yarn.wavelengths(lab.spec, 2),
        "phase_error": lambda: yarn.phase_error(lab.spec, [100]),
        "positions": lambda: lab.trace(IDS[:3], position_ids=[0, 2, 4]),
    }
    for name, call in calls.items():
        with pytest.raises(InputError, match=r"rotates nothing.*\n.*rotary_dim 0\n.*max_position_embeddings"):
            call()
            pytest.fail(name)
    for call in (lambda: attention.bands(run, layer=4), lambda: attention.watch_bands().needs(lab.spec)):
        with pytest.raises(InputError, match=r"no bands\n.*\n.*attention.pattern\(run, layer=2, logits=True\)"):
            call()
    assert attention.pattern(run, layer=2, logits=True).logit.shape == (6, 9, 9), "the hint runs"
    lab.model.config.max_position_embeddings = 600
    assert lab.window == 600 and len(lab.trace(tiny.ids(513), layers=[0], seams=["resid_post"])) == 513


def test_gates_of_heads_without_gates_are_refused(olmo):
    with pytest.raises(LayerError, match=r"no seam 'gate'\n.*\bgated\b"):
        olmo.edit(edit.scale("gate", layer=2, factor=0.0))
    run = olmo.trace(IDS[:9])
    assert "gate" not in attention.pattern(run, layer=2) and "gate" not in attention.summary(run, layer=2)


def test_rotary_is_scaled_where_there_is_one():
    lab = tiny.make_lab(siblings.olmo())
    plain = lab.trace(IDS)
    with yarn.scaled(lab, factor=2):
        run = lab.trace(IDS)
        assert attention.bands(run, layer=lab.spec.attention_layers).attrs["parity"] < 1e-5
    assert (run.logits - plain.logits).abs().max() > 1e-2
    assert torch.equal(lab.trace(IDS).logits, plain.logits)


# ------------------------------------------------------------------------------------------------- configurations


def stated(**changes):
    config = siblings.OLMO | dict(model_type="olmo_hybrid", rope_parameters=dict(rope_type="default", rope_theta=1e4))
    return {name: value for name, value in (config | changes).items() if value != "absent"}


def test_configurations(tmp_path):
    assert lk.spec.read(stated()).rotary_dim == 16
    assert lk.spec.read(stated(head_dim="absent", hidden_size=48)).head_dim == 8
    for nothing in (
        dict(rope_parameters=dict(rope_type="default", rope_theta=None)),
        dict(rope_parameters="absent", rope_theta=None),
        dict(rope_parameters=None, rope_theta=None),
    ):
        spec = lk.spec.read(stated(**nothing))
        assert (spec.rotary_dim, spec.rope_theta, spec.window) == (0, 0, 512) and "no rotary" in str(spec)
    wrong = {
        "no rope_theta\n": dict(rope_parameters="absent"),
        "neither true nor false\n.*'yes'": dict(linear_allow_neg_eigval="yes"),
        "no whole number of channels\n.*44": dict(head_dim="absent"),
        "lacks fields\n.*linear_num_key_heads": dict(linear_num_key_heads=None),
        "all channels of a head or none": dict(
            rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4, partial_rotary_factor=0.5)
        ),
        "sizes must be whole numbers\n.*head_dim": dict(head_dim=2.5),
    }
    for text, changes in wrong.items():
        with pytest.raises(InputError, match=f"(?s){text}"):
            lk.spec.read(stated(**changes))


def publish(tensors):
    """The convolution's rows in the pieces of the published checkpoint."""
    names = [f"linear_attn.{x}_conv1d.weight" for x in "qkv"]
    for layer in (0, 1, 3):
        places = [f"model.layers.{layer}.{name}" for name in names]
        whole = torch.cat([tensors[place] for place in places])
        tensors |= {place: piece.clone() for place, piece in zip(places, whole.split([30, 30, 126]), strict=True)}
    return tensors


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("theta", "sizes"), [(1000.0, {}), (None, dict(hidden_size=48, head_dim="absent"))])
def test_a_folder_opens(theta, sizes, cut, tmp_path):
    model = siblings.olmo(theta, **sizes)
    model.save_pretrained(tmp_path)
    checkpoints.write_tokenizer(tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())
    assert text["model_type"] == "olmo_hybrid"
    if cut:  # as published: query, key and value each by itself; transformers saves equal thirds
        checkpoints.rewrite(tmp_path, publish)
    lab = lk.load(tmp_path, device="cpu", dtype="float32")
    with torch.no_grad():
        expected = model(IDS[None]).logits[0, -1:]
    run = lab.trace(IDS)
    torch.testing.assert_close(run.logits, expected, rtol=1e-4, atol=1e-4)
    assert (lab.spec.head_dim, lab.spec.rotary_dim) == ((16, 16) if theta else (8, 0))
    assert attention.pattern(run, layer=2).attrs["parity"] < 1e-5


def test_the_published_sizes_count_what_transformers_builds():
    from transformers import OlmoHybridConfig, OlmoHybridForCausalLM

    spec = lk.spec.read("Olmo-Hybrid-7B")
    with torch.device("meta"):
        built = OlmoHybridForCausalLM(OlmoHybridConfig(rope_theta=None))
    assert lk.spec.parameters(spec)["text"] == sum(weight.numel() for weight in built.parameters())
    fields = [field.name for field in dataclasses.fields(spec) if field.name not in ("name", "dtype")]
    own = lk.spec.read(built.config)
    assert [getattr(spec, name) for name in fields] == [getattr(own, name) for name in fields]
    assert spec.rotary_dim == 0 and spec.most_write == 2 and math.isclose(spec.layers / 4, len(spec.attention_layers))
    assert "Olmo-Hybrid-7B" in str(spec.card(tokens=4096))


# ---------------------------------------------------------------------------------------------------- Kimi Linear


@pytest.fixture(scope="module")
def kimi():
    return tiny.make_lab(siblings.kimi())


def loop(run, layer):
    """The rule, token by token, by the equation's own step: {name: [token, head]} and the states [token, ...]."""
    x, rows, states = deltanet.inputs(run, layer), [], []
    state = torch.zeros(9, 10, 10) if x.state is None else x.state
    for t in range(len(run)):
        keep, old = x.g[t].exp()[..., None], state
        state, out, recalled, error = deltanet.step(old, x.q[t], x.k[t], x.v[t], g=x.g[t], beta=x.beta[t])
        norm = lambda part: part.flatten(1).norm(dim=1)  # noqa: E731
        rows.append(
            {
                "keep": keep.mean((1, 2)),
                "state_norm": norm(state),
                "decayed": norm((1 - keep) * old),
                "erased": norm(x.beta[t][:, None, None] * x.k[t][..., None] * recalled[:, None]),
                "written": norm(x.beta[t][:, None, None] * x.k[t][..., None] * x.v[t][:, None]),
                "energy": norm(state).square() - norm(old).square(),
                "surprise": error.norm(dim=-1) / x.v[t].norm(dim=-1),
                "out": out.norm(dim=-1),
            }
        )
        states.append(state)
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}, torch.stack(states)


def both(lab):
    """A cold run, and a warm one."""
    cache = lab.cache()
    lab.trace(IDS[:40], cache=cache)
    return lab.trace(IDS), lab.trace(IDS[40:], cache=cache)


def test_decay_per_channel_is_what_the_model_computes(kimi):
    for run in both(kimi):
        d = kimi.spec.deltanet_layers
        found = [reading(run, layer=d) for reading in OF_DELTANET]
        found += [deltanet.recall(run, layer=d, source=3), deltanet.forgetting(run, layer=d, source=3)]
        found += [deltanet.written_by(run, layer=d, segments=["a", "b"] * (len(run) // 2))]
        assert all(0 < data.attrs["parity"] < 1e-5 for data in found)
        x = deltanet.inputs(run, 1)
        assert x.g.shape == (len(run), 9, 10) and x.g.std(-1).min() > 1e-3, "channels really differ"


def test_every_number_of_memory_is_that_of_the_loop_with_decay_per_channel(kimi):
    for run in both(kimi):
        expected, states = loop(run, 3)
        data = deltanet.memory(run, layer=3, tokens=range(len(run)))
        for name, column in expected.items():
            numpy.testing.assert_allclose(data[name], column.T, atol=2e-5 * float(column.abs().max()), err_msg=name)
        numpy.testing.assert_allclose(data.state, states.transpose(0, 1), atol=1e-5 * float(states.abs().max()))


def test_survival_and_its_control_with_decay_per_channel(kimi):
    run, layer, token = kimi.trace(IDS), 1, 60
    x, data = deltanet.inputs(run, layer), deltanet.survival(run, layer=layer, token=token)
    for source in (0, 25, 59):
        left = alone = x.k[source]
        for t in range(source + 1, token + 1):
            left, alone = x.g[t].exp() * left, x.g[t].exp() * alone
            left = left - x.beta[t][:, None] * x.k[t] * (x.k[t] * left).sum(-1, keepdim=True)
        size = x.k[source].norm(dim=-1)
        numpy.testing.assert_allclose(data.survival[:, source], left.norm(dim=-1) / size, atol=1e-5)
        numpy.testing.assert_allclose(data.decay_only[:, source], alone.norm(dim=-1) / size, atol=1e-5)
        own = (left * x.k[source]).sum(-1) / size.square()
        numpy.testing.assert_allclose(data.returned[:, source], own, atol=1e-5)
        after = deltanet.forgetting(run, layer=layer, source=source).sel(token=token)
        for name in ("survival", "decay_only", "returned"):
            numpy.testing.assert_allclose(after[name], data[name][:, source], atol=1e-5, err_msg=name)


def test_half_lives_of_channels_that_decay_alike_are_those_of_the_head(kimi):
    """A mixture of exponentials has no half-life of its own; where all channels agree it is one again."""
    ids = tiny.ids(90)
    plain = kimi.trace(ids)
    with kimi.edit(deltanet.clamp_keep(plain, layer=1, value=0.9)):
        run = kimi.trace(ids)
    numpy.testing.assert_allclose(deltanet.memory(run, layer=1).keep, 0.9, rtol=1e-5)
    found = deltanet.half_life(run, layer=1)
    assert found.decay_only.values == pytest.approx(7, abs=1), "ln 2 / -ln 0.9 is 6.6 tokens"
    assert (found.with_erasure <= found.decay_only).all()
    mixed = deltanet.survival(plain, layer=3).decay_only.values[:, ::-1]
    age = deltanet.half_life(plain, layer=3).decay_only.values
    for head in range(9):
        below = (mixed[head] < 0.5).nonzero()[0]
        assert abs(age[head] - below[0]) <= 3 if len(below) else math.isinf(age[head])


def test_gates_of_channels_are_set_and_watched(kimi):
    plain = kimi.trace(IDS)
    edits = [deltanet.never_forget(layer=1, heads=[4]), deltanet.clamp_write(layer=1, value=0.25, heads=[2])]
    edits += [deltanet.clamp_keep(plain, layer=1, value=0.5, heads=[7], tokens=[20, 21])]
    edits += [edit.set("a", layer=3, value=-1e4, heads=[5])]
    with kimi.edit(*edits):
        run = kimi.trace(IDS, chunk=32)
    data, free = deltanet.memory(run, layer=1), deltanet.memory(plain, layer=1)
    assert (data.keep.sel(head=4) == 1).all() and (deltanet.memory(run, layer=3).keep.sel(head=5) == 1).all()
    numpy.testing.assert_allclose(data.write.sel(head=2), 0.25, rtol=1e-5)
    numpy.testing.assert_allclose(data.keep.sel(head=7, token=[20, 21]), 0.5, rtol=1e-5)
    numpy.testing.assert_allclose(data.keep.sel(head=7, token=5), free.keep.sel(head=7, token=5), rtol=1e-5)
    probes = [deltanet.gates(block=10), deltanet.updates(block=10), deltanet.rows(tokens=[60]), deltanet.spectra()]
    seen = kimi.stream(IDS, probes=probes, chunk=20)
    numpy.testing.assert_allclose(seen.keep.sel(layer=1)[:, 2], free.keep[:, 20:30].mean("token"), rtol=1e-5)
    numpy.testing.assert_allclose(seen.decayed.sel(layer=1)[:, 2], free.decayed[:, 20:30].sum("token"), rtol=1e-4)
    row = deltanet.implied_row(plain, layer=3, token=60).weight.values
    numpy.testing.assert_allclose(seen.weight.sel(layer=3, token=60), row[:, :61], atol=1e-5 * abs(row).max())


def test_states_of_decay_per_channel_are_changed_as_foretold(kimi):
    run = kimi.trace(IDS)
    for change in (
        deltanet.associate(run, layer=1, heads=[1], source=5, value=9, at=20),
        deltanet.forget(run, layer=1, heads=[1], source=15, at=20),
    ):
        with kimi.edit(change):
            changed = kimi.trace(IDS)
        foretold = deltanet.response(run, change, layer=1).predicted
        found = deltanet.measured(run, changed, layer=1, at=20, heads=[1]).measured
        assert float(abs(foretold - found).max()) < 1e-4 * float(abs(found).max())


def test_every_way_to_read_a_prompt_gives_the_same_with_a_latent_cache(kimi, tmp_path):
    model, whole = kimi.model, kimi.trace(IDS, logits="all")
    with torch.no_grad():
        assert torch.equal(model(IDS[None]).logits[0], whole.logits)
    for chunk in (1, 7, 64):
        torch.testing.assert_close(kimi.trace(IDS, logits="all", chunk=chunk).logits, whole.logits, **CLOSE)
    asked = dict(attention_mask=torch.ones(1, 30).long(), max_new_tokens=8, do_sample=False)
    grown = kimi.generate(IDS[:30], max_new_tokens=8, states=[1])
    assert torch.equal(model.generate(IDS[None, :30], **asked)[0], grown.ids)
    assert deltanet.memory(grown, layer=1).attrs["parity"] < 1e-5
    short, long = kimi.trace([IDS[:9], IDS])
    torch.testing.assert_close(short.logits[0], whole.logits[8], **CLOSE)
    torch.testing.assert_close(long.logits[0], whole.logits[-1], **CLOSE)
    cache = kimi.cache()
    kimi.trace(IDS[:30], cache=cache)
    snap = kimi.snapshot(cache)
    held = (snap.keys[2].shape[-1], snap.values[2].shape[-1], snap.keys[2].shape[1])
    assert held == (26, 8, 1) and kimi.spec.cached == ((1, 26), (1, 8))
    assert lk.spec.kv_bytes_per_token(kimi.spec, "float32") == 2 * 34 * 4
    warm = kimi.resume(snap, IDS)
    torch.testing.assert_close(warm.logits[0], whole.logits[-1], **CLOSE)
    warm.save(tmp_path / "run")
    back = lk.open_run(tmp_path / "run")
    assert back.spec == kimi.spec and deltanet.survival(back, layer=3).attrs["parity"] < 1e-5
    folder, probes = tmp_path / "stream", lambda: [deltanet.norms(block=10)]
    kimi.stream(IDS, probes=probes(), chunk=20, checkpoint=folder, every=1)
    assert kimi.stream(IDS, probes=probes(), chunk=20, checkpoint=folder, every=1).attrs["parity"] < 1e-5


@pytest.mark.parametrize("place", [(1, "q", 2), (1, "a", 7), (0, "z", 8), (3, "gated", 5), (2, "gated", 5)])
def test_edits_land_in_kimi(kimi, place):
    layer, name, head = place
    plain = kimi.trace(IDS[:37], logits="all")
    with kimi.edit(edit.set(name, layer=layer, value=0.5, heads=head, tokens=[21])):
        changed = kimi.trace(IDS[:37], logits="all", chunk=16)
    moved = (changed.seams[layer, name] - plain.seams[layer, name]).abs()
    assert {21} == set((moved.flatten(1).amax(-1) > 1e-4).nonzero()[:, 0].tolist())
    assert moved[21].amax(-1).gt(1e-4).nonzero().flatten().tolist() == [head]
    later = (changed.logits - plain.logits).abs().amax(-1)
    assert later[:21].max() < 1e-4 and later[21] > 1e-3


def test_the_record_of_kimi_says_what_transformers_has(kimi):
    family, spec, model = FAMILIES["kimi_linear"], kimi.spec, kimi.model
    run = kimi.trace(tiny.ids(11))
    assert families.of_model(model) is family
    for ours, theirs in family.sizes.items():
        assert getattr(spec, ours) == getattr(model.config, theirs), ours
    for layer, kind in enumerate(spec.kinds):
        for name, seam in spec.seams[kind].items():
            size = (getattr(spec, seam.size),)
            shape = size if seam.dims == ("channel",) else tuple(spec.axis_sizes[axis] for axis in seam.dims)
            assert tuple(run.seams[layer, name].shape) == (11, *shape), (layer, name)
        mixed = kimi.projection(layer)(run.seams[layer, "gated"].flatten(1))
        torch.testing.assert_close(mixed, run.seams[layer, "mixer_out"], rtol=1e-4, atol=1e-4)
        counted = lk.spec.memory.deltanet_parameters if kind == DELTANET else lk.spec.memory.attention_parameters
        assert counted(spec)[0] == sum(weight.numel() for weight in model.model.layers[layer].self_attn.parameters())
    parts = lk.spec.parameters(spec)
    assert parts["text"] == sum(weight.numel() for weight in model.parameters())
    assert parts["mlp"] == sum(weight.numel() for layer in model.model.layers for weight in layer.mlp.parameters())
    assert parts["text"] - lk.spec.active_parameters(spec) == 4 * 6 * 3 * 44 * 20, "six of thirteen rest in four layers"
    small = siblings.kimi(q_lora_rank=30)
    assert lk.spec.parameters(lk.spec.read(small.config))["text"] == sum(w.numel() for w in small.parameters())


def test_latent_attention_says_by_name_that_it_has_no_maps(kimi):
    run = kimi.trace(IDS[:9])
    calls = [lambda reading=reading: reading(run, layer=4) for reading in (*OF_ATTENTION, attention.bands)]
    calls += [lambda: attention.contribution(run, kimi, layer=4), lambda: attention.scores(kimi, length=20)]
    calls += [lambda: kimi.stream(IDS, probes=[attention.watch(block=10)], chunk=20)]
    calls += [lambda: kimi.plan(tokens=100, want="attention.pattern")]
    for call in calls:
        with pytest.raises(LayerError, match=r"no readings of these layers\n.*latent attention.*\n.*\"gated\"\]"):
            call()
    assert kimi.trace(IDS[:9], layers=[4]).seams[4, "gated"].shape == (9, 6, 16), "the hint runs"
    with pytest.raises(InputError, match="rotates nothing"):
        yarn.scaled(kimi, factor=2)


def test_configurations_of_kimi_as_published_and_as_saved():
    plain = lk.spec.read(siblings.KIMI | dict(model_type="kimi_linear"))
    stored = {name: size for name, size in siblings.KIMI.items() if not name.startswith("linear_")}
    stored = {name: size for name, size in stored.items() if name != "layer_types"} | dict(model_type="kimi_linear")
    linear = dict(head_dim=10, num_heads=9, short_conv_kernel_size=4, full_attn_layers=[3, 5], kda_layers=[1, 2, 4])
    assert lk.spec.read(stored | dict(linear_attn_config=linear)) == plain
    assert lk.spec.read(stored | dict(linear_attn_config=linear, first_k_dense_replace=2)).dense_layers == 2
    wrong = {
        "not all layers\n.*5 layers": dict(linear_attn_config=linear | dict(kda_layers=[1, 2, 3])),
        "not all layers\n.*6 layers": dict(linear_attn_config=linear | dict(kda_layers=[1, 2, 4, 4])),
        "not a list": dict(linear_attn_config=linear | dict(kda_layers="1")),
        "not an object": dict(linear_attn_config=[1]),
        "not a count\n.*'one'": dict(linear_attn_config=linear, first_k_dense_replace="one"),
        "num_shared_experts is not a count": dict(linear_attn_config=linear, num_shared_experts=2.0),
        "among the others": dict(linear_attn_config=linear, mlp_layer_types=["sparse", "dense"] + ["sparse"] * 3),
        "lacks fields\n.*kv_lora_rank": dict(linear_attn_config=linear, kv_lora_rank=None),
        "num_hidden_layers is not a count": dict(num_hidden_layers=None),
    }
    for text, changes in wrong.items():
        with pytest.raises(InputError, match=f"(?s){text}"):
            lk.spec.read(stored | changes)


def as_published(tensors):
    """Experts one by one, the forget gate's weights beside the others, the convolution in three."""
    for name in [name for name in tensors if ".mlp.experts." in name]:
        for expert, whole in enumerate(tensors.pop(name)):
            head = name.split(".mlp.")[0] + f".block_sparse_moe.experts.{expert}."
            pieces = {"w2": whole} if "down" in name else dict(zip(("w1", "w3"), whole.chunk(2), strict=True))
            tensors |= {f"{head}{piece}.weight": part.clone() for piece, part in pieces.items()}
    for name in list(tensors):
        new = name.replace("forget_gate.", "")
        new = new.replace(".mlp.", ".block_sparse_moe.") if ".mlp.gate." in name or "shared_experts" in name else new
        tensors[new] = tensors.pop(name)
        if new.endswith("self_attn.conv1d.weight"):
            cut = zip("qkv", tensors.pop(new).chunk(3), strict=True)
            tensors |= {new.replace("conv1d", f"{x}_conv1d"): piece.clone() for x, piece in cut}


@pytest.mark.parametrize("published", [False, True])
def test_a_folder_of_kimi_opens(published, tmp_path):
    model = siblings.kimi()
    model.save_pretrained(tmp_path)
    checkpoints.write_tokenizer(tmp_path)
    if published:
        named = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        as_published(named)
        assert not any("forget_gate" in name or "gate_up_proj" in name for name in named)
        checkpoints.write_tensors(tmp_path, named)
    lab = lk.load(tmp_path, device="cpu", dtype="float32")
    with torch.no_grad():
        expected = model(IDS[None]).logits[0, -1:]
    run = lab.trace(IDS)
    torch.testing.assert_close(run.logits, expected, rtol=1e-4, atol=1e-4)
    assert deltanet.memory(run, layer=3).attrs["parity"] < 1e-5


def test_the_published_sizes_of_kimi_count_what_transformers_builds():
    from transformers import KimiLinearConfig, KimiLinearForCausalLM

    spec = lk.spec.read("Kimi-Linear-48B-A3B")
    kinds = ["full_attention" if kind == ATTENTION else "linear_attention" for kind in spec.kinds]
    with torch.device("meta"):
        built = KimiLinearForCausalLM(KimiLinearConfig(layer_types=kinds))
    assert lk.spec.parameters(spec)["text"] == sum(weight.numel() for weight in built.parameters()) > 48e9
    assert 3e9 < lk.spec.active_parameters(spec) < 3.6e9
    assert dataclasses.replace(lk.spec.read(built.config), name=spec.name) == spec


@pytest.mark.parametrize("name", ["Olmo-Hybrid-7B", "Kimi-Linear-48B-A3B"])
def test_contexts_are_planned_beside_the_probes_that_a_model_has(name):
    spec = lk.spec.read(name)
    (row,) = lk.plan.contexts.fit(spec, cards=["H200"], stored=[None]).rows
    assert row.loads and ("attention.watch" in row.probes) == (name == "Olmo-Hybrid-7B")
    assert "gates and norms" in row.probes and "watch_bands" not in row.probes
