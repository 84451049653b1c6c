"""Damaged and hostile checkpoint folders: a value of a JSON file, a byte of a header, a shard, a tokenizer.

A checkpoint that is still accepted must compute what it computed before the damage, or, where the changed value belongs
to the model, what transformers makes of the same folder; and its spec must say what the loaded model is.
"""

import functools
import json
import math
import os
import pathlib
import random
import re
import shutil

import checkpoints
import tiny

from tests.attacks import attack, tried

SMALL = dict(num_hidden_layers=2, layer_types=["linear_attention", "full_attention"], hidden_size=12)
TEXT = "ab ba<|im_end|> b"
HUGE = 10**400  # beyond every float


class Raw(str):
    """JSON text that stands in a document as it is."""


NESTED = {depth: Raw("[" * depth + "]" * depth) for depth in (3, 40, 5_000, 200_000)}
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 5, 7, 16, 211, 2**31, 2**63, -(2**63), 10**9, 10**30, HUGE, Raw("1" * 5_000)),
    *(0.5, 1.5, 2.0, 1e-300, 1e308, -0.0, -1e-6, Raw("1e999"), Raw("NaN"), Raw("Infinity"), Raw("-Infinity")),
    *("", "44", "1e-6", "float32", "full_attention", "../..", "\0", "\u202e", "x" * 100_000, Raw('"\\ud800"')),
    *([], [1], [None], ["full_attention"], ["full_attention"] * 2, ["a"] * 100_000, {}, {"": None}, {"a": {"b": []}}),
    *NESTED.values(),
)
EXTRA = {  # settings that configurations know and the small ones do not state
    "full_attention_interval": (2, 4),
    "rope_scaling": ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 5.0}, {"type": "linear", "factor": math.nan}),
    "rope_theta": (1000.0, "x"),
    "partial_rotary_factor": (0.25, 3.0),
    "torch_dtype": ("bfloat16", "int8"),
    "dtype": ("bfloat16", "complex64", {"": "float16"}),
    "quantization_config": ({"quant_method": "fp8"}, {"quant_method": ["fp8"]}, {"quant_method": "gptq"}, "fp8", [1]),
    "compression_config": ({"quant_method": "compressed-tensors"}, 3),
    "auto_map": ({"AutoConfig": "evil.Config"}, "x"),
    "text_config": ({}, 3),
    "vision_config": ({}, 3),
    "model_type": ("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "llama", ["qwen3_5_text"]),
    "mtp_num_hidden_layers": (1, 10**9, -3),
    "mlp_only_layers": ([0, 1],),
    "attn_implementation": ("flash_attention_2", 3),
    "_attn_implementation": ("eager", "nonsense"),
    "_experts_implementation": ("eager", "nonsense"),
    "id2label": ({"0": "a"}, 5),
    "num_labels": (10**9,),
    "pruned_heads": ({"0": [1]},),
    "is_encoder_decoder": (True,),
    "tie_word_embeddings": (True, "false"),
    "output_hidden_states": (True,),
    "return_dict": (False,),
    "architectures": (["LlamaForCausalLM"], "x"),
    "transformers_version": ("0.0.0", 3),
    "name_or_path": ("../../etc", 3),
    "sub_configs": ({"a": 1},),
}


