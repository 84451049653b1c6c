"""Several figures as one page that works offline: plotly.js lies in the file, nothing is fetched, text is escaped."""

import html
import pathlib

from labkit.draw.theme import CONFIG
from labkit.errors import InputError

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1080px; padding: 1rem; }
section { border-top: 1px solid #8884; padding: 1rem 0; }
pre { font-size: 0.85rem; overflow-x: auto; }
"""
# Figures are drawn by scripts in the file; none of them, and nothing in a figure's text, may reach a network.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def page(path, figures, *, title, text=""):
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
    path, sections = pathlib.Path(path), []
    for n, one in enumerate(figures):
        figure, words = one if isinstance(one, tuple | list) else (one, "")
        drawn = figure.to_html(full_html=False, include_plotlyjs=n == 0, config=CONFIG)
        sections.append(f"<section>\n{drawn}\n<p>{html.escape(words)}</p>\n</section>")
    shown = f"<pre>{html.escape(text)}</pre>" if text else ""
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{shown}
{"".join(sections)}
</body>
</html>
"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("the page cannot be written", got=f"{path}: {error.strerror}", expected="a file") from None
    return path
