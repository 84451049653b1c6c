"""Keeping thinking saves prefill at every turn and costs decode time at every token: its length decides

Seconds summed up turn by turn, for three lengths of thinking: prefill that keeping saves over dropping, and decode time
that it adds. Good snapshots under both policies, one sequence on an H200, lower bounds from bytes and FLOPs.

Look where the lines cross: up to that turn keeping was faster, from then on it is slower. Kept thinking need not be
read again by later turns, but every later token is generated with it in the cache. Lines that never crossed would mean
that one policy is always faster.

Source: roofline of `labkit.spec` (peak FLOP/s and bandwidth of the card); accounting, `labkit.reuse.replay`.
"""

import numpy as np

from labkit import draw as plot
from labkit import reuse
from labkit.notation import label

THINKING = (60, 240, 960)
TERMS = ("prefill saved", "decode added")


def data(lab):
    """seconds (step, term, turn): what keeping saves and adds up to each turn; crossing (step): it loses from here."""
    rows = []
    for mean in THINKING:
        messages = reuse.drawn(8, turns=12, calls=2, thinking=mean, answer=60, result=300)
        strip, keep = (reuse.replay(messages, policy=p, tokenizer=lab.tokenizer) for p in ("strip", "preserve"))
        parts = strip.prefill_seconds - keep.prefill_seconds, keep.decode_seconds - strip.decode_seconds
        rows.append([part.groupby("turn").sum().cumsum().values for part in parts])
    seconds = np.array(rows)
    lost = seconds[:, 1] > seconds[:, 0]
    won = [np.flatnonzero(~row).max(initial=-1) + 1 for row in lost]  # the last turn up to which keeping was not slower
    crossing = np.array([turn + 1 if turn < lost.shape[1] else 0 for turn in won])
    steps = [f"{mean} words of thinking" for mean in THINKING]
    coords = {"step": steps, "term": list(TERMS), "turn": np.arange(1, seconds.shape[-1] + 1)}
    values = {"seconds": (("step", "term", "turn"), seconds, "seconds"), "crossing": (("step",), crossing, None)}
    return label(values, coords=coords, attrs={"reading": "reuse.replay", "model": keep.model})


def draw(ds):
    """Two lines for each length of thinking."""
    when = [f"from turn {int(turn)}" if turn else "in no turn" for turn in ds.crossing]
    title = f"Keeping is slower than dropping {when[0]} with little thinking, {when[1]} with more, {when[2]} with much"
    return plot.lines(ds, "seconds", x="turn", color="term", facet="step", title=title)
