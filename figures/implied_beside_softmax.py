"""Which kind of layer goes back for the answer to a question?

Left, the exact implied attention of one value head of a Gated DeltaNet layer: `A_tj` is the weight of token j's value
in what the head reads at token t. It is signed, and its rows do not sum to one. Right, the softmax weights of one query
head. A prompt states six facts and asks four of them again. Of each kind the head is shown that puts the largest share
of its rows on the answers of eight prompts; the numbers are of sixteen other prompts, for these two heads and for all.

Look along the rows of the last four keys: which cell stands out? A share is the weight of the answer over the sum of
the weights of the row, signs left out, so that both kinds are measured alike; of a DeltaNet head the token behind the
answer counts too, where a state takes a fact in. The control reads the same rows of the attention heads at the values
of the facts that were not asked for.

Source: Gated DeltaNet, arXiv 2412.06464, section 3; softmax attention, arXiv 1706.03762.
"""

import random

import numpy as np
import xarray

import figures
from labkit import attention, deltanet, stats
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES

PLACE = ("attention", 10)
FACTS, ASKED, CHOOSE, TEST = 6, 4, range(8), range(8, 24)  # seeds of the prompts that choose, and of those that test
PLACES = ["the answer", "another value"]


def data(lab):
    """share (place, reader, prompt) of all heads; implied and softmax (token, source) of the two shown."""
    shares = xarray.concat([_shares(*_read(lab, seed)) for seed in [*CHOOSE, *TEST]], "prompt").transpose(..., "prompt")
    chosen = shares.sel(place=PLACES[0]).isel(prompt=slice(len(CHOOSE))).mean("prompt")
    kinds = {"deltanet_layers": list(lab.spec.deltanet_layers), "attention_layers": list(lab.spec.attention_layers)}
    best = [int(chosen.where(chosen.layer.isin(layers)).argmax("reader")) for layers in kinds.values()]
    implied, softmax, _ = _read(lab, TEST[0])
    (d, left), (a, right) = ((int(shares.layer[at]), int(shares["head"][at])) for at in best)
    maps = {"implied": implied.weight.sel(layer=d, head=left), "softmax": softmax.weight.sel(layer=a, query_head=right)}
    maps = {name: array.drop_vars(("layer", "head", "query_head"), errors="ignore") for name, array in maps.items()}
    quantity = {"symbol": "share", "long_name": "share of a row's weight", "units": "1", "scale": "fraction"}
    share = shares.isel(prompt=slice(len(CHOOSE), None)).assign_coords(prompt=list(TEST)).assign_attrs(quantity)
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(TEST)} prompts, seeds {TEST[0]} to {TEST[-1]}; heads chosen on seeds {CHOOSE[0]} to {CHOOSE[-1]}",
        interval=f"95 %, Student's t over {len(TEST)} prompts",
    )
    proof = {name: max(implied.attrs[name], softmax.attrs[name]) for name in ("parity", "tolerance")}
    return xarray.Dataset(maps | {"share": share}).assign_attrs(proof | kinds | {"shown": best} | facts)


def _read(lab, seed):
    """Implied weights of all DeltaNet layers, maps of all attention layers, and {asking token: token of the answer}."""
    draw = random.Random(seed)
    keys, values, asked = draw.sample(KEYS, FACTS), draw.sample(VALUES, FACTS), draw.sample(range(FACTS), ASKED)
    text = "".join(f" {keys[n]} {values[n]}" for n in [*range(FACTS), *asked])
    run, spec = lab.trace(text), lab.spec
    answers = {2 * (FACTS + i): 2 * n + 1 for i, n in enumerate(asked)}
    return (
        deltanet.implied_attention(run, layer=spec.deltanet_layers),
        attention.pattern(run, layer=spec.attention_layers),
        answers,
    )


