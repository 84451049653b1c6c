"""Pages of figures with their claims, in the frame of `labkit.draw.pages`; one copy of plotly.js lies beside them."""

import dataclasses
import html
import importlib.metadata
import pathlib
import re
from collections.abc import Mapping, Sequence

import figures
from figures import _pictures
from labkit import folders
from labkit.claims import Claim
from labkit.draw.pages import escape, frame, library, plot

PACKAGES = ("torch", "transformers", "plotly")
TITLE = "Inside a hybrid language model"
HOME = "index.html"
WELCOME = (
    "Each picture is drawn from numbers read inside the model; drag, zoom and hover to inspect them. The sentence "
    "below is computed from the same numbers, with the comparisons that it rests on and a control that would refute it."
)
EXPLAINED = (
    'New to this? <a href="explain.html">A hybrid language model, from the inside</a> holds nano itself and explains '
    "it in short chapters, in the browser."
)
SENTENCES = {
    "states": "A Gated DeltaNet layer has no keys and values to go back to; each head keeps one matrix. What it holds "
    "of each token, what decay and later tokens take from it, and how full it is.",
    "attention": "A gated attention layer keeps every token. Where its heads look, what their gates let through, and "
    "which kind of layer an answer needs.",
    "thinking": "A conversation that keeps or drops its thinking decides what of the cache can be used again. Where "
    "prompts part, and what that costs in tokens and bytes.",
    "yarn": "Past the length of training, rotary positions take phases that no weight has seen. What YaRN changes in "
    "them, and what fails at which distance.",
    "causes": "A picture is a suspicion. What each layer, head and token brings to an answer, what is lost without it, "
    "and what a push in its place does, each beside what would show as much without being the cause.",
}
RULE = (
    "A control puts in place of these numbers others that ought to break the sentence. A sentence that survived all "
    "of them would say nothing."
)
STYLE = """
h2 { font-size: 1.3rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1.5rem; justify-content: space-between; }
.holds { color: #1a7f37; } .fails { color: #b35900; }
@media (prefers-color-scheme: dark) { .holds { color: #4ac26b; } .fails { color: #f0883e; } }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.4rem 1rem 0.4rem 0; text-align: left; vertical-align: top;
  font-weight: normal; min-width: 9rem; }
thead th { color: var(--quiet); } td { font-variant-numeric: tabular-nums; }
dl { color: var(--quiet); display: grid; font-size: 0.9rem; gap: 0 1rem; grid-template-columns: max-content 1fr; }
dd { margin: 0; overflow-wrap: anywhere; }
ol { list-style: none; padding: 0; }
ol a { display: grid; gap: 0.2rem 1rem; grid-template-columns: 168px 1fr; padding: 0.6rem 0; text-decoration: none; }
ol a:hover b, ol a:focus b { text-decoration: underline; }
ol svg { grid-row: span 2; }
ol span { display: block; }
@media (max-width: 560px) { ol a { grid-template-columns: 1fr; } }
"""


@dataclasses.dataclass(frozen=True)
class Card:
    """A figure with its words.

    Attributes:
        name: of its module. probe: the one that it belongs to. question: its heading. title: of the plot.
        claim: the answer. controls: the same claim on other numbers. fault: why it must not be shown as true, or None.
        caption: paragraphs. facts: what the numbers are of. figure: plotly's JSON. picture: SVG of a few kilobytes.
        numbers: files beside the page that hold them.
    """

    name: str
    probe: str
    question: str
    title: str
    claim: Claim
    controls: Mapping[str, Claim]
    fault: str | None
    caption: Sequence[str]
    facts: Mapping[str, str]
    figure: str
    picture: str
    numbers: Sequence[str] = ()


def card(entry, dataset, figure, numbers=()):
    """The `Card` of a figure that was drawn."""
    claim, controls = entry.verdict(dataset)
    return Card(
        name=entry.name,
        probe=entry.module.PLACE[0],
        question=entry.question,
        title=html.unescape(str(figure.layout.title.text).replace("<br>", " ")),
        claim=claim,
        controls=controls,
        fault=entry.fault(dataset),
        caption=entry.caption,
        facts={name: str(dataset.attrs[name]) for name in figures.FACTS if name in dataset.attrs},
        figure=figure.to_json(),
        picture=_pictures.small(figure),
        numbers=numbers,
    )


def facts():
    """What the pages were made with, as text: the versions that matter."""
    import labkit

    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
    return " · ".join([f"labkit {labkit.__version__}", *versions])


def write_figure(path, card, beside, facts):
    """Write the page of one figure.

    Args:
        path: the page's file; its folder is made.
        card: the figure. beside: previous and next, each `(name, question)` or None. facts: the line at the bottom.
    """
    _write(path, card.question, f"{_around(beside)}\n{_section(card)}", facts)


def write_gallery(path, cards, facts, explained=False):
    """Write the page of all figures: the first one live, then a table of contents by probe.

    Args:
        path: the page's file; its folder is made.
        cards: the figures in their order. facts: the line at the bottom. explained: whether `explain.html` lies beside.
    """
    by_probe = {probe: [card for card in cards if card.probe == probe] for probe in figures.PROBES}
    shown = {probe: found for probe, found in by_probe.items() if found}
    links = "\n".join(f'<a href="#{probe}">{_text(figures.PROBES[probe])}</a>' for probe in shown)
    new = f"<p>{EXPLAINED}</p>\n" if explained else ""
    probes = f'<nav aria-label="Probes">\n{links}\n</nav>'
    head = f'<div class="words">\n<h1>{TITLE}</h1>\n{new}<p>{WELCOME}</p>\n{probes}\n</div>'
    parts = [head, *(_lead(card) for card in cards[:1]), *(_contents(*each) for each in shown.items())]
    _write(path, TITLE, "\n".join(parts), facts)


