"""What does YaRN 4 add to the margins of nano's answers, up to four windows on?

Log-probability of the right value minus that of another value of the text, under YaRN 4 minus without scaling: by the
length of the text, which states nine facts, evenly spaced from its beginning (0) to the question (1). Each of them is
asked for. One panel is the mean of all nine, the others show single ones. nano was trained on 512 tokens, the upright
line; 95 % intervals over the texts, each of which was read under both scalings.

Look on which side of zero an interval lies, to the left and to the right of the window. One control
exchanges the two readings of every other text; another puts the mean of all places in place of the last, just before
the question.

Source: in the manner of RULER, arXiv 2404.06654; this project's `yarn.grid`, teacher-forced.
"""

import dataclasses

import numpy as np
import xarray

import figures
from labkit import draw as plot
from labkit import rotary, stats, yarn
from labkit.claims import Claim, Part
from labkit.notation import Quantity

PLACE = ("yarn", 50)
DEPTHS, ALL, SHOWN = 9, "all depths", (0, 4, 8)  # the facts of a text; those with a panel of their own
GAIN = Quantity("Δlog p added", "margin under YaRN 4 minus that without", "nat", "signed", "this run")
REASON = "log-probabilities after some thousand tokens in float32, differences of two near numbers"
TOLERANCE = {
    name: {"rtol": 1e-3, "atol": 5e-3, "reason": REASON} for name in ("margin", "added", "low", "high", "gain")
}


def data(lab):
    """margin (scaling, length, depth), right; added (place, length) with its interval; gain (length, sample)."""
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    ds = yarn.grid(lab, tasks=("spread",), depths=DEPTHS, scalings=scalings).isel(task=0, drop=True)
    gain = ds.margin.diff("scaling").isel(scaling=0, drop=True)
    places = [ALL, *(f"fact at {ds.depth.values[n]:g}" for n in SHOWN)]
    mean = gain.mean("depth")  # depths of a question share its text, so its mean counts once
    every = [mean, *(gain.isel(depth=n, drop=True) for n in SHOWN)]
    every = xarray.concat(every, "place").assign_coords(place=places).assign_attrs(dataclasses.asdict(GAIN))
    low, high = stats.t_interval(every)
    parts = dict(
        added=every.mean("sample", keep_attrs=True),
        low=low,
        high=high,
        gain=mean.assign_attrs(dataclasses.asdict(GAIN)),
    )
    parts["right"] = ds.right.mean(["depth", "sample"], keep_attrs=True)
    seeds = ds.sizes["sample"]
    sample = f"{seeds} texts at each of 4 lengths, seeds 0 to {seeds - 1}, {DEPTHS} questions each, both scalings"
    interval = f"95 %, Student's t over {seeds} texts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return ds[["margin"]].mean("sample", keep_attrs=True).assign(parts).assign_attrs(ds.attrs | facts)


def claim(ds):
    """More margin at every length, the mean of depths; less for the fact that stands just before the question."""
    window, last = ds.attrs["window"], ds.isel(place=-1, drop=True)
    parts, told, near = [], [], []
    for length in ds.length.values:
        gain, at = ds.gain.sel(length=length), f"at {length:,} tokens, {length / window:g} windows"
        mean, ends = float(gain.mean()), tuple(map(float, stats.t_interval(gain)))
        parts.append(Part(f"nats that YaRN 4 adds {at}, mean of depths", mean, ">", 0, interval=ends))
        told.append(f"{length:,}{'' if told else ' tokens'} {mean:+.1f}")
        added, *ends = (float(last[name].sel(length=length)) for name in ("added", "low", "high"))
        parts.append(Part(f"nats that it adds {at}, just before the question", added, "<", 0, interval=tuple(ends)))
        near.append(f"{added:+.1f}")
    sentence = f"Nats YaRN 4 adds to margins, mean of depths: {', '.join(told)}; next to the question {', '.join(near)}"
    return Claim(sentence, parts)


def controls(ds):
    """Half of the readings called by the other's name; depths that are alike."""
    signs = np.where(np.arange(ds.sizes["sample"]) % 2, -1, 1)
    alike = {name: ds[name].where(False, ds[name].sel(place=ALL)) for name in ("added", "low", "high")}
    return {
        "the two readings of every other text exchanged": ds.assign(
            gain=ds.gain * xarray.DataArray(signs, dims="sample")
        ),
        "the mean of all depths in place of each": ds.assign(alike),
    }


def draw(ds):
    """Lines over the lengths, one panel per place of the fact."""
    beside = dict(levels={"as without scaling": 0.0}, at={"end of the window": ds.attrs["window"]})
    return plot.lines(ds, "added", x="length", facet="place", interval=("low", "high"), **beside, title=claim(ds).title)
