"""Reading a Spec from a configuration: a transformers config, its dict, a config.json or the folder of one.

Nothing is guessed: transformers fills a missing size with one model's, a missing rope_theta with 10,000,
both without a word, so here each of them is an error. (A transformers config object is already filled in.)
"""

import json
import pathlib
import re

from labkit.errors import CheckpointError, InputError
from labkit.families import ATTENTION, DELTANET, of_model_type
from labkit.rotary import scaling_of
from labkit.spec.anatomy import Spec

VISION = (
    "depth",
    "hidden_size",
    "intermediate_size",
    "num_heads",
    "in_channels",
    "out_hidden_size",
    "patch_size",
)
VISION += ("spatial_merge_size", "temporal_patch_size", "num_position_embeddings")


def read(source, *, name: str | None = None) -> Spec:
    """The Spec of a model of a family in `labkit.families`.

    Args:
        source: a transformers config (text or image-text), its dict, or the path of a config.json or folder.
        name: shown in titles; None takes the model's or folder's name, or else the model type.

    Raises:
        CheckpointError: no such file, or not JSON.
        InputError: another family, a missing field, or fields that contradict each other.
    """
    config, folder = _as_dict(source)
    if not isinstance(config, dict):
        raise InputError("not a configuration", got=type(source).__name__, expected="a config, a dict or a path")
    family = of_model_type(config.get("model_type"))
    images = config["model_type"] == family.model_types[0]
    text = config.get("text_config") if images else config
    if not isinstance(text, dict):
        raise InputError("an image-text configuration without its text part", got=text, expected="text_config")
    _require(text, ("num_hidden_layers", *family.sizes.values()))
    _refuse_variants(text)
    factor, theta, window = _rope(text, config)
    vision = config.get("vision_config") if images else None
    if vision is not None:
        _require(vision, VISION, "vision_config.")
    return Spec(
        name=name or _name(config, folder),
        family=family.name,
        kinds=_kinds(text, family.kinds),
        tied=_tied(config, text),
        rotary_dim=int(text["head_dim"] * factor),
        rope_theta=float(theta),
        eps=float(text.get("rms_norm_eps", 1e-6)),
        mtp_layers=text.get("mtp_num_hidden_layers") or 0,
        vision=None if vision is None else {key: vision[key] for key in VISION},
        dtype=_dtype(text) or _dtype(config),
        **{ours: text[theirs] for ours, theirs in family.sizes.items()} | {"window": window},
    )


def published() -> dict[str, pathlib.Path]:
    """`{name in lower case: file}` of the published sizes that come along: the sizes in their public config.json."""
    return {file.stem.lower(): file for file in sorted((pathlib.Path(__file__).parent / "published").glob("*.json"))}


def _as_dict(source):
    """The configuration as a dict, and the name of the folder it came from."""
    if isinstance(source, dict):
        return source, None
    if hasattr(source, "to_dict"):
        return source.to_dict(), None
    if not isinstance(source, str | pathlib.Path):
        return source, None
    path = pathlib.Path(source)
    if not path.exists():
        path = published().get(path.name.lower(), path)
    path = path / "config.json" if path.is_dir() else path
    sizes = ", ".join(file.stem for file in published().values())
    hint = f"sizes that come along: {sizes}; labkit.load(...) takes any hub id"
    try:
        return json.loads(path.read_text("utf-8")), path.parent if path.name == "config.json" else path.with_suffix("")
    except OSError:
        raise CheckpointError("no configuration there", got=str(path), expected="a config.json", hint=hint) from None
    except ValueError as error:
        raise CheckpointError(
            "the configuration is not JSON", got=f"{path}: {error}", expected="a JSON object"
        ) from None


def _name(config, folder):
    """Qwen3.6-27B from a hub id, a hub cache folder or a folder of that name; else the model type."""
    where = str(folder.resolve() if folder else config.get("_name_or_path") or "").replace("\\", "/").rstrip("/")
    cached = re.search(r"models--[^/]+--([^/]+)/snapshots/", where)
    return cached[1] if cached else where.rsplit("/", 1)[-1] or config["model_type"]


