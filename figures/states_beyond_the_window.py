"""Do the states of nano go on filling past the window, and does YaRN change that?

Frobenius norm of the recurrent states in texts of four windows, mean over blocks of 64 tokens and over the heads of a
layer, over its value in the last block of the first window; and the same while the attention layers run under YaRN 4.
Mean over four texts, with 95 % intervals.

Look to the right of 512 tokens, where training ended. Gated DeltaNet knows no positions and its transition never
expands, but nothing taught it to level off where no training went. The controls hold every norm where the window ends,
exchange layers, and take the norms under YaRN from another layer. Layers 0 to 2 lie below the first attention layer, so
no scaling reaches them; in the others the panels may differ.

Source: Gated DeltaNet, arXiv 2412.06464; unexplored states, arXiv 2507.02782; Stuffed Mamba, arXiv 2410.07145.
"""

import numpy as np
import xarray

import figures
from labkit import deltanet, rotary, stats, yarn
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label

PLACE = ("yarn", 60)
BLOCK, TIMES, SEEDS = 64, 4, (5, 6, 7, 8)
FILLED = Quantity("‖S‖/‖S at 512‖", "norm of the state", "", "positive", "arXiv 2412.06464")
REASON = "states after two thousand steps in float32"
TOLERANCE = {name: {"rtol": 1e-3, "atol": 1e-4, "reason": REASON} for name in ("filled", "low", "high", "grown")}


def data(lab):
    """filled with its interval (scaling, layer, block), over the texts; grown (scaling, layer, sample), at the end."""
    window, rows = lab.spec.window, []
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    for scaling in scalings:
        with yarn.under(lab, scaling, TIMES * window):
            rows.append([_filled(lab, seed) for seed in SEEDS])
    norm = rows[0][0]
    filled = xarray.DataArray(
        np.array([[one.values for one in row] for row in rows]), dims=["scaling", "sample", *norm.dims]
    )
    dims = ("scaling", "layer", "block")
    ends = dict(zip(("low", "high"), stats.t_interval(filled), strict=True))
    values = {
        name: (dims, end.transpose(*dims).values, FILLED)
        for name, end in (ends | {"filled": filled.mean("sample")}).items()
    }
    values["grown"] = (
        ("scaling", "layer", "sample"),
        filled[..., -1].transpose("scaling", "layer", "sample").values,
        FILLED,
    )
    coords = {"scaling": list(map(str, scalings)), "layer": norm.layer.values, "sample": list(SEEDS)}
    coords["block"] = ("block", (norm.block.values + 1) * BLOCK, "tokens read")
    sample = f"{len(SEEDS)} texts of {TIMES * window:,} tokens, seeds {SEEDS[0]} to {SEEDS[-1]}, under both scalings"
    interval = f"95 %, Student's t over {len(SEEDS)} texts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return label(values, coords=coords, attrs=facts | {"reading": "deltanet.norms", "window": window})


def _filled(lab, seed):
    window = lab.spec.window
    ds = lab.stream(yarn.filler_ids(lab, TIMES * window, seed=seed), probes=[deltanet.norms(block=BLOCK)], chunk=256)
    norm = ds.state_norm.mean("head").transpose("layer", "block")
    return norm / norm.isel(block=window // BLOCK - 1)


def claim(ds):
    """Which layers fill on, and that YaRN adds less than the least of that."""
    native, scaled = (ds.grown.sel(scaling=name, drop=True) for name in ("none", "yarn 4"))
    means = native.mean("sample")
    first, second, *rest, last = means.sortby(means, ascending=False).layer.values.tolist()
    added = scaled - native
    most = int(added.layer[int(abs(added.mean("sample")).argmax("layer"))])
    weakest = rest[-1]
    gain = {layer: float(means.sel(layer=layer)) - 1 for layer in means.layer.values.tolist()}
    shown = float(max(abs(end).max() for end in stats.t_interval(added)))  # of any layer
    return Claim(
        f"From one window to four norms grow by {gain[first]:.0%} in layer {first}, {gain[second]:.0%} in {second}, "
        f"not surely in {last}; YaRN 4 changes none by over {shown:.1%}",
        [
            _part(
                f"growth of layer {first} over that of layer {second}",
                native.sel(layer=first) - native.sel(layer=second),
            ),
            _part(
                f"growth of layer {second} over that of layer {rest[0]}",
                native.sel(layer=second) - native.sel(layer=rest[0]),
            ),
            _part(f"growth of layer {weakest}, the least sure one", native.sel(layer=weakest) - 1),
            _part(f"growth of layer {last}", native.sel(layer=last) - 1, "∋"),
            _part(
                f"what YaRN 4 changes in layer {most}, where it changes most",
                abs(added.sel(layer=most)),
                "<",
                gain[weakest],
                f"growth of layer {weakest}",
            ),
        ],
    )


def _part(what, values, sign=">", than=0.0, against=""):
    low, high = stats.t_interval(values)
    return Part(what, float(values.mean()), sign, than, against, (float(low), float(high)))


def controls(ds):
    """Nothing grows; all grow alike; another layer's norms."""
    grown, native = ds.grown, ds.grown.sel(scaling="none", drop=True)
    alike = native.max("layer").broadcast_like(grown).transpose(*grown.dims)
    turned = grown.where(
        grown.scaling != "yarn 4", native.assign_coords(layer=native.layer.values[::-1]).sortby("layer")
    )
    return {
        "every norm held where the window ends": ds.assign(grown=xarray.ones_like(grown)),
        "every layer grows as the first does": ds.assign(grown=alike),
        "norms of another layer in place of those under YaRN": ds.assign(grown=turned),
    }


def draw(ds):
    """One line per layer, one panel per scaling."""
    beside = dict(levels={"as at the window's end": 1.0}, at={"end of the window": ds.attrs["window"]})
    options = dict(x="block", color="layer", facet="scaling", interval=("low", "high"))
    return plot.lines(ds, "filled", **options, **beside, title=claim(ds).title)
