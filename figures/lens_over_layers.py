"""From which layer on does a lens read the answer, and not what it would always say?

Prompts state six facts and end in the key of one. The logit lens reads the stream after every layer as if the model
ended there; D is a Gated DeltaNet layer, A an attention layer. Drawn is how far up it puts the answer, in bits:
log2 of the vocabulary over its place, up to the line of the first place. Means over prompts, 95 % intervals.

A lens that says colours after every animal puts the answer far up without knowing it. Look where the reading leaves the
line of another prompt's answer, which is asked of the same stream. The other controls ask it for the tokens that stand
nearest to the answer, read random streams of the same norm, and read the stream through a random map.

Source: logit lens, nostalgebraist 2020; the controls, m9h/jlens-lab; `residual.lens_controls`.
"""

import numpy as np
import xarray

import figures
from figures._recall_prompts import FACTS, recall
from figures._state_samples import average, spread
from labkit import draw as plot
from labkit import residual
from labkit.claims import Claim, Part

PLACE = ("causes", 10)
SEEDS = range(24)
READ = "the answer"
TOLERANCE = {
    name: {"rtol": 1e-3, "atol": 0.05, "reason": "a place among 2,560 near numbers, in bits"}
    for name in ("bits", "mean", "low", "high")
}


def data(lab):
    """bits (term, layer, sample): of the answer, and of each control; their means with intervals (term, layer)."""
    asked = [recall(seed) for seed in SEEDS]
    runs = lab.trace([each.prompt for each in asked], seams=["resid_post"])
    ds = residual.lens_controls(runs, lab, of=[each.answer for each in asked])
    bits = xarray.concat([ds.found.expand_dims(term=[READ]), ds.null.rename(control="term")], "term")
    bits = bits.assign_coords(term=bits.term.values.astype(str))
    bits = bits.drop_vars("answer").transpose("term", "layer", "sample").assign_attrs(ds.found.attrs)
    names = [f"{kind[0].upper()} {layer}" for layer, kind in zip(ds.layer.values, ds.kind.values, strict=True)]
    bits = bits.assign_coords(layer=("layer", names, {"long_name": "the stream after layer"})).drop_vars("kind")
    made = xarray.Dataset({"bits": bits, **spread(bits, "mean")})
    sample = f"{len(SEEDS)} prompts of {FACTS} facts, seeds {SEEDS[0]} to {SEEDS[-1]}"
    interval = f"95 %, Student's t over {len(SEEDS)} prompts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return made.assign_attrs(ds.attrs | facts | {"most": float(np.log2(lab.spec.vocab))})


def claim(ds):
    """From the first attention layer on beyond every control; before it, another prompt's answer is as far up."""
    names = ds.layer.values.tolist()
    first = next(n for n, name in enumerate(names) if name.startswith("A"))
    more = ds.bits.sel(term=READ) - ds.bits.drop_sel(term=READ)
    after = more.isel(layer=slice(first, None)).stack(place=("term", "layer"))
    before = more.isel(layer=slice(first), term=0)
    least = after.isel(place=int(after.mean("sample").argmin("place")))
    most = before.isel(layer=int(np.abs(before.mean("sample")).argmax("layer")))
    (got, ends), (rest, within) = average(least), average(most)
    own, other = (float(ds["mean"][n, first - 1]) for n in (0, 1))
    return Claim(
        f"From {names[first]} on the lens reads the answer, {got:.1f} bits beyond its nearest control; "
        f"at {names[first - 1]} another prompt's is as far up ({own:.1f} and {other:.1f})",
        [
            Part(f"bits beyond the nearest control, least from {names[first]} on", got, ">", 1, "", ends),
            Part(f"bits beyond another prompt's answer, most before {names[first]}", rest, "∋", 0, "", within),
        ],
    )


def controls(ds):
    """Random maps in place of the lens; a stream that holds the answer from the first layer on."""
    bits, read = ds.bits, ds.bits.sel(term=READ, drop=True)
    drawn = bits.sel(term="random map", drop=True)
    last = read.isel(layer=-1, drop=True).broadcast_like(read)
    return {
        "random maps in place of the lens": ds.assign(bits=bits.where(bits.term != READ, drawn)),
        "the last layer's stream in place of every other": ds.assign(bits=bits.where(bits.term != READ, last)),
    }


def draw(ds):
    """A line for the answer, one for each control."""
    options = dict(x="layer", color="term", interval=("low", "high"), levels={"first place": ds.attrs["most"]})
    return plot.lines(ds, "mean", **options, title=claim(ds).title)
