"""Whole or refused: what safetensors headers and the index of a folder say, before a weight is read.

A safetensors file is 8 bytes with the length of a JSON header, the header `{name: {dtype, shape, data_offsets}}`,
and the numbers. Names, shapes, sizes and missing shards are known from some kilobytes of it.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import CheckpointError
from labkit.spec import documents
from labkit.spec.documents import shown

if TYPE_CHECKING:
    import torch

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HEADER_LIMIT = 2**25  # bytes; the largest known takes a third of it
SHOWN = 5
DIMENSIONS, LONGEST = 8, 200  # of a tensor; of its name in a message
FLOATS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}  # bits of one number, by the format's names
PACKED = {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4}
PACKED |= {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64}
BITS = FLOATS | PACKED
TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}  # names in torch
TORCH |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
TORCH |= {f"{sign}{bits}": f"{name}{bits}" for sign, name in (("U", "uint"), ("I", "int")) for bits in (8, 16, 32, 64)}
SHARD = re.compile(r"[\w.-]+\.safetensors")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One entry of a header, read by indexing.

    Attributes:
        file, start: where its first byte is. dtype: safetensors' name. shape, bytes: as stored.
    """

    file: pathlib.Path
    start: int
    dtype: str
    shape: tuple
    bytes: int

    def __getitem__(self, _) -> "torch.Tensor":
        """The tensor as it is stored."""
        import torch

        kind = getattr(torch, TORCH[self.dtype])
        if not self.bytes:
            return torch.empty(self.shape, dtype=kind)
        data = bytearray(self.bytes)
        with self.file.open("rb") as file:
            file.seek(self.start)
            file.readinto(data)
        return torch.frombuffer(data, dtype=kind).reshape(self.shape)


def header(path: str | pathlib.Path) -> dict[str, Tensor]:
    """`{name: Tensor}` of one safetensors file; no weight is read.

    Raises:
        CheckpointError: no such file, not safetensors, or shorter or longer than its header says.
    """
    path = pathlib.Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            tensors, end = _table(path, documents.parse(file.read(length)), 8 + length)
    except OSError as error:
        raise CheckpointError("cannot read a weight file", got=f"{path.name}: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(
            "not a safetensors file", got=f"{path.name}: {error}", hint="download the file again"
        ) from None
    if size != 8 + length + end:
        kind = "truncated" if size < 8 + length + end else "longer than its header says"
        raise CheckpointError(
            f"a weight file is {kind}",
            got=f"{path.name}: {size:,} bytes",
            expected=f"{8 + length + end:,} bytes",
            hint="download the file again",
        )
    return tensors


def _table(path, table, first):
    """({name: Tensor}, bytes of numbers): every entry says what its bytes are, and they follow each other."""
    if not isinstance(table, dict):
        raise ValueError("its header is not an object")
    notes = table.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError("__metadata__ is not names and texts")
    entries = sorted((_entry(path, name, entry, first) for name, entry in table.items()), key=lambda entry: entry[1:3])
    end = 0
    for name, start, stop, _ in entries:
        if start != end:
            raise ValueError(f"{shown(name)} begins at {start:,}, the numbers before it end at {end:,}")
        end = stop
    stored = {name: tensor for name, _, _, tensor in entries}
    return {name: stored[name] for name in table}, end


def _entry(path, name, entry, first):
    """(name, first byte, end, Tensor)."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shown(name)} is not a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"{shown(name)}: dtype {shown(dtype)}")
    for what, value in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(value, list) or not all(type(size) is int and 0 <= size < 2**63 for size in value):
            raise ValueError(f"{shown(name)}: {what} {shown(value)}")
    if len(offsets) != 2 or len(shape) > DIMENSIONS:
        raise ValueError(f"{shown(name)}: data_offsets {shown(offsets)}, shape {shown(shape)}")
    start, stop = offsets
    if (stop - start) * 8 != math.prod(shape) * BITS[dtype]:
        raise ValueError(f"{shown(name)}: {stop - start:,} bytes for {shown(shape)} of {dtype}")
    return name, start, stop, Tensor(path, first + start, dtype, tuple(shape), stop - start)


def tensors(folder: str | pathlib.Path) -> dict[str, Tensor]:
    """`{name: Tensor}` of a checkpoint folder, one file or sharded.

    Raises:
        CheckpointError: no safetensors, only pickle files, a broken index, a missing or damaged shard.
    """
    folder = pathlib.Path(folder)
    if (folder / SINGLE).is_file():
        return header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        _refuse_other_weights(folder)
    places = _places(folder / INDEX)
    shards = sorted(set(places.values()))
    if absent := [shard for shard in shards if not (folder / shard).is_file()]:
        raise CheckpointError(
            "weight files are missing",
            got=f"{len(absent)} of {len(shards)} absent: {listed(absent)}",
            hint="finish the download",
        )
    stored = {}
    for shard in shards:
        inside = header(folder / shard)
        named = [name for name, place in places.items() if place == shard]
        if lost := [name for name in named if name not in inside]:
            raise CheckpointError("a shard lacks tensors the index promises", got=f"{shard}: no {listed(lost)}")
        if more := [name for name in inside if places.get(name) != shard]:
            raise CheckpointError(
                "a shard holds tensors that the index does not place there", got=f"{shard}: {listed(more)}"
            )
        stored |= {name: inside[name] for name in named}
    return stored


def _places(path):
    """`{name of a tensor: file}` of an index."""
    try:
        index = documents.read(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {INDEX}", got=error.strerror) from None
    except ValueError as error:
        raise CheckpointError(f"{INDEX} is broken", got=str(error), expected="a weight_map") from None
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not isinstance(index.get("metadata", {}), dict):
        raise CheckpointError(f"{INDEX} is broken", got=shown(places), expected="a weight_map, and metadata")
    for shard in places.values():
        if not isinstance(shard, str) or pathlib.PurePath(shard).name != shard:
            raise CheckpointError("the index points outside the folder", got=shown(shard), expected="a file name")
        if not SHARD.fullmatch(shard):
            raise CheckpointError("the index names a file that is no shard", got=shown(shard), expected="*.safetensors")
    return places


def _refuse_other_weights(folder):
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES and p.name != "training_args.bin")
    others = sorted(p.name for p in folder.glob("*.safetensors"))
    if pickles and not others:
        raise CheckpointError(
            "these weights are pickle files, which can run code when they are opened",
            got=listed(pickles),
            expected=f"{SINGLE}, or shards with {INDEX}",
            hint="convert them where you trust them: model.save_pretrained(folder)",
        )
    raise CheckpointError(
        "no weights there",
        got=listed(others) or "no safetensors file",
        expected=f"{SINGLE}, or shards with {INDEX}",
    )


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name[:LONGEST] for name in names[:SHOWN]) + more
