"""How far does a direction in the stream move an answer, dose by dose?

Sixteen pairs of prompts with four facts differ in the colour that is asked for, red in one and blue in the other. The
difference of their means at the last token, after the layer where it is longest, is added there in eight other prompts
whose answer is neither. Shown is what that adds to the logit of red less that of blue; a dose of 1 is the mean norm of
the stream. Intervals are over prompts.

The first control is nineteen random directions of the same norm, drawn from the least to the one that moves most; a
direction that they match moves nothing in particular. The second is a direction made in the same way from the same
prompts with half of the labels exchanged.

Source: difference of means and its dose, arXiv 2312.06681.
"""

import random

import numpy as np
import xarray

import figures
from labkit import draw as plot
from labkit import stats, steering
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES

PLACE = ("causes", 80)
MADE, TRIED = range(16), range(1000, 1008)
DOSES = [0.125, 0.25, 0.5]
ANSWER, FOIL = "red", "blue"
TOLERANCE = {"moved": {"rtol": 1e-4, "atol": 1e-5, "reason": "a difference of logits, each rounded by float32"}}
OWN, RANDOM, EXCHANGED = "red less blue", "19 random directions", "labels exchanged"


def data(lab):
    """moved (arrow, dose, sample): of the direction, of one with exchanged labels, and of random ones."""
    red, blue = ([_facts(seed, colour) for seed in MADE] for colour in (ANSWER, FOIL))
    swap = lambda a, b: [pair[n % 2] for n, pair in enumerate(zip(a, b, strict=True))]  # noqa: E731
    layers = range(lab.spec.layers)
    every = steering.difference(lab, red, blue, layer=list(layers))
    layer = int(every.layer[int(np.argmax(every.gap.values))])
    mixed = steering.difference(lab, swap(red, blue), swap(blue, red), layer=layer)
    tried = dict(doses=DOSES, of=f" {ANSWER}", against=f" {FOIL}", new=0)
    prompts = [_facts(seed) for seed in TRIED]
    own = steering.doses(lab, prompts, every.sel(layer=layer), **tried)
    other = steering.doses(lab, prompts, mixed, controls=0, **tried)
    moved = xarray.concat([own.moved, other.moved.assign_coords(arrow=[EXCHANGED])], "arrow")
    sample = f"{len(TRIED)} prompts, seeds 1000 to 1007; direction from {len(MADE)} pairs, seeds 0 to 15"
    interval = f"95 %, Student's t over {len(TRIED)} prompts; of random directions the least and the largest"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return moved.to_dataset().assign_coords(layer=layer).assign_attrs(own.attrs | facts)


def _facts(seed, colour=None):
    """Four facts and the question about the first; neither colour is in them but as its answer."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, 4), draw.sample([v for v in VALUES if v not in (ANSWER, FOIL)], 4)
    values[0] = colour or values[0]
    return "".join(f" {key} {value}." for key, value in zip(keys, values, strict=True)) + f" {keys[0]}"


def claim(ds):
    """At the largest dose every prompt's mean lies beyond the random direction that moves most, and beyond the least
    dose's."""
    own, others = ds.moved.isel(arrow=0), _random(ds).mean("sample")
    last, first = own.isel(dose=-1), own.isel(dose=0)
    low, high = stats.t_interval(last)
    most = float(abs(others.isel(dose=-1)).max())
    dose, mixed = float(ds.dose[-1]), float(ds.moved.sel(arrow=EXCHANGED).isel(dose=-1).mean())
    what = f"what a dose of {dose:g} adds to red less blue, nat"
    return Claim(
        f"A dose of {dose:g} moves red against blue by {float(last.mean()):.1f} nat, none of {others.sizes['arrow']} "
        f"random directions by more than {most:.1f}, exchanged labels by {mixed:+.1f} (layer {int(ds.layer)})",
        [
            Part(what, last.mean(), ">", most, "most of any random direction", (float(low), float(high))),
            Part(f"the same at {float(ds.dose[0]):g}", first.mean(), "<", float(low), "the low end above"),
        ],
    )


def _random(ds):
    return ds.moved.sel(arrow=[name for name in ds.arrow.values if name.startswith("random")])


def controls(ds):
    """Another direction in the place of this one; a random one is held against the others alone."""
    own = ds.arrow == ds.arrow[0]
    instead = lambda name: ds.assign(moved=ds.moved.where(~own, ds.moved.sel(arrow=name, drop=True)))  # noqa: E731
    return {
        "a direction from exchanged labels": instead(EXCHANGED),
        "a random direction": instead("random 0").drop_sel(arrow="random 0"),
    }


def draw(ds):
    """A line per kind of direction, with intervals."""
    own, others, mixed = ds.moved.isel(arrow=0), _random(ds).mean("sample"), ds.moved.sel(arrow=EXCHANGED)
    ends = [stats.t_interval(own), (others.min("arrow"), others.max("arrow")), stats.t_interval(mixed)]
    means = [own.mean("sample"), others.mean("arrow"), mixed.mean("sample")]
    columns = {"moved": means, "low": [low for low, _ in ends], "high": [high for _, high in ends]}
    join = lambda parts: xarray.concat([part.drop_vars("arrow", errors="ignore") for part in parts], "term")  # noqa: E731
    shown = xarray.Dataset({name: join(parts) for name, parts in columns.items()})
    shown = shown.assign_coords(term=[OWN, RANDOM, EXCHANGED]).assign_attrs(ds.attrs)
    shown["moved"].attrs = ds.moved.attrs
    return plot.lines(shown, "moved", x="dose", color="term", interval=("low", "high"), title=claim(ds).title)
