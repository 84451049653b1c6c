"""The architecture, drawn once: the whole stack as a strip, and beside it the layers that repeat, part by part.

The strip is the legend of the colours that kinds of layer have in every figure. The line upwards is the residual
stream; a part reads from it below and adds to it above. Dots are seams, with their names at the lowest layer.
"""

import plotly.graph_objects as go
import xarray

from labkit.draw.theme import FAINT, INK, KIND, Figure, finish
from labkit.draw.words import escape
from labkit.errors import InputError

NAMES = {"deltanet": ("D", "Gated DeltaNet"), "attention": ("A", "gated attention")}
MOST = 6  # layers that are drawn part by part
LETTERED = 16  # cells of a strip that have room for a letter
STREAM, LEFT, RIGHT = 3.0, 5.4, 13.0  # across: the stream, and the boxes
TALL, STEP = 2.4, 1.2  # a layer, and a part of it
PLACES = {  # of a seam: across, and up from the foot of its layer
    "resid_pre": (STREAM, 0.0),
    "mixer_in": (3.5, 0.32),
    "mixer_out": (3.5, 0.88),
    "mlp_out": (3.5, 0.88 + STEP),
    "resid_post": (STREAM, TALL),
}
PLAIN = "rgba(128,128,128,0.22)"


def stack(ds: xarray.Dataset, *, title: str | None = None) -> Figure:
    """The stack of a model, first layer lowest: `draw.stack(spec.stack(lab.spec))`.

    Args:
        ds: from `labkit.spec.stack`: `parameters` (layer, part), `fixed_bytes` and `token_bytes` (layer), and the
            coordinates `layer_kind`, `mixer_text`, `mlp_text` and `seams` along the layers, with the attributes
            `hidden` and `vocab`.

    Raises:
        InputError: something else than that.
    """
    needed = ("layer_kind", "mixer_text", "mlp_text", "seams", "parameters", "fixed_bytes", "token_bytes")
    needed += ("hidden", "vocab")
    known = {*getattr(ds, "variables", ()), *getattr(ds, "attrs", ())}
    if lost := [name for name in needed if name not in known]:
        hint = "draw.stack(spec.stack(lab.spec))"
        raise InputError("no stack of layers", got=f"without {', '.join(lost)}", expected=", ".join(needed), hint=hint)
    kinds = ds.layer_kind.values.tolist()
    shown = repeated(kinds)
    foot, head = 1.2, 1.2 + TALL * shown
    fig = Figure()
    _strip(fig, ds, kinds, shown, (foot, head))
    fig.add_trace(_line([STREAM, STREAM], [0.75, head + 0.55], INK, 3))
    _box(fig, (0.1, 0.75), PLAIN, f"<b>a token</b>, one of {ds.attrs['vocab']:,} → {ds.attrs['hidden']:,} numbers", "")
    for n in range(shown):
        _layer(fig, ds.isel(layer=n), kinds[n], foot + TALL * n, named=n == 0)
    _box(fig, (head + 0.55, head + 1.2), PLAIN, f"<b>norm, lm_head</b> → {ds.attrs['vocab']:,} logits", "")
    fig.update_xaxes(visible=False, range=[-0.3, RIGHT + 0.2], fixedrange=True)
    fig.update_yaxes(visible=False, range=[-0.1, head + 1.4], fixedrange=True)
    fig.update_layout(showlegend=False)
    made = finish(fig, ds.drop_vars("layer"), title or _title(ds, kinds), height=int(110 + 46 * (head + 1.5)))
    return made.update_layout(margin={"l": 12, "r": 12, "b": 12})


def repeated(kinds: list[str]) -> int:
    """How many of the first layers are repeated all the way up, at most six."""
    periods = (n for n in range(1, len(kinds) + 1) if all(kind == kinds[i % n] for i, kind in enumerate(kinds)))
    return min(next(periods), MOST)


def _title(ds, kinds):
    counts = ", ".join(f"{kinds.count(kind)} {letter} ({name})" for kind, (letter, name) in NAMES.items())
    return f"{ds.attrs.get('model', 'a model')}: {len(kinds)} layers, {counts}"


