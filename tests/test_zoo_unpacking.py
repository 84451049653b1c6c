"""Checkpoints stored packed: what is loaded and traced is the model with the numbers that the packed weights stand for.

The layouts are written by `packers`, which works out the numbers by itself.
"""

import importlib.util
import itertools

import checkpoints
import packers
import pytest
import siblings
import test_families_lin as lin
import tiny
import torch
from huggingface_hub import constants

import labkit as lk
from labkit.errors import BudgetError, CheckpointError
from labkit.families import FAMILIES
from labkit.zoo import held, precision, words

IDS = tiny.ids(23)
EXPERTS = checkpoints.BLOCKS | dict(
    moe_intermediate_size=64, shared_expert_intermediate_size=192, num_experts=5, num_experts_per_tok=3
)
EXPERTS.pop("intermediate_size")
WAYS = {
    "fp8, scales in bfloat16": (packers.fp8, "fp8"),
    "fp8, scales in float32": (lambda folder: packers.fp8(folder, torch.float32), "fp8"),
    "nf4 twice": (packers.nf4, "bitsandbytes"),
    "nf4 once": (lambda folder: packers.nf4(folder, double=False), "bitsandbytes"),
    "int8": (packers.int8, "bitsandbytes"),
    "compressed int4": (packers.compressed, "compressed-tensors"),
    "compressed int4, uneven": (lambda folder: packers.compressed(folder, symmetric=False), "compressed-tensors"),
    "compressed int3": (lambda folder: packers.compressed(folder, width=3, symmetric=False), "compressed-tensors"),
    "compressed int8 in words": (lambda folder: packers.compressed(folder, width=8), "compressed-tensors"),
    "compressed int8": (packers.compressed_int8, "compressed-tensors"),
    "compressed fp8": (packers.compressed_fp8, "compressed-tensors"),
    "compressed nvfp4": (packers.nvfp4, "compressed-tensors"),
    "gptq": (packers.gptq, "gptq"),
    "gptq, 8 bits in order": (lambda folder: packers.gptq(folder, width=8, mixed=False), "gptq"),
    "awq": (packers.awq, "awq"),
    "mlx": (packers.mlx, "mlx"),
    "mlx, 6 bits": (lambda folder: packers.mlx(folder, width=6), "mlx"),
}


@pytest.fixture(scope="module")
def wide():
    """A random hybrid of whole blocks."""
    return tiny.model(**checkpoints.BLOCKS)


@pytest.fixture
def folder(tmp_path, wide):
    """It as a checkpoint."""
    return checkpoints.text_only(tmp_path / "wide", wide)


def holds(lab, model, meant, dtype):
    """Whether a lab's weights are the model's, the packed ones as they were meant, and its passes that model's."""
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict() | meant)
    for weight in twin.parameters():  # a whole model moved to bfloat16 rounds its rotary frequencies, too
        weight.data = weight.data.to(dtype)
    for name, weight in lab.model.named_parameters():
        assert torch.equal(weight, twin.get_parameter(name)), name
    run = lab.trace(IDS, logits="all")
    with torch.no_grad():
        assert torch.equal(run.logits, twin(IDS[None]).logits[0])
    found = [lk.deltanet.memory(run, layer=1), lk.deltanet.recall(run, layer=1, source=3)]
    found += [lk.attention.pattern(run, layer=2)] if not FAMILIES[lab.spec.family].unread else []
    assert all(reading.parity <= reading.tolerance for reading in found)
    plain, change = lk.wrap(twin), lk.edit.scale("gated", layer=1, factor=0.5)
    ways = []
    for each in (lab, plain):
        with each.edit(change):
            edited = each.trace(IDS).logits
        cache = each.cache()
        each.trace(IDS[:9], cache=cache)
        ways.append((edited, each.resume(each.snapshot(cache), IDS).logits))
    (edited, resumed), (meant_edited, meant_resumed) = ways
    assert torch.equal(edited, meant_edited) and not torch.equal(edited, resumed)
    torch.testing.assert_close(resumed, meant_resumed)  # 16 bits round by where a cache lies in memory


