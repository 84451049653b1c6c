"""The look of every figure: colours by meaning, a template small enough to travel, and a quiet toolbar.

Quantities carry their scale (`labkit.notation.QUANTITIES`): signed ones are diverging and centred on 0, fractions run
from 0 to 1, positive ones from 0. Gated DeltaNet is blue and gated attention orange wherever they meet. Colours are
those of Okabe and Ito, which readers with any kind of colour vision tell apart, and of plotly's perceptual scales.
"""

import html

import numpy as np
import plotly.graph_objects as go

from labkit.errors import InputError

KIND = {"deltanet": "#0072B2", "attention": "#D55E00"}
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#8C6D31")
SIGNED = ((0.0, "#8c510a"), (0.25, "#d8b365"), (0.5, "#f5f5f5"), (0.75, "#5ab4ac"), (1.0, "#01665e"))
UNSIGNED = ((0.0, "#f7fbff"), (0.35, "#9ecae1"), (0.7, "#3182bd"), (1.0, "#08306b"))
INK, FAINT, GRID = "#6b7280", "#8b929c", "rgba(128,128,128,0.25)"
# No logo, and no button that would upload a figure.
CONFIG = {"displaylogo": False, "showSendToCloud": False, "responsive": True}
LIMIT = 1_000_000  # cells of one map: a browser stays fluent below

TEMPLATE = {
    "layout": {
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(SERIES),
        "margin": {"l": 70, "r": 30, "t": 110, "b": 60},
        "xaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": GRID},
        "yaxis": {"gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": GRID},
        "hoverlabel": {"font": {"family": "ui-monospace, monospace"}},
        "title": {"x": 0.01, "xanchor": "left", "font": {"size": 15}},
    }
}


class Figure(go.Figure):
    """A plotly figure that shows itself with the quiet toolbar, in JupyterLab and in a page."""

    def show(self, *args, **kwargs):
        """As plotly's, with `CONFIG` unless another config is given."""
        kwargs.setdefault("config", CONFIG)
        return super().show(*args, **kwargs)

    def _repr_mimebundle_(self, *args, **kwargs):
        import json

        from plotly.io import to_json

        spec = json.loads(to_json(self, validate=False))
        spec["config"] = CONFIG
        return {"application/vnd.plotly.v1+json": spec}

    def _ipython_display_(self):
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)


def escape(text):
    """Text of a user made inert and readable in plotly, which understands a subset of HTML."""
    return html.escape(str(text), quote=False)


def variable(ds, name):
    """One variable of a dataset.

    Raises:
        InputError: no such variable; names those there are.
    """
    if name not in getattr(ds, "data_vars", {}):
        known = ", ".join(map(str, getattr(ds, "data_vars", {}))) or "no variables"
        raise InputError("no such variable in this dataset", got=name, expected=known)
    found = ds[name]
    if not found.size:
        raise InputError("nothing to draw", got=f"{name} of shape {found.shape}")
    return found


def colours(array):
    """Colour scale and range of a quantity: `{"colorscale", "zmin", "zmax", "zmid"}`, from its `scale` attribute."""
    values = np.asarray(array, dtype=float)
    finite = values[np.isfinite(values)]
    top = float(np.abs(finite).max()) if finite.size else 1.0
    top = top or 1.0
    scale = array.attrs.get("scale")
    if scale is None:
        scale = "signed" if finite.size and finite.min() < 0 else "positive"
    if scale == "signed":
        return {"colorscale": SIGNED, "zmin": -top, "zmax": top, "zmid": 0.0}
    return {"colorscale": UNSIGNED, "zmin": 0.0, "zmax": 1.0 if scale == "fraction" else top}


def named(array):
    """`symbol (unit)` of a variable, as its colour bar and axis say it."""
    symbol = array.attrs.get("symbol", array.name or "value")
    units = array.attrs.get("units")
    return escape(f"{symbol} [{units}]" if units and units != "1" else symbol)


def ticks(array, dim, room=40):
    """Positions, their tick labels, and full texts along a dim.

    Positions are counted, so that equal tokens stay apart; labels are thinned to `room`.
    """
    count = array.sizes[dim]
    at = array[dim].values if dim in array.coords else np.arange(count)
    words = array[f"{dim}_text"].values if f"{dim}_text" in array.coords else None
    full = [escape(p) for p in at] if words is None else [escape(f"{p} {w}") for p, w in zip(at, words, strict=True)]
    step = max(1, -(-count // room))
    chosen = list(range(0, count, step))
    short = [escape(_short(words[i])) if words is not None else escape(at[i]) for i in chosen]
    return chosen, short, full


def _short(text, width=12):
    text = str(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def finish(fig, ds, title, *, height=None):
    """Title (a claim), caption of the proof, and where the numbers came from in `layout.meta`."""
    facts = {k: v for k, v in getattr(ds, "attrs", {}).items() if isinstance(v, str | int | float)}
    where = [f"layer {facts['layer']}" if "layer" in facts else "", str(facts.get("reading", ""))]
    fig.update_layout(
        template=TEMPLATE,
        title={"text": escape(title or " · ".join(w for w in where if w) or "figure")},
        meta={"labkit": {k: facts[k] for k in sorted(facts)}},
        height=height or 460,
    )
    if "parity" in facts:
        proof = f"recomputed from the seams; {facts['parity']:.0e} from the model's own next seam"
        fig.update_layout(title={"subtitle": {"text": proof, "font": {"size": 11, "color": FAINT}}})
    return fig
