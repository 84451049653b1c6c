"""YaRN 4 raises the margins of nano's answers up to twice its window; at four times it raises them no more

Log-probability of the right value minus that of another value of the text, for one of eight facts, by where the fact
stands and how long the text is; mean over eight questions a cell. nano was trained on 512 tokens.

Look down a column for what length costs, along a row for what depth costs, and compare the panels cell by cell: both
were asked the same questions. The title gives the difference of the panels for each length with its 95 % interval.
Intervals that held zero at every length would refute it.

Source: in the manner of RULER, arXiv 2404.06654; this project's `yarn.grid`, teacher-forced.
"""

from figures.one_cause_at_a_time import TOLERANCE  # noqa: F401
from labkit import draw as plot
from labkit import rotary, stats, yarn

DEPTHS = 5


def data(lab):
    """margin (scaling, length, depth), mean over the questions; low, high (length): of what YaRN adds; right."""
    scalings = [rotary.Scaling(), yarn.stretched(lab.spec, 4)]
    ds = yarn.grid(lab, tasks=("keys",), depths=DEPTHS, scalings=scalings).isel(task=0, drop=True)
    gain = ds.margin.diff("scaling").isel(scaling=0, drop=True).mean("depth")  # depths of a question share its facts
    low, high = stats.t_interval(gain)
    right = ds.right.mean(["depth", "sample"])
    return ds[["margin"]].mean("sample", keep_attrs=True).assign(low=low, high=high, right=right).assign_attrs(ds.attrs)


def draw(ds):
    """A map of lengths and depths for each scaling."""
    lengths = zip(ds.length, ds.low, ds.high, strict=True)
    gains = ", ".join(f"{int(length):,}: {float(low):+.1f} to {float(high):+.1f}" for length, low, high in lengths)
    title = f"Nats that YaRN 4 adds to the margin, by tokens, 95 %: {gains}"
    return plot.heatmap(ds, "margin", x="depth", y="length", facet="scaling", title=title)