def _require(config, fields, where=""):
    odd = [where + field for field in fields if not isinstance(config.get(field, 0), int | None)]
    if odd:
        raise InputError("sizes must be whole numbers", got=f"{odd[0]} is {config[odd[0].split('.')[-1]]!r}")
    if missing := [where + field for field in fields if config.get(field) is None]:
        hint = "state every size; transformers would fill in those of another model without a word"
        raise InputError("the configuration lacks fields", got=f"no {', '.join(missing)}", hint=hint)


def _refuse_variants(text):
    """Options the config class knows, no published model uses, and which would falsify the numbers here."""
    if text.get("attention_bias"):
        raise InputError(
            "attention with biases is not part of this family", got="attention_bias true", expected="false"
        )
    if (act := text.get("hidden_act", "silu")) != "silu":
        raise InputError("another activation than the family's", got=f"hidden_act {act!r}", expected="silu")


def _kinds(text, kinds):
    """One kind per layer: from layer_types, else every full_attention_interval-th (4th) layer attends."""
    layers, types = text["num_hidden_layers"], text.get("layer_types")
    if types is None:
        every = text.get("full_attention_interval", 4)
        if not isinstance(every, int) or every < 1:
            raise InputError("full_attention_interval is not an interval", got=every, expected="at least 1")
        return tuple(DELTANET if (layer + 1) % every else ATTENTION for layer in range(layers))
    if len(types) != layers:
        got = f"{len(types)} layer_types, num_hidden_layers {layers}"
        raise InputError("the configuration contradicts itself", got=got, expected="one layer type per layer")
    if unknown := sorted(set(types) - set(kinds)):
        raise InputError("unknown kind of layer", got=unknown, expected=" or ".join(kinds))
    return tuple(kinds[kind] for kind in types)


def _tied(config, text):
    stated = {
        bool(part["tie_word_embeddings"]) for part in (config, text) if part.get("tie_word_embeddings") is not None
    }
    if len(stated) > 1:
        outer, inner = config["tie_word_embeddings"], text["tie_word_embeddings"]
        got = f"tie_word_embeddings {outer}, in text_config {inner}"
        raise InputError("the configuration contradicts itself", got=got, expected="the same in both")
    return stated == {True}


def _rope(text, config):
    """Share of rotated channels, base of the frequencies, and the window that was trained."""
    rope = text.get("rope_parameters")
    if rope is not None and text.get("rope_scaling"):
        hint = "drop rope_scaling; transformers would let it override rope_parameters"
        raise InputError("two rope settings", got="rope_parameters and rope_scaling", expected="one", hint=hint)
    if rope is None:  # the older form, which transformers reads too
        rope = {"rope_theta": text.get("rope_theta")} | (text.get("rope_scaling") or {})
        rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if not isinstance(rope, dict):
        raise InputError("rope_parameters is not a dict", got=repr(rope))
    if rope.get("rope_theta") is None:
        hint = "add rope_theta (published: 10,000,000); transformers would silently use 10,000"
        if config is not text and (config.get("rope_parameters") or config.get("rope_scaling")):
            hint = "rope_parameters stands beside text_config, where nothing reads it: move it into text_config"
        raise InputError(
            "rope_parameters has no rope_theta",
            got=sorted(rope) if text.get("rope_parameters") is not None else "no rope_parameters",
            expected="rope_theta inside rope_parameters",
            hint=hint,
        )
    window = scaling_of(rope).original or text["max_position_embeddings"]
    return rope.get("partial_rotary_factor", text.get("partial_rotary_factor", 0.25)), rope["rope_theta"], window


def _dtype(config):
    stated = config.get("dtype") or config.get("torch_dtype")
    return str(stated).removeprefix("torch.") if stated else None
