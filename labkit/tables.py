"""Tables, each in one place: facts as text and as HTML, columns for a terminal, Markdown for a card.

A table of facts is a title and rows `(group, name, value)` of strings; both looks are made from it alone, so they
cannot drift apart.
"""

import html
import textwrap
from collections.abc import Iterable, Sequence

from labkit.signs import inert

WIDTH = 108
GLUE = "\x1f"
BADGE = "color:#fff;padding:0 .35em;border-radius:2px;font-family:monospace;line-height:1.6;background:"
HEAD = 'style="text-align:left;padding:.5em .6em .1em 0"'
CELL = 'style="text-align:left;padding:.1em 1em .1em 0;vertical-align:top;font-weight:normal"'


class Coloured(str):
    """A cell; HTML shows each of its words that is in `colours`, `{word: colour}`, as a badge of that colour."""

    def __new__(cls, text: str, colours: dict):
        self = super().__new__(cls, text)
        self.colours = colours
        return self


class Table:
    """What is shown by its facts: a class with a `title` and with `facts()`, which gives rows (group, name, value)."""

    def __repr__(self):
        return as_text(self.title, self.facts())

    def _repr_html_(self):
        return as_html(self.title, self.facts())


def as_text(title: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """The table as text: a line per fact, a heading line where the group changes, long values wrapped."""
    margin = max((len(inert(name)) for _, name, _ in rows), default=0) + 4
    lines, last = [inert(title)], ""
    for group, name, value in rows:
        if group != last:
            lines.append(inert(group))
        last = group
        first = f"  {inert(name)}".ljust(margin)
        lines += textwrap.wrap(
            _keep_groups(inert(value, keep="\n\t")), WIDTH, initial_indent=first, subsequent_indent=" " * margin
        )
    return "\n".join(lines).replace(GLUE, " ")


def _keep_groups(value):
    """Only the places after a middle dot may break, so a group of layers or a statement stays on one line."""
    return GLUE.join(value.split(" ")).replace(f"·{GLUE}", "· ")


def as_html(title: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """The table as HTML: everything escaped, no ids, no scripts."""
    caption = f"<caption {HEAD}><b>{_cell(title)}</b></caption>"
    lines, last = [f'<table style="border-collapse:collapse;color:inherit">{caption}'], ""
    for group, name, value in rows:
        if group != last:
            lines.append(f'<tr><th colspan="2" scope="rowgroup" {HEAD}>{_cell(group)}</th></tr>')
        last = group
        lines.append(f'<tr><th scope="row" {CELL}>{_cell(name)}</th><td {CELL}>{_cell(value)}</td></tr>')
    return "\n".join([*lines, "</table>"])


def _cell(text):
    if not isinstance(text, Coloured):
        return html.escape(inert(text, keep="\n\t"))
    groups = []
    for group in text.split(" · "):  # what stands between middle dots stays on one line
        words = [(html.escape(inert(word)), text.colours.get(word)) for word in group.split()]
        badges = [f'<span style="{BADGE}{colour}">{word}</span>' if colour else word for word, colour in words]
        groups.append(f'<span style="white-space:nowrap">{" ".join(badges)}</span>')
    return " · ".join(groups)


def columns(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Columns as text under their names, the first `left` of them flush left and the others, numbers, flush right."""
    cells = [[inert(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = [str.ljust if i < left else str.rjust for i in range(len(widths))]
    lines = ([turn(*cell) for turn, *cell in zip(align, row, widths, strict=True)] for row in cells)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, with a newline at its end."""
    lines = [f"| {' | '.join(map(inert, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]]) + "\n"
