"""What happens to a stored value when its key comes back with another one?

What is left of the first fact about the fox, token by token: of what the state said for that key, the share that is
still the old value's own, and the same for the second value from the token on that stored it. In nano a fact is stored
at the token behind it. The line above is what decay alone would have left of the first. The head shown is the one in
which the second fact stands out most among all tokens that erase the first.

Look at the token where the second value arrives, at the upright line: does the first line fall in one step, while
decay goes on as before? The control is the same prompt with another animal in place of the second fox, read in the
same head: no key comes back, so nothing should fall.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import xarray

import figures
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 10)
PROMPT = " fox red. whale blue. crow green. lion gold. {} white. bear black. wolf pink. swan teal."
FIRST, SECOND = 3, 15  # the tokens behind the two facts about the fox
TERMS = ["first value", "first value, decay alone", "second value"]


def data(lab):
    """left and other (term, token) of one head: with the key back, and with another key in its place."""
    run, without = (lab.trace(PROMPT.format(animal)) for animal in ("fox", "seal"))
    every = deltanet.forgetting(run, layer=lab.spec.deltanet_layers, source=FIRST)
    excess = every.removed.sel(token=SECOND) - every.removed.drop_sel(token=SECOND).max("token")
    best = {axis: int(index) for axis, index in excess.argmax(("layer", "head")).items()}
    layer, head = int(every.layer[best["layer"]]), int(every["head"][best["head"]])
    curves = _curves(run, layer, head).to_dataset(name="left").assign(other=_curves(without, layer, head))
    curves = curves.assign_coords(token_text=("token", [run.tokens[t] for t in curves.token.values]))
    sample = f"one prompt of {len(run)} tokens, and one with another key"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample)
    return curves.assign_coords(layer=layer, head=head).assign_attrs(every.attrs | {"layer": layer} | facts)


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
    here = f"layer {int(ds.layer)}, head {int(ds['head'])}"
    what, others = "share of the old value that the second takes", float(fall.drop_sel(token=SECOND).max())
    return Claim(
        f"One token takes the old value from {before:.0%} to {after:.0%}; decay takes {decayed:.1%} in all ({here})",
        [
            Part(what, before - after, ">", others, "the most that any other token takes"),
            Part(what, before - after, ">", decayed, "what decay takes to the end"),
        ],
    )


def controls(ds):
    """No key comes back; nothing but decay."""
    alone = ds.left.where(ds.term != TERMS[0], ds.left.sel(term=TERMS[1]))
    return {
        "another key in place of the one that came back": ds.assign(left=ds.other),
        "a first value that follows the line of decay": ds.assign(left=alone),
    }


def draw(ds):
    """Three curves over the tokens."""
    return plot.lines(
        ds, "left", x="token", color="term", at={"the second value arrives": SECOND}, title=claim(ds).title
    )
