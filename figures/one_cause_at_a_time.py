"""Beyond its window only far positions move nano's answers; more keys in the softmax and fuller states hardly do

Log-probability of the right answer minus that of its foil, for a text with eight facts and a question. Each line
changes one thing: the question's positions alone (gap), the keys in the softmax alone (dilution), the states alone, or
all at once by real filler. Shifting all positions is the null control and must not move. The first N fills the window.

Look at how a line goes on from its first point, within the window, to the right. The dilution line that fell as much as
the gap line, or a control that moved, would refute the title. Compare the panels for what YaRN changes.

Source: YaRN, arXiv 2309.00071; counterfactuals from real keys, values and states, this project's `yarn.causes`.
"""

from labkit import draw as plot
from labkit import yarn

SEEDS, SHOWN = 16, ("gap", "dilution", "states", "all")
TOLERANCE = {
    "margin": {
        "rtol": 1e-3,
        "atol": 5e-3,
        "reason": "log-probabilities after some thousand tokens in float32, differences of two near numbers",
    }
}


def data(lab):
    """margin (term, scaling, gap), mean over the questions; control: the most that shifting moved any."""
    ds = yarn.causes(lab, seeds=SEEDS)
    moved = abs(ds.margin.sel(term="shift") - ds.margin.sel(term="short")).max()
    held = ds[["margin"]].mean("sample", keep_attrs=True).assign_attrs(ds.attrs)
    return held.assign_attrs(seeds=SEEDS, control_within=bool(moved < 5e-3))


def draw(ds):
    """One line per cause, one panel per scaling."""
    fall = ds.margin.isel(gap=0) - ds.margin.isel(gap=-1)
    lost = lambda name: ", ".join(f"{t} {float(fall.sel(term=t, scaling=name)):+.1f}" for t in SHOWN)  # noqa: E731
    said = "; ".join(f"{name}: {lost(name)}" for name in ds.scaling.values)
    title = f"Nats lost from the full window to 3 windows more, under {said}"
    return plot.lines(ds, "margin", x="gap", color="term", facet="scaling", title=title)
