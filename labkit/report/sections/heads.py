"""The heads of the attention layers: how they spread their weight, how far back they look, what kind each is."""

import numpy as np
import xarray

from labkit import attention, draw
from labkit.attention.softmax import SEAMS
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label
from labkit.report.section import Section, place, pooled
from labkit.report.task import fits, needs

ROWS = 64  # reading tokens of a map
STRONGEST = 4
SAMPLES = 512  # rows of a summary of a long prompt
LENGTH = 64  # tokens of the rows that classes are told by
COUNT = Quantity("n", "heads of a kind", "heads", "positive", "attention.classes")


def _applies(task):
    return needs(task, "attention") or fits(task)


def _run(task, layer):
    return task.run(layers=[layer], seams=task.spec.having("attention", SEAMS))


def _summary(task):
    parts, layers = [], list(task.spec.attention_layers)
    rows = (
        None if len(task) <= SAMPLES else np.unique(np.linspace(0, len(task) - 1, SAMPLES).round().astype(int)).tolist()
    )
    for layer in layers:
        ds = attention.summary(_run(task, layer), layer=layer, rows=rows)
        weights = ds.rows_taken / ds.rows_taken.sum()
        names = [name for name in ("entropy", "sink", "local", "distance", "gate", "histogram") if name in ds]
        made = xarray.Dataset({name: (ds[name] * weights).sum("block").assign_attrs(ds[name].attrs) for name in names})
        parts.append(made.assign_attrs(ds.attrs).drop_vars("layer", errors="ignore"))
    whole = xarray.concat(parts, xarray.Variable("layer", layers), combine_attrs="override")
    even = float(np.mean(range(len(task)) if rows is None else rows)) / 2  # row t of even weights looks t / 2 back
    return whole.assign_attrs(layer=layers, parity=max(part.attrs["parity"] for part in parts), even=even)


def _heads(task):
    ds = task.once("summary", _summary)
    return ds.drop_vars([name for name in ("histogram", "bin_text", "bin") if name in ds])


def _heads_said(ds):
    (low, at), (high, to) = place(ds.distance, highest=False), place(ds.distance, highest=True)
    return f"Heads look {low:.1f} ({at}) to {high:.1f} tokens back ({to}), on average"


def _heads_claim(ds):
    got = float(ds.distance.mean())
    return Claim(
        "Attention looks nearer than even weights would",
        [Part("mean distance of all heads in tokens", got, "<", ds.attrs["even"], "weights that are all alike")],
    )


def _distances(task):
    ds = task.once("summary", _summary)
    return ds[["histogram"]].mean("query_head", keep_attrs=True)


def _distances_said(ds):
    near = float(ds.histogram.isel(bin=slice(0, 3)).sum("bin").mean())
    return f"{near:.0%} of the weight, mean over heads and layers, falls on the token itself and the 6 before it"


def _classes(task):
    ds = attention.classes(attention.scores(task.lab, length=LENGTH, samples=2, seed=0))
    kinds = sorted(set(ds.kind.values.ravel().tolist()))
    count = np.array([[(row == kind).sum() for kind in kinds] for row in ds.kind.values])
    made = label({"heads": (("layer", "kind"), count, COUNT)}, coords={"layer": ds.layer.values, "kind": kinds})
    facts = {name: ds.attrs[name] for name in ("model", "reading", "parity", "tolerance", "samples", "seed")}
    return made.assign_attrs(facts | {"sample": f"2 drawn rows of {LENGTH} tokens, each read twice, seed 0"})


def _classes_said(ds):
    total = ds.heads.sum("layer")
    kinds = ["of no clear kind" if kind == "none" else kind for kind in ds.kind.values]
    return "Heads by kind: " + ", ".join(f"{int(n)} {kind}" for kind, n in zip(kinds, total.values, strict=True))


def _pattern(task):
    """Maps of the heads that put most weight, times their gate, on what is neither themselves nor the first tokens."""
    table = task.once("summary", _summary)
    free = (1 - table.sink - table.histogram.isel(bin=0)).clip(0)  # rows of the first tokens count on both sides
    score = free * table.gate if "gate" in table else free
    flat = np.argsort(-score.values.ravel(), kind="stable")[:STRONGEST]
    chosen = [tuple(int(n) for n in np.unravel_index(at, score.shape)) for at in flat]
    rows, parts, texts, worst = range(max(len(task) - ROWS, 0), len(task)), [], [], 0.0
    for at, head in chosen:
        layer = int(table.layer[at])
        ds = attention.pattern(_run(task, layer), layer=layer, heads=[head], rows=rows)
        parts.append(pooled(ds[["weight"]].isel(query_head=0, drop=True), "source", total=("weight",)))
        texts.append(f"layer {layer} head {head}")
        worst = max(worst, ds.attrs["parity"])
    parts = [part.drop_vars("layer", errors="ignore") for part in parts]
    whole = xarray.concat(parts, xarray.Variable("chosen", texts), combine_attrs="override")
    whole["away"] = ("chosen", score.values.ravel()[flat].astype(np.float32), {"units": "fraction"})
    return whole.assign_attrs(parity=worst, layer=sorted({int(table.layer[at]) for at, _ in chosen}))


def _pattern_said(ds):
    named = [
        f"{name} (at least {float(away):.2f})" for name, away in zip(ds.chosen.values, ds.away.values, strict=True)
    ]
    return f"The heads that look away most: {', '.join(named)}"


SECTIONS = [
    Section(
        "heads",
        "attention",
        "How far back does each head look?",
        "The mean distance between a reading token and what it reads, weighted by attention, and the share that "
        "falls on the first 4 tokens: a row for every attention layer, a column for every query head. Exact, over "
        f"all rows; of a prompt of more than {SAMPLES} tokens over so many of them.",
        _heads,
        lambda ds, title: draw.maps((ds, "distance", "mean distance"), (ds, "sink", "on the first 4"), title=title),
        _heads_said,
        _heads_claim,
        _applies,
    ),
    Section(
        "distances",
        "attention",
        "At which distances does the weight lie?",
        "The share of the weight that falls on each stretch of distances, mean over the heads of a layer and over "
        "rows. Stretches double in length.",
        _distances,
        lambda ds, title: draw.heatmap(ds, "histogram", title=title),
        _distances_said,
        applies=_applies,
    ),
    Section(
        "pattern",
        "attention",
        "What do the strongest heads read?",
        f"The maps of the {STRONGEST} heads with most of their weight, times the mean of their gate, on what is "
        f"neither the reading token nor one of the first 4; the last {ROWS} tokens read.",
        _pattern,
        lambda ds, title: draw.heatmap(ds, "weight", facet="chosen", title=title),
        _pattern_said,
        applies=_applies,
    ),
    Section(
        "classes",
        "attention",
        "What kind of head is each?",
        "Told by rows of drawn tokens that are read twice, not by this prompt: a head that looks back to the "
        "token after the last time is an induction head, one at the first tokens a sink, and so on; one of no "
        "clear kind is none.",
        _classes,
        lambda ds, title: draw.bars(ds, "heads", x="layer", color="kind", stacked=True, title=title),
        _classes_said,
        applies=lambda task: needs(task, "attention"),
    ),
]
