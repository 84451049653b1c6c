"""The cells of a map: values and colours, what stands under the pointer, and the marks that need no colour.

A negative cell carries a minus sign where its value is above a tenth of the range, in maps small enough to show it. A
map of few cells with intervals says value and interval in each.
"""

import numpy as np
import plotly.graph_objects as go
import xarray

from labkit.draw.scales import places, scale
from labkit.draw.theme import INK, SIGNED, colours
from labkit.draw.words import called, folded, named

MARKED = 4096  # cells of one picture that a browser fills with signs fluently
TOLD = 64  # cells of one picture with room for a number and its interval
LEAST = 0.1  # of the range: what is lighter is no sign to a reader either
MINUS = "\u2212"


class Cells:
    """How the maps of one variable are filled, in a picture and in every step of its slider.

    Args:
        array: the variable, whole; y, x: dims of a map.
        beside: variables that are told under the pointer; with `interval`, the last two are the ends of an interval.
        count: maps of one picture.
    """

    def __init__(self, array, y, x, beside=(), *, count=1, interval=False):
        self.whole, self.y, self.x, self.interval = array, y, x, interval
        size, look = count * array.sizes[y] * array.sizes[x], colours(array)
        self.top = look["zmax"] if look["colorscale"] is SIGNED and size <= MARKED else None
        self.told = interval and size <= TOLD
        self.names = [named(other) for other in beside]

    def trace(self, part: xarray.DataArray, coloraxis: str, beside=()) -> go.Heatmap:
        """One map."""
        count = len(self.names) - (2 if self.interval else 0)
        lines = [f"{called(self.whole, dim)} %{{{axis}}}" for dim, axis in ((self.y, "y"), (self.x, "x"))]
        lines += [f"{named(self.whole)} %{{z:.4g}}"]
        if self.interval:
            lines[-1] += f", interval %{{customdata[{count}]:.4g}} to %{{customdata[{count + 1}]:.4g}}"
        lines += [f"{name} %{{customdata[{i}]:.4g}}" for i, name in enumerate(self.names[:count])]
        data = self.moved(part, coloraxis, beside) | {"hovertemplate": "<br>".join(lines) + "<extra></extra>"}
        for dim, axis in ((self.y, "y"), (self.x, "x")):
            if scale(self.whole, dim, cells=True) is not None:
                data[axis] = places(self.whole, dim, cells=True)
        return go.Heatmap(data | ({"texttemplate": "%{text}"} if "text" in data else {}))

    def moved(self, part: xarray.DataArray, coloraxis: str, beside=()) -> dict:
        """What of a map changes in a step of the slider."""
        data = {"type": "heatmap", "z": _blanked(part), "coloraxis": coloraxis}
        if beside:
            data["customdata"] = np.stack([_blanked(other) for other in beside], -1)
        if self.told:
            low, high = (data["customdata"][..., n] for n in (-2, -1))
            cells = zip(*(each.ravel() for each in (data["z"], low, high)), strict=True)
            texts = [f"{at:.2g}<br>{a:.2g} to {b:.2g}" if np.isfinite(at) else "" for at, a, b in cells]
            data["text"] = np.array(texts, dtype=object).reshape(data["z"].shape).tolist()
        elif self.top is not None:
            data["text"] = np.where(data["z"] < -LEAST * self.top, MINUS, "").tolist()
        return data


def scale_of(array: xarray.DataArray) -> dict:
    """Colours of a quantity as a plotly coloraxis, with its bar."""
    look = colours(array)
    bar = {"title": {"text": folded(named(array), 30), "side": "right"}, "thickness": 12, "outlinewidth": 0}
    bar |= {"lenmode": "pixels", "len": 240, "y": 1, "yanchor": "top", "tickfont": {"color": INK}}
    return {"colorscale": look["colorscale"], "cmin": look["zmin"], "cmax": look["zmax"], "colorbar": bar}


def _blanked(array):
    """float32 values, a copy; what a token cannot have read is NaN."""
    (y, x), cells = array.dims, np.array(array, dtype=np.float32)
    if {"token", "source"} <= set(array.coords) and array["token"].dims in ((), (y,), (x,)):
        source, token = (array[name].broadcast_like(array).transpose(y, x).values for name in ("source", "token"))
        cells[source > token] = np.nan
    return cells
