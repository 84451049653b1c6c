"""Four fifths of what tells the logits of a row apart in nano carry no position; YaRN can change the rest alone

Mean square of the parts of a logit by distance, in bins that double, each part measured from its mean over the row,
which the softmax does not see: the rotary pairs as YaRN classes them, and the three quarters of the channels that are
not rotated. Mean over the heads of a layer, text of 448 tokens.

Look how far the lines of the rotated pairs stay below the one without position. A position-free line at the bottom
would mean that rotation is all that counts, and refute the title.

Source: RoPE, arXiv 2104.09864; decomposition by complex pairs, this project's `yarn.by_distance`.
"""

import xarray

from labkit import draw as plot
from labkit import yarn

TOKENS = 448


def data(lab):
    """square (layer, band, bin) of the parts of the logits; free (layer), the position-free share of all of it."""
    run = lab.trace(yarn.filler_ids(lab, TOKENS, seed=3), seams=["q", "k", "v", "gate", "gated"])
    layers = list(lab.spec.attention_layers)
    found = [yarn.by_distance(run, layer=layer) for layer in layers]
    held = xarray.concat([ds[["part", "spread"]] for ds in found], "layer", combine_attrs="drop_conflicts")
    square = (held.spread**2 + held.part**2).mean("query_head").assign_coords(layer=layers)
    square = square.transpose("layer", "band", "bin")
    square.attrs = {"symbol": "square", "long_name": "mean square of the part", "units": "", "scale": "positive"}
    square["bin"].attrs["long_name"] = "tokens back"
    whole = (square * found[0]["count"]).sum("bin")
    free = whole.sel(band="position-free", drop=True) / whole.sum("band")
    return square.rename("square").to_dataset().assign(free=free).assign_attrs(found[0].attrs | {"layer": ""})


def draw(ds):
    """Lines per band, one panel per layer."""
    said = ", ".join(f"{float(free):.0%} in layer {int(at)}" for at, free in zip(ds.layer, ds.free, strict=True))
    title = f"Share of the squares without position: {said}"
    return plot.lines(ds, "square", x="bin", color="band", facet="layer", title=title)