@pytest.mark.parametrize(
    ("way", "dtype"),
    [(way, "float32") for way in WAYS]
    + [("fp8, scales in float32", "bfloat16"), ("mlx", "float16"), ("nf4 twice", None)],
)
def test_a_packed_checkpoint_computes_with_the_numbers_it_stands_for(way, dtype, folder, wide, monkeypatch):
    monkeypatch.setattr(held, "stays_packed", lambda *_: False)
    pack, method = WAYS[way]
    meant = pack(folder)
    assert len(meant) >= 4 * 3 + 2 * 4 + 6 * 3
    lab = lk.load(folder, device="cpu", dtype=dtype)
    assert lab.backend.quantize == f"{method}, unpacked"
    holds(lab, wide, meant, getattr(torch, dtype or "float32"))


# ------------------------------------------------------------------------------------------- what a machine multiplies

OLD, NEW = [(7, 5), (8, 0), (8, 6)], [(8, 9), (9, 0), (12, 0)]
ALL = {"accelerate", "kernels", "bitsandbytes", "torchao"}


def nothing():
    """As transformers' loader of the kernel where the hub's cache has none."""
    raise OSError("offline, and not in the cache")


def on(monkeypatch, capability, packages, kernel):
    """A machine with a card of this capability, of the packages these alone, and this loader of the kernel for FP8."""
    from transformers.integrations import finegrained_fp8

    there = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in packages if name in ALL else there(name))
    monkeypatch.setattr(finegrained_fp8, "load_finegrained_fp8_kernel", kernel)


CARDS, PACKAGES = [None, *OLD, *NEW], [ALL, *(ALL - {name} for name in sorted(ALL))]
KERNELS = {"there": lambda: object(), "none": lambda: None, "not in the cache": nothing}
BLOCKED, ODD = [(320, 128), (64, 192)], [(320, 128), (48, 128)]
STAYS = {
    "torchao": lambda card, packages, kernel, matrices: True,  # else refused, without its packages
    "bitsandbytes": lambda card, packages, kernel, matrices: (
        card is not None or (packages >= {"accelerate", "bitsandbytes"} and matrices is BLOCKED)
    ),
    "fp8": lambda card, packages, kernel, matrices: (
        card in NEW and packages >= {"accelerate", "kernels"} and kernel == "there"
    ),
} | dict.fromkeys(("compressed-tensors", "gptq", "awq", "mlx"), lambda *_: False)


@pytest.mark.parametrize("method", STAYS)
def test_every_machine_decides_what_it_multiplies_packed(method, monkeypatch):
    for case in itertools.product(CARDS, PACKAGES, KERNELS, (BLOCKED, ODD)):
        card, packages, kernel, matrices = case
        with monkeypatch.context() as patch:
            on(patch, card, packages, KERNELS[kernel])
            device = torch.device("cpu") if card is None else torch.device("cuda", 0)
            assert held.stays_packed(method, device, iter(matrices)) == STAYS[method](*case), case
    assert STAYS.keys() == {*held.STORED, *held.UNPACKED}


def test_the_kernel_is_looked_for_without_the_network(monkeypatch):
    asked = []
    for before in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", before)
        for kernel in KERNELS.values():
            on(monkeypatch, (9, 0), ALL, lambda kernel=kernel: (asked.append(constants.HF_HUB_OFFLINE), kernel())[1])
            held.stays_packed("fp8", torch.device("cuda", 0), BLOCKED)
            assert constants.HF_HUB_OFFLINE is before
    assert asked == [True] * 6


