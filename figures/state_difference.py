"""In which heads does one changed word leave a mark on the state, and for how long?

Two prompts of five facts differ in one word, the value of the second fact. For every value head, how far apart their
states are, as a share of the state's size, means over pairs of prompts: at the token behind the fact, three tokens
after the word, and at the end, ten tokens after it. The heads stand in the order of how long they keep, the half-life
of decay alone in these prompts; the 18 on the right are those that keep.

Look where the lines part: heads that took the word in and lost it. What is left is taken head by head and pair by
pair, and compared with what partings of the heads by lot give. The controls give heads the half-lives of others, read
the earlier token both times, so that no time to forget passes, and compare a prompt with itself.

Source: Gated DeltaNet, arXiv 2412.06464; comparing states, this project's `deltanet.state_difference`.
"""

import random

import numpy as np
import xarray

import figures
from figures._fact_prompts import behind, stated
from figures._state_samples import average, in_line, spread
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano.tokens import VALUES

PLACE = ("states", 80)
PAIRS, FACTS, CHANGED, LOTS = range(12), 5, 1, 1000
WHEN = {"3 tokens after the word": behind(CHANGED), "10 tokens after the word": -1}


def data(lab):
    """difference, low, high (when, place), and each (when, sample, place), of heads in order of their half-life."""
    layers, each, lives = lab.spec.deltanet_layers, [], []
    for seed in PAIRS:
        run, other = map(lab.trace, _pair(seed))
        reads = [deltanet.state_difference(run, other, layer=layers, token=token) for token in WHEN.values()]
        each.append(xarray.concat([read.difference for read in reads], "when"))
        lives.append(np.log(deltanet.half_life(run, layer=layers).decay_only))
    same = deltanet.state_difference(run, lab.trace(_pair(seed)[0]), layer=layers).difference
    each = xarray.concat(each, "sample")
    ds = xarray.Dataset(spread(each, "difference") | {"each": each, "same": same})
    ds = in_line(
        ds, xarray.concat(lives, "sample").mean("sample"), "36 heads, from the shortest half-life to the longest"
    )
    sample = f"{len(PAIRS)} pairs of prompts of {3 * FACTS} tokens, seeds 0 to 11"
    interval = f"95 %, Student's t over {len(PAIRS)} pairs"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    reading = {"reading": "deltanet.state_difference", "layer": list(layers)}
    return ds.assign_coords(when=list(WHEN)).assign_attrs(reading | made)


def _pair(seed):
    """Two prompts that differ in the value of the second fact."""
    first = stated(seed, range(FACTS))
    words = first.split()
    used = {word.strip(".") for word in words}
    words[2 * CHANGED + 1] = random.Random(seed).choice([value for value in VALUES if value not in used]) + "."
    return first, "".join(f" {word}" for word in words)


def claim(ds):
    """Of a mark that all heads bear at first, heads that keep have more left than the others."""
    half = ds.sizes["place"] // 2
    short, long = (slice(None, half), slice(half, None))
    left = ds.each.isel(when=1) / ds.each.isel(when=0)
    chance = max(_by_lot(left.mean("sample").values, half))
    short, long = (left.isel(place=part).mean("place") for part in (short, long))
    (gap, gaps), (lost, _), (kept, _) = map(average, (long - short, short, long))
    least, ends = average(ds.each.isel(when=0).min("place"))
    lots = f"most of {LOTS:,} partings by lot"
    return Claim(
        f"Ten tokens on, {kept:.0%} of a word's mark is left in heads that keep, {lost:.0%} in the others; "
        f"at first all bear it",
        [
            Part("share of the mark left, longer half-lives less shorter", gap, ">", chance, lots, gaps),
            Part("first mark in the head that bears least", least, ">", float(ds.same.max()), "one prompt twice", ends),
        ],
    )


def _by_lot(left, half):
    """The difference of what is left between two groups of heads, for partings that half-lives have no part in."""
    draw = np.random.default_rng(1)
    for _ in range(LOTS):
        order = draw.permutation(len(left))
        yield left[order[half:]].mean() - left[order[:half]].mean()


def controls(ds):
    """Half-lives of other heads; no time to forget; no word that differs."""
    order = np.random.default_rng(0).permutation(ds.sizes["place"])
    return {
        "half-lives shuffled over heads, seed 0": ds.assign(each=ds.each.copy(data=ds.each.values[..., order])),
        "read at the earlier token both times": ds.isel(when=[0, 0]),
        "a prompt beside itself": ds.assign(each=ds.same.broadcast_like(ds.each)),
    }


def draw(ds):
    """Two lines over the heads."""
    options = dict(x="place", color="when", interval=("low", "high"), title=claim(ds).title)
    return plot.lines(ds, "difference", **options).update_xaxes(showticklabels=False)
