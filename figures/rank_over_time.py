"""How many directions of its state does a head use, and which heads use many?

Effective rank of the state after every sixteenth token of texts of facts and sentences: the number of directions that
it really uses. Heads are put into three groups of twelve by how long they keep, the half-life of decay alone in the
same texts. Lines are means over the heads of a group and over texts; intervals are over the heads. The level lines are
the most that a state of nano could hold, since a key has 24 channels, what a state of random numbers has, and the most
that a single head has in any text.

Look how far apart the groups are at the end, and how far below the levels. Spearman's correlation of half-life and rank
over all heads is taken text by text. The controls give heads the half-lives of others, and put random numbers in
place of a state.

Source: effective rank, Roy and Vetterli 2007; rank over time in a hybrid, arXiv 2602.02195.
"""

import random

import numpy as np
import torch
import xarray

import figures
from figures._state_samples import average
from labkit import deltanet, stats
from labkit import draw as plot
from labkit.claims import Claim, Part, number
from labkit.nano import tasks

PLACE = ("states", 60)
TOKENS, EVERY, TEXTS = 384, 16, 5
KINDS = ["by half-life", "by chance"]
GROUPS = ["shortest", "middle", "longest"]


def data(lab):
    """effective_rank, low, high (kind, group, token) and, per text, rho (kind, sample); most, ceiling, random_rank."""
    texts = [_read(lab, seed) for seed in range(TEXTS)]
    ranks, lives = (xarray.concat(parts, "sample", combine_attrs="override") for parts in zip(*texts, strict=True))
    ranks, lives = (part.stack(place=("layer", "head")) for part in (ranks, np.log(lives)))
    rng, last = np.random.default_rng(0), ranks.isel(token=-1).values
    shuffled = rng.permuted(lives.values, axis=1)
    orders = [lives.mean("sample").argsort().values, rng.permutation(lives.sizes["place"])]
    heads = ranks.mean("sample", keep_attrs=True).drop_vars(("place", "layer", "head"))
    groups = [[heads.isel(place=some) for some in order.reshape(len(GROUPS), -1)] for order in orders]
    groups = xarray.concat([xarray.concat(parts, "group") for parts in groups], "kind")
    low, high = stats.t_interval(groups, "place")
    typical = np.exp(lives.mean("sample").values[orders[0]].reshape(len(GROUPS), -1).mean(1))
    names = [f"{name} half-lives, about {number(life, 2)} tokens" for name, life in zip(GROUPS, typical, strict=True)]
    noise = torch.from_numpy(rng.standard_normal((64, lab.spec.dk, lab.spec.dv)))
    variables = {
        "effective_rank": groups.mean("place", keep_attrs=True),
        "low": low,
        "high": high,
        "rho": (("kind", "sample"), [list(map(_rho, some, last)) for some in (lives.values, shuffled)]),
        "most": ranks.max(),
        "ceiling": min(lab.spec.dk, lab.spec.dv),
        "random_rank": float(deltanet.ranks(torch.linalg.svdvals(noise))[1].mean()),
    }
    sample = f"{TEXTS} texts of {TOKENS} tokens, seeds 0 to {TEXTS - 1}, {lives.sizes['place']} heads"
    interval = f"95 %, Student's t over the heads of a group; of the correlation over {TEXTS} texts"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return xarray.Dataset(variables, {"kind": KINDS, "group": names}, {"reading": "deltanet.spectrum"} | made)


def _read(lab, seed):
    """Effective rank (layer, head, token) and half-life (layer, head) in one text."""
    size = lambda text: len(lab.encode(text))  # noqa: E731
    text = tasks.scattered(random.Random(seed), TOKENS + 60, size, facts=24)
    run = lab.trace(lab.encode(tasks.bare(text))[:TOKENS], seams=["qkv", "a", "b", "read"])
    layers = lab.spec.deltanet_layers
    ranks = deltanet.spectrum(run, layer=layers, tokens=range(EVERY - 1, TOKENS, EVERY)).effective_rank
    return ranks.drop_vars("token_text"), deltanet.half_life(run, layer=layers).decay_only


def _rho(one, other):
    """Spearman's correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def claim(ds):
    """Heads that keep use more; none uses as much as random numbers would."""
    now = ds.isel(kind=0)
    rho, interval = average(now.rho)
    short, long = (float(now.effective_rank.isel(group=group, token=-1)) for group in (0, -1))
    ends = tuple(float(now[name].isel(group=-1, token=-1)) for name in ("low", "high"))
    most, noise = float(ds.most), float(ds.random_rank)
    return Claim(
        f"Heads that keep use more directions, {long:.1f} against {short:.1f} (ρ = {rho:.2f}), "
        f"at most {most:.1f} of {int(ds.ceiling)}",
        [
            Part("Spearman's ρ of half-life and rank over heads", rho, ">", 0, "no relation", interval),
            Part("rank of heads that keep longest", long, ">", short, "heads that keep shortest", ends),
            Part("largest rank of any head at the tokens read", most, "<", noise, "a state of random numbers"),
        ],
    )


def controls(ds):
    """Half-lives of other heads; random numbers."""
    return {
        "half-lives shuffled over heads, seed 0": ds.isel(kind=slice(None, None, -1)),
        "random numbers in place of a state": ds.assign(most=ds.random_rank),
    }


def draw(ds):
    """Three lines and three levels."""
    known = {"all that a state can hold": ds.ceiling, "random numbers": ds.random_rank, "the most of any head": ds.most}
    levels = {f"{name}, {number(float(level), 2)}": float(level) for name, level in known.items()}
    options = dict(x="token", color="group", interval=("low", "high"), levels=levels, title=claim(ds).title)
    return plot.lines(ds.isel(kind=0), "effective_rank", **options)
