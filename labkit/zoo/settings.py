"""What transformers gets to see of a checkpoint's settings: values that were checked, and no others.

`labkit.spec` reads the sizes. Here are the rest of config.json, generation_config.json and a `quantization_config`.
"""

import dataclasses
import math
import pathlib
import re

from labkit import spec as specs
from labkit.errors import CheckpointError
from labkit.families import FAMILIES
from labkit.spec import Spec, documents
from labkit.spec.documents import shown

# Beside the fields of transformers' class, settings that it converts or that `labkit.spec` reads. All others, such as
# names of authors and labels of classifiers, take no part in a text model and are not handed on.
READ = (
    "head_dim",
    "partial_rotary_factor",
    "full_attention_interval",
    "rope_scaling",
    "rope_theta",
    "mtp_num_hidden_layers",
)
NOTES = ("architectures", "transformers_version", "model_type", "problem_type", "id2label", "label2id")
# A text model that is looked into has these values; another one changes what a pass returns.
FIXED = {"return_dict": True, "output_hidden_states": False, "output_attentions": False, "output_router_logits": False}
FIXED |= {"is_encoder_decoder": False, "chunk_size_feed_forward": 0, "mlp_only_layers": [], "pruned_heads": {}}
FIXED |= {"text_config": None, "vision_config": None}  # of a text part
IDS = ("pad_token_id", "bos_token_id", "eos_token_id")
CLASSES = 100_000  # of a classifier, in settings that are not used but by transformers' tokenizer
MODULE = re.compile(r"[\w.*\\^$-]{1,200}")  # a name or a simple pattern of modules that stay unpacked
RANGES = {  # of generation_config.json: type, least, most
    "temperature": (float, 0, 1e6),
    "top_k": (int, 0, 2**31),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "typical_p": (float, 0, 1),
    "repetition_penalty": (float, 1e-6, 1e6),
    "presence_penalty": (float, -1e6, 1e6),
    "frequency_penalty": (float, -1e6, 1e6),
    "no_repeat_ngram_size": (int, 0, 2**31),
    "max_length": (int, 1, 2**40),
    "max_new_tokens": (int, 1, 2**40),
    "min_length": (int, 0, 2**40),
    "min_new_tokens": (int, 0, 2**40),
    "do_sample": (bool, False, True),
}


def read_json(folder: pathlib.Path, file: str, absent: dict | None = None) -> dict:
    """A JSON object from a file of the folder; `absent` if it is not there.

    Raises:
        CheckpointError: not there and no `absent`, not a JSON object, or beyond the bounds of `labkit.spec.documents`.
    """
    if not (folder / file).is_file():
        if absent is None:
            raise CheckpointError(
                f"no {file} there",
                got=folder.name,
                expected="the folder of a checkpoint",
                hint="labkit.load() is nano",
            )
        return absent
    try:
        content = documents.read(folder / file)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}", got=error.strerror) from None
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON", got=str(error), hint="download the file again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is not a JSON object", got=type(content).__name__)
    return content


def refuse_code(folder: pathlib.Path, *, weights: bool = True) -> None:
    """Refuse a folder that wants to run its own code, or that sends transformers to another model.

    Args:
        weights: whether a model is to be loaded from it, and not its tokenizer alone.

    Raises:
        CheckpointError: names the file.
    """
    for file in ("config.json", "tokenizer_config.json"):
        if read_json(folder, file, {}).get("auto_map"):
            raise CheckpointError(
                "this checkpoint wants to run its own code (auto_map)",
                got=f"{folder.name}, {file}",
                expected="a model that transformers itself implements",
                hint="if transformers has its class, remove auto_map from its config.json and tokenizer_config.json",
            )
    if weights and (folder / "adapter_config.json").exists():
        raise CheckpointError(
            "an adapter lies beside the weights, and transformers would load the model that it names",
            got=f"{folder.name}, adapter_config.json",
            expected="a whole model, or an adapter alone",
            hint="move adapter_config.json and adapter_model.safetensors to a folder of their own, and load that one",
        )


def stored(config: dict) -> dict | None:
    """The `quantization_config` of weights that are stored packed, wherever it stands; None if they are plain.

    Raises:
        CheckpointError: not an object that names its method.
    """
    text = config.get("text_config")
    found = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    if isinstance(mlx := config.get("quantization"), dict) and "group_size" in mlx:
        found = mlx | {"quant_method": "mlx"}  # as MLX writes it, beside a copy that names no method
    if not found:
        return None
    what = "quantization_config does not say how weights are packed"
    if not isinstance(found, dict) or not isinstance(found.get("quant_method"), str):
        got = shown(found.get("quant_method") if isinstance(found, dict) else found)
        raise CheckpointError(what, got=got, expected="quant_method, the name of a method")
    for field in ("modules_to_not_convert", "llm_int8_skip_modules"):
        names = found.get(field) or []
        if not isinstance(names, list) or not all(isinstance(name, str) and MODULE.fullmatch(name) for name in names):
            raise CheckpointError(f"quantization_config.{field} is not a list of modules", got=shown(names))
    return found


