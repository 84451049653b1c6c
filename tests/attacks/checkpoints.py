"""Damaged and hostile checkpoint folders: a value of a JSON file, a byte of a header, a shard, a tokenizer.

A checkpoint that is still accepted must compute what it computed before the damage, or, where the changed value belongs
to the model, what transformers makes of the same folder; and its spec must say what the loaded model is.
"""

import json
import math
import os
import pathlib
import random
import re
import shutil
import warnings

import checkpoints
import tiny

from tests.attacks import attack, tried
from tests.attacks.json_damage import changed, put

SMALL = dict(num_hidden_layers=2, layer_types=["linear_attention", "full_attention"], hidden_size=12)
TEXT = "ab ba<|im_end|> b"


class Original:
    """A whole checkpoint, and what it computes."""

    def __init__(self, folder: pathlib.Path, write, *, experts=False, tied=False, **options):
        sizes = SMALL if experts else SMALL | {"intermediate_size": 20}
        self.folder = write(folder, tiny.model(experts=experts, tie_word_embeddings=tied, **sizes), **options)
        lab = self.lab()
        self.ids = tiny.ids(9)
        self.logits, self.encoded = lab.trace(self.ids, logits="all").logits, lab.encode(TEXT).tolist()
        self.generated = lab.generate(self.ids, max_new_tokens=3).ids.tolist()

    def lab(self, folder=None):
        import labkit as lk

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is noted is no error
            return lk.load(folder or self.folder, device="cpu", dtype="float32")

    def copy(self, place: pathlib.Path) -> pathlib.Path:
        """A folder of hard links."""
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self.folder, place, copy_function=os.link)

    def computed(self, folder: pathlib.Path) -> dict:
        """What a lab from that folder says: `spec`, `model`, `logits`, `encoded`, `generated`."""
        lab = self.lab(folder)
        return dict(
            lab=lab,
            folder=folder,
            logits=lab.trace(self.ids, logits="all").logits,
            encoded=lab.encode(TEXT).tolist(),
            generated=lab.generate(self.ids, max_new_tokens=3).ids.tolist(),
        )

    def same(self, found: dict) -> bool:
        """Whether that is the original, bit for bit."""
        import torch

        same = torch.equal(found["logits"], self.logits) and found["generated"] == self.generated
        return same and told(found["lab"]) and found["encoded"] == self.encoded

    def right(self, found: dict) -> bool:
        """Whether that is the original, or what transformers makes of the folder, and finite."""
        import torch

        lab, folder = found["lab"], found["folder"]
        if not found["logits"].isfinite().all() or not told(lab):
            return False
        if self.same(found):
            return True
        theirs, tokens = plain(folder, lab)
        with torch.no_grad():
            expected = theirs(self.ids[None]).logits[0]
        got = tokens(TEXT, add_special_tokens=False)["input_ids"]
        greedy = theirs.generate(self.ids[None], max_new_tokens=3, do_sample=False, eos_token_id=[0, 1], pad_token_id=0)
        return (
            torch.equal(found["logits"], expected)
            and found["encoded"] == got
            and found["generated"] == greedy[0].tolist()
        )


def plain(folder, lab):
    """transformers' own model and tokenizer of a folder."""
    from transformers import AutoConfig, AutoTokenizer

    from labkit.zoo import loading

    content = json.loads((folder / "config.json").read_text())
    text = content.get("text_config")
    if isinstance(text, dict) and not any(text.get(name) for name in ("rope_parameters", "rope_scaling", "rope_theta")):
        put(folder / "config.json", json.dumps(content | {"text_config": content | text}))  # what stands beside it
    with loading.quiet():
        config = AutoConfig.from_pretrained(folder).get_text_config()
        made = type(lab.model).from_pretrained(folder, config=config, dtype="float32")
        return made.eval(), AutoTokenizer.from_pretrained(folder, config=config)


