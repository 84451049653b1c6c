"""Ways of packing a linear layer's weight: which tensors hold it, and the floating numbers they stand for.

A packed weight is several tensors, its `parts`. Each function takes them, and what the configuration says, and gives
the matrix [out, in] in float32: `w = scale (q - zero)`, with a scale for each block, row or group of columns.

    fp8                  e4m3 and a scale per block: `.weight`, `.weight_scale_inv`
    bitsandbytes, 4 bit  a table of 16 numbers and a scale per 64: `.weight`, `.weight.absmax`, …
    bitsandbytes, 8 bit  a scale per row: `.weight`, `.SCB`
    compressed-tensors   e4m3, int8 or fp4 and a scale per tensor, row, group or block: `.weight`, `.weight_scale`
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch

from labkit.spec import documents
from labkit.spec.documents import shown

FLOATING = ("F32", "BF16", "F16", "F8_E8M0")
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # numbers of a float of 4 bits; the high bit is the sign


@dataclasses.dataclass(frozen=True)
class Packing:
    """One way to pack.

    Attributes:
        parts: `{role: what stands after the layer's name}`. needed: roles that make a weight a packed one.
        shape: ({role: stored tensor}, settings) -> shape of the matrix; ValueError where the parts disagree.
        unpack: ({role: torch tensor}, settings, shape) -> the matrix in float32.
        early: `{role: what its few numbers say}` of parts that are read before any weight.
        named: what stands after the layer's name in the model.
    """

    parts: Mapping[str, str]
    needed: tuple[str, ...]
    shape: Callable[[Mapping, Mapping], tuple[int, ...]]
    unpack: Callable[[Mapping, Mapping, tuple[int, ...]], torch.Tensor]
    early: Mapping[str, Callable[[torch.Tensor], object]] = dataclasses.field(default_factory=dict)
    named: str = ".weight"


def spread(scale: torch.Tensor, shape: tuple[int, ...], block: tuple[int, int] | None = None) -> torch.Tensor:
    """Scales [..., rows of blocks, columns of blocks] repeated over the numbers of their blocks, to `shape`.

    Args:
        block: (rows, columns); None divides the shape evenly.
    """
    for axis in (-2, -1):
        count = scale.shape[axis]
        times = block[axis] if block else -(-shape[axis] // count)
        if times > 1:
            scale = scale.repeat_interleave(times, axis)
        scale = scale.narrow(axis, 0, shape[axis])
    return scale


def agree(right: bool, what: str) -> None:
    """Refuse parts that do not belong together.

    Raises:
        ValueError: `what`.
    """
    if not right:
        raise ValueError(what)


def _blocks(scale, shape, block):
    """Check that there is one scale for each block; without a block, one for all."""
    count = math.prod(scale.shape)
    agree(block is not None or count == 1, f"scales {list(scale.shape)} without weight_block_size")
    if block is not None:
        expected = (*shape[:-2], -(-shape[-2] // block[0]), -(-shape[-1] // block[1]))
        agree(tuple(scale.shape) == expected, f"scales {list(scale.shape)}, expected {list(expected)}, one per block")


# ------------------------------------------------------------------------------------------------------ fp8 in blocks


def _fp8_shape(parts, settings):
    weight, scale = parts["weight"], parts["scale"]
    agree(weight.dtype in ("F8_E4M3", "F8_E5M2"), f"weight of {weight.dtype}")
    agree(scale.dtype in FLOATING, f"scales of {scale.dtype}")
    agree(len(weight.shape) >= 2, f"weight {list(weight.shape)}")
    _blocks(scale, weight.shape, settings["block"])
    return weight.shape


def _fp8(parts, settings, shape):
    weight, scale = parts["weight"].float(), parts["scale"].float()
    return weight * (scale.reshape(()) if scale.numel() == 1 else spread(scale, shape, settings["block"]))


FP8 = Packing({"weight": "", "scale": "_scale_inv"}, ("weight", "scale"), _fp8_shape, _fp8, named="")


# ------------------------------------------------------------------------------------------------------- bitsandbytes


def _state(numbers):
    """The settings of one matrix: JSON in bytes."""
    state = documents.parse(bytes(numbers.to(torch.uint8).tolist()))
    agree(isinstance(state, dict), "a quant_state that is not an object")
    whole = [state.get("blocksize"), state.get("nested_blocksize", 1)]
    shape = state.get("shape")
    agree(isinstance(shape, list) and len(shape) == 2, f"a quant_state of shape {shown(shape)}")
    agree(all(type(size) is int and 0 < size < 2**40 for size in (*whole, *shape)), "a quant_state of no sizes")
    offset = state.get("nested_offset", 0.0)
    agree(type(offset) in (int, float) and math.isfinite(offset), f"nested_offset {shown(offset)}")
    return state


def _nf4_shape(parts, settings):
    state, weight = parts["state"], parts["weight"]
    shape = tuple(state["shape"])
    agree(weight.dtype == "U8" and weight.bytes == -(-math.prod(shape) // 2), f"{weight.bytes:,} bytes of {shape}")
    blocks = -(-math.prod(shape) // state["blocksize"])
    agree("nested_blocksize" in state or "nested" not in parts, "no nested_blocksize")
    scales = f"{math.prod(parts['absmax'].shape):,} scales of {blocks:,} blocks, {list(parts['absmax'].shape)}"
    agree(parts["absmax"].shape == (blocks,), scales)
    agree(parts["map"].shape == (16,), "a table of other than 16 numbers")
    nested = {"nested", "nested_map"} <= parts.keys()
    agree(parts["absmax"].dtype == ("U8" if nested else "F32"), f"scales of {parts['absmax'].dtype}")
    if nested:
        twice = -(-blocks // state["nested_blocksize"])
        agree(parts["nested"].shape == (twice,), "scales of scales that are not one per block")
        agree(parts["nested_map"].shape == (256,), "a table of scales of other than 256 numbers")
    return shape


def _nf4(parts, settings, shape):
    state, scale = parts["state"], parts["absmax"]
    if "nested" in parts:
        block = torch.arange(len(scale)) // state["nested_blocksize"]
        scale = parts["nested_map"][scale.long()] * parts["nested"][block] + state.get("nested_offset", 0.0)
    packed = parts["weight"].flatten()
    places = torch.stack((packed >> 4, packed & 15), -1).flatten()[: math.prod(shape)]
    numbers = parts["map"].float()[places.long()]
    return (numbers * scale.float().repeat_interleave(state["blocksize"])[: len(numbers)]).view(shape)


NESTED = {"nested": ".weight.nested_absmax", "nested_map": ".weight.nested_quant_map"}
FOUR_BITS = {"weight": ".weight", "absmax": ".weight.absmax", "map": ".weight.quant_map", **NESTED}
NF4 = Packing(
    FOUR_BITS | {"state": ".weight.quant_state.bitsandbytes__nf4"},
    ("weight", "absmax", "map", "state"),
    _nf4_shape,
    _nf4,
    {"state": _state},
)
FP4 = dataclasses.replace(NF4, parts=FOUR_BITS | {"state": ".weight.quant_state.bitsandbytes__fp4"})


def _rows_shape(parts, settings):
    weight, scale = parts["weight"], parts["scale"]
    agree(weight.dtype == "I8" and len(weight.shape) == 2, f"weight {list(weight.shape)} of {weight.dtype}")
    agree(math.prod(scale.shape) == weight.shape[0], f"{math.prod(scale.shape):,} scales of {weight.shape[0]:,} rows")
    return weight.shape


def _rows(parts, settings, shape):
    return parts["weight"].float() * (parts["scale"].float().view(-1, 1) / 127)


INT8 = Packing(
    {"weight": ".weight", "scale": ".SCB", "form": ".weight_format"}, ("weight", "scale"), _rows_shape, _rows
)


# ------------------------------------------------------------------------------------------------- compressed-tensors


def _scaled_shape(parts, settings):
    weight, scale = parts["weight"], parts["scale"]
    agree(weight.dtype in ("I8", "F8_E4M3") and len(weight.shape) == 2, f"weight of {weight.dtype}")
    check_scales(scale, weight.shape, settings)
    return weight.shape


def check_scales(scale, shape: tuple[int, ...], settings: Mapping) -> None:
    """Check a stored tensor of scales per tensor, row, group of columns or block."""
    if block := settings.get("block"):
        _blocks(scale, shape, block)
        return
    if math.prod(scale.shape) == 1:
        return
    sizes = scale.shape if len(scale.shape) == 2 else (*scale.shape, 1)
    right = len(sizes) == 2 and sizes[0] == shape[0] and sizes[1] and shape[1] % sizes[1] == 0
    agree(right, f"scales {list(scale.shape)} of {list(shape)}")


def affine(
    number: torch.Tensor, parts: Mapping, settings: Mapping, shape: tuple[int, ...], zero: torch.Tensor | None = None
) -> torch.Tensor:
    """scale (number - zero) with scales per tensor, row, group of columns or block; columns may name their group."""
    order = parts.get("order")

    def wide(values):
        values = values.float()
        if values.numel() == 1:
            return values.reshape(())
        values = values.view(shape[0], -1) if values.ndim == 1 else values
        if order is not None and bool((order >= 0).all()):
            return values[:, order.long()]
        return spread(values, shape, settings.get("block"))

    return (number.float() if zero is None else number.float() - wide(zero)) * wide(parts["scale"])


def _scaled(parts, settings, shape):
    return affine(parts["weight"], parts, settings, shape, parts.get("zero"))


REST = {"scale": ".weight_scale", "zero": ".weight_zero_point", "order": ".weight_g_idx", "input": ".input_scale"}
SCALED = Packing({"weight": ".weight"} | REST, ("weight", "scale"), _scaled_shape, _scaled)


def _nvfp4_shape(parts, settings):
    weight, scale = parts["weight"], parts["scale"]
    agree(weight.dtype == "U8" and scale.dtype == "F8_E4M3", f"{weight.dtype}, scales of {scale.dtype}")
    shape = (weight.shape[0], 2 * weight.shape[1])
    agree(scale.shape == (shape[0], shape[1] // 16), f"scales {list(scale.shape)} of {list(shape)}, in groups of 16")
    return shape


def _nvfp4(parts, settings, shape):
    packed = parts["weight"]
    places = torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
    numbers = torch.tensor(E2M1)[(places & 7).long()] * torch.where(places > 7, -1.0, 1.0)
    return numbers * spread(parts["scale"].float() / parts["whole"].float().reshape(()), shape)


NVFP4 = Packing(
    {"weight": ".weight_packed", "whole": ".weight_global_scale", "input": ".input_global_scale"} | REST,
    ("weight", "whole", "scale"),
    _nvfp4_shape,
    _nvfp4,
)
