"""The spec against the published models, against transformers' own parameters, and against itself."""

import dataclasses
import html.parser
import json
import math
import pathlib
import subprocess
import sys

import pytest
import tiny

from labkit import spec
from labkit.errors import CheckpointError, InputError
from labkit.families import FAMILIES
from labkit.spec.units import duration

CONFIGS = pathlib.Path(spec.__file__).parent / "published"
FILES = {
    "0.8B": "Qwen3.5-0.8B",
    "2B": "Qwen3.5-2B",
    "4B": "Qwen3.5-4B",
    "9B": "Qwen3.5-9B",
    "27B": "Qwen3.6-27B",
    "35B-A3B": "Qwen3.6-35B-A3B",
}
SIZES = list(FILES)
MIB, GIB = 2**20, 2**30

# Exact counts, one column per size; the last row is `total_size` of the published index.
PUBLISHED = {
    "embed": (254_279_680, 508_559_360, 635_699_200, 1_017_118_720, 1_271_398_400, 508_559_360),
    "deltanet": (189_778_752, 379_112_256, 1_011_356_160, 1_617_695_232, 5_562_051_072, 1_011_553_920),
    "attention": (44_043_264, 88_083_456, 293_605_376, 469_766_144, 1_677_729_792, 272_634_880),
    "mlp": (264_241_152, 905_969_664, 2_264_924_160, 4_831_838_208, 17_112_760_320, 32_359_137_280),
    "norms": (50_176, 100_352, 166_400, 266_240, 660_480, 165_888),
    "lm_head": (0, 0, 0, 1_017_118_720, 1_271_398_400, 508_559_360),
    "text": (752_393_024, 1_881_825_088, 4_205_751_296, 8_953_803_264, 26_895_998_464, 34_660_610_688),
    "vision": (100_592_896, 331_416_576, 333_514_240, 456_010_480, 460_730_096, 446_571_248),
    "mtp": (20_452_864, 60_828_160, 120_599_552, 243_290_624, 424_699_392, 844_640_768),
}
CHECKPOINT = (1_746_882_752, 4_548_144_832, 9_319_737_856, 19_306_216_416, 55_562_855_904, 71_903_645_408)


def config(size):
    """The published configuration as a dict."""
    return json.loads((CONFIGS / f"{FILES[size]}.json").read_text())


def changed(**changes):
    """The text configuration of the 0.8B with changes; None removes a field."""
    return {k: v for k, v in (config("0.8B")["text_config"] | changes).items() if v is not None}


@pytest.fixture(scope="module")
def specs():
    """All published models by size."""
    return {size: spec.read(CONFIGS / f"{FILES[size]}.json") for size in SIZES}


@pytest.fixture(scope="module")
def big(specs):
    """The 27B."""
    return specs["27B"]


@pytest.fixture(scope="module")
def small():
    """The spec of the random five-layer hybrid."""
    return spec.read(tiny.config(), name="tiny")


# Parameters and bytes


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_the_published_ones(specs, size):
    at = SIZES.index(size)
    assert spec.parameters(specs[size]) == {part: row[at] for part, row in PUBLISHED.items()}


@pytest.mark.parametrize("size", SIZES)
def test_checkpoint_bytes_equal_total_size_of_the_index(specs, size):
    release = FILES[size][4:7]
    assert spec.checkpoint_bytes(specs[size], release) == CHECKPOINT[SIZES.index(size)]
    other = spec.checkpoint_bytes(specs[size], "3.5" if release == "3.6" else "3.6")
    assert other != CHECKPOINT[SIZES.index(size)]


@pytest.mark.parametrize("name", sorted(spec.read(file).name for file in CONFIGS.glob("*.json")))
def test_parameters_equal_transformers_on_the_meta_device(name):
    import torch

    read, published = spec.read(name), json.loads((CONFIGS / f"{name}.json").read_text())
    family, count = FAMILIES[read.family], spec.parameters(read)
    with torch.device("meta"):
        whole = family.classes()[-1]
        built = whole(whole.config_class(**published))
        text = family.model_class()(built.config.get_text_config())
    assert component_counts(text) == {part: count[part] for part in component_counts(text)}
    tower = built.model.visual.parameters() if read.vision else ()
    assert sum(weight.numel() for weight in tower) == count["vision"]
    experts = sum(weight.numel() for name, weight in text.named_parameters() if ".experts." in name)
    assert (experts > 0) == (read.experts > 0)
    unused = experts * (read.experts - read.active_experts) // (read.experts or 1)
    assert spec.active_parameters(read) == count["text"] - unused


