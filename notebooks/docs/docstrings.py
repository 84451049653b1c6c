"""labkit's docstrings as Sphinx reads them: single backticks are code, stars and bars are signs, examples are code."""

import re

SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SECTION = re.compile(r"\s*(Args|Attributes|Raises|Returns|Yields|Example|Examples|Note):\s*$")


def setup(app):
    """Before napoleon, which turns sections into fields."""
    app.connect("autodoc-process-docstring", prepared, priority=400)


def prepared(app, what, name, found, options, lines):
    """Rewrite the lines of a docstring in place."""
    lines[:] = examples(marked("\n".join(lines)).split("\n"))


def marked(text):
    """Code in double backticks, apart from letters that follow it; no other sign of markup."""
    parts, last = [], 0
    for found in SPAN.finditer(text):
        parts += [_plain(text[last : found.start()]), f"``{' '.join(found[1].split())}``"]
        if text[found.end() : found.end() + 1].isalnum():
            parts.append("\\ ")
        last = found.end()
    return "".join([*parts, _plain(text[last:])])


def examples(lines):
    """A block that is indented behind an empty line, and belongs to no section, is code."""
    made, section, inside = [], False, False
    for before, line in zip(["", *lines], lines, strict=False):
        deep = len(line) - len(line.lstrip())
        if line.strip() and not deep:
            section, inside = bool(SECTION.match(line)), False
        if deep >= 4 and not before.strip() and not section and not inside:
            made += ["::", ""] if not line.lstrip().startswith(">>>") else []
            inside = True
        made.append(_bare(line) if inside else line)
    return made


def _plain(text):
    return re.sub(r"([*|]|\b_(?=\s))", r"\\\1", text)


def _bare(line):
    """A line of code without the marks that text needs."""
    return line.replace("\\*", "*").replace("\\|", "|").replace("``", "`").replace("`\\ ", "`")
