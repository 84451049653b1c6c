"""The .gguf route: every stored type, rotary scalings of the settings, the layouts of both converters, and plans."""

import checkpoints
import numpy as np
import pytest
import tiny
import torch

import labkit as lk
from labkit.__main__ import main
from labkit.errors import CheckpointError, InputError
from labkit.families import FAMILIES
from labkit.zoo import gguf_weights
from tests.attacks.gguf import Writer, written

IDS = tiny.ids(23)
BLOCKS = checkpoints.BLOCKS | dict(num_hidden_layers=3, layer_types=["linear_attention"] * 2 + ["full_attention"])
# Rows of the large matrices in whole super-blocks of 256.
WIDE = BLOCKS | dict(hidden_size=256, intermediate_size=512)
EXPERTS = BLOCKS | dict(
    moe_intermediate_size=64, shared_expert_intermediate_size=192, num_experts=5, num_experts_per_tok=3
)
EXPERTS.pop("intermediate_size")
WIDE_EXPERTS = EXPERTS | dict(hidden_size=256, moe_intermediate_size=256, shared_expert_intermediate_size=512)
TYPES = {"F16": 1, "BF16": 30, "Q8_0": 8, "Q5_0": 6, "Q5_1": 7, "Q4_0": 2, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}


@pytest.fixture(scope="module")
def model():
    """A random hybrid."""
    return tiny.model(**BLOCKS)


@pytest.fixture
def file(tmp_path, model):
    """It as a .gguf file in float32."""
    path = tmp_path / "wide.gguf"
    written(path, model)
    return path


def same(lab, model):
    """Whether weights and passes of a lab are those of a model."""
    for name, weight in lab.model.named_parameters():
        torch.testing.assert_close(weight, model.get_parameter(name), rtol=2e-6, atol=2e-7, msg=name)
    run = lab.trace(IDS, logits="all")
    with torch.no_grad():
        torch.testing.assert_close(run.logits, model(IDS[None]).logits[0], rtol=1e-4, atol=1e-4)
    assert float(lk.deltanet.memory(run, layer=1).parity) < 1e-4


def test_a_file_is_read_without_a_package(file, model):
    same(lk.load(file, device="cpu"), model)


def super_blocks(kind, array, seed):
    """Random blocks of 256 numbers as the format has them, scales small; no package writes these types."""
    width = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}[kind]
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 256, (array.size // 256, width), np.uint8)
    scales = (rng.random((len(made), 2)) * 2e-4).astype(np.float16).view(np.uint8)
    if kind == "Q6_K":
        made[:, -2:] = scales[:, :2]
    else:
        made[:, :4] = scales
    return made.reshape(*array.shape[:-1], -1)


def mix(name, layers):
    """What Q4_K_M makes of a tensor of two axes: more bits for half of the values and of what comes down, and for the
    head; for rows of no whole super-blocks a type in blocks of 32.
    """
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    if name == "output.weight" or (more and ("attn_v" in name or "ffn_down" in name)):
        return "Q6_K"
    return "Q5_K" if "attn_qkv" in name else "Q4_K"


# How far the numbers of a type lie from those it was made of, of their length; the others here are of random blocks.
OFF = {"F16": 3e-4, "BF16": 3e-3, "Q8_0": 0.01, "Q5_0": 0.07, "Q5_1": 0.07, "Q4_0": 0.13}
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
FAMILY = {"qwen3_5": WIDE, "qwen3_5_moe": WIDE_EXPERTS, "qwen3_next": WIDE_EXPERTS}


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("kind", [*TYPES, "Q4_K_M"])
def test_every_type_is_unpacked_to_the_numbers_of_its_reference(kind, family, tmp_path):
    """Whatever llama.cpp's converter did beside it; norms, rates, router and convolution are in float32."""
    gguf = pytest.importorskip("gguf", reason="needs the extra: pip install '.[quant]'")
    model, number = tiny.model(family=family, **FAMILY[family]), iter(range(999))
    stored, kinds = {}, {}

    def pack(name, array):
        if array.ndim < 2 or any(part in name for part in ("ssm_conv1d", "ffn_gate_inp")):
            return None
        chosen = mix(name, len(model.model.layers)) if kind == "Q4_K_M" else kind
        width = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(TYPES[chosen])][0]
        if array.shape[-1] % width:
            chosen = FALLBACK[chosen]
        known = gguf.GGMLQuantizationType(TYPES[chosen])
        if chosen.endswith("_K"):
            data = super_blocks(chosen, array, next(number))
        else:
            data = gguf.quants.quantize(array, known)
        stored[name], kinds[name] = gguf.quants.dequantize(data, known).reshape(array.shape), chosen
        return data, known

    lab = lk.load(checkpoints.write_gguf(tmp_path / "packed.gguf", model, pack=pack), device="cpu", dtype="float32")
    inside = {"qwen3_5": 3 * 3 + 2 * 5, "qwen3_5_moe": 3 * 6 + 2 * 5, "qwen3_next": 3 * 6 + 2 * 4}[family]
    assert (lab.spec.family, len(stored)) == (family, inside + 4 + 2)
    if kind == "Q4_K_M":
        assert {"Q4_K", "Q5_K", "Q6_K", "Q5_0"} <= set(kinds.values()), kinds
        downs = {kinds[f"blk.{layer}.ffn_down{'' if family == 'qwen3_5' else '_exps'}.weight"] for layer in range(3)}
        assert downs == {"Q4_K", "Q6_K"} and kinds["output.weight"] == "Q6_K"
    plain = checkpoints.write_gguf(
        tmp_path / "plain.gguf",
        model,
        pack=lambda name, array: (
            (stored[name].astype(np.float32), gguf.GGMLQuantizationType.F32) if name in stored else None
        ),
    )
    meant = lk.load(plain, device="cpu", dtype="float32")
    for name, weight in lab.model.named_parameters():
        torch.testing.assert_close(weight, meant.model.get_parameter(name), rtol=1e-6, atol=1e-9, msg=name)
        original = model.get_parameter(name)
        assert kind not in OFF or (weight - original).norm() <= OFF[kind] * original.norm(), name
    run, change = lab.trace(IDS, logits="all"), lk.edit.scale("gated", layer=1, factor=0.5)
    assert run.logits.isfinite().all()
    for reading in (lk.deltanet.memory(run, layer=1), lk.attention.pattern(run, layer=2)):
        assert reading.parity < 1e-4
    torch.testing.assert_close(run.logits, meant.trace(IDS, logits="all").logits, rtol=1e-4, atol=1e-4)
    ways = []
    for one in (lab, meant):
        with one.edit(change):
            edited = one.trace(IDS).logits
        cache = one.cache()
        one.trace(IDS[:9], cache=cache)
        ways.append((edited, one.resume(one.snapshot(cache), IDS).logits))
    for got, expected in zip(*ways, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ways[0][0], run.logits[-1:], rtol=1e-3)


