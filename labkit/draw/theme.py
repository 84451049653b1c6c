"""The look of every figure: colours by meaning, a template small enough to travel, and a quiet toolbar.

Quantities carry their scale (`labkit.notation.QUANTITIES`): signed ones are diverging and centred on 0, fractions run
from 0 to 1, positive ones from 0. Gated DeltaNet is blue and gated attention orange wherever they meet. Colours are
those of Okabe and Ito, which readers with any kind of colour vision tell apart, and of ColorBrewer's scales, whose
lightness follows the value. Backgrounds are transparent and text is mid-grey, so that light and dark pages both work.
"""

import json
import math
import pathlib
import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import xarray
from plotly.io import to_json

from labkit.draw.words import escape
from labkit.errors import InputError

KIND = {"deltanet": "#0072B2", "attention": "#D55E00"}
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#8C6D31")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "2px,6px", "14px,3px,2px,3px,2px,3px")
MARKERS = ("circle", "square-open", "diamond", "triangle-up-open", "x", "cross-open", "star", "circle-open")
PATTERNS = ("", "/", "x", ".", "\\", "-", "+", "|")
SIGNED = ((0.0, "#543005"), (0.25, "#bf812d"), (0.5, "#f5f5f5"), (0.75, "#80cdc1"), (1.0, "#208078"))
UNSIGNED = ((0.0, "#f7fbff"), (0.35, "#9ecae1"), (0.7, "#3182bd"), (1.0, "#08306b"))
INK, FAINT, GRID = "#767c86", "#858b95", "rgba(128,128,128,0.25)"
BLANK = "rgba(128,128,128,0.12)"  # behind maps: a cell without a value is not a cell of value 0
# No logo, and no button that would upload a figure.
CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}
MIME = "application/vnd.plotly.v1+json"
STILL = {"config": CONFIG, "auto_play": False}

