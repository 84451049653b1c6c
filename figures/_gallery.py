"""Pages of figures with their captions, in the frame of `labkit.draw.pages`; one copy of plotly.js lies beside them."""

import html
import importlib.metadata
import pathlib
import re

import figures
from labkit.draw.pages import PLOTLY, frame, plot

PACKAGES = ("torch", "transformers", "plotly")
SENTENCE = "Each picture is drawn from numbers read inside the model; drag, zoom and hover to inspect them."


def card(entry, dataset, figure):
    """One figure with its words: `(name, question, paragraphs, plotly JSON text)`."""
    claim, controls = entry.verdict(dataset)
    words = [f"{'Holds' if claim.holds else 'Does not hold'}: {'; '.join(map(str, claim.parts))}."]
    for name, other in controls.items():
        broken = "; ".join(str(part) for part in other.parts if not part.holds)
        words.append(f"Control, {name}: {broken or 'holds all the same'}.")
    facts = " · ".join(f"{name} {dataset.attrs[name]}" for name in figures.FACTS if name in dataset.attrs)
    return entry.name, entry.question, [*words, *entry.caption, f"Source: {facts}"], figure.to_json()


def facts(lab):
    """What the numbers were made with, as text: the versions that matter."""
    import labkit

    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
    return " · ".join([f"labkit {labkit.__version__}", *versions])


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
    if home is None:
        head = f'<h1 class="words">{html.escape(title)}</h1>\n<p class="words">{SENTENCE}</p>'
    else:
        head = f'<p class="words"><a href="{html.escape(home[0])}">{html.escape(home[1])}</a></p>'
    level = "h2" if home is None else "h1"
    body = "\n".join([head, *(_section(level, *each) for each in cards)])
    path.write_text(frame(title, body, beside=True, footer=facts), encoding="utf-8")


def _section(level, name, claim, caption, figure):
    drawn, name, claim = plot(name, figure, claim), html.escape(name), html.escape(claim)
    lines = "\n".join(f"<p{_kind(part)}>{_code(html.escape(part))}</p>" for part in caption)
    return f"""<section id="{name}" aria-labelledby="{name}-claim">
<{level} class="words" id="{name}-claim"><a href="#{name}">{claim}</a></{level}>
{drawn}
<div class="words">
{lines}
</div>
</section>"""


def _kind(part):
    return ' class="source"' if part.startswith("Source:") else ""


def _code(text):
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def _plotly(path):
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    if not path.exists() or path.stat().st_size != len(text.encode()):
        path.write_text(text, encoding="utf-8")
