"""Loading: what comes out equals what was stored, and everything else is refused before a weight is read."""

import json
import logging
import subprocess
import sys

import checkpoints
import pytest
import tiny
import torch

import labkit as lk
from labkit.errors import BackendError, BudgetError, CheckpointError, InputError, LabError
from labkit.zoo import files, finding, loading, matching, names, precision
from tests.attacks.gguf import written

LAYOUTS = {
    "text": (checkpoints.text_only, 1),
    "text, 3 shards": (checkpoints.text_only, 3),
    "image-text": (checkpoints.image_text, 1),
    "image-text, 3 shards": (checkpoints.image_text, 3),
}


@pytest.fixture
def folder(tmp_path, model):
    """The random hybrid as a text-only checkpoint of one file."""
    return checkpoints.text_only(tmp_path / "hybrid", model)


@pytest.fixture(scope="module")
def mixed():
    """The random hybrid with experts."""
    return tiny.model(experts=True)


@pytest.fixture
def unread(monkeypatch):
    """From here on, reading a weight fails the test."""

    def refuse(*args, **options):
        raise AssertionError("weights were read")

    monkeypatch.setattr(loading, "model", refuse)
    monkeypatch.setattr(matching, "stored_numbers", refuse)


def logits(model):
    with torch.no_grad():
        return model(tiny.ids(23)[None]).logits[0]


