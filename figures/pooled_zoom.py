"""What of a long attention map is left when it is pooled, and what does it hide?

The softmax map of one query head over a long text, pooled into 32 by 32 blocks; each step of the slider shows a quarter
of the last, down to single tokens at the end of the text. A cell is the exact attention mass of a block of sources,
mean over a block of reading tokens, compared with a head that spreads its attention evenly: each unit is a factor of
two, green above, brown below, the latter down to a sixteenth. No map of all pairs is ever formed. The head shown is
the one of all whose mean distance is largest.

Look for columns, blocks that all later tokens go back to, and for what becomes of a dark cell when it is looked at
closer. One control puts another head's single tokens in place of this head's: they must not add up to its blocks.
Another spreads the mass of each block evenly over its tokens: then looking closer would show no more than pooling did.

Source: exact pooled maps, this project's `attention.window`.
"""

import random

import numpy as np
import xarray

import figures
from labkit import attention
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano import tasks

PLACE = ("attention", 90)
CELLS, LEVELS = 32, (16, 4, 1)  # cells each way; tokens per cell of each level
LENGTH = CELLS * LEVELS[0]
LEAST, MOST = -4, 9  # log₂ of the lift, as drawn: nothing lies above, where a row is on one token of 512
SAME = "log₂ of a mass: an absolute change of 5e-5 is a relative one of 3.5e-5 of the mass, wherever the logarithm lies"
TOLERANCE = {"lift": {"rtol": 0.0, "atol": 5e-5, "reason": SAME}}
ROUNDING = 1e-5  # of float32 masses, sums over 16 tokens


def data(lab):
    """lift (step, block, source_block): the last 32 blocks of each level, of the head that reaches furthest.

    times (step): the largest cell, in times an even head's. coarse (block, source_block, heads):
    masses of the last 2 by 2 blocks of the first level, of this head; fine: the same from single tokens, of this head
    and of the next.
    """
    size = lambda words: len(lab.encode(words))  # noqa: E731
    text = tasks.bare(tasks.scattered(random.Random(2), LENGTH + 32, size))
    run = lab.trace(lab.encode(text)[-LENGTH:], seams=["q", "k", "v", "gate", "gated"])
    spans = attention.summary(run, layer=lab.spec.attention_layers, block=LENGTH).distance.isel(block=0)
    furthest = spans.isel(spans.argmax(...))
    layer, head = int(furthest.layer), int(furthest.query_head)
    heads = [head, (head + 1) % lab.spec.query_heads]
    zooms = []
    for block in LEVELS:
        part = range(LENGTH - CELLS * block, LENGTH)
        zooms.append(attention.window(run, layer=layer, heads=heads, rows=part, sources=part, cells=CELLS))
    lifts = [zoom.lift[0].values for zoom in zooms]
    facts = {"symbol": "log₂ lift", "long_name": "mass over that of an even head", "units": "", "scale": "signed"}
    ds = xarray.Dataset({"lift": (("step", "block", "source_block"), np.stack(lifts).clip(LEAST, MOST), facts)})
    ds["times"] = "step", np.array([2.0 ** np.nanmax(lift) for lift in lifts])
    count = CELLS // LEVELS[0]
    ds["coarse"] = ("row", "column"), zooms[0].mass[0].values[-count:, -count:]
    ds["fine"] = ("who", "row", "column"), np.stack([_pooled(zooms[-1].mass[n].values) for n in range(2)])
    texts = [f"last {CELLS * block}, {block} a cell" if block > 1 else f"last {CELLS}, one a cell" for block in LEVELS]
    ds = ds.assign_coords(step=texts, block=range(CELLS), source_block=range(CELLS))
    ds["block"].attrs["long_name"], ds["source_block"].attrs["long_name"] = "reading block", "block read from"
    made = figures.made(
        lab.name, vocabulary=figures.vocabulary(lab), sample=f"one text of {LENGTH} tokens, seed 2; one head"
    )
    kept = {name: zooms[0].attrs[name] for name in ("reading", "parity", "tolerance")}
    return ds.assign_attrs(kept | {"layer": layer, "query_head": head} | made)


def _pooled(mass):
    """Masses of blocks from those of single tokens: sums over sources, means over reading tokens."""
    side, mass = LEVELS[0], np.nan_to_num(mass)
    return mass.reshape(len(mass) // side, side, -1, side).sum(3).mean(1)


def claim(ds):
    """Single tokens add up to the pooled map, and stand out more than it shows."""
    apart = float(abs(np.nan_to_num(ds.coarse) - ds.fine[0]).max())
    first, last = float(ds.times[0]), float(ds.times[-1])
    name = f"layer {ds.attrs['layer']}, query head {ds.attrs['query_head']}"
    return Claim(
        f"Pooling hides peaks: {first:.0f} times an even head in blocks of {LEVELS[0]}, {last:.0f} times at single "
        f"tokens ({name})",
        [
            Part("block of the pooled map less its single tokens, at most", apart, "<", ROUNDING, "rounding"),
            Part("largest mass at single tokens, in times of an even head", last, ">", first, f"blocks of {LEVELS[0]}"),
        ],
    )


def controls(ds):
    """Single tokens of another head; single tokens that are alike within a block."""
    return {
        "single tokens of the next head": ds.assign(fine=ds.fine[::-1]),
        "the mass of a block spread evenly over its tokens": ds.assign(times=ds.times * 0 + ds.times[0]),
    }


def draw(ds):
    """One map with a slider over the zoom levels."""
    return plot.frames(ds, "lift", along="step", x="source_block", y="block", title=claim(ds).title)
