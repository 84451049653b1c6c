"""What does YaRN 4 add to the margins of nano's answers, up to four windows on?

Log-probability of the right value minus that of another value of the text, for one of eight facts, under YaRN 4 minus
without scaling: by the length of the text, in a panel for each place where the fact may stand (0 is the beginning) and
in one for the mean of all. nano was trained on 512 tokens, the upright line; 95 % intervals over the questions,
each of which was asked under both scalings.

Look on which side of zero an interval lies, to the left and to the right of the window. The control exchanges the two
scalings; another asks whether the longest text would pass for one of two windows, and one puts the mean of all places
in place of each.

Source: in the manner of RULER, arXiv 2404.06654; this project's `yarn.grid`, teacher-forced.
"""

import dataclasses

import xarray

import figures
from labkit import draw as plot
from labkit import rotary, stats, yarn
from labkit.claims import Claim, Part
from labkit.notation import Quantity

PLACE = ("yarn", 50)
DEPTHS, ALL = 3, "all depths"
GAIN = Quantity("Δlog p added", "margin under YaRN 4 minus that without", "nat", "signed", "this run")
REASON = "log-probabilities after some thousand tokens in float32, differences of two near numbers"
TOLERANCE = {
    name: {"rtol": 1e-3, "atol": 5e-3, "reason": REASON} for name in ("margin", "added", "low", "high", "gain")
}


def data(lab):
    """margin (scaling, length, depth), right; added (place, length) with its interval; gain (length, sample)."""
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    ds = yarn.grid(lab, tasks=("keys",), depths=DEPTHS, scalings=scalings).isel(task=0, drop=True)
    gain = ds.margin.diff("scaling").isel(scaling=0, drop=True)
    places = [ALL, *(f"fact at {depth:g}" for depth in ds.depth.values)]
    mean = gain.mean("depth")  # depths of a question share its facts, so its mean counts once
    every = [mean, *(gain.isel(depth=n, drop=True) for n in range(DEPTHS))]
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
    sample = f"{seeds} questions, seeds 0 to {seeds - 1}, each at 4 lengths and {DEPTHS} depths under both scalings"
    interval = f"95 %, Student's t over {seeds} questions"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return ds[["margin"]].mean("sample", keep_attrs=True).assign(parts).assign_attrs(ds.attrs | facts)


def claim(ds):
    """More margin up to two windows; at four no sure change of the mean, since depths differ."""
    window, parts, told = ds.attrs["window"], [], []
    for length in ds.length.values:
        gain = ds.gain.sel(length=length)
        mean, ends = float(gain.mean()), tuple(map(float, stats.t_interval(gain)))
        far = length == ds.length.values[-1]
        what = f"nats that YaRN 4 adds at {length:,} tokens, {length / window:g} windows"
        parts.append(Part(what, mean, "∋" if far else ">", 0, interval=ends))
        told.append(f"{length:,}{'' if told else ' tokens'} {mean:+.1f}")
    end = ds.isel(length=-1).drop_sel(place=ALL)
    least, most = (end.isel(place=int(at)) for at in (end.added.argmin("place"), end.added.argmax("place")))
    what = f"nats that it adds at {int(end.length):,} tokens, {most.place.item()}"
    ends, against = (float(most.low), float(most.high)), f"upper end for a {least.place.item()}"
    parts.append(Part(what, most.added, ">", float(least.high), against, ends))
    told[-1] += f" (single {float(least.added):+.1f} to {float(most.added):+.1f})"
    return Claim(f"Nats YaRN 4 adds to margins, mean of depths: {', '.join(told)}", parts)


def controls(ds):
    """The difference the other way round; the text of two windows in place of that of four; depths that are alike."""
    twice = ds.gain.where(ds.length < ds.length[-1], ds.gain.isel(length=-2, drop=True))
    alike = {name: ds[name].where(False, ds[name].sel(place=ALL)) for name in ("added", "low", "high")}
    return {
        "the two scalings exchanged": ds.assign(gain=-ds.gain),
        "texts of two windows in place of those of four": ds.assign(gain=twice),
        "the mean of all depths in place of each": ds.assign(alike),
    }


def draw(ds):
    """Lines over the lengths, one panel per place of the fact."""
    beside = dict(levels={"as without scaling": 0.0}, at={"end of the window": ds.attrs["window"]})
    return plot.lines(ds, "added", x="length", facet="place", interval=("low", "high"), **beside, title=claim(ds).title)
