"""Kinds of damage that attacks found: each is a clear error, before a number is read from half a model."""

import checkpoints
import packers
import pytest
import siblings
import tiny
import torch
from safetensors.torch import save_file

import labkit as lk
from labkit import doctor
from labkit.errors import CheckpointError, InputError
from labkit.zoo import adapters, finding, precision

WIDE = checkpoints.BLOCKS | dict(
    num_hidden_layers=2, layer_types=["linear_attention", "full_attention"], hidden_size=64, intermediate_size=192
)


def without(end):
    """Take the tensors away whose names end so."""

    def change(named):
        for name in [name for name in named if name.endswith(end)][:1]:
            del named[name]

    return change


def upright(end):
    """Give the tensors whose names end so a second axis."""

    def change(named):
        for name in [name for name in named if name.endswith(end)]:
            named[name] = named[name][:, None].contiguous()

    return change


def beyond(named):
    """A group of columns that there is not."""
    for name in [name for name in named if name.endswith(".g_idx")][:1]:
        named[name][3] = -1


PARTS = {
    "order of gptq": (packers.gptq, without(".g_idx"), "no .g_idx, which config.json promises"),
    "a group that is none": (packers.gptq, beyond, "g_idx beyond 2 groups"),
    "zeros of an uneven grid": (
        lambda folder: packers.compressed(folder, symmetric=False),
        without(".weight_zero_point"),
        "no .weight_zero_point, which config.json promises",
    ),
    "scales": (packers.nf4, upright(".absmax"), r"scales of \d+ blocks, \[\d+, 1\]"),
    "scales of scales": (packers.nf4, upright(".nested_absmax"), "scales of scales that are not one per block"),
    "a table": (packers.nf4, upright("weight.quant_map"), "a table of other than 16 numbers"),
    "a table of scales": (packers.nf4, upright(".nested_quant_map"), "a table of scales of other than 256 numbers"),
}


@pytest.mark.parametrize("case", PARTS)
def test_packed_weights_of_which_a_part_is_not_as_promised_are_refused(case, tmp_path):
    pack, spoil, text = PARTS[case]
    folder = checkpoints.text_only(tmp_path / "wide", tiny.model(**WIDE))
    pack(folder)
    lk.load(folder, device="cpu")
    checkpoints.rewrite(folder, spoil)
    with pytest.raises(CheckpointError, match=text):
        lk.load(folder, device="cpu")


def test_an_order_of_columns_is_needed_where_they_are_in_one(tmp_path):
    """Without `desc_act` its absence is a layout of its own; compressed-tensors calls it `actorder`."""
    folder = checkpoints.text_only(tmp_path / "gptq", tiny.model(**WIDE))
    packers.gptq(folder, mixed=False)
    checkpoints.rewrite(folder, lambda named: [named.pop(name) for name in [*named] if name.endswith(".g_idx")])
    assert lk.load(folder, device="cpu").trace(tiny.ids(5)).logits.isfinite().all()
    folder = checkpoints.text_only(tmp_path / "compressed", tiny.model(**WIDE))
    packers.compressed(folder)
    weights = dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=64, actorder="group")
    checkpoints.change_json(
        folder / "config.json", quantization_config=packers.compressed_config("pack-quantized", weights)
    )
    with pytest.raises(CheckpointError, match="no .weight_g_idx, which config.json promises"):
        lk.load(folder, device="cpu")


@pytest.mark.parametrize("make", [lambda: tiny.model(family="qwen3_next"), siblings.olmo, siblings.kimi])
def test_the_prefix_of_image_text_checkpoints_is_taken_from_a_family_without_such_a_class(make, tmp_path):
    """From all names, or named: some of them would stay random."""
    model = make()
    folder = checkpoints.text_only(tmp_path / "one", model)
    whole = lk.load(folder, device="cpu").trace(tiny.ids(9)).logits

    def store(part):
        named = checkpoints.tensors(model).items()
        checkpoints.write_tensors(
            folder, {name.replace(part, f"model.language_model.{part[6:]}"): w for name, w in named}
        )

    store("model.layers.")
    with pytest.raises(CheckpointError, match="lacks tensors"):
        lk.load(folder, device="cpu")
    assert "lacks tensors" in doctor.examine(folder, device="cpu")["tensors"].detail
    store("model.")
    with pytest.warns(UserWarning, match="read without what stands before"):
        assert torch.equal(lk.load(folder, device="cpu").trace(tiny.ids(9)).logits, whole)


