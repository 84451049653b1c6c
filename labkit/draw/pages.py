"""Pages that any browser opens from disk without a network: figures as JSON, plotly.js in the page or beside it.

The page's security policy allows no connection and no script but plotly.js and the few lines below; text is escaped.
"""

import base64
import hashlib
import html
import json
import pathlib
import secrets
from collections.abc import Iterable, Sequence

import numpy as np

from labkit.arguments import file_path
from labkit.calling import described
from labkit.draw.script import SCRIPT, STYLE
from labkit.draw.theme import CONFIG
from labkit.draw.titles import apart
from labkit.errors import InputError
from labkit.signs import inert

PLOTLY = "plotly.min.js"
PLACES = ("inside", "beside")


def page(
    path: str | pathlib.Path, figures: Sequence, *, title: str, text: str = "", plotly: str = "inside"
) -> pathlib.Path:
    """Write figures and words into an HTML file that any browser opens without a network.

    Args:
        path: the file; its folder is made.
        figures: a list of figures, or of pairs (figure, words below it).
        title: heading of the page.
        text: shown below the heading as it stands, in a fixed width: a table for the terminal, say.
        plotly: "inside" makes one file, some 4.7 MB larger than its data; "beside" leaves plotly.js in the folder as
            `plotly.min.js`, once for all pages there, and a page is as large as its data: send both.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        InputError: no figures, another place for plotly.js, or a place that cannot be written to.
    """
    if plotly not in PLACES:
        raise InputError("no such place for plotly.js", got=repr(plotly), expected=" or ".join(map(repr, PLACES)))
    if not isinstance(figures, Iterable) or hasattr(figures, "to_json") or not (figures := list(figures)):
        hint = 'draw.page("fox.html", [figure], title="What a fox reads")'
        got = "none" if isinstance(figures, list) else described(figures)
        raise InputError("a page without figures", got=got, expected="a list of at least one", hint=hint)
    path = file_path(path, "draw.page", 'draw.page("fox.html", [figure], title="What a fox reads")')
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += [f"<pre>{escape(text)}</pre>"] if text else []
    for n, entry in enumerate(figures):
        figure, words = entry if isinstance(entry, tuple | list) and len(entry) == 2 else (entry, "")
        if not hasattr(figure, "to_json"):
            hint = "draw.page(path, [(draw.lines(ds, 'keep'), 'words below it')], title='a title')"
            expected = "a figure, or (figure, words)"
            raise InputError("a page holds figures", got=described(figure), expected=expected, hint=hint)
        drawn = plot(f"figure-{n}", figure.to_json(), words or title)
        parts.append(f"<section>\n{drawn}\n<p>{escape(words)}</p>\n</section>")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if plotly == "beside":
            library(path.parent)
        path.write_text(frame(title, "\n".join(parts), beside=plotly == "beside"), encoding="utf-8")
    except OSError as error:
        raise InputError("the page cannot be written", got=f"{path}: {error.strerror}", expected="a file") from None
    return path


def library(folder: pathlib.Path) -> None:
    """Lay plotly.js into a folder, for the pages there that read it from beside them. Raises OSError."""
    from plotly.offline import get_plotlyjs

    path, text = folder / PLOTLY, get_plotlyjs()
    if not path.exists() or path.stat().st_size != len(text.encode()):
        draft = path.with_name(f".{PLOTLY}.{secrets.token_hex(4)}.new")  # others may be doing the same
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)  # of a full disk


def frame(title: str, body: str, *, beside: bool = False, footer: str = "", style: str = "") -> str:
    """The text of a page.

    Args:
        title: of the window, escaped here.
        body: HTML, its figures placed by `plot`.
        beside: whether plotly.js is read from the file `PLOTLY` beside the page; it lies in the page if not.
        footer: a line at the bottom, escaped here. style: rules of the page's own, after those of every page.
    """
    from plotly.offline import get_plotlyjs

    library = "" if beside else get_plotlyjs()
    scripts = f"'self' file: {_digest(SCRIPT)}" if beside else f"{_digest(library)} {_digest(SCRIPT)}"
    policy = f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<main id="picture">
{body}
</main>
<footer class="facts">{escape(footer)}</footer>
<script type="application/json" id="config">{embed(json.dumps(CONFIG))}</script>
<script{f' src="{PLOTLY}"' if beside else ""}>{library}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def plot(name: str, figure: str, label: str) -> str:
    """The place of a figure in a page, with a label for those who hear it.

    Its title stands above it in words that wrap, its JSON text below under an id of the page.
    """
    drawn = json.loads(figure)
    title, subtitle, drawn["layout"] = apart(drawn.get("layout", {}))
    words = [(kind, text) for kind, text in (("claim", title), ("proof", subtitle)) if text]
    above = "\n".join(f'<p class="{kind}">{escape(text)}</p>' for kind, text in words)
    text = json.dumps(listed(drawn), ensure_ascii=False, separators=(",", ":"))
    name, look = html.escape(name), f'role="group" aria-label="{escape(label)}" style="height: {height(text)}px"'
    return f"""{above}
<div class="plot" id="{name}-plot" {look}></div>
<script type="application/json" id="{name}-plot-json">{embed(text)}</script>"""


def listed(drawn):
    """A figure whose strip of tokens the page's script can fold: cells as lists."""
    arranged = (drawn.get("layout", {}).get("meta") or {}).get("arranged") or {}
    if "strip" in arranged:
        cells = drawn["data"][0]
        if isinstance(cells["z"], dict):
            packed = np.frombuffer(base64.b64decode(cells["z"]["bdata"]), "<" + cells["z"]["dtype"])
            rows = packed.reshape([int(size) for size in cells["z"]["shape"].split(",")])
            cells["z"] = np.where(np.isnan(rows), None, rows.astype(object)).tolist()
    return drawn


def escape(text: str) -> str:
    """Text made inert and readable in HTML."""
    return html.escape(inert(str(text), keep="\n\t"))


def embed(text: str) -> str:
    """JSON text that is safe between script tags: no sign that ends a tag or a line."""
    signs = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return "".join(signs.get(sign, sign) for sign in text)


def height(figure: str) -> int:
    """Height in pixels that a figure's JSON text asks for."""
    return int(json.loads(figure).get("layout", {}).get("height", 450))


def _digest(script):
    """A script as a security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
