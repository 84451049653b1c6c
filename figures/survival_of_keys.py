"""What takes more of a stored key, time or what comes later?

For every value head of nano, the share of a stored key that is gone at the end of a prompt of facts: what decay alone
takes, and what later tokens erase beyond that, means over all tokens of a prompt and over prompts. The heads stand in
the order of the difference of the two.

Look where the lines cross: heads to the left lose their keys to decay, heads to the right to what came later. A head
is counted if the interval of the difference, prompt by prompt, leaves out 0. Erasing is counted after decay: of a key
that decay took there is nothing left to erase. Two controls silence one of the two in all heads: nothing is written, so
that nothing can be erased, and nothing decays.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import contextlib

import xarray

import figures
from figures._fact_prompts import WORDS, stated
from figures._state_samples import CHANCE, decided, in_line, spread
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 30)
ORDER = (0, 1, 2, 3, 4, 5, 0, 6, 7, 4, 8)
SEEDS = range(12)
KINDS = {"as it is": None, "nothing is written": deltanet.never_write, "nothing decays": deltanet.never_forget}
TERMS = ["to decay", "to later tokens"]


def data(lab):
    """lost, low, high (kind, term, place) and more (kind, sample, place), lost to later tokens less lost to decay."""
    lost = xarray.concat([_lost(lab, edit) for edit in KINDS.values()], "kind").assign_coords(kind=list(KINDS))
    facts = {"long_name": "share of a stored key that is gone", "symbol": "lost", "units": "share", "scale": "fraction"}
    lost = lost.assign_attrs(facts)
    more = lost.sel(term=TERMS[1], drop=True) - lost.sel(term=TERMS[0], drop=True)
    ds = xarray.Dataset(spread(lost, "lost") | {"more": more})
    ds = in_line(ds, more.isel(kind=0).mean("sample"), "36 heads, from those that lose most to decay")
    sample, interval = f"{len(SEEDS)} prompts of 33 tokens, seeds 0 to 11", "95 %, Student's t over 12 prompts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return ds.assign_attrs({"reading": "deltanet.survival", "layer": list(lab.spec.deltanet_layers)} | facts)


def _lost(lab, edit):
    """(term, sample, layer, head), with an edit of all layers in force."""
    layers = lab.spec.deltanet_layers
    with contextlib.nullcontext() if edit is None else lab.edit(*(edit(layer=layer) for layer in layers)):
        runs = [lab.trace(stated(seed, ORDER)) for seed in SEEDS]
    each = [deltanet.survival(run, layer=layers) for run in runs]
    pairs = [[1 - ds.decay_only.mean("source"), (ds.decay_only - ds.survival).mean("source")] for ds in each]
    pairs = [xarray.concat([part.drop_vars("token") for part in pair], "term") for pair in pairs]
    return xarray.concat(pairs, "sample").assign_coords(term=TERMS)


def claim(ds):
    """More heads of both kinds than chance would give if both took the same."""
    more = ds.more.isel(kind=0)
    later, decay = decided(more)
    count, against = more.sizes["place"], "expected by chance if both took the same"
    open_ = count - later - decay
    return Claim(
        f"In {WORDS * len(ORDER)} tokens, later ones take more of a key than decay in {later} of {count} heads, "
        f"decay in {decay}; {open_} undecided",
        [
            Part("heads in which later tokens take more", later, ">", CHANCE * count, against),
            Part("heads in which decay takes more", decay, ">", CHANCE * count, against),
        ],
    )


def controls(ds):
    """One of the two silenced."""
    silenced = {name: ds.isel(kind=[n]) for n, name in enumerate(KINDS) if n}
    return {f"{name}, in all heads": other for name, other in silenced.items()}


def draw(ds):
    """Two lines over the heads."""
    options = dict(x="place", color="term", interval=("low", "high"), title=claim(ds).title)
    return plot.lines(ds.isel(kind=0), "lost", **options).update_xaxes(showticklabels=False)
