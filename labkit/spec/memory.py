"""Parameters and bytes of a Spec, by component: exact counts after transformers' modeling files.

With K = key_heads·dk, V = value_heads·dv, Q = query_heads·head_dim, G = kv_heads·head_dim and d = hidden:

    DeltaNet layer    d(2K+V) qkv + dV z + 2d·H a,b + (2K+V)·conv + 2·H A_log,dt_bias + dv norm + Vd,  H = value_heads
    attention layer   2dQ query,gate + 2dG key,value + Qd out + 2·head_dim norms
    MLP               as the family's record says          norms  d(2·layers + 1)

They reproduce parameters and index `total_size` of the published Qwen3.5-0.8B, 2B, 4B, 9B, Qwen3.6-27B and 35B-A3B,
and the parameters of transformers' classes for Qwen3.8-27B, Qwen3.5-397B-A17B and Qwen3-Next-80B-A3B.
"""

import math
from typing import TYPE_CHECKING

from labkit.arguments import WIDEST, is_whole, number, whole
from labkit.errors import InputError
from labkit.families import FAMILIES, Part

if TYPE_CHECKING:
    from labkit.spec.anatomy import Spec


BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8": 1, "int8": 1}
QUANTIZED = {  # bytes per weight of a quantised linear layer, scales included
    "nf4": 0.5 + 1 / 64 + 4 / 64 / 256,  # bitsandbytes: 8-bit scale per 64 weights, float32 per 256 scales
    "int4": 0.5 + 4 / 128,  # torchao: 16-bit scale and zero point per group of 128
    "int8": 1.0,  # torchao weight-only: one scale per row, below 0.1 %
    "fp8": 1 + 4 / 128**2,  # the official checkpoints: e4m3 with a float32 scale per 128 × 128 block
}
# Forms of MLP parts (`families.Part`) that transformers packs: only its fp8 knows experts in one tensor.
PACKED = {name: ("linear", "stacked") if name == "fp8" else ("linear",) for name in QUANTIZED}
# Extra bytes of each A_log and DeltaNet norm weight in the checkpoint: 3.5 stores float32.
RELEASES = {"3.5": 2, "3.6": 0, "3.8": 0}


def dtype_bytes(dtype) -> int:
    """Bytes of one number; takes a name or a torch dtype.

    Raises:
        InputError: unknown dtype.
    """
    name = str(dtype).removeprefix("torch.")
    name = "float8" if name.startswith(("float8", "fp8")) else name
    if name not in BYTES:
        raise InputError("unknown dtype", got=str(dtype), expected=", ".join(BYTES))
    return BYTES[name]


def deltanet_parameters(spec: "Spec") -> tuple[int, int]:
    """Parameters of one DeltaNet mixer; the second number is the part that quantisation leaves in 16 bits."""
    if (own := FAMILIES[spec.family].mixers.get("deltanet")) is not None:
        return own(spec)
    v, wide = spec.value_heads * spec.dv, spec.conv_channels
    small = 2 * spec.hidden * spec.value_heads + wide * spec.conv + 2 * spec.value_heads + spec.dv
    return spec.hidden * (wide + 2 * v) + small, small


def attention_parameters(spec: "Spec") -> tuple[int, int]:
    """Parameters of one attention mixer, and the part of them that quantisation leaves in 16 bits."""
    if (own := FAMILIES[spec.family].mixers.get("attention")) is not None:
        return own(spec)
    q, kv = spec.query_heads * spec.head_dim, spec.kv_heads * spec.head_dim
    small = 2 * spec.head_dim
    return spec.hidden * (3 * q + 2 * kv) + small, small


def mlp_parts(spec: "Spec") -> tuple[Part, ...]:
    """`families.Part`s of the MLP of one layer."""
    return FAMILIES[spec.family].mlp(spec)


def dense_parameters(spec: "Spec") -> int:
    """Parameters of the MLP of one of the first `dense_layers` layers of a model with experts."""
    return 3 * spec.hidden * spec.dense_intermediate


def vision_parameters(spec: "Spec") -> int:
    """Parameters of the image tower, 0 without one: patch and position embedding, blocks, merger."""
    if spec.vision is None:
        return 0
    tower, d = spec.vision, spec.vision["hidden_size"]
    patch = tower["in_channels"] * tower["temporal_patch_size"] * tower["patch_size"] ** 2 * d + d
    block = 4 * d + 4 * d * (d + 1) + 2 * d * tower["intermediate_size"] + tower["intermediate_size"] + d
    wide = d * tower["spatial_merge_size"] ** 2
    merger = 2 * d + wide * (wide + 1) + (wide + 1) * tower["out_hidden_size"]
    return patch + tower["num_position_embeddings"] * d + tower["depth"] * block + merger


