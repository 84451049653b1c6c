"""Four fifths of what tells the logits of a row apart in nano carry no position; YaRN can change the rest alone

Mean square of the parts of a logit by distance, in bins that double, each part measured from its mean over the row,
which the softmax does not see: the rotary pairs as YaRN classes them, and the three quarters of the channels that are
not rotated. Mean over the heads of a layer, text of 448 tokens.

Look how far the lines of the rotated pairs stay below the one without position. A position-free line at the bottom
would mean that rotation is all that counts, and refute the title.

Source: RoPE, arXiv 2104.09864; decomposition by complex pairs, this project's `attention.bands_by_distance`.
"""

from labkit import attention, yarn
from labkit import draw as plot

TOKENS = 448


def data(lab):
    """square (layer, band, bin) of the parts of the logits; free (layer), the position-free share of all of it."""
    run = lab.trace(yarn.filler_ids(lab, TOKENS, seed=3), seams=["q", "k", "v", "gate", "gated"])
    ds = attention.bands_by_distance(run, layer=lab.spec.attention_layers)
    square = (ds.spread**2 + ds.part**2).mean("query_head").transpose("layer", "band", "bin")
    square.attrs = {"symbol": "square", "long_name": "mean square of the part", "units": "", "scale": "positive"}
    square["bin"].attrs["long_name"] = "tokens back"
    whole = (square * ds["count"]).sum("bin")
    free = whole.sel(band="position-free", drop=True) / whole.sum("band")
    return square.rename("square").to_dataset().assign(free=free).assign_attrs(ds.attrs)


def draw(ds):
    """Lines per band, one panel per layer."""
    shares = ", ".join(f"{float(free):.0%} in layer {int(at)}" for at, free in zip(ds.layer, ds.free, strict=True))
    title = f"Share of the squares without position: {shares}"
    return plot.lines(ds, "square", x="bin", color="band", facet="layer", title=title)
