"""A small picture of a figure: an inline SVG of its first traces, drawn here, without a browser and without a script.

It stands in a table of contents beside the words that say the same, so it is hidden from those who hear the page. Maps
keep their colours; frames and marks take the colour of the text, so that light and dark pages both work.
"""

import math

import numpy as np
from plotly.colors import hex_to_rgb

WIDE, HIGH, EDGE = 168, 104, 4
CELLS = (32, 20)  # most cells of a map, across and down
POINTS = 80  # most points of a line
SHADES = 9
PANELS = 8
DASHES = {"dot": "1.5 3", "dash": "5 3", "longdash": "8 4", "dashdot": "6 3 1.5 3"}
STACKED = ("stack", "relative")
DRAWN = ("heatmap", "bar", "scatter", "scattergl")


def small(figure):
    """SVG text of a plotly figure, some kilobytes."""
    layout, panels = figure.layout.to_plotly_json(), {}
    for trace in (trace.to_plotly_json() for trace in figure.data):
        if trace.get("type", "scatter") in DRAWN:
            panels.setdefault((trace.get("xaxis", "x"), trace.get("yaxis", "y")), []).append(trace)
    parts = [_panel(layout, pair, traces, panels) for pair, traces in list(panels.items())[:PANELS]]
    size = f'width="{WIDE}" height="{HIGH}" viewBox="0 0 {WIDE} {HIGH}"'
    return f'<svg {size} aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def _panel(layout, pair, traces, panels):
    """One pair of axes at its place, with all that is drawn on it."""
    across, down = (_axis(layout, name) for name in pair)
    left, right = (EDGE + share * (WIDE - 2 * EDGE) for share in across.get("domain", (0, 1)))
    low, high = (HIGH - EDGE - share * (HIGH - 2 * EDGE) for share in down.get("domain", (0, 1)))
    box = (left, high, right - left, low - high)
    frame = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="currentColor" opacity="0.07"/>'
    parts = [frame.format(*box)]
    parts += [_map(layout, trace, down, box) for trace in traces if trace.get("type") == "heatmap"]
    drawn = [trace for trace in traces if trace.get("type") != "heatmap" and trace.get("mode") != "text"]
    if drawn and not any(trace.get("type") == "heatmap" for trace in traces):
        mates = [_mates(layout, panels, name, n) for n, name in enumerate(pair)]
        x, y = (_scale(layout, name, mates[n], n, box) for n, name in enumerate(pair))
        parts += _bars([trace for trace in drawn if trace.get("type") == "bar"], layout, x, y, box)
        parts += [_line(trace, x, y) for trace in drawn if trace.get("type") != "bar"]
        parts += [_mark(shape, x, box) for shape in layout.get("shapes", ()) if shape.get("xref", "x") == pair[0]]
    return "".join(parts)


def _axis(layout, name):
    return layout.get(f"{name[0]}axis{name[1:]}", {})


# ----------------------------------------------------------------------------------------------------------- maps


def _map(layout, trace, down, box):
    """A heat map, thinned to the cell of largest size of each block; one path for each shade."""
    z = np.atleast_2d(np.asarray(trace["z"], dtype=float))
    z = z if _reversed(layout, down) else z[::-1]
    cells = _thinned(z)
    shared = _colours(layout, trace)
    low, high = shared.get("cmin", np.nanmin(z, initial=0.0)), shared.get("cmax", np.nanmax(z, initial=0.0))
    shade = np.clip((cells - low) / ((high - low) or 1.0), 0, 1) * (SHADES - 1)
    left, top, width, height = box
    tall, wide = cells.shape
    paths = []
    for step in range(SHADES):
        if runs := "".join(_runs(np.nan_to_num(shade, nan=-1.0).round() == step)):
            paths.append(f'<path fill="{_tone(shared.get("colorscale"), step / (SHADES - 1))}" d="{runs}"/>')
    move = f"translate({left:.1f} {top:.1f}) scale({width / wide:.4g} {height / tall:.4g})"
    return f'<g transform="{move}" shape-rendering="crispEdges">{"".join(paths)}</g>'