@pytest.mark.parametrize(
    ("card", "packages", "kernel"),
    [
        ((8, 6), ALL, "there"),
        ((9, 0), ALL - {"kernels"}, "there"),
        ((9, 0), ALL, "none"),
        ((8, 9), ALL, "not in the cache"),
    ],
)
@pytest.mark.parametrize("scale", [torch.bfloat16, torch.float32])
def test_a_card_without_the_kernel_reads_fp8_unpacked(card, packages, kernel, scale, folder, wide, monkeypatch):
    """What is decided is decided for the card; the numbers are computed here."""
    meant, as_read, decided = packers.fp8(folder, scale), held.as_read, []

    def on_the_card(tensors, stored, device):
        with monkeypatch.context() as patch:
            on(patch, card, packages, KERNELS[kernel])
            read = as_read(tensors, stored, torch.device("cuda", 0))
        decided.append(read[1])
        return read

    monkeypatch.setattr(held, "as_read", on_the_card)
    lab = lk.load(folder, device="cpu", dtype="float32")
    assert (decided, lab.backend.quantize) == ([False], "fp8, unpacked")
    holds(lab, wide, meant, torch.float32)


def test_a_card_with_the_kernel_reads_fp8_as_it_is_stored(folder, monkeypatch):
    from labkit.zoo import files, settings

    packers.fp8(folder)
    tensors, stored = files.tensors(folder), settings.stored(settings.read_json(folder, "config.json"))
    on(monkeypatch, (9, 0), ALL, KERNELS["there"])
    assert held.as_read(tensors, stored, torch.device("cuda", 0)) == (tensors, True)
    joined, packed = held.as_read(tensors, stored, torch.device("cpu"))
    assert not packed and joined.keys() == {name for name in tensors if not name.endswith("_scale_inv")}


# -------------------------------------------------------------------------------------------------------- families

HALF = dict(num_hidden_layers=3, layer_types=checkpoints.BLOCKS["layer_types"][:3])  # D D A
# Rows in words of GPTQ's zeros, columns in whole groups.
OLMO = checkpoints.BLOCKS | HALF | dict(linear_num_value_heads=8, linear_value_head_dim=24)
OLMO.pop("rope_parameters", None)
KIMI = dict(hidden_size=128, intermediate_size=320, moe_intermediate_size=64, num_experts=5, num_experts_per_token=3)
KIMI |= dict(kv_lora_rank=64, qk_rope_head_dim=8, qk_nope_head_dim=24, v_head_dim=32, linear_head_dim=64)
KIMI |= dict(linear_num_heads=8) | HALF
MODELS = {
    "qwen3_5_moe": lambda: tiny.model(experts=True, **EXPERTS),
    "qwen3_next": lambda: tiny.model(family="qwen3_next", **EXPERTS | HALF),
    "olmo_hybrid": lambda: siblings.olmo(**OLMO),
    "kimi_linear": lambda: siblings.kimi(**KIMI),
}
METHODS = {"fp8": packers.fp8, "gptq": packers.gptq, "awq": packers.awq, "compressed-tensors": packers.compressed}
METHODS |= {"int8": packers.int8, "nf4": packers.nf4, "mlx": packers.mlx}


def three_convolutions(named):
    """The convolution of OLMo's checkpoints, query, key and value each by itself."""
    for name in [name for name in named if name.endswith("conv1d.weight")]:
        head = name.removesuffix("conv1d.weight")
        rows = named.pop(name).split([len(named[f"{head}{x}_proj.weight"]) for x in "qkv"])
        named |= {f"{head}{x}_conv1d.weight": piece.clone() for x, piece in zip("qkv", rows, strict=True)}


PUBLISHED = {"olmo_hybrid": three_convolutions, "kimi_linear": lin.as_published}


def in_the_model(model, family, meant):
    """Matrices under the model's names, experts stacked."""
    meant = {family.place(name): matrix for name, matrix in meant.items()}
    for name, weight in model.state_dict().items():
        for tail in (tail for tail in family.fused if name.endswith(tail) and name not in meant):
            head, parts = name.removesuffix(tail), family.fused[tail]
            rows = [[meant.pop(head + part.format(expert)) for part in parts] for expert in range(len(weight))]
            meant[name] = torch.stack([torch.cat(pieces) for pieces in rows])
    return meant


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in MODELS for way in METHODS if way != "mlx" or name not in PUBLISHED]
)
def test_every_family_is_unpacked(name, way, tmp_path, monkeypatch):
    """Experts stored apart and packed one by one, or stacked as MLX has them; projections interleaved by key head."""
    monkeypatch.setattr(held, "stays_packed", lambda *_: False)
    model, family = MODELS[name](), FAMILIES[name]
    folder = tmp_path / "model"
    if way == "mlx":
        meant = packers.mlx(checkpoints.text_only(folder, model), prefix=name != "qwen3_next")
    else:
        checkpoints.text_only(folder, model, apart=name not in PUBLISHED)
        checkpoints.rewrite(folder, PUBLISHED.get(name, lambda named: None))
        meant = METHODS[way](folder)
    meant = in_the_model(model, family, meant)
    assert {"qwen3_5_moe": 46, "qwen3_next": 23}.get(name, 19) <= len(meant)
    lab = lk.load(folder, device="cpu", dtype="float32")
    assert (lab.spec.family, lab.backend.quantize.split(", ")[1]) == (name, "unpacked")
    holds(lab, model, meant, torch.float32)


