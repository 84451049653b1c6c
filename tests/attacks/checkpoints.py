"""Damaged and hostile checkpoint folders: a value of a JSON file, a byte of a header, a shard, a tokenizer.

A checkpoint that is still accepted must compute what it computed before the damage, or, where the changed value belongs
to the model, what transformers makes of the same folder; and its spec must say what the loaded model is.
"""

import json
import math
import os
import pathlib
import random
import shutil

import checkpoints
import tiny

from tests.attacks import attack, tried
from tests.attacks.json_damage import changed, put

SMALL = dict(num_hidden_layers=2, layer_types=["linear_attention", "full_attention"], hidden_size=12)
TEXT = "ab ba<|im_end|> b"


class Original:
    """A whole checkpoint, and what it computes."""

    def __init__(self, folder: pathlib.Path, write, *, experts=False, **options):
        sizes = SMALL if experts else SMALL | {"intermediate_size": 20}
        self.folder = write(folder, tiny.model(experts=experts, **sizes), **options)
        lab = self.lab()
        self.ids = tiny.ids(9)
        self.logits, self.encoded = lab.trace(self.ids, logits="all").logits, lab.encode(TEXT).tolist()
        self.generated = lab.generate(self.ids, max_new_tokens=3).ids.tolist()

    def lab(self, folder=None):
        import labkit as lk

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

    def right(self, found: dict) -> bool:
        """Whether that is the original, or what transformers makes of the folder, and finite."""
        import torch

        lab, folder = found["lab"], found["folder"]
        if not found["logits"].isfinite().all() or not told(lab):
            return False
        same = torch.equal(found["logits"], self.logits) and found["generated"] == self.generated
        if same and found["encoded"] == self.encoded:
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

    with loading.quiet():
        config = AutoConfig.from_pretrained(folder).get_text_config()
        made = type(lab.model).from_pretrained(folder, config=config, dtype="float32")
        return made.eval(), AutoTokenizer.from_pretrained(folder)


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
        sizes = FAMILIES[found.family].sizes
        same = all(type(text[theirs]) is int and text[theirs] == getattr(found, ours) for ours, theirs in sizes.items())
        layers = text["num_hidden_layers"] == found.layers and text.get("rms_norm_eps", 1e-6) == found.eps
        theta = (text.get("rope_parameters") or text)["rope_theta"] == found.rope_theta
        without = () if found.attention_layers else ("equal tokens", "snapshot tokens")  # infinite without a KV cache
        counts = [number for name, number in numbers.items() if name not in without]
        return same and layers and theta and len(counts) > 10 and all(n >= 0 and math.isfinite(n) for n in counts)

    for number in range(tries):
        rng = random.Random(seed + number)
        text, what = changed(rng.choice(published), rng)
        put(folder / "config.json", text)
        yield tried(lambda: call(folder / "config.json"), right, f"{seed + number}: {what}", seconds=5, memory=2**28)
