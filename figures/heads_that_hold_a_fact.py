"""A few heads hold the fact: with attention silenced, exchanging their states alone moves the answer

Two prompts state the same facts but one. The state of one head after the facts is taken from the first prompt and put
into the second, and the question is read from there. The effect is the share of the way from the second prompt's answer
(0) to the first one's (1) that this one state goes, in the difference of the two answers' logits. Attention layers are
silenced, so that only states can carry the fact; means over many pairs of prompts.

Look for the few dark cells. If every head moved the answer a little, or none did, the title would be wrong.

Source: activation patching, arXiv 2404.15255; here of recurrent states, `deltanet.patch_states`.
"""

import random

import numpy as np
import xarray

from labkit import deltanet, edit
from labkit import draw as plot
from labkit.nano.tokens import KEYS, VALUES

PAIRS, FACTS = 40, 4


def data(lab):
    """effect (layer, head), mean over pairs, and half its 95 % interval."""
    draw_, found = random.Random(0), []
    silent = [edit.scale("mixer_out", layer=layer, factor=0) for layer in lab.spec.attention_layers]
    with lab.edit(*silent):
        for _ in range(PAIRS):
            clean, other, key, right, wrong = pair(draw_, lab)
            found.append(deltanet.patch_states(lab, clean, other, f" {key}", score=(right, wrong)).effect)
    effects = xarray.concat(found, "step")
    mean = effects.mean("step").assign_attrs(found[0].attrs | {"long_name": "share of the way to the other answer"})
    half = 1.96 * effects.std("step") / np.sqrt(PAIRS)
    facts = {"reading": "deltanet.patch_states", "model": lab.name}
    return xarray.Dataset({"effect": mean, "half": half}, attrs=facts)


def pair(draw_, lab):
    """Two prompts that differ in the value of one key, the key, and the two values as token ids."""
    keys = draw_.sample(KEYS[:32], FACTS)
    values = [draw_.choice(VALUES) for _ in keys]
    at = draw_.randrange(FACTS)
    new = draw_.choice([value for value in VALUES if value != values[at]])
    other = [*values[:at], new, *values[at + 1 :]]
    text = lambda chosen: "".join(f" {key} {value}." for key, value in zip(keys, chosen, strict=True))  # noqa: E731
    ids = [int(lab.encode(f" {value}")[0]) for value in (values[at], new)]
    return text(values), text(other), keys[at], *ids


def draw(ds):
    """A map of layers and heads."""
    best = ds.isel(ds.effect.argmax(("layer", "head")))
    place = f"layer {int(best.layer)}, head {int(best['head'])}"
    half = float(best.half)
    title = f"The state of {place} alone goes {float(best.effect):.0%} ± {half:.0%} of the way to the other answer"
    return plot.heatmap(ds, "effect", x="head", y="layer", title=title)
