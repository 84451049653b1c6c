"""YaRN costs a short text in nano less than a thousandth of its loss, whichever of its two parts is switched on

Mean loss per token of 128 texts of 256 tokens, minus that of the native model: with YaRN's frequencies alone, with its
attention factor alone, and with both; 95 % intervals from the pairs of texts.

Look at which intervals hold zero, and at the scale, thousandths of a nat. The attention factor m multiplies the rotary
part of every logit by m², at every distance; slower frequencies turn little at short ones. A bar of several hundredths
would be the tax that model cards warn of, and refute the title for nano; real checkpoints may well pay it.

Source: YaRN, arXiv 2309.00071; this project's `yarn.tax`.
"""

import xarray

from labkit import draw as plot
from labkit import stats, yarn

TOLERANCE = {
    name: {"rtol": 1e-2, "atol": 2e-3, "reason": "differences of losses that agree in four digits, in float32"}
    for name in ("effect", "low", "high")
}


def data(lab):
    """effect (term): loss minus that of the native model, mnat per token; low, high: ends of its 95 % interval."""
    ds = yarn.tax(lab, samples=128)
    effect = 1000 * (ds.loss - ds.loss.isel(step=0, term=0))
    low, high = stats.t_interval(effect)
    chosen = {"frequencies alone": (1, 0), "attention factor alone": (0, 1), "both": (1, 1)}
    pick = lambda array: xarray.concat([array[i, j].drop_vars(["step", "term"]) for i, j in chosen.values()], "term")  # noqa: E731
    held = {"effect": pick(effect.mean("sample")), "low": pick(low), "high": pick(high)}
    held = xarray.Dataset(held, coords={"term": list(chosen)}, attrs=ds.attrs)
    for name in ("effect", "low", "high"):
        held[name].attrs = {"symbol": "Δ loss", "long_name": "loss added", "units": "mnat", "scale": "signed"}
    held["term"].attrs["long_name"] = "what of YaRN 4 is on"
    return held.assign(native=ds.loss.isel(step=0, term=0).mean("sample"))


def draw(ds):
    """Three bars with their intervals."""
    low, high = (float(ds[name].sel(term="both")) for name in ("low", "high"))
    title = (
        f"YaRN 4 adds {low:.2f} to {high:.2f} thousandths of a nat to a loss of {float(ds.native):.2f} (95 % interval)"
    )
    return plot.bars(ds, "effect", x="term", interval=("low", "high"), title=title)
