"""Attention layers: exact softmax maps with the output gate, if any, at any length, recomputed from the seams.

    run = lab.trace(" fox red. whale blue. fox")
    ds = attention.pattern(run, layer=3, heads=[0, 5])     # softmax maps (query_head, token, source) and output gates
    attention.summary(run, layer=[3, 7])                   # entropy, sinks, distances of every head, without the maps
    draw.heatmap(ds)

In this folder, from the equation upwards:

    softmax     any rows and heads of the map, walked once, proven by the model's own output
    distances   distances in bins that double
    statistics  what rows say, without the map
    kernel      the same numbers from stock attention kernels
    fused       the same numbers from two passes over tiles on a card; `passes` holds them, in Triton
    methods     which of the three is taken
    readings    the map itself; what its entries add after the output projection
    summaries   the statistics of a layer
    zoom        a window on the map at any scale, for `draw.zoom`
    kinds       what kind of head a head is; how alike heads are
    rotation    a logit by rotary band, and under another scaling
    probes      the same online, for `lab.stream`
"""

from labkit.attention.kinds import classes, scores, similarity
from labkit.attention.probes import watch, watch_bands
from labkit.attention.readings import contribution, pattern
from labkit.attention.rotation import bands, bands_by_distance
from labkit.attention.softmax import inputs
from labkit.attention.summaries import summary
from labkit.attention.zoom import window

__all__ = [
    "bands",
    "bands_by_distance",
    "classes",
    "contribution",
    "inputs",
    "pattern",
    "scores",
    "similarity",
    "summary",
    "watch",
    "watch_bands",
    "window",
]


def __dir__():
    return sorted(__all__)