# ------------------------------------------------------------------------------------------------------ rotary scaling


@pytest.mark.parametrize("kind", ["yarn", "linear"])
def test_a_rotary_scaling_of_the_settings_is_computed(kind, tmp_path, model):
    settings = {"rope.scaling.type": kind, "rope.scaling.factor": 4.0}
    settings["rope.scaling.original_context_length"] = 128
    path = checkpoints.write_gguf(tmp_path / "far.gguf", model, settings=settings, writer=Writer)
    scaled = dict(model.config.rope_parameters, rope_type=kind, factor=4.0, original_max_position_embeddings=128)
    far = tiny.model(**BLOCKS, rope_parameters=scaled)
    far.load_state_dict(model.state_dict())
    lab = lk.load(path, device="cpu")
    assert lab.spec.window == 128
    assert torch.equal(lab.model.model.rotary_emb.inv_freq, far.model.rotary_emb.inv_freq)
    assert not torch.equal(lab.model.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    same(lab, far)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rope.scaling.type": "longrope", "rope.scaling.factor": 4.0}, "rope.scaling.type is .longrope"),
        ({"rope.scaling.factor": 4.0}, r"rope.scaling.factor is 4.0\n.*rope.scaling.type yarn"),
        ({"rope.scaling.type": "yarn"}, "no qwen35.rope.scaling.factor"),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.attn_factor": 1.5},
            "attn_factor is 1.5",
        ),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.alpha": 2.0}, "alpha is 2.0"),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 0},
            "length is 0",
        ),
        ({"rope.scale_linear": 2.0}, "scale_linear is 2.0"),
    ],
)
def test_other_scalings_are_refused_by_name(settings, told, tmp_path, model):
    path = checkpoints.write_gguf(tmp_path / "far.gguf", model, settings=settings, writer=Writer)
    with pytest.raises(CheckpointError, match=rf"not what it must be\n.*{told}"):
        lk.load(path, device="cpu")


def test_a_ramp_with_other_bounds_is_refused(tmp_path, model):
    settings = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 16.0}
    path = checkpoints.write_gguf(tmp_path / "far.gguf", model, settings=settings, writer=Writer)
    with pytest.raises(InputError, match="other bounds than the family.s\n.*beta_fast 16"):
        lk.load(path, device="cpu")


