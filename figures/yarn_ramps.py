"""What engines call YaRN and what its paper writes differ by up to 45 % in seven pairs of the 27B

How many times slower each rotary pair turns. Engines blend linearly in the index of the pair, the paper in the number
of turns that a pair makes in the window. Both leave fast pairs alone and slow the ten slowest by the whole factor.

Look between pairs 15 and 21: at pair 18 the two disagree most. Curves that lay on each other would mean that it does
not matter which one a program has.

Source: arXiv 2309.00071, section 3.2; transformers, `modeling_rope_utils.py`; discussion, jquesnelle/yarn #24, #60.
"""

import xarray

from labkit import draw as plot
from labkit import spec, yarn


def data(lab):
    """slowed (scaling, pair); differ: the largest relative difference of the two ramps at factor 4, and its pair."""
    model = spec.read("Qwen3.6-27B")
    curves = [yarn.wavelengths(model, factor, ramp=ramp) for factor in (2, 4) for ramp in ("index", "paper")]
    names = [f"{ds.factor:g}, {'paper' if 'paper' in ds.scaling else 'engines'}" for ds in curves]
    slowed = xarray.concat([ds[["slowed"]] for ds in curves], "scaling", combine_attrs="drop_conflicts")
    slowed = slowed.assign_coords(scaling=names).drop_vars("kind")
    differ = 1 - curves[2].slowed / curves[3].slowed
    return slowed.assign(differ=differ.max(), at=int(differ.argmax("pair")), pairs=int((differ > 1e-3).sum()))


def draw(ds):
    """One line per factor and ramp."""
    title = (
        f"At factor 4 the ramps differ in {int(ds.pairs)} pairs, most at pair {int(ds['at'])}: {float(ds.differ):.0%}"
    )
    return plot.lines(ds, "slowed", x="pair", color="scaling", title=title)
