"""Do near facts and far facts need different layers?

One fact, then sentences about other things, then the question, in prompts of 16 and of 256 tokens. What does the right
answer lose in probability if one layer's mixer is taken away? Bars are means over prompts, whiskers their 95 %
intervals. At the right end, all DeltaNet mixers (D) and all attention mixers (A) are taken away together.

Look from near to far in each group of bars. If DeltaNet layers carried near facts and attention layers far ones, the
far bar would be the shorter one at D and the longer one at A. The middle bar shows what prompts alone change: other
prompts of 16 tokens, which differ from the near ones by chance. No claim is made of single layers. Six D mixers are
taken against two A mixers; the control takes the last two D mixers, as many as there are of A.

Source: this project's `edit.ablate` at the seam `mixer_out`; the seams are those of transformers' decoder layer.
"""

import random

import numpy as np
import xarray

import figures
from labkit import draw as plot
from labkit import edit, stats
from labkit.claims import Claim, Part
from labkit.nano import exam, questions
from labkit.notation import Quantity, label

PLACE = ("attention", 30)
NEAR, OTHER, FAR = "near, 16 tokens", "other prompts of 16", "far, 256 tokens"
PLACES = {NEAR: (16, range(40)), OTHER: (16, range(40, 60)), FAR: (256, range(12))}  # tokens, seeds
LOST = Quantity("lost", "probability of the answer that is lost", "1", "signed", "this run")
ALL_D, ALL_A = "all D", "all A"
MOVED = {"rtol": 0.0, "atol": 0.02, "reason": "probabilities move with the order of sums on other processors"}
NUMBERS = [*("lost", "low", "high"), *(name + end for name in ("more", "few") for end in ("", "_low", "_high"))]
TOLERANCE = dict.fromkeys(NUMBERS, MOVED)


def data(lab):
    """lost (term, distance): fall of the answer's probability; more (distance): without D less without A; few: the same
    without as many D mixers as there are of A; intervals."""
    spec = lab.spec
    cuts = {f"{spec.kind(layer)[0].upper()} layer {layer}": [layer] for layer in range(spec.layers)}
    few = spec.deltanet_layers[-len(spec.attention_layers) :]
    cuts |= {ALL_D: list(spec.deltanet_layers), ALL_A: list(spec.attention_layers)}
    size = lambda words: len(lab.encode(words))  # noqa: E731
    found = []
    for length, seeds in PLACES.values():
        asked = [questions.single(random.Random(f"{n} {length}"), length, size) for n in seeds]
        whole = _chances(lab, asked)
        lost = xarray.DataArray([whole - _chances(lab, asked, cut) for cut in cuts.values()], dims=("term", "sample"))
        as_many = whole - _chances(lab, asked, few) - lost[-1]
        all_ = lost, lost[-2] - lost[-1], as_many
        found.append([ends for of in all_ for ends in (of.mean("sample"), *stats.t_interval(of))])
    variables = {
        name: (("term", "distance") if n < 3 else ("distance",), np.stack([row[n] for row in found], -1), LOST)
        for n, name in enumerate(NUMBERS)
    }
    counts = [len(seeds) for _, seeds in PLACES.values()]
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{counts[0]} and {counts[1]} prompts of 16 tokens, seeds 0 to 59; {counts[2]} of 256, seeds 0 to 11",
        interval="95 %, Student's t over the prompts",
    )
    coords = {"term": ("term", list(cuts), "mixers taken away"), "distance": list(PLACES)}
    return label(variables, coords=coords, attrs=facts | {"reading": "edit.ablate"})


def _chances(lab, asked, cut=()):
    """Probability of each right answer [prompt], without some mixers."""
    with lab.edit(*edit.ablate(cut)):
        return exam.answers(lab, asked)[1].numpy()


def claim(ds):
    """The kind that is needed is the same near and far; of single layers nothing is claimed."""
    number = lambda name, **at: ds[name].sel(at).item()  # noqa: E731
    parts = []
    for place in (NEAR, FAR):
        got, *ends = (number(name, distance=place) for name in ("more", "more_low", "more_high"))
        what = f"{place}: lost without D less lost without A"
        parts.append(Part(what, got, ">", 0, "both kinds alike", tuple(ends)))
    shown = {
        cut: [f"{number('lost', term=cut, distance=place):.2f}" for place in (NEAR, FAR)] for cut in (ALL_D, ALL_A)
    }
    return Claim(
        f"Near and far, more is lost without D mixers ({' and '.join(shown[ALL_D])}) "
        f"than without A ({' and '.join(shown[ALL_A])})",
        parts,
    )


def controls(ds):
    """As many D mixers as A mixers."""
    few = {name: ds[name.replace("more", "few")] for name in ("more", "more_low", "more_high")}
    return {"the last D mixers, as many as there are of A": ds.assign(few)}


def draw(ds):
    """Three bars for each cut: near, near again, far."""
    fig = plot.bars(ds, "lost", x="term", color="distance", interval=("low", "high"), title=claim(ds).title)
    return fig.update_yaxes(title={"text": "probability of the answer that is lost"})
