"""Figures as PNG, SVG and PDF, by kaleido and the Chromium or Chrome that is installed; nothing is fetched.

    draw.save(figure, "memory.pdf", width="single")

kaleido's own page would ask a network for MathJax. This one has plotly.js from the package, a policy that allows no
connection, and a browser whose proxy does not exist.
"""

import asyncio
import contextlib
import logging
import os
import pathlib
import re
import shutil
import struct
import threading
import zlib

import plotly
import plotly.graph_objects as go

from labkit.arguments import file_path, number
from labkit.draw.printed import PRINT, sheet
from labkit.errors import BackendError, InputError, first_line, install_hint

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SCRIPT = pathlib.Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
POLICY = "default-src 'none'; script-src file: 'unsafe-inline' 'unsafe-eval'; img-src data: blob:; font-src data:"
POLICY += "; style-src 'unsafe-inline'"
NOWHERE = "127.0.0.1:9"  # a proxy that nobody is: what the browser would send goes there
KINDS = (".pdf", ".png", ".svg")
PATIENCE = 120  # seconds for one picture
INCH = 25.4  # millimetres


def save(
    figure: go.Figure,
    path: str | pathlib.Path,
    *,
    width: str | float = "single",
    font: float = 8.0,
    title: bool = False,
    step: int | None = None,
    dpi: float = 300.0,
) -> pathlib.Path:
    """Write a figure for print: PDF and SVG with real letters, or PNG, as the end of the path says.

    Args:
        figure: any plotly figure.
        path: ends in .pdf, .svg or .png; its folder is made.
        width: "single" (85 mm, a column), "double" (178 mm, a page), or millimetres.
        font: points of the letters at the axes.
        title: whether the title stands above; in a paper it belongs into the caption.
        step: entry of the figure's slider, if it has one; None is the one that it shows. Its name stands above.
        dpi: dots per inch of a PNG.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        InputError: no figure, another ending, no such width, size or step, or a place that cannot be written to.
        BackendError: kaleido or a browser is missing, or the browser drew nothing; the hint is the command that helps.
    """
    if not isinstance(figure, go.Figure):
        hint = 'draw.heatmap(ds, "keep")' if hasattr(figure, "data_vars") else "panel.made is the figure of a panel"
        raise InputError("what is saved is a figure", got=type(figure).__name__, hint=hint)
    path = file_path(path, "draw.save", "draw.save(figure, 'fox.pdf')")
    kind = path.suffix.lower()
    if kind not in KINDS:
        hint = 'draw.page("path.html", [figure], title="...") makes a page' if kind in (".html", ".htm") else None
        raise InputError("a picture is one of three kinds", got=path.name, expected=", ".join(KINDS), hint=hint)
    dpi = number(dpi, "dpi", least=50, most=1200)
    ready = sheet(figure, width=width, font=font, title=title, step=step)
    content = _made(kind[1:], ready, dpi)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError("the picture cannot be written", got=f"{path}: {error.strerror}", expected="a file") from None
    return path


def _made(kind, ready, dpi):
    """Bytes of the file; the height of a figure is known when it was laid out, as SVG."""
    asked = {"width": ready.across, "height": ready.figure["layout"].get("height") or round(0.75 * ready.across)}
    scale = {"pdf": ready.scale, "png": ready.width / INCH * dpi / ready.across}.get(kind)

    async def pictures(draw):
        svg = (await draw(ready.figure, {"format": "svg", "scale": 1} | asked)).decode()
        high = int(re.search(r'<svg[^>]* height="(\d+)', svg)[1])
        if kind == "svg":
            return _sized(svg, ready, high)
        return await draw(ready.figure, {"format": kind, "scale": scale, "width": ready.across, "height": high})

    content = _drawn(pictures)
    return _dotted(content, dpi) if kind == "png" else content


def _sized(svg, ready, high):
    """An SVG as large as the paper: pixels inside, millimetres outside."""
    tall = ready.width * high / ready.across
    size = f'width="{ready.width:g}mm" height="{tall:.2f}mm" viewBox="0 0 {ready.across} {high}"'
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height|viewBox|style)="[^"]*"', "", head)
    return f"{head} {size}>{rest}".encode()


