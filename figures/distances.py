"""How far do attention heads look back, and is that near or far?

Attention mass by distance in tokens, in bins that double: 0, 1 to 2, 3 to 6, and so on, mean over all reading tokens of
a text of 416 tokens and over the heads of a layer; the whiskers are intervals over eight texts. The third line is an
even head, which gives every token up to its own the same weight: what any head would show that did not care.

A mean distance says nothing without that line: the further a text goes, the further back an even head looks. Look at
the bins on the left, close by, and ask whether a layer lies above the even head there. The controls are the same model
with random weights, read on the same texts, and the even head in place of the layers.

Source: distance histograms without the T x T map, this project's `attention.summary`.
"""

import random

import numpy as np
import xarray

import figures
from figures._untrained import untrained
from labkit import attention, stats
from labkit import draw as plot
from labkit.attention.distances import bin_axis
from labkit.claims import Claim, Part
from labkit.nano import tasks

PLACE = ("attention", 70)
TOKENS, TEXTS, NEAR = 416, range(8), 4  # the first bins are near: up to 14 tokens
EVEN = "an even head"


def data(lab):
    """histogram, low and high (who, bin) of the layers and of an even head; near (layer, query_head, text).

    distance (layer, text) and even: mean distances in tokens, of the layers and of the even head. near_random and
    distance_random: the same with random weights.
    """
    heads, proof = _read(lab)
    layers, names = heads.mean("query_head"), [f"layer {layer}" for layer in heads.layer.values]
    even, spans = _even(TOKENS, heads.sizes["bin"])
    ends = [layers.histogram.mean("text"), *stats.t_interval(layers.histogram, "text")]
    quantity = {"symbol": "mass", "long_name": "attention mass", "units": "1", "scale": "positive"}
    rows = [(("who", "bin"), np.concatenate([end.values, even[None]]), quantity) for end in ends]
    ds = xarray.Dataset(dict(zip(("histogram", "low", "high"), rows, strict=True)))
    for end, of in (("", heads), ("_random", _read(untrained(lab))[0])):
        ds[f"near{end}"] = of.histogram.isel(bin=slice(NEAR)).sum("bin").transpose("layer", "query_head", "text")
        ds[f"distance{end}"] = of.distance.mean("query_head").transpose("layer", "text")
    ds["even"] = spans
    ds = ds.assign_coords(who=[*names, EVEN], text=list(TEXTS), **bin_axis(len(even)))
    ds["bin"].attrs["long_name"] = "tokens back"
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(TEXTS)} texts of {TOKENS} tokens, seeds 0 to {TEXTS[-1]}",
        interval=f"95 %, Student's t over {len(TEXTS)} texts",
    )
    kept = {name: proof[name] for name in ("layer", "reading", "parity", "tolerance")}
    return ds.assign_attrs(kept | facts)


def _read(lab):
    """(histogram and distance by text, layer and head; attributes of the reading with the largest parity)."""
    size = lambda text: len(lab.encode(text))  # noqa: E731
    every = []
    for seed in TEXTS:
        text = tasks.bare(tasks.scattered(random.Random(seed), TOKENS + 32, size))
        run = lab.trace(lab.encode(text)[-TOKENS:], seams=["q", "k", "v", "gate", "gated"])
        every.append(attention.summary(run, layer=lab.spec.attention_layers, block=len(run)).isel(block=0))
    parts = [
        each[["histogram", "distance"]].drop_vars(("rows_taken", "block_start"), errors="ignore") for each in every
    ]
    return xarray.concat(parts, "text"), max((each.attrs for each in every), key=lambda attrs: attrs["parity"])


def _even(tokens, bins):
    """Mass [bin] and mean distance of a head that gives all tokens up to its own the same weight."""
    token, source = np.arange(tokens)[:, None], np.arange(tokens)[None]
    weight = np.where(source <= token, 1 / (token + 1), 0)
    place = np.floor(np.log2(np.maximum(token - source, 0) + 1)).astype(int)
    mass = np.bincount(place.ravel(), weight.ravel(), bins) / tokens
    return mass, float((weight * (token - source)).sum() / tokens)


def claim(ds):
    """The first attention layer is nearer than an even head, and nearer than the last."""
    even, near = float(ds.histogram.sel(who=EVEN).isel(bin=slice(NEAR)).sum()), ds.near.mean("query_head")
    (first, last), spans, (here, there) = ds.layer.values, ds.distance, near
    part = lambda what, of, *than: Part(  # noqa: E731
        what, of.mean(), *than, interval=tuple(map(float, stats.t_interval(of, "text")))
    )
    what = f"mass up to {2**NEAR - 2} tokens back"
    return Claim(
        f"Layer {first} looks nearer than {EVEN}: {float(here.mean()):.0%} of mass up to {2**NEAR - 2} tokens back "
        f"against {even:.0%}; layer {last}: {float(there.mean()):.0%}",
        [
            part(f"layer {first}, {what}", here, ">", even, EVEN),
            part(f"layer {first}, mean distance in tokens", spans[0], "<", float(ds.even), EVEN),
            part(f"{what}, layer {first} beyond layer {last}", here - there, ">", 0),
        ],
    )


def controls(ds):
    """A model that learned nothing; heads that do not care how far they look."""
    even = ds.histogram.sel(who=EVEN).isel(bin=slice(NEAR)).sum()
    return {
        "the same model with random weights": ds.assign(near=ds.near_random, distance=ds.distance_random),
        "an even head in place of every head": ds.assign(near=ds.near * 0 + even, distance=ds.distance * 0 + ds.even),
    }


def draw(ds):
    """Three lines over the bins."""
    return plot.lines(ds, "histogram", x="bin", color="who", interval=("low", "high"), title=claim(ds).title)
