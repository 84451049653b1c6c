"""Near facts and far facts need the same layers of nano: what each mixer is worth, by distance of the fact

One fact, then sentences about other things, then the question. What does the answer lose in probability if one layer's
mixer is taken away? Rows are layers, columns the tokens from the fact to the question, means over prompts. Below
the layers stand all DeltaNet mixers and all attention mixers together.

Look along the rows. If DeltaNet layers carried near facts and attention layers far ones, the dark cells would move from
D rows on the left to A rows on the right. The title says what is found.

Source: this project's `edit.scale` at the seam `mixer_out`; the seams are those of transformers' decoder layer.
"""

import dataclasses
import random

import torch

from labkit import draw as plot
from labkit import edit
from labkit.nano import questions
from labkit.notation import Quantity, label

DISTANCES, PROMPTS = (16, 96, 496), 8
WHOLE = Quantity("p", "probability of the answer, with all mixers", "1", "fraction", "this run")


def data(lab):
    """lost (layer, gap): mean fall of the answer's probability; half, its 95 % interval; whole (gap), without a cut."""
    spec = lab.spec
    name = {"deltanet": "D", "attention": "A"}
    cuts = {f"{name[spec.kind(layer)]} layer {layer}": [layer] for layer in range(spec.layers)}
    cuts |= {"all D": list(spec.deltanet_layers), "all A": list(spec.attention_layers)}
    size = lambda words: len(lab.encode(words))  # noqa: E731
    draws = [[random.Random(f"{n} {far}") for n in range(PROMPTS)] for far in DISTANCES]
    asked = [[questions.single(r, far, size) for r in row] for far, row in zip(DISTANCES, draws, strict=True)]
    whole = _chances(lab, asked)
    lost = torch.stack([whole - _chances(lab, asked, cut) for cut in cuts.values()])  # [layer, gap, prompt]
    dims = ("layer", "gap")
    quantity = Quantity("lost", "probability of the answer that is lost", "1", "signed", "this run")
    half = dataclasses.replace(quantity, symbol="±")
    variables = {"lost": (dims, lost.mean(-1), quantity), "half": (dims, 1.96 * lost.std(-1) / PROMPTS**0.5, half)}
    variables["whole"] = (("gap",), whole.mean(-1), WHOLE)
    attrs = {"model": lab.name, "reading": "edit.scale(mixer_out)"}
    ds = label(variables, coords={"layer": list(cuts), "gap": list(DISTANCES)}, attrs=attrs)
    ds["gap"].attrs["long_name"], ds["layer"].attrs["long_name"] = "tokens of the prompt", "taken away"
    return ds


def _chances(lab, asked, cut=()):
    """Probability of each right answer [gap, prompt], without some mixers."""
    token = lambda text: int(lab.encode(text)[0])  # noqa: E731
    with lab.edit(*edit.ablate(cut)):
        runs = [[lab.trace(text, layers=[]).logits[-1].softmax(-1)[token(a)] for text, a in row] for row in asked]
    return torch.tensor(runs)


def draw(ds):
    """A map of layers and distances."""
    near, far = ds.lost.isel(gap=0), ds.lost.isel(gap=-1)
    cost = lambda what: f"{float(near.sel(layer=what)):.2f} and {float(far.sel(layer=what)):.2f}"  # noqa: E731
    title = f"Lost near and far: {cost('all D')} without D mixers, {cost('all A')} without A mixers"
    return plot.heatmap(ds, "lost", x="gap", y="layer", hover=["half"], title=title)
