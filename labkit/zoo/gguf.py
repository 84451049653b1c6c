"""The .gguf route: transformers reads the file and unpacks every weight, so the model is a plain one with all
its seams.

That takes the memory of the unpacked model, not of the file. transformers can keep weights packed by kernels
fetched from the hub; then whole layers may be replaced, and seams inside them would be silent, so labkit does
not.
"""

import dataclasses
import math
import pathlib
import re

from labkit import spec as specs
from labkit.errors import CheckpointError, InputError
from labkit.families import FAMILIES, Family
from labkit.spec.anatomy import LAYERS
from labkit.spec.documents import shown
from labkit.zoo import files, gguf_header, loading, precision

ARCHITECTURES = {family.gguf: family for family in FAMILIES.values() if family.gguf}
SIZES = (
    "block_count",
    "context_length",
    "embedding_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "full_attention_interval",
    "ssm.conv_kernel",
    "ssm.state_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "ssm.inner_size",
    "rope.dimension_count",
)
OPTIONAL = ("nextn_predict_layers", "feed_forward_length", "expert_count", "expert_used_count")
OPTIONAL += ("expert_feed_forward_length", "expert_shared_feed_forward_length")
NUMBERS = ("attention.layer_norm_rms_epsilon", "rope.freq_base")
SECTIONS, TOKENS = "rope.dimension_sections", "tokenizer.ggml.tokens"
TOKEN_IDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "padding", "unknown"))
BLOCK = re.compile(r"blk\.(\d{1,9})\.")


def checked(path: pathlib.Path, *, place, dtype, quantize: str | None, small: bool = False) -> loading.Ready:
    """A `loading.Ready` .gguf file: of a known family, whole, with every tensor of the model.

    Raises:
        CheckpointError: not GGUF, truncated, another architecture, split, or lacking tensors.
        BackendError: missing packages. BudgetError: it would not fit unpacked.
    """
    if quantize:
        raise InputError(
            "a .gguf file is unpacked as it is",
            got=f"quantize={quantize!r}",
            hint="quantize a safetensors folder",
        )
    header, family = opened(path)
    precision.need_packages(("accelerate", "gguf"), "a .gguf file")
    try:
        from transformers import AutoConfig

        with loading.quiet():
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except Exception as error:  # the reader converts settings and stumbles in many ways
        raise CheckpointError(
            "cannot read this .gguf file",
            got=f"{path.name}: {type(error).__name__}: {error}",
            hint="download it again",
        ) from error
    spec = dataclasses.replace(specs.read(config, name=path.stem), dtype="bfloat16")
    chosen = precision.dtype_of(dtype, spec, place, small=small)
    precision.admit(spec, place, chosen, fixed=True)
    held, described = sum(math.prod(entry.shape) for entry in header.tensors), specs.parameters(spec)["text"]
    if described > 2 * held:  # names are told where a few tensors are missing
        got = f"{path.name}: {described:,} parameters in its settings, {held:,} numbers"
        raise CheckpointError("the settings describe another model than the file holds", got=got)
    _check_tensors(header, config, family)
    return loading.Ready(path.parent, config, spec, chosen, place, gguf=path.name)


def opened(path: pathlib.Path) -> tuple[gguf_header.Header, Family]:
    """The header of a whole file, its settings checked, and the family of its model.

    Raises:
        CheckpointError: not GGUF, a header that contradicts itself, truncated, or another architecture.
    """
    from transformers.integrations.gguf.dequant import GGML_BLOCK

    try:
        header = gguf_header.read(path, GGML_BLOCK)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "cannot read this .gguf file", got=f"{path.name}: {error}", hint="download it again"
        ) from None
    if (size := path.stat().st_size) < header.end:
        raise CheckpointError(
            "a weight file is truncated",
            got=f"{path.name}: {size:,} bytes",
            expected=f"{header.end:,} bytes",
            hint="download the file again",
        )
    return header, _check_settings(path, header)