@pytest.mark.parametrize(
    ("family", "field", "value", "error"),
    [
        ("olmo", "linear_dt_min", -0.001, "cannot build the model of this configuration\n.*math domain"),
        ("kimi", "pad_token_id", None, "cannot build the model of this configuration\n.*adding_idx"),
        ("kimi", "topk_group", 10**9, "chosen by groups .*\n.*topk_group 1,?0"),
        ("kimi", "num_expert_group", 13, "chosen by groups .*\n.*num_expert_group 13"),
        ("kimi", "n_group", True, "chosen by groups .*\n.*n_group True"),
    ],
)
def test_settings_that_fail_later_are_refused(family, field, value, error, tmp_path):
    """When the model is built, or at its first pass; the doctor says the same and does not stumble."""
    folder = checkpoints.text_only(tmp_path / "one", getattr(siblings, family)())
    assert lk.load(folder, device="cpu").trace(tiny.ids(5)).logits.isfinite().all()
    checkpoints.change_json(folder / "config.json", **{field: value})
    with pytest.raises((CheckpointError, InputError), match=error):
        lk.load(folder, device="cpu")
    report = doctor.examine(folder, device="cpu")
    assert not report.healthy and "stumbled" not in repr(report)


@pytest.mark.parametrize("name", ["x" * 100_000, "x/" * 5_000, "~nobody-of-that-name/x", "a\0b"])
def test_names_that_no_file_can_have_are_no_model(name):
    assert finding.local(name) is None
    with pytest.raises(InputError, match="no such model") as error:
        lk.load(name)
    assert len(str(error.value)) < 500
    with pytest.raises(CheckpointError, match="no configuration there|is not JSON"):
        lk.spec.read(name)


# ------------------------------------------------------------------------------------------------------------ adapters

QUICK = ("q_proj", r".*\.(q_proj|v_proj)$", r"model\.layers\.\d+\.(self_attn|mlp)\.(q|k)_proj", ".*?layers.*?_proj")
SLOW = ("(.*)*z", "(a+)+$", r"(\w+\.?)*!", ".*.*.*.*z", ".?.?.?.?z", "(a|b)+")


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """The folder of an adapter, and a function that reads it with settings changed; PEFT is not asked."""
    monkeypatch.setattr(precision, "need_packages", lambda *names: None)
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 3)}, tmp_path / adapters.WEIGHTS)

    def read(**settings):
        checkpoints.write_json(tmp_path / adapters.CONFIG, {"peft_type": "LORA", "r": 2, **settings})
        return adapters.read(tmp_path, merge=False, quantize=None)

    return read


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules", "layers_pattern", "rank_pattern"])
def test_an_expression_of_an_adapter_takes_no_longer_than_a_name_is_long(adapter, field):
    given = (lambda rule: {field: {rule: 4}}) if field == "rank_pattern" else (lambda rule: {field: rule})
    for rule in QUICK:
        assert adapter(**given(rule)).fields[field]
    for rule in SLOW:
        with pytest.raises(CheckpointError, match=f"(?s){field} is .*at most 3 signs of"):
            adapter(**given(rule))
    with pytest.raises(CheckpointError, match="at most 3 signs of"):
        adapter(layers_pattern=["layers", ".*.*.*.*z"])


def test_a_base_whose_name_is_too_long_is_not_there(adapter):
    for name in ("x" * 100_000, "~nobody-of-that-name/x", "a\0b"):
        with pytest.raises(CheckpointError, match="the base of the adapter is not there") as error:
            adapters.base_of(adapter(base_model_name_or_path=name), None)
        assert len(str(error.value)) < 900
