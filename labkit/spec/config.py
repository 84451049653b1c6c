"""Reading a Spec from a configuration: a transformers config, its dict, a config.json or the folder of one.

Nothing is guessed: transformers fills a missing size with one model's, a missing rope_theta with 10,000,
both without a word, so here each of them is an error. (A transformers config object is already filled in.)
"""

import math
import pathlib
import re

from labkit.errors import CheckpointError, InputError
from labkit.families import ATTENTION, DELTANET, Family, of_model_type
from labkit.rotary import scaling_of
from labkit.spec import documents
from labkit.spec.anatomy import LAYERS, Spec
from labkit.spec.documents import shown

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
DENSE = ("mlp_only_layers", "decoder_sparse_step")  # of layers without experts
GROUPS = ("n_group", "num_expert_group", "topk_group")  # of experts, of which a router chooses some first
LARGEST = 2**40  # of any one size
ROPE = ("rope_parameters", "rope_scaling", "rope_theta")
BESIDE = (*ROPE, "partial_rotary_factor", "max_position_embeddings")  # of a text model, where people write them too
DTYPE = re.compile(r"[a-z]\w{2,20}")
ROPE_NUMBERS = ("rope_theta", "factor", "attention_factor", "original_max_position_embeddings", "partial_rotary_factor")
ROPE_NUMBERS += ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")


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
    family = of_model_type(config.get("model_type") if isinstance(config.get("model_type"), str) else None)
    text = text_part(config, family)
    images = text is not config
    if images and text.get("model_type", family.model_types[-1]) != family.model_types[-1]:
        got = f"model_type {config['model_type']}, in text_config {shown(text['model_type'])}"
        raise InputError("the configuration contradicts itself", got=got, expected=family.model_types[-1])
    text = family.settled(text)
    _require(text, ("num_hidden_layers", *family.sizes.values()))
    _refuse_variants(text)
    more = family.derived(text)
    _require(more, tuple(more))
    sizes = {ours: text[theirs] for ours, theirs in family.sizes.items()} | more
    factor, theta, window = _rope(text, family)
    vision = config.get("vision_config") if images else None
    if vision is not None:
        if not isinstance(vision, dict):
            raise InputError("vision_config is not an object", got=shown(vision), expected="the image tower's sizes")
        _require(vision, VISION, "vision_config.", least=1)
    return Spec(
        name=name or _name(config, folder),
        family=family.name,
        kinds=_kinds(text, family.kinds),
        tied=_tied(config, text),
        rotary_dim=int(sizes["head_dim"] * factor),
        rope_theta=float(theta),
        eps=_number(text, "rms_norm_eps", 1e-6),
        mtp_layers=_count(text, "mtp_num_hidden_layers"),
        vision=None if vision is None else {key: vision[key] for key in VISION},
        dtype=_dtype(text) or _dtype(config),
        **sizes | {"window": window},
    )


def text_part(config: dict, family: Family) -> dict:
    """The text model's part of a `config` of a `family`, with the rope settings that stand beside `text_config`.

    Nothing of transformers reads those, but people write them there; they count where the text part has none.

    Raises:
        InputError: no text part, or rope settings beside it that say something else.
    """
    text = family.text_part(config)
    if text is config:
        return config
    if not isinstance(text, dict):
        got = f"text_config {shown(text)}"
        raise InputError("an image-text configuration without its text part", got=got, expected="text_config")
    beside = {name: config[name] for name in BESIDE if config.get(name) is not None}
    if not any(text.get(name) for name in ROPE):
        return beside | text
    rope = text.get("rope_parameters")
    stated = (rope if isinstance(rope, dict) else {}) | text
    if other := [name for name, value in beside.items() if stated.get(name) != value]:
        hint = f"keep the one in text_config, and remove {' and '.join(other)} beside it"
        got = ", ".join(f"{name} {shown(config[name])} beside text_config" for name in other)
        expected = ", ".join(f"{name} {shown(stated[name])}" for name in BESIDE if stated.get(name) is not None)
        raise InputError("two rope settings", got=got, expected=expected, hint=hint)
    return text


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
    sizes = ", ".join(file.stem for file in published().values())
    hint = f"sizes that come along: {sizes}; labkit.load(...) takes any hub id"
    try:
        if not path.exists():
            path = published().get(path.name.lower(), path)
        path = path / "config.json" if path.is_dir() else path
        return documents.read(path), path.parent if path.name == "config.json" else path.with_suffix("")
    except OSError:
        got = str(path)[:300]
        raise CheckpointError("no configuration there", got=got, expected="a config.json", hint=hint) from None
    except ValueError as error:
        raise CheckpointError(
            "the configuration is not JSON", got=f"{path}: {error}", expected="a JSON object"
        ) from None


