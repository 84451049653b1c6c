"""Qwen3.5 to 3.8 with experts (35B-A3B, 397B-A17B): `transformers/models/qwen3_5_moe/modeling_qwen3_5_moe.py`.

The mixers are those of the dense family, module by module. The MLP is a router over `experts` small MLPs, of which each
token uses `active_experts`, beside a shared one behind a sigmoid gate.
"""

import dataclasses

from labkit.families.qwen3_5 import MIXERS, QWEN3_5, SIZES
from labkit.families.record import COMMON, Part, Seam

EXPERTS = {
    "intermediate": "moe_intermediate_size",
    "experts": "num_experts",
    "active_experts": "num_experts_per_tok",
    "shared_intermediate": "shared_expert_intermediate_size",
}


def route(logits, spec) -> tuple:
    """(weights [..., choice], chosen [..., choice]) of logits [..., expert]: `Qwen3_5MoeTopKRouter.forward`.

    The softmax is over all experts, in float32; the weights of the chosen ones are divided by their sum.
    """
    weights, chosen = logits.float().softmax(-1).topk(spec.active_experts, -1)
    return (weights / weights.sum(-1, keepdim=True)).to(logits.dtype), chosen


# The router returns (logits, weights, chosen) and the block uses the last two: so they follow an edit of the first.
ROUTER = {
    "router": Seam("mlp.gate", "out", ("expert",), "router", follow=route),
    "routed": Seam("mlp.gate", "out", ("choice",), "routed", entry=1),
    "chosen": Seam(  # whole numbers of 8 bytes; a plan counts in activations, of 2 bytes where it matters
        "mlp.gate",
        "out",
        ("choice",),
        "chosen",
        entry=2,
        indexes="expert",
        whole=lambda spec: 4 * spec.active_experts,
    ),
}


def mlp(spec) -> tuple[Part, ...]:
    """Experts, router, shared expert, and the shared expert's gate."""
    expert = 3 * spec.hidden * spec.intermediate
    router, shared = spec.hidden * spec.experts, 3 * spec.hidden * spec.shared_intermediate
    return (
        Part(spec.experts * expert, spec.active_experts * expert, "stacked"),
        Part(router, router, "small"),
        Part(shared, shared),
        Part(spec.hidden, spec.hidden, "small"),
    )


QWEN3_5_MOE = dataclasses.replace(
    QWEN3_5,
    name="qwen3_5_moe",
    title="Qwen3.5 to 3.8 with experts",
    model_types=("qwen3_5_moe", "qwen3_5_moe_text"),
    causal="Qwen3_5MoeForCausalLM",
    conditional="Qwen3_5MoeForConditionalGeneration",
    modeling="transformers.models.qwen3_5_moe.modeling_qwen3_5_moe",
    seams={kind: seams | COMMON | ROUTER for kind, seams in MIXERS.items()},
    sizes=SIZES | EXPERTS,
    mlp=mlp,
    unquantized=(*QWEN3_5.unquantized, "gate", "shared_expert_gate"),
    fused={
        "mlp.experts.gate_up_proj": ("mlp.experts.{}.gate_proj.weight", "mlp.experts.{}.up_proj.weight"),
        "mlp.experts.down_proj": ("mlp.experts.{}.down_proj.weight",),
    },
    gguf="qwen35moe",
)
