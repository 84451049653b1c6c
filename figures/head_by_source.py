"""From which tokens does each head bring the answer, in both kinds of layer?

What each head adds to the difference of two logits directly, the right value's less another stated value's, by the
token that it reads from: of an attention head its weight times what the value adds through gate and output projection,
of a DeltaNet head the exact weight that its state gives that token, times the same. With MLPs and embedding the cells
add up to the difference. Prompts state six facts and ask for the second one; the map is the mean over them, and the
tokens shown are those of the first.

Look at the two columns of the fact that is asked for, its value and the token behind it, and at which layers add there.
The controls are the same heads at the same tokens for the logit of a value that was not asked for, and the two kinds of
layer in each other's place. D is a DeltaNet layer, A an attention layer. These are direct paths: what a head does
through later layers is not in it.

Source: direct logit attribution, Elhage et al. 2021; weights of the delta rule, arXiv 2412.06464 section 3.
"""

import random

import numpy as np
import xarray

import figures
from figures._fact_prompts import stated
from figures._state_samples import average
from labkit import attribution
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano.tokens import KEYS, VALUES

PLACE = ("causes", 30)
SEEDS = range(16)
FACTS, ASKED, OTHER, FOIL = 6, 1, 4, 3  # facts; the one asked for, another, and the one compared with
VALUE, BEHIND = 4, 6  # tokens of the asked fact's value, and of the word behind the fact
KINDS = "attention", "deltanet"


def data(lab):
    """added (place, source), mean over prompts; by_kind and other (kind, source, sample): sums over heads of a kind, of
    the asked answer and of another; logit (sample)."""
    asked, other = ([_of(lab, seed, fact) for seed in SEEDS] for fact in (ASKED, OTHER))
    mean = sum(ds.added.values for ds in asked) / len(asked)
    first, attention = asked[0], lab.spec.attention_layers
    rows = [(layer, head) for layer in range(lab.spec.layers) for head in range(mean.shape[1])]
    rows = [(layer, head) for layer, head in rows if np.isfinite(mean[layer, head]).all()]
    names = [f"{layer} {'A' if layer in attention else 'D'} · {head}" for layer, head in rows]
    facts = {"long_name": "what a head adds to the logit difference", "symbol": "c", "units": "nat", "scale": "signed"}
    added = xarray.DataArray([mean[place] for place in rows], dims=("place", "source"), attrs=facts)
    ds = xarray.Dataset({"added": added, "by_kind": _by_kind(lab, asked), "other": _by_kind(lab, other)})
    ds["logit"] = "sample", [float(one.logit) for one in asked]
    coords = {"place": ("place", names, {"long_name": "layer, its kind · head"}), "kind": list(KINDS)}
    coords |= {"source": first.source.values, "source_text": ("source", first.source_text.values)}
    sample = f"{len(SEEDS)} prompts of {len(first.source)} tokens, seeds 0 to {SEEDS[-1]}"
    interval = f"95 %, Student's t over {len(SEEDS)} prompts"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return ds.assign_coords(coords).assign_attrs({"reading": first.attrs["reading"]} | made)


def _of(lab, seed, fact):
    """The attribution of one fact's value against that of another, at the end of a prompt that asks for `ASKED`."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, 24), draw.sample(VALUES, len(VALUES))  # as `stated` draws them
    prompt = f"{stated(seed, range(FACTS))} {keys[ASKED]}"
    return attribution.logit(lab, prompt, of=f" {values[fact]}", against=f" {values[FOIL]}")


def _by_kind(lab, every):
    sums = [
        [ds.added.isel(layer=list(lab.spec.layers_of(kind))).sum(("layer", "reader")).values for ds in every]
        for kind in KINDS
    ]
    return ("kind", "sample", "source"), np.array(sums)


def _beyond(ds, kind, at):
    """(mean, interval) of what heads of a kind add from a token, less the most that they add from any other."""
    each = ds.by_kind.sel(kind=kind)
    return average(each.sel(source=at) - each.drop_sel(source=at).max("source"))


def claim(ds):
    """Each kind has a token of its own from which it adds more than from any other."""
    (here, ends), (behind, more) = _beyond(ds, "attention", VALUE), _beyond(ds, "deltanet", BEHIND)
    leads = float(ds.logit.mean())
    adds = lambda kind, at: float(ds.by_kind.sel(kind=kind, source=at).mean())  # noqa: E731
    own, word = map(adds, KINDS, (VALUE, BEHIND))
    return Claim(
        f"Of {leads:.1f} nat by which the answer leads another value, attention adds {own:.1f} from the answer's own "
        f"token, DeltaNet {word:.1f} from the word behind its fact",
        [
            Part("nat that attention adds from the value, beyond any other token", here, ">", 0, "", ends),
            Part("nat that DeltaNet adds from the word behind the fact, beyond any other", behind, ">", 0, "", more),
        ],
    )


def controls(ds):
    """An answer that nobody asked for; the kinds in each other's place."""
    swapped = ds.by_kind.isel(kind=[1, 0]).assign_coords(kind=ds.kind)
    return {
        "the value of another fact, which was not asked for": ds.assign(by_kind=ds.other),
        "attention in the place of DeltaNet, and the other way round": ds.assign(by_kind=swapped),
    }


def draw(ds):
    """A row a head, a column a token."""
    return plot.heatmap(ds, "added", x="source", y="place", title=claim(ds).title)
