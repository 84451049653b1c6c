"""Hooks of TransformerLens as data: the seam that each crosses, or the call that gives it (`trace.names` reads it).

Sources: TransformerLens at 4cd36aa, in `model_bridge`: `generalized_components/gated_delta_net.py`, `block.py`,
`attention.py` and `position_embeddings_attention.py`, `supported_architectures/qwen3.py`, `qwen3_5.py` and
`qwen3_next.py`. It has no adapter for the other families, in which a name means what it means there.
"""

from typing import NamedTuple

from labkit.families import ATTENTION, DELTANET


class Hook(NamedTuple):
    """A hook of TransformerLens that crosses a seam.

    Attributes:
        seams: labkit's names, of which the first that the layer has is meant.
        path: of the module that the seam must be at; None for any. Families with norms elsewhere have other tensors.
        part: of queries, keys and values side by side, which of the three.
    """

    seams: tuple[str, ...]
    path: str | None = None
    part: int | None = None


# Below `blocks.{layer}.`, by the layer's kind.
BLOCK = {
    "hook_resid_pre": Hook(("resid_pre",)),
    "hook_in": Hook(("resid_pre",)),
    "hook_resid_post": Hook(("resid_post",)),
    "hook_out": Hook(("resid_post",)),
    "hook_mlp_out": Hook(("mlp_out",), path="mlp"),
    "mlp.hook_out": Hook(("mlp_out",), path="mlp"),
    "ln1.hook_out": Hook(("mixer_in",), path="input_layernorm"),
}
HOOKS = {
    DELTANET: BLOCK
    | {
        "linear_attn.hook_in": Hook(("mixer_in",)),
        "linear_attn.hook_linear_attn_in": Hook(("mixer_in",)),
        "linear_attn.hook_q_pre_conv": Hook(("q", "qkv"), part=0),
        "linear_attn.hook_k_pre_conv": Hook(("k", "qkv"), part=1),
        "linear_attn.hook_v_pre_conv": Hook(("v", "qkv"), part=2),
        "linear_attn.hook_beta_logit": Hook(("b",)),
        "linear_attn.hook_recurrence_out": Hook(("read",)),
        "linear_attn.hook_gate_input": Hook(("z",)),
        "linear_attn.hook_out": Hook(("mixer_out",)),
        "linear_attn.hook_linear_attn_out": Hook(("mixer_out",)),
    },
    ATTENTION: BLOCK
    | {
        "attn.hook_in": Hook(("mixer_in",)),
        "attn.hook_q_normed": Hook(("q",)),
        "attn.hook_k_normed": Hook(("k",)),
        "attn.hook_v": Hook(("v",)),
        "attn.hook_q_gate": Hook(("gate",)),
        "attn.hook_z": Hook(("gated",)),
        "attn.hook_out": Hook(("branch", "mixer_out")),  # a norm behind it is no part of it
        "hook_attn_out": Hook(("branch", "mixer_out")),
    },
}
AXES = {
    "attn.hook_q_normed": "heads before tokens, or side by side where the norm spans them",
    "attn.hook_k_normed": "heads before tokens, or side by side where the norm spans them",
    "attn.hook_q_gate": "heads side by side",
}
# What is no seam, by kind: the call that gives it, and what differs.
MID = 'run.seams[{layer}, "resid_pre"] + run.seams[{layer}, "mixer_out"]'
INSIDE = ("", "nothing inside an MLP is kept")
BETWEEN = {
    "hook_resid_mid": (MID, "a sum of two seams"),
    "hook_mlp_in": (MID, "a sum of two seams"),
    "ln1.hook_in": ('run.seams[{layer}, "resid_pre"]', "where a norm stands before the mixer"),
    "ln2.hook_in": (MID, "where a norm stands before the MLP"),
    "ln2.hook_out": (MID, "before its norm"),
    "mlp.hook_in": (MID, "before its norm"),
    "mlp.hook_pre": INSIDE,
    "mlp.hook_pre_linear": INSIDE,
    "mlp.hook_post": INSIDE,
    "mlp.hook_router_scores": ("experts.chosen(run, layer={layer})", "experts and weights of the choice"),
}
READINGS = {
    DELTANET: BETWEEN
    | {
        "linear_attn.hook_q": ("deltanet.inputs(run, {layer}).q", "of unit length, over the root of its channels"),
        "linear_attn.hook_k": ("deltanet.inputs(run, {layer}).k", "of unit length"),
        "linear_attn.hook_v": ("deltanet.inputs(run, {layer}).v", "in float32"),
        "linear_attn.hook_beta": ("deltanet.inputs(run, {layer}).beta", "in float32"),
        "linear_attn.hook_log_decay": ("deltanet.inputs(run, {layer}).g", "the logarithm of α"),
    },
    ATTENTION: BETWEEN
    | {
        "attn.hook_pattern": ("attention.pattern(run, layer={layer})", "its weight, recomputed and proven"),
        "attn.hook_attn_scores": ("attention.pattern(run, layer={layer}, logits=True)", "its logit"),
        "attn.hook_rot_q": ("attention.inputs(run, {layer}).q", "tokens before heads"),
        "attn.hook_rot_k": ("attention.inputs(run, {layer}).k", "tokens before heads"),
        "attn.hook_result": ("attention.contribution(run, lab, layer={layer})", "norms of what each source adds"),
        "attn.hook_q": ('run.seams[{layer}, "q"]', "after its norm; theirs is before it, beside the gate"),
        "attn.hook_k": ('run.seams[{layer}, "k"]', "after its norm; theirs is before it"),
        "attn.hook_cos": ("run.rotary[0]", "of the rotated channels"),
        "attn.hook_sin": ("run.rotary[1]", "of the rotated channels"),
    },
}
# Asked of the other kind of layer, where that has something of its own.
INSTEAD = dict.fromkeys(
    ("attn.hook_pattern", "attn.hook_attn_scores"), "deltanet.implied_attention(run, layer={layer})"
)
# Of the whole model: the place, or the call.
EMBEDDED, LAST = (0, "resid_pre"), (-1, "resid_post")
WHOLE = dict.fromkeys(("hook_embed", "embed.hook_out", "model.embed_tokens"), EMBEDDED)
WHOLE |= dict.fromkeys(("ln_final.hook_in", "model.norm.input"), LAST)
CALLS = dict.fromkeys(("hook_unembed", "unembed.hook_out", "lm_head"), "run.logits")
CALLS |= dict.fromkeys(("ln_final.hook_out", "model.norm"), 'lab.final_norm(run.seams[{last}, "resid_post"])')
