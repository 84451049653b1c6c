"""Drawing: labelled data in, plotly figure out. This package knows nothing of torch, models or runs.

    ds = attention.pattern(run, layer=3)
    draw.heatmap(ds)                        # maps, small multiples, or a slider over heads
    draw.frames(ds, along="query_head")     # a slider that lives in the figure and needs no kernel
    draw.lines(deltanet.memory(run, layer=0), "keep")
    draw.page("fox.html", [draw.heatmap(ds)], title="What a fox reads")     # one page that works offline

    maps((ds, "weight", "left"), ...)       different maps side by side
    bars, tokens                            bars, and the prompt itself as coloured cells
    stack(spec.stack(lab.spec))             the architecture, with the layer strip as its legend
    graph(ds)                               nodes in rows and columns, edges by what they bring
    panel(function, layer=[...])            a live panel over the model
    zoom(function, x=..., y=...)            a live map, computed anew for what one zooms into
    save(figure, "x.pdf")                   one figure for print: PDF, SVG or PNG, as wide as a column

Live figures are imported when they are first used: their widgets take as long to import as all the rest.
"""

import importlib

from labkit.draw.architecture import stack
from labkit.draw.graphs import graph
from labkit.draw.heatmaps import frames, heatmap, maps
from labkit.draw.images import save
from labkit.draw.pages import page
from labkit.draw.plots import bars, lines, tokens
from labkit.draw.theme import CONFIG, KIND
from labkit.draw.theme import Figure as Figure  # not listed: `help` would show all of plotly's methods

_LIVE = ("Panel", "Zoom", "panel", "zoom")

__all__ = ["CONFIG", "KIND", "bars", "frames", "graph", "heatmap", "lines", "maps", "page", "save", "stack", "tokens"]
__all__ += _LIVE


def __getattr__(name):
    if name in _LIVE:
        return getattr(importlib.import_module("labkit.draw.live"), name)
    raise AttributeError(f"module 'labkit.draw' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
