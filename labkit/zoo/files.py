"""Whole or refused: what safetensors headers say, compared with the model before a weight is read.

A safetensors file is 8 bytes with the length of a JSON header, the header `{name: {dtype, shape, data_offsets}}`,
and the numbers. Names, shapes, sizes and missing shards are known from some kilobytes of it.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

from labkit.errors import CheckpointError
from labkit.families import Family

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
SHOWN = 5
TORCHAO = re.compile(r"\._weight_\w+$")  # torchao stores a packed weight as its parts, `._weight_qdata` and others
COMPANION = re.compile(r"\.weight[._][\w.]+$")  # `.weight_scale_inv` of fp8, `.weight.absmax` of bitsandbytes


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One entry of a header: where it lies, its stored dtype (safetensors' name), shape and bytes."""

    file: pathlib.Path
    dtype: str
    shape: tuple
    bytes: int


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
            table = json.loads(file.read(length))
            table.pop("__metadata__", None)
            tensors = {name: _tensor(path, entry) for name, entry in table.items()}
            end = max((entry["data_offsets"][1] for entry in table.values()), default=0)
    except OSError as error:
        raise CheckpointError("cannot read a weight file", got=f"{path.name}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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


def _tensor(path, entry):
    start, end = entry["data_offsets"]
    if not 0 <= start <= end:
        raise ValueError(f"data_offsets {start}, {end}")
    return Tensor(path, entry["dtype"], tuple(entry["shape"]), end - start)


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
    try:
        places = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        shards = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{INDEX} is broken", got=repr(error), expected="a weight_map") from None
    if foreign := [shard for shard in shards if pathlib.PurePath(shard).name != shard]:
        raise CheckpointError("the index points outside the folder", got=foreign[0], expected="a file name")
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
        stored |= {name: inside[name] for name in named}
    return stored


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


def compare(
    stored: dict[str, Tensor], shapes: dict[str, tuple], family: Family, *, tied: bool, prequantized: bool = False
) -> None:
    """Refuse a checkpoint whose tensors are not exactly the model's.

    Args:
        stored: `{name: Tensor}` of the checkpoint. shapes: `{name: shape}` of the model. family: its record.
        tied: lm_head is the embedding and may be absent.
        prequantized: weights are stored packed, with companions whose names begin with theirs.

    Raises:
        CheckpointError: missing, unexpected or wrongly shaped tensors, or two names for one.
    """
    named = {}
    for source, tensor in stored.items():
        if (name := family.place(source)) is None:
            continue
        if name in named:
            raise CheckpointError("two stored tensors have the same place in the model", got=source)
        named[name] = tensor
    present = {TORCHAO.sub(".weight", name) for name in named} if prequantized else set(named)
    expected = family.stored_shapes(shapes, present)
    may_lack = {"lm_head.weight"} if tied else set()
    if missing := sorted(set(expected) - present - may_lack):
        raise CheckpointError(
            "the checkpoint lacks tensors",
            got=f"{len(missing)} of {len(expected)} absent: {listed(missing)}",
            hint="random numbers would stand in for them; use a complete checkpoint of this configuration",
        )
    extra = sorted(set(named) - set(expected))
    if prequantized:
        extra = [n for n in extra if COMPANION.sub(".weight", TORCHAO.sub(".weight", n)) not in expected]
    if extra:
        raise CheckpointError(
            "the checkpoint holds tensors the model has no place for",
            got=f"{len(extra)} unexpected: {listed(extra)}",
            expected=f"the tensors of its config.json, besides {', '.join(family.skipped)}",
        )
    if prequantized:
        return
    wrong = [n for n, shape in expected.items() if n in named and named[n].shape != tuple(shape)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            "stored tensors do not have the model's shapes",
            got=f"{len(wrong)}, first {name} {list(named[name].shape)}",
            expected=f"{list(expected[name])}, from config.json",
        )


def refuse_broken_numbers(named: Iterable[tuple]) -> None:
    """Refuse NaN and infinite weights.

    Args:
        named: pairs (name, tensor) of any dtype; only floating ones are looked at.

    Raises:
        CheckpointError: names the first of them.
    """
    import torch

    broken = []
    for name, tensor in named:
        if not tensor.is_floating_point() or tensor.element_size() == 1 or not tensor.numel():
            continue
        if not all(math.isfinite(float(value)) for value in torch.aminmax(tensor)):
            broken.append(name)
    if broken:
        raise CheckpointError(
            "weights are NaN or infinite",
            got=f"{len(broken)} tensors: {listed(broken)}",
            expected="finite numbers",
        )


def stored_numbers(stored: dict[str, Tensor], family: Family) -> Iterator[tuple]:
    """Pairs (name, tensor) read one at a time from the files, for weights that will not be seen again once packed."""
    from safetensors import safe_open

    for path in sorted({tensor.file for tensor in stored.values()}):
        with safe_open(path, framework="pt") as file:
            for name in (name for name, tensor in stored.items() if tensor.file == path and family.place(name)):
                yield name, file.get_tensor(name)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