# ------------------------------------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loaded_model_equals_the_stored_one(layout, tmp_path, model):
    write, shards = LAYOUTS[layout]
    lab = lk.load(write(tmp_path / "hybrid", model, shards=shards), device="cpu")
    assert torch.equal(logits(lab.model), logits(model))
    assert lab.name == lab.spec.name == "hybrid"
    assert (lab.spec.vision is not None) == layout.startswith("image")
    assert not lab.model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lab.model.modules())
    assert not any(weight.requires_grad for weight in lab.model.parameters())
    assert {weight.data_ptr() % 64 for weight in lab.model.parameters()} == {0}, "laid out as the file has it"
    assert lab.model.generation_config.eos_token_id == [1, 0]
    assert lab.encode("ab ba<|im_end|>").tolist() == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("apart", [False, True], ids=["fused", "apart"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_experts_are_loaded_fused_and_apart(layout, apart, tmp_path, mixed):
    """More than ten experts, so that the tenth would stand between the first and the second by its text."""
    write, shards = LAYOUTS[layout]
    folder = write(tmp_path / "mixed", mixed, shards=shards, apart=apart)
    assert any(".experts.12." in name for name in files.tensors(folder)) == apart
    lab = lk.load(folder, device="cpu")
    assert lab.spec.family == "qwen3_5_moe"
    for name, weight in mixed.named_parameters():
        assert torch.equal(lab.model.get_parameter(name), weight), name
    assert torch.equal(logits(lab.model), logits(mixed))
    assert torch.equal(lab.trace(tiny.ids(23), logits="all").logits, logits(mixed))
    assert (lab.spec.vision is not None) == layout.startswith("image")
    assert lab.backend.experts == lab.model.config._experts_implementation
    assert lab.backend.experts in repr(lab.backend)


def test_what_transformers_saves_is_loaded(tmp_path, mixed, model):
    """save_pretrained takes experts apart again."""
    for name, made in (("mixed", mixed), ("dense", model)):
        with loading.quiet():
            made.save_pretrained(tmp_path / name)
        checkpoints.write_tokenizer(tmp_path / name)
        lab = lk.load(tmp_path / name, device="cpu")
        assert torch.equal(logits(lab.model), logits(made))


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("write", [checkpoints.text_only, checkpoints.image_text])
def test_tied_embeddings_need_no_lm_head(write, experts, tmp_path):
    tied = tiny.model(experts=experts, tie_word_embeddings=True)
    folder = write(tmp_path / "tied", tied)
    assert "lm_head.weight" not in files.tensors(folder)
    lab = lk.load(folder, device="cpu")
    assert torch.equal(logits(lab.model), logits(tied))
    assert lab.model.lm_head.weight is lab.model.model.embed_tokens.weight


def half():
    """The random hybrid in bfloat16, its rotary frequencies in float32 as transformers keeps them."""
    made = tiny.model(dtype=torch.bfloat16)
    made.model.rotary_emb.inv_freq = tiny.model().model.rotary_emb.inv_freq
    return made


def test_dtype_is_what_was_asked_for(tmp_path):
    found = checkpoints.text_only(tmp_path / "half", half())
    assert torch.equal(logits(lk.load(found, device="cpu", dtype="bfloat16").model), logits(half()))
    assert lk.load(found, device="cpu", dtype=torch.bfloat16).backend.dtype == "bfloat16"
    assert lk.load(found, device="cpu", dtype="auto").backend.dtype == "bfloat16"
    wide = lk.load(found, device="cpu")
    assert wide.backend.dtype == "float32"
    assert torch.equal(logits(wide.model), logits(half().float()))


def test_plain_loading_needs_no_accelerate(folder, model, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "accelerate" else find(name, *a))
    assert torch.equal(logits(lk.load(folder, device="cpu").model), logits(model))


def test_a_failed_load_changes_no_kernel(folder, monkeypatch):
    from labkit.kernels import bound

    monkeypatch.setattr(bound, "_forced", {})
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError):
        lk.load(folder, backend="torch")
    assert not bound._forced


def test_a_cpu_without_room_for_float32_keeps_the_stored_dtype(tmp_path, monkeypatch):
    found = checkpoints.text_only(tmp_path / "half", tiny.model(dtype=torch.bfloat16))
    room = int(1.5 * lk.spec.weight_bytes(lk.spec.read(found), "bfloat16")["text"])
    monkeypatch.setattr(precision, "budget", lambda device: (room, "host memory"))
    assert lk.load(found, device="cpu").backend.dtype == "bfloat16"


def test_the_environment_names_the_default_model(folder, monkeypatch):
    monkeypatch.setenv("LABKIT_MODEL", str(folder))
    assert lk.load(device="cpu").name == "hybrid"
    monkeypatch.setenv("LABKIT_MODEL", "no/such/place")
    with pytest.raises(InputError, match="no such model"):
        lk.load()


def test_nano_is_the_default_and_whole(monkeypatch):
    if not (finding.NANO / "config.json").is_file():
        pytest.skip("this tree has no embedded checkpoint")
    monkeypatch.delenv("LABKIT_MODEL", raising=False)
    lab = lk.load(device="cpu")
    assert lab.name == "nano"
    assert lab.backend.dtype == "float32"
    assert len(lab.model.generation_config.eos_token_id) == 2
    assert lab.trace("red fox").logits.isfinite().all()


def test_the_first_load_and_trace_of_a_process_say_nothing():
    """Not even where optional quantisers are installed, which transformers imports and which speak when imported."""
    code = "import labkit; labkit.load('nano').generate('red fox')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("broken", [False, True])
def test_loading_is_silent_and_restores_what_it_silenced(folder, capfd, monkeypatch, broken):
    import huggingface_hub.constants
    from transformers.utils import logging as theirs

    def state():
        logger = logging.getLogger("transformers")
        levels = [logging.getLogger(name).level for name in ("torch", "torchao", "transformers")]
        return theirs.get_verbosity(), theirs.is_progress_bar_enabled(), logger.handlers[:], logger.propagate, levels

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    before = state()
    if broken:
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(CheckpointError, match="the tokenizer is broken"):
            lk.load(folder)
    else:
        lk.load(folder)
    assert capfd.readouterr() == ("", "")
    assert state() == before
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


# --------------------------------------------------------------------------------------------------- what is refused


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def grow(path):
    path.write_bytes(path.read_bytes() + b"x")


def drop(*names):
    return lambda folder: checkpoints.rewrite(folder, lambda named: [named.pop(name) for name in names])


def put(**tensors):
    return lambda folder: checkpoints.rewrite(folder, lambda named: named.update(tensors))


def config(**changes):
    return lambda folder: checkpoints.change_json(folder / "config.json", **changes)


def text(file, old, new):
    """Replace a text of a JSON file by one that no writer would produce."""

    def change(folder):
        before = (folder / file).read_text()
        assert old in before
        (folder / file).write_text(before.replace(old, new, 1))

    return change


def beside(file, **content):
    return lambda folder: checkpoints.write_json(folder / file, content)


def head(**changes):
    """Change the header's entry of one norm."""

    def change(folder):
        path = folder / "model.safetensors"
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        table = json.loads(data[8 : 8 + length])
        for field, value in changes.items():
            table[NORM][field] = value(table[NORM][field])
        made = json.dumps(table).encode()
        path.write_bytes(len(made).to_bytes(8, "little") + made + data[8 + length :])

    return change


def far_id(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["w210"] = 300
    checkpoints.write_json(folder / "tokenizer.json", content)


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def misnamed(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")


def long_tokenizer(folder):
    checkpoints.write_tokenizer(folder, tiny.SIZES["vocab_size"] + 3)


def every(*prefixes):
    """Put a prefix before every name; with several, the model stands there once under each."""

    def change(named):
        before = {name: named.pop(name) for name in [*named]}
        named |= {f"{prefix}{name}": weight.clone() for prefix in prefixes for name, weight in before.items()}

    return lambda folder: checkpoints.rewrite(folder, change)


def beside_text(folder, **rope):
    """The configuration of an image-text layout, with settings beside `text_config`."""
    text = json.loads((folder / "config.json").read_text())
    checkpoints.write_json(folder / "config.json", {"model_type": "qwen3_5", "text_config": text} | rope)


EMBEDDING = "model.embed_tokens.weight"
NORM = "model.layers.0.input_layernorm.weight"
GATE = "model.layers.1.linear_attn.in_proj_a.weight"
MOVED = {"model.layers.0.mlp.extra.weight": torch.zeros(2)}
REFUSED = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json there", "folder of a checkpoint"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "not JSON", "Expecting"),
    "not an object": (lambda f: (f / "config.json").write_text("[]"), "not a JSON object", "list"),
    "architecture": (config(model_type="llama"), "not a model of a family that labkit knows", "'llama'"),
    "other family": (
        config(model_type="qwen3_5_moe_text"),
        "the configuration lacks fields",
        "no moe_intermediate_size",
    ),
    "remote code": (config(auto_map={"AutoConfig": "evil.Config"}), "run its own code", "auto_map"),
    "no theta": (config(rope_parameters={"rope_type": "default"}), "no rope_theta", "10,000"),
    "pickles": (pickled, "pickle files, which can run code", "pytorch_model.bin"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights there", "model.safetensors"),
    "other names": (misnamed, "no weights there", "got: weights.safetensors"),
    "truncated": (lambda f: cut(f / "model.safetensors", -100), "truncated", "download the file again"),
    "header cut": (lambda f: cut(f / "model.safetensors", 60), "not a safetensors file", "bytes in a file of 60"),
    "empty": (lambda f: cut(f / "model.safetensors", 0), "not a safetensors file", "download"),
    "longer": (lambda f: grow(f / "model.safetensors"), "longer than its header says", "bytes"),
    "header no JSON": (
        lambda f: (f / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[}"),
        "not a safetensors file",
        "model.safetensors",
    ),
    "missing": (drop(NORM, GATE), "the checkpoint lacks tensors", f"2 of 67 absent: {NORM}, {GATE}"),
    "no lm_head": (drop("lm_head.weight"), "the checkpoint lacks tensors", "lm_head.weight"),
    "unexpected": (put(**MOVED), "the model has no place for", "model.layers.0.mlp.extra.weight"),
    "twice": (put(**{NORM.replace("model.", "model.language_model.", 1): torch.zeros(44)}), "the same place", "NORM"),
    "shape": (put(**{NORM: torch.zeros(45)}), "do not have the model's shapes", f"first {NORM} [45]"),
    "adapter apart": (
        put(**{"model.layers.2.self_attn.q_proj.lora_A.default.weight": torch.zeros(3, 44)}),
        "its adapter not merged",
        "merge_and_unload",
    ),
    "two models": (every("a.", "b."), "weights of more than one model", f"a.{EMBEDDING}, b.{EMBEDDING}"),
    "prefix on one": (
        lambda f: (put(**{f"module.{EMBEDDING}": torch.zeros(211, 44)})(f), drop(EMBEDDING)(f)),
        "a prefix stands before some names",
        f"module.{EMBEDDING}, but model.layers.0",
    ),
    "two heads": (
        lambda f: (put(**{"x.lm_head.weight": torch.zeros(211, 44)})(f), every("module.")(f)),
        "the same place",
        "lm_head.weight",
    ),
    "rope twice": (lambda f: beside_text(f, rope_theta=7.0), "two rope settings", "rope_theta 7.0 beside text_config"),
    "rope beside": (lambda f: beside_text(f, rope_parameters=[1]), "two rope settings", "rope_parameters [1] beside"),
    "NaN": (
        text("config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": NaN'),
        "config.json is not JSON",
        "NaN, which JSON does not have",
    ),
    "beyond floats": (
        text("config.json", "1000.0", "1e999"),
        "config.json is not JSON",
        "the number 1e999, which is out of range",
    ),
    "digits": (text("config.json", "1000.0", "1" * 4000), "config.json is not JSON", "a number of 4,000 digits"),
    "name twice": (
        text("config.json", "{", '{"vocab_size": 7, '),
        "config.json is not JSON",
        "'vocab_size' stands twice",
    ),
    "deep": (
        text("config.json", "1000.0", "[" * 9999 + "]" * 9999),
        "config.json is not JSON",
        "nested deeper than 32",
    ),
    "a bit deep": (
        text("config.json", "1000.0", "[" * 40 + "]" * 40),
        "config.json is not JSON",
        "nested deeper than 32",
    ),
    "surrogate": (text("config.json", '"silu"', '"\\ud800"'), "config.json is not JSON", "half of a surrogate pair"),
    "more numbers": (config(vocab_size=100_000), "describes another model than the weight", "587,728 bytes of weights"),
    "labels": (config(num_labels=10**9), "a setting that a text model does not have", "num_labels is 1000000000"),
    "tuples": (config(return_dict=False), "a setting that a text model does not have", "return_dict is False"),
    "pad id": (config(pad_token_id=211), "a special token outside the vocabulary", "pad_token_id is 211"),
    "stop id": (config(eos_token_id=[1, -1]), "a special token outside the vocabulary", "eos_token_id is [1, -1]"),
    "strict": (config(initializer_range="x"), "transformers does not take this configuration", "initializer_range"),
    "rope type": (config(rope_parameters={"rope_type": ""}), "rope_type is not the name", "''"),
    "packed how": (config(quantization_config="fp8"), "quantization_config does not say how", "'fp8'"),
    "packed by": (config(quantization_config={"quant_method": ["fp8"]}), "quantization_config does not say", "['fp8']"),
    "adapter": (
        beside("adapter_config.json", base_model_name_or_path="/etc"),
        "an adapter lies beside",
        "adapter_config",
    ),
    "no stop": (beside("generation_config.json", eos_token_id=[10**9]), "a special token outside", "[1000000000]"),
    "heat": (beside("generation_config.json", temperature="hot"), "a setting of generation is out of", "'hot'"),
    "whole numbers": (
        put(**{NORM: torch.zeros(44, dtype=torch.int32)}),
        "not floating numbers",
        f"{NORM} is stored as I32",
    ),
    "offsets": (head(data_offsets=lambda at: [at[0] + 4, at[1] + 4]), "not a safetensors file", f"'{NORM}' begins at"),
    "bytes": (head(shape=lambda shape: [45]), "not a safetensors file", "176 bytes for [45] of F32"),
    "dtype": (head(dtype=lambda dtype: "F31"), "not a safetensors file", f"'{NORM}': dtype 'F31'"),
    "shape of": (head(shape=lambda shape: [-44, -1]), "not a safetensors file", "shape [-44, -1]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_checkpoint_is_refused_before_its_weights_are_read(case, folder, unread):
    damage, what, detail = REFUSED[case]
    damage(folder)
    with pytest.raises(LabError) as caught:
        lk.load(folder, device="cpu")
    assert what in caught.value.what
    assert detail.replace("NORM", "input_layernorm") in str(caught.value)


def test_what_takes_no_part_in_a_text_model_may_stand_in_its_settings(folder, model):
    named = dict(num_labels=3, id2label={"0": "a"}, attn_output_gate=True, author="x", is_encoder_decoder=False)
    checkpoints.change_json(folder / "config.json", **named)
    unfollowed = dict(num_beams=4, bad_words_ids=[[3]], cache_implementation="static", of_tomorrow={"a": [1]})
    checkpoints.write_json(folder / "generation_config.json", {"temperature": 0.7, "top_k": 20} | unfollowed)
    lab = lk.load(folder, device="cpu")
    assert torch.equal(logits(lab.model), logits(model))
    followed = lab.model.generation_config
    assert followed.top_k == 20 and followed.num_beams in (1, None) and followed.bad_words_ids is None


PREFIXES = {
    "data parallel": (checkpoints.text_only, every("module.")),
    "compiled": (checkpoints.text_only, every("_orig_mod.")),
    "both": (checkpoints.image_text, every("module._orig_mod.")),
    "peft": (checkpoints.image_text, every("base_model.model.")),
    "a class around it": (checkpoints.text_only, every("model.")),
    "of somebody": (checkpoints.text_only, every("student.")),
    "doubled": (checkpoints.image_text, ("model.language_model.", "model.language_model.language_model.")),
    "in another class": (checkpoints.text_only, ("model.", "language_model.model.")),
    "older": (checkpoints.image_text, ("model.", "")),
    "compiled layers": (checkpoints.text_only, ("layers.1.", "layers.1._orig_mod.")),
}


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("case", PREFIXES)
def test_what_stands_before_every_name_is_taken_away(case, experts, tmp_path, model, mixed):
    write, change = PREFIXES[case]
    original = mixed if experts else model
    folder = write(tmp_path / "hybrid", original, **(dict(apart=True) if experts else {}))
    if isinstance(change, tuple):
        old, new = change
        edit = lambda named: named.update({name.replace(old, new, 1): named.pop(name) for name in [*named]})  # noqa: E731
        checkpoints.rewrite(folder, edit)
    else:
        change(folder)
    with pytest.warns(UserWarning, match="hybrid: names on disk are read without what stands before"):
        lab = lk.load(folder, device="cpu")
    assert torch.equal(lab.trace(tiny.ids(23), logits="all").logits, logits(original))
    assert [note for note in lab.backend.notes if "names on disk" in note]
    assert "names on disk" in repr(lab.backend)


def test_a_decoder_stack_alone_is_a_model_where_its_head_is_the_embedding(tmp_path):
    tied = tiny.model(tie_word_embeddings=True)
    folder = checkpoints.text_only(tmp_path / "tied", tied)
    bare = lambda named: named.update({name.removeprefix("model."): named.pop(name) for name in [*named]})  # noqa: E731
    checkpoints.rewrite(folder, bare)
    with pytest.warns(UserWarning, match="names on disk"):
        assert torch.equal(logits(lk.load(folder, device="cpu").model), logits(tied))


@pytest.mark.parametrize("inside", ["language_model.", "_orig_mod."])
def test_experts_under_different_names_are_refused_since_they_would_change_places(inside, tmp_path, mixed, unread):
    """transformers stacks experts in the order of their names on disk."""
    folder = checkpoints.text_only(tmp_path / "mixed", mixed, apart=True)
    one = "model.layers.1.mlp.experts.5.up_proj.weight"
    change = lambda named: named.update({one.replace("layers.", f"{inside}layers."): named.pop(one)})  # noqa: E731
    checkpoints.rewrite(folder, change)
    with pytest.raises(CheckpointError, match=r"names of some experts and not of others\n.*experts.5.up_proj"):
        lk.load(folder, device="cpu")


def test_plain_names_have_no_rules():
    family = lk.families.FAMILIES["qwen3_5"]
    for named in (["model.embed_tokens.weight", "lm_head.weight"], ["model.language_model.embed_tokens.weight"], []):
        assert names.renaming([*named, "mtp.embed_tokens.weight", "model.visual.norm.weight"], family) == {}


BESIDE = {
    "new": ("rope_parameters", lambda rope: rope),
    "older": ("rope_scaling", lambda rope: {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1000.0} | rope),
    "twice": ("rope_parameters", lambda rope: rope),
}


@pytest.mark.parametrize("case", BESIDE)
def test_rope_settings_beside_the_text_part_are_read(case, tmp_path, model):
    """As transformers reads them inside it."""
    from transformers import Qwen3_5ForCausalLM

    name, make = BESIDE[case]
    folder = checkpoints.image_text(tmp_path / "hybrid", model)
    inside = json.loads((folder / "config.json").read_text())
    rope = inside["text_config"]["rope_parameters"]
    settings = make(rope if case != "older" else {k: v for k, v in rope.items() if k != "rope_type"})
    if case != "twice":
        del inside["text_config"]["rope_parameters"]
    checkpoints.write_json(folder / "config.json", inside | {name: settings})
    lab = lk.load(folder, device="cpu")
    with loading.quiet():
        config = tiny.config(rope_parameters=settings)
        theirs = Qwen3_5ForCausalLM.from_pretrained(folder, config=config, dtype="float32")
    assert torch.equal(lab.trace(tiny.ids(23), logits="all").logits, logits(theirs))
    assert lab.native.kind == ("yarn" if case == "older" else "none")
    assert (lab.spec.rope_theta, lab.spec.rotary_dim, lab.spec.window) == (1000.0, 8, 512)


def test_another_head_than_the_embedding_is_loaded_as_stored_and_said(tmp_path):
    """As transformers does, which warns."""
    tied = tiny.model(tie_word_embeddings=True)
    folder = checkpoints.text_only(tmp_path / "hybrid", tied)
    head = tied.model.embed_tokens.weight.flip(0).contiguous()
    checkpoints.rewrite(folder, lambda named: named.update({"lm_head.weight": head}))
    with pytest.warns(UserWarning, match="hybrid: tie_word_embeddings is true, yet another lm_head"):
        lab = lk.load(folder, device="cpu")
    assert not lab.spec.tied
    assert lk.spec.parameters(lab.spec)["text"] == sum(weight.numel() for weight in lab.model.parameters())
    assert torch.equal(lab.model.lm_head.weight, head)
    assert any("tie_word_embeddings" in note for note in lab.backend.notes)


def test_what_transformers_warns_about_reaches_the_user(folder, monkeypatch):
    from transformers import Qwen3_5ForCausalLM
    from transformers.utils import logging as theirs

    load = Qwen3_5ForCausalLM.from_pretrained.__func__

    def speaking(cls, *args, **options):
        for _ in range(2):
            theirs.get_logger("transformers.modeling_utils").warning("something is odd")
        return load(cls, *args, **options)

    monkeypatch.setattr(Qwen3_5ForCausalLM, "from_pretrained", classmethod(speaking))
    with pytest.warns(UserWarning, match="hybrid: transformers: something is odd") as caught:
        lab = lk.load(folder, device="cpu")
    assert len(caught) == 1 and lab.backend.notes == ("transformers: something is odd",)


@pytest.mark.parametrize("given", ["folder", "tokenizer"])
def test_a_folder_without_tokenizer_reads_ids_and_takes_one_from_elsewhere(given, tmp_path, folder, model):
    for file in folder.glob("tokenizer*"):
        file.rename(tmp_path / file.name)
    with pytest.warns(UserWarning, match="hybrid: there is no tokenizer beside the weights"):
        lab = lk.load(folder, device="cpu")
    assert lab.tokenizer is None and torch.equal(lab.trace(tiny.ids(23), logits="all").logits, logits(model))
    assert lab.trace([2, 3, 5]).tokens == ("[2]", "[3]", "[5]")
    with pytest.raises(InputError, match=r"no tokenizer\n(.*\n)*.*try: labkit.wrap\(lab.model, "):
        lab.trace("ab")
    assert lk.wrap(lab.model, tmp_path).encode("ab").tolist() == [5]
    tokenizer = tmp_path if given == "folder" else lk.wrap(lab.model, str(tmp_path)).tokenizer
    assert lk.load(folder, tokenizer=tokenizer, device="cpu").encode("ab ba").tolist() == [5, 4, 3, 2]
    with pytest.raises(CheckpointError, match=r"no tokenizer there\n.*hybrid"):
        lk.load(folder, tokenizer=folder)
    with pytest.raises(InputError, match="not a tokenizer"):
        lk.load(folder, tokenizer=3)


def test_a_gguf_file_without_vocabulary_is_as_a_folder_without_tokenizer(tmp_path, recwarn):
    model = tiny.model(**checkpoints.BLOCKS)
    file, folder = tmp_path / "bare.gguf", checkpoints.text_only(tmp_path / "bare", model)
    parts = written(file, model)
    parts.settings = [entry for entry in parts.settings if not entry[0].startswith("tokenizer.ggml.")]
    parts.close()
    (tmp_path / "tokens").mkdir()
    for path in folder.glob("tokenizer*"):
        path.rename(tmp_path / "tokens" / path.name)
    said = []
    for where in (file, folder):
        lab = lk.load(where, device="cpu")
        run = lab.trace(tiny.ids(23), logits="all")
        with pytest.raises(InputError, match="no tokenizer") as caught:
            lab.trace("ab")
        notes = [str(warned.message) for warned in recwarn.list]
        recwarn.clear()
        said.append((lab.backend.notes, lab.tokenizer, run.tokens, str(caught.value), notes))
        torch.testing.assert_close(run.logits, logits(model), rtol=1e-4, atol=1e-4)
        assert lk.load(where, tokenizer=tmp_path / "tokens", device="cpu").encode("ab").tolist() == [5]
        assert not recwarn.list
    assert said[0] == said[1] and "bare: there is no tokenizer beside the weights" in said[0][-1][0]


def test_a_tied_head_may_be_stored_as_well(tmp_path):
    tied = tiny.model(tie_word_embeddings=True)
    folder = checkpoints.text_only(tmp_path / "tied", tied)
    embedding = tied.model.embed_tokens.weight.clone()
    checkpoints.rewrite(folder, lambda named: named.update({"lm_head.weight": embedding}))
    assert torch.equal(logits(lk.load(folder, device="cpu").model), logits(tied))


def test_an_id_without_an_embedding_is_refused(folder):
    far_id(folder)
    with pytest.raises(CheckpointError, match=r"of another model\n.*id 300\n.*0 to 210"):
        lk.load(folder)


EXPERT = "model.layers.1.mlp.experts.11.up_proj.weight"
FUSED = "model.layers.1.mlp.experts.gate_up_proj"
REFUSED_EXPERTS = {
    "one lacks": (True, drop(EXPERT), "the checkpoint lacks tensors", f"1 of 272 absent: {EXPERT}"),
    "fused lacks": (False, drop(FUSED), "the checkpoint lacks tensors", f"1 of 87 absent: {FUSED}"),
    "one too wide": (True, put(**{EXPERT: torch.zeros(21, 44)}), "do not have the model's shapes", "[20, 44]"),
    "one too many": (
        True,
        put(**{EXPERT.replace(".11.", ".13."): torch.zeros(20, 44)}),
        "the model has no place for",
        "experts.13",
    ),
    "both ways": (True, put(**{FUSED: torch.zeros(13, 40, 44)}), "the model has no place for", FUSED),
    "no router": (True, drop("model.layers.0.mlp.gate.weight"), "the checkpoint lacks tensors", "layers.0.mlp.gate"),
    "fewer experts": (False, config(num_experts=12), "do not have the model's shapes", "13"),
    "a dense model's": (
        False,
        config(model_type="qwen3_5_text"),
        "the configuration lacks fields",
        "intermediate_size",
    ),
}


@pytest.mark.parametrize("case", REFUSED_EXPERTS)
def test_broken_experts_are_refused_before_weights_are_read(case, tmp_path, mixed, unread):
    apart, damage, what, detail = REFUSED_EXPERTS[case]
    folder = checkpoints.text_only(tmp_path / "mixed", mixed, apart=apart)
    damage(folder)
    with pytest.raises(LabError) as caught:
        lk.load(folder, device="cpu")
    assert what in caught.value.what
    assert detail in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_broken_numbers_are_refused(value, folder):
    checkpoints.rewrite(folder, lambda named: named[GATE].view(-1)[7:8].fill_(value))
    with pytest.raises(CheckpointError, match=r"NaN or infinite\n.*1 tensors: model.layers.1.linear_attn.in_proj_a"):
        lk.load(folder, device="cpu")


def test_a_tokenizer_of_another_model_is_refused(folder):
    long_tokenizer(folder)
    with pytest.raises(CheckpointError, match=r"of another model\n.*214 ids\n.*at most 211"):
        lk.load(folder)


def test_the_tokenizer_may_not_bring_code(folder, unread):
    checkpoints.change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    with pytest.raises(CheckpointError, match="run its own code"):
        lk.load(folder)
    other = folder.parent / "other"
    other.mkdir()
    for file in folder.glob("tokenizer*"):
        file.rename(other / file.name)
    with pytest.raises(CheckpointError, match="run its own code"):
        lk.load(folder, tokenizer=other)


INDEX = {
    "no map": (dict(weight_map=None), "is broken"),
    "outside": (dict(weight_map={"model.norm.weight": "../model.safetensors"}), "points outside the folder"),
    "other shard": (dict(weight_map={"model.norm.weight": "model-00001-of-00003.safetensors"}), "index promises"),
    "no shard": (dict(weight_map={"model.norm.weight": "lost.safetensors"}), "1 of 1 absent: lost.safetensors"),
    "no name": (dict(weight_map={"model.norm.weight": ["x"]}), "points outside the folder"),
    "no file": (dict(weight_map={"model.norm.weight": "config.json"}), "names a file that is no shard"),
    "unplaced": (dict(weight_map={}), "does not place there"),
}


@pytest.mark.parametrize("case", INDEX)
def test_a_broken_index_is_refused(case, tmp_path, model, unread):
    found = checkpoints.text_only(tmp_path / "sharded", model, shards=3)
    changes, what = INDEX[case]
    if case == "other shard":
        inside = files.header(found / "model-00001-of-00003.safetensors")
        changes = dict(
            weight_map={next(n for n in files.tensors(found) if n not in inside): next(iter(inside.values())).file.name}
        )
    if case == "unplaced":
        places = json.loads((found / files.INDEX).read_text())["weight_map"]
        changes = dict(weight_map={name: file for name, file in places.items() if name != "model.norm.weight"})
    checkpoints.change_json(found / files.INDEX, **changes)
    with pytest.raises(CheckpointError) as caught:
        lk.load(found)
    assert what in str(caught.value)


def test_a_missing_or_short_shard_is_named(tmp_path, model, unread):
    found = checkpoints.text_only(tmp_path / "sharded", model, shards=3)
    cut(found / "model-00003-of-00003.safetensors", -8)
    with pytest.raises(CheckpointError, match=r"truncated\n.*model-00003-of-00003.safetensors"):
        lk.load(found)
    (found / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"missing\n.*1 of 3 absent: model-00002-of-00003.safetensors"):
        lk.load(found)


NAMES = {
    "": "not a name of a model",
    7: "not a name of a model",
    "./nowhere": "no such model",
    "a/b/c": "no such model",
    "nowhere/model.gguf": "no such model",
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(InputError, match=NAMES[name]):
        lk.load(name)


def test_a_single_file_is_refused(tmp_path):
    for file, kind, what in (
        ("model.safetensors", InputError, "not a checkpoint"),
        ("weights.pt", CheckpointError, "pickle weights can run code"),
    ):
        (tmp_path / file).write_bytes(b"")
        with pytest.raises(kind, match=what):
            lk.load(tmp_path / file)


def test_options_that_make_no_sense_are_refused(folder, unread):
    for options, what in (
        (dict(device="tpu9"), "not a device"),
        (dict(dtype="int8"), "not a dtype to run a model in"),
        (dict(quantize="int3"), "unknown quantisation"),
        (dict(backend="jax"), "unknown backend"),
    ):
        with pytest.raises(InputError, match=what):
            lk.load(folder, **options)


def test_devices_that_are_not_there_are_refused(folder, unread, monkeypatch):
    with pytest.raises(BackendError, match="a CPU or one NVIDIA GPU"):
        lk.load(folder, device="meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r'no GPU that torch can use\n.*cuda.*\n.*try: device="cpu"'):
        lk.load(folder, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(BackendError, match=r"no such GPU\n.*cuda:7\n.*cuda:0 to cuda:1"):
        lk.load(folder, device="cuda:7")


def test_too_little_memory_is_refused_with_the_nearest_route(folder, unread, monkeypatch):
    spec = lk.spec.read(folder)
    need = {
        route: lk.spec.weight_bytes(spec, *route)["text"]
        for route in (("float32",), ("bfloat16",), ("bfloat16", "nf4"))
    }
    for room, hint in (
        (need["float32",] - 1, 'dtype="bfloat16": '),
        (need["bfloat16",] - 1, 'dtype="bfloat16", quantize="int8": '),
        (need["bfloat16", "nf4"] - 1, "the smallest route"),
    ):
        monkeypatch.setattr(precision, "budget", lambda device, room=room: (room, "host memory"))
        with pytest.raises(BudgetError) as caught:
            lk.load(folder, device="cpu", dtype="float32")
        assert f"got: {lk.spec.size(need['float32',])} of weights (float32)" in str(caught.value)
        assert f"expected: at most {lk.spec.size(room)} (host memory)" in str(caught.value)
        assert hint in caught.value.hint


def test_27b_on_a_24_gb_card_is_pointed_to_nf4(monkeypatch):

    spec = lk.spec.read("Qwen3.6-27B")
    monkeypatch.setattr(precision, "budget", lambda device: (int(0.9 * 24e9), "a GPU of 24 GB"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(
        BudgetError, match=r'50.10 GiB of weights \(bfloat16\)\n.*\n.*quantize="(nf4|int4)": 1\d'
    ) as caught:
        precision.admit(spec, torch.device("cuda", 0), torch.bfloat16)
    assert "fp8" not in str(caught.value)


def test_a_damaged_nano_is_never_replaced_by_random_weights(folder, unread, monkeypatch):
    import hashlib

    monkeypatch.setattr(finding, "NANO", folder)
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}
    checkpoints.write_json(folder / "checksums.json", sums)
    with pytest.raises(AssertionError, match="weights were read"):
        lk.load("nano")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"nano is damaged\n.*model.safetensors"):
        lk.load("nano")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"nano is incomplete\n.*no model.safetensors"):
        lk.load("nano")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"nano is missing\n(.*\n)*.*install labkit again"):
        lk.load("nano")


# ------------------------------------------------------------------------------------------------------------- gguf


def setting(name, kind, value):
    return lambda made: made.settings.append([name, kind, value])


def instead(name, kind, value):
    def change(made):
        next(entry for entry in made.settings if entry[0] == name)[1:] = kind, value

    return change


def first(place, value):
    def change(made):
        made.tensors[0][place] = value(made.tensors[0][place])

    return change


EPS, BLOCKS, TOKEN = "qwen35.attention.layer_norm_rms_epsilon", "qwen35.block_count", "tokenizer.ggml.eos_token_id"
GGUF = {
    "alignment": (setting("general.alignment", 4, 0), None, "general.alignment is 0"),
    "twice": (setting(BLOCKS, 4, 3), None, f"'{BLOCKS}' stands twice"),
    "nested": (setting("x", 9, [9, [[4, [1]]]]), None, "'x' is an array of type 9"),
    "long": (setting("x", 8, (2**60).to_bytes(8, "little")), None, "bytes of 'x', more than"),
    "many tensors": (lambda made: None, (2**60, 3), "tensors, more than 1,000,000"),
    "NaN": (instead(EPS, 6, float("nan")), None, f"'{EPS}' is nan"),
    "text": (instead(EPS, 8, "1e-6"), None, f"{EPS} is '1e-6'"),
    "many blocks": (instead(BLOCKS, 4, 2**32 - 1), None, f"{BLOCKS} is 4294967295"),
    "a block more": (instead(BLOCKS, 4, 4), None, "tensors of every block"),
    "token": (instead(TOKEN, 4, 211), None, f"{TOKEN} is 211"),
    "overlap": (first(3, lambda offset: offset + 32), None, "begins at"),
    "dimensions": (first(1, lambda sizes: [2**62, 4]), None, "more than 1,099,511,627,776"),
    "kind": (first(2, lambda kind: 99), None, "is of type 99"),
    "no tensors": (lambda made: made.tensors.clear(), None, "tensors of every block"),
}


@pytest.mark.parametrize("case", GGUF)
def test_a_gguf_file_is_walked_before_a_library_touches_it(case, tmp_path, monkeypatch):
    from tests.attacks import gguf

    made = gguf.written(tmp_path / "whole.gguf", tiny.model(**gguf.SIZES))
    monkeypatch.setattr(loading, "model", lambda ready: pytest.fail("it was taken for whole"))
    with pytest.raises(pytest.fail.Exception, match="taken for whole"):
        lk.load(made.path, device="cpu")
    change, counts, what = GGUF[case]
    damaged = made.copy()
    change(damaged)
    made.path.write_bytes(damaged.bytes(counts))
    with pytest.raises(CheckpointError) as caught:
        lk.load(made.path, device="cpu")
    assert what in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- the hub


def hub_cache(root, folder):
    """Put a folder where the hub's client would keep org/hybrid."""
    place = root / "models--org--hybrid"
    snapshot = place / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(snapshot.name)
    return snapshot


def test_a_hub_id_loads_from_the_ordinary_cache(tmp_path, folder, model, monkeypatch):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError) as caught:
        lk.load("org/hybrid")
    assert "cannot be reached" in caught.value.what
    assert "org/hybrid" in caught.value.got
    assert "local folder" in caught.value.hint
    snapshot = hub_cache(tmp_path / "cache", folder)
    lab = lk.load("org/hybrid", device="cpu")
    assert lab.name == "hybrid"
    assert torch.equal(logits(lab.model), logits(model))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights there"):
        lk.load("org/hybrid")


def test_a_model_too_large_is_refused_before_its_weights_are_fetched(tmp_path, folder, monkeypatch):
    asked = []

    def fetch(hub_id, patterns):
        asked.append(patterns)
        return folder

    monkeypatch.setattr(finding, "fetch", fetch)
    monkeypatch.setattr(precision, "budget", lambda device: (1000, "host memory"))
    with pytest.raises(BudgetError):
        lk.load("org/hybrid", device="cpu")
    assert len(asked) == 1
    assert not any("safetensors" in pattern for pattern in asked[0])


def test_the_hub_says_why(monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    def answer(error):
        def fail(*args, **options):
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)

    class Response:
        headers, status_code, request = {}, 404, None

    answer(errors.RepositoryNotFoundError("404", response=Response()))
    with pytest.raises(CheckpointError, match="no such repository"):
        lk.load("org/hybrid")
    answer(errors.GatedRepoError("403", response=Response()))
    with pytest.raises(CheckpointError, match=r"does not give access\n.*org/hybrid\n.*accept its terms"):
        lk.load("org/hybrid")
    answer(ConnectionError("name resolution failed"))
    with pytest.raises(CheckpointError, match="ConnectionError: name resolution failed"):
        lk.load("org/hybrid")


def test_headers_hold_what_the_files_hold(folder, model):
    found = files.tensors(folder)
    for name, weight in checkpoints.tensors(model).items():
        assert found[name].shape == tuple(weight.shape)
        assert found[name].bytes == weight.nbytes
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 5
