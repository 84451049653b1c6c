"""A long map stays readable when it is pooled, and its fine structure is still there when one looks closer

The softmax map of one query head over a long text, pooled into 32 by 32 blocks; each step of the slider shows a quarter
of the last, down to single tokens at the end of the text. A cell is the exact attention mass of a block of sources,
mean over a block of reading tokens, compared with a head that spreads its attention evenly: each unit is a factor of
two, green above, brown below. No map of all pairs is ever formed.

Look for columns: blocks that all later tokens go back to. A head that attends evenly would be blank at every level.

Source: exact pooled maps, this project's `attention.window`.
"""

import random

import xarray

from labkit import attention
from labkit import draw as plot
from labkit.nano import tasks

CELLS, LEVELS, MOST = 32, (16, 4, 1), 4  # cells each way; tokens per cell of each level; largest lift shown
LENGTH = CELLS * LEVELS[0]
SAME = "log₂ of a mass: an absolute change of 5e-5 is a relative one of 3.5e-5 of the mass, wherever the logarithm lies"
TOLERANCE = {"lift": {"rtol": 0.0, "atol": 5e-5, "reason": SAME}}


def data(lab):
    """lift (step, block, source_block): the last 32 blocks of each level, of the head that reaches furthest."""
    size = lambda words: len(lab.encode(words))  # noqa: E731
    text = tasks.bare(tasks.scattered(random.Random(2), LENGTH + 32, size))
    run = lab.trace(lab.encode(text)[-LENGTH:], seams=["q", "k", "v", "gate", "gated"])
    spans = attention.summary(run, layer=lab.spec.attention_layers, block=LENGTH).distance.isel(block=0)
    furthest = spans.isel(spans.argmax(...))
    layer, head = int(furthest.layer), int(furthest.query_head)
    stages = []
    for block in LEVELS:
        part = range(LENGTH - CELLS * block, LENGTH)
        lift = attention.window(run, layer=layer, heads=head, rows=part, sources=part, cells=CELLS).lift[0]
        stages.append(xarray.DataArray(lift.values.clip(-MOST, MOST), dims=("block", "source_block")))
    facts = {
        "symbol": "log₂ lift",
        "long_name": "attention mass over that of an even head",
        "units": "",
        "scale": "signed",
    }
    ds = xarray.concat(stages, "step").rename("lift").assign_attrs(facts).to_dataset()
    texts = [f"last {CELLS * block}, {block} a cell" if block > 1 else f"last {CELLS}, one a cell" for block in LEVELS]
    ds = ds.assign_coords(step=texts, block=range(CELLS), source_block=range(CELLS))
    return ds.assign_attrs(layer=layer, query_head=head, model=lab.name, reading="attention.window")


def draw(ds):
    """One map with a slider over the zoom levels."""
    title = (
        f"Layer {ds.attrs['layer']}, query head {ds.attrs['query_head']}: the end of {LENGTH} tokens, closer and closer"
    )
    return plot.frames(ds, "lift", along="step", x="source_block", y="block", title=title)
