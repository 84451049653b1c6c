"""Qwen3.5, 3.6 and 3.8, dense: `transformers/models/qwen3_5/modeling_qwen3_5.py`.

`linear_attn.conv1d` is no seam: its weight is used functionally, so a hook on it never fires.
"""

from labkit.families.record import ATTENTION, COMMON, DELTANET, Family, Part, Seam

MIXERS = {
    DELTANET: {
        "qkv": Seam("linear_attn.in_proj_qkv", "out", ("channel",), "projection", size="conv_channels"),
        "z": Seam("linear_attn.in_proj_z", "out", ("head", "value"), "gate_input"),
        "b": Seam("linear_attn.in_proj_b", "out", ("head",), "write_input"),
        "a": Seam("linear_attn.in_proj_a", "out", ("head",), "decay_input"),
        "read": Seam("linear_attn.norm", "in", ("head", "value"), "read"),
        "gated": Seam("linear_attn.out_proj", "in", ("head", "value"), "opened"),
        "mixer_out": Seam("linear_attn", "out", ("channel",), "added"),
    },
    ATTENTION: {
        "q": Seam("self_attn.q_norm", "out", ("query_head", "head_dim"), "query"),
        "k": Seam("self_attn.k_norm", "out", ("kv_head", "head_dim"), "key_vector"),
        "v": Seam("self_attn.v_proj", "out", ("kv_head", "head_dim"), "value_vector"),
        "gate": Seam("self_attn.q_proj", "out", ("query_head", "head_dim"), "gate_input", part=(1, 2)),
        "gated": Seam("self_attn.o_proj", "in", ("query_head", "head_dim"), "opened"),
        "mixer_out": Seam("self_attn", "out", ("channel",), "added"),
    },
}
PARAMETERS = {
    DELTANET: {
        "conv1d.weight": "linear_attn.conv1d.weight",
        "A_log": "linear_attn.A_log",
        "dt_bias": "linear_attn.dt_bias",
        "norm.weight": "linear_attn.norm.weight",
    },
    ATTENTION: {},
}
KERNELS = {
    "chunk_gated_delta_rule": "torch_chunk_gated_delta_rule",
    "recurrent_gated_delta_rule": "torch_recurrent_gated_delta_rule",
    "causal_conv1d": "causal_conv1d_fn",
    "causal_conv1d_update": "causal_conv1d_update",
}
SIZES = {
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "vocab": "vocab_size",
    "key_heads": "linear_num_key_heads",
    "value_heads": "linear_num_value_heads",
    "dk": "linear_key_head_dim",
    "dv": "linear_value_head_dim",
    "conv": "linear_conv_kernel_dim",
    "query_heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "window": "max_position_embeddings",
}
LAYER_TYPES = {"linear_attention": DELTANET, "full_attention": ATTENTION}


def mlp(spec) -> tuple[Part, ...]:
    """gate, up and down projection; every token uses all of them."""
    count = 3 * spec.hidden * spec.intermediate
    return (Part(count, count),)


QWEN3_5 = Family(
    name="qwen3_5",
    title="Qwen3.5, 3.6 and 3.8, dense",
    model_types=("qwen3_5", "qwen3_5_text"),
    causal="Qwen3_5ForCausalLM",
    conditional="Qwen3_5ForConditionalGeneration",
    modeling="transformers.models.qwen3_5.modeling_qwen3_5",
    kernels=KERNELS,
    kinds=LAYER_TYPES,
    seams={kind: seams | COMMON for kind, seams in MIXERS.items()},
    parameters=PARAMETERS,
    projections={DELTANET: "linear_attn.out_proj", ATTENTION: "self_attn.o_proj"},
    sizes=SIZES,
    mlp=mlp,
    text_prefix="model.language_model.",
    unquantized=("lm_head", "in_proj_a", "in_proj_b"),
    gguf="qwen35",
    mlx=True,
)