def told(lab) -> bool:
    """Whether the spec says what the modules of the model are."""
    import torch

    from labkit import rotary

    spec, stack, head = lab.spec, lab.model.model, lab.model.lm_head
    kinds = tuple("deltanet" if hasattr(layer, "linear_attn") else "attention" for layer in stack.layers)
    said = (spec.vocab, spec.hidden, spec.layers, spec.kinds, spec.eps, spec.tied, spec.window)
    real = (*head.weight.shape, len(stack.layers), kinds, stack.norm.eps)
    real += (head.weight is stack.embed_tokens.weight, stack.config.max_position_embeddings)
    for layer, block in enumerate(stack.layers):
        if spec.experts:
            said += (spec.active_experts, spec.experts)
            real += (block.mlp.gate.top_k, len(block.mlp.gate.weight))
        if spec.kind(layer) == "attention":
            said += (spec.query_heads * spec.head_dim, spec.kv_heads * spec.head_dim, spec.head_dim)
            real += (block.self_attn.o_proj.in_features, block.self_attn.k_proj.out_features, block.self_attn.head_dim)
        else:
            said += (spec.key_heads, spec.value_heads, spec.dk, spec.dv, spec.conv)
            own = block.linear_attn
            real += (own.num_k_heads, own.num_v_heads, own.head_k_dim, own.head_v_dim, own.conv_kernel_size)
    scaling = rotary.scaling_of(stack.config)
    turns = rotary.frequencies(scaling, **rotary.constants(spec))
    return said == real and torch.equal(turns, stack.rotary_emb.inv_freq)


def originals(folder: pathlib.Path) -> list[Original]:
    """The layouts that configurations are changed in."""
    return [
        Original(folder / "text", checkpoints.text_only),
        Original(folder / "images", checkpoints.image_text, experts=True),
    ]


def tries_on(whole: list[Original], tries: int, seed: int, folder: pathlib.Path, change):
    """One outcome per try: `change(copy of a checkpoint, rng)` returns what it did."""
    for number in range(tries):
        rng, original = random.Random(seed + number), whole[number % len(whole)]
        copy = original.copy(folder / "copy")
        what = f"{seed + number}: {change(copy, rng)}"
        yield tried(lambda: original.computed(copy), original.right, what)  # noqa: B023


@attack("checkpoint configurations", short=24, long=700)
def configurations(tries, seed, folder):
    """Values of config.json."""

    def change(copy, rng):
        text, what = changed(json.loads((copy / "config.json").read_text()), rng)
        put(copy / "config.json", text)
        return what

    yield from tries_on(originals(folder), tries, seed, folder, change)


PREFIXES = ("module.", "_orig_mod.", "base_model.model.", "model.", "language_model.", "student.", "a.b.", "mtp.", ".")
INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "language_model.", "base_layer.", "x.")


def misnamed(named: dict, rng: random.Random) -> tuple[dict, str]:
    """(tensors of a checkpoint by other names, what was done to them)."""
    how = rng.choice(
        ("all", "all", "twice", "some", "one", "text", "inside", "inside all", "copy", "more", "less", "bare")
    )
    prefix, inner, one = rng.choice(PREFIXES), rng.choice(INSIDE), rng.choice(sorted(named))
    at = rng.choice([match.end() for match in re.finditer(r"\.", one)])
    chosen = {
        "all": lambda name: prefix + name,
        "twice": lambda name: prefix + rng_prefix + name,
        "some": lambda name: prefix * kept[name] + name,
        "one": lambda name: prefix * (name == one) + name,
        "text": lambda name: name if name.startswith(("lm_head", "mtp", "model.visual")) else prefix + name,
        "inside": lambda name: name[:at] + inner + name[at:] if name == one else name,
        "inside all": lambda name: name.replace(".layers.", f".{inner}layers.") if "visual" not in name else name,
        "bare": lambda name: name.removeprefix("model."),
    }
    rng_prefix, kept = rng.choice(PREFIXES), {name: rng.random() < 0.5 for name in named}
    if how == "copy":  # the model stands there twice, whole or in part
        twice = {
            f"{prefix}{name}": weight.clone() for name, weight in named.items() if kept[name] or rng.random() < 0.5
        }
        return named | twice, f"copies under {prefix}"
    if how == "more":
        extra = rng.choice(("model.embed_tokens.weight", "lm_head.weight", "layers.0.lora_A.default.weight"))
        return {prefix + name: w for name, w in named.items()} | {
            f"{inner}{extra}": named[one].clone()
        }, f"{inner}{extra}"
    if how == "less":
        return {prefix + name: weight for name, weight in named.items() if name != one}, f"{prefix} without {one}"
    made = {chosen[how](name): weight for name, weight in named.items()}
    return made, f"{how} {prefix} {rng_prefix if how == 'twice' else ''} {inner} {one}"


