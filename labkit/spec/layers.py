"""The stack of a model as data: what stands in every layer, what it holds, and where it can be watched."""

import math
from typing import TYPE_CHECKING

from labkit.families import DELTANET
from labkit.notation import label
from labkit.spec import memory

if TYPE_CHECKING:
    import xarray

    from labkit.spec.anatomy import Spec

ALONG = ("resid_pre", "mixer_in", "mixer_out", "mlp_out", "resid_post")  # seams between the parts, on the way up


def stack(spec: "Spec", *, dtype="bfloat16") -> "xarray.Dataset":
    """The layers from the first to the last, for `labkit.draw.stack`; from the configuration alone.

    Args:
        dtype: of keys and values, for the bytes of a token.

    Returns:
        Dataset: `parameters` (layer, part) of mixer and MLP; `fixed_bytes` (layer) of the states, the same at every
        token, in float32; `token_bytes` (layer) that one more token adds. Coordinates say what kind a layer is
        (`layer_kind`), what stands in it (`mixer_text`, `mlp_text`) and which seams lie along it (`seams`).

    Raises:
        InputError: unknown dtype.
    """
    deltas = [kind == DELTANET for kind in spec.kinds]
    mixers = {True: memory.deltanet_parameters(spec)[0], False: memory.attention_parameters(spec)[0]}
    mlp = sum(part.count for part in memory.mlp_parts(spec))
    dense = [n < spec.dense_layers for n in range(spec.layers)]
    counts = [
        (mixers[delta], memory.dense_parameters(spec) if thin else mlp)
        for delta, thin in zip(deltas, dense, strict=True)
    ]
    added = sum(map(math.prod, spec.cached)) * memory.dtype_bytes(dtype)
    variables = {
        "parameters": (("layer", "part"), counts, None),
        "fixed_bytes": (("layer",), [memory.state_bytes(spec, layers=int(delta)) for delta in deltas], None),
        "token_bytes": (("layer",), [0 if delta else added for delta in deltas], None),
    }
    coords = {
        "layer": list(range(spec.layers)),
        "part": ["mixer", "MLP"],
        "layer_kind": ("layer", list(spec.kinds)),
        "mixer_text": ("layer", [_mixer(spec, delta) for delta in deltas]),
        "mlp_text": ("layer", [_mlp(spec, thin) for thin in dense]),
        "seams": ("layer", [" ".join(name for name in ALONG if name in spec.seams[kind]) for kind in spec.kinds]),
    }
    attrs = {"model": spec.name, "reading": "spec.stack", "hidden": spec.hidden, "vocab": spec.vocab}
    return label(variables, coords=coords, attrs=attrs)


def _mixer(spec, delta):
    if delta:
        return f"keeps {spec.value_heads} matrices of {spec.dk} × {spec.dv}"
    return f"{spec.query_heads} heads look at all tokens kept"


def _mlp(spec, thin):
    if spec.experts and not thin:
        return f"{spec.active_experts} of {spec.experts} experts of {spec.intermediate:,}"
    return f"{spec.dense_intermediate if thin else spec.intermediate:,} units, each token alone"
