"""What does YaRN 4 cost nano on short texts, and can these texts tell?

Mean loss per token of texts of 256 tokens, minus that of the native model on the same texts: with YaRN's frequencies
alone, with its attention factor m alone, and with both. m multiplies the rotary part of every logit by m², at every
distance; slower frequencies turn little at short ones. 95 % intervals from the pairs of texts.

Look at the two bars beside it. With m near 0 nothing rotary is left in any logit: where that costs nothing too, these
texts need no positions from attention, and say nothing of what YaRN costs a text that does. The control is m = 4, which
drowns the rest of a logit. Real checkpoints may well pay what their cards warn of.

Source: YaRN, arXiv 2309.00071; this project's `yarn.short_context_cost`.
"""

import numpy as np

import figures
from labkit import draw as plot
from labkit import stats, yarn
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label

PLACE = ("yarn", 80)
CELLS = {"frequencies alone": (1, 0), "factor m alone": (0, 1), "both": (1, 1)}
OTHER, SAMPLES = {"no rotary part": 1e-3, "attention factor 4": 4.0}, 32
ADDED = Quantity("Δ loss", "loss added", "mnat", "signed", "this run")
TOLERANCE = {
    name: {"rtol": 1e-2, "atol": 2e-3, "reason": "differences of losses that agree in four digits, in float32"}
    for name in ("effect", "low", "high")
}


def data(lab):
    """effect (term): loss minus that of the native model, mnat per token; low, high: ends of its 95 % interval."""
    texts = [yarn.filler_ids(lab, lab.spec.window // 2, seed=n) for n in range(SAMPLES)]
    ds = yarn.short_context_cost(lab, texts=texts)
    native = ds.loss[0, 0]
    added = [1000 * (ds.loss[cell] - native) for cell in CELLS.values()]
    for m in OTHER.values():
        with yarn.scaled(lab, 1, kind="none", attention_factor=m):
            loss = np.array([yarn.likelihood(lab, ids) for ids in texts], np.float32)
        added.append(1000 * (loss - native))
    ends = [(each.mean("sample"), *stats.t_interval(each)) for each in added]
    names = ("effect", "low", "high")
    values = {name: (("term",), [float(end[n]) for end in ends], ADDED) for n, name in enumerate(names)}
    values["native"] = ((), native.mean("sample").values, "loss")
    sample = f"{SAMPLES} texts of 256 tokens, seeds 0 to {SAMPLES - 1}, the same for every bar"
    facts = figures.made(
        lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval="95 %, Student's t over the texts"
    )
    return label(values, coords={"term": ("term", [*CELLS, *OTHER], "what is changed")}, attrs=ds.attrs | facts)


def claim(ds):
    """Both parts of YaRN together cost nothing that could be told, nor does leaving out the rotary part."""
    both, none = (_at(ds, term) for term in ("both", "no rotary part"))
    wrong = _at(ds, "attention factor 4")
    unit = "thousandths of a nat per token"
    ends = lambda at: f"{at[1]:+.2f} to {at[2]:+.2f}"  # noqa: E731
    return Claim(
        f"YaRN 4 adds {ends(both)} thousandths of a nat, no rotary part {ends(none)}: these texts cannot tell",
        [
            Part(f"{unit} that YaRN 4 adds", both[0], "∋", 0, interval=both[1:]),
            Part(f"{unit} without any rotary part", none[0], "∋", 0, interval=none[1:]),
            Part(f"{unit} that YaRN 4 adds, at most", both[2], "<", wrong[1], "attention factor 4, at least"),
        ],
    )


def _at(ds, term):
    return tuple(float(ds[name].sel(term=term)) for name in ("effect", "low", "high"))


def controls(ds):
    """What hurts in place of what does not."""
    wrong = ds.sel(term="attention factor 4", drop=True)
    put = ds.term.isin(["both", "no rotary part"])
    names = ("effect", "low", "high")
    return {
        "attention factor 4 in place of both": ds.assign({name: ds[name].where(~put, wrong[name]) for name in names})
    }


def draw(ds):
    """Bars with their intervals."""
    return plot.bars(ds, "effect", x="term", interval=("low", "high"), title=claim(ds).title)
