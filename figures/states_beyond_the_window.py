"""Past the window the states of nano go on filling, most in layers 1 and 4, and YaRN changes little about it

Frobenius norm of the recurrent states in a text of four windows, mean over blocks of 64 tokens and over the heads of a
layer, over its value in the last block of the first window; and the same while the attention layers run under YaRN 4.

Look to the right of 512 tokens, where training ended. Gated DeltaNet knows no positions and its transition never
expands, but nothing taught it to level off where no training went. Lines that all lay flat at 1 would refute the title.
Layers 0 to 2 lie below the first attention layer, so no scaling reaches them; in the others the panels may differ.

Source: Gated DeltaNet, arXiv 2412.06464; unexplored states, arXiv 2507.02782; Stuffed Mamba, arXiv 2410.07145.
"""

import math

import xarray

from labkit import deltanet, rotary, yarn
from labkit import draw as plot

BLOCK, TIMES = 64, 4
TOLERANCE = {"filled": {"rtol": 1e-3, "atol": 1e-4, "reason": "states after two thousand steps in float32"}}


def data(lab):
    """filled (scaling, layer, block): norm over that at the end of the first window."""
    window, rows = lab.spec.window, []
    ids = yarn.filler_ids(lab, TIMES * window, seed=5)
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    for scaling in scalings:
        with yarn.under(lab, scaling, TIMES * window):
            ds = lab.stream(ids, probes=[deltanet.norms(block=BLOCK)], chunk=256)
        norm = ds.state_norm.mean("head")
        rows.append(norm / norm.isel(block=window // BLOCK - 1))
    held = xarray.concat(rows, "scaling").transpose("scaling", "layer", "block")
    held = held.assign_coords(scaling=[str(one) for one in scalings], block=(held.block + 1) * BLOCK)
    held["block"].attrs["long_name"] = "tokens read"
    held.attrs = {"symbol": "‖S‖/‖S at 512‖", "long_name": "norm of the state", "units": "", "scale": "positive"}
    end = held.isel(block=-1)
    held = held.rename("filled").drop_vars("block_start", errors="ignore").to_dataset()
    held = held.assign(grown=end.isel(scaling=0, drop=True), moved=abs(end.diff("scaling")).max())
    return held.assign_attrs(model=lab.name, reading="deltanet.norms")


def draw(ds):
    """One line per layer, one panel per scaling."""
    said = ", ".join(f"{int(at)} {float(value) - 1:+.0%}" for at, value in zip(ds.layer, ds.grown, strict=True))
    title = (
        f"Norms at four windows beside those at one, by layer: {said}; YaRN 4 moves none by more than {_up(ds.moved)}"
    )
    return plot.lines(ds, "filled", x="block", color="layer", facet="scaling", title=title)


def _up(share):
    """A share in percent, rounded up."""
    return f"{math.ceil(100 * float(share))} %"
