"""What of a softmax map counts, once the output gate is multiplied in?

Left, the softmax weights of one query head; every row sums to one whether the head has anything to say or not. Right,
the same weights times the mean output gate of the reading token, which is what reaches the residual stream. The head
shown is the one, of all, whose gate differs most between the tokens of the prompt that is drawn; the numbers are of
twelve other prompts of the same form, other animals and other colours, and of the same head.

Look for rows that are as strong as any on the left and pale on the right: tokens at which the head attends, and is
shut. If all rows were paled by one factor, the gate would add nothing to the map. Two controls say so: one factor for
all rows, and the measured gates dealt out to the tokens anew.

Source: gated attention, arXiv 2505.06708.
"""

import random

import numpy as np
import xarray

import figures
from labkit import attention, stats
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES
from labkit.notation import QUANTITIES

PLACE = ("attention", 50)
PROMPT = " fox red. whale blue. crow green. lion gold. crow green. fox red."
SEEDS = range(12)
GATES = ("measured", "one factor", "dealt anew")
WORDS = ("animal", "behind it")


def data(lab):
    """weight and gated (token, source) of the head shown; opened (gates, word, prompt), its mean gate by token."""
    maps = attention.pattern(lab.trace(PROMPT), layer=lab.spec.attention_layers)
    ds = maps.isel(maps.gate.std("token").argmax(...))
    layer, head = int(ds.layer), int(ds.query_head)
    opened = np.stack([_opened(lab, seed, layer, head) for seed in SEEDS], -1)
    gate = vars(QUANTITIES["gate"]) | {"long_name": "mean gate of a row"}
    gated = (ds.weight * ds.gate).assign_attrs(vars(QUANTITIES["gated"]))
    coords = {"gates": list(GATES), "word": list(WORDS), "prompt": list(SEEDS)}
    other = xarray.DataArray(opened, dims=("gates", "word", "prompt"), coords=coords, attrs=gate)
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"the map of one prompt of {len(maps.token)} tokens; {len(SEEDS)} other prompts, seeds 0 to {SEEDS[-1]}",
        interval=f"95 %, Student's t over {len(SEEDS)} prompts",
    )
    ds = ds[["weight", "gate"]].assign(gated=gated, opened=other)
    return ds.assign_attrs(maps.attrs | {"layer": layer} | facts)


def _opened(lab, seed, layer, head):
    """Mean gate [gates, word] at animals and at the colours and full stops behind them, of another prompt."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, 4), draw.sample(VALUES, 4)
    text = "".join(f" {keys[n]} {values[n]}." for n in [*range(4), *draw.sample(range(4), 2)])
    gate = attention.pattern(lab.trace(text, layers=[layer]), layer=layer, heads=[head]).gate.values[0]
    animal = np.arange(len(gate)) % 3 == 0
    split = lambda gates: [gates[animal].mean(), gates[~animal].mean()]  # noqa: E731
    return np.stack([split(gate), [gate.mean()] * 2, split(np.random.default_rng(seed).permutation(gate))])


def claim(ds):
    """The gate is wider open behind an animal than at one."""
    at, behind = (ds.opened.sel(gates=GATES[0], word=word) for word in WORDS)
    gap = behind - at
    ends = tuple(float(end) for end in stats.t_interval(gap, "prompt"))
    name = f"layer {int(ds.layer)}, query head {int(ds.query_head)}"
    return Claim(
        f"Rows are not paled alike: the gate lets {float(at.mean()):.2f} through at animals and "
        f"{float(behind.mean()):.2f} behind them ({name})",
        [Part("gate behind animals beyond that at animals", gap.mean(), ">", 0, "one factor for all rows", ends)],
    )


def controls(ds):
    """One factor for all rows; the same gates, but not at their own tokens."""
    swapped = {name: ds.opened.sel(gates=[name, *GATES[1:]]).assign_coords(gates=list(GATES)) for name in GATES[1:]}
    return {
        "one factor, the mean gate, for all rows": ds.assign(opened=swapped[GATES[1]]),
        "each prompt's gates dealt out to its tokens anew, by its seed": ds.assign(opened=swapped[GATES[2]]),
    }


def draw(ds):
    """Both maps."""
    low, high = float(ds.gate.min()), float(ds.gate.max())
    left, right = "softmax weights: every row sums to 1", f"times the gate, which runs from {low:.2f} to {high:.2f}"
    return plot.maps((ds, "weight", left), (ds, "gated", right), title=claim(ds).title)
