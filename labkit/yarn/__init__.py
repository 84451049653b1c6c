"""YaRN and the stretched window: what rotation does, what scaling changes, and what fails beyond the window.

In this folder:

    table     the rotary pairs of a model: wavelengths, phases that a longer context shows, errors of phases
    scope     a scaling for as long as a block lasts
    dynamic   scaling that grows with the text, over keys that are rotated anew at every pass
    bands     a logit by rotary band, and under another scaling
    probes    the same online, for `lab.stream`
    tasks     questions about long texts
    grid      their margins over lengths, depths and scalings
    causes    unseen phases, diluted softmax, saturated states, one at a time; the tax on short text
"""

from labkit.rotary import Scaling
from labkit.yarn.bands import bands, by_distance, predicted
from labkit.yarn.causes import CAUSES, causes, likelihood, paired, tax
from labkit.yarn.dynamic import dynamic
from labkit.yarn.grid import probe, summary
from labkit.yarn.probes import watch
from labkit.yarn.scope import scaled, under
from labkit.yarn.table import CLASSES, frequencies, ledger, phase_error, stretched, wavelengths
from labkit.yarn.tasks import FACTS, Question, filler_ids, question

__all__ = [
    "CAUSES",
    "CLASSES",
    "FACTS",
    "Question",
    "Scaling",
    "bands",
    "by_distance",
    "causes",
    "dynamic",
    "filler_ids",
    "frequencies",
    "ledger",
    "likelihood",
    "paired",
    "phase_error",
    "predicted",
    "probe",
    "question",
    "scaled",
    "stretched",
    "summary",
    "tax",
    "under",
    "watch",
    "wavelengths",
]