def _shares(implied, softmax, answers):
    """Shares (place, reader) of the rows of the questions, means over them; a reader is a head of either kind."""
    found = []
    for weight, head in ((implied.weight, "head"), (softmax.weight, "query_head")):
        share = abs(weight) / abs(weight).sum("source")
        if head == "head":  # a state takes a value in at the token behind it
            share = share + share.shift(source=-1, fill_value=0.0)
        rows = [share.sel(token=token) for token in answers]
        right = [row.sel(source=at) for row, at in zip(rows, answers.values(), strict=True)]
        others = [[2 * n + 1 for n in range(FACTS) if 2 * n + 1 != at] for at in answers.values()]
        wrong = [row.sel(source=at).mean("source") for row, at in zip(rows, others, strict=True)]
        both = [np.mean([part.values for part in parts], 0).reshape(-1) for parts in (right, wrong)]
        pairs = [(int(layer), int(at)) for layer in weight.layer for at in weight[head]]
        coords = {
            "place": PLACES,
            "layer": ("reader", [a for a, _ in pairs]),
            "head": ("reader", [b for _, b in pairs]),
        }
        coords["reader"] = [f"L{a} h{b}" for a, b in pairs]
        found.append(xarray.DataArray(np.stack(both), dims=("place", "reader"), coords=coords))
    return xarray.concat(found, "reader")


def _means(ds):
    """Shares on the answer and beside it of the two heads shown, (reader, prompt), and means of all of each kind."""
    right, wrong = (ds.share.sel(place=place) for place in PLACES)
    shown = right.isel(reader=ds.attrs["shown"])
    kinds = [right.mean("prompt").where(ds.layer.isin(ds.attrs[f"{kind}_layers"]), drop=True) for kind in KINDS]
    return shown, wrong.isel(reader=ds.attrs["shown"]), kinds


KINDS = ("deltanet", "attention")


def _ends(values):
    return tuple(float(end) for end in stats.t_interval(values, "prompt"))


def claim(ds):
    """The head of attention reads the answer more than other values, and more than any DeltaNet head reads it."""
    (left, right), (_, beside), (deltanets, attentions) = _means(ds)
    layer = ds.attrs["attention_layers"][0]
    first = attentions.where(attentions.layer == layer, drop=True)
    least, most, gap = float(first.min()), float(deltanets.max()), right - beside
    last = ds.attrs["attention_layers"][-1]
    rest = float(attentions.where(attentions.layer == last, drop=True).max())
    return Claim(
        f"Heads of layer {layer} put {least:.2f} to {float(first.max()):.2f} of a row on the answer; "
        f"at most: layer {last} {rest:.2f}, any DeltaNet head {most:.2f}",
        [
            Part("share on the answer, softmax head shown, beyond other values", gap.mean(), ">", 0, "", _ends(gap)),
            Part(
                "the same, beyond that of the DeltaNet head shown",
                (right - left).mean(),
                ">",
                0,
                interval=_ends(right - left),
            ),
            Part(
                f"least mean share on the answer in layer {layer}",
                least,
                ">",
                most,
                f"largest of {deltanets.size} DeltaNet heads",
            ),
            Part(f"largest mean share on the answer in layer {last}", rest, "<", least, f"least in layer {layer}"),
        ],
    )


def controls(ds):
    """The same rows, other places."""
    turned = ds.share.isel(place=[1, 0]).assign_coords(place=PLACES)
    attentions = ds.layer.isin(ds.attrs["attention_layers"])
    return {
        "attention heads read at the values of facts that were not asked for": ds.assign(
            share=turned.where(attentions, ds.share).assign_attrs(ds.share.attrs)
        )
    }


def draw(ds):
    """Both maps side by side, the mean share on the answers above each."""
    shown, _, kinds = _means(ds)
    heads = []
    for kind, row, every in zip(("DeltaNet", "attention"), shown, kinds, strict=True):
        low, high = _ends(row)
        name = str(row.reader.values).replace("L", "layer ").replace("h", "head ")
        heads.append(
            f"{kind} {name}, best of {every.size}: {float(row.mean()):.2f} on the answers [{low:.2f} to {high:.2f}]"
        )
    return plot.maps((ds, "implied", heads[0]), (ds, "softmax", heads[1]), title=claim(ds).title)
