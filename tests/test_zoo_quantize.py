"""Quantised and packed routes: what comes out is the model with the packed weights, and the rest is refused."""

import importlib.util

import checkpoints
import numpy as np
import pytest
import test_families_parity as parity
import tiny
import torch

import labkit as lk
from labkit.errors import BackendError, BudgetError, CheckpointError, InputError
from labkit.families import FAMILIES
from labkit.zoo import precision

pytestmark = pytest.mark.filterwarnings("ignore:[a-z]+. transformers. ")  # what it says of packed weights is handed on

KEPT = FAMILIES["qwen3_5"].unquantized
KEPT_WITH_EXPERTS = FAMILIES["qwen3_5_moe"].unquantized
EXPERTS = checkpoints.BLOCKS | dict(
    moe_intermediate_size=64, shared_expert_intermediate_size=192, num_experts=13, num_experts_per_tok=7
)
EXPERTS.pop("intermediate_size")
IDS = tiny.ids(23)[None]


@pytest.fixture(scope="module")
def wide():
    """A random hybrid of whole blocks."""
    return tiny.model(**checkpoints.BLOCKS)


@pytest.fixture
def folder(tmp_path, wide):
    """It as a checkpoint."""
    return checkpoints.text_only(tmp_path / "wide", wide)


def unpacked(lab, quantize):
    """`{name: weight}` of the packed layers as floating numbers, by what they make of unit vectors or by torchao."""
    found = {}
    for name, module in lab.model.named_modules():
        if not isinstance(module, torch.nn.Linear) or precision.plain(module.weight):
            continue
        if quantize == "nf4":  # laid out for the CPU, which may be otherwise than its inverse reads them
            found[f"{name}.weight"] = module(torch.eye(module.in_features)).T
        else:
            found[f"{name}.weight"] = module.weight.dequantize()
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("quantize", "package"), [("nf4", "bitsandbytes"), ("int8", "torchao")])
def test_a_quantised_model_computes_with_its_packed_weights(quantize, package, folder, wide):
    pytest.importorskip(package, exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    lab = lk.load(folder, device="cpu", quantize=quantize)
    weights = unpacked(lab, quantize)
    assert len(weights) == 4 * 3 + 2 * 4 + 6 * 3
    for name, weight in weights.items():
        original = wide.get_parameter(name)
        error = (weight - original).norm() / original.norm()
        assert 0 < error < (0.12 if quantize == "nf4" else 0.01), name
    for name, weight in lab.model.named_parameters():
        if name not in weights:
            assert torch.equal(weight, wide.get_parameter(name)), name
    twin = tiny.model(**checkpoints.BLOCKS)
    twin.load_state_dict(weights, strict=False)
    with torch.no_grad():
        got, expected, plain = lab.model(IDS).logits, twin(IDS).logits, wide(IDS).logits
    off = (got - expected).norm() / expected.norm()
    moved = (plain - expected).norm() / expected.norm()
    assert off < 0.1 * moved if quantize == "nf4" else off < 1e-4  # some CPUs multiply 4-bit weights in bfloat16
    assert lab.backend.quantize == quantize
    assert lab.backend.versions[package] is not None
    assert package in repr(lab.backend)
    again = lk.wrap(lab.model).backend
    assert (again.quantize, again.versions) == (package, lab.backend.versions)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("quantize", "package"), [("nf4", "bitsandbytes"), ("int8", "torchao")])
