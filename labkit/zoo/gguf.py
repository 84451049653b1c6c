"""The .gguf route: transformers reads the file and unpacks every weight, so the model is a plain one with all
its seams.

That takes the memory of the unpacked model, not of the file. transformers can keep weights packed by kernels
fetched from the hub; then whole layers may be replaced, and seams inside them would be silent, so labkit does
not.
"""

import dataclasses
import pathlib

from labkit import spec as specs
from labkit.errors import CheckpointError, InputError
from labkit.families import FAMILIES
from labkit.zoo import files, loading, precision

ARCHITECTURES = {family.gguf: family for family in FAMILIES.values() if family.gguf}


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
    precision.need_packages(("accelerate", "gguf"), "a .gguf file")
    from transformers.integrations.gguf import reader

    try:
        metadata, _ = reader.read_gguf_metadata(str(path))
        architecture = metadata["general.architecture"]
        if architecture not in ARCHITECTURES:
            raise CheckpointError(
                "not a model of a family that labkit knows",
                got=f"{path.name}: architecture {architecture!r}",
                expected=", ".join(ARCHITECTURES),
            )
        if metadata.get("split.count", 1) > 1:
            raise CheckpointError("a split .gguf", got=path.name, expected="one file", hint="gguf-split --merge")
        header = reader.GgufHeader.from_file(str(path))
        from transformers import AutoConfig

        with loading.quiet():
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # the reader walks raw bytes and stumbles in many ways
        raise CheckpointError(
            "cannot read this .gguf file",
            got=f"{path.name}: {type(error).__name__}: {error}",
            hint="download it again",
        ) from error
    _check_whole(path, header)
    spec = dataclasses.replace(specs.read(config, name=path.stem), dtype="bfloat16")
    chosen = precision.dtype_of(dtype, spec, place, small=small)
    precision.admit(spec, place, chosen, fixed=True)
    _check_names(header, config, ARCHITECTURES[architecture])
    return loading.Ready(path.parent, config, spec, chosen, place, gguf=path.name)


def _check_whole(path, header):
    expected = header.data_start + max((tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
    if (size := path.stat().st_size) < expected:
        raise CheckpointError(
            "a weight file is truncated",
            got=f"{path.name}: {size:,} bytes",
            expected=f"{expected:,} bytes",
            hint="download the file again",
        )


def _check_names(header, config, family):
    """Refuse missing tensors by the names transformers' own conversion gives."""
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
    from transformers.integrations.gguf.utils import get_gguf_conversion_mapping

    mapping = get_gguf_conversion_mapping(header.architecture, config)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    named = {rename_source_key(tensor.name, renamings, converters)[0] for tensor in header.tensors}
    expected = loading.shapes(config, family)
    may_lack = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if missing := sorted(set(expected) - named - may_lack):
        raise CheckpointError(
            "the checkpoint lacks tensors",
            got=f"{len(missing)} of {len(expected)} absent: {files.listed(missing)}",
            hint="convert the model again",
        )
