"""Under YaRN 4 what nano loses beyond its window comes with far positions; without, no single cause is sure

Log-probability of the right answer minus that of its foil, for a text with eight facts and a question. Each line
changes one thing: the question's positions alone (gap), the keys in the softmax alone (dilution), the states alone, or
all at once by real filler. Shifting all positions is the null control and must not move. The first N fills the window.

Look at how a line goes on from its first point, within the window, to the right; the title gives that fall with its
95 % interval (Student's t over 16 questions). A dilution line that fell like the gap line under YaRN, or a control that
moved, would refute the title. At the left YaRN 4 is the better one, at the right the worse: nano was never trained on
stretched frequencies.

Source: YaRN, arXiv 2309.00071; counterfactuals of real keys, values and states, `yarn.counterfactuals`.
"""

from labkit import draw as plot
from labkit import stats, yarn

SEEDS, SHOWN = 16, ("gap", "dilution", "states")
TOLERANCE = {
    name: {
        "rtol": 1e-3,
        "atol": 5e-3,
        "reason": "log-probabilities after some thousand tokens in float32, differences of two near numbers",
    }
    for name in ("margin", "low", "high")
}


def data(lab):
    """margin (cause, scaling, gap), mean over the questions; control: the most that shifting moved any."""
    ds = yarn.counterfactuals(lab, seeds=SEEDS)
    moved = abs(ds.margin.sel(cause="shift") - ds.margin.sel(cause="short")).max()
    fall = ds.margin.isel(gap=0) - ds.margin.isel(gap=-1)
    low, high = stats.t_interval(fall)
    means = ds[["margin"]].mean("sample", keep_attrs=True).assign(low=low, high=high)
    return means.assign_attrs(ds.attrs | {"seeds": SEEDS, "control_within": bool(moved < 5e-3)})


def draw(ds):
    """One line per cause, one panel per scaling."""
    ends = lambda **at: f"{float(ds.low.sel(**at)):+.1f} to {float(ds.high.sel(**at)):+.1f}"  # noqa: E731
    lost = {
        name: ", ".join(f"{cause} {ends(cause=cause, scaling=name)}" for cause in SHOWN) for name in ds.scaling.values
    }
    title = "Nats lost from the full window to three windows more, 95 %: "
    title += "; ".join(f"{name}: {intervals}" for name, intervals in lost.items())
    return plot.lines(ds, "margin", x="gap", color="cause", facet="scaling", title=title)