def dumped(content) -> str:
    """JSON text; a `Raw` stands in it as it is."""
    raw = []

    def marked(value):
        if isinstance(value, Raw):
            raw.append(value)
            return f"@raw{len(raw) - 1}@"
        if isinstance(value, dict):
            return {key: marked(item) for key, item in value.items()}
        return [marked(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(marked(content))
    for index, value in enumerate(raw):
        text = text.replace(f'"@raw{index}@"', value)
    return text


def places(content, path=()):
    """Paths of all values below a JSON object, containers before what is in them."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(content: dict, rng: random.Random, extra=EXTRA) -> tuple[str, str]:
    """(JSON text with one or two values changed, what was changed)."""
    content, said = json.loads(json.dumps(content)), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        *above, key = rng.choice(list(places(content)))
        inside = functools.reduce(lambda part, step: part[step], above, content)
        how = rng.choice(("value", "value", "value", "drop", "extra", "near"))
        old = inside[key]
        if how == "drop":
            del inside[key]
        elif how == "extra" and extra:
            inside = rng.choice([part for part in (content, content.get("text_config")) if isinstance(part, dict)])
            key = rng.choice(list(extra))
            inside[key] = rng.choice(extra[key])
        elif how == "near" and isinstance(old, int | float) and not isinstance(old, bool):
            inside[key] = rng.choice((old + 1, old - 1, old * 2, -old, float(old), str(old)))
        else:
            inside[key] = rng.choice(VALUES)
        said.append(
            f"{how} {'.'.join(map(str, (*above, key)))} = {str(inside.get(key) if how != 'drop' else '')[:60]!r}"
            if isinstance(inside, dict)
            else f"{how} {'.'.join(map(str, (*above, key)))}"
        )
    text = dumped(content)
    if rng.random() < 0.12:
        text, more = garbled(text, rng)
        said.append(more)
    return text, ", ".join(said)


def garbled(text: str, rng: random.Random) -> tuple[str, str]:
    """JSON text that is damaged as text: cut, doubled keys, another encoding, something before or after it."""
    how = rng.choice(("cut", "flip", "twice", "bom", "after", "spaces", "empty", "list", "latin", "nul"))
    at = rng.randrange(max(1, len(text)))
    if how == "twice":
        key = rng.choice(re.findall(r'"(\w+)": ', text[:4000]) or ["a"])
        return text[:-1] + f", {json.dumps(key)}: {rng.choice(('3', 'null', '[]', '0.5'))}}}", f"{key} twice"
    made = {
        "cut": text[:at],
        "flip": text[:at] + chr(rng.randrange(1, 256)) + text[at + 1 :],
        "bom": "\ufeff" + text,
        "after": text + "}",
        "spaces": text + " " * 10**6,
        "empty": "",
        "list": f"[{text}]",
        "latin": text.replace("a", "\udcff", 1),
        "nul": text[:at] + "\0" + text[at:],
    }
    return made[how], f"{how} at {at}"


def put(path: pathlib.Path, text: str) -> None:
    """Write a file that may be a hard link; lone surrogates become bytes that are no UTF-8."""
    path.unlink(missing_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


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


def parts(path: pathlib.Path) -> tuple[dict, bytes]:
    """(header, numbers) of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_parts(path: pathlib.Path, text: str, numbers: bytes, length: int | None = None) -> None:
    """A safetensors file, its header as text; `length` is what it says of its header."""
    path.unlink(missing_ok=True)
    header = text.encode("utf-8", "surrogateescape")
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + numbers)


def damaged_entry(table: dict, rng: random.Random) -> str:
    """Change what a header says of one tensor."""
    name, other = rng.sample([name for name in table if name != "__metadata__"], 2)
    how = rng.choice(("dtype", "shape", "offsets", "swap", "drop", "rename", "same", "more", "notes", "value", "turn"))
    entry, start = table[name], table[name]["data_offsets"][0]
    if how == "dtype":
        entry["dtype"] = rng.choice(
            ("F16", "BF16", "F64", "I32", "U32", "F8_E4M3", "I8", "BOOL", "f32", "", None, 5, ["F32"])
        )
    elif how == "shape":
        entry["shape"] = rng.choice(
            ([2**62, 4], [-1, -1], [], None, [0], [1.5], "2", [1] * 1000, entry["shape"] + [1], [True])
        )
    elif how == "turn":
        entry["shape"] = entry["shape"][::-1]
    elif how == "offsets":
        end = entry["data_offsets"][1]
        entry["data_offsets"] = rng.choice(
            ([start - 4, end - 4], [start + 4, end + 4], [start, end + 4], [end, start], [2**63, 2**63 + 4], [0, 2**62])
            + ([start], [], None, "ab", [start, end, end], [float(start), end], [-4, 4], table[other]["data_offsets"])
        )
    elif how == "swap":
        entry["data_offsets"], table[other]["data_offsets"] = table[other]["data_offsets"], entry["data_offsets"]
    elif how == "drop":
        del table[name]
    elif how == "rename":
        table[
            rng.choice((name + "x", "", "mtp.x", "x" * 10_000, name.replace("model.", "model.language_model.", 1)))
        ] = table.pop(name)
    elif how == "same":
        table[name + "_scale"] = entry
    elif how == "more":
        table |= {f"mtp.{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(20_000)}
    elif how == "notes":
        table["__metadata__"] = rng.choice(
            (5, [], {"format": 5}, {"format": "tf"}, {"format": "x" * 10**6}, None, {"format": {}})
        )
    else:
        table[name] = rng.choice(VALUES)
    return f"{how} {name}"


@attack("checkpoint weights", short=24, long=700)
def weights(tries, seed, folder):
    """Bytes of safetensors headers, whole shards, and the index."""
    whole = [
        Original(folder / "one", checkpoints.text_only),
        Original(folder / "shards", checkpoints.image_text, shards=3),
        Original(folder / "experts", checkpoints.text_only, experts=True, apart=True, shards=2),
    ]

    def change(copy, rng):
        shards = sorted(copy.glob("*.safetensors"))
        path, index = rng.choice(shards), copy / "model.safetensors.index.json"
        table, numbers = parts(path)
        how = rng.choice(("entry", "entry", "entry", "length", "bytes", "cut", "text", "index", "index", "files"))
        if how == "entry":
            what = damaged_entry(table, rng)
            write_parts(path, dumped(table), numbers)
        elif how == "length":
            length = rng.choice((0, 1, 7, 2**31, 2**63, 2**64 - 1, len(numbers), 100_000_001))
            write_parts(path, dumped(table), numbers, length)
            what = f"length {length}"
        elif how == "bytes":
            data = bytearray(path.read_bytes())
            at = rng.randrange(len(data) - len(numbers))
            data[at] ^= 1 << rng.randrange(8)
            path.unlink()
            path.write_bytes(data)
            what = f"bit of byte {at}: {bytes(data[max(0, at - 20) : at + 20])!r}"
        elif how == "cut":
            at = rng.randrange(path.stat().st_size)
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data[:at] if rng.random() < 0.7 else data + data[:at])
            what = f"cut at {at}"
        elif how == "text":
            text, what = garbled(dumped(table), rng)
            write_parts(path, text, numbers)
        elif how == "index" and index.exists():
            content = json.loads(index.read_text())
            if rng.random() < 0.5:
                name = rng.choice(list(content["weight_map"]))
                value = rng.choice((*VALUES, "../x.safetensors", "/etc/passwd", ".", "..", path.name, "config.json"))
                content["weight_map"][name] = value
                text, what = dumped(content), f"{name} in {str(value)[:40]!r}"
            else:
                text, what = changed(content, rng, {})
            put(index, text)
        else:
            kind = rng.choice(("gone", "empty", "folder", "loop", "swap", "sparse"))
            what = f"{path.name} {kind}"
            if kind == "swap" and len(shards) > 1:
                path.rename(copy / "x")
                shards[shards.index(path) - 1].rename(path)
                (copy / "x").rename(shards[shards.index(path) - 1])
                return what
            path.unlink()
            if kind == "empty":
                path.touch()
            elif kind == "folder":
                path.mkdir()
            elif kind == "loop":
                path.symlink_to(path.name)
            elif kind == "sparse":
                with path.open("wb") as file:
                    file.write((90_000_000).to_bytes(8, "little"))
                    file.truncate(10**11)
        return f"{how}: {what}"

    yield from tries_on(whole, tries, seed, folder, change)


GENERATION = {  # settings of generation_config.json, and values beside `VALUES`
    "eos_token_id": (0, [1, 0], [], [10**9], -1, "1"),
    "pad_token_id": (0, 500, [1], "x"),
    "bos_token_id": (2, 10**9),
    "do_sample": (True, 1, "yes"),
    "temperature": (0.7, 0, -1, "hot"),
    "top_k": (20, 0, -1, 1.5),
    "top_p": (0.8, 7.0),
    "repetition_penalty": (1.5, 0, -1.0, "x"),
    "num_beams": (4, 0),
    "max_length": (1, 20, 10**30),
    "min_length": (5, -1),
    "min_new_tokens": (2,),
    "forced_eos_token_id": (1, 10**9),
    "suppress_tokens": ([3], [10**9]),
    "bad_words_ids": ([[3]], "x"),
    "stop_strings": ("ab", [5]),
    "guidance_scale": (2.0,),
    "cache_implementation": ("static", "nonsense"),
    "return_dict_in_generate": (True,),
    "max_time": (0.0,),
    "watermarking_config": ({"a": 1},),
    "assistant_early_exit": (1,),
    "use_cache": (False,),
    "penalty_alpha": (0.6,),
}
TOKENIZER = {  # settings of tokenizer_config.json
    "chat_template": (
        "{{ messages }}",
        5,
        [],
        ["x"],
        {"default": "x"},
        {"default": 5},
        [{"name": "a", "template": "x"}],
        "{%",
    ),
    "tokenizer_class": (
        "Qwen2Tokenizer",
        "Qwen2TokenizerFast",
        "Nonsense",
        "LlamaTokenizer",
        "BertTokenizer",
        5,
        "../x",
    ),
    "auto_map": ({"AutoTokenizer": ["evil.T", None]},),
    "model_max_length": (5, -1, 10**30, "x"),
    "added_tokens_decoder": (
        {"0": {"content": "<x>"}},
        {"500": {"content": "<y>", "special": True}},
        {"a": {}},
        5,
        {"-1": {"content": "z"}},
    ),
    "eos_token": ("<|im_end|>", "<new>", 5, {"content": "<q>"}, {"__type": "AddedToken", "content": "<r>"}),
    "additional_special_tokens": (["<s>", "<t>"], 5, [5]),
    "extra_special_tokens": ({"a": "<u>"}, ["<v>"], 5),
    "add_bos_token": (True,),
    "bos_token": ("a", "<bos>"),
    "clean_up_tokenization_spaces": (True, "x"),
    "add_prefix_space": (True, 3),
    "split_special_tokens": (True,),
    "padding_side": ("left", "up"),
    "fix_mistral_regex": (True,),
    "processor_class": ("X",),
    "tokenizer_file": ("/etc/passwd", "../x.json"),
    "vocab_file": ("/etc/passwd",),
    "is_local": (False,),
    "backend": ("sentencepiece", "x"),
    "name_or_path": ("/etc",),
}


def changed_tokenizer(content: dict, rng: random.Random) -> tuple[str, str]:
    """(JSON text of a tokenizer.json with something changed, what was changed)."""
    how = rng.choice(("any", "any", "id", "added", "merge", "normalizer", "splitter", "model", "post"))
    content = json.loads(json.dumps(content))
    vocabulary = content["model"]["vocab"]
    if how == "any":
        for part in (content, content["model"]):
            if rng.random() < 0.5:
                part[rng.choice(list(part))] = value = rng.choice(VALUES)
                return dumped(content), f"a part is {str(value)[:40]!r}"
        return changed(content, rng, {})
    if how == "id":
        vocabulary[rng.choice(list(vocabulary))] = value = rng.choice(
            (211, 10**6, 2**32 - 1, 2**32, -1, 5, 0, "5", None, 1.5)
        )
        return dumped(content), f"an id is {value}"
    if how == "added":
        token = dict(rng.choice(content["added_tokens"]))
        token |= {
            rng.choice(("id", "content", "special", "single_word", "rstrip")): rng.choice(
                (0, 211, 10**9, -1, "", "x", True, None, [])
            )
        }
        content["added_tokens"].append(token)
        return dumped(content), f"added {token}"
    if how == "merge":
        content["model"]["merges"] = merges = rng.choice(
            ([["a", "b"], ["a", "b"]], [["x", "y"]], ["a b"], ["ab"], [["a"]], [], [["ab", "ab"]], [[5, 6]])
        )
        return dumped(content), f"merges {merges}"
    nested = {"type": "Sequence", "normalizers": []}
    for _ in range(rng.choice((5, 200))):
        nested = {"type": "Sequence", "normalizers": [nested]}
    pieces = {
        "normalizer": (
            "normalizer",
            (
                {"type": "NFC"},
                {"type": "Lowercase"},
                {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"},
                {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
                {"type": "Replace", "pattern": {"String": ""}, "content": "b"},
                {"type": "Prepend", "prepend": "w9"},
                nested,
                {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
            ),
        ),
        "splitter": (
            "pre_tokenizer",
            (
                {"type": "Whitespace"},
                {"type": "Split", "pattern": {"Regex": "(x*)*y"}, "behavior": "Isolated", "invert": False},
                {"type": "Metaspace"},
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                {"type": "FixedLength", "length": 0},
            ),
        ),
        "model": (
            "model",
            (
                {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
                {
                    "type": "WordPiece",
                    "vocab": {"a": 0},
                    "unk_token": "b",
                    "continuing_subword_prefix": "#",
                    "max_input_chars_per_word": 2,
                },
                {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 5},
                {"type": "Unigram", "vocab": [], "unk_id": None},
                {"type": "BPE", "vocab": {}, "merges": []},
            ),
        ),
        "post": (
            "post_processor",
            (
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
                {
                    "type": "TemplateProcessing",
                    "single": [{"SpecialToken": {"id": "x", "type_id": 0}}],
                    "pair": [],
                    "special_tokens": {"x": {"id": "x", "ids": [10**6], "tokens": ["x"]}},
                },
            ),
        ),
    }
    part, values = pieces[how]
    content[part] = value = rng.choice(values)
    return dumped(content), f"{part} {str(value)[:90]}"


@attack("checkpoint companions", short=24, long=700)
def companions(tries, seed, folder):
    """tokenizer.json and what lies beside it, generation_config.json, chat templates, adapters, packed weights."""

    def change(copy, rng):
        how = rng.choice(
            (
                "tokenizer",
                "tokenizer",
                "tokenizer",
                "settings",
                "settings",
                "generation",
                "generation",
                "beside",
                "packed",
            )
        )
        if how == "tokenizer":
            path, text = copy / "tokenizer.json", None
            text, what = changed_tokenizer(json.loads(path.read_text()), rng)
        elif how in ("settings", "generation"):
            known, name = (
                (TOKENIZER, "tokenizer_config.json") if how == "settings" else (GENERATION, "generation_config.json")
            )
            path = copy / name
            content = json.loads(path.read_text()) if path.exists() else {}
            for key in rng.sample(list(known), rng.choice((1, 1, 2))):
                content[key] = rng.choice(known[key] if rng.random() < 0.8 else VALUES)
            text, what = dumped(content), str(content)[:120]
            if rng.random() < 0.1:
                text, what = garbled(text, rng)
        elif how == "packed":
            path = copy / "config.json"
            packed = {"quant_method": rng.choice(("fp8", "bitsandbytes", "torchao", "gptq", "", None, 5, ["fp8"]))}
            packed |= {
                rng.choice(
                    ("weight_block_size", "modules_to_not_convert", "load_in_4bit", "quant_type", "activation_scheme")
                ): rng.choice(VALUES)
            }
            text, what = dumped(json.loads(path.read_text()) | {"quantization_config": packed}), str(packed)[:100]
        else:
            name = rng.choice(
                (
                    "adapter_config.json",
                    "chat_template.jinja",
                    "special_tokens_map.json",
                    "added_tokens.json",
                    "vocab.json",
                    "merges.txt",
                    "chat_template.json",
                    "tokenizer.model",
                    "preprocessor_config.json",
                )
            )
            path, value = (
                copy / name,
                rng.choice(
                    (
                        *VALUES,
                        {"<z>": 300},
                        {"<z>": 7},
                        {"eos_token": "<zz>"},
                        {"base_model_name_or_path": "/etc"},
                        {"chat_template": 5},
                    )
                ),
            )
            text, what = dumped(value), f"{name} is {str(value)[:40]!r}"
        put(path, text)
        return f"{how}: {what}"

    whole = [Original(folder / "text", checkpoints.text_only), Original(folder / "images", checkpoints.image_text)]
    yield from tries_on(whole, tries, seed, folder, change)
