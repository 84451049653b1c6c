"""A checkpoint's folder under the doctor: every fault has its line, and what passes is loaded."""

import json

import checkpoints
import pytest
import tiny
import torch

import labkit as lk
from labkit import doctor
from labkit.doctor import folder as patients
from labkit.errors import BackendError, InputError
from labkit.zoo import finding, loading, precision
from tests.attacks.gguf import written

NAMES = [check.__name__ for check in patients.CHECKS]
TEMPLATE = finding.NANO / "chat_template.jinja"


@pytest.fixture
def whole(tmp_path, model):
    """An image-text checkpoint in two shards, with the template of nano."""
    made = checkpoints.image_text(tmp_path / "hybrid", model, shards=2)
    (made / TEMPLATE.name).write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    return made


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    """Nothing here may load a model."""
    monkeypatch.setattr(loading, "model", lambda ready: pytest.fail("weights were read"))


def examined(where):
    return doctor.examine(where, device="cpu")


def test_a_whole_checkpoint_passes(whole):
    report = examined(whole)
    assert [verdict.name for verdict in report.verdicts] == NAMES
    assert {verdict.status for verdict in report.verdicts if verdict.name != "pictures"} == {"ok"}, repr(report)
    assert report["pictures"].status == "warn" and "texts alone" in report["pictures"].detail  # it has half a tower
    assert "5 layers, 146,932 parameters, 211 tokens" in report["configuration"].detail
    assert "69 tensors in 2 of safetensors, F32 574" in report["layout"].detail
    assert "67 of the text model, 2 of others" in report["tensors"].detail
    assert "base 1,000, 8 of 16 channels, window 512" in report["rope"].detail
    assert "by the rules of variant 3.6" in report["template"].detail
    assert "keys and values of 512 tokens" in report["room"].detail


def config(**changes):
    return lambda folder: checkpoints.change_json(folder / "config.json", **changes)


def text(**changes):
    def change(folder):
        content = json.loads((folder / "config.json").read_text())
        content["text_config"] |= changes
        checkpoints.write_json(folder / "config.json", content)

    return change


def index(change):
    def changed(folder):
        path = folder / "model.safetensors.index.json"
        content = json.loads(path.read_text())
        change(content["weight_map"])
        checkpoints.write_json(path, content)

    return changed


def renamed(folder):
    """All tensors in one file, under a prefix."""
    from safetensors.torch import load_file

    named = {}
    for file in folder.glob("*.safetensors"):
        named |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    checkpoints.write_tensors(folder, {f"module.{name}": weight for name, weight in named.items()})


def tied(folder):
    text(tie_word_embeddings=True)(folder)
    config(tie_word_embeddings=True)(folder)


def leftover(folder):
    (folder / "old.safetensors").write_bytes(b"")


