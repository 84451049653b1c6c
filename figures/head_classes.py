"""What do the attention heads of nano do, by scores that anybody can compute?

For every query head, the share of its attention that goes to the first tokens (sink), to the token before (previous),
to what followed the same token earlier (induction), to its close neighbours beyond an even head's (local), to the value
of a key that is asked for (retrieval), and how evenly it is spread (diffuse). Means over random rows and over prompts
of eight facts; the whiskers are 95 % intervals of the mean. The last place of each panel is an even head, which gives
all tokens before it the same weight.

A head is of the class of its largest score but diffuse if that is 0.25 or more; else it is diffuse from 0.75 on, or
none; both levels are drawn and are conventions. Look for heads whose whiskers lie apart from the even head's point and
from the level, and for heads that have two high scores: a class is not a trade. The control reads the weight on the
value of a key that was not asked for.

Source: induction, arXiv 2209.11895; sinks, arXiv 2309.17453; retrieval heads, arXiv 2404.15574; `attention.classes`.
"""

import random

import numpy as np
import torch
import xarray
from scipy.stats import t

import figures
from labkit import attention
from labkit import draw as plot
from labkit.attention.kinds import BAR, NAMES, SPREAD, scored
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES

PLACE = ("attention", 60)
SAMPLES, FACTS, LENGTH, KEYED = 8, 16, 64, 8
EVEN, LEAST = "even", "the least low end in the first attention layer"
SYMBOLS = ("circle", "square", "diamond", "cross", "star", "triangle-up")


def data(lab):
    """score, low and high (layer, query_head, term), the last head being an even one.

    beside (layer, query_head): retrieval at the value of another key.
    """
    pool = [int(lab.encode(f" {word}")[0]) for word in KEYS + VALUES]
    asked, other = ([question(random.Random(seed), shift) for seed in range(FACTS)] for shift in (0, 1))
    options = dict(length=LENGTH, pool=pool)
    heads = attention.scores(lab, samples=SAMPLES, facts=asked, **options)
    beside = attention.scores(lab, samples=1, facts=other, **options).retrieval
    names, even = [name for name in NAMES if name in heads], _even(lab, asked[0])
    columns = []
    for name in names:
        count = FACTS if name == "retrieval" else SAMPLES
        half = t.ppf(0.975, count - 1) * heads[f"{name}_spread"].values / count**0.5
        mean = np.pad(heads[name].values, ((0, 0), (0, 1)), constant_values=even[name])
        columns.append((mean, mean - np.pad(half, ((0, 0), (0, 1))), mean + np.pad(half, ((0, 0), (0, 1)))))
    quantity = {"long_name": "share of attention", "symbol": "score", "units": "1"}
    dims = ("layer", "query_head", "term")
    ends = [(dims, np.stack(each, -1), quantity) for each in zip(*columns, strict=True)]
    ds = xarray.Dataset(dict(zip(("score", "low", "high"), ends, strict=True)))
    ds["beside"] = ("layer", "query_head"), np.pad(beside.values, ((0, 0), (0, 1)), constant_values=even["retrieval"])
    every = [*map(str, heads.query_head.values), EVEN]
    ds = ds.assign_coords(layer=heads.layer.values, query_head=every, term=names)
    ds["query_head"].attrs["long_name"] = "query head"
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{SAMPLES} random rows of {LENGTH} words, read twice, seed 0; {FACTS} prompts of {KEYED} facts",
        interval=f"95 %, Student's t over {SAMPLES} rows, of retrieval over {FACTS} prompts",
    )
    kept = {name: heads.attrs[name] for name in ("layer", "reading", "parity", "tolerance")}
    return ds.assign_attrs(kept | facts)


def question(draw, shift=0):
    """(prompt, reading token, token of the answer to it, or with `shift` of the fact after): facts, one asked for."""
    keys = draw.sample(KEYS, KEYED)
    text = "".join(f" {key} {draw.choice(VALUES)}." for key in keys)
    at = draw.randrange(KEYED)
    return text + f" {keys[at]}", -1, 3 * ((at + shift) % KEYED) + 1


def _even(lab, asked):
    """Scores of a head that gives every token up to its own the same weight."""
    rows = torch.tril(torch.ones(2 * LENGTH, 2 * LENGTH))
    found = {name: float(value) for name, value in scored((rows / rows.sum(-1, keepdim=True))[None], LENGTH).items()}
    return found | {"retrieval": 1 / len(lab.encode(asked[0]))}


def claim(ds):
    """All heads of the first attention layer score in retrieval and in induction; those of the last retrieve less."""
    first, last = ds.layer.values
    heads, even = ds.where(ds.query_head != EVEN, drop=True), ds.sel(query_head=EVEN, layer=first)
    parts = []
    for name in ("retrieval", "induction"):
        here = heads.sel(layer=first, term=name)
        at = {"query_head": int(here.low.argmin("query_head"))}
        what, ends = f"{name}, layer {first}, head of the least low end", (float(here.low[at]), float(here.high[at]))
        parts.append(Part(what, here.score[at], ">", float(even.score.sel(term=name)), "an even head", ends))
        parts.append(Part(what, here.score[at], "≥", BAR, "the level of a class", ends))
    most = float(heads.beside.sel(layer=first).max())
    parts.append(
        Part(
            "least retrieval",
            heads.score.sel(layer=first, term="retrieval").min(),
            ">",
            most,
            "the most at the value of another key",
        )
    )
    found, other = heads.sel(layer=first, term="retrieval"), heads.sel(layer=last, term="retrieval")
    at = {"query_head": int(other.high.argmax("query_head"))}
    ends, bound = (float(other.low[at]), float(other.high[at])), float(found.low.min())
    parts.append(Part(f"retrieval, layer {last}, head of the most high end", other.score[at], "<", bound, LEAST, ends))
    rest, spread = heads.score.drop_sel(term="diffuse").max("term"), heads.score.sel(term="diffuse")
    none, without = ((rest < BAR) & (spread < SPREAD)).sum("query_head").values
    parts.append(Part(f"heads of no class, layer {last}", without, ">", none, f"layer {first}"))
    return Claim(
        f"{heads.sizes['query_head']} heads of layer {first} retrieve ({float(found.score.min()):.2f} to "
        f"{float(found.score.max()):.2f}) and induce ({float(here.score.min()):.2f} to {float(here.score.max()):.2f}); "
        f"layer {last} retrieves {float(other.score.max()):.2f} at most, {without} of no class",
        parts,
    )


def controls(ds):
    """Heads that do nothing of the kind."""
    flat = {name: ds[name].where(False, ds.score.sel(query_head=EVEN)) for name in ("score", "low", "high")}
    other = ds.score.where(ds.term != "retrieval", ds.beside)
    return {
        "an even head in place of every head": ds.assign(flat),
        "retrieval read at the value of a key that was not asked for": ds.assign(score=other, low=other, high=other),
    }


def draw(ds):
    """Scores of the heads as points, a panel for each layer."""
    levels = {f"class from {BAR}": BAR, f"diffuse from {SPREAD}": SPREAD}
    options = dict(x="query_head", color="term", facet="layer", interval=("low", "high"), levels=levels)
    figure = plot.lines(ds, "score", **options, title=claim(ds).title)
    for trace in figure.data:
        if trace.name in ds.term.values:  # a head does not follow from the one before
            trace.update(mode="markers", marker={"symbol": SYMBOLS[list(ds.term.values).index(trace.name)], "size": 8})
    return figure
