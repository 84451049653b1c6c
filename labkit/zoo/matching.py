"""Exactly the model's tensors: what the files hold, compared with what the configuration describes."""

import math
import re
from collections.abc import Iterable, Iterator

from labkit.errors import CheckpointError
from labkit.families import Family
from labkit.spec import Spec, parameters
from labkit.zoo.files import FLOATS, Tensor, listed

PIECE = 2**24  # bytes that are compared at once
TORCHAO = re.compile(r"\._weight_\w+$")  # torchao stores a packed weight as its parts, `._weight_qdata` and others
# `.weight_scale_inv` of fp8, `.weight.absmax` and `.SCB` of bitsandbytes
COMPANION = re.compile(r"(\.weight[._][\w.]+|\.SCB)$")


def check_count(stored: dict[str, Tensor], spec: Spec) -> None:
    """Refuse a configuration of far more numbers than the files hold, before a model of that size is even described.

    Raises:
        CheckpointError: more than two numbers for each byte; packed weights hold at most that.
    """
    held, described = sum(tensor.bytes for tensor in stored.values()), parameters(spec)["text"]
    if described > 2 * held:
        raise CheckpointError(
            "the configuration describes another model than the weight files hold",
            got=f"{described:,} parameters in config.json, {held:,} bytes of weights",
            hint="use the config.json that came with these weights",
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
    shaped = {name: tensor.shape for name, tensor in named.items()}
    present = {TORCHAO.sub(".weight", name) for name in named} if prequantized else shaped
    expected = family.stored_shapes(shapes, present)
    may_lack = {"lm_head.weight"} if tied else set()
    if missing := sorted(set(expected) - set(present) - may_lack):
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
    if whole := [name for name in expected if name in named and named[name].dtype not in FLOATS]:
        got = f"{whole[0]} is stored as {named[whole[0]].dtype}"
        raise CheckpointError("weights that are not floating numbers", got=got, expected=", ".join(FLOATS))
    wrong = [n for n, shape in expected.items() if n in named and named[n].shape != tuple(shape)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            "stored tensors do not have the model's shapes",
            got=f"{len(wrong)}, first {name} {list(named[name].shape)}",
            expected=f"{list(expected[name])}, from config.json",
        )


def tied(stored: dict[str, Tensor], family: Family) -> bool:
    """Whether the stored lm_head is the embedding, or there is none."""
    placed = {family.place(name): tensor for name, tensor in stored.items()}
    head, embedding = placed.get("lm_head.weight"), placed.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return True
    if not (isinstance(head, Tensor) and isinstance(embedding, Tensor)):  # packed
        return head.shape == embedding.shape and bool((head[...].float() == embedding[...].float()).all())
    return (head.dtype, head.shape) == (embedding.dtype, embedding.shape) and _equal(head, embedding)


def _equal(one, other):
    """Whether two tensors of one size are the same bytes."""
    with one.file.open("rb") as left, other.file.open("rb") as right:
        left.seek(one.start)
        right.seek(other.start)
        sizes = [min(PIECE, one.bytes - at) for at in range(0, one.bytes, PIECE)]
        return all(left.read(size) == right.read(size) for size in sizes)


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
    for name, tensor in sorted(stored.items(), key=lambda item: (str(item[1].file), item[1].start)):
        if family.place(name):
            yield name, tensor[...]
