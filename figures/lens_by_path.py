"""By which path does a lens's reading come: states, attention, MLPs or the embedding?

Prompts state six facts and end in the key of one. After every layer the logit lens is asked how much more it says the
answer than the value of another key. The stream is the embedding and what every branch wrote into it, so with the scale
of the final norm held this difference is the sum of four lines. Means over prompts, 95 % intervals.

Look at which layer which line rises; D is a Gated DeltaNet layer, A an attention layer. A line falls where the stream
grows, so that all of it counts for less, or where a layer writes against the answer. The right panel is the control,
the values of two other keys, neither of them the answer. A path says what wrote, not what that layer had read to write
it.

Source: direct paths, Elhage et al. 2021; `residual.lens_by_path`.
"""

import numpy as np
import xarray

import figures
from figures._recall_prompts import FACTS, recall
from figures._state_samples import average, spread
from labkit import draw as plot
from labkit import residual
from labkit.claims import Claim, Part

PLACE = ("causes", 20)
SEEDS = range(24)
RIGHT, WRONG = "answer less another value", "two other values"
MOVED = {"rtol": 1e-3, "atol": 1e-3, "reason": "sums of many branches in float32"}
TOLERANCE = dict.fromkeys(("came", "mean", "low", "high"), MOVED)


def data(lab):
    """came (pair, path, layer, sample), and means with intervals (pair, path, layer)."""
    asked = [recall(seed) for seed in SEEDS]
    runs = lab.trace([each.prompt for each in asked], seams=["resid_pre", "resid_post", "mixer_out", "mlp_out"])
    read = lambda run, each: residual.lens_by_path(run, lab, of=[each.answer, each.other], against=each.foil)  # noqa: E731
    parts = [read(run, each) for run, each in zip(runs, asked, strict=True)]
    came = xarray.concat([ds.came.drop_vars(("answer", "token", "token_text")) for ds in parts], "sample")
    kinds = zip(came.layer.values, came.kind.values, strict=True)
    names = [f"{kind[0].upper()} {layer}" for layer, kind in kinds]
    paths = ["MLPs" if path == "mlp" else path for path in came.path.values.tolist()]
    came = came.assign_coords(path=("path", paths, came.path.attrs))
    came = came.drop_vars("kind").rename(answer="pair").transpose("pair", "path", "layer", "sample")
    layer = ("layer", names, {"long_name": "the stream after layer"})
    came = came.assign_coords(pair=[RIGHT, WRONG], layer=layer, sample=list(SEEDS))
    sample = f"{len(SEEDS)} prompts of {FACTS} facts, seeds {SEEDS[0]} to {SEEDS[-1]}"
    interval = f"95 %, Student's t over {len(SEEDS)} prompts"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    facts |= {name: max(ds.attrs[name] for ds in parts) for name in ("parity", "residual")}
    return xarray.Dataset({"came": came, **spread(came, "mean")}).assign_attrs(parts[0].attrs | facts)


def claim(ds):
    """Attention brings the answer at its first layer, states from the next on; neither prefers one wrong value."""
    names = ds.layer.values.tolist()
    first = next(n for n, name in enumerate(names) if name.startswith("A"))
    came = lambda path, layer, pair=RIGHT: ds.came.sel(pair=pair, path=path).isel(layer=layer)  # noqa: E731
    attention, states, early = (
        came(path, n) for path, n in (("attention", first), ("states", first + 1), ("states", first - 1))
    )
    wrong = ds.came.sel(pair=WRONG, path=["states", "attention"]).isel(layer=[first, first + 1])
    wrong = wrong.stack(place=("path", "layer"))
    most = wrong.isel(place=int(np.abs(wrong.mean("sample")).argmax("place")))
    (one, ends), (two, sides), (none, around) = map(average, (attention, states, early))
    odd, odds = average(most)
    parts = [
        Part(f"nats through attention after {names[first]}", one, ">", 1, "", ends),
        Part(f"nats through states after {names[first + 1]}", two, ">", 1, "", sides),
        Part(f"nats through states after {names[first - 1]}", none, "<", 1, "", around),
        Part("nats between two wrong values, the most of these", odd, "∋", 0, "", odds),
    ]
    sentence = (
        f"Attention brings {one:.1f} nats for the answer at {names[first]}, states {two:.1f} at {names[first + 1]}"
    )
    return Claim(f"{sentence} and {none:.1f} before; of two wrong values neither is preferred", parts)


def controls(ds):
    """Two wrong values in place of the answer and one; the answer in place of a wrong one; the layers in reverse."""
    wrong, right = (ds.came.sel(pair=pair, drop=True) for pair in (WRONG, RIGHT))
    other = xarray.where(ds.came.pair == RIGHT, wrong, right).transpose(*ds.came.dims)
    turned = ds.came.copy(data=ds.came.values[:, :, ::-1])
    return {
        "the two pairs exchanged": ds.assign(came=other),
        "the layers in reverse": ds.assign(came=turned),
    }


def draw(ds):
    """A line per path, a panel per pair of values."""
    options = dict(x="layer", color="path", facet="pair", interval=("low", "high"))
    return plot.lines(ds, "mean", **options, title=claim(ds).title)
