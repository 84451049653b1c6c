"""A live map that is computed anew for what one zooms into.

    draw.zoom(lambda x, y: draw.heatmap(attention.window(run, layer=3, head=0, rows=y, sources=x), "lift"),
              x=len(run), y=len(run))

Dragging a box calls the function with its bounds; `back` and `whole` lead out again. Without a kernel it stands still:
what a saved notebook keeps is the figure as it was made.
"""

import json

import ipywidgets

from labkit.draw.panel import Live
from labkit.draw.theme import CONFIG
from labkit.errors import InputError

STILL = "application/vnd.plotly.v1+json"


class Zoom(Live):
    """Made by `zoom`.

    Attributes:
        x, y: bounds (first, end) of what is shown.
        back, whole: the buttons.
        figure, message: as of `Live`; setting ranges of the figure's axes does what dragging a box does.
    """

    def __init__(self, function, x, y):
        self.x, self.y = _bounds("x", x), _bounds("y", y)
        self.past = []
        super().__init__(function)
        self.back, self.whole = (ipywidgets.Button(description=text, disabled=True) for text in ("back", "whole"))
        self.back.on_click(lambda _: self._go(*self.past.pop()))
        self.whole.on_click(lambda _: self._out())
        self.box = ipywidgets.VBox([ipywidgets.HBox([self.back, self.whole]), self.message, self.figure])
        self._listening = True
        self.figure.layout.on_change(self._dragged, "xaxis.range", "yaxis.range")

    def __repr__(self):
        return f"Zoom(x={self.x}, y={self.y})"

    def _repr_mimebundle_(self, **kwargs):
        still = json.loads(self.made.to_json())
        return {STILL: still | {"config": CONFIG}} | super()._repr_mimebundle_(**kwargs)

    def _asked(self):
        return {"x": self.x, "y": self.y}

    def _dragged(self, layout, x, y):
        if not self._listening or (x is None and y is None):
            return
        down, right = len(self.figure.data[0].z), len(self.figure.data[0].z[0])
        before = self.x, self.y
        wanted = _inside(self.x, right, x), _inside(self.y, down, y)
        if wanted != before:
            self.past.append(before)
        self._go(*wanted)

    def _out(self):
        self.past, (x, y) = [], self.past[0]
        self._go(x, y)

    def _go(self, x, y):
        before, self.x, self.y = (self.x, self.y), x, y
        self._listening = False
        try:
            self._changed()
            if self.message.value:  # the last good figure stays, and with it its bounds
                self.x, self.y = before
            fit = {"xaxis": {"range": None, "autorange": True}, "yaxis": {"range": None, "autorange": "reversed"}}
            self.figure.update_layout(fit)
        finally:
            self._listening = True
        self.back.disabled = self.whole.disabled = not self.past


def _bounds(name, given):
    first, end = (0, given) if isinstance(given, int) else map(int, given)
    if first >= end:
        raise InputError("a zoom needs something to show", got=f"{name}=({first}, {end})", expected="(first, end)")
    return first, end


def _inside(bounds, cells, box):
    """The bounds of those cells that a box, in cells from -0.5, touches."""
    if box is None:
        return bounds
    first, end = bounds
    low, high = sorted(min(max(edge + 0.5, 0), cells) for edge in box)
    low, high = int(low), max(int(low) + 1, -int(-high // 1))
    return first + min(low, cells - 1) * (end - first) // cells, first + min(high, cells) * (end - first) // cells


def zoom(function, *, x, y):
    """A live map over a running kernel that is computed anew for what one zooms into.

    Args:
        function: called with `x` and `y`, bounds (first, end); returns a figure whose first trace is a map of evenly
            spaced stretches of them, for example of `attention.window`.
        x, y: the outermost bounds, (first, end) or a length.

    Returns:
        `Zoom`; show it as the last value of a cell.

    Raises:
        InputError: empty bounds, a function that returns no figure. What `function` raises at the first call is raised
            here; later it is shown beside the figure, which stays.
    """
    return Zoom(function, x, y)
