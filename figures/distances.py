"""No attention head of nano is local: every one looks back by some hundred tokens on average

Attention mass by distance, in bins that double: 0, 1 to 2, 3 to 6, and so on, mean over all reading tokens of a text of
448 tokens. One row per query head.

Look along the rows: a head whose mass lies in the first bins is local, one with mass in the last bins looks far back.
A row with most of its mass below 15 tokens would refute the title.

Source: distance histograms without the T x T map, this project's `attention.summary`.
"""

import random

from labkit import attention
from labkit import draw as plot
from labkit.nano import tasks

TOKENS = 448


def data(lab):
    """histogram (layer, query_head, bin) and mean distance (layer, query_head)."""
    size = lambda text: len(lab.encode(text))  # noqa: E731
    text = tasks.scattered(random.Random(1), TOKENS, size)
    run = lab.trace(tasks.bare(text), seams=["q", "k", "v", "gate", "gated"])
    ds = attention.summary(run, layer=lab.spec.attention_layers, block=len(run))[["histogram", "distance"]]
    return ds.isel(block=0, drop=True).drop_vars(("block_start", "rows_taken"), errors="ignore")


def draw(ds):
    """One map per layer, heads down and distances right."""
    low, high = float(ds.distance.min()), float(ds.distance.max())
    title = f"Mean distance of what a head attends to: from {low:.0f} to {high:.0f} tokens"
    return plot.heatmap(ds, "histogram", x="bin", y="query_head", facet="layer", title=title)
