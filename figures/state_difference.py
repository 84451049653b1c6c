"""One changed word leaves its mark in some heads' states and none in others

Two prompts differ in one word, the value of the second fact. After the last token of both, how far apart are the states
of each value head, as a share of the state's size? The darker a cell, the more of that head's state is about the word
that differs.

Look for pale rows and cells: heads whose state at the end is the same for both prompts have forgotten the word, or
never stored it. Equal shades everywhere would refute the title.

Source: Gated DeltaNet, arXiv 2412.06464; comparing states, this project's `deltanet.state_difference`.
"""

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red. whale {}. crow green. lion gold. bear black."


def data(lab):
    """difference (layer, head)."""
    blue, pink = (lab.trace(PROMPT.format(word)) for word in ("blue", "pink"))
    return deltanet.state_difference(blue, pink, layer=lab.spec.deltanet_layers)[["difference"]]


def draw(ds):
    """A map of layers and heads."""
    low, high = float(ds.difference.min()), float(ds.difference.max())
    title = f"Ten tokens after the word that differs, states differ by {low:.0%} to {high:.0%}"
    return plot.heatmap(ds, "difference", x="head", y="layer", title=title)
