"""A figure as paper wants it: black on white, as wide as a column, its letters in points, one step of its slider.

A figure is laid out at `width * BASE / font` pixels, so that the sizes of the screen keep their proportions, and then
scaled until the letters of its axes have `font` points. Below 640 such pixels the parts stand below each other by the
rules of a narrow screen (`ARRANGE`). What tells lines and bars apart in grey is there already: dashes, marks, patterns.
"""

import dataclasses
import html
import json

from plotly.io import to_json

from labkit.arguments import number, whole
from labkit.draw.pages import listed
from labkit.draw.script import ARRANGE
from labkit.draw.theme import FAINT, GRID, INK
from labkit.draw.titles import apart
from labkit.draw.words import escape
from labkit.errors import InputError
from labkit.notation import select

COLUMNS = {"single": 85.0, "double": 178.0}  # millimetres, what most journals give a column and a page
NARROWEST, WIDEST = 40.0, 600.0  # millimetres
SMALLEST, LARGEST = 5.0, 14.0  # points
BASE = 12  # pixels that the letters of an axis have on a screen
POINT = 25.4 / 72  # millimetres
PIXEL = 25.4 / 96  # millimetres of a CSS pixel
BLACK, RULE = "#000000", "#b0b0b0"
FAMILY = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
TALL = {True: 150, False: 215}  # pixels of one panel of several, and of a single one

PRINT = (
    "{"
    + ARRANGE
    + r"""
const toImage = Plotly.toImage, paper = (figure, width) => {
  const strip = ((figure.layout.meta || {}).arranged || {}).strip;
  const {data, layout} = width >= NARROW ? figure : strip ? folded(figure, width) : narrow(figure, width);
  const meta = figure.layout.meta || {}, words = meta.words, how = meta.arranged || {};
  const l = JSON.parse(JSON.stringify(layout));
  l.legend = {...l.legend, tracegroupgap: 0};
  if (width >= NARROW && how.places > 1) {  // wide, but not as wide as a screen
    const each = (width - 110) / how.columns - 20, most = Math.floor(each / SIGN);
    for (const axis of Object.keys(l).filter(key => /^xaxis/.test(key)).map(key => l[key])) {
      const names = longest(axis.ticktext || []);
      thin(axis, names > 4 ? 17 : 16 + SIGN * names, each);
      if (axis.title && axis.title.text) axis.title = {...axis.title, text: wrapped(axis.title.text, most)};
    }
  }
  if (words) {
    const text = wrapped(words, Math.floor((width - 16) / SIGN)), room = 16 * text.split('<br>').length + 6;
    const was = {l: 80, t: 100, ...l.margin};
    l.annotations = [...(l.annotations || []), {text, showarrow: false, align: 'left', font: {size: 13}, x: 0, y: 1,
      xref: 'paper', yref: 'paper', xanchor: 'left', yanchor: 'top', xshift: 6 - was.l, yshift: was.t + room - 4}];
    l.margin = {...l.margin, t: was.t + room};
    l.height = (l.height || 450) + room;
  }
  return {data, layout: l};
};
Plotly.toImage = (figure, options) => {
  const {data, layout} = paper(figure, options.width);
  return toImage({data, layout, config: figure.config}, {...options, height: layout.height || options.height});
};
}"""
)


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A figure made ready for print.

    Attributes:
        figure: plotly JSON, as Python holds it.
        across: pixels that it is laid out in. scale: CSS pixels of paper per such pixel. width: millimetres.
    """

    figure: dict
    across: int
    scale: float
    width: float


def sheet(figure, *, width="single", font=8.0, title=False, step=None) -> Sheet:
    """The `Sheet` of a plotly figure.

    Args:
        width: "single" (85 mm), "double" (178 mm), or millimetres.
        font: size of the axes' letters in points; others keep their proportion to it.
        title: whether the figure's title stands above it; in a paper it stands in the caption.
        step: which entry of the figure's slider; None is the one that it shows. Its name stands above.

    Raises:
        InputError: no such width or size, or a step of a figure without a slider.
    """
    wide = _millimetres(width)
    font = number(font, "font", least=SMALLEST, most=LARGEST)
    drawn = listed(json.loads(to_json(figure, validate=False)))
    layout = drawn.setdefault("layout", {})
    entry = _step(drawn, step)
    said, _, layout = apart(layout)
    words = " · ".join(escape(text) for text in (said if title else "", entry) if text)
    drawn["layout"] = _dressed(layout) | {"title": {"text": ""}}
    meta = dict(drawn["layout"].get("meta") or {})
    if "arranged" in meta:
        meta["arranged"] = meta["arranged"] | {"tall": TALL[meta["arranged"].get("places", 1) > 1]}
    drawn["layout"]["meta"] = meta | {"words": words}
    across = round(wide / POINT * BASE / font)
    plain = {"data": _black(drawn["data"]), "layout": _black(drawn["layout"])}
    return Sheet(plain, across, wide / PIXEL / across, wide)


def _millimetres(width):
    if not isinstance(width, str):
        return number(width, "width", least=NARROWEST, most=WIDEST)
    if width not in COLUMNS:
        known = ", ".join(f'"{name}" ({wide:g} mm)' for name, wide in COLUMNS.items())
        raise InputError("no such width of a print", got=repr(width), expected=f"{known}, or millimetres")
    return COLUMNS[width]


def _step(drawn, step):
    """Let a figure stand at a step of its slider, which goes; returns the name of the entry."""
    sliders, frames = drawn["layout"].pop("sliders", None), drawn.pop("frames", None) or []
    drawn["layout"].pop("updatemenus", None)
    if not sliders or not frames:
        if step is not None:
            raise InputError("this figure has no slider", got=f"step={step!r}", expected="step=None")
        return ""
    (slider,) = sliders[:1]
    at = slider.get("active", 0) if step is None else select(whole(step, "step"), len(frames), "step")[0]
    frame = frames[at]
    for n, part in zip(frame.get("traces") or range(len(frame["data"])), frame["data"], strict=True):
        drawn["data"][n] = drawn["data"][n] | part
    below = (slider.get("pad") or {}).get("t", 0) + 40
    margin = drawn["layout"].get("margin") or {}
    if "height" in drawn["layout"]:
        drawn["layout"]["height"] -= min(below, 140)
        drawn["layout"]["margin"] = margin | {"b": max(margin.get("b", 60) - 95, 60)}
    prefix = (slider.get("currentvalue") or {}).get("prefix", "")
    return html.unescape(f"{prefix}{slider['steps'][at].get('label', '')}")


def _dressed(layout):
    """White ground, black letters, thin rules."""
    font = {"family": FAMILY, "size": BASE, "color": BLACK}
    axis = {"linecolor": BLACK, "gridcolor": RULE, "zerolinecolor": RULE}
    template = json.loads(json.dumps(layout.get("template") or {}))
    base = template.setdefault("layout", {})
    base["font"] = (base.get("font") or {}) | font
    for name in ("xaxis", "yaxis"):
        base[name] = (base.get(name) or {}) | axis
    return layout | {"template": template, "font": font, "paper_bgcolor": "white"}


def _black(value):
    """The greys of a screen's text are black, and its rules are a grey of paper."""
    if isinstance(value, dict):
        return {key: _black(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_black(part) for part in value] if value and not isinstance(value[0], int | float) else value
    return {INK: BLACK, FAINT: BLACK, GRID: RULE}.get(value, value) if isinstance(value, str) else value
