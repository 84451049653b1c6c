"""Gated attention layers: exact softmax maps with the output gate, at any length, recomputed from the seams.

In this folder:

    readings    the map itself, of any rows and heads
    summaries   what its rows say, without the map
    kernel      the same numbers from stock attention kernels
    heads       what sources add after the output projection; how alike heads are
    kinds       what kind of head a head is
    zoom        a window on the map at any scale, for `draw.zoom`
    probes      the summaries online, for `lab.stream`
"""

from labkit.attention.heads import contribution, similarity
from labkit.attention.kinds import classes, scores
from labkit.attention.probes import watch
from labkit.attention.readings import inputs, pattern, rotate, weights
from labkit.attention.summaries import summary
from labkit.attention.zoom import window

__all__ = [
    "classes",
    "contribution",
    "inputs",
    "pattern",
    "rotate",
    "scores",
    "similarity",
    "summary",
    "watch",
    "weights",
    "window",
]
