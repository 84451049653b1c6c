"""Query heads that share keys and values look at more of the same than others do, and are still no copies

Six query heads of nano read one key/value head. For every pair of query heads of a layer: the overlap of their softmax
rows, Σ min(p, p'), mean over the tokens of a text of facts and sentences; 1 means the same map.

Look at the squares of six along the diagonal, heads that share keys and values. If sharing made heads alike, these
squares would stand out from the rest and be as dark as the diagonal. The title says how far they do.

Source: grouped-query attention, arXiv 2305.13245; overlap, this project's `attention.similarity`.
"""

import random

import numpy as np

from labkit import attention
from labkit import draw as plot
from labkit.nano import tasks

TOKENS = 192


def data(lab):
    """similarity (layer, query_head, other_head), and its mean within and between the groups of a kv head."""
    size = lambda text: len(lab.encode(text))  # noqa: E731
    text = tasks.scattered(random.Random(0), TOKENS, size, facts=8)
    run = lab.trace(tasks.bare(text), seams=["q", "k", "v", "gate", "gated"])
    ds = attention.similarity(run, layer=lab.spec.attention_layers, rows=range(len(run)))
    group = ds.kv_head.values
    same, other = group[:, None] == group[None, :], ~np.eye(len(group), dtype=bool)
    mean = lambda mask: ("layer", ds.similarity.values[:, mask].mean(1))  # noqa: E731
    return ds.assign(within=mean(same & other), between=mean(~same)).drop_vars("kv_head")


def draw(ds):
    """One map per layer."""
    means = [
        f"layer {int(at)}: {float(ds.within[i]):.2f} and {float(ds.between[i]):.2f}" for i, at in enumerate(ds.layer)
    ]
    title = f"Overlap within a group and between groups, {'; '.join(means)}"
    return plot.heatmap(ds, "similarity", x="other_head", y="query_head", facet="layer", title=title)
