"""At a million tokens ten pairs of the 27B show phases that training never did; YaRN 4 brings all back

Each cell is a rotary pair under a scaling: the arc of phases that distances up to 1,010,000 tokens show and distances
within 262,144 did not, as a share of a full turn. Exact, from the configuration.

Look at the dark cells of the first row. A pair that turns at least once in the window has seen every phase, however
long the text; the slowest pairs barely move at all. Dark cells in the row of YaRN 4 would refute the title; factor 2 is
made for 524,288 tokens and leaves some.

Source: RoPE, arXiv 2104.09864; YaRN, arXiv 2309.00071; `labkit.yarn.phase_coverage`.
"""

from labkit import draw as plot
from labkit import rotary, spec, yarn

TOKENS = 1_010_000


def data(lab):
    """new (scaling, pair) and what else `yarn.phase_coverage` gives."""
    model = spec.read("Qwen3.6-27B")
    scalings = [rotary.Scaling(), *(yarn.stretched(model, factor) for factor in (2, 4))]
    ds = yarn.phase_coverage(model, TOKENS, scalings=scalings)
    return ds[["new", "turns", "trained"]].assign(unseen=(~ds.covered).sum("pair"))


def draw(ds):
    """A map of scalings and pairs."""
    unseen = ", ".join(f"{name} {int(n)}" for name, n in zip(ds.scaling.values, ds.unseen.values, strict=True))
    title = f"Pairs with phases beyond those of training, at {int(ds.attrs['tokens']):,} tokens: {unseen}"
    return plot.heatmap(ds, "new", x="pair", y="scaling", hover=("turns", "trained"), title=title)