def test_experts_router_and_shared_gate_stay_as_they_are(quantize, package, tmp_path):
    """Quantisers of transformers pack linear layers: the mixers and the shared expert."""
    pytest.importorskip(package, exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    mixed = tiny.model(experts=True, **EXPERTS)
    lab = lk.load(checkpoints.text_only(tmp_path / "mixed", mixed), device="cpu", quantize=quantize)
    weights = unpacked(lab, quantize)
    assert len(weights) == 4 * 3 + 2 * 4 + 6 * 3
    for name, weight in lab.model.named_parameters():
        original = mixed.get_parameter(name)
        if name in weights:
            assert 0 < (weights[name] - original).norm() / original.norm() < (0.12 if quantize == "nf4" else 0.01), name
        else:
            assert torch.equal(weight, original), name
    packed = sum(mixed.get_parameter(name).numel() for name in weights)
    total = sum(weight.numel() for weight in mixed.parameters())
    counted = lk.spec.weight_bytes(lab.spec, "float32", quantize)["text"]
    assert counted == pytest.approx(4 * (total - packed) + lk.spec.QUANTIZED[quantize] * packed, abs=2)


def test_broken_numbers_are_found_before_they_are_packed(folder):
    pytest.importorskip("bitsandbytes", exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    name = "model.layers.1.mlp.up_proj.weight"
    checkpoints.rewrite(folder, lambda named: named[name].view(-1)[9:10].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=f"NaN or infinite\n.*{name}"):
        lk.load(folder, device="cpu", quantize="nf4")


def test_small_matrices_are_refused_where_they_could_not_be_multiplied(tmp_path, model):
    pytest.importorskip("bitsandbytes", exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    folder = checkpoints.text_only(tmp_path / "odd", model)
    with pytest.raises(BackendError, match=r'whole blocks\n.*out_proj.weight \[44, 126\]\n.*\n.*quantize="int8"'):
        lk.load(folder, device="cpu", quantize="nf4")


def test_routes_that_need_a_gpu_are_refused(folder, monkeypatch):
    for quantize in ("int4", "fp8"):
        with pytest.raises(BackendError, match=rf'quantize="{quantize}" needs a GPU\n.*cpu.*\n.*nf4'):
            lk.load(folder, device="cpu", quantize=quantize)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA RTX 3090")
    with pytest.raises(BackendError, match=r"newer GPU\n.*NVIDIA RTX 3090, compute capability 8.6\n.*8.9 or later"):
        precision.check_quantize("fp8", torch.device("cuda", 0))
    with pytest.raises(InputError, match=r"computes in bfloat16\n.*float32"):
        precision.check_quantize("int4", torch.device("cuda", 0), "float32")


@pytest.mark.parametrize("quantize", precision.PACKAGES)
def test_missing_packages_are_named(quantize, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    first, second = precision.PACKAGES[quantize]
    with pytest.raises(
        BackendError, match=rf"not installed\n  got: no {first}, {second}\n.*pip install {first} {second}"
    ):
        precision.check_quantize(quantize, torch.device("cuda", 0))


def test_a_quantiser_that_packs_too_much_is_caught(wide):
    import copy

    packed = copy.deepcopy(wide)
    precision.check_kept(packed, KEPT)
    layer = packed.model.layers[1].linear_attn.in_proj_b
    layer.weight = torch.nn.Parameter(torch.zeros(layer.weight.shape, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(BackendError, match=r"must stay as they are\n.*model.layers.1.linear_attn.in_proj_b"):
        precision.check_kept(packed, KEPT)
    mixed = tiny.model(experts=True)
    precision.check_kept(mixed, KEPT_WITH_EXPERTS)
    router = mixed.model.layers[2].mlp.gate
    router.weight = torch.nn.Parameter(torch.zeros(router.weight.shape, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(BackendError, match=r"must stay as they are\n.*got: model.layers.2.mlp.gate\n|mlp.gate\n"):
        precision.check_kept(mixed, KEPT_WITH_EXPERTS)


# ------------------------------------------------------------------------------------------------- stored packed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("quantize", "package"), [("nf4", "bitsandbytes"), ("int8", "torchao")])
def test_a_model_saved_packed_loads_packed(quantize, package, folder, tmp_path):
    pytest.importorskip(package, exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    lab = lk.load(folder, device="cpu", quantize=quantize)
    lab.model.save_pretrained(tmp_path / "packed")
    checkpoints.write_tokenizer(tmp_path / "packed")
    again = lk.load(tmp_path / "packed", device="cpu")
    assert again.backend.quantize == package
    with torch.no_grad():
        assert torch.equal(again.model(IDS).logits, lab.model(IDS).logits)


def stored_packed(way, folder, place):
    """The folder as transformers stores it packed: 4 bits with labkit's list of modules, torchao with its own, a and b
    too; e4m3 in bfloat16. Returns the model that was stored.
    """
    from transformers import AutoModelForCausalLM, TorchAoConfig

    if way == "nf4":
        made = lk.load(folder, device="cpu", quantize="nf4").model
    else:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

        kind, dtype = {
            "int8": (Int8WeightOnlyConfig, torch.float32),
            "float8": (Float8WeightOnlyConfig, torch.bfloat16),
        }[way]
        options = dict(quantization_config=TorchAoConfig(kind()), dtype=dtype, device_map={"": "cpu"})
        made = AutoModelForCausalLM.from_pretrained(folder, **options)
    made.save_pretrained(place)
    checkpoints.write_tokenizer(place)
    return made


# How far apart numbers may lie, of the largest: torchao scales the sums of a row, and not its weights; some CPUs
# multiply weights of 4 bits in bfloat16, and one layer hands its rounding to the next.
BOUNDS = {"int8": 1e-4, "float8": 1e-2, "nf4": 0.2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("way", "package"), [("int8", "torchao"), ("float8", "torchao"), ("nf4", "bitsandbytes")])
def test_packed_weights_are_read_edited_and_resumed_as_the_numbers_they_stand_for(way, package, folder, tmp_path, wide):
    pytest.importorskip(package, exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    stored_packed(way, folder, tmp_path / "packed")
    lab, bound, ids = lk.load(tmp_path / "packed", device="cpu"), BOUNDS[way], parity.IDS
    assert lab.backend.quantize == package
    weights, twin = unpacked(lab, way), tiny.model(**checkpoints.BLOCKS)
    assert len(weights) == 4 * 3 + 2 * 4 + 6 * 3 + (0 if way == "nf4" else 2 * 4)
    twin.load_state_dict(wide.state_dict() | weights)
    for weight in twin.parameters():
        weight.data = weight.data.to(lab.dtype)
    plain, change = lk.wrap(twin), lk.edit.scale("gated", layer=1, factor=0.5)
    run, meant = lab.trace(ids, logits="all"), plain.trace(ids, logits="all")
    with torch.no_grad():
        assert torch.equal(run.logits, lab.model(ids[None]).logits[0])

    def close(one, other):
        scale = np.nanmax(np.abs(other), initial=0)
        return np.isclose(one, other, rtol=bound, atol=bound * scale, equal_nan=True).mean() > 0.999

    for name in parity.READINGS:
        found, expected = parity.read(lab, run, name), parity.read(plain, meant, name)
        if "parity" in found.attrs:
            assert found.attrs["parity"] <= found.attrs["tolerance"], name
        for variable in found.data_vars if name != "deltanet.state_difference" else ():
            one, other = found[variable].values, expected[variable].values
            assert close(one, other) if one.dtype.kind == "f" else True, (name, variable)
    ways = []
    for each in (lab, plain):
        with each.edit(change):
            edited = each.trace(ids).logits
        cache = each.cache()
        each.trace(ids[:60], cache=cache)
        ways.append((edited.float().numpy(), each.resume(each.snapshot(cache), ids).logits.float().numpy()))
    (edited, resumed), (meant_edited, meant_resumed) = ways
    assert close(edited, meant_edited) and close(resumed, meant_resumed) and not close(edited, resumed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["load", "wrap"])
def test_the_first_run_of_a_4_bit_model_is_of_its_lab(how, folder):
    """bitsandbytes writes into its weights where it lays them out for a CPU, at their first pass."""
    pytest.importorskip("bitsandbytes", exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    if how == "load":
        lab = lk.load(folder, device="cpu", quantize="nf4")
    else:
        config = precision.quantization_config("nf4", torch.float32, KEPT)
        options = dict(quantization_config=config, dtype=torch.float32, device_map={"": "cpu"})
        lab = lk.wrap(FAMILIES["qwen3_5"].model_class().from_pretrained(folder, **options))
    before = lab.identity()
    run = lab.trace(IDS[0])
    assert before == run.identity == lab.identity()
    assert lk.attention.contribution(run, lab, layer=2).parity < 1e-4


@pytest.mark.filterwarnings("ignore")
def test_a_torchao_checkpoint_computes_in_the_dtype_it_was_packed_in(folder, tmp_path):
    """Packed with torchao's own list of modules, a and b too; e4m3 multiplies in no other dtype."""
    pytest.importorskip("torchao", exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    made = stored_packed("float8", folder, tmp_path / "packed")
    lab = lk.load(tmp_path / "packed", device="cpu")
    assert (lab.backend.quantize, lab.model.dtype) == ("torchao", torch.bfloat16)
    run = lab.trace(IDS[0], logits="all")
    with torch.no_grad():
        assert torch.equal(run.logits, made(IDS).logits[0])
    with pytest.raises(
        BackendError, match=r'multiplied here\n.*torchao, dtype=float32: .*\n.*dtype="bfloat16" as they'
    ):
        lk.load(tmp_path / "packed", device="cpu", dtype="float32")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["nf4", "nf4 twice", "fp4", "int8"])
def test_bitsandbytes_own_files_stand_for_the_numbers_it_says(way, folder, tmp_path, wide):
    """Packed with its own list of modules, a and b too, whose few rows are no whole block: unpacked on a CPU."""
    pytest.importorskip("bitsandbytes", exc_type=ImportError, reason="needs the extra: pip install '.[quant]'")
    from bitsandbytes import functional
    from transformers import BitsAndBytesConfig

    four = dict(load_in_4bit=True, bnb_4bit_quant_type=way[:3], bnb_4bit_use_double_quant="twice" in way)
    options = dict(quantization_config=BitsAndBytesConfig(**(dict(load_in_8bit=True) if way == "int8" else four)))
    made = type(wide).from_pretrained(folder, device_map={"": "cpu"}, dtype=torch.float32, **options)
    made.save_pretrained(tmp_path / "packed")
    checkpoints.write_tokenizer(tmp_path / "packed")
    lab = lk.load(tmp_path / "packed", device="cpu")
    assert lab.backend.quantize == "bitsandbytes, unpacked"
    found = 0
    for name, module in made.named_modules():
        weight, held = getattr(module, "weight", None), lab.model.get_submodule(name)
        if getattr(weight, "quant_state", None) is not None:
            meant = functional.dequantize_4bit(weight.data, weight.quant_state)
        elif getattr(weight, "SCB", None) is not None:
            meant = functional.int8_vectorwise_dequant(weight.data, weight.SCB)
        else:
            continue
        found += 1
        torch.testing.assert_close(held.weight, meant, rtol=1e-6, atol=1e-7, msg=name)
    assert found == 4 * 5 + 2 * 4 + 6 * 3
    assert lab.trace(IDS[0]).logits.isfinite().all()


def test_other_packings_are_refused(folder):
    checkpoints.change_json(folder / "config.json", quantization_config={"quant_method": "hqq", "nbits": 4})
    with pytest.raises(
        CheckpointError, match=r"does not load\n.*'hqq', Qwen3.5.*\n.*fp8, bitsandbytes, torchao, .*gptq"
    ):
        lk.load(folder, device="cpu")


def store_fp8(folder):
    """The folder with its large linear layers in e4m3 and a scale per block, 32 x 32 here."""
    pytest.importorskip("accelerate", reason="needs the extra: pip install '.[quant]'")
    kept = [f".{name}." for name in (*KEPT_WITH_EXPERTS, "embed_tokens")]

    def pack(named):
        for name in [n for n, w in named.items() if w.ndim == 2 and not any(k in f".{n}" for k in kept)]:
            weight = named[name]
            rows, columns = (size // 32 for size in weight.shape)
            scale = torch.ones(rows, columns)
            for i in range(rows):
                for j in range(columns):
                    scale[i, j] = weight[32 * i : 32 * (i + 1), 32 * j : 32 * (j + 1)].abs().max() / 448
            spread = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
            named[name] = (weight / spread).to(torch.float8_e4m3fn)
            named[f"{name}_scale_inv"] = scale

    checkpoints.rewrite(folder, pack)
    stored = dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[32, 32])
    stored["modules_to_not_convert"] = ["lm_head", "model.embed_tokens"] + [
        f"model.layers.{layer}.linear_attn.in_proj_{kind}" for layer in (0, 1, 3, 4) for kind in "ab"
    ]
    stored["modules_to_not_convert"] += [
        f"model.layers.{layer}.mlp.{kind}" for layer in range(6) for kind in ("gate", "shared_expert_gate")
    ]
    checkpoints.change_json(folder / "config.json", quantization_config=stored)
    return folder


@pytest.fixture
def stored_fp8(folder):
    """The dense hybrid, stored so."""
    return store_fp8(folder)


def test_stored_fp8_experts_are_unpacked_on_a_cpu(tmp_path):
    """As official checkpoints store them: every expert apart, with its scales beside it."""
    mixed = tiny.model(experts=True, **EXPERTS)
    folder = store_fp8(checkpoints.text_only(tmp_path / "mixed", mixed, apart=True))
    lab = lk.load(folder, device="cpu", dtype="float32")
    assert lab.backend.quantize == "fp8, unpacked"
    for name, weight in lab.model.named_parameters():
        original = mixed.get_parameter(name)
        assert (weight - original).norm() / original.norm() < 0.04, name
    assert torch.equal(lab.model.model.layers[1].mlp.gate.weight, mixed.model.layers[1].mlp.gate.weight)
    checkpoints.rewrite(folder, lambda named: named.pop("model.layers.2.mlp.experts.12.up_proj.weight"))
    with pytest.raises(CheckpointError, match="lacks tensors\n.*experts.12.up_proj"):
        lk.load(folder, device="cpu")


def test_stored_fp8_is_unpacked_on_a_cpu(stored_fp8, wide):
    lab = lk.load(stored_fp8, device="cpu", dtype="float32")
    assert lab.backend.quantize == "fp8, unpacked"
    for name, weight in lab.model.named_parameters():
        original = wide.get_parameter(name)
        assert (weight - original).norm() / original.norm() < 0.04, name
    assert torch.equal(lab.model.lm_head.weight, wide.lm_head.weight)


def test_stored_fp8_is_held_to_what_it_lacks(stored_fp8):
    pytest.importorskip("bitsandbytes", reason="needs the extra: pip install '.[quant]'")
    with pytest.raises(InputError, match=r"already quantised\n.*'nf4' on fp8"):
        lk.load(stored_fp8, device="cpu", quantize="nf4")
    checkpoints.rewrite(stored_fp8, lambda named: named.pop("model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(CheckpointError, match="lacks tensors"):
        lk.load(stored_fp8, device="cpu")


# ----------------------------------------------------------------------------------------------------------- gguf


@pytest.fixture
def packed(tmp_path, wide):
    """The wide hybrid as a .gguf file."""
    pytest.importorskip("gguf", reason="needs the extra: pip install '.[quant]'")
    return checkpoints.write_gguf(tmp_path / "wide.gguf", wide)


def test_a_gguf_file_equals_the_model_it_was_made_from(packed, wide):
    lab = lk.load(packed, device="cpu")
    for name, weight in lab.model.named_parameters():
        torch.testing.assert_close(weight, wide.get_parameter(name), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(lab.model(IDS).logits, wide(IDS).logits, rtol=1e-4, atol=1e-4)
    assert lab.name == "wide"
    assert lab.spec.kinds == lk.spec.read(wide.config).kinds
    assert lab.backend.quantize == "gguf, unpacked"
    assert lab.model.generation_config.eos_token_id == [1, 0]
    assert lab.encode("ab ba<|im_end|>").tolist() == [5, 4, 3, 2, 1]


def test_a_gguf_file_with_experts_equals_the_model_it_was_made_from(tmp_path):
    pytest.importorskip("gguf", reason="needs the extra: pip install '.[quant]'")
    mixed = tiny.model(experts=True, **EXPERTS)
    lab = lk.load(checkpoints.write_gguf(tmp_path / "mixed.gguf", mixed), device="cpu")
    for name, weight in lab.model.named_parameters():
        torch.testing.assert_close(weight, mixed.get_parameter(name), rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(lab.model(IDS).logits, mixed(IDS).logits, rtol=1e-4, atol=1e-4)
    assert (lab.spec.family, lab.spec.experts, lab.spec.active_experts) == ("qwen3_5_moe", 13, 7)


def test_broken_gguf_files_are_refused(packed, wide, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="unpacked as it is"):
        lk.load(packed, quantize="nf4")
    other = checkpoints.write_gguf(tmp_path / "other.gguf", wide, architecture="llama")
    with pytest.raises(CheckpointError, match=r"labkit knows\n.*'llama'\n.*qwen35, qwen35moe"):
        lk.load(other)
    lacking = checkpoints.write_gguf(tmp_path / "l.gguf", wide, leave_out=("blk.1.ssm_a", "output_norm.weight"))
    with pytest.raises(CheckpointError, match=r"2 of 81 absent: model.layers.1.linear_attn.A_log, model.norm.weight"):
        lk.load(lacking)
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-1000])
    with pytest.raises(CheckpointError, match=rf"truncated\n.*{len(whole) - 1000:,} bytes\n.*{len(whole):,} bytes"):
        lk.load(packed)
    for broken in (whole[:500], b"GGML" + whole[4:], b""):
        packed.write_bytes(broken)
        with pytest.raises(CheckpointError, match="cannot read this .gguf file"):
            lk.load(packed)
    packed.write_bytes(whole)
    monkeypatch.setattr(precision, "budget", lambda device: (1000, "host memory"))
    with pytest.raises(BudgetError, match=r"wide would not fit\n(.*\n)*.*smallest route"):
        lk.load(packed, device="cpu", dtype="float32")


# ------------------------------------------------------------------------------------------------ on an accelerator


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantize", [None, *precision.PACKAGES])
def test_every_route_runs_on_a_gpu(quantize, folder, wide):
    if quantize and any(importlib.util.find_spec(name) is None for name in precision.PACKAGES[quantize]):
        pytest.skip(f"{quantize} needs {', '.join(precision.PACKAGES[quantize])}")
    lab = lk.load(folder, device="cuda", dtype="bfloat16", quantize=quantize)
    assert lab.device.type == "cuda"
    assert torch.cuda.get_device_name() in lab.backend.device
    for name, weight in lab.model.named_parameters():
        if any(kept in name for kept in (*KEPT, "norm", "embed")):
            assert torch.equal(weight.cpu(), wide.get_parameter(name).bfloat16()), name
    with torch.no_grad():
        got, expected = lab.model(IDS.cuda()).logits.float().cpu(), wide(IDS).logits
    likeness = torch.nn.functional.cosine_similarity(got.flatten(), expected.flatten(), 0)
    assert likeness > (0.4 if quantize in ("nf4", "int4") else 0.9)
