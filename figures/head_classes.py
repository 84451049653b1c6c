"""Attention heads of nano have trades: each score is a measured share of attention, on prompts made for it

For every query head, the share of its attention that goes to the first tokens (sink), to the token before (previous),
to what followed the same token earlier (induction), to its close neighbours (local), to the value of a key that is
asked for (retrieval), and how evenly it is spread (diffuse). Means over several random prompts.

Look for cells near one. A head belongs to the class of its largest score if that is above 0.25; the hover tells the
spread over the prompts. A layer of pale rows would mean that these trades do not describe nano.

Source: induction, arXiv 2209.11895; sinks, arXiv 2309.17453; retrieval heads, arXiv 2404.15574.
"""

import random

import xarray

from labkit import attention
from labkit import draw as plot
from labkit.nano.tokens import KEYS, VALUES

SAMPLES, FACTS = 8, 16


def data(lab):
    """score and spread (layer, query_head, term), kind (layer, query_head)."""
    pool = [int(lab.encode(f" {word}")[0]) for word in KEYS + VALUES]
    prompts = [question(random.Random(n)) for n in range(FACTS)]
    heads = attention.classes(attention.scores(lab, samples=SAMPLES, length=64, pool=pool, facts=prompts))
    names = [name for name in attention.kinds.NAMES if name in heads]
    stacked = lambda ending: xarray.concat([heads[name + ending] for name in names], "term", coords="minimal")  # noqa: E731
    facts = {"long_name": "share of attention", "symbol": "score", "units": "fraction", "scale": "fraction"}
    score = stacked("").assign_coords(term=names).transpose("layer", "query_head", "term").assign_attrs(facts)
    spread = stacked("_spread").assign_coords(term=names).transpose("layer", "query_head", "term")
    spread = spread.assign_attrs(facts | {"symbol": "standard deviation"})
    score["term"].attrs["long_name"] = "score"
    return xarray.Dataset({"score": score, "spread": spread, "kind": heads.kind}).assign_attrs(heads.attrs)


def question(draw):
    """(prompt, reading token, token of the answer): eight facts, one asked for."""
    keys = draw.sample(KEYS, 8)
    text = "".join(f" {key} {draw.choice(VALUES)}." for key in keys)
    at = draw.randrange(8)
    return text + f" {keys[at]}", -1, 3 * at + 1


def draw(ds):
    """One map per layer, heads down and scores right."""
    kinds = [str(kind) for kind in ds.kind.values.flatten()]
    counts = sorted({kind: kinds.count(kind) for kind in kinds}.items(), key=lambda pair: -pair[1])
    title = f"Of {len(kinds)} query heads: " + ", ".join(f"{count} {kind}" for kind, count in counts)
    return plot.heatmap(ds, "score", x="term", y="query_head", facet="layer", hover=["spread"], title=title)