def parameters(spec: "Spec") -> dict[str, int]:
    """Parameters by component.

    Returns:
        dict: embed, deltanet, attention, mlp (all experts), norms, lm_head (0 if tied), text (their sum, which is what
        transformers' text class holds), vision, mtp (multi-token prediction; in the checkpoint, not loaded).
    """
    d, attention, mlp = spec.hidden, attention_parameters(spec)[0], sum(part.count for part in mlp_parts(spec))
    parts = {
        "embed": spec.vocab * d,
        "deltanet": len(spec.deltanet_layers) * deltanet_parameters(spec)[0],
        "attention": len(spec.attention_layers) * attention,
        "mlp": (spec.layers - spec.dense_layers) * mlp + spec.dense_layers * dense_parameters(spec),
        "norms": (2 * spec.layers + 1) * d,
        "lm_head": 0 if spec.tied else spec.vocab * d,
    }
    parts["text"] = sum(parts.values())
    parts["vision"] = vision_parameters(spec)
    parts["mtp"] = spec.mtp_layers * (attention + mlp + 2 * d) + (2 * d * d + 3 * d if spec.mtp_layers else 0)
    return parts


def active_parameters(spec: "Spec") -> int:
    """Parameters of the text model that one token uses: all but the experts that its router leaves out."""
    return parameters(spec)["text"] - idle_parameters(spec)


def idle_parameters(spec: "Spec") -> int:
    """Parameters of experts that one token does not use, all layers."""
    return (spec.layers - spec.dense_layers) * sum(part.count - part.active for part in mlp_parts(spec))


def checkpoint_bytes(spec: "Spec", release: str = "3.6") -> int:
    """Bytes of the published bfloat16 checkpoint, vision and multi-token prediction included.

    Args:
        release: "3.5" stores A_log and the DeltaNet norm weight in float32; "3.6" and "3.8" store all in
            bfloat16. The configuration does not tell which.

    Raises:
        InputError: an unknown release.
    """
    if release not in RELEASES:
        raise InputError("unknown release", got=release, expected=", ".join(RELEASES))
    total = parameters(spec)
    wide = len(spec.deltanet_layers) * (spec.value_heads + spec.dv)
    return 2 * (total["text"] + total["vision"] + total["mtp"]) + RELEASES[release] * wide


def weight_bytes(
    spec: "Spec", dtype="bfloat16", quantize: str | None = None, *, active: bool = False
) -> dict[str, int]:
    """Bytes of the loaded text model by component: embed, deltanet, attention, mlp, norms, lm_head, text.

    Quantised are the large linear layers of the mixers and the MLP; embedding, lm_head, norms, convolution, the a/b
    projections and routers stay in `dtype`. Experts in one tensor are packed by fp8 alone: transformers' nf4, int8 and
    int4 pack linear layers.

    Args:
        active: count only the experts that one token uses.

    Raises:
        InputError: unknown dtype or quantisation.
    """
    count, each = parameters(spec), dtype_bytes(dtype)
    if quantize is not None and quantize not in QUANTIZED:
        raise InputError("unknown quantisation", got=quantize, expected=f"None, {', '.join(QUANTIZED)}")
    width, forms = (each, ()) if quantize is None else (QUANTIZED[quantize], PACKED[quantize])
    parts = {part: count[part] * each for part in ("embed", "norms", "lm_head")}
    for kind, layers, mixer in (
        ("deltanet", len(spec.deltanet_layers), deltanet_parameters(spec)),
        ("attention", len(spec.attention_layers), attention_parameters(spec)),
    ):
        parts[kind] = layers * mixer[1] * each + round(layers * (mixer[0] - mixer[1]) * width)
    parts["mlp"] = 0
    for part in mlp_parts(spec):
        many = (spec.layers - spec.dense_layers) * (part.active if active else part.count)
        parts["mlp"] += round(many * (width if part.form in forms else each))
    parts["mlp"] += round(spec.dense_layers * dense_parameters(spec) * (width if "linear" in forms else each))
    parts["text"] = sum(parts.values())
    return parts


