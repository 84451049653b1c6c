"""Do attribution, patching and knock-out name the same heads?

Three numbers for each head of either kind, on prompts that ask for one of four facts. Attribution: what the head adds
to the lead of the answer's logit directly. Patching: which share of the answer comes back if the head alone is taken
from the prompt with the right fact, into one with another. Knock-out: which share of the answer's lead goes if the head
is silenced. Each is drawn as a share of its own largest, and the heads shown are the first five of any of the three.

Look where one bar stands alone. A head that adds much and is not missed may have another that stands in for it; a head
that is missed and brings nothing back may do what both prompts need; one that brings much back and adds nothing acts
through later layers. A knock-out below zero: the lead grows without the head. Rank correlations are over all heads,
with intervals over prompts. The control shuffles the heads of attribution.

Source: arXiv 2404.15255 (patching), 2211.00593 (backup); `attribution.agreement`.
"""

import random

import numpy as np
import xarray

import figures
from labkit import attribution, stats
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano import questions

PLACE = ("causes", 70)
PAIRS, TOP = 8, 5
KINDS = ["attribution", "patching", "knock-out"]
MOVED = {"rtol": 0.0, "atol": 0.05, "reason": "ranks of heads that do nothing move with the order of sums"}
TOLERANCE = dict.fromkeys(("share", "low", "high", "each", "rank", "rank_low", "rank_high", "chance"), MOVED)


def data(lab):
    """each (kind, sample, place); share, low, high (kind, shown); rank (kind, other_kind) with its ends and chance."""
    drawn = [questions.contrast(random.Random(seed)) for seed in range(PAIRS)]
    pairs = [(clean + question, other + question) for clean, other, question, *_ in drawn]
    answers = dict(of=[each[3] for each in drawn], against=[each[4] for each in drawn])
    patched = attribution.patch_sweep(lab, pairs, **answers)
    silenced = attribution.patch_sweep(lab, [clean for clean, _ in pairs], **answers, put="zero")
    direct = [
        attribution.logit(lab, clean, of=right, against=wrong).added.sum("source", min_count=1)
        for (clean, _), right, wrong in zip(pairs, answers["of"], answers["against"], strict=True)
    ]
    direct = xarray.concat([each.drop_vars("reader", errors="ignore") for each in direct], "sample")
    readings = dict(zip(KINDS, (direct, patched.effect, silenced.effect), strict=True))
    flat = [each.transpose("sample", "layer", "reader").values.reshape(PAIRS, -1) for each in readings.values()]
    known = np.isfinite(flat[0]).all(0)
    layers, heads = np.divmod(np.flatnonzero(known), patched.sizes["reader"])
    names = [f"layer {layer}, head {head}" for layer, head in zip(layers, heads, strict=True)]
    each = xarray.DataArray(
        np.stack(flat)[:, :, known], dims=("kind", "sample", "place"), coords={"kind": KINDS, "place": names}
    )
    made = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{PAIRS} pairs of prompts, seeds 0 to {PAIRS - 1}; {len(names)} heads",
        interval=f"95 %, bootstrap over {PAIRS} pairs",
    )
    return _ranked(each).assign_attrs({"reading": "attribution.agreement"} | made)


def _ranked(each):
    """The Dataset of readings (kind, sample, place)."""
    agreed = attribution.agreement({kind: each.sel(kind=kind, drop=True) for kind in KINDS}, top=TOP)
    names = {"rank": "rank", "low": "rank_low", "high": "rank_high", "chance": "chance", "shared": "shared"}
    mean = each.mean("sample")
    tops = {int(n) for kind in KINDS for n in np.argsort(-abs(mean.sel(kind=kind).values))[:TOP]}
    order = sorted(tops, key=lambda n: -abs(float(mean.sel(kind="patching")[n])))
    scaled = each / abs(mean).max("place")
    low, high = stats.bootstrap(scaled.isel(place=order), resamples=2000)
    facts = {"long_name": "share of the largest of its kind", "units": "1", "symbol": "share", "scale": "signed"}
    share = scaled.isel(place=order).mean("sample").assign_attrs(facts)
    shown = {"share": share, "low": low.assign_attrs(facts), "high": high.assign_attrs(facts)}
    shown = {name: part.rename(place="shown").transpose("kind", "shown") for name, part in shown.items()}
    ds = xarray.Dataset(shown | {"each": each} | {new: agreed[old] for old, new in names.items()})
    return ds.assign_coords(shown=("shown", ds.shown.values, {"long_name": "head"}))


def claim(ds):
    """Ranks alike beyond shuffled heads; how many of the top heads are shared is a number of the title."""
    both = lambda name, a, b: float(ds[name].sel(kind=a, other_kind=b))
    parts, said = [], {}
    for other in ("patching", "knock-out"):
        rank = both("rank", "attribution", other)
        ends = tuple(both(name, "attribution", other) for name in ("rank_low", "rank_high"))
        chance = both("chance", "attribution", other)
        said[other] = f"{int(both('shared', 'attribution', other))} of {TOP} top heads (ρ {rank:.2f})"
        parts.append(Part(f"ρ of attribution and {other}", rank, ">", chance, "95 % of shuffled heads", ends))
    return Claim(
        f"Attribution shares {said['patching']} with patching, {said['knock-out']} with knock-out",
        parts,
    )


def controls(ds):
    """The heads of attribution shuffled."""
    each = ds.each.copy(deep=True)
    order = np.random.default_rng(0).permutation(each.sizes["place"])
    each.loc[{"kind": "attribution"}] = each.sel(kind="attribution").values[:, order]
    return {"heads of attribution shuffled": _ranked(each).assign_attrs(ds.attrs)}


def draw(ds):
    """A group of three bars for each head."""
    return plot.bars(ds, "share", x="shown", color="kind", interval=("low", "high"), title=claim(ds).title)
