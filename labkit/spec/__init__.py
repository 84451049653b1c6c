"""Anatomy and cost card of a hybrid from its configuration alone. No model is built and no weight is read.

    big = spec.read("Qwen3.6-27B")          # of a name, or a folder with a config.json
    big                                     # the layer strip D D D A · ... and the sizes
    big.card(tokens=262_144, gpu="H200")    # parameters, bytes, FLOPs, seconds
    spec.prefill_flops(big, 262_144)["total"]

In this folder: `anatomy` (the sizes and their rules), `config` (reading), `memory` (parameters and bytes),
`compute` (FLOPs and rooflines), `card` (all in one table), `layers` (the stack as data), `units` (numbers as text),
`given` (what is said of something else in a spec's place).
"""

from labkit.spec.anatomy import ATTENTION, DELTANET, Spec
from labkit.spec.card import Card
from labkit.spec.compute import (
    GPUS,
    Gpu,
    core_flops,
    decode_bytes,
    decode_seconds,
    equal_tokens,
    find_gpu,
    head_flops,
    linear_flops,
    pair_flops,
    prefill_flops,
    prefill_seconds,
)
from labkit.spec.config import read, text_part
from labkit.spec.given import checked, takes_spec
from labkit.spec.layers import stack
from labkit.spec.memory import (
    PACKED,
    QUANTIZED,
    active_parameters,
    cache_bytes,
    checkpoint_bytes,
    conv_bytes,
    dtype_bytes,
    engine_block,
    kv_bytes,
    kv_bytes_per_token,
    logits_bytes,
    parameters,
    pattern_bytes,
    snapshot_bytes,
    snapshot_tokens,
    state_bytes,
    trajectory_bytes,
    vision_parameters,
    weight_bytes,
)
from labkit.spec.units import big_number, size

__all__ = [
    "ATTENTION",
    "DELTANET",
    "GPUS",
    "PACKED",
    "QUANTIZED",
    "Card",
    "Gpu",
    "Spec",
    "active_parameters",
    "big_number",
    "cache_bytes",
    "checkpoint_bytes",
    "conv_bytes",
    "core_flops",
    "decode_bytes",
    "decode_seconds",
    "dtype_bytes",
    "engine_block",
    "equal_tokens",
    "find_gpu",
    "head_flops",
    "kv_bytes",
    "kv_bytes_per_token",
    "linear_flops",
    "logits_bytes",
    "pair_flops",
    "parameters",
    "pattern_bytes",
    "prefill_flops",
    "prefill_seconds",
    "read",
    "size",
    "snapshot_bytes",
    "snapshot_tokens",
    "stack",
    "state_bytes",
    "text_part",
    "trajectory_bytes",
    "vision_parameters",
    "weight_bytes",
]

globals().update({name: checked(globals()[name]) for name in __all__ if takes_spec(globals()[name])})


def __dir__():
    return sorted(__all__)
