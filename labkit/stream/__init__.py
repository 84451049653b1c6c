"""Prefill long prompts in chunks: online probes eat each chunk, and nothing else is kept.

    ds = lab.stream("red fox, blue whale", probes=[deltanet.gates(layers=[0, 1], block=4)], chunk=8)

A probe names the seams it needs, is shown one chunk at a time as a `Run` (with the states that entered the chunk in
`run.start`), and keeps small rows. Memory beyond the model's own cache does not grow with the prompt, apart from those
rows. An interrupted run can go on from its checkpoint folder and ends with the identical dataset.

In this folder: `probe` (what a probe is, and `capture`), `feed` (the loop), `store` (the checkpoint folder), `points`
(the checkpoints in it).
"""

from labkit.stream.feed import Interrupted, Unwritten, run
from labkit.stream.probe import Probe, capture, of_kind

__all__ = ["Interrupted", "Probe", "Unwritten", "capture", "of_kind", "run"]


def __dir__():
    return sorted(__all__)
