"""FLOPs of prefill and rooflines of prefill and decode on a named GPU.

    prefill of T tokens   T·(linear + core) + b/2·T²         a multiply-add is 2 FLOPs; the triangle is causal
    linear                2 · parameters of mixers and MLP that one token uses
    core                  D layers · value_heads · [2C(3·dk + 2·dv) + 6·dk·dv] in chunks of C (2412.06464 sec. 3):
                          KKᵀ, QKᵀ, M⁻¹K, M⁻¹V, (QKᵀ)U cost 2C·width each; W·S, Q·S, KᵀU cost 2·dk·dv each
    b                     4 · A layers · query_heads · head_dim, FLOPs per pair of tokens (QKᵀ and PV)
    decode of one token   (weights that it uses but the embedding table + T·keys and values + 2·states) / bandwidth

Rooflines are lower bounds: nothing here counts kernel efficiency, activations or launch time.
"""

import dataclasses
import math
from typing import TYPE_CHECKING

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.spec.memory import dtype_bytes, idle_parameters, kv_bytes, parameters, state_bytes, weight_bytes

if TYPE_CHECKING:
    from labkit.spec.anatomy import Spec


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Peak numbers of a card, dense (no sparsity): memory in GB, bandwidth in TB/s, arithmetic in TFLOP/s.

    `half` is bfloat16 or float16 tensor cores with float32 accumulation; `fp8` is None where there is none;
    `single` is float32 outside the tensor cores. `source` names the vendor's document.
    """

    name: str
    memory: float
    bandwidth: float
    half: float
    fp8: float | None
    single: float
    source: str


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("H200", 141, 4.8, 989, 1979, 67, "NVIDIA H200 data sheet, SXM"),
        Gpu("H100", 80, 3.35, 989, 1979, 67, "NVIDIA H100 data sheet, SXM"),
        Gpu("A100", 80, 2.039, 312, None, 19.5, "NVIDIA A100 80GB data sheet, SXM"),
        Gpu("L40S", 48, 0.864, 362, 733, 91.6, "NVIDIA L40S data sheet"),
        Gpu("RTX 5090", 32, 1.792, 209.5, 419, 104.8, "NVIDIA RTX Blackwell GPU architecture whitepaper"),
        Gpu("RTX 4090", 24, 1.008, 165.2, 330.3, 82.6, "NVIDIA Ada GPU architecture whitepaper"),
        Gpu("RTX 3090", 24, 0.936, 71, None, 35.6, "NVIDIA Ampere GA102 GPU architecture whitepaper"),
    )
}


def find_gpu(gpu: str | Gpu) -> Gpu:
    """A `Gpu` from its name (case and blanks do not matter); a `Gpu` is returned as it is.

    Raises:
        InputError: unknown name.
    """
    if isinstance(gpu, Gpu):
        return gpu
    wanted = str(gpu).lower().replace(" ", "")
    for known in GPUS.values():
        if known.name.lower().replace(" ", "") == wanted:
            return known
    hint = "labkit.spec.Gpu(name, memory, bandwidth, half, fp8, single, source) describes any other card"
    raise InputError("unknown GPU", got=str(gpu), expected=", ".join(GPUS), hint=hint)


def linear_flops(spec: "Spec") -> int:
    """FLOPs per token of all matrix products with weights in mixers and MLP; lm_head apart (`head_flops`).

    Of an MLP with experts only those count that a token uses.
    """
    count = parameters(spec)
    return 2 * (count["deltanet"] + count["attention"] + count["mlp"] - idle_parameters(spec))


def core_flops(spec: "Spec", chunk: int = 64) -> int:
    """FLOPs per token of the delta rule in chunks of `chunk` tokens, all DeltaNet layers."""
    per_head = 2 * chunk * (3 * spec.dk + 2 * spec.dv) + 6 * spec.dk * spec.dv
    return len(spec.deltanet_layers) * spec.value_heads * per_head


def pair_flops(spec: "Spec") -> int:
    """FLOPs per pair of tokens of softmax attention, all attention layers: b of the quadratic term b/2·T²."""
    return 4 * len(spec.attention_layers) * spec.query_heads * spec.head_dim


def head_flops(spec: "Spec") -> int:
    """FLOPs of lm_head per position whose logits are wanted."""
    return 2 * spec.hidden * spec.vocab


def equal_tokens(spec: "Spec") -> float:
    """Length at which attention costs as many FLOPs as the linear layers: 2·linear/b, or infinity."""
    return 2 * linear_flops(spec) / pair_flops(spec) if spec.attention_layers else math.inf


def prefill_flops(spec: "Spec", tokens: int, *, cached: int = 0, chunk: int = 64) -> dict[str, float]:
    """FLOPs of reading `tokens` tokens of which the first `cached` are already in the cache.

    Returns:
        dict: linear, core, attention, total. lm_head is left out: one position's logits are negligible.

    Raises:
        InputError: `tokens` below 1, or `cached` outside 0 to `tokens`.
    """
    tokens = whole(tokens, "tokens", least=1)
    cached = whole(cached, "cached", least=0, most=tokens)
    parts = {
        "linear": (tokens - cached) * linear_flops(spec),
        "core": (tokens - cached) * core_flops(spec, chunk),
        "attention": pair_flops(spec) * (tokens**2 - cached**2) / 2,
    }
    return parts | {"total": sum(parts.values())}


def prefill_seconds(
    spec: "Spec",
    tokens: int,
    gpu: str | Gpu = "H200",
    *,
    cached: int = 0,
    dtype="bfloat16",
    quantize: str | None = None,
) -> float:
    """Seconds of prefill at the card's peak, behind `cached` tokens that are there already: a lower bound.

    With `quantize="fp8"` weight products run at the fp8 rate, delta rule and attention at the 16-bit rate;
    the other quantisations compute in `dtype`. Raises as `rates` and `prefill_flops` do.
    """
    parts, (weights, rest) = prefill_flops(spec, tokens, cached=cached), rates(find_gpu(gpu), dtype, quantize)
    return (parts["linear"] / weights + (parts["core"] + parts["attention"]) / rest) / 1e12


def rates(gpu: Gpu, dtype="bfloat16", quantize: str | None = None) -> tuple[float, float]:
    """Peak TFLOP/s of a `Gpu` for products with weights, and for everything else.

    Raises:
        InputError: fp8 weights on a card without fp8 arithmetic, where transformers expands them to 16 bits.
    """
    rest = gpu.half if dtype_bytes(dtype) <= 2 else gpu.single
    if quantize == "fp8" and not gpu.fp8:
        able = [card.name for card in GPUS.values() if card.fp8]
        hint = 'there transformers expands the weights to 16 bits; quantize="nf4", "int4" or "int8" stay small'
        raise InputError("fp8 weights need fp8 arithmetic", got=gpu.name, expected=", ".join(able), hint=hint)
    return gpu.fp8 if quantize == "fp8" else rest, rest


def decode_bytes(spec: "Spec", tokens: int, *, dtype="bfloat16", quantize: str | None = None, kv_dtype=None) -> int:
    """Bytes that cross the memory bus for one generated token at batch 1 with `tokens` in the cache.

    Every weight but the embedding table (a tied one is read once, as lm_head) and the experts that the token does not
    use, all keys and values, and the states read and written.
    """
    weights = weight_bytes(spec, dtype, quantize, active=True)
    read = weights["text"] - (0 if spec.tied else weights["embed"])
    return read + kv_bytes(spec, tokens, kv_dtype or dtype) + 2 * state_bytes(spec)


def decode_seconds(
    spec: "Spec", tokens: int, gpu: str | Gpu = "H200", *, dtype="bfloat16", quantize: str | None = None, kv_dtype=None
) -> float:
    """Seconds per generated token at batch 1 if memory bandwidth is the only limit: a lower bound."""
    gpu = find_gpu(gpu)
    rates(gpu, dtype, quantize)
    return decode_bytes(spec, tokens, dtype=dtype, quantize=quantize, kv_dtype=kv_dtype) / (gpu.bandwidth * 1e12)