def component_counts(model):
    """Parameters of a built model, sorted into components by their names."""
    places = {"linear_attn": "deltanet", "self_attn": "attention", "mlp": "mlp", "embed_tokens": "embed"}
    count = dict.fromkeys(("embed", "deltanet", "attention", "mlp", "norms", "lm_head"), 0)
    for name, weight in model.named_parameters():
        parts = [part for place, part in places.items() if f".{place}." in name]
        layer = name.rpartition(".self_attn.")[0]
        if layer and hasattr(model.get_submodule(layer).self_attn, "conv1d"):
            parts = ["deltanet"]  # Kimi Linear calls both kinds so
        part = parts[0] if parts else "lm_head" if name.startswith("lm_head") else "norms"
        count[part] += weight.numel()
    return count | {"text": sum(weight.numel() for weight in model.parameters())}


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_of_a_real_small_model(tied, experts):
    built = tiny.model(experts=experts, tie_word_embeddings=tied)
    read = spec.read(built.config)
    count = spec.parameters(read)
    assert component_counts(built) == {part: count[part] for part in component_counts(built)}
    assert spec.weight_bytes(read, "float32")["text"] == sum(w.nbytes for w in built.parameters())
    assert count["vision"] == count["mtp"] == 0


def test_cache_bytes_of_a_real_small_model(model, small):
    import torch
    from transformers import DynamicCache

    from labkit.trace import cache_parameter

    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(tiny.ids(23)[None], **{cache_parameter(model): cache})
    held = [cache.layers[layer] for layer in small.deltanet_layers]
    states = sum(layer.recurrent_states[0].nbytes for layer in held)
    windows = sum(layer.conv_states[0].nbytes for layer in held)
    pairs = [cache.layers[layer] for layer in small.attention_layers]
    assert (states, windows) == (spec.state_bytes(small), spec.conv_bytes(small, "float32"))
    assert sum(p.keys.nbytes + p.values.nbytes for p in pairs) == spec.kv_bytes(small, 23, "float32")
    assert spec.cache_bytes(small, 23, "float32") == states + windows + spec.kv_bytes(small, 23, "float32")


@pytest.mark.parametrize(
    "size, kib, state, conv",
    [
        ("0.8B", 12, 18, 0.84375),
        ("2B", 12, 18, 0.84375),
        ("4B", 32, 48, 1.5),
        ("9B", 32, 48, 1.5),
        ("27B", 64, 144, 3.75),
        ("35B-A3B", 20, 60, 1.875),
    ],
)
def test_cache_of_the_published_models(specs, size, kib, state, conv):
    read = specs[size]
    assert spec.kv_bytes_per_token(read) == kib * 1024
    assert spec.kv_bytes(read, 262_144, "float8") * 2 == spec.kv_bytes(read, 262_144) == 262_144 * kib * 1024
    assert spec.state_bytes(read) == state * MIB
    assert spec.conv_bytes(read) == conv * MIB


def test_snapshots_of_the_27b(big):
    assert spec.snapshot_bytes(big) == 147.75 * MIB  # transformers: four columns in bfloat16
    assert spec.snapshot_bytes(big, "float32", columns=3) == 149.625 * MIB  # logged by llama.cpp
    assert spec.snapshot_bytes(big, columns=3) == 146.8125 * MIB
    assert spec.state_bytes(big, "bfloat16") == 72 * MIB
    assert spec.snapshot_tokens(big) == 2364
    assert spec.snapshot_tokens(big, columns=3) == 2349
    assert spec.snapshot_tokens(big, columns=0) == 2304
    assert spec.snapshot_tokens(big, kv_dtype="float8") == 2 * 2364


def test_things_too_large_to_keep(big):
    assert spec.logits_bytes(big) == 248_320 * 2
    assert spec.logits_bytes(big, 8192) / GIB == pytest.approx(3.8, abs=0.05)
    assert spec.pattern_bytes(big, 4096) / 1e9 == pytest.approx(0.8, abs=0.05)
    assert spec.pattern_bytes(big, 32_768) == 48 * GIB
    assert spec.pattern_bytes(big, 262_144) == 3 * 1024 * GIB
    assert spec.trajectory_bytes(big, 1) == 3 * MIB


def test_engine_blocks(specs, big):
    assert spec.engine_block(big) == 784
    assert spec.engine_block(big, "float8") == 1568
    assert spec.engine_block(specs["4B"]) == 528
    assert spec.engine_block(specs["35B-A3B"]) == 1056


@pytest.mark.parametrize(
    "quantize, gb, off", [("nf4", 17.7, 0.1), ("fp8", 29.4, 0.1), ("int4", 18, 0.2), ("int8", 29.5, 0.1)]
)
def test_quantised_weights_of_the_27b(big, quantize, gb, off):
    assert spec.weight_bytes(big, quantize=quantize)["text"] / 1e9 == pytest.approx(gb, abs=off)


def test_weight_bytes_without_quantisation_are_two_per_parameter(specs):
    for size, gib in zip(SIZES, (1.40, 3.51, 7.83, 16.68, 50.1, 64.56), strict=True):
        found = spec.weight_bytes(specs[size])["text"]
        assert found == 2 * spec.parameters(specs[size])["text"]
        assert found / GIB == pytest.approx(gib, abs=0.01)


# FLOPs and rooflines


def test_flops_of_the_27b(big):
    assert spec.linear_flops(big) / 1e9 == pytest.approx(48.70, abs=0.01)
    assert spec.core_flops(big) / 1e9 == pytest.approx(0.415, abs=0.0005)
    assert spec.pair_flops(big) == 393_216
    assert spec.equal_tokens(big) == pytest.approx(247_700, abs=50)
    at = spec.prefill_flops(big, round(spec.equal_tokens(big)))
    assert at["attention"] == pytest.approx(at["linear"], rel=1e-5)