def _write(path, title, body, facts):
    path = pathlib.Path(path)
    with folders.told("a page could not be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        library(path.parent)
        folders.write_text(path, frame(title, body, beside=True, footer=facts, style=STYLE))


# ---------------------------------------------------------------------------------------------------- the gallery


def _lead(card):
    """The clearest figure, live."""
    return f"""<section aria-labelledby="{_text(card.name)}-question">
<h2 class="words" id="{_text(card.name)}-question"><a href="{_text(card.name)}.html">{_text(card.question)}</a></h2>
{plot(card.name, card.figure, card.question)}
<div class="words">
{_answer(card)}
<p><a href="{_text(card.name)}.html">How to read it, and what would refute it</a></p>
</div>
</section>"""


def _contents(probe, cards):
    """A probe and its figures, each with a small picture, linked to its page."""
    rows = "\n".join(f'<li id="{_text(card.name)}">{_row(card)}</li>' for card in cards)
    return f"""<section class="words" aria-labelledby="{probe}">
<h2 id="{probe}">{_text(figures.PROBES[probe])}</h2>
<p>{_text(SENTENCES[probe])}</p>
<ol>
{rows}
</ol>
</section>"""


def _row(card):
    kind, word, _ = _verdict(card)
    counted = f"{_counted(len(card.claim.parts), 'comparison')}, {_counted(len(card.controls), 'control')}"
    verdict = f'<span class="source"><span class="{kind}" style="display: inline">{word}</span> · {counted}</span>'
    words = f"<b>{_text(card.question)}</b> <span>{_text(card.claim.title)}</span> {verdict}"
    return f'<a href="{_text(card.name)}.html">{card.picture}<span>{words}</span></a>'


# ------------------------------------------------------------------------------------------------ a figure's page


def _around(beside):
    """Links to the previous figure, the gallery and the next."""
    before, after = beside
    links = [f'<a rel="prev" href="{_text(before[0])}.html">← {_text(before[1])}</a>' if before else "<span></span>"]
    links.append(f'<a href="{HOME}">All figures</a>')
    links.append(f'<a rel="next" href="{_text(after[0])}.html">{_text(after[1])} →</a>' if after else "<span></span>")
    return _nav("Figures", links, ' class="words"')


def _section(card):
    words = "\n".join(f"<p{_kind(part)}>{_code(_text(part))}</p>" for part in card.caption)
    told = "\n".join(f"<dt>{name.capitalize()}</dt><dd>{_text(fact)}</dd>" for name, fact in card.facts.items())
    links = ", ".join(f'<a href="{_text(name)}" download>{_text(name)}</a>' for name in card.numbers)
    told += f"\n<dt>Numbers</dt><dd>{links}</dd>" if links else ""
    return f"""<section id="{_text(card.name)}" aria-labelledby="{_text(card.name)}-question">
<h1 class="words" id="{_text(card.name)}-question">{_text(card.question)}</h1>
{plot(card.name, card.figure, card.question)}
<div class="words">
{_answer(card)}
{_table(card)}
<h2>How to read it</h2>
{words}
<dl>
{told}
</dl>
</div>
</section>"""


def _answer(card):
    """The claim's sentence, unless it is the plot's title, and whether it may stand."""
    kind, word, why = _verdict(card)
    sentence = "" if card.title == card.claim.title else f'<p class="answer">{_text(card.claim.title)}</p>\n'
    return f'{sentence}<p class="verdict"><b class="{kind}">{word.capitalize()}</b>: {_text(why)}</p>'


def _verdict(card):
    """(class, word, why) of a claim."""
    parts = card.claim.parts
    if not card.claim.holds:
        count = sum(not part.holds for part in parts)
        return "fails", "does not hold", f"{count} of {_counted(len(parts), 'comparison')} false of these numbers."
    if card.fault is not None:
        return "fails", "not shown", " ".join(card.fault.split()) + "."
    every = {1: "the comparison is", 2: "both comparisons are"}.get(len(parts), f"all {len(parts)} comparisons are")
    broken = (
        "the control breaks it" if len(card.controls) == 1 else f"each of the {len(card.controls)} controls breaks it"
    )
    return "holds", "holds", f"{every} true of these numbers, and {broken}."


def _table(card):
    """The comparisons, one a row: here, and under each control."""
    heads = ["What is compared", "Here", *(f"Control: {name}" for name in card.controls)]
    rows = []
    for n, part in enumerate(card.claim.parts):
        against = f'<br><span class="source">against {_text(part.against)}</span>' if part.against else ""
        cells = [_cell(part, "holds", "fails")]
        cells += [_cell(control.parts[n], "source", "fails") for control in card.controls.values()]
        rows.append(f'<tr><th scope="row">{_text(part.what)}{against}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{_text(text)}</th>' for text in heads)
    body = "\n".join(rows)
    return f"""<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
<p class="source">{RULE}</p>"""


def _cell(part, true, false):
    numbers = str(part).removeprefix(f"{part.what}: ").removesuffix(" is false")
    numbers = numbers.removesuffix(f" ({part.against})") if part.against else numbers
    word = "true" if part.holds else "false"
    return f'<td>{_text(numbers)}<br><span class="{true if part.holds else false}">{word}</span></td>'


def _counted(count, word):
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


_text = escape  # quotes too


def _kind(part):
    return ' class="source"' if part.startswith("Source:") else ""


def _nav(label, links, more=""):
    lines = "\n".join(links)
    return f'<nav{more} aria-label="{label}">\n{lines}\n</nav>'


def _code(text):
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
