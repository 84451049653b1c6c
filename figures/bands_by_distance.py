"""How much of what tells the logits of a row apart in nano carries no position?

Mean square of the parts of a logit by distance, in bins that double, each part measured from its mean over the row,
which the softmax does not see: the rotary pairs as YaRN classes them, and the three quarters of the channels that are
not rotated. Mean over the heads of a layer and over four texts.

Look how far the lines of the rotated pairs stay below the one without position. More channels make more of a logit, so
the share of the channels is the baseline; the control is the same model with random weights, read on the same texts,
whose position-free part should take no more than its channels' share.

Source: RoPE, arXiv 2104.09864; decomposition by complex pairs, this project's `attention.bands_by_distance`.
"""

import dataclasses

import xarray

import figures
from figures._untrained import untrained
from labkit import attention, stats, yarn
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.notation import Quantity

PLACE = ("yarn", 70)
TOKENS, SEEDS = 448, (3, 4, 5, 6)
SQUARE = Quantity("⟨s²⟩", "mean square of the part of a logit", "", "positive", "this run")
FREE = Quantity("share", "share of the squares without position", "fraction", "fraction", "this run")


def data(lab):
    """square (layer, band, bin); free and random (layer, sample), the share without position, trained and untrained."""
    squares, free = _read(lab)
    _, random = _read(untrained(lab))
    sample = f"{len(SEEDS)} texts of {TOKENS} tokens, seeds {SEEDS[0]} to {SEEDS[-1]}; random weights of seed 0"
    interval = f"95 %, Student's t over {len(SEEDS)} texts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    facts |= {"reading": "attention.bands_by_distance", "free_channels": 1 - lab.spec.rotary_dim / lab.spec.head_dim}
    return squares.to_dataset(name="square").assign(free=free, random=random).assign_attrs(facts)


def _read(lab):
    """(squares by layer, band and bin, mean over the texts; share without position by layer and text)."""
    squares, shares = [], []
    for seed in SEEDS:
        run = lab.trace(yarn.filler_ids(lab, TOKENS, seed=seed), seams=["q", "k", "v", "gate", "gated"])
        ds = attention.bands_by_distance(run, layer=lab.spec.attention_layers)
        square = (ds.spread**2 + ds.part**2).mean("query_head").transpose("layer", "band", "bin")
        whole = (square * ds["count"]).sum("bin")
        squares.append(square)
        shares.append(whole.sel(band="position-free", drop=True) / whole.sum("band"))
    shares = xarray.concat(shares, "sample").assign_coords(sample=list(SEEDS)).transpose("layer", "sample")
    square = xarray.concat(squares, "sample").mean("sample").assign_attrs(dataclasses.asdict(SQUARE))
    square["bin"].attrs["long_name"] = "tokens back"
    return square, shares.assign_attrs(dataclasses.asdict(FREE))


def claim(ds):
    """The part without position takes more than its channels, and more than in random weights."""
    channels, told, parts = ds.attrs["free_channels"], [], []
    for layer in ds.layer.values.tolist():
        free, random = ds.free.sel(layer=layer), ds.random.sel(layer=layer)
        told.append(f"{float(free.mean()):.0%} in layer {layer}")
        what = f"share of the squares without position, layer {layer}"
        parts.append(_part(what, free, channels, "share of the channels without position"))
        parts.append(_part(f"more than in random weights, layer {layer}", free - random, 0))
    untrained = " and ".join(f"{float(each):.0%}" for each in ds.random.mean("sample"))
    return Claim(
        f"Without position: {' and '.join(told)} of the squares, {channels:.0%} of the channels; random weights "
        f"{untrained}",
        parts,
    )


def _part(what, values, than, against=""):
    low, high = stats.t_interval(values)
    return Part(what, float(values.mean()), ">", than, against, (float(low), float(high)))


def controls(ds):
    """A model that learned nothing."""
    return {"the same model with random weights": ds.assign(free=ds.random)}


def draw(ds):
    """Lines per band, one panel per layer."""
    return plot.lines(ds, "square", x="bin", color="band", facet="layer", title=claim(ds).title)
