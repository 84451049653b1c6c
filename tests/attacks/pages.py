"""Hostile texts in figures, pages and tables: in names, dims, coordinates, attributes and titles, one place at a time.

What may come of it: a clear error, or a figure that has no sign of the text raw that would run, hide or turn something,
no placeholder that a harmless text would not have, and the text itself, readable.
"""

import functools
import html
import json
import random
import re

import numpy as np
import xarray

from labkit import draw
from labkit.notation import visible
from labkit.signs import inert
from labkit.tables import as_html, as_text, columns
from tests.attacks import attack, tried

TEXTS = ("%{x}", "%{customdata}", "%{z:.99f}", "%{fullData.name}", "%{meta.labkit}", "%_", "100 % {of}")
TEXTS += (
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
)
TEXTS += (
    "<a href='javascript:alert(4)'>x</a>",
    "<extra>gone</extra>",
    "<br>",
    "&lt;b&gt;",
    "&#37;{x}",
    "&amp;",
    "$\\alpha$",
)
TEXTS += (
    "\u202eevil",
    "\u2066in\u2069",
    "a\u200bb",
    "\u200e\u200f",
    "nul\x00nul",
    "bell\x07",
    "\x1b[31mred",
    "\ud800",
    "\ufeff",
)
TEXTS += (
    "line\u2028line",
    "para\u2029",
    "\u3164",
    "a\u034fb",
    '"quoted"',
    "'single'",
    "`tick`",
    "\\u0041",
    "日本",
    "é" * 30,
)
TEXTS += (
    "__proto__",
    "constructor",
    "]]>",
    "<!--",
    "-->",
    "{{x}}",
    "${x}",
    "#{x}",
    "javascript:alert(5)",
    "data:text/html,x",
)
PLACES = (
    "name",
    "dim",
    "other_dim",
    "entry",
    "token",
    "symbol",
    "units",
    "long_name",
    "reading",
    "model",
    "title",
    "hover",
)
PLACES += ("subtitle", "page", "words", "text", "table", "cell", "head", "control")
TAGS = re.compile(r"<br>|<extra></extra>")
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\u034f\u3164]"
)
PLACED = re.compile(r"%{[^}]*}")
DIMS = (
    "name",
    "dim",
    "other_dim",
    "entry",
    "token",
    "symbol",
    "units",
    "long_name",
    "reading",
    "model",
    "title",
    "hover",
)


def dataset(place, text):
    """(dataset, name, down, right, third) with a hostile text at one place."""
    put = lambda here, harmless: text if here == place else harmless  # noqa: E731
    name, down, right, more = (
        put("name", "weight"),
        put("dim", "row"),
        put("other_dim", "column"),
        put("hover", "beside"),
    )
    dims, attrs = ("kind", down, right), {"units": put("units", "nat"), "symbol": put("symbol", "w")}
    values = np.arange(18.0).reshape(3, 2, 3)
    coords = {
        "kind": ["a", put("entry", "b"), "c"],
        right: (right, [0, 1, 2], {"long_name": put("long_name", "place")}),
    }
    coords |= {f"{right}_text": (right, [" fox", put("token", " x"), " y"])}
    data = xarray.Dataset({name: (dims, values, attrs), more: (dims, values)}, coords)
    data.attrs = {"reading": put("reading", "read"), "model": put("model", "tiny"), "layer": 3}
    return data, name, down, right, more


def figure(kind, place, text):
    """One kind of figure of it."""
    data, name, down, right, more = dataset(place, text)
    title = {"title": text} if place == "title" else {}
    first, flat = data.isel(kind=1), data.isel({"kind": 1, down: 0})
    if kind == "maps":
        subtitle = text if place == "subtitle" else "left"
        return draw.maps((first, name, subtitle), (data, name, "right", [more]), slider="kind", **title)
    made = {
        "small maps": lambda: draw.heatmap(data, name, x=right, y=down, facet="kind", hover=[more], **title),
        "slider": lambda: draw.heatmap(data, name, x=right, y=down, slider="kind", hover=[more], **title),
        "frames": lambda: draw.frames(data, name, along=down, x=right, y="kind", **title),
        "lines": lambda: draw.lines(first, name, x=right, color=down, **title),
        "facets": lambda: draw.lines(data, name, x=right, color="kind", facet=down, **title),
        "bars": lambda: draw.bars(first, name, x=right, color=down, stacked=True, **title),
        "plain bars": lambda: draw.bars(flat, name, x=right, **title),
        "strip": lambda: draw.tokens(flat, name, **title),
    }
    return made[kind]()