PREFILL = [  # tokens, PFLOP linear and core, attention, total; seconds at 989 TFLOP/s, with fp8 weights
    (8_192, 0.40, 0.01, 0.42, 0.4, 0.2),
    (32_768, 1.61, 0.21, 1.82, 1.8, 1.0),
    (131_072, 6.44, 3.38, 9.82, 9.9, 6.7),
    (262_144, 12.88, 13.51, 26.39, 26.7, 20.2),
    (524_288, 25.75, 54.04, 79.79, 80.7, 67.7),
    (1_010_000, 49.61, 200.6, 250.2, 253, 228),
]


@pytest.mark.parametrize("tokens, linear, attention, total, seconds, fp8", PREFILL)
def test_prefill_table_of_the_27b(big, tokens, linear, attention, total, seconds, fp8):
    found = spec.prefill_flops(big, tokens)
    rounding = {"abs": 0.0051, "rel": 5e-4}
    assert (found["linear"] + found["core"]) / 1e15 == pytest.approx(linear, **rounding)
    assert found["attention"] / 1e15 == pytest.approx(attention, **rounding)
    assert found["total"] / 1e15 == pytest.approx(total, **rounding)
    assert spec.prefill_seconds(big, tokens, "H200") == pytest.approx(seconds, abs=0.051, rel=2e-3)
    assert spec.prefill_seconds(big, tokens, "H200", quantize="fp8") == pytest.approx(fp8, abs=0.051, rel=2e-3)


@pytest.mark.parametrize(
    "tokens, ms, fp8",
    [
        (0, 10.7, 5.6),
        (131_072, 12.5, 6.5),
        (262_144, 14.3, 7.4),
        (524_288, 17.9, 9.1),
        (1_010_000, 24.5, 12.5),
    ],
)
def test_decode_table_of_the_27b(big, tokens, ms, fp8):
    assert spec.decode_seconds(big, tokens, "H200") * 1e3 == pytest.approx(ms, abs=0.05)
    packed = spec.decode_seconds(big, tokens, "H200", quantize="fp8", kv_dtype="float8") * 1e3
    assert packed == pytest.approx(fp8, rel=0.02)  # the source leaves out scales and the 16-bit a/b projections


def test_decode_reads_every_weight_once_and_the_states_twice(big, specs):
    count = spec.parameters(big)
    assert spec.decode_bytes(big, 0) == 2 * (count["text"] - count["embed"]) + 2 * 144 * MIB
    assert spec.decode_bytes(big, 0) - 2 * 144 * MIB == pytest.approx(51.2e9, rel=1e-3)
    tied = specs["2B"]
    assert spec.decode_bytes(tied, 7) == 2 * spec.parameters(tied)["text"] + 7 * 12 * 1024 + 2 * 18 * MIB


def test_prefill_in_two_parts_costs_as_much_as_in_one(small):
    first, second = spec.prefill_flops(small, 130), spec.prefill_flops(small, 300, cached=130)
    assert first["total"] + second["total"] == spec.prefill_flops(small, 300)["total"]


def test_core_flops_count_the_matrix_products_of_a_chunk(small):
    chunk, (dk, dv) = 8, (small.dk, small.dv)
    shapes = [(chunk, dk, chunk)] * 2 + [(chunk, chunk, dk), (chunk, chunk, dv), (chunk, chunk, dv)]
    shapes += [(chunk, dk, dv), (chunk, dk, dv), (dk, chunk, dv)]
    per_token = sum(2 * a * b * c for a, b, c in shapes) / chunk
    assert spec.core_flops(small, chunk) == len(small.deltanet_layers) * small.value_heads * per_token


@pytest.mark.parametrize("name", spec.GPUS)
def test_rooflines_scale_with_the_card(big, name):
    card, base = spec.find_gpu(name.lower().replace(" ", "")), spec.GPUS["H200"]
    assert card.name == name and card.source
    ratio = spec.decode_seconds(big, 5000, card) / spec.decode_seconds(big, 5000)
    assert ratio == pytest.approx(base.bandwidth / card.bandwidth)
    slow = spec.prefill_seconds(big, 5000, card, dtype="float32")
    plain = spec.prefill_seconds(big, 5000, card)
    assert slow > plain == spec.prefill_seconds(big, 5000, card, quantize="nf4")
    assert card.fp8 is None or plain > spec.prefill_seconds(big, 5000, card, quantize="fp8") > plain / 2


# Experts


@pytest.fixture(scope="module")
def mixed():
    """The random hybrid with experts."""
    return tiny.model(experts=True)


@pytest.fixture(scope="module")
def few(mixed):
    """Its spec: 7 of 13 experts for a token."""
    return spec.read(mixed.config, name="few")


def expert_parameters(model):
    """Parameters of all experts of a built model, the shared ones apart."""
    return sum(weight.numel() for name, weight in model.named_parameters() if ".experts." in name)


