"""What happens to a stored value when its key comes back with another one?

What is left of the first fact about the fox, token by token: of what the state said for that key, the share that is
still the old value's own, and the same for the second value from the token on that stored it. In nano a fact is stored
at the token behind it. The line above is what decay alone would have left of the first. The head shown is the one in
which the second fact stands out most among all tokens that erase the first, in eight prompts of other animals; sixteen
more count whether it does so there.

Look at the token where the second value arrives, at the upright line: does the first line fall in one step, while
decay goes on as before? The control is the same prompt with another animal in place of the second fox, read in the
same head: no key comes back, so nothing should fall.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import xarray

import figures
from figures._fact_prompts import stated
from figures._state_samples import average
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 10)
PROMPT = " fox red. whale blue. crow green. lion gold. {} white. bear black. wolf pink. swan teal."
FIRST, SECOND = 3, 15  # the tokens behind the two facts about the fox
ORDERS = {"keys come back": (0, 1, 2, 3, 0, 4, 5, 6), "new keys": (0, 1, 2, 3, 7, 4, 5, 6)}
CHOOSING, COUNTED = range(8), range(8, 24)
TERMS = ["first value", "first value, decay alone", "second value"]


def data(lab):
    """left and other (term, token) of one head: with the key back, and with another key in its place.

    beyond (kind, sample): share that the second fact takes of the first, less the most that another token takes.
    """
    run, without = (lab.trace(PROMPT.format(animal)) for animal in ("fox", "seal"))
    every = [_every(lab, stated(seed, ORDERS["keys come back"])) for seed in CHOOSING]
    best = sum(map(_beyond, every)).argmax(("layer", "head"))
    layer, head = (int(every[0][axis][best[axis]]) for axis in ("layer", "head"))
    curves = _curves(run, layer, head).to_dataset(name="left").assign(other=_curves(without, layer, head))
    curves = curves.assign_coords(token_text=("token", [run.tokens[t] for t in curves.token.values]))
    counted = [[_every(lab, stated(seed, order), layer) for seed in COUNTED] for order in ORDERS.values()]
    curves["beyond"] = ("kind", "sample"), [[float(_beyond(ds).sel(head=head)) for ds in row] for row in counted]
    sample = f"one prompt of {len(run)} tokens; {len(COUNTED)} others, seeds 8 to 23; head chosen on seeds 0 to 7"
    interval = f"95 %, Student's t over {len(COUNTED)} prompts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return curves.assign_coords(layer=layer, head=head).assign_attrs(every[0].attrs | {"layer": layer} | facts)


def _every(lab, text, layer=None):
    """What is left of the first fact in all heads of all layers, or of one."""
    layers = lab.spec.deltanet_layers if layer is None else layer
    return deltanet.forgetting(lab.trace(text), layer=layers, source=FIRST)


def _beyond(ds):
    """Share of the first fact that the second takes, less the most that another token takes, (layer, head)."""
    fall = -(ds.signal / ds.signal.isel(token=0)).diff("token")
    return fall.sel(token=SECOND) - fall.drop_sel(token=SECOND).max("token")


def _curves(run, layer, head):
    first, second = (
        deltanet.forgetting(run, layer=layer, source=source, heads=head).isel(head=0, drop=True)
        for source in (FIRST, SECOND)
    )
    shares = [first.signal / first.signal[0], first.decay_only, second.signal / second.signal[0]]
    shares = [share.drop_vars(("source", "source_text", "token_text"), errors="ignore") for share in shares]
    curves = xarray.concat(shares, "term", join="outer", coords="minimal", compat="override").fillna(0.0)
    facts = {"long_name": "share of what was stored", "units": "share", "symbol": "left", "scale": "fraction"}
    return curves.assign_coords(term=TERMS).assign_attrs(facts)


def claim(ds):
    """One token takes more of the old value than any other does, and more than decay does in all tokens together."""
    left = ds.left.sel(term=TERMS[0])
    fall = -left.diff("token")
    before, after = float(left.sel(token=SECOND - 1)), float(left.sel(token=SECOND))
    decayed = 1 - float(ds.left.sel(term=TERMS[1]).isel(token=-1))
    beyond, ends = average(ds.beyond.isel(kind=0))
    here = f"layer {int(ds.layer)}, head {int(ds['head'])}"
    what, others = "share of the old value that the second takes", float(fall.drop_sel(token=SECOND).max())
    return Claim(
        f"One token takes the old value from {before:.0%} to {after:.0%}; decay takes {decayed:.1%} in all ({here})",
        [
            Part(what, before - after, ">", others, "the most that any other token takes"),
            Part(what, before - after, ">", decayed, "what decay takes to the end"),
            Part(f"the same beyond any other token, {ds.sizes['sample']} other prompts", beyond, ">", 0, "", ends),
        ],
    )


def controls(ds):
    """No key comes back; nothing but decay."""
    alone = ds.left.where(ds.term != TERMS[0], ds.left.sel(term=TERMS[1]))
    return {
        "another key in place of the one that came back": ds.isel(kind=[1]).assign(left=ds.other),
        "a first value that follows the line of decay": ds.assign(left=alone),
    }


def draw(ds):
    """Three curves over the tokens."""
    return plot.lines(
        ds, "left", x="token", color="term", at={"the second value arrives": SECOND}, title=claim(ds).title
    )
