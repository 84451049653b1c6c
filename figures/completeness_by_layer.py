"""How much of the answer is lost on the way through the layers?

At each layer the slope of the answer's logit by the stream, times the stream, summed over tokens. In the network whose
gates, norms and attention weights are held where they were, both kinds of layer are linear in the stream, so this is
the logit itself at every layer, with what the cache brings: nothing is lost. Beside it the same with nothing held,
which is gradient times input of the model as it is, and with the layers behind left out, which is what the stream
itself says of the answer at that layer. Drawn is the largest distance from the logit among prompts, as a power of ten.

Look how far below the others the line of the held network lies, at every layer and also after a cache. The two others
are the controls: each lacks one thing that the sum needs.

Source: gradient times input with held gates, arXiv 2202.07304; here through the delta rule.
"""

import random

import numpy as np
import xarray

import figures
from figures._fact_prompts import stated
from labkit import attribution, residual
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES

PLACE = ("causes", 40)
SEEDS, FACTS, ASKED, CACHED = (
    range(8),
    6,
    1,
    9,
)  # prompts; facts and the one asked for; tokens of a prompt that are cached
ROUNDING = "what is left is rounding in float32, and another machine's"
TOLERANCE = {
    "digits": {"rtol": 0.0, "atol": 1.5, "reason": ROUNDING},
    "lost": {"rtol": 1e-3, "atol": 5e-5, "reason": ROUNDING},
}
HELD = "held", "held, after a cache"
LACKING = "nothing held", "no later layers"


def data(lab):
    """lost (sample, way, layer): nat that the sum is off; digits (way, layer): of the largest, as a power of ten."""
    lost = np.array([_lost(lab, seed) for seed in SEEDS])  # [sample, way, layer]
    ways, worst = [*HELD, *LACKING], lost.max(0)
    facts = {"long_name": "largest distance from the logit", "symbol": "log₁₀ |Δ|", "units": "power of ten of 1 nat"}
    digits = xarray.DataArray(np.log10(worst.clip(1e-7)), dims=("way", "layer"), attrs=facts | {"scale": "signed"})
    sample = f"{len(SEEDS)} prompts, seeds 0 to {SEEDS[-1]}"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample)
    ds = xarray.Dataset({"digits": digits, "lost": (("sample", "way", "layer"), lost)})
    coords = {"way": ("way", ways, {"long_name": "what the sum goes through"}), "layer": range(lab.spec.layers)}
    return ds.assign_coords(coords).assign_attrs({"reading": "attribution.exact"} | made)


def _lost(lab, seed):
    """[way, layer] of one prompt."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, 24), draw.sample(VALUES, len(VALUES))  # as `stated` draws them
    ids, answer = lab.encode(f"{stated(seed, range(FACTS))} {keys[ASKED]}"), f" {values[ASKED]}"
    cache = lab.cache()
    lab.trace(ids[:CACHED], cache=cache, seams=["resid_post"])
    rows = [_off(attribution.exact(lab, ids, of=answer))]
    rows.append(_off(attribution.exact(lab, ids[CACHED:], of=answer, snap=lab.snapshot(cache))))
    return [*rows, *_lacking(lab, ids, answer)]


def _off(ds):
    behind = ds.cached.sum("held").values[::-1].cumsum()[::-1]
    return abs(ds.stream.sum("source").values + behind - float(ds.logit))


def _lacking(lab, ids, answer):
    """Gradient times input of the model as it is; what the stream itself says, the last norm as it was."""
    run, at = lab.trace(ids, seams=["resid_pre"], grad=True), int(lab.encode(answer)[0])
    logit = run.logits[-1, at]
    slopes = [run.gradient(logit, layer=layer, seam="resid_pre") for layer in run.layers]
    plain = [float((slope * run.seams[layer, "resid_pre"].detach()).sum()) for layer, slope in enumerate(slopes)]
    parts = residual.contributions(lab.trace(ids), lab, of=answer)
    branches = parts.added.sum("term").values.ravel()
    direct = float(parts.embedding.squeeze()) + np.concatenate([[0.0], branches.cumsum()[:-1]])
    return [abs(np.array(each) - float(logit.detach())) for each in (plain, direct)]


def claim(ds):
    """The held network loses rounding alone; whatever lacks something loses more, at every layer."""
    held, lacking = (ds.lost.sel(way=list(ways)) for ways in (HELD, LACKING))
    worst, least = float(held.max()), float(lacking.max("sample").min("layer").min())
    return Claim(
        f"With gates, norms and weights held the answer's logit is whole at every layer, to {worst:.0e} nat; with "
        f"nothing held up to {float(lacking.sel(way=LACKING[0]).max()):.0f} nat are off",
        [
            Part("nat lost at any layer of any prompt, with and without a cache", worst, "<", 1e-4),
            Part(
                "the same",
                worst,
                "<",
                least / 100,
                "a hundredth of what is off at the best layer where something lacks",
            ),
        ],
    )


def controls(ds):
    """Each of the others in the place of the held network."""
    instead = lambda way: ds.assign(lost=ds.lost.where(~ds.way.isin(HELD), ds.lost.sel(way=way, drop=True)))  # noqa: E731
    return {f"{way}, in the place of the held network": instead(way) for way in LACKING}


def draw(ds):
    """A line a way, over the layers."""
    return plot.lines(ds, "digits", x="layer", color="way", title=claim(ds).title)
