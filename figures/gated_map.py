"""The output gate decides what a softmax map is worth: the same head, before and after it

Left, the softmax weights of one query head; every row sums to one whether the head has anything to say or not. Right,
the same weights times the mean output gate of the reading token, which is what reaches the residual stream. The head
shown is the one whose gate differs most between tokens.

Look for rows that are as strong as any on the left and pale on the right: tokens at which the head attends, and is
shut. If all rows were paled by the same factor the gate would add nothing to the map, and the title would be wrong.

Source: gated attention, arXiv 2505.06708.
"""

from labkit import attention
from labkit import draw as plot
from labkit.notation import QUANTITIES

PROMPT = " fox red. whale blue. crow green. lion gold. crow green. fox red."


def data(lab):
    """weight and gated (token, source), gate (token), of the head named by the coordinate query_head."""
    run = lab.trace(PROMPT)
    maps = attention.pattern(run, layer=lab.spec.attention_layers)
    spread = maps.gate.std("token")
    at = spread.argmax(...)
    ds = maps.isel(at)
    gated = (ds.weight * ds.gate).assign_attrs(vars(QUANTITIES["gated"]))
    return ds[["weight", "gate"]].assign(gated=gated).assign_attrs(maps.attrs | {"layer": int(ds.layer)})


def draw(ds):
    """Both maps."""
    low, high = float(ds.gate.min()), float(ds.gate.max())
    left, right = "softmax weights: every row sums to 1", f"times the gate, which runs from {low:.2f} to {high:.2f}"
    title = f"Layer {ds.attrs['layer']}, query head {int(ds.query_head)}: what it attends to, and what of it counts"
    return plot.maps((ds, "weight", left), (ds, "gated", right), title=title)
