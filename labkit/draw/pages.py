"""Pages that any browser opens from disk without a network: figures as JSON, plotly.js in the page or beside it.

The page's security policy allows no connection and no script but plotly.js and the few lines below; text is escaped.
"""

import base64
import hashlib
import html
import json
import pathlib
from collections.abc import Sequence

from labkit.draw.theme import CONFIG
from labkit.errors import InputError
from labkit.signs import inert

PLOTLY = "plotly.min.js"

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --line: #d0d7de; --quiet: #59636e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #14181d; --line: #3d444d; --quiet: #9198a1; }
}
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 1080px; padding: 1rem; }
a { color: inherit; }
section { border-top: 1px solid var(--line); padding: 1rem 0; }
h1 a, h2 a { text-decoration: none; }
pre { font-size: 0.85rem; overflow-x: auto; }
.plot { min-height: 320px; width: 100%; }
.facts, .source { color: var(--quiet); font-size: 0.9rem; }
main:target .words, main:target ~ footer { display: none; }
main:target section { border: 0; padding: 0; }
"""

SCRIPT = """
const read = id => JSON.parse(document.getElementById(id).textContent);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clear = 'rgba(0,0,0,0)';
const look = layout => ({
  paper_bgcolor: clear, plot_bgcolor: clear, font: {...layout.font, color: colour('--ink')},
  modebar: {...layout.modebar, bgcolor: clear, color: colour('--quiet'), activecolor: colour('--ink')}
});
const extra = {responsive: true, ...(location.hash === '#picture' ? {displayModeBar: false} : {})};
for (const plot of document.querySelectorAll('.plot')) {
  const {data, layout, frames} = read(plot.id + '-json');
  const config = {...read('config'), ...extra};
  Plotly.newPlot(plot, {data, layout: {...layout, ...look(layout)}, frames, config});
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', () => Plotly.relayout(plot, look(plot.layout)));
}
"""


def page(path: str | pathlib.Path, figures: Sequence, *, title: str, text: str = "") -> pathlib.Path:
    """Write figures and words into one HTML file of some five megabytes that any browser opens without a network.

    Args:
        path: the file; its folder is made.
        figures: a list of figures, or of pairs (figure, words below it).
        title: heading of the page.
        text: shown below the heading as it stands, in a fixed width: a table for the terminal, say.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        InputError: no figures, or a place that cannot be written to.
    """
    if not figures:
        raise InputError("a page without figures", got="none", expected="at least one")
    path, parts = pathlib.Path(path), [f"<h1>{escape(title)}</h1>"]
    parts += [f"<pre>{escape(text)}</pre>"] if text else []
    for n, entry in enumerate(figures):
        figure, words = entry if isinstance(entry, tuple | list) else (entry, "")
        drawn = plot(f"figure-{n}", figure.to_json(), words or title)
        parts.append(f"<section>\n{drawn}\n<p>{escape(words)}</p>\n</section>")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(frame(title, "\n".join(parts)), encoding="utf-8")
    except OSError as error:
        raise InputError("the page cannot be written", got=f"{path}: {error.strerror}", expected="a file") from None
    return path


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
    """The place of a figure in a page: its JSON text, under an id of the page, with a label for those who hear it."""
    name, look = html.escape(name), f'role="group" aria-label="{escape(label)}" style="height: {height(figure)}px"'
    return f"""<div class="plot" id="{name}-plot" {look}></div>
<script type="application/json" id="{name}-plot-json">{embed(figure)}</script>"""


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
