"""Qwen3-Next (80B-A3B): `transformers/models/qwen3_next/modeling_qwen3_next.py`.

The mixers compute what those of Qwen3.5 do, but two projections stand for four. Both are sorted by key head; a key head
h comes with the r = value_heads / key_heads value heads that use it:

    in_proj_qkvz   [key_head, dk + dk + r·dv + r·dv]   q, k, v, z of each key head
    in_proj_ba     [key_head, r + r]                   b, a of each key head

The convolution sees all q, then all k, then all v, as in Qwen3.5, and so does the seam `qkv`.
"""

import dataclasses
import functools

from labkit.families.qwen3_5 import MIXERS, SIZES
from labkit.families.qwen3_5_moe import EXPERTS, QWEN3_5_MOE, ROUTER
from labkit.families.record import ATTENTION, COMMON, DELTANET, Seam


@functools.lru_cache(maxsize=32)
def qkvz(spec) -> tuple[list[int], list[int], list[int], list[int]]:
    """Places of q, k, v and z, each head after head, in the output of `in_proj_qkvz`."""
    group = spec.value_heads // spec.key_heads * spec.dv
    return _sorted(spec.key_heads, (spec.dk, spec.dk, group, group))


@functools.lru_cache(maxsize=32)
def ba(spec) -> tuple[list[int], list[int]]:
    """Places of b and a, head after head, in the output of `in_proj_ba`."""
    group = spec.value_heads // spec.key_heads
    return _sorted(spec.key_heads, (group, group))


def _sorted(groups, widths):
    """Places of each part, group after group, where every group holds all parts side by side."""
    whole, starts = sum(widths), [sum(widths[:part]) for part in range(len(widths))]
    return tuple(
        [group * whole + start + i for group in range(groups) for i in range(width)]
        for start, width in zip(starts, widths, strict=True)
    )


def _mixed(spec):
    q, k, v, _ = qkvz(spec)
    return q + k + v


def _qkvz_width(spec):
    return spec.conv_channels + spec.value_heads * spec.dv


def _ba_width(spec):
    return 2 * spec.value_heads


PROJECTED = {
    "qkv": dataclasses.replace(
        MIXERS[DELTANET]["qkv"], path="linear_attn.in_proj_qkvz", channels=_mixed, whole=_qkvz_width
    ),
    "z": Seam(
        "linear_attn.in_proj_qkvz",
        "out",
        ("head", "value"),
        "gate_input",
        channels=lambda spec: qkvz(spec)[3],
        whole=_qkvz_width,
    ),
    "b": Seam(
        "linear_attn.in_proj_ba", "out", ("head",), "write_input", channels=lambda spec: ba(spec)[0], whole=_ba_width
    ),
    "a": Seam(
        "linear_attn.in_proj_ba", "out", ("head",), "decay_input", channels=lambda spec: ba(spec)[1], whole=_ba_width
    ),
}

QWEN3_NEXT = dataclasses.replace(
    QWEN3_5_MOE,
    name="qwen3_next",
    title="Qwen3-Next, with experts",
    model_types=("qwen3_next",),
    causal="Qwen3NextForCausalLM",
    conditional=None,
    modeling="transformers.models.qwen3_next.modeling_qwen3_next",
    seams={
        DELTANET: MIXERS[DELTANET] | PROJECTED | COMMON | ROUTER,
        ATTENTION: MIXERS[ATTENTION] | COMMON | ROUTER,
    },
    sizes=SIZES | EXPERTS,
    text_prefix="model.",
    unquantized=("lm_head", "in_proj_ba", "gate", "shared_expert_gate"),
    gguf="qwen3next",
)
