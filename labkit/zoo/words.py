"""Packings whose whole numbers stand in words of 32 bits: compressed-tensors, gptq, awq and mlx.

compressed-tensors   along in, an offset of half the range where no zero is stored
gptq                 along in, zeros along out, stored less one
awq                  along out, eight columns to a word in an order of their own
mlx                  along in, a scale and a bias per group: w = scale q + bias
"""

import math

import torch

from labkit.zoo.packings import FLOATING, REST, Packing, affine, agree, check_scales, spread

WORDS = ("I32", "U32")
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # column k of eight lies in this place of its word


def bits(words: torch.Tensor, width: int, count: int, axis: int = -1) -> torch.Tensor:
    """The first `count` whole numbers of `width` bits from words of 32 along an axis, the lowest bits first."""
    stream = words.movedim(axis, -1).contiguous().view(torch.uint8)
    if 8 % width == 0:
        value = torch.stack([(stream >> low) & (2**width - 1) for low in range(0, 8, width)], -1).flatten(-2)
        return value[..., :count].movedim(-1, axis)
    start = torch.arange(count) * width
    byte, low = start // 8, start % 8
    after = (byte + 1).clamp(max=stream.shape[-1] - 1)
    value = (stream[..., byte].to(torch.int16) | stream[..., after].to(torch.int16) << 8) >> low
    return (value & (2**width - 1)).to(torch.uint8).movedim(-1, axis)


def _sizes(numbers):
    """Rows and columns, stored as two numbers."""
    sizes = tuple(int(size) for size in numbers.flatten()[:3])
    agree(len(sizes) == 2 and all(0 < size < 2**40 for size in sizes), f"a shape {list(sizes)}")
    return sizes


def _word_shape(parts, settings):
    weight, shape = parts["weight"], parts["shape"]
    agree(weight.dtype in WORDS and len(weight.shape) == 2, f"words of {weight.dtype}")
    agree(shape[0] == weight.shape[0], f"{list(weight.shape)} words of {list(shape)}")
    width = _width(weight.shape[1], shape[1], settings["bits"])
    check_scales(parts["scale"], shape, settings)
    if zero := parts.get("zero"):
        expected = (-(-shape[0] * width // 32), math.prod(parts["scale"].shape) // shape[0])
        agree(zero.dtype in WORDS and zero.shape == expected, f"zeros {list(zero.shape)}, expected {list(expected)}")
    return shape


def _width(words, count, widths):
    """The width among `widths` at which so many words hold so many numbers."""
    fits = [width for width in widths if -(-count * width // 32) == words]
    agree(len(fits) == 1, f"{words:,} words of {count:,} numbers of {' or '.join(map(str, widths))} bits")
    return fits[0]


def _word(parts, settings, shape):
    width = _width(parts["weight"].shape[1], shape[1], settings["bits"])
    zero = parts.get("zero")
    if zero is not None:
        zero = bits(zero, width, shape[0], 0)
    else:
        zero = torch.tensor(2 ** (width - 1))
    return affine(bits(parts["weight"], width, shape[1]), parts, settings, shape, zero)


WORD = Packing(
    {"weight": ".weight_packed", "shape": ".weight_shape"} | REST,
    ("weight", "shape", "scale"),
    _word_shape,
    _word,
    {"shape": _sizes},
)


def _gptq_shape(parts, settings):
    weight, zero, scale = parts["weight"], parts["zero"], parts["scale"]
    agree(weight.dtype in WORDS and len(weight.shape) == 2 == len(scale.shape), f"words of {weight.dtype}")
    (width,) = settings["bits"]
    shape = (weight.shape[1], weight.shape[0] * 32 // width)
    groups = scale.shape[0]
    agree(scale.shape[1] == shape[0] and groups and shape[1] % groups == 0, f"scales {list(scale.shape)} of {shape}")
    agree(zero.shape == (groups, shape[0] * width // 32), f"zeros {list(zero.shape)} of {list(shape)}")
    if "order" in parts:
        agree(parts["order"].shape == (shape[1],), f"g_idx {list(parts['order'].shape)} of {shape[1]} columns")
    return shape


def _gptq(parts, settings, shape):
    (width,) = settings["bits"]
    zero = (bits(parts["zero"], width, shape[0]) + settings["plus"]) & (2**width - 1)
    group = parts["order"].long() if "order" in parts else torch.arange(shape[1]) // (shape[1] // len(zero))
    agree(bool((group >= 0).all() and (group < len(zero)).all()), f"g_idx beyond {len(zero)} groups")
    number = bits(parts["weight"], width, shape[1], 0)
    return ((number.float() - zero[group].float()) * parts["scale"].float()[group]).T.contiguous()


WORDS_DOWN = {"weight": ".qweight", "zero": ".qzeros", "scale": ".scales"}
GPTQ = Packing(WORDS_DOWN | {"order": ".g_idx"}, ("weight", "zero", "scale"), _gptq_shape, _gptq)


def _awq_shape(parts, settings):
    weight, zero, scale = parts["weight"], parts["zero"], parts["scale"]
    agree(weight.dtype in WORDS and len(weight.shape) == 2 == len(scale.shape), f"words of {weight.dtype}")
    shape = (8 * weight.shape[1], weight.shape[0])
    groups = scale.shape[0]
    agree(scale.shape[1] == shape[0] and groups and shape[1] % groups == 0, f"scales {list(scale.shape)} of {shape}")
    agree(zero.shape == (groups, weight.shape[1]), f"zeros {list(zero.shape)} of {list(shape)}")
    return shape


def _awq(parts, settings, shape):
    def numbers(words):
        return bits(words, 4, shape[0]).unflatten(-1, (-1, 8))[..., AWQ_ORDER].flatten(-2)

    zero = numbers(parts["zero"])
    group = torch.arange(shape[1]) // (shape[1] // len(zero))
    return ((numbers(parts["weight"]).float() - zero[group].float()) * parts["scale"].float()[group]).T.contiguous()


AWQ = Packing(WORDS_DOWN, ("weight", "zero", "scale"), _awq_shape, _awq)


def _mlx_shape(parts, settings):
    weight, scale = parts["weight"], parts["scale"]
    agree(weight.dtype == "U32" and scale.dtype in FLOATING, f"{weight.dtype}, scales of {scale.dtype}")
    agree(scale.shape == parts["bias"].shape and len(scale.shape) >= 2, f"scales {list(scale.shape)}")
    shape = (*weight.shape[:-1], scale.shape[-1] * settings["group"])
    agree(scale.shape[:-1] == shape[:-1], f"scales {list(scale.shape)} of {list(shape)}")
    _width(weight.shape[-1], shape[-1], range(2, 9))
    return shape


def _mlx(parts, settings, shape):
    width = _width(parts["weight"].shape[-1], shape[-1], range(2, 9))
    number = bits(parts["weight"], width, shape[-1]).float()
    return number * spread(parts["scale"].float(), shape) + spread(parts["bias"].float(), shape)


MLX = Packing(
    {"weight": ".weight", "scale": ".scales", "bias": ".biases"}, ("weight", "scale", "bias"), _mlx_shape, _mlx
)