def test_fields_of_the_model_with_experts(few):
    assert few.family == "qwen3_5_moe"
    assert (few.experts, few.active_experts, few.intermediate, few.shared_intermediate) == (13, 7, 20, 28)
    assert spec.Spec(**json.loads(json.dumps(dataclasses.asdict(few)))) == few


def test_a_token_uses_the_chosen_experts_and_everything_else(mixed, few):
    total = sum(weight.numel() for weight in mixed.parameters())
    assert spec.active_parameters(few) == total - expert_parameters(mixed) * 6 // 13
    assert spec.active_parameters(few) < spec.parameters(few)["text"] == total


def test_flops_of_an_mlp_with_experts_are_those_that_are_done(few):
    """Counted by torch in the real module: chosen experts, router, shared expert and its gate."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    built, tokens = tiny.model(experts=True), 31
    built.set_experts_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        built.model.layers[1].mlp(torch.randn(1, tokens, few.hidden))
    count = spec.parameters(few)
    per_token = spec.linear_flops(few) - 2 * (count["deltanet"] + count["attention"])
    assert counter.get_total_flops() * few.layers == tokens * per_token
    assert spec.prefill_flops(few, tokens)["linear"] == tokens * spec.linear_flops(few)


def test_decode_reads_the_chosen_experts_alone(mixed, few):
    count, cached = spec.parameters(few), 41
    read = 2 * (count["text"] - count["embed"] - expert_parameters(mixed) * 6 // 13)
    rest = spec.kv_bytes(few, cached) + 2 * spec.state_bytes(few)
    assert spec.decode_bytes(few, cached) == read + rest
    tied = dataclasses.replace(few, tied=True)
    assert spec.decode_bytes(tied, cached) == read + rest  # the embedding instead of lm_head


def test_quantised_experts(mixed, few):
    """fp8 packs experts, the others leave them; router, shared gate and a/b projections stay as they are."""
    import torch

    dense = sum(
        module.weight.numel()
        for name, module in mixed.named_modules()
        if type(module) is torch.nn.Linear and name.rpartition(".")[2] not in FAMILIES[few.family].unquantized
    )
    total, experts = sum(weight.numel() for weight in mixed.parameters()), expert_parameters(mixed)
    for quantize, width in spec.QUANTIZED.items():
        packed = dense + (experts if quantize == "fp8" else 0)
        expected = 2 * (total - packed) + width * packed
        assert spec.weight_bytes(few, quantize=quantize)["text"] == pytest.approx(expected, abs=2)
    assert spec.weight_bytes(few, quantize="fp8", active=True)["text"] == pytest.approx(
        spec.weight_bytes(few, quantize="fp8")["text"] - spec.QUANTIZED["fp8"] * experts * 6 / 13, abs=2
    )


def test_the_35b_a3b(specs):
    read = specs["35B-A3B"]
    assert spec.active_parameters(read) == 3_454_988_928
    assert spec.linear_flops(read) / 1e9 == pytest.approx(4.875, abs=0.001)
    assert spec.decode_seconds(read, 0, "H200") * 1e3 == pytest.approx(1.25, abs=0.005)
    card = repr(read.card())
    assert "one token uses" in card and "3.45 B parameters · 8 of 256 experts and the shared one" in card
    assert "8 of 256 experts of 512 and a shared one of 512" in repr(read)
    assert "34.66 B text" in repr(read) and "3.45 B for one token" in repr(read)
    assert read.card().numbers["active parameters"] == 3_454_988_928
    assert "one token uses" not in repr(specs["27B"].card()) and "new token reads" not in repr(specs["27B"].card())


# Total and active parameters, and the bytes of weights, keys and values, and states that a token at 1,000 reads.
LARGE = {
    "Qwen3.6-35B-A3B": (34_660_610_688, 3_454_988_928, 2 * 2_946_429_568, 20 * 1024 * 1000, 2 * 60 * MIB),
    "Qwen3.5-397B-A17B": (396_346_350_336, 17_349_040_896, 2 * 16_331_922_176, 30 * 1024 * 1000, 2 * 180 * MIB),
    "Qwen3-Next-80B-A3B": (79_674_391_296, 3_874_929_408, 2 * 3_563_764_480, 24 * 1024 * 1000, 2 * 72 * MIB),
}


@pytest.mark.parametrize("name", LARGE)
def test_models_with_experts_say_what_a_token_uses_and_reads(name):
    total, active, weights, keys, states = LARGE[name]
    read = spec.read(name)
    assert (spec.parameters(read)["text"], spec.active_parameters(read)) == (total, active)
    assert weights == 2 * (active - spec.parameters(read)["embed"])
    card = read.card(tokens=1000)
    assert card.numbers["decode bytes"] == spec.decode_bytes(read, 1000) == weights + keys + states
    text = " ".join(repr(card).split())
    whole, cached = spec.size(weights + keys + states), spec.size(keys + states)
    assert f"one new token reads {whole} · {spec.size(weights)} weights, {cached} cache" in text


def test_the_27b_of_3_8_has_the_shapes_of_3_6():
    newer, older = spec.read("Qwen3.8-27B"), spec.read("Qwen/Qwen3.6-27B")
    assert newer.differing(older) == [] and newer.name == "Qwen3.8-27B"


def test_qwen3_next_is_flat():
    read = spec.read("Qwen3-Next-80B-A3B")
    assert read.family == "qwen3_next" and read.vision is None and read.mtp_layers == 0
    assert (read.rotary_dim, read.rope_theta, read.window) == (64, 10_000_000, 262_144)
    assert (read.key_heads, read.value_heads, read.experts, read.active_experts) == (16, 32, 512, 10)
    assert read.strip() == " · ".join(["D D D A"] * 12)


def test_a_stack_of_one_kind_has_no_break_even(small):
    only = dataclasses.replace(small, kinds=(spec.DELTANET,) * 3)
    assert spec.kv_bytes_per_token(only) == 0
    assert spec.equal_tokens(only) == spec.snapshot_tokens(only) == math.inf


# Reading


def test_layer_types_and_interval_say_the_same():
    base = changed()
    stated = changed(layer_types=(["linear_attention"] * 3 + ["full_attention"]) * 6)
    assert spec.read(base) == spec.read(stated)
    assert spec.read(base | {"full_attention_interval": 3}).strip().startswith("D D A · D D A")


def test_one_model_from_object_dict_file_and_folder(tmp_path):
    from transformers import Qwen3_5Config, Qwen3_5TextConfig

    whole = config("27B")
    folder = tmp_path / "My-27B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(whole))
    read = spec.read(whole, name="x")
    for source in (Qwen3_5Config(**whole), folder, str(folder), folder / "config.json"):
        assert spec.read(source, name="x") == read
    text = spec.read(Qwen3_5TextConfig(**whole["text_config"]), name="x")
    assert text == spec.read(whole["text_config"], name="x") == dataclasses.replace(read, vision=None)


def test_names(tmp_path):
    from transformers import Qwen3_5TextConfig

    cached = tmp_path / "models--Qwen--Qwen3.6-27B" / "snapshots" / "0f3a"
    cached.mkdir(parents=True)
    (cached / "config.json").write_text(json.dumps(config("27B")))
    (tmp_path / "config.json").write_text(json.dumps(config("27B")))
    assert spec.read(cached).name == "Qwen3.6-27B"
    assert spec.read(tmp_path).name == tmp_path.name
    assert spec.read(CONFIGS / "Qwen3.5-9B.json").name == "Qwen3.5-9B"
    assert spec.read(config("9B")).name == "qwen3_5"
    named = Qwen3_5TextConfig(**changed())
    named._name_or_path = "Qwen/Qwen3.5-0.8B"
    assert spec.read(named).name == "Qwen3.5-0.8B"


def test_fields_of_the_small_model(small):
    assert small.kinds == ("deltanet", "deltanet", "attention", "deltanet", "attention")
    assert (small.deltanet_layers, small.attention_layers, small.layers) == ((0, 1, 3), (2, 4), 5)
    assert (small.key_heads, small.value_heads, small.dk, small.dv, small.conv) == (3, 9, 10, 14, 4)
    assert (small.query_heads, small.kv_heads, small.head_dim, small.rotary_dim) == (6, 2, 16, 8)
    assert (small.rope_theta, small.window, small.eps, small.tied) == (1000.0, 512, 1e-6, False)
    assert [small.kind(layer) for layer in range(5)] == list(small.kinds)
    assert [small.key_head(head) for head in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [small.kv_head(head) for head in range(6)] == [0, 0, 0, 1, 1, 1]


def test_a_spec_survives_json_and_can_be_a_key(big):
    again = spec.Spec(**json.loads(json.dumps(dataclasses.asdict(big))))
    assert again == big and hash(again) == hash(big)


def test_rotary_matches_the_model(model, small):
    assert 2 * len(model.model.rotary_emb.inv_freq) == small.rotary_dim
    step = small.rope_theta ** (-2 / small.rotary_dim)
    assert float(model.model.rotary_emb.inv_freq[1]) == pytest.approx(step)


# Errors


def roped(**changes):
    """A text configuration with other rotary settings."""
    return changed(rope_parameters=changed()["rope_parameters"] | changes)


WRONG = {
    "other family": (
        {"model_type": "llama"},
        "model_type 'llama'",
        "qwen3_5, qwen3_5_text, qwen3_5_moe, qwen3_5_moe_text",
    ),
    "no model type": ({}, "model_type None", "not a model of a family that labkit knows"),
    "no experts": (
        config("35B-A3B")["text_config"] | {"num_experts": None},
        "no num_experts",
        "state every size",
    ),
    "experts for a token": (
        config("35B-A3B")["text_config"] | {"num_experts_per_tok": 257},
        "257 of 256 experts",
        "1 of them to all",
    ),
    "no expert for a token": (
        config("35B-A3B")["text_config"] | {"num_experts_per_tok": 0},
        "0 of 256 experts",
        "1 of them to all",
    ),
    "weights that are not divided": (
        json.loads((CONFIGS / "Qwen3-Next-80B-A3B.json").read_text()) | {"norm_topk_prob": False},
        "norm_topk_prob false",
        "true",
    ),
    "a dense layer": (
        json.loads((CONFIGS / "Qwen3-Next-80B-A3B.json").read_text()) | {"mlp_only_layers": [3]},
        "mlp_only_layers [3]",
        "layers without experts among others",
    ),
    "every second layer": (
        json.loads((CONFIGS / "Qwen3-Next-80B-A3B.json").read_text()) | {"decoder_sparse_step": 2},
        "decoder_sparse_step 2",
        "layers without experts among others",
    ),
    "no text part": ({"model_type": "qwen3_5"}, "without its text part", "text_config"),
    "missing sizes": (
        changed(head_dim=None, linear_value_head_dim=None),
        "no linear_value_head_dim, head_dim",
        "another model",
    ),
    "layer count": (
        changed(layer_types=["linear_attention"]),
        "1 layer_types, num_hidden_layers 24",
        "contradicts",
    ),
    "layer kind": (
        changed(layer_types=["sliding_attention"] * 24),
        "['sliding_attention']",
        "full_attention",
    ),
    "interval": (changed(full_attention_interval=0), "got: 0", "interval"),
    "value heads": (changed(linear_num_value_heads=24), "heads 24, key_heads 16", "do not divide"),
    "query heads": (changed(num_attention_heads=9), "query_heads 9, kv_heads 2", "do not divide"),
    "zero": (changed(hidden_size=0), "hidden is not a size", "at least 1"),
    "text for a size": (changed(hidden_size="1024"), "hidden_size is '1024'", "whole numbers"),
    "odd rotary": (changed(head_dim=12), "got: 3", "an even number from 2 to head_dim 12"),
    "no theta": (changed(rope_parameters={"rope_type": "default"}), "['rope_type']", "silently use 10,000"),
    "no rope": (changed(rope_parameters=None), "no rope_parameters", "rope_theta inside rope_parameters"),
    "two ropes": (
        changed(rope_scaling={"factor": 4.0}),
        "rope_parameters and rope_scaling",
        "drop rope_scaling",
    ),
    "rope beside the text part": (
        config("0.8B")
        | {"text_config": changed(rope_parameters=None), "rope_parameters": {"rope_theta": 1e7, "factor": 4.0}},
        "factor 4.0, no rope_type",
        'add rope_type: "yarn"',
    ),
    "a window that shrinks": (
        changed(rope_parameters={"rope_type": "yarn", "rope_theta": 1e7, "factor": 0.5}),
        "at least 1",
        "got: 0.5",
    ),
    "unknown scaling": (
        changed(rope_parameters={"rope_type": "longrope", "rope_theta": 1e7, "factor": 4.0}),
        "rope_type 'longrope'",
        "yarn",
    ),
    "biases": (changed(attention_bias=True), "attention_bias true", "not part of this family"),
    "activation": (changed(hidden_act="gelu"), "hidden_act 'gelu'", "silu"),
    "two answers": (
        config("0.8B") | {"tie_word_embeddings": False},
        "in text_config True",
        "contradicts itself",
    ),
    "vision sizes": (config("0.8B") | {"vision_config": {"depth": 3}}, "no vision_config.hidden_size", "another model"),
    "a list": ([], "got: list", "a config, a dict or a path"),
    "model type": ({"model_type": ["qwen3_5"]}, "model_type None", "not a model of a family"),
    "inner type": (
        {"model_type": "qwen3_5", "text_config": config("2B")["text_config"] | {"model_type": "llama"}},
        "in text_config 'llama'",
        "contradicts itself",
    ),
    "true heads": (changed(num_attention_heads=True), "num_attention_heads is True", "whole numbers"),
    "vast": (changed(vocab_size=10**30), "vocab_size is 1000000000000000000000000000000", "to 1,099,511,627,776"),
    "many layers": (changed(num_hidden_layers=10**9, layer_types=None), "1,000,000,000", "at most 10,000"),
    "kinds": (changed(layer_types=[["linear_attention"]] * 24), "[['linear_attention']", "not a list of kinds"),
    "no kinds": (changed(layer_types=5), "got: 5", "not a list of kinds"),
    "NaN epsilon": (changed(rms_norm_eps=math.nan), "got: nan", "rms_norm_eps is not a number"),
    "epsilon": (changed(rms_norm_eps=-1e-6), "got: -1e-06", "above 0, below 1"),
    "true interval": (changed(layer_types=None, full_attention_interval=True), "got: True", "not an interval"),
    "tower": (config("0.8B") | {"vision_config": 3}, "got: 3", "vision_config is not an object"),
    "tower's sizes": (
        config("0.8B") | {"vision_config": config("0.8B")["vision_config"] | {"depth": -1}},
        "vision_config.depth is -1",
        "from 1 to",
    ),
    "predictions": (changed(mtp_num_hidden_layers=10**9), "got: 1000000000", "0 to 10,000"),
    "tied by text": (changed(tie_word_embeddings="false"), "got: 'false'", "true or false"),
    "dtype": (changed(dtype=["float32"]), "dtype ['float32']", "not the name of a dtype"),
    "no gate": (changed(attn_output_gate=False), "attn_output_gate false", "not part of this family"),
    "theta": (roped(rope_theta="x"), "got: 'x'", "rope_theta is not a number"),
    "endless theta": (roped(rope_theta=math.inf), "got: inf", "a finite number"),
    "vast theta": (roped(rope_theta=1e300), "got: 1e+300", "not a base of frequencies"),
    "share": (roped(partial_rotary_factor=[0.25]), "got: [0.25]", "partial_rotary_factor is not a number"),
    "shares": (roped(partial_rotary_factor=1.5), "got: 1.5", "at most 1"),
    "sections": (roped(mrope_section=[11, 11]), "got: [11, 11]", "three whole numbers"),
    "rope type": (roped(rope_type=False), "got: False", "the name of a rotary scaling"),
    "factor": (roped(rope_type="yarn", factor="4"), "got: '4'", "factor is not a number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_configurations_that_are_refused(case):
    source, got, rule = WRONG[case]
    with pytest.raises(InputError) as caught:
        spec.read(source)
    assert got in str(caught.value) and rule in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{" * 9999, '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": 1e999}', "[" * 33 + "]" * 33, ""]
)
def test_json_beyond_the_bounds_is_no_configuration(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="the configuration is not JSON"):
        spec.read(tmp_path)


def test_a_scaling_by_its_older_name_is_the_scaling():
    """transformers reads `type` where there is no `rope_type`."""
    named = changed()["rope_parameters"] | {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    named.pop("rope_type")
    assert spec.read(changed(rope_parameters=named)).window == 4096


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="no configuration there") as caught:
        spec.read(tmp_path)
    assert "labkit.load" in caught.value.hint
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        spec.read(tmp_path)


@pytest.mark.parametrize("layer", [-1, 5, 2.0, True, "2"])
def test_layer_out_of_range(small, layer):
    with pytest.raises(InputError, match="layer out of range") as caught:
        small.kind(layer)
    assert (caught.value.got, caught.value.expected) == (repr(layer), "0 to 4")
    assert caught.value.hint == "D D A · D A"


def test_heads_out_of_range(small):
    with pytest.raises(InputError, match="head out of range\n  got: 9\n  expected: 0 to 8"):
        small.key_head(9)
    with pytest.raises(InputError, match="query_head out of range\n  got: -1\n  expected: 0 to 5"):
        small.kv_head(-1)


BAD_COSTS = {
    "gpu": (lambda s: s.card(gpu="TPU v4"), "unknown GPU", "H200, H100"),
    "dtype": (lambda s: s.card(dtype="int3"), "unknown dtype", "bfloat16"),
    "cache dtype": (lambda s: s.card(kv_dtype="int3"), "unknown dtype", "bfloat16"),
    "quantisation": (lambda s: s.card(quantize="q4"), "unknown quantisation", "nf4, int4, int8, fp8"),
    "fp8": (lambda s: s.card(gpu="A100", quantize="fp8"), "fp8 weights need", "H200, H100, L40S"),
    "fp8 decode": (lambda s: spec.decode_seconds(s, 9, "RTX 3090", quantize="fp8"), "fp8", "expands"),
    "no tokens": (lambda s: s.card(tokens=0), "tokens out of range", "1 or more"),
    "half a token": (lambda s: s.card(tokens=1.5), "tokens is a whole number", "got: tokens=1.5"),
    "cached": (lambda s: spec.prefill_flops(s, 5, cached=6), "cached out of range", "0 to 5"),
    "release": (lambda s: spec.checkpoint_bytes(s, "4"), "unknown release", "3.5, 3.6, 3.8"),
    "kinds": (lambda s: dataclasses.replace(s, kinds=("mamba",)), "unknown kind of layer", "['mamba']"),
    "no layers": (lambda s: dataclasses.replace(s, kinds=()), "without layers", "deltanet or attention"),
    "theta": (lambda s: dataclasses.replace(s, rope_theta=0.0), "rope_theta", "above 1"),
    "family": (lambda s: dataclasses.replace(s, family="llama"), "unknown family", "qwen3_5, qwen3_5_moe"),
}


@pytest.mark.parametrize("case", BAD_COSTS)
def test_costs_that_make_no_sense(small, case):
    call, what, rest = BAD_COSTS[case]
    with pytest.raises(InputError) as caught:
        call(small)
    assert what in str(caught.value) and rest in str(caught.value)


# Looks


class Words(html.parser.HTMLParser):
    """The visible text of a page."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags = "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.words += " " if tag not in ("span", "b") else ""

    def handle_data(self, data):
        self.words += data


