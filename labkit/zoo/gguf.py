"""The .gguf route: labkit reads the file and unpacks every weight, so the model is a plain one with all its seams.

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
from labkit.spec import Spec
from labkit.spec.documents import shown
from labkit.zoo import files, gguf_header, gguf_settings, gguf_weights, loading, matching, precision

ARCHITECTURES = {family.gguf: family for family in FAMILIES.values() if family.gguf}
BLOCK = re.compile(r"blk\.(\d{1,9})\.")
TOWER = "mmproj"  # the image tower has a file of its own


def alone(folder: pathlib.Path) -> pathlib.Path | None:
    """The one .gguf file of a folder without config.json; None where there is a config.json, or no such file.

    Raises:
        CheckpointError: several.
    """
    if (folder / "config.json").exists():
        return None
    found = sorted(path for path in folder.glob("*.gguf") if not path.name.startswith(TOWER))
    if len(found) > 1:
        raise CheckpointError(
            "several .gguf files there",
            got=files.listed([path.name for path in found]),
            expected="one of them",
            hint="the path of the file; parts of one model are joined by gguf-split --merge",
        )
    return found[0] if found else None


def checked(path: pathlib.Path, *, place, dtype, quantize: str | None, small: bool = False) -> loading.Ready:
    """A `loading.Ready` .gguf file: of a known family, whole, with every tensor of the model.

    Raises:
        CheckpointError: not GGUF, truncated, another architecture, split, or lacking tensors.
        BudgetError: it would not fit unpacked.
    """
    if quantize:
        raise InputError(
            "a .gguf file is unpacked as it is",
            got=f"quantize={quantize!r}",
            hint="quantize a safetensors folder",
        )
    header, family, spec, fields = _read(path)
    chosen = precision.dtype_of(dtype, spec, place, small=small)
    precision.admit(spec, place, chosen, fixed=True)
    held, described = sum(math.prod(entry.shape) for entry in header.tensors), specs.parameters(spec)["text"]
    if described > 2 * held:  # names are told where a few tensors are missing
        got = f"{path.name}: {described:,} parameters in its settings, {held:,} numbers"
        raise CheckpointError("the settings describe another model than the file holds", got=got)
    try:
        config = family.model_class().config_class(**fields)
    except Exception as error:  # transformers checks by decorators of its own
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError("transformers does not take these settings", got=f"{path.name}: {reason}") from error
    weights = gguf_weights.tensors(path, header, spec, gguf_weights.LAYOUTS[family.gguf])
    matching.compare(weights, loading.shapes(config, family), family, tied=spec.tied)
    held = dict(gguf=path.name, vocabulary=gguf_settings.TOKENS in header.settings, weights=weights)
    return loading.Ready(path.parent, config, spec, chosen, place, **held)


def anatomy(path: pathlib.Path) -> Spec:
    """The Spec of a .gguf file, from its header alone.

    Raises:
        CheckpointError: as `opened`, and settings that are no model's or not those of its tensors.
    """
    return _read(path)[2]


def _read(path):
    """(header, family, spec, fields of the text configuration)."""
    header, family = opened(path)
    tied = "output.weight" not in {entry.name for entry in header.tensors}
    sections = family.gguf in gguf_weights.SECTIONED
    rows = next((entry.shape[0] for entry in header.tensors if entry.name == "token_embd.weight"), None)
    fields = gguf_settings.configuration(header.settings, path.name, family, tied=tied, sections=sections, rows=rows)
    _check_blocks(path, header, family)
    return header, family, dataclasses.replace(specs.read(fields, name=path.stem), dtype="bfloat16"), fields


def opened(path: pathlib.Path) -> tuple[gguf_header.Header, Family]:
    """The header of a whole file and the family of its model.

    Raises:
        CheckpointError: not GGUF, a header that contradicts itself, truncated, or another architecture.
    """
    from transformers.integrations.gguf.dequant import GGML_BLOCK

    try:
        header = gguf_header.read(path, GGML_BLOCK | gguf_weights.FIVE_BITS)
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
    return header, _family(path, header)


def _family(path, header):
    """The family of the architecture of a file that is whole, not a part of several."""
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
    return ARCHITECTURES[architecture]


def _check_blocks(path, header, family):
    layers = header.settings[f"{family.gguf}.block_count"]
    named = {int(match[1]) for entry in header.tensors if (match := BLOCK.match(entry.name))}
    if named != set(range(layers)):
        last = ", ".join(map(str, sorted(named)[-3:]))
        got = f"{path.name}: {family.gguf}.block_count {layers}, the last blocks {last}"
        raise CheckpointError("the file contradicts itself", got=got, expected="tensors of every block")