TEMPLATE = {
    "layout": {
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(SERIES),
        "xaxis": {"automargin": True, "linecolor": GRID, "showgrid": False, "ticks": "", "zeroline": False},
        "yaxis": {"automargin": True, "gridcolor": GRID, "linecolor": GRID, "ticks": "", "zeroline": False},
        "hoverlabel": {"font": {"family": "ui-monospace, monospace"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": FAINT},
        "title": {
            "font": {"size": 15},
            "x": 0.01,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
        },
    }
}


class Figure(go.Figure):
    """A plotly figure that shows itself with the quiet toolbar: in JupyterLab, in a page, and when written to one.

    A renderer that somebody chose for plotly is honoured (`labkit.draw.shown`).
    """

    _numbers = None

    @property
    def numbers(self) -> xarray.Dataset | list[xarray.Dataset] | None:
        """What was drawn: the `xarray.Dataset`, a list where several were, None for a figure of somebody else's.

        `labkit.export` makes files of them.
        """
        return self._numbers

    def show(self, renderer: str | None = None, **kwargs) -> None:
        """As plotly's, with `CONFIG`, and standing still at the first frame, unless told otherwise."""
        from labkit.draw import shown

        if rest := shown.pictures(self, renderer, kwargs):
            only = "+".join(rest)
            super().show(*[] if renderer is None and only == pio.renderers.default else [only], **STILL | kwargs)

    def to_html(self, *args, **kwargs) -> str:
        """As plotly's, with `CONFIG`, and standing still at the first frame, unless told otherwise."""
        return super().to_html(*args, **STILL | kwargs)

    def write_html(self, *args, **kwargs) -> None:
        """As plotly's, with `CONFIG`, and standing still at the first frame, unless told otherwise."""
        return super().write_html(*args, **STILL | kwargs)

    def to_image(self, format: str = "png", *, width=None, height=None, scale=1) -> bytes:
        """As plotly's, in pixels and in the look of the screen, asking no network; for print there is `draw.save`."""
        from labkit.draw.images import image

        return image(self.to_dict(), format, width=width, height=height, scale=scale)

    def write_image(self, file, format: str | None = None, **options) -> None:
        """As plotly's, in pixels and in the look of the screen, asking no network; for print there is `draw.save`."""
        kind = format or pathlib.Path(file).suffix[1:] or "png"
        pathlib.Path(file).write_bytes(self.to_image(kind, **options))

    def _repr_mimebundle_(self, *args, **kwargs):
        return {MIME: json.loads(to_json(self, validate=False)) | {"config": CONFIG}}

    def _repr_html_(self):
        return None  # plotly's would load its script from a network

    def _ipython_display_(self):
        from labkit.draw import shown

        shown.present(self, self._repr_mimebundle_())


def colours(array: xarray.DataArray) -> dict:
    """Colour scale and range of a quantity, `{"colorscale", "zmin", "zmax"}`, from its `scale` attribute.

    Without the attribute, values below 0 make it signed.
    """
    values = np.asarray(array, dtype=float)
    finite = values[np.isfinite(values)]
    top = float(np.abs(finite).max(initial=0)) or 1.0
    scale = array.attrs.get("scale") or ("signed" if finite.min(initial=0) < 0 else "positive")
    if scale == "signed":
        return {"colorscale": SIGNED, "zmin": -top, "zmax": top}
    return {"colorscale": UNSIGNED, "zmin": 0.0, "zmax": 1.0 if scale == "fraction" else top}


def ink(array: xarray.DataArray, look: dict) -> list[str]:
    """A text colour for each value of a list, that stands out from the value's own colour; mid-grey where NaN."""
    share = np.clip((np.asarray(array, dtype=float) - look["zmin"]) / (look["zmax"] - look["zmin"]), 0, 1)
    places = np.array([at for at, _ in look["colorscale"]])
    stops = np.array([[int(tone[i : i + 2], 16) / 255 for i in (1, 3, 5)] for _, tone in look["colorscale"]])
    tones = np.stack([np.interp(share, places, channel) for channel in stops.T], axis=-1)
    light = tones**2.2 @ (0.2126, 0.7152, 0.0722)
    return [INK if np.isnan(value) else "#ffffff" if value < 0.22 else "#111827" for value in light]


def finish(
    fig: Figure,
    ds: xarray.Dataset | Sequence[xarray.Dataset],
    title: str | None,
    *,
    height: int = 460,
    above: int = 16,
    arranged: dict | None = None,
) -> Figure:
    """Title (a claim), the line of the proof, and where the numbers came from in `layout.meta["labkit"]`.

    Args:
        ds: what is drawn; of several, the first has the facts, all have layers, and parity is the worst.
        above: room in pixels between the title and the axes.
        arranged: how a page may move the parts on a narrow screen, in `layout.meta["arranged"]`.
    """
    if title is not None and not isinstance(title, str):
        raise InputError("a title is a text", got=repr(title)[:80], expected="a text; None names layer and reading")
    every = list(ds) if isinstance(ds, list | tuple) else [ds]
    fig._numbers = ds if len(every) > 1 else every[0]
    facts = {key: _plain(value) for key, value in getattr(every[0], "attrs", {}).items()}
    facts = {key: facts[key] for key in sorted(facts) if isinstance(facts[key], str | int | float | list)}
    if layers := list(dict.fromkeys(layer for each in every for layer in _layers(each))):
        facts["layer"] = layers[0] if len(layers) == 1 and np.ndim(facts.get("layer", 0)) == 0 else layers
    parities = [_plain(getattr(each, "attrs", {}).get("parity")) for each in every]
    if parities := [parity for parity in parities if isinstance(parity, float)]:
        facts["parity"] = max(parities)
    where = f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}" if layers else ""
    lines = textwrap.wrap(title or " · ".join(filter(None, (where, facts.get("reading", "")))) or "figure", 88)
    top = 24 + 19 * len(lines) + above
    fig.layout.template = TEMPLATE
    fig.update_annotations(font={"size": 13})
    text = {"text": "<br>".join(map(escape, lines)), "pad": {"t": 2 + 12 * len(lines)}}
    meta = {"labkit": facts, "arranged": {"above": above} | (arranged or {})}
    fig.update_layout(title=text, meta=meta, height=height)
    if isinstance(facts.get("parity"), float):
        bound = f"within {_bound(facts['parity']):.0e} of the model's own"
        proven = facts.get("proven")  # what the parity is of, where that is no part of a layer
        proof = f"recomputed from the seams; {bound} next seam" if proven is None else f"{escape(proven)} {bound}"
        fig.update_layout(title={"subtitle": {"text": proof, "font": {"size": 11, "color": FAINT}}})
        top += 18
    return fig.update_layout(margin={"l": 70, "r": 30, "t": top, "b": 60})


def _layers(ds):
    """Layers of a dataset: those of its coordinate; else, where it has none, of its attributes."""
    if "layer" in getattr(ds, "coords", {}):
        return np.atleast_1d(ds["layer"].values).tolist()
    return np.atleast_1d(_plain(getattr(ds, "attrs", {}).get("layer", []))).tolist()


def _bound(error, least=1e-5):
    """The power of ten above an error: below it, the digits are those of one processor."""
    return max(10.0 ** math.ceil(math.log10(max(error, least))), least)


def _plain(value):
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
