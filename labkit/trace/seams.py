"""Where the seams of each layer kind are: the one table that a new model family would have to extend.

A seam is a tensor that crosses a module boundary inside one decoder layer of Hugging Face's `Qwen3_5DecoderLayer`
(`transformers/models/qwen3_5/modeling_qwen3_5.py`). `linear_attn.conv1d` is none: its weight is used functionally, so
a hook on it never fires.
"""

import dataclasses

from labkit.errors import InputError


@dataclasses.dataclass(frozen=True)
class Seam:
    """Where one tensor crosses a module boundary.

    Attributes:
        path: the module, dotted, below the decoder layer; "" is the layer itself.
        side: "out" (what the module returns) or "in" (its first positional argument).
        dims: axes after `token`, as fields of `Spec` or numbers of them multiplied out by `sizes`.
        part: None, or (index, parts): which of `parts` equal pieces of the last axis.
    """

    path: str
    side: str
    dims: tuple[str, ...]
    part: tuple[int, int] | None = None


COMMON = {
    "resid_pre": Seam("", "in", ("channel",)),
    "mixer_in": Seam("input_layernorm", "out", ("channel",)),
    "mlp_out": Seam("mlp", "out", ("channel",)),
    "resid_post": Seam("", "out", ("channel",)),
}
SEAMS = {
    "deltanet": {
        "qkv": Seam("linear_attn.in_proj_qkv", "out", ("channel",)),
        "z": Seam("linear_attn.in_proj_z", "out", ("head", "value")),
        "b": Seam("linear_attn.in_proj_b", "out", ("head",)),
        "a": Seam("linear_attn.in_proj_a", "out", ("head",)),
        "read": Seam("linear_attn.norm", "in", ("head", "value")),
        "gated": Seam("linear_attn.out_proj", "in", ("head", "value")),
        "mixer_out": Seam("linear_attn", "out", ("channel",)),
        **COMMON,
    },
    "attention": {
        "q": Seam("self_attn.q_norm", "out", ("query_head", "value")),
        "k": Seam("self_attn.k_norm", "out", ("kv_head", "value")),
        "v": Seam("self_attn.v_proj", "out", ("kv_head", "value")),
        "gate": Seam("self_attn.q_proj", "out", ("query_head", "value"), part=(1, 2)),
        "gated": Seam("self_attn.o_proj", "in", ("query_head", "value")),
        "mixer_out": Seam("self_attn", "out", ("channel",)),
        **COMMON,
    },
}
PARAMETERS = {
    "deltanet": (
        "linear_attn.conv1d.weight",
        "linear_attn.A_log",
        "linear_attn.dt_bias",
        "linear_attn.norm.weight",
    ),
    "attention": (),
}


def decoder(model):
    """The stack of decoder layers: `model.model`, or `model.model.language_model` in the image-text class."""
    inner = model.model
    return getattr(inner, "language_model", inner)


def heads_of(spec, axis, kind):
    """Length of a head axis of a seam."""
    return {"head": spec.heads, "query_head": spec.query_heads, "kv_head": spec.kv_heads}[axis]


def shaped(tensor, seam, spec, kind, batch, tokens):
    """A seam's tensor as [batch, token, *dims]; a view wherever the layout allows."""
    if seam.part is not None:
        index, parts = seam.part
        heads = heads_of(spec, seam.dims[0], kind)
        return tensor.view(batch, tokens, heads, parts, -1).select(3, index)
    if seam.dims == ("channel",) or seam.dims == ("head",):
        return tensor.view(batch, tokens, -1)
    return tensor.reshape(batch, tokens, heads_of(spec, seam.dims[0], kind), -1)


def wanted_seams(spec, layers, keep):
    """`{layer: names}` from the arguments of `Lab.trace`; None means all.

    Raises:
        InputError: a layer out of range, or a seam that exists in none of the chosen layers.
    """
    layers = range(spec.layers) if layers is None else [layers] if isinstance(layers, int) else list(layers)
    keep = [keep] if isinstance(keep, str) else keep
    known = {name for layer in layers for name in SEAMS[spec.kind(layer)]}
    if keep is not None and (unknown := set(keep) - known):
        raise InputError("unknown seam", got=sorted(unknown), expected=", ".join(sorted(known)))
    return {
        layer: [name for name in SEAMS[spec.kind(layer)] if keep is None or name in keep] for layer in sorted(layers)
    }


def parameters_of(model, spec, layers):
    """Copies of the small weights that the readings of these layers need."""
    stack = decoder(model)
    return {
        (layer, path.removeprefix("linear_attn.")): stack.layers[layer].get_parameter(path).detach().clone()
        for layer in layers
        for path in PARAMETERS[spec.kind(layer)]
    }
