"""Drawing: labelled data in, plotly figure out. This package knows nothing of torch, models or runs.

draw.heatmap(ds)                        maps, small multiples, or a slider over heads
draw.maps((ds, "weight", "left"), ...)  different maps side by side
draw.frames(ds, along="head")           a slider that lives in the figure and needs no kernel
draw.lines / bars / tokens              series, bars, the prompt itself
draw.graph(ds)                          nodes in rows and columns, edges by what they bring
draw.panel(function, layer=[...])       a live panel over the model
draw.zoom(function, x=..., y=...)       a live map, computed anew for what one zooms into
draw.page(path, figures, title=...)     several figures as one page that works offline
draw.save(figure, "x.pdf")              one figure for print: PDF, SVG or PNG, as wide as a column

Live figures are imported when they are first used: their widgets take as long to import as all the rest.
"""

import importlib

from labkit.draw.graphs import graph
from labkit.draw.heatmaps import frames, heatmap, maps
from labkit.draw.images import save
from labkit.draw.pages import page
from labkit.draw.plots import bars, lines, tokens
from labkit.draw.theme import CONFIG, KIND, Figure

_LIVE = ("Panel", "Zoom", "panel", "zoom")

__all__ = [
    "CONFIG",
    "KIND",
    "Figure",
    "bars",
    "frames",
    "graph",
    "heatmap",
    "lines",
    "maps",
    "page",
    "save",
    "tokens",
    *_LIVE,
]


def __getattr__(name):
    if name in _LIVE:
        return getattr(importlib.import_module("labkit.draw.live"), name)
    raise AttributeError(f"module 'labkit.draw' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LIVE])
