"""Do engines and the paper mean the same frequencies by YaRN?

How many times slower each rotary pair turns. Engines blend linearly in the index of the pair, the paper in the number
of turns that a pair makes in the window. Computed from the configuration, no model is run.

Look at the pairs between those that both leave alone and those that both slow by the whole factor. The control compares
engines with themselves: curves that lay on each other would mean that it does not matter which one a program has.

Source: arXiv 2309.00071, section 3.2; transformers, `modeling_rope_utils.py`; discussion, jquesnelle/yarn #24, #60.
"""

import xarray

import figures
from labkit import draw as plot
from labkit import spec, yarn
from labkit.claims import Claim, Part

PLACE = ("yarn", 20)
ALIKE = 1e-3  # what float32 of both curves leaves no doubt about


def data(lab):
    """slowed (scaling, pair) at two factors, by the ramp of engines and by that of the paper."""
    model = spec.read("Qwen3.6-27B")
    curves = [yarn.wavelengths(model, factor, ramp=ramp) for factor in (2, 4) for ramp in ("index", "paper")]
    names = [f"{ds.factor:g}, {'paper' if 'paper' in ds.scaling else 'engines'}" for ds in curves]
    slowed = xarray.concat([ds[["slowed"]] for ds in curves], "scaling", combine_attrs="drop_conflicts")
    facts = figures.made(model.name, sample=f"all {model.rotary_dim // 2} pairs, from the configuration")
    return slowed.assign_coords(scaling=names).drop_vars("kind").assign_attrs(facts)


def claim(ds):
    """The curves part in some pairs alone, and more the larger the factor."""
    engines, paper = (ds.slowed.sel(scaling=[f"{n}, {who}" for n in (2, 4)]).values for who in ("engines", "paper"))
    differ = 1 - engines / paper
    apart = differ[1] > ALIKE
    most, at, pairs = differ[1].max(), int(differ[1].argmax()), int(apart.sum())
    least = differ[1][apart].min() if pairs else float("nan")
    return Claim(
        f"No: {pairs} pairs differ; engines slow pair {at} by {most:.0%} less than the paper at factor 4, "
        f"{differ[0].max():.0%} at factor 2",
        [
            Part(f"difference at factor 4, largest, at pair {at}", most, ">", differ[0].max(), "at factor 2"),
            Part("pairs that differ by more than a thousandth", pairs, ">", 0),
            Part("least difference of those", least, ">", abs(differ[1][~apart]).max(), "the most of all other pairs"),
        ],
    )


def controls(ds):
    """The same curve twice."""
    same = ds.slowed.copy()
    same[1::2] = same[::2].values
    return {"engines in place of the paper": ds.assign(slowed=same)}


def draw(ds):
    """One line per factor and ramp."""
    return plot.lines(ds, "slowed", x="pair", color="scaling", title=claim(ds).title)
