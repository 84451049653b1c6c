"""The experts that the prompt's tokens were given to, beside a router that chooses evenly."""

import xarray

from labkit import draw, experts
from labkit.experts.routing import SEAMS
from labkit.report.section import Section, place
from labkit.report.task import fits


def _applies(task):
    if not task.spec.experts:
        return "this model has no experts"
    return fits(task) if task.spec.layers_of("experts") else "what this model's router chooses cannot be read"


def _load(task):
    parts, layers = [], list(task.spec.layers_of("experts"))
    for layer in layers:
        ds = experts.load(task.run(layers=[layer], seams=list(SEAMS)), layer=layer)
        parts.append(ds[["share", "even", "outside", "spread"]].drop_vars("layer", errors="ignore"))
    whole = xarray.concat(parts, xarray.Variable("layer", layers), combine_attrs="override")
    whole["share"].attrs["scale"] = "positive"  # shares are small where experts are many
    return whole.assign_attrs(layer=layers, parity=max(part.attrs["parity"] for part in parts))


def _load_said(ds):
    share, where = place(ds.share, highest=True)
    return f"The busiest expert is chosen for {share:.3f} of a layer's choices ({where}); even would be {_even(ds):.3f}"


def _even(ds):
    return float(ds.even.max())


SECTIONS = [
    Section(
        "experts",
        "experts",
        "Which experts do the tokens use?",
        "The share of all choices of a layer that falls on each expert. A router that chooses evenly would give all "
        "the same, but for chance.",
        _load,
        lambda ds, title: draw.heatmap(ds, "share", title=title),
        _load_said,
        applies=_applies,
    ),
]