def shown(page):
    """Words of an HTML page, in order."""
    return Words(page).words.split()


def expected(title, facts):
    """Words that both looks must show: a group once, then its rows."""
    words, last = title.split(), None
    for group, name, value in facts:
        words += (group.split() if group != last else []) + name.split() + value.split()
        last = group
    return words


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gpu", ["H200", "RTX 3090", None])
def test_text_and_html_show_the_same_facts(specs, size, gpu):
    read = specs[size]
    card = read.card(tokens=300_000, gpu=gpu, quantize="nf4", kv_dtype="float8")
    for thing, title in ((read, read.name), (card, card.title)):
        words = expected(title, thing.facts())
        assert repr(thing).split() == words
        assert shown(thing._repr_html_()) == words
        assert all(len(line) <= 110 for line in repr(thing).splitlines())


def test_golden_repr(small):
    delta = "3 query/key heads of 10 · 9 value heads of 14 · state 9 × 10 × 14 · convolution of 4 taps"
    attend = "6 query heads over 2 key/value heads of 16 · 8 rotary channels, θ 1,000 · sigmoid output gate"
    assert repr(small).splitlines() == [
        "tiny",
        "anatomy",
        "  layers      5 = 3 D (Gated DeltaNet) + 2 A (gated attention)",
        "  strip       D D A · D A",
        "  widths      hidden 44 · MLP 52 · vocabulary 211, lm_head apart",
        f"  D layer     {delta}",
        f"  A layer     {attend}",
        "  window      512 tokens",
        f"  parameters  {spec.parameters(small)['text'] / 1000:.1f} k text",
        "  dtype       not stated",
    ]


