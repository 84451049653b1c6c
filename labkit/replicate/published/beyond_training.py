"""Text beyond the length of training, read by states alone: arXiv 2507.02782.

The paper's models are recurrent through and through, so attention is taken away here; the same last tokens are scored
behind texts of half a training length, of one and of four. Training lengths are those that the configuration states.
"""

import numpy as np
import torch

from labkit import edit, yarn
from labkit.replicate import asking
from labkit.replicate.record import Number, Paper, Reading, measured
from labkit.rotary import Scaling

NAME = "perplexity beyond the training length over that at it, states alone"
TIMES, LAST, CHUNK = 4, 64, 512


@torch.no_grad()
def _measure(lab, texts, samples, length):
    window, samples = lab.spec.window, samples or 4
    longest = length or TIMES * window
    interval, lengths = "95 %, Student's t over the texts' mean loss", [window // 2, window, longest]
    how = f"last {LAST} tokens behind {', '.join(map(str, lengths))}, {asking.source(texts)}"
    if longest <= window:
        unable = f"{longest:,} tokens do not go beyond the training length of {window:,}"
        return measured(PAPER, lab, {}, how=how, interval=interval, unable=unable)
    rows = None if texts is None else asking.rows(lab, texts, samples, longest + LAST)
    grown = _losses(lab, rows, samples, lengths, edit.ablate(lab.spec.attention_layers))
    whole = _losses(lab, rows, samples, lengths, [])
    ours, controls = {NAME: _factor(grown[2] - grown[1])}, {NAME: _factor(grown[1] - grown[0])}
    beside = {"the same by the whole model, no scaling": _factor(whole[2] - whole[1])}
    return measured(PAPER, lab, ours, controls, beside, how=f"{grown.shape[1]} texts, {how}", interval=interval)


def _losses(lab, rows, samples, lengths, edits):
    """Loss of the last tokens, [length, text]."""
    options = dict(lengths=lengths, last=LAST, samples=samples, scalings=[Scaling()], texts=rows, chunk=CHUNK)
    with lab.edit(*edits):
        return yarn.paired(lab, **options).loss.values[0]


def _factor(more):
    return Reading(*np.exp(asking.mean(more)).tolist())


PAPER = Paper(
    arxiv="2507.02782",
    title="Understanding and Improving Length Generalization in Recurrent Models",
    claim="Recurrent models fail beyond their training length, since it took them to states they never met; 500 steps "
    "that begin in states of other texts carry them from 2k to 128k.",
    model="Mamba-1, Mamba-2 trained at 2,048, gated linear attention trained at 512; the Pile",
    numbers=(
        Number(NAME, np.nan, "rises", "figure 1, no number", "abstract", (1.05, np.inf), "by a twentieth or more"),
    ),
    control="one training length over half of it, where training went",
    reasons=(
        "states that decay and erase as a delta rule does need not grow where those of the paper's models do",
        "attention beside the states may have kept them from carrying what is far",
        "text of a small grammar is as easy far from its beginning as near",
    ),
    reads="text",
    measure=_measure,
)
