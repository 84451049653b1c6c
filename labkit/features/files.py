"""Files of other programs: tensors and plain values, nothing else, and refused before they are loaded if they lie.

A file of `torch.save` is a zip of storages and a pickle. It is mapped, never read as a whole, by `weights_only=True`;
no entry may be compressed, so that it holds no more than its size, and no tensor may be larger than its storage.
"""

import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from labkit.errors import CheckpointError, first_line
from labkit.fingerprint import fingerprint
from labkit.plan import admit
from labkit.spec import documents
from labkit.spec.documents import shown

if TYPE_CHECKING:
    from labkit.lab import Lab

PICKLE = 1 << 22  # bytes of the pickle: names, shapes, and a book of training
ENTRIES = 1 << 14
PIECE = 1 << 24  # numbers that are looked at together
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def pickled(path: pathlib.Path) -> Mapping:
    """What a file of `torch.save` holds, its tensors mapped.

    Raises:
        CheckpointError: no such file, not whole, or more in it than tensors and plain values.
    """
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        books = [entry.file_size for entry in entries if entry.filename.endswith("data.pkl")]
        if packed or len(entries) > ENTRIES or sum(entry.file_size for entry in entries) > size:
            got = f"{path.name}: {len(entries):,} entries, compressed {shown(packed[:3])}"
            raise CheckpointError("a file of torch.save holds no more than its size", got=got)
        if len(books) != 1 or books[0] > PICKLE:
            got = f"{path.name}: {shown(books)} bytes"
            raise CheckpointError("a file of torch.save has one pickle", got=got, expected=f"up to {PICKLE:,}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError("cannot read a dictionary", got=f"{path.name}: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        got, hint = f"{path.name}: {first_line(error)}", "save its state_dict alone, where it was made"
        raise CheckpointError(
            "more than tensors and plain values in a file", got=got, expected="a dict of tensors", hint=hint
        ) from None
    except Exception as error:  # torch and zipfile have many for a damaged file
        got, hint = f"{path.name}: {first_line(error)}", "download the file again"
        raise CheckpointError("not a whole file of torch.save", got=got, hint=hint) from None
    return mapping(content, path.name)


def json_of(path: pathlib.Path) -> Mapping:
    """The object in a JSON file.

    Raises:
        CheckpointError: no such file, or no JSON object.
    """
    try:
        return mapping(documents.read(path), path.name)
    except OSError as error:
        raise CheckpointError("cannot read a dictionary", got=f"{path.name}: {error.strerror or error}") from None
    except ValueError as error:
        raise CheckpointError("not JSON", got=f"{path.name}: {error}") from None


def mapping(value, place: str) -> Mapping:
    """A dict with names.

    Raises:
        CheckpointError: anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise CheckpointError("not names and values", got=f"{place}: {type(value).__name__}", expected="a dict")
    return value


def told(facts: Mapping, name: str, kind: type, default=None, *, place: str):
    """One fact of a file, of the type it should have; `default` where it is missing or null.

    Raises:
        CheckpointError: of another type.
    """
    value = facts.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise CheckpointError(f"{place}: {name}", got=shown(value), expected=kind.__name__)
    return value


def size(value: torch.Tensor) -> int:
    """Bytes of a tensor's numbers."""
    return value.numel() * value.element_size()


def tensor(content: Mapping, name: str, shape: Sequence[int | None], place: str) -> torch.Tensor:
    """A tensor of real numbers of this shape; None is any length.

    Raises:
        CheckpointError: missing, no such tensor, of another shape, or larger than what holds it.
    """
    value, expected = content.get(name), [length or "?" for length in shape]
    plain = isinstance(value, torch.Tensor) and value.is_cpu and value.layout == torch.strided
    if not plain or value.dtype not in FLOATS:
        got = "nothing" if value is None else getattr(value, "dtype", type(value).__name__)
        raise CheckpointError(f"{place}: {name}", got=got, expected=f"real numbers {expected}")
    wanted = [own if length is None else length for own, length in zip(value.shape, shape, strict=False)]
    if value.ndim != len(shape) or list(value.shape) != wanted or not value.numel():
        raise CheckpointError(f"{place}: {name}", got=list(value.shape), expected=expected)
    if (held := value.untyped_storage().nbytes()) < size(value):
        raise CheckpointError(f"{place}: {name} is larger than what holds it", got=f"{held:,} bytes of {expected}")
    return value.detach()


def only(content: Mapping, names: Sequence[str], place: str) -> None:
    """Refuse names that the format does not have there.

    Raises:
        CheckpointError: names them.
    """
    if more := sorted(set(content) - set(names)):
        raise CheckpointError(f"{place} holds what is not read", got=shown(more), expected=", ".join(names))


def admitted(sizes: Mapping[str, int], lab: "Lab", place: str) -> None:
    """Refuse tensors of so many bytes that would not fit, before they are read.

    Raises:
        BudgetError: on the lab's device, or on the host on their way there.
    """
    for device in {lab.device.type: lab.device, "cpu": torch.device("cpu")}.values():
        admit(f"features.open of {place}", 1, sizes, device)


def settled(
    weights: Mapping[str, torch.Tensor], lab: "Lab", place: str, *, mapped: bool
) -> tuple[dict[str, torch.Tensor], str]:
    """(the tensors on the lab's device, the digest of all their numbers).

    Args:
        mapped: whether they are views of a file, which may change.

    Raises:
        CheckpointError: numbers that are not finite.
    """
    for name, value in weights.items():
        for piece in value.flatten().split(PIECE):
            if not bool(piece.isfinite().all()):
                raise CheckpointError(f"{place}: {name} holds numbers that are not finite", hint="download it again")
    digest = fingerprint(dict(weights))
    return {name: value.to(lab.device, copy=mapped) for name, value in weights.items()}, digest
