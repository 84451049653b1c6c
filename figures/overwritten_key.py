"""A key that comes back with another value takes the old one's place: it erases more of it than all decay does

What is left of the first fact about the fox, token by token: of what the state said for that key, the share that is
still the old value's own, and the same for the second value from the token on that stored it. In nano a fact is stored
at the token behind it. The line above is what decay alone would have left of the first. The head shown is the one in
which the second fact stands out most among all tokens that erase the first.

Look at the token where the second value arrives: the first line falls in one step, while decay goes on as before.
A first line that followed that of decay would refute the title.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import xarray

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red. whale blue. crow green. lion gold. fox white. bear black. wolf pink. swan teal."
FIRST, SECOND = 3, 15  # the tokens behind the two facts about the fox


def data(lab):
    """left (term, token) of one head, named by the coordinates layer and head."""
    run = lab.trace(PROMPT)
    every = deltanet.forgetting(run, layer=lab.spec.deltanet_layers, source=FIRST)
    excess = every.removed.sel(token=SECOND) - every.removed.drop_sel(token=SECOND).max("token")
    first = every.isel({axis: int(index) for axis, index in excess.argmax(("layer", "head")).items()})
    layer, head = int(first.layer), int(first["head"])
    second = deltanet.forgetting(run, layer=layer, source=SECOND, heads=head).isel(head=0)
    shares = [first.signal / first.signal[0], first.decay_only, second.signal / second.signal[0]]
    curves = xarray.concat(shares, "term", join="outer", coords="minimal", compat="override")
    curves = curves.fillna(0.0)  # nothing of the second before it came
    curves = curves.assign_coords(term=["first value", "first value, decay alone", "second value"])
    facts = {"long_name": "share of what was stored", "units": "share", "symbol": "left", "scale": "fraction"}
    curves = curves.rename("left").assign_attrs(facts).to_dataset().drop_vars(("source", "token_text"), errors="ignore")
    curves = curves.assign_coords(token_text=("token", [run.tokens[t] for t in curves.token.values]), source=FIRST)
    return curves.assign(erased=first.removed.sel(token=SECOND)).assign_attrs(first.attrs | {"layer": layer})


def draw(ds):
    """Three curves over the tokens."""
    where = f"Layer {ds.attrs['layer']}, head {int(ds['head'])}"
    before, after = (float(ds.left.sel(term="first value", token=t)) for t in (SECOND - 1, SECOND))
    decay = float(ds.left.sel(term="first value, decay alone").isel(token=-1))
    title = f"{where}: one token takes the old value from {before:.0%} to {after:.0%}; decay would leave {decay:.0%}"
    return plot.lines(ds, "left", x="token", color="term", title=title)