def text_config(folder: pathlib.Path, spec: Spec, packed: dict | None = None):
    """transformers' config of the text model in a folder, also of an image-text layout.

    Args:
        packed: `quantization_config` of weights that are stored packed.

    Raises:
        CheckpointError: a setting of the wrong type, one that changes what a pass returns, or one that
            transformers refuses.
    """
    config, family = read_json(folder, "config.json"), FAMILIES[spec.family]
    for part in (config, config.get("text_config"), config.get("vision_config")):
        _check_labels(part if isinstance(part, dict) else {})
    text = specs.text_part(config, family)
    kind = family.model_class().config_class
    fields = {field.name for field in dataclasses.fields(kind)}
    for name in (name for name in text if name in FIXED):
        value = text[name]
        if value not in (None, FIXED[name]) or (isinstance(value, int) and type(value) is not type(FIXED[name])):
            _refuse(name, value, f"{FIXED[name]}, or nothing".lower())
    for name in (name for name in IDS if name in text):
        check_ids(name, text[name], spec, "config.json")
    given = fields.union(READ, getattr(kind, "attribute_map", {}).values(), family.stored_fields) - {
        *NOTES,
        *FIXED,
        "dtype",
        "tie_word_embeddings",
    }
    handed = {name: value for name, value in text.items() if name in given}
    try:
        made = kind(**handed, tie_word_embeddings=spec.tied, dtype=spec.dtype)
        theirs = specs.read(made)
    except Exception as error:  # transformers checks by decorators of its own, and converts what it has not checked
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            "transformers does not take this configuration", got=f"config.json: {reason[:300]}"
        ) from error
    if differing := [name for name in spec.differing(theirs) if name not in ("vision", "mtp_layers")]:
        got = ", ".join(f"{name} {shown(getattr(theirs, name))}" for name in differing)
        expected = ", ".join(f"{name} {shown(getattr(spec, name))}" for name in differing)
        raise CheckpointError("transformers reads another model from config.json", got=got, expected=expected)
    if packed:
        made.quantization_config = packed
    return made


def _check_labels(part):
    """They are of no use here, but transformers' tokenizer reads the configuration too and counts them."""
    count, named = part.get("num_labels"), [part.get(field) for field in ("id2label", "label2id")]
    if count is not None and (type(count) is not int or not 0 <= count <= CLASSES):
        _refuse("num_labels", count, f"a whole number of at most {CLASSES:,}")
    if odd := [value for value in named if value is not None and not isinstance(value, dict)]:
        _refuse("id2label or label2id", odd[0], "an object")


def _refuse(name, value, expected):
    hint, got = f"remove {name} from config.json", f"config.json: {name} is {shown(value)}"
    raise CheckpointError("a setting that a text model does not have", got=got, expected=expected, hint=hint)


def check_ids(name: str, value, spec: Spec, file: str) -> None:
    """Refuse a special token that is no token; None is none.

    Raises:
        CheckpointError: names the file and the field.
    """
    ids = value if isinstance(value, list) and name == "eos_token_id" else [] if value is None else [value]
    if not all(type(token) is int and 0 <= token < spec.vocab for token in ids):
        got = f"{file}: {name} is {shown(value)}"
        raise CheckpointError("a special token outside the vocabulary", got=got, expected=f"0 to {spec.vocab - 1}")


def generation_config(folder: pathlib.Path, spec: Spec):
    """transformers' `GenerationConfig` of a folder: the ids and settings of `RANGES`; the rest takes no part.

    Raises:
        CheckpointError: a value that is none of its setting's; names the field of generation_config.json.
    """
    from transformers import GenerationConfig

    file, followed = "generation_config.json", {}
    for name, value in read_json(folder, file, {}).items():
        if value is None or name not in (*IDS, *RANGES):
            continue
        if name in IDS:
            check_ids(name, value, spec, file)
        else:
            kind, least, most = RANGES[name]
            typed = type(value) is kind or (kind is float and type(value) is int)
            if not typed or not math.isfinite(value) or not least <= value <= most:
                got, expected = f"{file}: {name} is {shown(value)}", f"{kind.__name__}, {least} to {most}"
                raise CheckpointError("a setting of generation is out of range", got=got, expected=expected)
        followed[name] = value
    return GenerationConfig(**followed)
