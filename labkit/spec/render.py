"""One table, two looks: rows of facts as aligned text and as HTML with the same words in the same order.

A table is a title and rows `(group, name, value)` of plain strings; both looks are made from it alone, so
they cannot drift apart.
"""

import html
import textwrap

COLOURS = {"D": "#0072B2", "A": "#D55E00"}  # Gated DeltaNet and gated attention, everywhere in labkit
WIDTH = 108
GLUE = "\x1f"


def as_text(title, rows):
    """The table as text: a line per fact, a heading line where the group changes, long values wrapped."""
    margin = max((len(name) for _, name, _ in rows), default=0) + 4
    lines, last = [title], ""
    for group, name, value in rows:
        if group != last:
            lines.append(group)
        last = group
        first = f"  {name}".ljust(margin)
        lines += textwrap.wrap(_keep_groups(value), WIDTH, initial_indent=first, subsequent_indent=" " * margin)
    return "\n".join(lines).replace(GLUE, " ")


def _keep_groups(value):
    """Only the places after a middle dot may break, so a group of layers or a statement stays on one line."""
    return GLUE.join(value.split(" ")).replace(f"·{GLUE}", "· ")


def as_html(title, rows):
    """The table as HTML: everything escaped, no ids, no scripts; a strip of layers in coloured squares."""
    head = 'style="text-align:left;padding:.5em .6em .1em 0"'
    cell = 'style="text-align:left;padding:.1em 1em .1em 0;vertical-align:top;font-weight:normal"'
    caption = f"<caption {head}><b>{html.escape(title)}</b></caption>"
    lines, last = [f'<table style="border-collapse:collapse;color:inherit">{caption}'], ""
    for group, name, value in rows:
        if group != last:
            lines.append(f'<tr><th colspan="2" scope="rowgroup" {head}>{html.escape(group)}</th></tr>')
        last = group
        shown = squares(value) if name == "strip" else html.escape(value)
        lines.append(f'<tr><th scope="row" {cell}>{html.escape(name)}</th><td {cell}>{shown}</td></tr>')
    return "\n".join([*lines, "</table>"])


def squares(strip):
    """The strip's letters as squares in the fixed colours of the two kinds of layer."""
    look = "color:#fff;padding:0 .35em;border-radius:2px;font-family:monospace;line-height:1.6;background:"
    groups = []
    for group in strip.split(" · "):
        signs = [f'<span style="{look}{COLOURS[sign]}">{sign}</span>' for sign in group.split()]
        groups.append(f'<span style="white-space:nowrap">{" ".join(signs)}</span>')
    return " · ".join(groups)


def size(number):
    """Bytes in binary units: 512 B, 64.00 KiB, 147.75 MiB, 16.00 GiB."""
    if number < 1024:
        return f"{number:,.0f} B"
    units = ["KiB", "MiB", "GiB", "TiB"]
    number /= 1024
    while number >= 1024 and len(units) > 1:
        number, units = number / 1024, units[1:]
    return f"{number:,.2f} {units[0]}"


def big_number(number, units=("", " k", " M", " G", " T", " P")):
    """A count with four significant digits and a decimal prefix: 48.70 G; other names of units in `units`."""
    exponent = 0
    while abs(number) >= 999.95 and exponent < len(units) - 1:
        number, exponent = number / 1000, exponent + 1
    if exponent == 0 and number == int(number):
        return f"{int(number)}{units[0]}"
    digits = 2 if abs(number) < 99.995 else 1
    return f"{number:,.{digits}f}{units[exponent]}"


def duration(seconds):
    """Seconds with three significant digits: 12.6 µs, 14.3 ms, 253 s, 3,524 s."""
    units = ["s", "ms", "µs"]
    while seconds < 0.9995 and len(units) > 1:
        seconds, units = seconds * 1e3, units[1:]
    return f"{seconds:,.0f} {units[0]}" if seconds >= 99.95 else f"{seconds:.3g} {units[0]}"


def parameter_count(number):
    """Parameters the way models are named: 752.4 M, 26.90 B."""
    return big_number(number, ("", " k", " M", " B", " T"))
