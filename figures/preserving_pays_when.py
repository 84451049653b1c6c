"""Keeping thinking saves prefill at every turn and costs decode time at every token: its length decides

Seconds that a session takes when thinking is kept minus when it is dropped, summed up turn by turn, for three lengths
of thinking. Good snapshots under both policies, one sequence on an H200, lower bounds from bytes and FLOPs.

Look at which lines stay below zero. Kept thinking need not be read again by later turns, but every later token is
generated with it in the cache. Lines that all fell would mean that keeping is always faster.

Source: roofline of `labkit.spec` (peak FLOP/s and bandwidth of the card); accounting, `labkit.reuse.replay`.
"""

import xarray

from labkit import draw as plot
from labkit import reuse

THINKING = (60, 240, 960)


def data(lab):
    """seconds (term, turn): cost of keeping minus cost of dropping, up to each turn."""
    rows = []
    for mean in THINKING:
        messages = reuse.drawn(8, turns=12, calls=2, thinking=mean, answer=60, result=300)
        costs = []
        for policy in ("preserve", "strip"):
            ds = reuse.replay(messages, policy=policy, tokenizer=lab.tokenizer)
            costs.append((ds.prefill_seconds + ds.decode_seconds).groupby("turn").sum())
        rows.append((costs[0] - costs[1]).cumsum("turn"))
    held = xarray.concat(rows, "term").assign_coords(term=[f"{mean} words of thinking" for mean in THINKING])
    facts = {"symbol": "keep - drop", "long_name": "seconds of keeping minus dropping", "units": "s", "scale": "signed"}
    return held.rename("seconds").assign_attrs(facts).to_dataset().assign_attrs(reading="reuse.replay", model=ds.model)


def draw(ds):
    """One line per length of thinking."""
    ends = ", ".join(f"{float(value):+.1f} s" for value in ds.seconds.isel(turn=-1))
    title = f"After {ds.sizes['turn']} turns keeping has cost {ends}, for little, more and much thinking"
    return plot.lines(ds, "seconds", x="turn", color="term", title=title)