def _name(config, folder):
    """Qwen3.6-27B from a hub id, a hub cache folder or a folder of that name; else the model type."""
    where = str(folder.resolve() if folder else config.get("_name_or_path") or "").replace("\\", "/").rstrip("/")
    cached = re.search(r"models--[^/]+--([^/]+)/snapshots/", where)
    return cached[1] if cached else where.rsplit("/", 1)[-1] or config["model_type"]


def _require(config, fields, where="", least=0):
    for field in fields:
        value = config.get(field, 1)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError("sizes must be whole numbers", got=f"{where}{field} is {shown(value)}")
        if value is not None and not least <= value <= LARGEST:
            expected = f"a whole number from {least} to {LARGEST:,}"
            raise InputError("not a size", got=f"{where}{field} is {shown(value)}", expected=expected)
    if missing := [where + field for field in fields if config.get(field) is None]:
        hint = "state every size; transformers would fill in those of another model without a word"
        raise InputError("the configuration lacks fields", got=f"no {', '.join(missing)}", hint=hint)


def _number(config, field, default):
    """A finite number; JSON knows no other, a dict does."""
    value = config.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{field} is not a number", got=shown(value), expected="a finite number")
    return float(value)


def _count(config, field):
    value = config.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LAYERS):
        raise InputError(f"{field} is not a count", got=shown(value), expected=f"a whole number from 0 to {LAYERS:,}")
    return value or 0


def _refuse_variants(text):
    """Options the config class knows, no published model uses, and which would falsify the numbers here."""
    if _flag(text, "attention_bias"):
        what = "attention with biases is not part of this family"
        raise InputError(what, got="attention_bias true", expected="false")
    if _flag(text, "norm_topk_prob") is False:
        what = "a router whose weights are not divided by their sum is not part of this family"
        raise InputError(what, got="norm_topk_prob false", expected="true")
    if text.get("mlp_only_layers") or text.get("decoder_sparse_step", 1) != 1:
        got = " and ".join(f"{name} {shown(text[name])}" for name in DENSE if name in text)
        raise InputError("layers without experts among others are not part of this family", got=got, expected="none")
    if groups := [name for name in GROUPS if name in text and (text[name] != 1 or isinstance(text[name], bool))]:
        got = ", ".join(f"{name} {shown(text[name])}" for name in groups)
        raise InputError("experts chosen by groups are not part of this family", got=got, expected="1")
    if (act := text.get("hidden_act", "silu")) != "silu":
        raise InputError("another activation than the family's", got=f"hidden_act {shown(act)}", expected="silu")
    if _flag(text, "attn_output_gate") is False:
        what = "attention without output gates is not part of this family"
        raise InputError(what, got="attn_output_gate false", expected="true")


def _kinds(text, kinds):
    """One kind per layer: from layer_types, else every full_attention_interval-th (4th) layer attends."""
    layers, types = text["num_hidden_layers"], text.get("layer_types")
    if layers > LAYERS:
        raise InputError(
            "more layers than a model has", got=f"num_hidden_layers {layers:,}", expected=f"at most {LAYERS:,}"
        )
    if types is not None and not (isinstance(types, list | tuple) and all(isinstance(kind, str) for kind in types)):
        raise InputError("layer_types is not a list of kinds", got=shown(types), expected=" or ".join(kinds))
    if types is None:
        every = text.get("full_attention_interval", 4)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputError("full_attention_interval is not an interval", got=shown(every), expected="at least 1")
        return tuple(DELTANET if (layer + 1) % every else ATTENTION for layer in range(layers))
    if len(types) != layers:
        got = f"{len(types)} layer_types, num_hidden_layers {layers}"
        raise InputError("the configuration contradicts itself", got=got, expected="one layer type per layer")
    if unknown := sorted(set(types) - set(kinds)):
        raise InputError("unknown kind of layer", got=shown(unknown), expected=" or ".join(kinds))
    return tuple(kinds[kind] for kind in types)