def _strip(fig, ds, kinds, shown, ends):
    """All layers in one column, first one lowest, and where those beside it are taken from."""
    low, high = 0.1, ends[1] + 1.2
    tall = (high - low) / len(kinds)
    for n, kind in enumerate(kinds):
        letter, name = NAMES[kind]
        y = low + tall * n
        hover = f"layer {n}: {letter}, {name}"
        fig.add_trace(_area((0, 0.6), (y, y + 0.92 * tall), KIND[kind], hover))
        if len(kinds) <= LETTERED:
            fig.add_trace(_text(0.3, y + 0.46 * tall, letter, "#ffffff", "middle center", 12))
    top = low + tall * shown
    fig.add_trace(_line([0.65, 0.9, 0.9, 0.65], [low, ends[0], ends[1], top], FAINT, 1.5))


def _layer(fig, one, kind, foot, *, named):
    letter, name = NAMES[kind]
    held = f"{int(one.fixed_bytes):,} bytes at every length" if int(one.fixed_bytes) else ""
    held = held or f"{int(one.token_bytes):,} bytes for each token"
    parts = (
        (f"<b>{letter} · {name}</b>", str(one.mixer_text.values), KIND[kind], held),
        ("<b>MLP</b>", str(one.mlp_text.values), PLAIN, "nothing is kept"),
    )
    for n, (head, says, colour, kept) in enumerate(parts):
        y = foot + STEP * n
        fig.add_trace(_line([STREAM, LEFT], [y + 0.32, y + 0.32], INK, 1.5))
        fig.add_trace(_mark(LEFT - 0.12, y + 0.32, "triangle-right", 9))
        fig.add_trace(_line([LEFT, STREAM], [y + 0.88, y + 0.88], INK, 1.5))
        fig.add_trace(_mark(STREAM, y + 0.88, "circle-cross-open", 13))
        count = f"layer {int(one.layer)}, {int(one.parameters[n]):,} parameters, {kept}"
        text = f"{head}<br>{escape(says)}"
        _box(fig, (y + 0.18, y + 1.02), colour, text, count, "#ffffff" if colour != PLAIN else INK)
    for seam in str(one.seams.values).split():
        x, up = PLACES[seam]
        fig.add_trace(_dot(x, foot + up, f"seam {seam}, layer {int(one.layer)}"))
        if named:
            place = ("middle left", x - 0.15) if x == STREAM else ("top right", x + 0.1)
            fig.add_trace(_text(place[1], foot + up, escape(seam), INK, place[0], 10))


def _box(fig, ends, colour, text, hover, ink=INK):
    fig.add_trace(_area((LEFT if hover else STREAM - 0.6, RIGHT), ends, colour, hover))
    middle = ((LEFT if hover else STREAM - 0.6) + RIGHT) / 2
    fig.add_trace(_text(middle, sum(ends) / 2, text, ink, "middle center", 11))


def _area(across, ends, colour, hover):
    x, y = (across[0], across[1], across[1], across[0], across[0]), (ends[0], ends[0], ends[1], ends[1], ends[0])
    area = go.Scatter(x=x, y=y, fill="toself", fillcolor=colour, mode="lines", line={"width": 0}, hoveron="fills")
    return area.update(text=escape(hover), hoverinfo="text" if hover else "skip", name="")


def _line(x, y, colour, width):
    return go.Scatter(x=x, y=y, mode="lines", line={"color": colour, "width": width}, hoverinfo="skip")


def _dot(x, y, hover):
    look = {"size": 8, "color": "#ffffff", "line": {"width": 2, "color": INK}}
    return go.Scatter(x=[x], y=[y], mode="markers", marker=look, text=[escape(hover)], hoverinfo="text", name="")


def _mark(x, y, symbol, size):
    return go.Scatter(
        x=[x], y=[y], mode="markers", marker={"symbol": symbol, "size": size, "color": INK}, hoverinfo="skip"
    )


def _text(x, y, text, colour, place, size):
    font = {"color": colour, "size": size}
    return go.Scatter(x=[x], y=[y], mode="text", text=[text], textposition=place, textfont=font, hoverinfo="skip")
