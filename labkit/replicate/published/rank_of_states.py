"""Heads with states of low and of high rank, taken away: arXiv 2602.02195.

The paper counts singular values above 10^-4 and prunes by rank and norm together; here heads are ordered by effective
rank alone, and as many are taken away as its pruning saves of the cache.
"""

import numpy as np
import torch

from labkit import deltanet
from labkit.replicate import asking
from labkit.replicate.record import Number, Paper, measured

LOW, HIGH = "share answered without heads of low rank", "share answered without heads of high rank"
GAP = "the second less the first"
PRUNED, TEXTS, TOKENS, DRAWS = 0.389, 4, 256, 4
SEAMS = ("qkv", "q", "k", "v", "a", "b", "read")
REPORT = "needle score, 93.8 whole; pruning of heads, as Smaller25/SSM_Rank_Analysis and others report it"


@torch.no_grad()
def _measure(lab, texts, samples, length):
    length = length or min(96, lab.spec.window)
    asked, unable = asking.able(lab, asking.questions(lab, samples or 32, length))
    how = f"{len(asked)} questions of up to {length} tokens that the whole model answers"
    interval = "95 %, Wilson, of the difference Newcombe; of the control the range of its draws"
    if unable:
        return measured(PAPER, lab, {}, how=how, interval=interval, unable=unable)
    ranks = effective(lab)
    order = sorted(ranks, key=ranks.get)
    count = max(1, round(PRUNED * len(order)))
    drawn = [order[:count], order[-count:], *asking.by_chance(order, count, DRAWS)]
    low, high, *others = (asking.still(lab, asked, asking.without(places)) for places in drawn)
    count_of = lambda right: asking.share(int(right.sum()), len(right))  # noqa: E731
    ours = {LOW: count_of(low), HIGH: count_of(high), GAP: asking.apart(high, low)}
    chance = asking.span([right.mean() for right in others])
    apart = asking.span([one.mean() - other.mean() for one in others for other in others])
    values = [np.array([ranks[place] for place in some]) for some in (order[:count], order[-count:])]
    beside = {
        f"effective rank of the {name}": asking.mean(its) for name, its in zip(("low", "high"), values, strict=True)
    }
    how += f"; {count} of {len(order)} heads by rank at the end of {TEXTS} texts; {DRAWS} draws, seed 0"
    return measured(PAPER, lab, ours, {LOW: chance, HIGH: chance, GAP: apart}, beside, how=how, interval=interval)


def effective(lab) -> dict[asking.Place, float]:
    """Effective rank of every head's state at the end of texts, mean over them."""
    seams, layers = lab.spec.having("deltanet", SEAMS), lab.spec.deltanet_layers
    total = 0
    for ids in asking.rows(lab, None, TEXTS, min(TOKENS, lab.spec.window)):
        run = lab.trace(ids, layers=layers, seams=seams)
        total = total + deltanet.spectrum(run, layer=layers, tokens=[-1]).effective_rank.isel(token=0)
    return {
        (layer, head): float(total.sel(layer=layer, head=head)) / TEXTS for layer, head in asking.every(lab, "deltanet")
    }


PAPER = Paper(
    arxiv="2602.02195",
    title="State Rank Dynamics in Linear Attention LLMs",
    claim="Heads with states of low rank are indispensable and those of high rank redundant: taking the former away "
    "halves retrieval (93.8 to 46.9), taking the latter away costs little (90.6), and 38.9 % of the cache is saved.",
    model="Qwen3-Next-80B-A3B; needle in a haystack",
    numbers=(
        Number(LOW, 0.5, "46.9 of 93.8", REPORT, "secondary", (-np.inf, 0.75), "a quarter or more is lost"),
        Number(HIGH, 0.966, "90.6 of 93.8", REPORT, "secondary", (0.75, np.inf), "less than a quarter is lost"),
        Number(GAP, 0.466, "43.7 of 93.8", REPORT, "secondary", (0.233, np.inf), "half of it or more"),
    ),
    control="as many heads drawn by chance",
    reasons=(
        "which heads are low is the model's own: their layers, norms and gates differ as well as their rank",
        "rank is counted otherwise (effective rank here, singular values above 10^-4 there), and norms are left out",
        "states of 24 x 32 fill at other ranks than states of 128 x 128",
    ),
    reads="questions",
    measure=_measure,
)