def kv_bytes_per_token(spec: "Spec", dtype="bfloat16") -> int:
    """Bytes of keys and values that one token adds: attention layers · 2 · kv_heads · head_dim · bytes, or those of
    their latent.
    """
    return len(spec.attention_layers) * sum(map(math.prod, spec.cached)) * dtype_bytes(dtype)


def length(tokens: float) -> float:
    """A number of tokens, or the mean of several such numbers, as a plain number.

    Raises:
        InputError: something else than a number, or one below 0.
    """
    return whole(tokens, "tokens", least=0) if is_whole(tokens) else number(tokens, "tokens", least=0, most=WIDEST)


def kv_bytes(spec: "Spec", tokens: int, dtype="bfloat16") -> int:
    """Bytes of all cached keys and values of one sequence."""
    return length(tokens) * kv_bytes_per_token(spec, dtype)


def state_bytes(spec: "Spec", dtype="float32", layers: int | None = None) -> int:
    """Bytes of the recurrent states of one sequence: value_heads · dk · dv per DeltaNet layer, all or `layers`.

    transformers keeps them in float32 whatever the model's dtype.
    """
    count = len(spec.deltanet_layers) if layers is None else layers
    return count * spec.value_heads * spec.dk * spec.dv * dtype_bytes(dtype)


def conv_bytes(spec: "Spec", dtype="bfloat16", columns: int | None = None) -> int:
    """Bytes of the convolution windows of one sequence, all DeltaNet layers.

    Args:
        columns: kept inputs; None is `conv`, as transformers keeps them. Engines keep `conv - 1`.
    """
    columns = spec.conv if columns is None else columns
    return len(spec.deltanet_layers) * spec.conv_channels * columns * dtype_bytes(dtype)


def snapshot_bytes(spec: "Spec", dtype="bfloat16", *, state_dtype="float32", columns: int | None = None) -> int:
    """Bytes that one snapshot copies: states and convolution windows. Keys and values are shared.

    Args:
        dtype: of the windows. state_dtype: of the states. columns: of a window that are kept; None is all of them.
    """
    return state_bytes(spec, state_dtype) + conv_bytes(spec, dtype, columns)


def snapshot_tokens(
    spec: "Spec", dtype="bfloat16", *, kv_dtype=None, state_dtype="float32", columns: int | None = None
) -> float:
    """Tokens whose keys and values take as many bytes as one snapshot; infinite without attention layers.

    Args:
        kv_dtype: of keys and values, None is `dtype`. state_dtype, columns: as for `snapshot_bytes`.
    """
    each = kv_bytes_per_token(spec, kv_dtype or dtype)
    return snapshot_bytes(spec, dtype, state_dtype=state_dtype, columns=columns) / each if each else math.inf


def cache_bytes(spec: "Spec", tokens: int, dtype="bfloat16", *, kv_dtype=None) -> int:
    """Bytes of the cache of one sequence in transformers: keys and values, states, convolution windows."""
    return kv_bytes(spec, tokens, kv_dtype or dtype) + snapshot_bytes(spec, dtype)


def logits_bytes(spec: "Spec", tokens: int = 1, dtype="bfloat16") -> int:
    """Bytes of the logits of so many tokens: vocab each."""
    return length(tokens) * spec.vocab * dtype_bytes(dtype)


def pattern_bytes(spec: "Spec", tokens: int, dtype="bfloat16") -> int:
    """Bytes of the full softmax map of one attention layer: query_heads · tokens²."""
    return spec.query_heads * length(tokens) ** 2 * dtype_bytes(dtype)


def trajectory_bytes(spec: "Spec", tokens: int, dtype="float32") -> int:
    """Bytes of the states of one DeltaNet layer at every token: never keep these, ask for chosen tokens."""
    return length(tokens) * state_bytes(spec, dtype, layers=1)


def engine_block(spec: "Spec", kv_dtype="bfloat16") -> int:
    """Tokens of a vLLM block: enough that one layer's keys and values fill the page of one layer's state.

    (float32 state + conv - 1 bfloat16 columns) / (2 · kv_heads · head_dim · bytes), up to a multiple of 16.
    Its logs show 784 for 27B, 1,568 with 8-bit keys and values, 528 for 4B.
    """
    page = state_bytes(spec, layers=1) + spec.conv_channels * (spec.conv - 1) * 2
    return 16 * math.ceil(page / (sum(map(math.prod, spec.cached)) * dtype_bytes(kv_dtype)) / 16)
