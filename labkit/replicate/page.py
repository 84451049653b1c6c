"""A replicated claim as text for a terminal, as a figure, and as a page that works offline."""

import math
import pathlib
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from labkit import draw
from labkit.claims import number
from labkit.notation import Quantity, label
from labkit.replicate.published import find
from labkit.replicate.record import READ
from labkit.replicate.rule import between, verdict
from labkit.tables import WIDTH, columns

if TYPE_CHECKING:
    import xarray

PUBLISHED, CONTROL = "published", "control"
DIGITS = 4
LOG = 30  # numbers that lie further apart than this factor are drawn by their logarithm


def as_text(ds: "xarray.Dataset") -> str:
    """The claim, each number beside ours with its interval and its verdict, what was done, and why it might differ."""
    paper, told = find(ds.attrs["paper"]), verdict(ds)
    lines = [f"arXiv {paper.arxiv}: {paper.title}", _wrapped("claim", paper.claim)]
    lines += [_wrapped("measured there on", paper.model), f"measured here on {ds.attrs['model']}", ""]
    head = ("number", "published", "here", "[95 %]", "the same if", CONTROL, "verdict")
    rows = []
    for one, each in zip(paper.numbers, told.findings, strict=True):
        row = ds.sel(number=one.name)
        here = "none" if math.isnan(float(row.ours)) else _shown(float(row.ours))
        ends = _ends(row, "ours")
        rows.append((one.name, one.text, here, ends, between(*one.same), _ends(row, "control"), each.word))
    lines += [columns(head, rows), ""]
    lines += [f"verdict: {told.word}", *(_wrapped(f"  {each.name}", each.why) for each in told.findings), ""]
    for name in ds.other.values if "other" in ds.coords else ():
        row = ds.sel(other=name)
        lines.append(f"beside: {name}: {_shown(float(row.beside))} {_ends(row, 'beside')}")
    lines += [
        _wrapped("control", paper.control),
        _wrapped("how", ds.attrs["how"]),
        f"intervals: {ds.attrs['interval']}",
    ]
    for one in paper.numbers:
        lines.append(_wrapped(f"{one.text}, {one.name}", f"{one.place} (read: {READ[one.read]})"))
        lines.append(f"  counts as the same {between(*one.same)}: {one.because}")
    return "\n".join([*lines, "what could explain a difference:", *(_wrapped("-", reason) for reason in paper.reasons)])


def drawn(ds: "xarray.Dataset", *, title: str | None = None):
    """Bars of the published numbers, ours with intervals, and the control's; far apart ones by their logarithm."""
    known = np.isfinite(ds.ours.values)
    ds = ds.isel(number=known) if known.any() else ds
    parts = {PUBLISHED: "published", f"here, {ds.attrs['model']}": "ours", CONTROL: "control"}
    values = {end: np.array([_end(ds, name, end) for name in parts.values()]) for end in ("", "_low", "_high")}
    finite = values[""][np.isfinite(values[""])]
    logarithm = len(finite) and finite.min() > 0 and finite.max() / finite.min() > LOG
    turned = np.log10 if logarithm else np.asarray
    axis = "logarithm to base 10 of the number" if logarithm else "number"
    size = Quantity("log10" if logarithm else "number", axis, "", "signed", f"arXiv {ds.attrs['paper']}")
    variables = {f"size{end}": (("of", "number"), turned(part), size) for end, part in values.items()}
    made = label(variables, coords={"of": list(parts), "number": ds.number.values}, attrs={"model": ds.attrs["model"]})
    title = title or f"arXiv {ds.attrs['paper']}: {verdict(ds).word}"
    fig = draw.bars(made, "size", x="number", color="of", interval=("size_low", "size_high"), title=title)
    return fig.update_yaxes(title={"text": axis})


def write(path: str | pathlib.Path, ds: "xarray.Dataset") -> pathlib.Path:
    """Write one page with the figure and all that `as_text` says; returns its path.

    Raises:
        InputError: a place that cannot be written to.
    """
    name = f"arXiv {ds.attrs['paper']} on {ds.attrs['model']}: {verdict(ds).word}"
    return draw.page(path, [(drawn(ds), find(ds.attrs["paper"]).claim)], title=name, text=as_text(ds))


def _end(ds, name, end):
    return ds[name if name == "published" else name + end].values


def _ends(row, name):
    low, high = (float(row[name + end]) for end in ("_low", "_high"))
    return "" if math.isnan(low) else f"[{_shown(low)} to {_shown(high)}]"


def _wrapped(name, text):
    return textwrap.fill(f"{name}: {text}" if name != "-" else f"- {text}", WIDTH, subsequent_indent="  ")


def _shown(value):
    return number(value, DIGITS)