# ------------------------------------------------------------------------------------------------------------- layouts


class Fused(Writer):
    """Gate and up projections of all experts in one tensor, as llama.cpp's converter can store them."""

    def add_tensor(self, name, array, raw_dtype=0):
        if name.endswith("ffn_gate_exps.weight"):
            self.gates = array
        elif name.endswith("ffn_up_exps.weight"):
            both = np.concatenate((self.gates, array), 1)
            super().add_tensor(name.replace("ffn_up_exps", "ffn_gate_up_exps"), both, raw_dtype)
        else:
            super().add_tensor(name, array, raw_dtype)


@pytest.mark.parametrize("writer", [Writer, Fused])
def test_experts_are_read_fused_and_in_two(writer, tmp_path):
    mixed = tiny.model(experts=True, **EXPERTS)
    path = checkpoints.write_gguf(tmp_path / "mixed.gguf", mixed, writer=writer)
    same(lk.load(path, device="cpu"), mixed)


def test_layers_that_draft_tokens_are_left_out(tmp_path, model):
    made = written(tmp_path / "drafts.gguf", model)
    (count,) = (entry for entry in made.settings if entry[0] == "qwen35.block_count")
    count[2] += 1
    made.add_uint32("qwen35.nextn_predict_layers", 1)
    made.add_tensor("blk.3.nextn.eh_proj.weight", np.ones((128, 256), np.float32))
    made.add_tensor("blk.3.attn_norm.weight", np.ones(128, np.float32))
    made.close()
    lab = lk.load(made.path, device="cpu")
    assert lab.spec.layers == 3
    same(lab, model)


def test_every_architecture_of_a_family_has_its_layout():
    assert {family.gguf for family in FAMILIES.values()} - {None} == set(gguf_weights.LAYOUTS)
    assert set(gguf_weights.SECTIONED) < set(gguf_weights.LAYOUTS)


def test_a_tensor_without_a_place_is_refused(tmp_path, model):
    made = written(tmp_path / "more.gguf", model)
    made.add_tensor("rope_freqs.weight", np.ones(4, np.float32))
    made.close()
    with pytest.raises(CheckpointError, match=r"no place for\n.*rope_freqs.weight"):
        lk.load(made.path, device="cpu")


@pytest.mark.parametrize("way", ["apart", "as in the model"])
def test_the_projections_of_qwen3_next_are_interleaved_again(way, tmp_path):
    mixed = tiny.model(family="qwen3_next", **EXPERTS)
    path = tmp_path / "next.gguf"

    class First(Writer):
        """The first converter left the projection as it was."""

        def add_tensor(self, name, array, raw_dtype=0):
            layer = name.split(".")[1]
            if name.endswith("attn_qkv.weight"):
                whole = mixed.get_parameter(f"model.layers.{layer}.linear_attn.in_proj_qkvz.weight")
                super().add_tensor(f"blk.{layer}.ssm_in.weight", whole.detach().numpy())
            elif not name.endswith("attn_gate.weight"):
                super().add_tensor(name, array, raw_dtype)

    checkpoints.write_gguf(path, mixed, writer=Writer if way == "apart" else First)
    lab = lk.load(path, device="cpu")
    assert lab.spec.family == "qwen3_next"
    same(lab, mixed)


# --------------------------------------------------------------------------------------------------- folders and plans


def test_a_folder_that_holds_only_a_gguf_file_is_that_file(file, model):
    (file.parent / "mmproj-wide.gguf").write_bytes(b"GGUF")
    lab = lk.load(file.parent, device="cpu")
    assert lab.name == "wide"
    same(lab, model)
    (file.parent / "other.gguf").write_bytes(file.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"several .gguf files there\n.*other.gguf, wide.gguf\n.*\n.*path of the file"
    ):
        lk.load(file.parent)


@pytest.mark.parametrize("where", ["file", "folder"])
def test_plan_reads_the_anatomy_from_the_header(where, file, model, capsys):
    assert main(["plan", str(file if where == "file" else file.parent), "--tokens", "300"]) == 0
    told = capsys.readouterr().out
    (file.parent / "config.json").write_text(model.config.to_json_string(use_diff=False))
    assert main(["plan", str(file.parent / "config.json"), "--tokens", "300"]) == 0
    expected = capsys.readouterr().out
    strip = [line for line in expected.splitlines() if "parameters" in line or "widths" in line]
    assert strip
    assert all(line in told for line in strip)
    assert "wide" in told
    broken = file.parent / "broken.gguf"
    broken.write_bytes(file.read_bytes()[:900])
    assert main(["plan", str(broken)]) == 1
    assert "cannot read this .gguf file" in capsys.readouterr().err
