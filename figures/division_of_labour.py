"""Near facts and far facts need the same layers of nano: what each mixer is worth, by distance of the fact

One fact, then sentences about other things, then the question. What does the answer lose in probability if one layer's
mixer is taken away? Rows are layers, columns the number of tokens between fact and question, means over prompts. Below
the layers stand all DeltaNet mixers and all attention mixers together.

Look along the rows. If DeltaNet layers carried near facts and attention layers far ones, the dark cells would move from
D rows on the left to A rows on the right. The title says what is found.

Source: this project's `edit.scale` at the seam `mixer_out`; the seams are those of transformers' decoder layer.
"""

import random

import torch

from labkit import draw as plot
from labkit import edit
from labkit.nano import text
from labkit.nano.tokens import KEYS, VALUES
from labkit.notation import label

DISTANCES, PROMPTS = (8, 32, 96, 224, 448), 10


def data(lab):
    """lost (layer, gap): mean fall of the answer's probability; half, its 95 % interval; whole (gap), without a cut."""
    spec = lab.spec
    name = {"deltanet": "D", "attention": "A"}
    cuts = {f"{name[spec.kind(layer)]} layer {layer}": [layer] for layer in range(spec.layers)}
    cuts |= {"all D": list(spec.deltanet_layers), "all A": list(spec.attention_layers)}
    asked = [[question(lab, random.Random(f"{n} {far}"), far) for n in range(PROMPTS)] for far in DISTANCES]
    whole = _chances(lab, asked)
    lost = torch.stack([whole - _chances(lab, asked, cut) for cut in cuts.values()])  # [layer, gap, prompt]
    dims = ("layer", "gap")
    values = {"lost": (dims, lost.mean(-1)), "half": (dims, 1.96 * lost.std(-1) / PROMPTS**0.5)}
    values["whole"] = (("gap",), whole.mean(-1))
    held = label(values, coords={"layer": list(cuts), "gap": list(DISTANCES)}, attrs={"model": lab.name})
    held["gap"].attrs["long_name"], held["layer"].attrs["long_name"] = "tokens from fact to question", "taken away"
    facts = {"symbol": "lost", "long_name": "probability of the answer that is lost", "units": "1", "scale": "signed"}
    held["lost"].attrs = facts
    held["half"].attrs = facts | {"symbol": "±"}
    return held.assign_attrs(reading="edit.scale(mixer_out)")


def question(lab, draw, far):
    """(ids, answer): a fact, sentences of about `far` tokens, the question."""
    key, value, size = draw.choice(KEYS), draw.choice(VALUES), lambda words: len(lab.encode(words))
    between = ""
    while size(between + (more := text.sentence(draw))) <= far:
        between += more
    return lab.encode(f" {key} {value}.{between}\n {key}"), int(lab.encode(f" {value}")[0])


def _chances(lab, asked, cut=()):
    """Probability of each right answer [gap, prompt], without some mixers."""
    with lab.edit(*[edit.scale("mixer_out", layer=layer, factor=0) for layer in cut]):
        runs = [[lab.trace(ids, layers=[]).logits[-1].softmax(-1)[value] for ids, value in row] for row in asked]
    return torch.tensor(runs)


def draw(ds):
    """A map of layers and distances."""
    near, far = ds.lost.isel(gap=0), ds.lost.isel(gap=-1)
    cost = lambda what: f"{float(near.sel(layer=what)):.2f} and {float(far.sel(layer=what)):.2f}"  # noqa: E731
    title = f"Lost near and far: {cost('all D')} without D mixers, {cost('all A')} without A mixers"
    return plot.heatmap(ds, "lost", x="gap", y="layer", hover=["half"], title=title)
