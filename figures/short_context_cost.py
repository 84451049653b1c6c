"""YaRN costs a short text in nano less than a thousandth of its loss, whichever of its two parts is switched on

Mean loss per token of 128 texts of 256 tokens, minus that of the native model: with YaRN's frequencies alone, with its
attention factor alone, and with both; 95 % intervals from the pairs of texts.

Look at which intervals hold zero, and at the scale, thousandths of a nat. The attention factor m multiplies the rotary
part of every logit by m², at every distance; slower frequencies turn little at short ones. A bar of several hundredths
would be the cost that model cards warn of, and refute the title for nano; real checkpoints may well pay it.

Source: YaRN, arXiv 2309.00071; this project's `yarn.short_context_cost`.
"""

from labkit import draw as plot
from labkit import stats, yarn
from labkit.notation import Quantity, label

CELLS = {"frequencies alone": (1, 0), "attention factor alone": (0, 1), "both": (1, 1)}
ADDED = Quantity("Δ loss", "loss added", "mnat", "signed", "this run")
TOLERANCE = {
    name: {"rtol": 1e-2, "atol": 2e-3, "reason": "differences of losses that agree in four digits, in float32"}
    for name in ("effect", "low", "high")
}


def data(lab):
    """effect (term): loss minus that of the native model, mnat per token; low, high: ends of its 95 % interval."""
    ds = yarn.short_context_cost(lab, samples=128)
    native = ds.loss[0, 0]
    added = 1000 * (ds.loss - native)
    parts = dict(zip(("effect", "low", "high"), (added.mean("sample"), *stats.t_interval(added)), strict=True))
    values = {name: (("term",), [float(part[cell]) for cell in CELLS.values()], ADDED) for name, part in parts.items()}
    values["native"] = ((), native.mean("sample").values, "loss")
    return label(values, coords={"term": ("term", list(CELLS), "what of YaRN 4 is on")}, attrs=ds.attrs)


def draw(ds):
    """Three bars with their intervals."""
    low, high = (float(ds[name].sel(term="both")) for name in ("low", "high"))
    title = (
        f"YaRN 4 adds {low:.2f} to {high:.2f} thousandths of a nat to a loss of {float(ds.native):.2f} (95 % interval)"
    )
    return plot.bars(ds, "effect", x="term", interval=("low", "high"), title=title)