def _check_settings(path, header):
    """The family; every setting that transformers builds a configuration from is there and of its type."""
    found = header.settings
    architecture = found.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise CheckpointError(
            "not a model of a family that labkit knows",
            got=f"{path.name}: architecture {shown(architecture)}",
            expected=", ".join(ARCHITECTURES),
        )
    if found.get("split.count", 1) not in (0, 1):
        raise CheckpointError("a split .gguf", got=path.name, expected="one file", hint="gguf-split --merge")

    def demand(name, right, expected):
        if not right:
            got = f"{path.name}: {name} is {shown(found[name])}" if name in found else f"{path.name}: no {name}"
            raise CheckpointError("a setting of this .gguf file is not what it must be", got=got, expected=expected)

    for field in (*SIZES, *(field for field in OPTIONAL if f"{architecture}.{field}" in found)):
        name, most = f"{architecture}.{field}", LAYERS if field in ("block_count", "nextn_predict_layers") else 2**40
        least = 0 if field in OPTIONAL else 1
        demand(name, _whole(found.get(name), least, most), f"a whole number from {least} to {most:,}")
    for field in NUMBERS:
        demand(f"{architecture}.{field}", type(found.get(f"{architecture}.{field}")) is float, "a floating number")
    name = f"{architecture}.{SECTIONS}"
    sections = found.get(name)
    demand(name, isinstance(sections, list) and all(_whole(width, 0, 2**31) for width in sections), "whole numbers")
    demand(TOKENS, _whole(found.get(TOKENS), 1, 2**31), "tokens")
    for name in (name for name in TOKEN_IDS if name in found):
        demand(name, _whole(found[name], 0, found[TOKENS] - 1), f"0 to {found[TOKENS] - 1}")
    layers = found[f"{architecture}.block_count"]
    named = {int(match[1]) for entry in header.tensors if (match := BLOCK.match(entry.name))}
    if named != set(range(layers)):
        last = ", ".join(map(str, sorted(named)[-3:]))
        got = f"{path.name}: {architecture}.block_count {layers}, the last blocks {last}"
        raise CheckpointError("the file contradicts itself", got=got, expected="tensors of every block")
    return ARCHITECTURES[architecture]


def _whole(value, least, most):
    return type(value) is int and least <= value <= most


def _check_tensors(header, config, family):
    """Refuse missing tensors and other sizes, by the names transformers' own conversion gives."""
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    from transformers.integrations.gguf.utils import get_gguf_conversion_mapping

    mapping = get_gguf_conversion_mapping(family.gguf, config)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    named = {}
    for entry in header.tensors:
        named.setdefault(rename_source_key(entry.name, renamings, converters)[0], []).append(entry.shape)
    expected = loading.shapes(config, family)
    may_lack = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if missing := sorted(set(expected) - set(named) - may_lack):
        raise CheckpointError(
            "the checkpoint lacks tensors",
            got=f"{len(missing)} of {len(expected)} absent: {files.listed(missing)}",
            hint="convert the model again",
        )
    for name in (name for name in expected if name in named):
        if _flat(_joined(named[name])) != _flat(expected[name]):
            got, wanted = (
                f"{name} {[list(shape) for shape in named[name]]}",
                f"{list(expected[name])}, from its settings",
            )
            raise CheckpointError("stored tensors do not have the model's shapes", got=got, expected=wanted)


def _joined(shapes):
    """The shape of pieces that are laid side by side along the second dimension, as experts' gates and ups are."""
    first, *rest = shapes
    if not rest:
        return first
    same = all(len(shape) == len(first) == 3 and (shape[0], shape[2]) == (first[0], first[2]) for shape in rest)
    return (first[0], sum(shape[1] for shape in shapes), first[2]) if same else ()


def _flat(shape):
    """A shape without dimensions of 1, which the format leaves out."""
    return [size for size in shape if size != 1]
