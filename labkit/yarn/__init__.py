"""YaRN and the stretched window: what rotation does, what scaling changes, and what fails beyond the window.

In this folder:

    table     the rotary pairs of a model: wavelengths, phases that a longer context shows, errors of phases
    scope     a scaling for as long as a block lasts
    dynamic   scaling that grows with the text, over keys that are rotated anew at every pass
    tasks     questions about long texts
    grid      their margins over lengths, depths and scalings
    causes    unseen phases, diluted softmax, saturated states, one at a time; the tax on short text
"""

from labkit.rotary import Scaling
from labkit.yarn.causes import CAUSES, causes, likelihood, paired, tax
from labkit.yarn.dynamic import dynamic
from labkit.yarn.grid import probe, summary, t_interval
from labkit.yarn.scope import scaled, under
from labkit.yarn.table import CLASSES, frequencies, ledger, phase_error, stretched, wavelengths
from labkit.yarn.tasks import FACTS, Question, filler_ids, question

__all__ = [
    "CAUSES",
    "CLASSES",
    "FACTS",
    "Question",
    "Scaling",
    "causes",
    "dynamic",
    "filler_ids",
    "frequencies",
    "ledger",
    "likelihood",
    "paired",
    "phase_error",
    "probe",
    "question",
    "scaled",
    "stretched",
    "t_interval",
    "summary",
    "tax",
    "under",
    "wavelengths",
]
