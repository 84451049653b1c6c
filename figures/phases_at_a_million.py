"""Which phases does a context of a million tokens show that training never did?

Each cell is a rotary pair under a scaling: the arc of phases that distances up to 1,010,000 tokens show and distances
within the window of 262,144 did not, as a share of a full turn. Exact, from the configuration, no model is run.

Look at the dark cells. A pair that turns at least once in the window has seen every phase, however long the text; the
slowest pairs barely move at all. Factor 2 is made for twice the window. The controls are contexts of one window, in
which nothing can be new, and of four million tokens, too long for factor 4.

Source: RoPE, arXiv 2104.09864; YaRN, arXiv 2309.00071; `labkit.yarn.phase_coverage`.
"""

import figures
from labkit import draw as plot
from labkit import rotary, spec, yarn
from labkit.claims import Claim, Part

PLACE = ("yarn", 30)
TOKENS, MORE = 1_010_000, 4_040_000


def data(lab):
    """new (scaling, pair) of a million tokens, with `turns`; how many pairs at each of three lengths."""
    model = spec.read("Qwen3.6-27B")
    scalings = [rotary.Scaling(), *(yarn.stretched(model, factor) for factor in (2, 4))]
    unseen = {}
    for name, tokens in (("unseen", TOKENS), ("within", model.window), ("beyond", MORE)):
        ds = yarn.phase_coverage(model, tokens, scalings=scalings)
        unseen[name] = (~ds.covered).sum("pair").astype("int64")
        if name == "unseen":
            shown = ds[["new", "turns", "trained"]]
    facts = figures.made(model.name, sample=f"all {model.rotary_dim // 2} pairs, from the configuration")
    return shown.assign(unseen).assign_attrs(facts)


def claim(ds):
    """New phases without scaling and under factor 2, none under factor 4."""
    none, two, four = (int(ds.unseen.sel(scaling=name)) for name in ("none", "yarn 2", "yarn 4"))
    return Claim(
        f"At {TOKENS:,} tokens {none} of {ds.sizes['pair']} pairs show new phases without scaling, {two} under YaRN 2, "
        f"{four or 'none'} under YaRN 4",
        [
            Part("pairs with new phases, no scaling", none, ">", four, "YaRN 4"),
            Part("pairs with new phases, YaRN 2", two, ">", four, "YaRN 4"),
            Part("pairs with new phases, YaRN 4", four, "=", 0),
        ],
    )


def controls(ds):
    """Shorter and longer contexts."""
    return {
        "a context of one window": ds.assign(unseen=ds.within),
        "a context of four million tokens": ds.assign(unseen=ds.beyond),
    }


def draw(ds):
    """A map of scalings and pairs."""
    return plot.heatmap(ds, "new", x="pair", y="scaling", hover=("turns", "trained"), title=claim(ds).title)