@pytest.mark.parametrize("name", MODELS)
def test_mlx_is_read_where_its_layout_is_known(name, tmp_path):
    """Which takes one from every norm: right where norms multiply by one plus their weight."""
    model = MODELS[name]()
    model.model.norm.weight.zero_()
    assert FAMILIES[name].mlx == bool(model.model.norm(torch.ones(2, model.config.hidden_size)).any())
    if not FAMILIES[name].mlx:
        folder = checkpoints.text_only(tmp_path / name, model)
        packers.mlx(folder)
        with pytest.raises(CheckpointError, match=rf"does not load\n  got: .*'mlx', {FAMILIES[name].title}\n.*awq\n"):
            lk.load(folder, device="cpu")


@pytest.mark.parametrize("way", ["compressed int4", "compressed int4, uneven", "compressed int3", "compressed nvfp4"])
def test_compressed_tensors_reads_the_same_numbers(way, folder):
    """The layouts written here are the library's: it unpacks them to the numbers that they were meant as."""
    library = pytest.importorskip("compressed_tensors.compressors", reason="pip install compressed-tensors")
    import json

    from compressed_tensors.quantization import QuantizationScheme
    from safetensors.torch import load_file

    meant = WAYS[way][0](folder)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    scheme = QuantizationScheme(**config["config_groups"]["group_0"])
    compressor = library.BaseCompressor.get_value_from_registry(config["format"])
    named = load_file(folder / "model.safetensors")
    for name, matrix in meant.items():
        layer = name.removesuffix("weight")
        parts = {key.removeprefix(layer): tensor for key, tensor in named.items() if key.startswith(layer + "weight")}
        parts["weight_scale"] = parts["weight_scale"].float() if "nvfp4" not in way else parts["weight_scale"]
        got = compressor.decompress(parts, scheme)["weight"].float()
        torch.testing.assert_close(got, matrix, rtol=2**-7 if "nvfp4" in way else 1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("axis", [0, 1])
def test_numbers_in_words_are_read_in_order(width, axis):
    numbers = torch.randint(0, 2**width, (7, 43), generator=torch.Generator().manual_seed(width))
    stored = packers.words(numbers, width)
    got = words.bits(stored if axis else stored.T.contiguous(), width, 43, axis)
    assert torch.equal(got if axis else got.T, numbers.to(torch.uint8))


def broken(folder, change, way=packers.fp8):
    """The folder packed, with its tensors changed."""
    way(folder)
    checkpoints.rewrite(folder, change)
    return folder


NAME = "model.layers.1.mlp.up_proj"
STATE = "weight.quant_state.bitsandbytes__nf4"
DAMAGE = {
    "scales of other blocks": (packers.fp8, "weight_scale_inv", lambda w: w[:1], r"scales \[1, 1\], expected"),
    "a state that is no JSON": (
        packers.nf4,
        "weight.quant_state.bitsandbytes__nf4",
        lambda w: w[3:],
        "Expecting value",
    ),
    "scales of a shorter matrix": (packers.nf4, "weight.absmax", lambda w: w[:-1], "639 scales of 640"),
    "half of a matrix": (packers.nf4, "weight", lambda w: w[: len(w) // 2], "bytes of"),
    "scales of other rows": (packers.int8, "SCB", lambda w: w[:-1], "319 scales of 320 rows"),
    "another width": (packers.compressed, "weight_packed", lambda w: w[:, :-1].contiguous(), "15 words of 128 numbers"),
    "another shape": (packers.compressed, "weight_shape", lambda w: w * 0, "a shape"),
    "zeros of other groups": (packers.gptq, "qzeros", lambda w: w[:-1], "zeros"),
    "columns of another matrix": (packers.gptq, "g_idx", lambda w: w[:-1], "g_idx"),
    "scales in integers": (packers.fp8, "weight_scale_inv", lambda w: w.to(torch.int32), "scales of I32"),
    "groups of another size": (packers.mlx, "scales", lambda w: w[:, :-1].contiguous(), "scales"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_parts_that_do_not_belong_together_are_refused(how, folder):
    way, part, change, got = DAMAGE[how]
    prefix = "language_model." if way is packers.mlx else ""

    def damage(named):
        name = f"{prefix}{NAME}.{part}"
        named[name] = change(named[name]).clone()

    with pytest.raises(CheckpointError, match=rf"do not belong together\n  got: .*{NAME}.*{got}"):
        lk.load(broken(folder, damage, way), device="cpu")


def test_columns_of_groups_that_are_not_there_are_refused(folder):
    with pytest.raises(CheckpointError, match="could not load"):
        lk.load(broken(folder, lambda named: named[f"{NAME}.g_idx"].add_(99), packers.gptq), device="cpu")


@pytest.mark.parametrize(
    ("way", "part", "got"),
    [
        (packers.fp8, "weight_scale_inv", "F8_E4M3"),
        (packers.nf4, "weight.absmax", "unexpected"),
        (packers.compressed, "weight_scale", "absent"),
        (packers.awq, "qzeros", "absent"),
    ],
)
def test_a_packed_weight_without_one_of_its_parts_is_refused(way, part, got, folder):
    with pytest.raises(CheckpointError, match=rf"(?s){got}"):
        lk.load(broken(folder, lambda named: named.pop(f"{NAME}.{part}"), way), device="cpu")


SETTINGS = {
    "fp8": (packers.fp8, dict(weight_block_size=[128]), "weight_block_size"),
    "gptq": (packers.gptq, dict(bits=5), "bits 5"),
    "marlin": (packers.gptq, dict(checkpoint_format="marlin"), "checkpoint_format"),
    "awq": (packers.awq, dict(version="gemv"), "version"),
    "rotated": (packers.compressed, dict(transform_config={"config_groups": {"R1": {}}}), "transform_config"),
    "sparse": (packers.compressed, dict(sparsity_config={"format": "sparse-24-bitmask"}), "sparsity_config"),
    "no groups": (packers.compressed, dict(config_groups={}), "config_groups"),
}


@pytest.mark.parametrize("how", SETTINGS)
def test_other_forms_of_a_method_are_refused_by_name(how, folder):
    import json

    way, changes, got = SETTINGS[how]
    way(folder)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    checkpoints.change_json(folder / "config.json", quantization_config=config | changes)
    with pytest.raises(CheckpointError, match=rf"does not read\n.*{got}.*\n.*\n.*unpacked checkpoint"):
        lk.load(folder, device="cpu")


def test_what_is_unpacked_is_planned_unpacked(folder, monkeypatch):
    packers.gptq(folder)
    monkeypatch.setattr(precision, "budget", lambda device: (1_000_000, "host memory"))
    with pytest.raises(
        BudgetError, match=r"wide would not fit\n.*float32\)\n.*976.56 KiB.*\n.*smallest route, dtype=.bfloat16"
    ):
        lk.load(folder, device="cpu", dtype="float32")


def test_settings_of_generation_survive_unpacking(folder):
    packers.fp8(folder)
    checkpoints.write_json(folder / "generation_config.json", {"temperature": 0.7, "do_sample": True})
    lab = lk.load(folder, device="cpu")
    assert lab.model.generation_config.temperature == 0.7
    assert lk.wrap(lab.model).name == lab.name == "wide"
