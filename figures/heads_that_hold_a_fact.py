"""A few heads hold the fact: with attention silenced, exchanging their states alone moves the answer

Two prompts state the same facts but one. The state of one head after the facts is taken from the first prompt and put
into the second, and the question is read from there. The effect is the share of the way from the second prompt's answer
(0) to the first one's (1) that this one state goes, in the difference of the two answers' logits. Attention layers are
silenced, so that only states can carry the fact; means over many pairs of prompts.

Look for the few dark cells. The title says how far they go together, and how far all other heads go: if every head
moved the answer a little, or the others moved it as far, the claim would be wrong.

Source: activation patching, arXiv 2404.15255; here of recurrent states, `deltanet.patch_states`.
"""

import random

import numpy as np
import xarray

from labkit import deltanet, edit
from labkit import draw as plot
from labkit.nano import questions

PAIRS, LEAST = 40, 0.1


def data(lab):
    """effect (layer, head), mean over pairs; together and others, that of the found heads and of all others."""
    pairs = [questions.contrast(random.Random(n)) for n in range(PAIRS)]

    def patched(reading, clean, other, asked, *answers, **options):
        ids = [int(lab.encode(answer)[0]) for answer in answers]
        return reading(lab, clean, other, asked, score=ids, **options).effect

    with lab.edit(*edit.ablate(lab.spec.attention_layers)):
        effects = xarray.concat([patched(deltanet.patch_states, *pair) for pair in pairs], "step")
        mean = effects.mean("step").assign_attrs(effects.attrs | {"long_name": "share of the way to the other answer"})
        places = [(int(mean.layer[i]), int(mean["head"][j])) for i, j in np.argwhere(mean.values >= LEAST)]
        every = [(layer, head) for layer in lab.spec.deltanet_layers for head in range(lab.spec.value_heads)]
        sets = [places, [place for place in every if place not in places]]
        both = xarray.concat([patched(deltanet.patch_together, *pair, sets=sets) for pair in pairs], "call")
    holders, others = (both.isel(step=place, drop=True) for place in (0, 1))
    variables = {"effect": mean, "half": _half(effects, "step"), "holders": mean >= LEAST}
    variables |= {"together": holders.mean(), "others": others.mean()}
    variables |= {"together_half": _half(holders, "call"), "others_half": _half(others, "call")}
    return xarray.Dataset(variables, attrs={"reading": "deltanet.patch_states", "model": lab.name})


def _half(samples, along):
    return 1.96 * samples.std(along) / np.sqrt(samples.sizes[along])


def draw(ds):
    """A map of layers and heads."""
    count, others = int(ds.holders.sum()), int((~ds.holders).sum())
    pair = f"{float(ds.together):.0%} ± {float(ds.together_half):.0%}", f"{float(ds.others):.0%}"
    title = f"{count} states together go {pair[0]} of the way to the other answer, the other {others} go {pair[1]}"
    return plot.heatmap(ds, "effect", x="head", y="layer", title=title)
