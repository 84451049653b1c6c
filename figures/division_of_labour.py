"""Do near facts and far facts need different layers?

One fact, then sentences about other things, then the question, in prompts of 16 and of 256 tokens. What does the right
answer lose in probability if one layer's mixer is taken away? Bars are means over prompts, whiskers their 95 %
intervals. At the right end, all DeltaNet mixers (D) and all attention mixers (A) are taken away together.

Look from near to far in each group of bars. If DeltaNet layers carried near facts and attention layers far ones, the
far bar would be the shorter one at D and the longer one at A. The middle bar shows what prompts alone change: other
prompts of 16 tokens, which differ from the near ones by chance. No claim is made of single layers. The control
exchanges the two kinds.

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
ENDS = ("", "_low", "_high")
TOLERANCE = dict.fromkeys(("lost", "low", "high", *(name + end for name in ("more", "other") for end in ENDS)), MOVED)


def data(lab):
    """lost (term, distance): fall of the answer's probability; more (distance): without D less without A; intervals.

    other (distance) is the same as more, of answers that are not asked for.
    """
    spec = lab.spec
    cuts = {f"{spec.kind(layer)[0].upper()} layer {layer}": [layer] for layer in range(spec.layers)}
    cuts |= {ALL_D: list(spec.deltanet_layers), ALL_A: list(spec.attention_layers)}
    size = lambda words: len(lab.encode(words))  # noqa: E731
    found = []
    for length, seeds in PLACES.values():
        asked = [questions.single(random.Random(f"{n} {length}"), length, size) for n in seeds]
        lost = _lost(lab, asked, cuts.values())
        of_others = _lost(lab, _exchanged(asked), list(cuts.values())[-2:])
        parts = (lost, *(of[-2] - of[-1] for of in (lost, of_others)))
        found.append([ends for of in parts for ends in (of.mean("sample"), *stats.t_interval(of))])
    names = ("lost", "low", "high", *(name + end for name in ("more", "other") for end in ENDS))
    variables = {
        name: (("term", "distance") if n < 3 else ("distance",), np.stack([row[n] for row in found], -1), LOST)
        for n, name in enumerate(names)
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


def _exchanged(asked):
    """The prompts with the answer of the next prompt that has another one."""
    turned = [asked[n + 1 :] + asked[:n] for n in range(len(asked))]
    return [
        (prompt, next(answer for _, answer in rest if answer != own))
        for (prompt, own), rest in zip(asked, turned, strict=True)
    ]


def _lost(lab, asked, cuts):
    """What the probability of each answer loses (term, sample) by each cut."""
    whole = _chances(lab, asked)
    return xarray.DataArray([whole - _chances(lab, asked, cut) for cut in cuts], dims=("term", "sample"))


def _chances(lab, asked, cut=()):
    """Probability of each answer [prompt], without some mixers."""
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
    """Answers that are not asked for; the kinds exchanged."""
    turned = ds.copy(deep=True)
    for name in ("lost", "low", "high"):
        for one, two in ((ALL_D, ALL_A), (ALL_A, ALL_D)):
            turned[name].loc[{"term": one}] = ds[name].sel(term=two)
    return {
        "answers of other prompts": ds.assign({f"more{end}": ds[f"other{end}"] for end in ENDS}),
        "the two kinds exchanged": turned.assign(more=-ds.more, more_low=-ds.more_high, more_high=-ds.more_low),
    }


def draw(ds):
    """Three bars for each cut: near, near again, far."""
    fig = plot.bars(ds, "lost", x="term", color="distance", interval=("low", "high"), title=claim(ds).title)
    return fig.update_yaxes(title={"text": "probability of the answer that is lost"})
