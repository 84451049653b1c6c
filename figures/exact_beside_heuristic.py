"""How wrong is a map of a DeltaNet head that leaves out what later tokens erase?

Left, the exact implied attention of one head, with which its reads are rebuilt to rounding. Middle, the common
shortcut: queries times keys, decayed and scaled by the write strength, but without what later tokens erased. Right, for
every head, how far the reads rebuilt by the shortcut are from the model's own, as a share of their size: at 1 they are
no nearer than no read at all. The head shown is the one whose error is nearest the median of all heads.

Look for columns that stay bright in the middle and fade on the left, and for dark cells on the right. The control holds
the write strength of all heads at 0.02 in other prompts, so that a token hardly erases anything and the shortcut leaves
out next to nothing.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import xarray

import figures
from figures._fact_prompts import stated
from figures._state_samples import average, decided
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 70)
ORDER = (0, 1, 2, 0, 3, 1)
SEEDS, OTHERS, WEAK = range(8), range(8, 16), 0.02
KINDS = ["as it is", "write strength 0.02", "write strength 0.02, other prompts"]


def data(lab):
    """exact, heuristic (token, source) of one head; error (kind, sample, layer, head), relative, of the shortcut."""
    layers = lab.spec.deltanet_layers
    runs = [lab.trace(stated(seed, ORDER)) for seed in SEEDS]
    with lab.edit(*(deltanet.clamp_write(layer=layer, value=WEAK) for layer in layers)):
        weak = [[lab.trace(stated(seed, ORDER)) for seed in seeds] for seeds in (SEEDS, OTHERS)]
    facts = {"long_name": "error of the reads rebuilt by the shortcut", "units": "share of their norm", "symbol": "ε"}
    error = [[_errors(lab, run) for run in some] for some in (runs, *weak)]
    error = xarray.DataArray(error, dims=("kind", "sample", "layer", "head"), attrs=facts | {"scale": "positive"})
    error = error.assign_coords(kind=KINDS, layer=list(layers), head=range(lab.spec.value_heads))
    mean = error.isel(kind=0).mean("sample")
    place = abs(mean - mean.median()).argmin(("layer", "head"))
    layer, head = (int(mean.isel(place)[axis]) for axis in ("layer", "head"))
    exact, short = (
        deltanet.implied_attention(runs[0], layer=layer, heads=head, form=form) for form in ("value", "heuristic")
    )
    maps = {"exact": exact.weight, "heuristic": short.weight}
    maps = {name: weight.isel(head=0, drop=True).drop_vars("layer") for name, weight in maps.items()}
    ds = xarray.Dataset(maps | {"error": error})
    sample = f"{len(SEEDS)} prompts of {len(runs[0])} tokens, seeds 0 to 7, the first is shown; control: seeds 8 to 15"
    made = figures.made(
        lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval="95 %, Student's t over 8 prompts"
    )
    return ds.assign_attrs({"reading": "deltanet.implied_attention", "layer": layer, "shown": head} | made)


def _errors(lab, run):
    """Relative error of the reads by the shortcut, (layer, head)."""
    read = lambda layer, head: deltanet.implied_attention(run, layer=layer, heads=head, form="heuristic")  # noqa: E731
    heads = range(lab.spec.value_heads)
    return [[read(layer, head).attrs["relative_error"] for head in heads] for layer in lab.spec.deltanet_layers]


def claim(ds):
    """The median head; and the heads in which the shortcut is worse than nothing."""
    error, weak = (ds.error.isel(kind=kind) for kind in (0, 1))
    median, interval = average(error.median(("layer", "head")))
    floor = float(weak.median(("layer", "head")).mean())
    worse, least = decided(error - 1)[0], decided(weak - 1)[0]
    count, against = error.isel(sample=0).size, f"at write strength {WEAK}"
    return Claim(
        f"Without removal reads are off by {median:.0%} in the median head, by over 100% in {worse} of {count} heads",
        [
            Part("error of the reads in the median head", median, ">", floor, against, interval),
            Part("heads whose error is larger than their reads", worse, ">", least, against),
        ],
    )


def controls(ds):
    """Next to nothing is removed."""
    return {f"write strength held at {WEAK} in all heads, other prompts": ds.isel(kind=[2, 1])}


def draw(ds):
    """Both maps, and the error of every head."""
    error = ds.error.isel(kind=0, drop=True).mean("sample", keep_attrs=True)
    here = float(error.sel(layer=ds.attrs["layer"], head=ds.attrs["shown"]))
    where = f"layer {ds.attrs['layer']}, head {ds.attrs['shown']}"
    left = f"exact ({where})"
    middle = f"without removal: reads off by {here:.0%}"
    panels = [(ds, "exact", left), (ds, "heuristic", middle), (error.to_dataset(), "error", "error in every head")]
    return plot.maps(*panels, title=claim(ds).title)
