"""Weights that are stored packed: which methods are read, and which of them a device multiplies as they are.

torchao              as they are
bitsandbytes         as they are on a card; on a CPU 4 bits in whole blocks, if the package is there
fp8                  as they are on a card that multiplies e4m3, where transformers' kernel is in the hub's cache
compressed-tensors, gptq, awq, mlx, and all of the above elsewhere: unpacked at load (`labkit.zoo.unpacking`)
"""

import importlib.util
from collections.abc import Iterable, Mapping

import torch

from labkit.errors import CheckpointError
from labkit.families import Family
from labkit.zoo import files, unpacking
from labkit.zoo.precision import E4M3_FROM, PACKAGES, need_packages, whole_blocks

STORED = {"fp8": PACKAGES["fp8"], "bitsandbytes": PACKAGES["nf4"], "torchao": PACKAGES["int8"]}
UNPACKED = ("compressed-tensors", "gptq", "awq", "mlx")


def check_stored(method: str, device: torch.device, family: Family) -> None:
    """Refuse weights that are stored packed in a way labkit does not load.

    Raises:
        CheckpointError: another method, also one that changes more than matrices and not as this family's are read.
        BackendError: missing packages.
    """
    known = [name for name in (*STORED, *UNPACKED) if name != "mlx" or family.mlx]
    if method not in known:
        raise CheckpointError(
            "these weights are packed in a way labkit does not load",
            got=f"quant_method {method!r}, {family.title}",
            expected=", ".join(known),
            hint="take the unpacked checkpoint, with quantize=... if it is too large",
        )
    if method == "torchao" or (method == "bitsandbytes" and device.type == "cuda"):
        need_packages(STORED[method], f"a checkpoint stored in {method}")


def as_read(
    tensors: Mapping[str, files.Tensor], stored: Mapping | None, device: torch.device
) -> tuple[Mapping[str, files.Tensor | unpacking.Weight], bool]:
    """(the tensors of a checkpoint as they are loaded, whether packed ones are multiplied as they are stored).

    Args:
        stored: its `quantization_config`, of a method that `check_stored` takes; None of plain weights.

    Raises:
        CheckpointError: as `unpacking.gathered`.
    """
    if not stored or stored["quant_method"] not in unpacking.METHODS:
        return tensors, bool(stored)
    joined = unpacking.gathered(tensors, stored)
    matrices = [tensor.shape for tensor in joined.values() if isinstance(tensor, unpacking.Weight)]
    packed = stays_packed(stored["quant_method"], device, matrices)
    return (tensors if packed else joined), packed


def stays_packed(method: str, device: torch.device, packed: Iterable[tuple[int, ...]]) -> bool:
    """Whether transformers multiplies stored weights as they are packed; if not, they are unpacked at load.

    The kernel for fine-grained FP8 counts if it is in the hub's cache already: a model in use fetches nothing.

    Args:
        packed: shapes of the packed matrices.
    """
    if method in UNPACKED:
        return False
    there = all(importlib.util.find_spec(name) for name in STORED[method])
    if method == "bitsandbytes" and device.type == "cpu":
        return there and all(map(whole_blocks, packed))
    if method == "fp8":
        card = device.type == "cuda" and torch.cuda.get_device_capability(device) >= E4M3_FROM
        return there and card and _fp8_kernel()
    return True


def lay_out(model: torch.nn.Module) -> None:
    """Have bitsandbytes lay 4-bit weights out for this CPU, which it otherwise does at their first pass, writing into
    them: a run made then would be of other weights than the lab that made it.
    """
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if getattr(weight, "quant_state", None) is not None and weight.device.type == "cpu":
            with torch.no_grad():
                module(torch.zeros(1, module.in_features, dtype=module.compute_dtype))


def _fp8_kernel():
    """Whether transformers' kernel for fine-grained FP8 is there without asking the hub."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        from transformers.integrations.finegrained_fp8 import load_finegrained_fp8_kernel

        return load_finegrained_fp8_kernel() is not None
    except Exception:  # of the hub's client, of the kernel's own build, of an import
        return False
    finally:
        constants.HF_HUB_OFFLINE = before
