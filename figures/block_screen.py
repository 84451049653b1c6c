"""Where does every head read from, both kinds on one screen, when an animal comes back?

For the reading token under the slider: left, the exact implied weights of all value heads of the DeltaNet layers,
signed; right, the softmax weights of all query heads of the attention layers times their mean output gate. Columns are
the tokens that are read from; under the pointer stand the norm of the value and, on the right, the gate.

The last token, shown first, is an animal that was stated at the beginning. Count the heads whose strongest weight, sign
left out, lies on its fact: on the colour, the full stop or the token behind, where a state takes a fact in. The title
counts them on sixteen prompts of four facts, of which the one that is drawn is no part; the fact is not the last. The
control ends the same prompts with an animal that was not stated, and counts at the same place.

Source: Gated DeltaNet, arXiv 2412.06464, section 3; output gate, arXiv 2505.06708.
"""

import random

import numpy as np
import xarray

import figures
from labkit import attention, deltanet, stats
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES
from labkit.notation import QUANTITIES

PLACE = ("attention", 40)
PROMPT = " fox red. whale blue. crow green. lion gold. crow green. fox"
SEEDS = range(16)
KINDS, ASKED = ("DeltaNet", "attention"), ("stated", "not stated")


def data(lab):
    """implied (token, head, source) and gated (token, query_head, source) of all heads; reads (kind, asked, prompt).

    `reads` is the share of the heads of a kind whose strongest weight lies on the fact about the animal asked for.
    """
    run, spec = lab.trace(PROMPT), lab.spec
    left = _joined(deltanet.implied_attention(run, layer=spec.deltanet_layers), "head")
    right = _joined(attention.pattern(run, layer=spec.attention_layers), "query_head")
    gated = (right.weight * right.gate).assign_attrs(vars(QUANTITIES["gated"]))
    ds = left.rename(weight="implied", value_norm="held_norm")
    ds = ds.assign(gated=gated, gate=right.gate, value_norm=right.value_norm)
    ds = ds.transpose("token", "head", "query_head", "source")
    ds["reads"] = ("kind", "asked", "prompt"), np.stack([_reads(lab, seed) for seed in SEEDS], -1)
    ds["reads"].attrs |= {"symbol": "share of heads", "units": "1", "scale": "fraction"}
    ds = ds.assign_coords(kind=list(KINDS), asked=list(ASKED), prompt=list(SEEDS))
    proof = {name: max(left.attrs[name], right.attrs[name]) for name in ("parity", "tolerance")}
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"the map of one prompt of {len(run)} tokens; {len(SEEDS)} other prompts, seeds 0 to {SEEDS[-1]}",
        interval=f"95 %, Student's t over {len(SEEDS)} prompts",
    )
    ds.attrs = {"reading": "deltanet.implied_attention and attention.pattern", "form": "value"} | proof | facts
    return ds


def _joined(ds, dim):
    """The heads of all layers along one axis, named by layer and head."""
    layers = [ds.sel(layer=layer, drop=True) for layer in ds.layer]
    names = [f"L{int(layer)} h{int(head)}" for layer in ds.layer for head in ds[dim]]
    return xarray.concat(layers, dim).assign_coords({dim: names})


def _reads(lab, seed):
    """Shares of heads [kind, asked] that read one fact most, asked for it and for no fact at all."""
    draw = random.Random(seed)
    *keys, unknown = draw.sample(KEYS, 5)
    values, at = draw.sample(VALUES, 4), draw.randrange(3)
    stated, found = "".join(f" {key} {value}." for key, value in zip(keys, values, strict=True)), []
    for asked in (keys[at], unknown):
        run = lab.trace(f"{stated} {asked}")
        implied = deltanet.implied_attention(run, layer=lab.spec.deltanet_layers).weight
        softmax = attention.pattern(run, layer=lab.spec.attention_layers, rows=-1).weight
        most = (abs(weight.isel(token=-1)).argmax("source") for weight in (implied, softmax))
        found.append([float(place.isin(range(3 * at + 1, 3 * at + 4)).mean()) for place in most])
    return np.array(found).T


def claim(ds):
    """More heads read the fact when it is asked for than when it is not, and of attention many more."""
    shares = {kind: [float(ds.reads.sel(kind=kind, asked=asked).mean()) for asked in ASKED] for kind in KINDS}
    gain = ds.reads.sel(asked=ASKED[0]) - ds.reads.sel(asked=ASKED[1])
    held, looked = (gain.sel(kind=kind) for kind in KINDS)
    (left, least), (most, new) = (shares[kind] for kind in KINDS)
    part = lambda what, of, *than: Part(  # noqa: E731
        what, of.mean(), *than, interval=tuple(map(float, stats.t_interval(of, "prompt")))
    )
    what = "heads that read the fact because it is asked for, share of all of the kind"
    return Claim(
        f"Asked for a fact, {most:.0%} of attention heads look there most, {new:.0%} if a new animal is asked for; "
        f"DeltaNet: {left:.0%}, {least:.0%}",
        [
            part(f"attention: {what}", looked, ">", 0),
            part("attention, beyond DeltaNet", looked - held, ">", 0),
            part(f"DeltaNet: {what}", held, ">", 0),
        ],
    )


def controls(ds):
    """Nothing to find; heads of the other kind."""
    other = lambda kind, reads: ds.assign(reads=ds.reads.where(ds.kind != kind, reads))  # noqa: E731
    turned = ds.reads.sel(asked=list(ASKED[::-1])).assign_coords(asked=list(ASKED))
    return {
        "the two endings exchanged": ds.assign(reads=turned),
        "attention heads in place of the DeltaNet heads": other("DeltaNet", ds.reads.sel(kind="attention", drop=True)),
    }


def draw(ds):
    """Two maps with one slider over the reading tokens."""
    return plot.maps(
        (ds, "implied", "DeltaNet layers: implied weight", ["held_norm"]),
        (ds, "gated", "attention layers: weight times gate", ["value_norm", "gate"]),
        slider="token",
        start=-1,
        title=claim(ds).title,
    )
