"""Decode steps: what reads one token after another, keeps its seams, and is captured on a card where that is possible.

In this folder: `plain` (ordinary passes, the reference), `fixed` (the same on fixed shapes, which a card can record and
play back), `rows` (where recorded steps keep their seams), `capture` (when a recording is allowed, and the recording),
`choice` (which token comes next), `single` (`lab.step`).
"""

from labkit.steps.capture import CudaGraph, refusal
from labkit.steps.choice import generate
from labkit.steps.fixed import Fixed
from labkit.steps.plain import Asked, Plain
from labkit.steps.single import reader, step

__all__ = ["Asked", "CudaGraph", "Fixed", "Plain", "generate", "reader", "refusal", "step"]
