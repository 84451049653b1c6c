"""Pages that work from disk: plotly figures, their captions and one shared copy of plotly.js beside them.

Nothing is fetched: the figures lie in the page as JSON, and the page's security policy allows no connection
and no script but plotly.js and the few lines below.
"""

import base64
import hashlib
import html
import importlib.metadata
import json
import pathlib
import re

PLOTLY = "plotly.min.js"
PACKAGES = ("torch", "transformers", "plotly")
SENTENCE = "Each picture is drawn from numbers read inside the model; drag, zoom and hover to inspect them."

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


def card(entry, figure):
    """One figure with its words: `(name, claim, caption paragraphs, plotly JSON text)`."""
    return entry.name, entry.claim, entry.caption, figure.to_json()


def facts(lab):
    """What the numbers were made with, as text: the model and the versions that matter."""
    import labkit

    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
    return " · ".join([f"model {lab.name}", f"labkit {labkit.__version__}", *versions])


def write(path, title, cards, facts, home=None):
    """Write one page and, beside it, plotly.js if it is not there yet.

    Args:
        path: the page's file; its folder is made.
        title: heading of the page.
        cards: what `card` gave, in order.
        facts: the line at the bottom.
        home: `(address, text)` of the gallery, on the page of one figure; None on the gallery itself.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _plotly(path.parent / PLOTLY)
    path.write_text(page(title, cards, facts, home), encoding="utf-8")


def page(title, cards, facts, home=None):
    """The text of a page, see `write`."""
    from labkit.draw import CONFIG

    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'self' file: 'sha256-{digest}'; style-src 'unsafe-inline'; "
    link = f'<p class="words"><a href="{html.escape(home[0])}">{html.escape(home[1])}</a></p>' if home else ""
    level, words = "h1", ""
    if home is None:
        level, words = "h2", f'<h1 class="words">{html.escape(title)}</h1>\n<p class="words">{SENTENCE}</p>'
    sections = "\n".join(_section(level, *each) for each in cards)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}img-src data: blob:; font-src data:">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main id="picture">
{link}
{words}
{sections}
</main>
<footer class="facts">{html.escape(facts)}</footer>
<script type="application/json" id="config">{embed(json.dumps(CONFIG))}</script>
<script src="{PLOTLY}"></script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def embed(text):
    """JSON text that is safe between script tags: no sign that ends a tag or a line."""
    signs = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return "".join(signs.get(sign, sign) for sign in text)


def _section(level, name, claim, caption, figure):
    name, claim = html.escape(name), html.escape(claim)
    lines = "\n".join(f"<p{_kind(part)}>{_code(html.escape(part))}</p>" for part in caption)
    return f"""<section id="{name}" aria-labelledby="{name}-claim">
<{level} class="words" id="{name}-claim"><a href="#{name}">{claim}</a></{level}>
<div class="plot" id="{name}-plot" role="group" aria-label="{claim}" style="height: {height(figure)}px"></div>
<div class="words">
{lines}
</div>
<script type="application/json" id="{name}-plot-json">{embed(figure)}</script>
</section>"""


def height(figure):
    """Height in pixels that a figure's JSON asks for."""
    return int(json.loads(figure).get("layout", {}).get("height", 450))


def _kind(part):
    return ' class="source"' if part.startswith("Source:") else ""


def _code(text):
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _plotly(path):
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    if not path.exists() or path.stat().st_size != len(text.encode()):
        path.write_text(text, encoding="utf-8")
