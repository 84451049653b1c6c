"""Kimi Linear (48B-A3B): `transformers/models/kimi_linear/modeling_kimi_linear.py`.

Kimi Delta Attention is the delta rule with a decay of its own for every key channel (arXiv 2510.26692): the seam `a`
has an axis `key`. Query, key and value heads are equally many and equally wide. Attention is latent: keys and values of
all heads are kept as one vector and made anew at every pass inside the layer, no seam shows them, and nothing is
rotated. So these layers are traced, edited and cached, and have no readings of their own; attribution goes through them
(`labkit.attribution.latent`). All layers but the first have experts.
"""

from labkit.errors import InputError
from labkit.families.qwen3_5 import LAYER_TYPES
from labkit.families.record import ATTENTION, COMMON, DELTANET, Family, Part, Seam

SEAMS = {
    DELTANET: {
        "q": Seam("self_attn.q_proj", "out", ("key_head", "key"), "projection"),
        "k": Seam("self_attn.k_proj", "out", ("key_head", "key"), "projection"),
        "v": Seam("self_attn.v_proj", "out", ("head", "value"), "projection"),
        "z": Seam("self_attn.g_b_proj", "out", ("head", "value"), "gate_input"),
        "b": Seam("self_attn.b_proj", "out", ("head",), "write_input"),
        "a": Seam("self_attn.forget_gate.f_b_proj", "out", ("head", "key"), "decay_input"),
        "read": Seam("self_attn.o_norm", "in", ("head", "value"), "read"),
        "gated": Seam("self_attn.o_proj", "in", ("head", "value"), "opened"),
        "mixer_out": Seam("self_attn", "out", ("channel",), "added"),
    }
    | COMMON,
    ATTENTION: {
        "latent": Seam("self_attn.kv_a_proj_with_mqa", "out", ("channel",), "latent", size="latent_channels"),
        "gated": Seam("self_attn.o_proj", "in", ("query_head", "head_dim"), "mixed"),
        "mixer_out": Seam("self_attn", "out", ("channel",), "added"),
    }
    | COMMON,
}
PARAMETERS = {
    DELTANET: {
        "conv1d.weight": "self_attn.conv1d.weight",
        "A_log": "self_attn.forget_gate.A_log",
        "dt_bias": "self_attn.forget_gate.dt_bias",
        "norm.weight": "self_attn.o_norm.weight",
    },
    ATTENTION: {},
}
SIZES = {
    "hidden": "hidden_size",
    "intermediate": "moe_intermediate_size",
    "vocab": "vocab_size",
    "key_heads": "linear_num_heads",
    "value_heads": "linear_num_heads",
    "dk": "linear_head_dim",
    "dv": "linear_head_dim",
    "conv": "linear_conv_kernel_dim",
    "query_heads": "num_attention_heads",
    "kv_heads": "num_attention_heads",
    "head_dim": "v_head_dim",
    "window": "model_max_length",
    "experts": "num_experts",
    "active_experts": "num_experts_per_token",
    "dense_intermediate": "intermediate_size",
    "latent": "kv_lora_rank",
    "shared": "qk_rope_head_dim",
    "plain": "qk_nope_head_dim",
}
LINEAR, FULL = LAYER_TYPES
MOST = 10_000  # layers, and experts that every token uses
OF_LINEAR = {
    "head_dim": "linear_head_dim",
    "num_heads": "linear_num_heads",
    "short_conv_kernel_size": "linear_conv_kernel_dim",
}


def settled(text) -> dict:
    """Sizes and kinds of the recurrent layers, which published files write below `linear_attn_config`.

    Raises:
        InputError: no object, counts that are none, layers that are counted twice or not at all.
    """
    linear = text.get("linear_attn_config") or {}
    if not isinstance(linear, dict):
        raise InputError("linear_attn_config is not an object", got=type(linear).__name__, expected="its sizes")
    more = {ours: linear[theirs] for theirs, ours in OF_LINEAR.items() if theirs in linear}
    count = _count(text, "num_hidden_layers", None)
    if text.get("layer_types") is None:
        more["layer_types"] = [FULL if layer and layer % 4 == 0 else LINEAR for layer in range(count)]
        if "full_attn_layers" in linear and "kda_layers" in linear:
            named = [(layer, FULL) for layer in _list(linear, "full_attn_layers")]
            named += [(layer, LINEAR) for layer in _list(linear, "kda_layers")]
            places = {layer: kind for layer, kind in named if type(layer) is int}
            if len(named) != count or set(places) != set(range(1, count + 1)):
                got, expected = f"{len(named)} layers", f"each of 1 to {count} once"
                raise InputError("full_attn_layers and kda_layers are not all layers", got=got, expected=expected)
            more["layer_types"] = [places[layer + 1] for layer in range(count)]
    if text.get("mlp_layer_types") is None:
        dense = _count(text, "first_k_dense_replace", 1)
        more["mlp_layer_types"] = ["dense" if layer < dense else "sparse" for layer in range(count)]
    return {**text, **more}


