"""What erases a stored key is later tokens more than time: survival lies below what decay alone would leave

For every value head, how much of each token's key is left in the state at the end of the prompt. The upper line is what
decay alone would have left; the lower one is exact, with everything that later tokens erased taken off. The gap between
the two is overwriting. The layer shown is the one with the widest gap.

Look for heads whose upper line stays high while the lower falls: they would keep, and are made to forget. Two lines on
top of each other in every head would refute the title.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import xarray

from labkit import deltanet
from labkit import draw as plot

PROMPT = (
    " fox red. whale blue. crow green. lion gold. bear black. wolf white. fox pink. crow gray. swan teal. bear red."
)


def data(lab):
    """left (term, head, source) of the layer where erasing took most, and gap over (layer, head)."""
    run = lab.trace(PROMPT)
    every = deltanet.survival(run, layer=lab.spec.deltanet_layers)
    gap = (every.decay_only - every.survival).mean("source")
    ds = every.isel(layer=int(gap.mean("head").argmax("layer")))
    lines = xarray.concat([ds.decay_only, ds.survival], "term", coords="minimal", compat="override")
    lines = lines.assign_coords(term=["decay alone", "with erasing"]).assign_attrs(ds.survival.attrs)
    lines = lines.rename("left").drop_vars("layer").to_dataset()
    return lines.assign(gap=gap).assign_attrs(every.attrs | {"layer": int(ds.layer)})


def draw(ds):
    """One small figure per head, two lines each."""
    gap = float(ds.gap.sel(layer=ds.attrs["layer"]).mean())
    title = f"Layer {ds.attrs['layer']}: erasing takes {gap:.0%} of every stored key on average, beyond decay"
    return plot.lines(ds, "left", x="source", color="term", facet="head", title=title)