def test_strip_of_the_27b(big):
    assert big.strip() == " · ".join(["D D D A"] * 16)
    lines = repr(big).splitlines()
    assert lines[3].split()[1:] + lines[4].split() == big.strip().split()
    assert lines[3].endswith("D D D A ·") and lines[4].startswith(" " * 14 + "D D D A")


def test_card_of_the_27b_says_the_published_numbers(big):
    text = repr(big.card(tokens=262_144))
    for fact in (
        "147.75 MiB",
        "2,364 tokens",
        "16.00 GiB",
        "26.39 PFLOP",
        "26.7 s",
        "14.3 ms",
        "10.7 ms",
        "247,727",
    ):
        assert fact in text
    assert "16 A mixers" in text and "48 D mixers" in text
    assert "fits" in text and "does not fit" in repr(big.card(gpu="RTX 4090"))
    assert "(window 262,144)" in big.card(tokens=262_145).title and "(window" not in big.card().title


def test_card_numbers_are_those_of_the_functions(small):
    card = small.card(tokens=97, gpu="L40S", dtype="float32")
    assert card.numbers["prefill seconds"] == spec.prefill_seconds(small, 97, "L40S", dtype="float32")
    assert card.numbers["decode seconds"] == spec.decode_seconds(small, 97, "L40S", dtype="float32")
    assert card.numbers["text parameters"] == spec.parameters(small)["text"]
    assert card == small.card(tokens=97, gpu="l40s", dtype="torch.float32")
    assert "prefill seconds" not in small.card(gpu=None).numbers