def _reversed(layout, down):
    down = _axis(layout, down["matches"]) if "matches" in down and "autorange" not in down else down
    low, high = down.get("range", (0, 1))
    return down.get("autorange") == "reversed" or low > high


def _colours(layout, trace):
    if "coloraxis" in trace:
        return layout.get(trace["coloraxis"], {})
    return {key: trace[old] for key, old in (("cmin", "zmin"), ("cmax", "zmax")) if old in trace} | {
        "colorscale": trace.get("colorscale")
    }


def _thinned(z):
    steps = [-(-size // most) for size, most in zip(z.shape, CELLS[::-1], strict=True)]
    blocks = np.full([-(-size // step) * step for size, step in zip(z.shape, steps, strict=True)], np.nan)
    blocks[: z.shape[0], : z.shape[1]] = z
    tall, wide = blocks.shape[0] // steps[0], blocks.shape[1] // steps[1]
    blocks = blocks.reshape(tall, steps[0], wide, steps[1]).transpose(0, 2, 1, 3).reshape(tall, wide, -1)
    largest = np.nan_to_num(np.abs(blocks), nan=-1.0).argmax(-1)
    return np.take_along_axis(blocks, largest[..., None], -1)[..., 0]


def _runs(chosen):
    """Rows of neighbouring cells as steps of a path."""
    for row, line in enumerate(chosen):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        for begin, end in edges.reshape(-1, 2).tolist():
            yield f"M{begin} {row}h{end - begin}v1h{begin - end}z"


def _tone(scale, share):
    """The colour of a scale at a share of its length; without one of hexadecimal stops, a blue."""
    stops = [(place, hex_to_rgb(tone)) for place, tone in scale or () if str(tone).startswith("#")]
    stops = stops or [(0.0, (247, 251, 255)), (1.0, (8, 48, 107))]
    places, tones = zip(*stops, strict=True)
    return "#" + "".join(f"{round(np.interp(share, places, channel)):02x}" for channel in zip(*tones, strict=True))


# --------------------------------------------------------------------------------------------------- lines and bars


def _mates(layout, panels, name, n):
    """All traces on axes that zoom together with this one."""
    root = lambda each: _axis(layout, each).get("matches", each)  # noqa: E731
    return [trace for pair, traces in panels.items() if root(pair[n]) == root(name) for trace in traces]


def _scale(layout, name, traces, n, box):
    """A function from the values of an axis to its place in the picture."""
    axis, (left, top, width, height) = _axis(layout, name), box
    axis = axis if "range" in axis or "matches" not in axis else _axis(layout, axis["matches"]) | axis
    log = axis.get("type") == "log"
    number = lambda values: _logs(values) if log else np.asarray(values, dtype=float)  # noqa: E731
    spoken = [values for trace in traces if (values := trace.get("xy"[n])) is not None]
    spoken = [str(value) for values in spoken if np.asarray(values).dtype.kind in "UO" for value in values]
    names = {value: number for number, value in enumerate(dict.fromkeys(spoken))}
    place = lambda values: number([names[str(v)] for v in values] if names else values)  # noqa: E731
    ends = axis.get("range")
    if ends is None or any(not isinstance(end, int | float) for end in ends):
        spans = [place(values) for trace in traces if len(values := _filled(trace, "xy"[n])) > 0]
        spans += [place(ends) for ends in _piles(layout, traces, "xy"[n])] if _from_zero(traces, n) else []
        flat = np.concatenate([*spans, [0.0] if _from_zero(traces, n) and not log else [], []])
        flat = flat[np.isfinite(flat)]
        room = 0.5 if any(trace.get("type") == "bar" for trace in traces) and not _from_zero(traces, n) else 0.0
        ends = (flat.min(initial=math.inf) - room, flat.max(initial=-math.inf) + room) if flat.size else (0.0, 1.0)
    low, high = ends
    span = (high - low) or 1.0
    start, size = (left, width) if n == 0 else (top + height, -height)
    return lambda values: start + size * np.clip((place(values) - low) / span, 0, 1)


def _piles(layout, traces, letter):
    """How far bars on top of each other reach, up and down."""
    bars = [_filled(trace, letter) for trace in traces if trace.get("type") == "bar"]
    if layout.get("barmode") not in STACKED:
        return []
    piles = [
        [max(sign * float(size or 0), 0) for size in pile] for sign in (1, -1) for pile in zip(*bars, strict=False)
    ]
    half = len(piles) // 2
    return [[sum(pile) for pile in piles[:half]], [-sum(pile) for pile in piles[half:]]]


def _logs(values):
    values = np.asarray(values, dtype=float)
    return np.log10(np.where(values > 0, values, np.nan))


def _from_zero(traces, n):
    """Whether bars grow along this axis."""
    grows = [trace.get("orientation", "v") for trace in traces if trace.get("type") == "bar"]
    return any((way == "h") == (n == 0) for way in grows)


def _filled(trace, letter):
    """Values along an axis; without any, their numbers."""
    values = trace.get(letter)
    return np.arange(len(trace.get("y" if letter == "x" else "x", ()))) if values is None else values


def _line(trace, x, y):
    """A line, or dots where the trace is markers alone."""
    across, up = x(_filled(trace, "x")), y(_filled(trace, "y"))
    step = max(1, -(-len(across) // POINTS))
    points = [p for p in zip(across[::step], up[::step], strict=True) if all(map(math.isfinite, p))]
    style = trace.get("line", {})
    tone = _plain(style.get("color") or trace.get("marker", {}).get("color"))
    if "lines" not in trace.get("mode", "lines"):
        steps = "".join(f"M{across:.1f} {up:.1f}h0" for across, up in points)
        return f'<path d="{steps}" fill="none" stroke="{tone}" stroke-width="4" stroke-linecap="round"/>'
    steps = "L".join(f"{across:.1f} {up:.1f}" for across, up in points)
    dash = f' stroke-dasharray="{DASHES[style["dash"]]}"' if style.get("dash") in DASHES else ""
    return f'<path d="M{steps}" fill="none" stroke="{tone}" stroke-width="1.8"{dash}/>' if points else ""


def _bars(traces, layout, x, y, box):
    """Bars of all traces, on or beside each other."""
    stacked, parts, below = layout.get("barmode") in STACKED, [], {}
    for n, trace in enumerate(traces):
        flat = trace.get("orientation") == "h"
        along, grow = (y, x) if flat else (x, y)
        places = along(_filled(trace, "y" if flat else "x"))
        tall = np.nan_to_num(np.asarray(_filled(trace, "x" if flat else "y"), dtype=float))
        room = 0.8 * (abs(places[1] - places[0]) if len(places) > 1 else 24.0)
        width = room if stacked else room / len(traces)
        begin = places - room / 2 + (0 if stacked else n * width)
        base = np.array([below.get((at, size > 0), 0.0) for at, size in zip(places, tall, strict=True)])
        if stacked:
            below |= {(at, size > 0): b + size for at, size, b in zip(places, tall, base, strict=True)}
        floor = box[0] if flat else box[1] + box[3]  # of a logarithmic axis, which has no 0
        low, high = (np.nan_to_num(grow(ends), nan=floor) for ends in (base, base + tall))
        steps = []
        for at, start, end in zip(begin, low, high, strict=True):
            lying = f"M{start:.1f} {at:.1f}H{end:.1f}v{width:.1f}H{start:.1f}z"
            steps.append(lying if flat else f"M{at:.1f} {start:.1f}V{end:.1f}h{width:.1f}V{start:.1f}z")
        parts.append(f'<path fill="{_plain(trace.get("marker", {}).get("color"))}" d="{"".join(steps)}"/>')
    return parts


def _mark(shape, x, box):
    """An upright line."""
    if shape.get("type") != "line" or shape.get("x0") != shape.get("x1"):
        return ""
    (at,), (_, top, _, height) = x([shape["x0"]]), box
    line = f'd="M{at:.1f} {top:.1f}v{height:.1f}" stroke="currentColor" stroke-dasharray="2 2"'
    return f'<path {line} fill="none" opacity="0.7"/>'


def _plain(colour):
    """A colour of a trace that is one hexadecimal tone; that of the text otherwise."""
    return colour if isinstance(colour, str) and colour.startswith("#") and colour[1:].isalnum() else "currentColor"
