"""Where every head reads from, both kinds on one screen, token by token

For the reading token under the slider: left, the exact implied weights of all value heads of the DeltaNet layers,
signed; right, the softmax weights of all query heads of the attention layers times their mean output gate. Columns are
the tokens that are read from; under the pointer stand the norm of the value and, on the right, the gate.

Move the slider to a key that was stated before, like the last token. Look for heads of either kind that put weight on
the fact about it, and for heads that only ever read their neighbours. Heads that all read alike would make this screen
pointless.

Source: Gated DeltaNet, arXiv 2412.06464, section 3; output gate, arXiv 2505.06708.
"""

import xarray

from labkit import attention, deltanet
from labkit import draw as plot
from labkit.notation import QUANTITIES

PROMPT = " fox red. whale blue. crow green. lion gold. crow green. fox"


def data(lab):
    """implied (token, head, source) of all DeltaNet heads, gated (token, query_head, source) of all attention heads."""
    run, spec = lab.trace(PROMPT), lab.spec
    left = _joined(deltanet.implied_attention(run, layer=spec.deltanet_layers), "head")
    right = _joined(attention.pattern(run, layer=spec.attention_layers), "query_head")
    gated = (right.weight * right.gate).assign_attrs(vars(QUANTITIES["gated"]))
    ds = left.rename(weight="implied", value_norm="held_norm")
    ds = ds.assign(gated=gated, gate=right.gate, value_norm=right.value_norm)
    ds = ds.transpose("token", "head", "query_head", "source")
    facts = {name: max(left.attrs[name], right.attrs[name]) for name in ("parity", "tolerance")}
    ds.attrs = {
        "model": lab.name,
        "reading": "deltanet.implied_attention and attention.pattern",
        "form": "value",
    } | facts
    return ds


def _joined(ds, dim):
    """The heads of all layers along one axis, named by layer and head."""
    layers = [ds.sel(layer=layer, drop=True) for layer in ds.layer]
    names = [f"L{int(layer)} h{int(head)}" for layer in ds.layer for head in ds[dim]]
    return xarray.concat(layers, dim).assign_coords({dim: names})


def draw(ds):
    """Two maps with one slider over the reading tokens."""
    return plot.maps(
        (ds, "implied", "DeltaNet layers: implied weight", ["held_norm"]),
        (ds, "gated", "attention layers: weight times gate", ["value_norm", "gate"]),
        slider="token",
        start=-1,
        title="Where every head reads from, token by token",
    )
