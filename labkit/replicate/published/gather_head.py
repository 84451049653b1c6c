"""One head taken away, and what retrieval is left: arXiv 2504.18574.

Every head of every layer is taken away alone, on a few questions; the one that costs most is counted on others. The
paper does so in a Transformer that was pruned to its retrieving layers, on MMLU.
"""

import math

import numpy as np
import torch

from labkit.progress import counter
from labkit.replicate import asking
from labkit.replicate.record import Number, Paper, measured

NAME = "share answered without the head that matters most"
CHOOSING, DRAWS = 4, 4


@torch.no_grad()
def _measure(lab, texts, samples, length):
    length = length or min(64, lab.spec.window)
    asked, unable = asking.able(lab, asking.questions(lab, samples or 32, length))
    how = f"{len(asked)} questions of up to {length} tokens that the whole model answers"
    interval = "95 %, Wilson; of the control the range of its draws"
    if unable:
        return measured(PAPER, lab, {}, how=how, interval=interval, unable=unable)
    places = sorted(asking.every(lab, "deltanet") + asking.every(lab, "attention"))
    lost = losses(lab, places, asking.questions(lab, CHOOSING, length, first=1000))
    worst = max(lost, key=lost.get)
    take = lambda place: asking.kept(lab, asked, asking.without([place]))  # noqa: E731
    drawn = asking.by_chance([place for place in places if place != worst], min(DRAWS, len(places) - 1), 1)[0]
    controls = {NAME: asking.span([take(place).value for place in drawn])}
    top = sorted(lost, key=lost.get)[-math.ceil(len(places) / 20) :]
    beside = {f"the same without the {len(top)} that cost most together": asking.kept(lab, asked, asking.without(top))}
    how += f"; layer {worst[0]}, head {worst[1]} costs most of {len(places)} heads of both kinds on {CHOOSING} others"
    return measured(PAPER, lab, {NAME: take(worst)}, controls, beside, how=how, interval=interval)


def losses(lab, places, asked) -> dict[asking.Place, float]:
    """Nats of the answers that are lost without each head, mean over questions."""
    whole, found = asking.answered(lab, asked)[1], {}
    for place in counter(places, show=len(places) > 500, unit="head"):
        with lab.edit(*asking.without([place])):
            found[place] = float((whole - asking.answered(lab, asked)[1]).mean())
    return found


PAPER = Paper(
    arxiv="2504.18574",
    title="Understanding the Skill Gap in Recurrent Language Models: The Role of the Gather-and-Aggregate Mechanism",
    claim="Retrieval hangs on single heads: without one gather or aggregate head MMLU falls from 66 to 25 %, which is "
    "guessing.",
    model="Llama-3.1-8B, pruned",
    numbers=(
        Number(NAME, 25 / 66, "25 of 66 %", "abstract", "abstract", (-np.inf, 0.69), "nearer to 25 of 66 than to all"),
    ),
    control="single heads drawn by chance",
    reasons=(
        "the published model was pruned until it retrieves by few heads; a whole one has others that step in",
        "a hybrid stores a fact twice, in states and in keys and values",
        "the paper's guess is the answer's letter, one of four; here it is a word of the text",
    ),
    reads="questions",
    measure=_measure,
)
