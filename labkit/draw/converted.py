"""Figures of a notebook in the page that `jupyter nbconvert --to html` makes of it: live, and without a network.

nbconvert knows no plotly figures and leaves them out. `Offline` puts them in, plotly.js once, and takes out what the
page would ask of other hosts: require.js, MathJax (formulas stay as TeX, unless `--HTMLExporter.mathjax_url` names a
file), and widgets, of which the figure that a panel showed first stays. An installed labkit is found by nbconvert
(`jupyter_nbconvert_config.json`); elsewhere:

    jupyter nbconvert --to html --HTMLExporter.preprocessors=labkit.draw.converted.Offline NOTEBOOK

A notebook without figures of labkit is left as it is.
"""

import json

from nbconvert.preprocessors import Preprocessor

from labkit.draw.pages import embed, plot
from labkit.draw.script import SCRIPT
from labkit.draw.theme import CONFIG, MIME

WIDGET = "application/vnd.jupyter.widget-view+json"
NOTHING = "data:text/javascript,"
REMOTE = ("require_js_url", "mathjax_url")
LOOK = """<style>
:root {{ --ink: {ink}; --quiet: {quiet}; }}
.plot {{ min-height: 320px; width: 100%; }}
p.claim {{ font-size: 1.05rem; margin: 0.5rem 0 0; }}
p.proof {{ color: var(--quiet); font-size: 0.8rem; margin: 0; }}
</style>"""
INKS = {True: ("#e6edf3", "#9198a1"), False: ("#1f2328", "#59636e")}


class Offline(Preprocessor):
    """A preprocessor of nbconvert: outputs that are figures become HTML of their own."""

    def preprocess(self, notebook, resources):
        """The notebook and the resources of a page, changed in place."""
        outputs = [each for cell in notebook.cells for each in cell.get("outputs", []) if "data" in each]
        figures = [output for output in outputs if MIME in output.data]
        if not any(_ours(output.data[MIME]) for output in figures):
            return notebook, resources
        for n, output in enumerate(figures):
            name = f"figure-{n}"
            parts = [self._head(resources)] if not n else []
            parts += [_plotted(name, output.data[MIME])]
            parts += [f"<script>{{{SCRIPT}}}</script>"] if n == len(figures) - 1 else []
            output.data = type(output.data)({"text/html": "\n".join(parts)})
        for output in outputs:
            output.data.pop(WIDGET, None)
        notebook.metadata.pop("widgets", None)
        for name in REMOTE:
            if str(resources.get(name, "")).startswith(("http:", "https:", "//")):
                resources[name] = NOTHING
        return notebook, resources

    def _head(self, resources):
        """What all figures of the page need: plotly.js, its settings, colours of the words."""
        from plotly.offline import get_plotlyjs

        ink, quiet = INKS[resources.get("theme") == "dark"]
        settings = f'<script type="application/json" id="config">{embed(json.dumps(CONFIG))}</script>'
        return f"{LOOK.format(ink=ink, quiet=quiet)}\n{settings}\n<script>{get_plotlyjs()}</script>"


def _ours(figure):
    return "labkit" in ((figure.get("layout") or {}).get("meta") or {})


def _plotted(name, figure):
    return plot(name, json.dumps({key: figure[key] for key in ("data", "layout", "frames") if key in figure}), "figure")
