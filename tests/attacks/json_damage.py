"""JSON with values of other types and sizes in it, or damaged as text; configurations first of all."""

import functools
import json
import math
import pathlib
import random
import re

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
    "model_type": ("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next", "llama", ["qwen3_5_text"]),
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
