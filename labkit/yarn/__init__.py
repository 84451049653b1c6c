"""YaRN and the stretched window: what rotation does, what scaling changes, and what fails beyond the window.

    yarn.wavelengths(lab.spec)                            # how fast each rotary pair turns, and under YaRN
    with yarn.scaled(lab, 4.0):
        run = lab.trace("red fox, blue whale")
    yarn.grid(lab, lengths=[64], depths=2, seeds=8)       # margins of answers over lengths and depths

In this folder:

    table            the rotary pairs of a model: wavelengths, phases that a longer context shows, errors of phases
    scope            a scaling for as long as a block lasts
    unrotated        scaling that grows with the text, over keys that are rotated anew at every pass
    tasks            questions about long texts
    answers          many of them: kept on disk, counted, handed over when interrupted
    margins          margins of answers over lengths, depths and scalings
    counterfactual   unseen phases, diluted softmax, saturated states, one at a time
    losses           what a scaling costs short texts, what more text adds to the same tokens

What a single logit says by rotary band is read by `labkit.attention`.
"""

from labkit.rotary import CLASSES, Scaling, stretched
from labkit.yarn.counterfactual import CAUSES, counterfactuals
from labkit.yarn.losses import likelihood, paired, short_context_cost
from labkit.yarn.margins import cell_means, grid
from labkit.yarn.scope import scaled, under
from labkit.yarn.table import frequencies, phase_coverage, phase_error, wavelengths
from labkit.yarn.tasks import FACTS, Question, filler_ids, question
from labkit.yarn.unrotated import dynamic

__all__ = [
    "CAUSES",
    "CLASSES",
    "FACTS",
    "Question",
    "Scaling",
    "cell_means",
    "counterfactuals",
    "dynamic",
    "filler_ids",
    "frequencies",
    "grid",
    "likelihood",
    "paired",
    "phase_coverage",
    "phase_error",
    "question",
    "scaled",
    "short_context_cost",
    "stretched",
    "under",
    "wavelengths",
]


def __dir__():
    return sorted(__all__)
