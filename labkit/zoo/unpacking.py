"""Checkpoints stored packed, as the floating numbers they stand for: which tensors belong together, read one by one.

Everything but the large matrices is stored plain. What a configuration says of a method is read here into settings
once; `packings` and `words` hold the arithmetic. The matrices come out in float32 and are rounded once, to the lab's
dtype.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping

import torch

from labkit.errors import CheckpointError
from labkit.spec.documents import shown
from labkit.zoo import files, packings, words

EARLY = 4096  # bytes, at most, of a part that is read before any weight
MLX_NAMES = (("language_model.model.", "model.language_model."), ("language_model.lm_head.", "lm_head."))
MLX_NAMES += (("vision_tower.", "model.visual."), ("language_model.mtp.", "mtp."))
PATCHES = "model.visual.patch_embed.proj.weight"  # its channels come last
PLUS_ONE = (".input_layernorm.weight", ".post_attention_layernorm.weight", "model.norm.weight")
PLUS_ONE += ("language_model.norm.weight", ".q_norm.weight", ".k_norm.weight")


@dataclasses.dataclass(frozen=True)
class Weight:
    """A matrix in parts; for the checks of names and shapes it is a `files.Tensor` in float32.

    Attributes:
        parts: `{role: files.Tensor}`. known: `{role: what was read early}`. packing: how. settings: of the method.
        shape: of the matrix.
    """

    parts: Mapping[str, files.Tensor]
    known: Mapping[str, object]
    packing: packings.Packing
    settings: Mapping
    shape: tuple[int, ...]
    dtype: str = "F32"

    @property
    def file(self) -> pathlib.Path:
        """Where its numbers are."""
        return self.parts["weight"].file

    @property
    def start(self) -> int:
        """Their first byte."""
        return self.parts["weight"].start

    @property
    def bytes(self) -> int:
        """Bytes once unpacked, in float32."""
        return 4 * math.prod(self.shape)

    def __getitem__(self, _) -> torch.Tensor:
        """The matrix in float32."""
        parts = {role: tensor[...] for role, tensor in self.parts.items() if role not in self.known}
        return self.packing.unpack(parts | dict(self.known), self.settings, self.shape)


@dataclasses.dataclass(frozen=True)
class Changed:
    """A tensor of a checkpoint, or several side by side, that a converter changed; read as it was before."""

    sources: tuple[files.Tensor | Weight, ...]
    change: Callable[..., torch.Tensor]
    shape: tuple[int, ...]

    def __getattr__(self, name):
        return getattr(self.sources[0], name)

    def __getitem__(self, _) -> torch.Tensor:
        """The tensor."""
        return self.change(*(source[...] for source in self.sources))


def gathered(stored: Mapping[str, files.Tensor], config: Mapping) -> dict[str, files.Tensor | Weight]:
    """`{name: tensor}` of a checkpoint with every packed matrix as one `Weight`.

    Args:
        config: the `quantization_config`; its method is one of `METHODS`.

    Raises:
        CheckpointError: a setting or a layout that is not read here, or parts that do not belong together.
    """
    method = config["quant_method"]
    settings_of, ways = METHODS[method]
    settings, left = settings_of(config), dict(stored)
    found = {}
    for packing in ways:
        for name in [name for name in left if name.endswith(packing.parts[packing.needed[0]])]:
            layer = name.removesuffix(packing.parts[packing.needed[0]])
            parts = {role: layer + suffix for role, suffix in packing.parts.items() if layer + suffix in left}
            if parts.keys() >= set(packing.needed):
                found[layer + packing.named] = _weight(layer, {r: left[n] for r, n in parts.items()}, packing, settings)
                for part in parts.values():
                    del left[part]
    held = {**left, **found}
    return _as_torch(held) if method == "mlx" else held


def _weight(layer, parts, packing, settings):
    own = settings | {name: value(layer) for name, value in settings.items() if callable(value)}
    try:
        if big := [role for role in packing.early if parts[role].bytes > EARLY]:
            raise ValueError(f"{big[0]} of {parts[big[0]].bytes:,} bytes")
        if lost := [packing.parts[role] for role in own.get("promised", ()) if role not in parts]:
            raise ValueError(f"no {lost[0]}, which config.json promises")
        known = {role: says(parts[role][...]) for role, says in packing.early.items()}
        shape = tuple(packing.shape({**parts, **known}, own))
    except ValueError as error:
        raise CheckpointError(
            "the parts of a packed weight do not belong together",
            got=f"{layer.removesuffix('.weight')[: files.LONGEST]}: {error}",
            hint="download the checkpoint again, or take the unpacked one",
        ) from None
    return Weight(parts, known, packing, own, shape)


# ------------------------------------------------------------------------------------------------ settings of methods


def _demand(right, field, config, expected):
    if not right:
        raise CheckpointError(
            "weights packed in a way of this method that labkit does not read",
            got=f"{config['quant_method']}: {field} {shown(config.get(field))}",
            expected=expected,
            hint="take the unpacked checkpoint, with quantize=... if it is too large",
        )


def _pair(value):
    return isinstance(value, list) and len(value) == 2 and all(type(size) is int and 0 < size < 2**20 for size in value)


def _fp8(config):
    block = config.get("weight_block_size")
    _demand(block is None or _pair(block), "weight_block_size", config, "two sizes, or nothing")
    return {"block": None if block is None else tuple(block)}


def _bitsandbytes(config):
    return {}


def _compressed(config):
    """Widths and blocks of every group; what a pass computes besides the weights is refused."""
    _demand(not config.get("transform_config"), "transform_config", config, "no rotations")
    sparse = config.get("sparsity_config") or {}
    dense = isinstance(sparse, dict) and sparse.get("format", "dense") == "dense"
    _demand(dense, "sparsity_config", config, "dense weights")
    groups = config.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, dict) else []
    weights = [group.get("weights") for group in groups if isinstance(group, dict)]
    right = weights and all(isinstance(each, dict) and type(each.get("num_bits")) is int for each in weights)
    _demand(right, "config_groups", config, "groups of weights, with num_bits")
    widths = sorted({each["num_bits"] for each in weights})
    _demand(all(2 <= width <= 8 for width in widths), "config_groups", config, "2 to 8 bits")
    block = next((each["block_structure"] for each in weights if each.get("block_structure")), None)
    _demand(block is None or _pair(block), "config_groups", config, "block_structure of two sizes")
    promised = ["zero"] if all(each.get("symmetric") is False for each in weights) else []
    promised += ["order"] if all(each.get("actorder") in ("group", "dynamic", True) for each in weights) else []
    return {"bits": widths, "block": None if block is None else tuple(block), "promised": promised}


def _gptq(config):
    _demand(type(config.get("bits")) is int and config["bits"] in (2, 3, 4, 8), "bits", config, "2, 3, 4 or 8")
    form = config.get("checkpoint_format", "gptq")
    _demand(form in ("gptq", "gptq_v2"), "checkpoint_format", config, "gptq or gptq_v2")
    _demand(not config.get("is_marlin_format"), "is_marlin_format", config, "false")
    ordered = config.get("desc_act") and config.get("group_size") != -1
    return {"bits": (config["bits"],), "plus": int(form == "gptq"), "promised": ["order"] if ordered else []}


def _awq(config):
    _demand(config.get("bits", config.get("w_bit")) == 4, "bits", config, "4")
    _demand(str(config.get("version", "gemm")).lower() == "gemm", "version", config, "gemm")
    return {}


def _mlx(config):
    """The group of a layer; the width follows from its sizes."""

    def group(layer):
        own = config.get(layer)
        return (own if isinstance(own, dict) else config).get("group_size", config["group_size"])

    for each in (config, *(value for value in config.values() if isinstance(value, dict))):
        size = each.get("group_size", 64)
        _demand(type(size) is int and 0 < size < 2**20, "group_size", config, "a size")
        _demand(each.get("mode", "affine") == "affine", "mode", config, "affine")
    _demand("group_size" in config, "group_size", config, "a size")
    return {"group": group}


METHODS = {
    "fp8": (_fp8, (packings.FP8,)),
    "bitsandbytes": (_bitsandbytes, (packings.NF4, packings.FP4, packings.INT8)),
    "compressed-tensors": (_compressed, (words.WORD, packings.NVFP4, packings.SCALED)),
    "gptq": (_gptq, (words.GPTQ,)),
    "awq": (_awq, (words.AWQ,)),
    "mlx": (_mlx, (words.MLX,)),
}


# ---------------------------------------------------------------------------------------------------------------- mlx


def _as_torch(stored):
    """MLX's names and layouts undone: its convolution is [channels, width, 1], its norms hold their weight plus one,
    and its experts stand in three tensors.
    """
    held = {}
    for name, tensor in stored.items():
        for theirs, ours in MLX_NAMES:
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        held[name] = tensor
    return dict(_changed(held))


def _changed(held) -> Iterator[tuple[str, object]]:
    apart = any(name.endswith("conv1d.weight") and tensor.shape[-1] != 1 for name, tensor in held.items())
    for name, tensor in held.items():
        head, switch, kind = name.rpartition(".mlp.switch_mlp.")
        if name.endswith("conv1d.weight") and not apart and len(tensor.shape) == 3:
            yield name, Changed((tensor,), lambda w: w.transpose(1, 2), (tensor.shape[0], 1, tensor.shape[1]))
        elif name == PATCHES and not apart and len(tensor.shape) == 5:
            shape = (tensor.shape[0], tensor.shape[4], *tensor.shape[1:4])
            yield name, Changed((tensor,), lambda w: w.permute(0, 4, 1, 2, 3).contiguous(), shape)
        elif name.endswith(PLUS_ONE) and not apart:
            yield name, Changed((tensor,), lambda w: w.float() - 1, tensor.shape)
        elif switch and kind == "down_proj.weight":
            yield f"{head}.mlp.experts.down_proj", tensor
        elif switch and kind == "gate_proj.weight" and (up := held.get(f"{head}{switch}up_proj.weight")):
            shape = (tensor.shape[0], tensor.shape[1] + up.shape[1], *tensor.shape[2:])
            yield f"{head}.mlp.experts.gate_up_proj", Changed((tensor, up), lambda g, u: torch.cat((g, u), 1), shape)
        elif not switch or kind != "up_proj.weight":
            yield name, tensor
