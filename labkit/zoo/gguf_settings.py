"""The settings of a .gguf file, checked once, as a text configuration under transformers' names."""

from collections.abc import Mapping

from labkit.errors import CheckpointError
from labkit.families import Family
from labkit.spec.anatomy import LAYERS
from labkit.spec.documents import shown

SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "ssm.conv_kernel": "linear_conv_kernel_dim",
    "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads",
    "ssm.time_step_rank": "linear_num_value_heads",
}
WHOLE = ("block_count", "ssm.inner_size", "rope.dimension_count", *SIZES)
OPTIONAL = {
    "feed_forward_length": "intermediate_size",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "full_attention_interval": "full_attention_interval",
}
EPS, THETA = "attention.layer_norm_rms_epsilon", "rope.freq_base"
SECTIONS, TOKENS, DRAFTS = "rope.dimension_sections", "tokenizer.ggml.tokens", "nextn_predict_layers"
TOKEN_IDS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id"}
SCALING = "rope.scaling."
# What labkit and transformers compute as llama.cpp does; other settings of a scaling are refused by name.
SCALINGS = {"type": "rope_type", "factor": "factor", "original_context_length": "original_max_position_embeddings"}
SCALINGS |= {"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"}
NEUTRAL = {"attn_factor": 1.0, "yarn_attn_factor": 1.0, "yarn_ext_factor": 1.0, "finetuned": None}


def layers(found: Mapping, architecture: str) -> int:
    """Layers of the stack; the file counts those that draft tokens, too."""
    return found[f"{architecture}.block_count"] - found.get(f"{architecture}.{DRAFTS}", 0)


def configuration(
    found: Mapping, file: str, family: Family, *, tied: bool, sections: bool, rows: int | None = None
) -> dict:
    """The text configuration of a file, with every size that `labkit.spec` reads.

    Args:
        found: its settings. file: its name, for messages. tied: whether it holds no output projection.
        sections: whether the architecture has a rotary width for each of three axes.
        rows: of the embedding, which count the tokens where the file holds no vocabulary.

    Raises:
        CheckpointError: a setting that is missing, out of range or of another type, or that would change the model.
    """
    prefix = f"{family.gguf}."

    def demand(name, right, expected):
        if not right:
            got = f"{file}: {name} is {shown(found[name])}" if name in found else f"{file}: no {name}"
            raise CheckpointError("a setting of this .gguf file is not what it must be", got=got, expected=expected)

    for field in (*WHOLE, *(field for field in (*OPTIONAL, DRAFTS) if prefix + field in found)):
        least, most = int(field not in (*OPTIONAL, DRAFTS)), LAYERS if field in ("block_count", DRAFTS) else 2**40
        right = whole(found.get(prefix + field), least, most)
        demand(prefix + field, right, f"a whole number from {least} to {most:,}")
    for field in (EPS, THETA):
        demand(prefix + field, type(found.get(prefix + field)) is float, "a floating number")
    widths = found.get(prefix + SECTIONS)
    if sections or widths is not None:
        right = isinstance(widths, list) and all(whole(width, 0, 2**31) for width in widths)
        demand(prefix + SECTIONS, right, "whole numbers")
    vocab = found.get(TOKENS, rows)
    demand(TOKENS, whole(vocab, 1, 2**31), "tokens")
    ids = {f"tokenizer.ggml.{theirs}": ours for theirs, ours in TOKEN_IDS.items()}
    for name in (name for name in (*ids, "tokenizer.ggml.unknown_token_id") if name in found):
        demand(name, whole(found[name], 0, vocab - 1), f"0 to {vocab - 1}")
    demand(f"{prefix}block_count", layers(found, family.gguf) > 0, "layers beside those that draft tokens")
    heads, inner = found[f"{prefix}ssm.time_step_rank"], found[f"{prefix}ssm.inner_size"]
    demand(f"{prefix}ssm.inner_size", inner % heads == 0, f"a multiple of the {heads} value heads")
    rope = {"rope_theta": found[prefix + THETA], "rope_type": "default"} | _scaling(found, prefix, demand)
    rope["partial_rotary_factor"] = found[f"{prefix}rope.dimension_count"] / found[f"{prefix}attention.key_length"]
    if sections:
        rope |= {"mrope_section": [width for width in widths if width], "mrope_interleaved": True}
    return (
        {ours: found[prefix + theirs] for theirs, ours in SIZES.items()}
        | {ours: found[prefix + theirs] for theirs, ours in OPTIONAL.items() if prefix + theirs in found}
        | {ours: found.get(theirs) for theirs, ours in ids.items()}
        | {
            "model_type": family.model_types[-1],
            "num_hidden_layers": layers(found, family.gguf),
            "linear_value_head_dim": inner // heads,
            "rms_norm_eps": found[prefix + EPS],
            "vocab_size": vocab,
            "tie_word_embeddings": tied,
            "rope_parameters": rope,
        }
    )


def _scaling(found, prefix, demand):
    """The scaling of rotary frequencies, under transformers' names; empty where there is none."""
    demand(f"{prefix}rope.scale_linear", found.get(f"{prefix}rope.scale_linear", 1.0) in (0.0, 1.0), "1.0, or nothing")
    stated = {name: value for name, value in found.items() if name.startswith(prefix + SCALING)}
    kind = stated.get(f"{prefix}{SCALING}type", "none")
    if kind == "none":
        factor = stated.get(f"{prefix}{SCALING}factor", 1.0)
        demand(f"{prefix}{SCALING}factor", factor in (0.0, 1.0), "1.0, or rope.scaling.type yarn or linear")
        return {}
    demand(f"{prefix}{SCALING}type", kind in ("yarn", "linear"), "none, yarn or linear")
    rope = {}
    for name, value in stated.items():
        field = name.removeprefix(prefix + SCALING)
        if field in NEUTRAL:
            demand(name, NEUTRAL[field] in (None, value), f"{NEUTRAL[field]}, or nothing")
        else:
            demand(name, field in SCALINGS, "no such setting")
            rope[SCALINGS[field]] = value
    demand(f"{prefix}{SCALING}factor", type(rope.get("factor")) is float and 1 <= rope["factor"] < 1e6, "1.0 or more")
    original = rope.get("original_max_position_embeddings", 1)
    demand(f"{prefix}{SCALING}original_context_length", whole(original, 1, 2**40), "a whole number")
    return rope


def whole(value, least: int, most: int) -> bool:
    """Whether a value is a whole number in a range."""
    return type(value) is int and least <= value <= most