def _tied(config, text):
    stated = {part["tie_word_embeddings"] for part in (config, text) if _flag(part, "tie_word_embeddings") is not None}
    if len(stated) > 1:
        outer, inner = config["tie_word_embeddings"], text["tie_word_embeddings"]
        got = f"tie_word_embeddings {outer}, in text_config {inner}"
        raise InputError("the configuration contradicts itself", got=got, expected="the same in both")
    return stated == {True}


def _rope(text, family):
    """Share of rotated channels, base of the frequencies (0 where nothing is), and the window that was trained."""
    if not family.rotated:
        return 0.0, 0.0, text[family.sizes["window"]]
    rope = text.get("rope_parameters")
    if rope is not None and text.get("rope_scaling"):
        hint = "drop rope_scaling; transformers would let it override rope_parameters"
        raise InputError("two rope settings", got="rope_parameters and rope_scaling", expected="one", hint=hint)
    if rope is None:  # the older form, which transformers reads too
        older = text.get("rope_scaling") or {}
        rope = {"rope_theta": text.get("rope_theta")} | older if isinstance(older, dict) else older
    if not isinstance(rope, dict):
        raise InputError("rope_parameters is not a dict", got=shown(rope))
    _check_rope(rope)
    rope = {"rope_type": rope.get("type", "default")} | rope
    if rope["rope_type"] == "default" and rope.get("factor") not in (None, 1):
        got, hint = f"factor {shown(rope['factor'])}, no rope_type", 'add rope_type: "yarn", or remove factor'
        raise InputError("a factor without the kind of scaling", got=got, expected="rope_type", hint=hint)
    if rope.get("rope_theta") is None:
        if family.unrotated and "rope_theta" in (text.get("rope_parameters") or text):
            return 0.0, 0.0, text["max_position_embeddings"]
        hint = "add rope_theta (published: 10,000,000); transformers would silently use 10,000"
        raise InputError(
            "rope_parameters has no rope_theta",
            got=sorted(rope) if text.get("rope_parameters") is not None else "no rope_parameters",
            expected="rope_theta inside rope_parameters",
            hint=hint,
        )
    window = scaling_of(rope).original or text["max_position_embeddings"]
    share = "partial_rotary_factor"
    factor = 1.0 if family.rotated == 1 else _number(rope if share in rope else text, share, family.rotated)
    if not 0 < factor <= 1:
        raise InputError(f"{share} is not a share", got=factor, expected="above 0, at most 1")
    return factor, _number(rope, "rope_theta", None), window


def _check_rope(rope):
    """Types and ranges of everything below `rope_parameters` that transformers reads."""
    for field in ROPE_NUMBERS:
        if rope.get(field) is not None:
            _number(rope, field, None)
    for field in ("rope_type", "type"):
        if field in rope and not (isinstance(rope[field], str) and rope[field]):
            raise InputError(
                f"{field} is not the name of a rotary scaling", got=shown(rope[field]), expected='"default"'
            )
    for field in ("truncate", "mrope_interleaved"):
        _flag(rope, field)
    if (original := rope.get("original_max_position_embeddings")) is not None and original > LARGEST:
        got = f"original_max_position_embeddings {shown(original)}"
        raise InputError("not a window", got=got, expected=f"at most {LARGEST:,}")
    sections = rope.get("mrope_section", [1, 1, 1])
    whole = isinstance(sections, list | tuple) and len(sections) == 3
    if not (whole and all(type(width) is int and 0 <= width <= LARGEST for width in sections)):
        raise InputError("mrope_section is not three widths", got=shown(sections), expected="three whole numbers")


def _flag(config, field):
    value = config.get(field)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{field} is neither true nor false", got=shown(value), expected="true or false")
    return value


def _dtype(config):
    stated = config.get("dtype") or config.get("torch_dtype")
    if stated is None:
        return None
    name = str(stated).removeprefix("torch.")
    if isinstance(stated, list | dict | int | float) or not DTYPE.fullmatch(name):
        raise InputError("not the name of a dtype", got=f"dtype {shown(stated)}", expected='"bfloat16", say')
    return name
