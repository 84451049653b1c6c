"""nano still answers at four times its window, with and without YaRN, with less and less certainty

Log-probability of the right value minus that of another value of the text, for one of eight facts, by where the fact
stands and how long the text is; mean over eight questions a cell. nano was trained on 512 tokens.

Look down a column for what length costs, and along a row for what the depth costs. Cells below zero would be answers
that the foil wins; a panel of YaRN that is darker everywhere would show a gain that nano does not have on this task.

Source: in the manner of RULER, arXiv 2404.06654; this project's `yarn.probe`, teacher-forced.
"""

from labkit import draw as plot
from labkit import rotary, yarn

DEPTHS = 5
TOLERANCE = {
    "margin": {
        "rtol": 1e-3,
        "atol": 5e-3,
        "reason": "log-probabilities after some thousand tokens in float32, differences of two near numbers",
    }
}


def data(lab):
    """margin (scaling, length, depth), mean over the questions; right (scaling, length)."""
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    ds = yarn.probe(lab, tasks=("keys",), depths=DEPTHS, scalings=scalings).isel(task=0, drop=True)
    right = ds.right.mean(["depth", "sample"])
    return ds[["margin"]].mean("sample", keep_attrs=True).assign(right=right).assign_attrs(ds.attrs)


def draw(ds):
    """A map of lengths and depths for each scaling."""
    said = ", ".join(f"{name} {float(ds.right.sel(scaling=name)[-1]):.0%}" for name in ds.scaling.values)
    title = f"Right answers at {int(ds.length[-1]):,} tokens: {said}"
    return plot.heatmap(ds, "margin", x="depth", y="length", facet="scaling", title=title)