KINDS = ("maps", "small maps", "slider", "frames", "lines", "facets", "bars", "plain bars", "strip")


@functools.cache
def harmless(kind, place):
    """(whether such a figure shows what stands at that place, its placeholders)."""
    texts, places = shown(figure(kind, place, "harmless"))
    return readable(texts, "harmless"), places


def strings(part):
    """All texts of a figure's JSON that plotly shows: not its facts, which it keeps as they are."""
    if isinstance(part, dict):
        return [text for key, value in part.items() if key not in ("meta", "template") for text in strings(value)]
    if isinstance(part, list):
        return [text for value in part for text in strings(value)]
    return [part] if isinstance(part, str) else []


def shown(figure):
    """(texts, placeholders) of a figure."""
    texts = strings(json.loads(figure.to_json()))
    return texts, sorted(place for text in texts for place in PLACED.findall(text))


def quiet(texts):
    """Whether no text would run, hide or turn anything."""
    return not any("<" in TAGS.sub("", text) or HIDDEN.search(text) or "$" in text for text in texts)


def readable(texts, text):
    """Whether a reader sees the text: whole, or its beginning where labels are cut."""
    wanted = re.sub(r"\s", "", visible(text))
    seen = [re.sub(r"\s", "", html.unescape(TAGS.sub("", each))) for each in texts]
    return any(wanted in each for each in seen)


def right_figure(kind, place, text, made):
    texts, places = shown(made)
    seen, plain = harmless(kind, place)
    return quiet(texts) and places == plain and (readable(texts, text) or not seen)


def right_page(text, page):
    """Whether a page has as many tags and scripts as one without the text, and shows it."""
    body = page.split("</style>")[1]
    head, *_ = body.split('<script type="application/json" id="config">')
    tags = re.findall("<[a-z!/][^>]*>", re.sub(r"(?s)<script.*?</script>", "<script>", head))
    known = re.compile(r"</?(head|body|main|h1|pre|section|div|p|script|footer)\b")
    return (
        all(known.match(tag) for tag in tags) and not HIDDEN.search(page.split("<script>")[0]) and in_html(text, head)
    )


def in_html(text, page):
    return re.sub(r"\s", "", inert(text)) in re.sub(r"\s", "", html.unescape(page))


def tried_once(kind, place, text, folder):
    what = f"{place}: {text!r}"
    if place in (*DIMS, "subtitle"):
        made = lambda: figure(kind, place, text)  # noqa: E731
        return tried(made, lambda drawn: right_figure(kind, place, text, drawn), f"{kind}, {what}")
    if place in ("page", "words", "text"):
        given = {"title": text if place == "page" else "title", "text": text if place == "text" else "text"}
        entry = (draw.Figure(), text) if place == "words" else draw.Figure()
        write = lambda: draw.page(folder / "page.html", [entry], **given).read_text("utf-8")  # noqa: E731
        return tried(write, lambda page: right_page(text, page), what)
    if place == "control":
        make = lambda: draw.panel(lambda value: draw.Figure(), value=["a", text]).controls["value"]  # noqa: E731
        return tried(make, lambda made: made.value == "a" and not any(map(HIDDEN.search, made._options_labels)), what)
    rows = [(text if place == "head" else "group", text if place == "cell" else "name", text)]
    tables = lambda: [as_html(text, rows), as_text(text, rows), columns(["a", text], [[text, "1"]])]  # noqa: E731
    good = lambda made: not any(map(HIDDEN.search, made)) and sane(made[0]) and in_html(text, made[0])  # noqa: E731
    return tried(tables, good, what)


def sane(table):
    return not set(re.findall(r"<([a-z!]+)", table)) - {"table", "caption", "b", "tr", "th", "td"}


@attack("hostile texts in pages", short=40, long=1600)
def pages(tries, seed, folder):
    """One text at one place of every kind of figure, of a page, of a table."""
    for i in range(tries):
        draws = random.Random(seed + i)
        text = draws.choice(TEXTS) if draws.random() < 0.5 else "".join(draws.choices(TEXTS, k=draws.randint(2, 3)))
        yield tried_once(draws.choice(KINDS), PLACES[i % len(PLACES)], text, folder)
