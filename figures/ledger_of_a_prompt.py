"""A head erases little until a key comes back with another value, and then it makes room before it writes

For every token, how much of the state decay took, how much erasing took to make room, and how much was written, as
norms. The prompt states four facts and then gives the first key another value. The head shown is the one that erases
most when the second value arrives, compared with what it erases on average.

Look at the erased bars: they are small while new keys arrive and rise where a stored key comes back. A head that
forgets by decay alone would show large decay bars and no such rise, and would refute the title.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10.
"""

import xarray

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red. whale blue. crow green. lion gold. fox white. whale black."
TERMS = ("decayed", "erased", "written")
AGAIN = (14, 17)  # tokens of the second values


def data(lab):
    """norm (term, token) of one head, named by the coordinates layer and head."""
    run = lab.trace(PROMPT)
    every = deltanet.memory(run, layer=lab.spec.deltanet_layers, tokens=None)
    rise = every.erased.isel(token=list(AGAIN)).mean("token") / every.erased.mean("token")
    place = rise.argmax(("layer", "head"))
    ds = every.isel(place)
    norm = xarray.concat([ds[term] for term in TERMS], "term").assign_coords(term=list(TERMS))
    facts = {"symbol": "‖·‖", "long_name": "norm of each term", "units": "norm", "scale": "positive"}
    norms = norm.rename("norm").assign_attrs(facts).to_dataset()
    return norms.assign(rise=float(rise.max())).assign_attrs(ds.attrs | {"layer": int(ds.layer)})


def draw(ds):
    """Three bars per token."""
    where = f"Layer {ds.attrs['layer']}, head {int(ds['head'])}"
    title = f"{where}: erasing is {float(ds.rise):.1f} times its mean when a key comes back"
    return plot.bars(ds, "norm", x="token", color="term", title=title)
