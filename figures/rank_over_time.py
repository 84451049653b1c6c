"""Heads that keep fill their states slowly, and none gets near what it could hold; heads that forget stay at one

Effective rank of every state after every eighth token of a text of facts and sentences: the number of directions it
really uses, out of the 24 that a key of nano has. One small figure per DeltaNet layer, one line per value head.

Look at how soon a line stops rising. Heads with short memories stay near one, since what they hold is always the last
few tokens; heads with long memories go on. Lines that reach 24 would refute the title.

Source: effective rank, Roy and Vetterli 2007; rank over time in a hybrid, arXiv 2602.02195.
"""

import random

from labkit import deltanet
from labkit import draw as plot
from labkit.nano import tasks

TOKENS, EVERY = 384, 8


def data(lab):
    """effective_rank (layer, head, token)."""
    size = lambda text: len(lab.encode(text))  # noqa: E731
    text = tasks.scattered(random.Random(0), TOKENS + 60, size, facts=24)
    ids = lab.encode(tasks.bare(text))[:TOKENS]
    run = lab.trace(ids, seams=["qkv", "a", "b", "read"])
    ds = deltanet.spectrum(run, layer=lab.spec.deltanet_layers, tokens=range(EVERY - 1, TOKENS, EVERY))
    return ds[["effective_rank"]].drop_vars("token_text")


def draw(ds):
    """Small multiples over layers."""
    last = ds.effective_rank.isel(token=-1)
    title = f"At the end the states of nano use {float(last.min()):.1f} to {float(last.max()):.1f} of 24 directions"
    return plot.lines(ds, "effective_rank", x="token", color="head", facet="layer", title=title)