def _dotted(png, dpi):
    """A PNG that says how large it is: a chunk pHYs, in dots per metre, before its data."""
    each = round(dpi / INCH * 1000)
    body = b"pHYs" + struct.pack(">IIB", each, each, 1)
    chunk = struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]  # behind the signature and IHDR


# ------------------------------------------------------------------------------------------------------- the browser


def find_browser() -> str:
    """Path of an installed Chromium or Chrome: what BROWSER_PATH names, one on the path, or where such are installed.

    Raises:
        BackendError: there is none.
    """
    named = os.environ.get("BROWSER_PATH")
    if named and os.access(named, os.X_OK):
        return named
    found = next(filter(None, map(shutil.which, BROWSERS)), None) or _elsewhere()
    if found:
        return str(found)
    got = "none" if not named else f"BROWSER_PATH={named}, which cannot be run"
    expected = f"one of {', '.join(BROWSERS)}, or BROWSER_PATH"
    raise BackendError("a picture needs Chromium or Chrome", got=got, expected=expected, hint="kaleido_get_chrome")


def _elsewhere():
    """Where kaleido keeps a browser that somebody fetched with it, and where systems install one."""
    try:
        from choreographer.browsers.chromium import Chromium
    except ImportError:
        return None
    return Chromium.find_browser(skip_local=False)


class _Page:
    """The page in which kaleido draws: plotly.js from the package, a script of ours, no connection."""

    def __init__(self, script):
        self.script = script

    def generate_index(self):
        """Its text."""
        import kaleido

        text = kaleido.PageGenerator(plotly=(SCRIPT.as_uri(), "utf-8"), mathjax=False).generate_index()
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        text = text.replace("<head>", f'<head>\n<meta charset="utf-8">{policy}', 1)
        return text.replace("</head>", f"<script>{self.script}</script>\n</head>", 1)


def image(
    figure: dict, kind: str, *, width: float | None = None, height: float | None = None, scale: float = 1
) -> bytes:
    """A figure, as JSON knows it, as bytes of a picture in pixels, in the look of the screen.

    Args:
        kind: what plotly knows: "png", "svg", "pdf", "jpeg", "webp".
        width, height: pixels; None takes the figure's own, else 700 and 450. scale: pixels of the picture for each.

    Raises:
        BackendError: as `save`.
    """
    layout = figure.get("layout", {})
    size = {"width": width or layout.get("width") or 700, "height": height or layout.get("height") or 450}

    async def pictures(draw):
        return await draw(figure, {"format": kind, "scale": scale} | size)

    return _drawn(pictures, plain=True)


def _drawn(pictures, *, plain=False):
    """What `pictures(draw)` gives; in a thread of its own, since a notebook's has a loop that runs."""
    try:
        import kaleido
    except ImportError:
        raise BackendError("a picture needs kaleido", got="not installed", hint=install_hint("export")) from None
    path, done = find_browser(), {}

    async def run():
        page = _Page("" if plain else PRINT)
        options = dict(path=path, page_generator=page, timeout=PATIENCE, proxy_server=NOWHERE)
        async with kaleido.Kaleido(n=1, **options) as browser:
            done["made"] = await pictures(lambda figure, options: browser.calc_fig(figure, opts=options))

    def work():
        try:
            asyncio.run(run())
        except Exception as error:
            done["error"] = error

    with _quiet("choreographer"):
        thread = threading.Thread(target=work, name="labkit-picture", daemon=True)
        thread.start()
        thread.join()
    if "made" not in done:
        error = done.get("error", RuntimeError("the browser ended"))
        raise BackendError("the browser drew no picture", got=first_line(error), expected=f"{path} to run") from error
    return done["made"]


@contextlib.contextmanager
def _quiet(name):
    """A browser's farewell is now and then logged as an error; errors themselves are raised."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
