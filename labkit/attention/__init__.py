"""Gated attention layers: exact softmax maps of any rows and heads with the output gate, recomputed from the seams.

In this folder: `readings` (the map itself), `summaries` (what its rows say, at any length, without the map).
"""

from labkit.attention.readings import inputs, pattern, rotate, weights
from labkit.attention.summaries import summary

__all__ = ["inputs", "pattern", "rotate", "summary", "weights"]