YARN = tiny.SIZES["rope_parameters"] | dict(rope_type="yarn", factor=4.0)
FAULTS = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "configuration", "fail", "no config.json there"),
    "another family": (config(model_type="llama"), "configuration", "fail", "'llama'"),
    "code": (config(auto_map={"AutoConfig": "evil.Config"}), "configuration", "fail", "try if transformers has its"),
    "generation": (
        lambda f: checkpoints.write_json(f / "generation_config.json", {"temperature": "hot"}),
        "configuration",
        "fail",
        "generation_config.json: temperature is 'hot'",
    ),
    "no shard": (lambda f: next(f.glob("*2-of*")).unlink(), "layout", "fail", "try finish the download"),
    "left over": (leftover, "layout", "warn", "no one reads old.safetensors"),
    "index": (index(lambda places: places.pop("lm_head.weight")), "layout", "fail", "does not place there"),
    "prefix": (renamed, "tensors", "warn", "as of module."),
    "sizes": (text(linear_value_head_dim=15), "tensors", "fail", "do not have the model's shapes"),
    "two heads": (tied, "tensors", "warn", "set tie_word_embeddings to false"),
    "stretched": (text(rope_parameters=YARN), "rope", "warn", "stretched by yarn 4"),
    "no base": (text(rope_parameters={"rope_type": "default"}), "configuration", "fail", "no rope_theta"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer", "warn", "labkit.load(folder, tokenizer="),
    "tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer", "fail", "the tokenizer is broken"),
    "tokenizer of another": (lambda f: checkpoints.write_tokenizer(f, 300), "tokenizer", "fail", "300 ids; expected"),
    "no template": (lambda f: (f / TEMPLATE.name).unlink(), "template", "warn", "labkit.thinking.render(messages)"),
    "template": (lambda f: (f / TEMPLATE.name).write_text("{{ messages[7].x }}"), "template", "fail", "no prompt"),
    "other template": (lambda f: (f / TEMPLATE.name).write_text("hello"), "template", "warn", "none of the family's"),
    "packed": (config(quantization_config={"quant_method": "sparkle"}), "quantisation", "fail", "'sparkle'"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_has_its_line(case, whole):
    damage, name, status, said = FAULTS[case]
    damage(whole)
    report = examined(whole)
    assert report[name].status == status and said in report[name].detail, repr(report)
    above = report.verdicts[: NAMES.index(name)]
    assert {verdict.status for verdict in above if verdict.name != "quantisation"} <= {"ok"}, repr(report)
    last = report["loads"]
    if status == "fail" and name != "template":
        assert last.status == "fail" or "comes first" in last.detail, last
    else:
        assert last.status in ("ok", "warn") and "labkit.load takes it" in last.detail, last


def test_too_little_memory_names_the_way_that_fits(whole, monkeypatch):
    need = lk.spec.weight_bytes(lk.spec.read(whole), "float32")["text"]
    for share, status, said in (
        (0.6, "warn", 'labkit.load(folder, dtype="bfloat16"'),
        (0.01, "fail", "a smaller model"),
    ):
        room = lambda device, share=share: (int(share * need), "host memory")  # noqa: E731
        monkeypatch.setattr(patients, "budget", room)
        monkeypatch.setattr(precision, "dtype_of", lambda *args, **options: torch.float32)
        verdict = examined(whole)["room"]
        assert verdict.status == status and said in verdict.detail, verdict


def test_an_adapter_is_looked_at_with_its_base(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(precision, "need_packages", lambda names, purpose: None)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    named = {"base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight": torch.ones(3, 44)}
    checkpoints.write_tensors(adapter, named)
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    content = dict(peft_type="LORA", r=3, target_modules=["q_proj"], base_model_name_or_path=str(whole))
    checkpoints.write_json(adapter / "adapter_config.json", content)
    report = examined(adapter)
    assert [verdict.name for verdict in report.verdicts] == ["adapter", *NAMES] and report.healthy
    assert "LoRA of rank 3, 1 tensors; its base is" in report["adapter"].detail
    checkpoints.write_json(adapter / "adapter_config.json", content | {"base_model_name_or_path": "org/none"})
    report = examined(adapter)
    assert [verdict.status for verdict in report.verdicts] == ["fail"] and "base=" in report["adapter"].detail


def test_what_is_no_folder_is_refused(whole, monkeypatch):
    for name in ("no/such/thing/here", "org/hybrid", 3):
        with pytest.raises(InputError):
            doctor.examine(name)
    with pytest.raises(BackendError):
        doctor.examine(whole, device="meta")
    monkeypatch.setattr(patients.names, "renaming", lambda *args: 1 / 0)
    assert "the check stumbled: ZeroDivisionError" in examined(whole)["tensors"].detail


def test_a_gguf_file_and_a_folder_of_one_are_looked_at(tmp_path):
    (tmp_path / "alone").mkdir()
    made = tmp_path / "alone" / "small.gguf"
    written(made, tiny.model(**checkpoints.BLOCKS)).close()
    for where in (made, made.parent):
        (verdict,) = examined(where).verdicts
        assert verdict.status == "ok" and "labkit.load takes it, unpacked to float32" in verdict.detail
    made.write_bytes(made.read_bytes()[:200])
    (verdict,) = examined(made).verdicts
    assert verdict.status == "fail" and "small.gguf" in verdict.detail