def test_html_escapes_names_and_runs_nothing(small):
    hostile = dataclasses.replace(small, name="<script>alert(1)</script> & <think>", dtype="<b>")
    for page, title in ((hostile._repr_html_(), hostile.name), (hostile.card()._repr_html_(), hostile.name)):
        found = Words(page)
        assert title in found.words
        assert set(found.tags) <= {"table", "caption", "b", "tr", "th", "td", "span"}
        assert " id=" not in page and "http" not in page


def test_units():
    assert [spec.size(n) for n in (512, 65_536, 147.75 * MIB, 16 * GIB)] == [
        "512 B",
        "64.00 KiB",
        "147.75 MiB",
        "16.00 GiB",
    ]
    assert [spec.big_number(n) for n in (7, 999, 48.705e9, 26.39e15)] == ["7", "999", "48.70 G", "26.39 P"]
    assert [duration(s) for s in (12.6e-6, 0.0143, 0.9999, 26.68, 253.1, 3524)] == [
        "12.6 µs",
        "14.3 ms",
        "1 s",
        "26.7 s",
        "253 s",
        "3,524 s",
    ]


def test_nothing_heavy_is_imported():
    code = "import sys; from labkit import spec; spec.read(sys.argv[1]).card(); "
    code += "print(sorted({'torch', 'transformers', 'xarray', 'plotly', 'numpy'} & set(sys.modules)))"
    path = str(CONFIGS / "Qwen3.6-27B.json")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_published_sizes_are_read_by_name():
    """With or without the organisation, in any case; anything else names what there is."""
    for name in ("Qwen3.6-27B", "qwen/qwen3.6-27b"):
        assert spec.read(name) == spec.read(CONFIGS / "Qwen3.6-27B.json")
    with pytest.raises(CheckpointError, match="(?s)no configuration there.*Qwen3.5-0.8B, .*Qwen3.6-27B"):
        spec.read("Qwen9-1B")


@pytest.mark.parametrize("stated", [262_144, 1_010_000])
def test_the_window_of_a_stretched_checkpoint_is_the_one_that_was_trained(stated):
    rope = {"rope_type": "yarn", "rope_theta": 1e7, "partial_rotary_factor": 0.25, "factor": 4.0}
    found = spec.read(
        changed(max_position_embeddings=stated, rope_parameters=rope | {"original_max_position_embeddings": 262_144})
    )
    assert found.window == 262_144


def test_models_of_one_shape_do_not_differ_by_name_or_stated_dtype():
    own = spec.read(tiny.config(), name="mine")
    assert own.differing(dataclasses.replace(own, name="yours", dtype="bfloat16")) == []
    assert own.differing(dataclasses.replace(own, dv=15, vocab=77)) == ["vocab", "dv"]
