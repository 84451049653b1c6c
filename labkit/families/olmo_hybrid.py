"""OLMo Hybrid (7B): `transformers/models/olmo_hybrid/modeling_olmo_hybrid.py`.

Recurrent layers have a linear layer for each of query, key and value, which enter one convolution side by side, and
write strengths up to 2 (`linear_allow_neg_eigval`). Attention has no output gate, its norms of queries and keys span
all heads, and it rotates all channels or, with a rope_theta of null, none.

Norms stand before mixer and MLP in recurrent layers, after them in attention layers. So in these `mixer_in` is the
residual stream itself, an edit there is one of the stream, and `mixer_out` and `mlp_out` are what is added: the normed
branch. What the norm is given is `branch`.
"""

from labkit.errors import InputError
from labkit.families.qwen3_5 import KERNELS, LAYER_TYPES, SIZES, mlp
from labkit.families.record import ATTENTION, COMMON, DELTANET, Family, Seam

SEAMS = {
    DELTANET: {
        "q": Seam("linear_attn.q_proj", "out", ("key_head", "key"), "projection"),
        "k": Seam("linear_attn.k_proj", "out", ("key_head", "key"), "projection"),
        "v": Seam("linear_attn.v_proj", "out", ("head", "value"), "projection"),
        "z": Seam("linear_attn.g_proj", "out", ("head", "value"), "gate_input"),
        "b": Seam("linear_attn.b_proj", "out", ("head",), "write_input"),
        "a": Seam("linear_attn.a_proj", "out", ("head",), "decay_input"),
        "read": Seam("linear_attn.o_norm", "in", ("head", "value"), "read"),
        "gated": Seam("linear_attn.o_proj", "in", ("head", "value"), "opened"),
        "mixer_out": Seam("linear_attn", "out", ("channel",), "added"),
    }
    | COMMON,
    ATTENTION: COMMON
    | {
        "mixer_in": Seam("", "in", ("channel",), "residual"),
        "q": Seam("self_attn.q_norm", "out", ("query_head", "head_dim"), "query"),
        "k": Seam("self_attn.k_norm", "out", ("kv_head", "head_dim"), "key_vector"),
        "v": Seam("self_attn.v_proj", "out", ("kv_head", "head_dim"), "value_vector"),
        "gated": Seam("self_attn.o_proj", "in", ("query_head", "head_dim"), "mixed"),
        "branch": Seam("self_attn", "out", ("channel",), "branch"),
        "mixer_out": Seam("post_attention_layernorm", "out", ("channel",), "added"),
        "mlp_out": Seam("post_feedforward_layernorm", "out", ("channel",), "added"),
    },
}
PARAMETERS = {
    DELTANET: {
        "conv1d.weight": "linear_attn.conv1d.weight",
        "A_log": "linear_attn.A_log",
        "dt_bias": "linear_attn.dt_bias",
        "norm.weight": "linear_attn.o_norm.weight",
    },
    ATTENTION: {},
}


def attention(spec) -> tuple[int, int]:
    """Parameters of query, key, value and output projection, and of two norms that span all heads."""
    queries, keys = spec.query_heads * spec.head_dim, spec.kv_heads * spec.head_dim
    return spec.hidden * 2 * (queries + keys) + queries + keys, queries + keys


def derived(text) -> dict:
    """Channels of a head, which the class takes from hidden_size where nothing else is said; the largest write.

    Raises:
        InputError: a flag that is none, a part of the channels rotated, heads of no whole number of channels.
    """
    doubled = text.get("linear_allow_neg_eigval", True)
    if not isinstance(doubled, bool):
        expected = "true (write strengths up to 2) or false (up to 1)"
        raise InputError("linear_allow_neg_eigval is neither true nor false", got=repr(doubled), expected=expected)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    share = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    if share not in (None, 1) and rope.get("rope_type", "default") != "default":
        got = f"partial_rotary_factor {share!r}"
        raise InputError("this family rotates all channels of a head or none", got=got, expected="1, or leave it out")
    width = text.get("head_dim")
    if width is None:
        width, rest = divmod(text["hidden_size"], max(text["num_attention_heads"], 1))
        if rest:
            got = f"hidden_size {text['hidden_size']}, num_attention_heads {text['num_attention_heads']}"
            raise InputError("heads of no whole number of channels", got=got, expected="a multiple, or head_dim")
    return {"head_dim": width, "most_write": 2 if doubled else 1}


OLMO_HYBRID = Family(
    name="olmo_hybrid",
    title="OLMo Hybrid",
    model_types=("olmo_hybrid",),
    causal="OlmoHybridForCausalLM",
    conditional=None,
    modeling="transformers.models.olmo_hybrid.modeling_olmo_hybrid",
    kernels=KERNELS,
    kinds=LAYER_TYPES,
    seams=SEAMS,
    parameters=PARAMETERS,
    projections={DELTANET: "linear_attn.o_proj", ATTENTION: "self_attn.o_proj"},
    sizes={ours: theirs for ours, theirs in SIZES.items() if ours != "head_dim"},
    mlp=mlp,
    unquantized=("lm_head", "a_proj", "b_proj"),
    joined={
        "linear_attn.conv1d.weight": {f"linear_attn.{x}_conv1d.weight": f"linear_attn.{x}_proj.weight" for x in "qkv"}
    },
    renamed={"attention_layer_norm": "input_layernorm", "feedforward_layer_norm": "post_attention_layernorm"},
    skipped=("mtp.",),
    carried=(),
    branch_norms={ATTENTION: "post_attention_layernorm"},
    derived=derived,
    mixers={ATTENTION: attention},
    rotated=1.0,
    unrotated=True,
)
