"""Do query heads that share keys and values look at the same?

Six query heads of nano read one key/value head. For every pair of query heads of a layer: the overlap of their softmax
rows, Σ min(p, p'), mean over the tokens of a text of facts and sentences, and over eight texts; 1 means the same map.

Look at the squares of six along the diagonal, heads that share keys and values. If sharing made heads alike, these
squares would stand out from the rest; if it made copies of them, they would be as dark as the diagonal. The claim
compares with every other way there is to part the same twelve heads into two groups of six; the control takes every
other head for a group.

Source: grouped-query attention, arXiv 2305.13245; overlap, this project's `attention.similarity`.
"""

import itertools
import random

import numpy as np
import xarray

import figures
from labkit import attention, stats
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano import tasks

PLACE = ("attention", 80)
TOKENS, TEXTS = 192, range(8)


def data(lab):
    """similarity (layer, query_head, other_head), mean over texts; excess (layer, text) within beyond between groups.

    permuted (layer, parting): the mean excess of every other parting of the heads into groups of that size;
    alternate (layer, text): the excess if every other head were a group.
    """
    size = lambda text: len(lab.encode(text))  # noqa: E731
    every = []
    for seed in TEXTS:
        text = tasks.bare(tasks.scattered(random.Random(seed), TOKENS, size, facts=8))
        run = lab.trace(text, seams=["q", "k", "v", "gate", "gated"])
        every.append(attention.similarity(run, layer=lab.spec.attention_layers, rows=range(len(run))))
    proof = max((each.attrs for each in every), key=lambda attrs: attrs["parity"])
    overlap, group = xarray.concat([each.similarity for each in every], "text"), every[0].kv_head.values
    mean = overlap.mean("text").assign_attrs(overlap.attrs).drop_vars("kv_head")
    others = [parted for parted in _partings(group) if not (parted == (group == group[0])).all()]
    ds = xarray.Dataset({"similarity": mean})
    ds["query_head"].attrs["long_name"] = ds["other_head"].attrs["long_name"] = "query head"
    for name, parted in (("excess", group), ("alternate", np.arange(len(group)) % 2)):
        ds[name] = ("layer", "text"), np.stack([np.subtract(*means) for means in _means(overlap, parted)], 1)
    ds["within"], ds["between"] = (("layer", np.mean(part, 0)) for part in zip(*_means(overlap, group), strict=True))
    permuted = [np.subtract(*_parted(mean.values, parted)) for parted in others]
    ds["permuted"] = ("layer", "parting"), np.stack(permuted, 1)
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(TEXTS)} texts of {TOKENS} tokens or a few less, seeds 0 to {TEXTS[-1]}",
        interval=f"95 %, Student's t over {len(TEXTS)} texts",
    )
    keys = {name: proof[name] for name in ("model", "layer", "reading", "parity", "tolerance")}
    return ds.assign_attrs(keys | facts)


def _partings(group):
    """All ways to part the heads into two groups of the size of the true ones, the first head's group as True."""
    count, size = len(group), int((group == group[0]).sum())
    for rest in itertools.combinations(range(1, count), size - 1):
        parted = np.zeros(count, dtype=bool)
        parted[[0, *rest]] = True
        yield parted


def _means(overlap, group):
    return [_parted(each.values, group) for each in overlap]


def _parted(overlap, group):
    """Mean overlap [layer] of different heads within a group, and of heads of two groups."""
    same, other = group[:, None] == group[None], ~np.eye(len(group), dtype=bool)
    return overlap[:, same & other].mean(1), overlap[:, ~same].mean(1)


def _apart(ds):
    """Overlap of all pairs of two different heads."""
    count = ds.sizes["query_head"]
    return ds.similarity.values[:, ~np.eye(count, dtype=bool)]


def claim(ds):
    """More overlap within groups than between, more than by any other parting, and less than of copies."""
    low, high = (end.values for end in stats.t_interval(ds.excess, "text"))
    parts = []
    for n, layer in enumerate(ds.layer.values):
        mean, most = float(ds.excess[n].mean()), float(ds.permuted[n].max())
        what, ends = f"layer {layer}, overlap within groups beyond that between", (float(low[n]), float(high[n]))
        parts.append(Part(what, mean, ">", most, f"most of {ds.sizes['parting']} other partings", ends))
    top = float(_apart(ds).max())
    parts.append(Part("largest overlap of two heads", top, "<", 1, "copies"))
    means = " and ".join(
        f"{float(ds.within[n]):.2f} against {float(ds.between[n]):.2f} (layer {layer})"
        for n, layer in enumerate(ds.layer.values)
    )
    return Claim(f"Heads that share keys overlap more than others: {means}; no copies", parts)


def controls(ds):
    """A parting that is not the true one; heads that are copies of one."""
    copies = ds.assign(similarity=ds.similarity * 0 + 1)
    copies = copies.assign(excess=ds.excess * 0, permuted=ds.permuted * 0)
    return {
        "every other head taken for a group": ds.assign(excess=ds.alternate),
        "twelve copies of one head": copies,
    }


def draw(ds):
    """One map per layer."""
    return plot.heatmap(ds, "similarity", x="other_head", y="query_head", facet="layer", title=claim(ds).title)
