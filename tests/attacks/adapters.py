"""Damaged and hostile folders of adapters: settings of LoRA, headers, names and files, under the doctor and at loading.

Right is what the adapter computed before, or what PEFT makes of the same folder. Where PEFT is not installed, the
folder is read alone, and right is what stands in its files.
"""

import importlib.util
import json
import pathlib
import random
import shutil
from unittest import mock

import checkpoints
import tiny

from labkit.zoo import adapters
from tests.attacks import attack, tried
from tests.attacks.checkpoints import misnamed
from tests.attacks.json_damage import changed, put
from tests.attacks.weights import damaged, parts

IDS = tiny.ids(9)
RULES = (
    ".*_proj",
    "(.*)*z",
    "(a+)+$",
    r"(\w*\.?)*!",
    "(",
    "x" * 999,
    "",
    "|",
    ".*|.*",
    "model.layers.0.*",
    "[",
    "q_proj",
)
SETTINGS = {
    "r": (1, 3, 4, 0, 65535, 2.0, "3"),
    "lora_alpha": (1, 16.5, 0, 2**19),
    "target_modules": (
        *RULES,
        ["q_proj"],
        ["q_proj", "o_proj", "lm_head"],
        ["embed_tokens"],
        "all-linear",
        [".*"],
        [""],
    ),
    "exclude_modules": (*RULES, ["q_proj"], ["x"]),
    "modules_to_save": (["lm_head"], ["norm"], ["embed_tokens"], ["q_proj"], "lm_head"),
    "target_parameters": (["mlp.experts.gate_up_proj"], ["x"]),
    "layers_to_transform": (0, [0, 1], [7], -1, [True]),
    "layers_pattern": ("layers", ["layers"], *RULES[:4]),
    "rank_pattern": ({"q_proj": 2}, {"(.*)*z": 4}, {"o_proj": 2**19}, {"[": 3}, {"o_proj": 1.5}),
    "alpha_pattern": ({"q_proj": 2}, {"(.*)*z": 4}, {"(": 1.5}),
    "use_rslora": (True, False, 1),
    "use_dora": (True, False),
    "lora_bias": (True, False),
    "fan_in_fan_out": (False, True),
    "bias": ("none", "all"),
    "peft_type": ("LORA", "IA3", "lora", ["LORA"]),
    "auto_mapping": ({"base_model_class": "X", "parent_library": "os"}, {"parent_library": "antigravity"}),
    "base_model_name_or_path": ("..", "/etc", "org/name", "a/b/c", "", None, 5, "nano", "x" * 10**5, "\0"),
    "task_type": ("CAUSAL_LM", "SEQ_CLS", "X"),
    "revision": ("main", 5),
    "trainable_token_indices": ([1], {"embed_tokens": [1]}),
    "loftq_config": ({"a": 1},),
    "megatron_config": ({"a": 1},),
    "layer_replication": ([[0, 2]],),
    "init_lora_weights": (True, "pissa", "x"),
}


def spoilt(folder: pathlib.Path, rng: random.Random) -> str:
    """Change an adapter's settings, its tensors or their names; returns what."""
    from safetensors.torch import load_file

    how, weights = rng.choice(("settings",) * 3 + ("files", "names")), folder / adapters.WEIGHTS
    if how == "files":
        return damaged(folder, rng)
    if how == "names":
        named, what = misnamed(load_file(weights), rng)
        weights.unlink()
        checkpoints.write_tensors(folder, named)
        (folder / "model.safetensors").rename(weights)
        return what
    content = json.loads((folder / adapters.CONFIG).read_text())
    if rng.random() < 0.6:
        name = rng.choice(list(SETTINGS))
        content[name] = rng.choice(SETTINGS[name])
        put(folder / adapters.CONFIG, json.dumps(content))
        return f"{name} is {content[name]!r}"[:150]
    text, what = changed(content, rng, SETTINGS)
    put(folder / adapters.CONFIG, text)
    return what


def read_alone(folder: pathlib.Path) -> adapters.Adapter:
    """What labkit makes of a folder where there is no PEFT."""
    with mock.patch.object(adapters.precision, "need_packages"):
        return adapters.read(folder, merge=False, quantize=None)


def says(read: adapters.Adapter, folder: pathlib.Path) -> bool:
    """Whether that is what stands in the files."""
    stated, table = json.loads((folder / adapters.CONFIG).read_text()), parts(folder / adapters.WEIGHTS)[0]
    table.pop("__metadata__", None)
    same = {name: tensor.shape for name, tensor in read.tensors.items()}
    fields = {name: value for name, value in stated.items() if name in adapters.FIELDS and value not in (None, {}, [])}
    return same == {name: tuple(entry["shape"]) for name, entry in table.items()} and read.fields == fields


def computed(folder: pathlib.Path):
    """Logits of a lab from that folder, once the doctor has spoken."""
    import labkit as lk
    from labkit import doctor

    report = doctor.examine(folder, device="cpu")
    assert "stumbled" not in repr(report), repr(report)
    lab = lk.load(folder, device="cpu", dtype="float32")
    assert report.healthy, repr(report)
    return lab.trace(IDS, logits="all").logits


def theirs(folder: pathlib.Path, model):
    """What PEFT makes of it around the base."""
    import peft
    import torch

    from labkit.zoo import loading

    with loading.quiet(), torch.no_grad():
        return peft.PeftModel.from_pretrained(model, folder, low_cpu_mem_usage=False).eval()(IDS[None]).logits[0]


def written(folder: pathlib.Path, model) -> pathlib.Path:
    """The folder of an adapter of rank 3 at four kinds of modules, named as PEFT does, and of its base beside it."""
    import torch
    from safetensors.torch import save_file

    base, place, named = checkpoints.text_only(folder / "base", model), folder / "whole", {}
    kinds = ["q_proj", "o_proj", "out_proj", "down_proj"]
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.state_dict().items():
        if name.split(".")[-2] in kinds:
            out, width = weight.shape
            for part, shape in (("A", (3, width)), ("B", (out, 3))):
                key = f"base_model.model.{name.removesuffix('weight')}lora_{part}.weight"
                named[key] = torch.randn(shape, generator=generator) / width**0.5
    place.mkdir()
    save_file(named, place / adapters.WEIGHTS)
    facts = dict(peft_type="LORA", task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=kinds, bias="none")
    facts |= dict(base_model_name_or_path=str(base), inference_mode=True, lora_dropout=0.1, use_dora=False)
    facts |= dict(fan_in_fan_out=False, modules_to_save=None, rank_pattern={}, alpha_pattern={}, use_rslora=False)
    checkpoints.write_json(place / adapters.CONFIG, facts)
    return place


@attack("adapters", short=30, long=300)
def spoiling(tries, seed, folder):
    """Settings, headers, names and files of an adapter's folder."""
    import torch

    whole = written(folder, tiny.model())
    there = importlib.util.find_spec("peft") is not None
    before = computed(whole) if there else says(read_alone(whole), whole)

    def right(logits, copy):
        if torch.equal(logits, before):
            return True
        return bool(logits.isfinite().all()) and torch.equal(logits, theirs(copy, tiny.model()))

    for number in range(tries):
        rng, copy = random.Random(seed + number), folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        what = f"{seed + number}: {spoilt(copy, rng)}"
        call, answer = (computed, right) if there else (read_alone, says)
        yield tried(lambda: call(copy), lambda found: answer(found, copy), what)  # noqa: B023