def derived(text) -> dict:
    """Width of the shared expert, layers without experts, channels of a compressed query.

    Raises:
        InputError: counts that are none, layers without experts behind others.
    """
    kinds = _list(text, "mlp_layer_types")
    dense = kinds.count("dense")
    if kinds != ["dense"] * dense + ["sparse"] * (text["num_hidden_layers"] - dense):
        got, expected = "mlp_layer_types in another order", "dense layers first, sparse ones after them"
        raise InputError("layers without experts stand among the others", got=got, expected=expected)
    shared = "num_shared_experts" if "num_shared_experts" in text else "n_shared_experts"
    return {
        "shared_intermediate": text["moe_intermediate_size"] * _count(text, shared, 1),
        "dense_layers": dense,
        "query_latent": text.get("q_lora_rank") or 0,
    }


def _count(text, field, default):
    """A number of layers or experts."""
    value = text.get(field, default)
    if type(value) is not int or not 0 <= value <= MOST:
        raise InputError(f"{field} is not a count", got=repr(value)[:40], expected=f"a whole number from 0 to {MOST:,}")
    return value


def _list(text, field):
    if not isinstance(text[field], list):
        raise InputError(f"{field} is not a list", got=repr(text[field])[:40], expected="one entry a layer")
    return text[field]


def mlp(spec) -> tuple[Part, ...]:
    """Experts, router, shared expert, of a layer that has them."""
    expert, router = 3 * spec.hidden * spec.intermediate, spec.hidden * spec.experts
    shared = 3 * spec.hidden * spec.shared_intermediate
    stacked = Part(spec.experts * expert, spec.active_experts * expert, "stacked")
    return stacked, Part(router, router, "small"), Part(shared, shared)


def deltanet(spec) -> tuple[int, int]:
    """Parameters of query, key, value, output, gates of decay, write and output, convolution, rates and norm."""
    d, wide, narrow = spec.hidden, spec.value_heads * spec.dv, spec.dv
    decay = d * narrow + narrow * wide + wide + spec.value_heads
    small = decay + d * spec.value_heads + spec.conv_channels * spec.conv + narrow
    return 4 * d * wide + d * narrow + narrow * wide + small, small


def attention(spec) -> tuple[int, int]:
    """Parameters of the compressed and the full queries, keys and values, of the output projection and the norms."""
    d, keys = spec.hidden, spec.query_heads * (spec.plain + spec.shared)
    queries = d * keys if not spec.query_latent else (d + keys) * spec.query_latent
    values = spec.query_heads * spec.head_dim
    made = spec.latent * (spec.query_heads * spec.plain + values)
    small = spec.latent + spec.query_latent
    return queries + d * spec.latent_channels + made + values * d + small, small


KIMI_LINEAR = Family(
    name="kimi_linear",
    title="Kimi Linear",
    model_types=("kimi_linear",),
    causal="KimiLinearForCausalLM",
    conditional=None,
    modeling="transformers.models.kimi_linear.modeling_kimi_linear",
    kernels={
        "chunk_gated_delta_rule": "chunk_kimi_delta_attention",
        "recurrent_gated_delta_rule": "recurrent_kimi_delta_attention",
        "causal_conv1d": "causal_conv1d_fn",
        "causal_conv1d_update": "causal_conv1d_update",
    },
    kinds=LAYER_TYPES,
    seams=SEAMS,
    parameters=PARAMETERS,
    projections={DELTANET: "self_attn.o_proj", ATTENTION: "self_attn.o_proj"},
    sizes=SIZES,
    mlp=mlp,
    unquantized=("lm_head", "b_proj", "f_a_proj", "f_b_proj", "gate"),
    fused={
        "mlp.experts.gate_up_proj": ("mlp.experts.{}.w1.weight", "mlp.experts.{}.w3.weight"),
        "mlp.experts.down_proj": ("mlp.experts.{}.w2.weight",),
    },
    joined={"self_attn.conv1d.weight": {f"self_attn.{x}_conv1d.weight": f"self_attn.{x}_proj.weight" for x in "qkv"}},
    renamed={".block_sparse_moe.": ".mlp."}
    | {f"self_attn.{name}": f"self_attn.forget_gate.{name}" for name in ("f_a_proj", "f_b_proj", "dt_bias", "A_log")},
    skipped=("mtp.",),
    carried=(),
    derived=derived,
    settled=settled,
    stored_fields=("linear_attn_config", "first_k_dense_replace"),
    mixers={DELTANET: deltanet, ATTENTION: attention},
    rotated=0.0,
    unread={ATTENTION: "latent attention, whose keys and values no seam shows"},
)
