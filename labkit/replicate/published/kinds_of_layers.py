"""Layers of either kind left out, and what the perplexity grows by: arXiv 2603.22473.

Its authors replace the output of a whole decoder layer by its input ("sequential skip", README of their repository), so
that the layer's MLP is gone as well; so is it here. What the mixers alone cost is given beside.
"""

import numpy as np
import torch

from labkit import edit, yarn
from labkit.replicate import asking
from labkit.replicate.record import Number, Paper, Reading, measured

LINEAR, ATTENTION = "perplexity factor without linear layers", "perplexity factor without attention layers"
DRAWS = 4
PLACE = "perplexity_under_ablation.csv of the authors' repository hecboar/hybrid-component-ablation; abstract of v1"


def _measure(lab, texts, samples, length):
    spec = lab.spec
    rows = asking.rows(lab, texts, samples or 8, length or min(192, spec.window))
    whole = _losses(lab, rows, [])
    cut = lambda edits: _losses(lab, rows, edits) - whole  # noqa: E731
    ours, controls, beside = {}, {}, {}
    for name, kind, layers in ((LINEAR, "D", spec.deltanet_layers), (ATTENTION, "A", spec.attention_layers)):
        ours[name] = _factor(cut(skipped(layers)))
        drawn = asking.by_chance(range(spec.layers), len(layers), DRAWS)
        controls[name] = asking.span([float(np.exp(cut(skipped(some)).mean())) for some in drawn])
        beside[f"the same without {kind} mixers alone, MLPs left"] = _factor(cut(edit.ablate(layers)))
    how = f"{len(rows)} pieces of {len(rows[0])} tokens, {asking.source(texts)}; {DRAWS} draws of layers, seed 0"
    interval = "95 %, Student's t over the texts' mean loss; of the control the range of its draws"
    facts = dict(how=how, interval=interval, unable=asking.untrained(lab, rows))
    return measured(PAPER, lab, ours, controls, beside, **facts)


def skipped(layers) -> list[edit.SeamEdit]:
    """Edits that leave whole layers out: neither mixer nor MLP adds anything."""
    seams = ("mixer_out", "mlp_out")
    return [edit.scale(seam, layer=layer, factor=0) for layer in sorted(layers) for seam in seams]


@torch.no_grad()
def _losses(lab, rows, edits):
    """Mean loss of each text, nats per token."""
    with lab.edit(*edits):
        return np.array([yarn.likelihood(lab, ids) for ids in rows])


def _factor(more):
    """e to the mean of losses that were added: what the perplexity of all texts grows by."""
    return Reading(*np.exp(asking.mean(more)).tolist())


PAPER = Paper(
    arxiv="2603.22473",
    title="Component Ablation for Efficient Hybrid Language Model Architectures (v1: Functional Component Ablation "
    "Reveals Specialization Patterns in Hybrid Language Model Architectures)",
    claim="Linear attention is the backbone: without its layers the perplexity grows over 35,000-fold, without the "
    "attention layers about 82-fold.",
    model="Qwen3.5-0.8B-Base, WikiText-2, perplexity 7.62 whole",
    numbers=(
        Number(LINEAR, 35198.0, "> 35,000", PLACE, "data", (17500.0, np.inf), "half of it or more"),
        Number(ATTENTION, 81.96, "about 82", PLACE, "data", (41.0, 164.0), "within a factor of two"),
    ),
    control="as many layers of the stack, drawn by chance whatever their kind",
    reasons=(
        "six of eight layers gone, or eighteen of twenty-four, is most of a model, whichever kind they are",
        "text that is simpler to foresee needs less of the stack",
        "a model that was trained with attention silenced in a part of its rows, as nano was, can do without",
    ),
    reads="text",
    measure=_measure,
)