@attack("checkpoint names", short=24, long=400)
def names(tries, seed, folder):
    """Names of tensors with something before or within them; what is taken is the model as it was."""
    from safetensors.torch import load_file

    whole = [
        Original(folder / "text", checkpoints.text_only),
        Original(folder / "images", checkpoints.image_text),
        Original(folder / "experts", checkpoints.image_text, experts=True, apart=True),
        Original(folder / "tied", checkpoints.text_only, tied=True),
    ]

    def change(copy, rng):
        path = copy / "model.safetensors"
        named, what = misnamed(load_file(path), rng)
        path.unlink()
        checkpoints.write_tensors(copy, named)
        return what

    for number in range(tries):
        rng, original = random.Random(seed + number), whole[number % len(whole)]
        copy = original.copy(folder / "copy")
        what = f"{seed + number}: {change(copy, rng)}"
        yield tried(lambda: original.computed(copy), original.same, what)  # noqa: B023


@attack("checkpoints under the doctor", short=16, long=300)
def doctored(tries, seed, folder):
    """Configurations and names; what the doctor says of a folder is what loading it comes to."""
    from safetensors.torch import load_file

    from labkit import doctor
    from labkit.errors import LabError

    whole = originals(folder)

    def call(original, copy):
        report = doctor.examine(copy, device="cpu")
        try:
            original.lab(copy)
            return report, True
        except LabError:
            return report, False

    def right(result):
        report, loaded = result
        last = report["loads"]
        taken = last.status != "fail" and "labkit.load takes it" in last.detail
        return taken == loaded and "stumbled" not in repr(report) and (report.healthy or not loaded)

    for number in range(tries):
        rng, original = random.Random(seed + number), whole[number // 2 % len(whole)]
        copy = original.copy(folder / "copy")
        if number % 2:
            text, what = changed(json.loads((copy / "config.json").read_text()), rng)
            put(copy / "config.json", text)
        else:
            named, what = misnamed(load_file(copy / "model.safetensors"), rng)
            (copy / "model.safetensors").unlink()
            checkpoints.write_tensors(copy, named)
        yield tried(lambda: call(original, copy), right, f"{seed + number}: {what}")  # noqa: B023


@attack("configurations alone", short=60, long=1500)
def alone(tries, seed, folder):
    """A configuration without weights, its card and its plan on the command line."""
    import contextlib
    import io

    from labkit import __main__, spec
    from labkit.errors import InputError
    from labkit.families import FAMILIES
    from labkit.spec import config

    published = [json.loads(path.read_text()) for path in config.published().values()]

    def call(path):
        found = spec.read(path)
        assert all((found.title, repr(found), found._repr_html_()))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            status = __main__.main(["plan", str(path)])
        if status:
            raise InputError(said.getvalue())
        return found, found.card(tokens=1000).numbers, json.loads(path.read_text())

    def right(result):
        """Every size is the whole number in the file, every number of the card finite and none negative."""
        found, numbers, stated = result
        text = stated.get("text_config", stated)
        family = FAMILIES[found.family]
        text, sizes = family.settled(text), family.sizes
        same = all(type(text[theirs]) is int and text[theirs] == getattr(found, ours) for ours, theirs in sizes.items())
        layers = text["num_hidden_layers"] == found.layers and text.get("rms_norm_eps", 1e-6) == found.eps
        theta = found.rope_theta in (0, (text.get("rope_parameters") or text).get("rope_theta"))
        without = () if found.attention_layers else ("equal tokens", "snapshot tokens")  # infinite without a KV cache
        counts = [number for name, number in numbers.items() if name not in without]
        return same and layers and theta and len(counts) > 10 and all(n >= 0 and math.isfinite(n) for n in counts)

    for number in range(tries):
        rng = random.Random(seed + number)
        text, what = changed(rng.choice(published), rng)
        put(folder / "config.json", text)
        yield tried(lambda: call(folder / "config.json"), right, f"{seed + number}: {what}", seconds=5, memory=2**28)
