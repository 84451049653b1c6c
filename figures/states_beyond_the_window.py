"""Past the window the states of nano go on filling, most in layers 1 and 4, and YaRN changes little about it

Frobenius norm of the recurrent states in a text of four windows, mean over blocks of 64 tokens and over the heads of a
layer, over its value in the last block of the first window; and the same while the attention layers run under YaRN 4.

Look to the right of 512 tokens, where training ended. Gated DeltaNet knows no positions and its transition never
expands, but nothing taught it to level off where no training went. Lines that all lay flat at 1 would refute the title.
Layers 0 to 2 lie below the first attention layer, so no scaling reaches them; in the others the panels may differ.

Source: Gated DeltaNet, arXiv 2412.06464; unexplored states, arXiv 2507.02782; Stuffed Mamba, arXiv 2410.07145.
"""

import math

import numpy as np

from labkit import deltanet, rotary, yarn
from labkit import draw as plot
from labkit.notation import Quantity, label

BLOCK, TIMES = 64, 4
FILLED = Quantity("‖S‖/‖S at 512‖", "norm of the state", "", "positive", "arXiv 2412.06464")
TOLERANCE = {"filled": {"rtol": 1e-3, "atol": 1e-4, "reason": "states after two thousand steps in float32"}}


def data(lab):
    """filled (scaling, layer, block): norm over that at the end of the first window."""
    window, rows = lab.spec.window, []
    ids = yarn.filler_ids(lab, TIMES * window, seed=5)
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    for scaling in scalings:
        with yarn.under(lab, scaling, TIMES * window):
            ds = lab.stream(ids, probes=[deltanet.norms(block=BLOCK)], chunk=256)
        norm = ds.state_norm.mean("head").transpose("layer", "block")
        rows.append((norm / norm.isel(block=window // BLOCK - 1)).values)
    filled = np.stack(rows)
    values = {
        "filled": (("scaling", "layer", "block"), filled, FILLED),
        "grown": (("layer",), filled[0, :, -1], FILLED),
        "moved": ((), np.abs(filled[1, :, -1] - filled[0, :, -1]).max(), FILLED),
    }
    coords = {"scaling": list(map(str, scalings)), "layer": norm.layer.values}
    coords["block"] = ("block", (norm.block.values + 1) * BLOCK, "tokens read")
    return label(values, coords=coords, attrs={"model": lab.name, "reading": "deltanet.norms"})


def draw(ds):
    """One line per layer, one panel per scaling."""
    growth = ", ".join(f"{int(at)} {float(value) - 1:+.0%}" for at, value in zip(ds.layer, ds.grown, strict=True))
    title = (
        f"Norms at four windows beside those at one, by layer: {growth}; YaRN 4 moves none by more than {_up(ds.moved)}"
    )
    return plot.lines(ds, "filled", x="block", color="layer", facet="scaling", title=title)


def _up(share):
    """A share in percent, rounded up."""
    return f"{math.ceil(100 * float(share))} %"
