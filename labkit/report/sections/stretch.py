"""Rotary positions: how fast each pair turns, what YaRN would change, which phases a length shows that are new."""

import math

import numpy as np
import xarray

from labkit import draw, yarn
from labkit.report.section import Section

FACTOR = 4.0


def _rotated(task):
    if not task.spec.attention_layers:
        return "this model has no attention layer"
    return "" if task.spec.rotary_dim else "this model's attention rotates nothing: positions are known by order alone"


def _bands(task):
    ds = yarn.wavelengths(task.spec, FACTOR)
    both = xarray.concat(
        [ds.wavelength, ds.scaled_wavelength], xarray.Variable("scaling", ["as trained", f"YaRN {FACTOR:g}"])
    )
    logs = np.log10(both).assign_attrs(ds.wavelength.attrs | {"symbol": "log₁₀ λ", "scale": "signed"})
    made = xarray.Dataset({"wavelength": both.assign_attrs(ds.wavelength.attrs), "logarithm": logs})
    made = made.assign(turns=ds.turns, ramp=ds.ramp)
    facts = {"prompt": len(task), "sample": "from the configuration, no run"}
    return made.assign_attrs(ds.attrs | facts | {"reading": "yarn.wavelengths"})


def _bands_said(ds):
    turns = ds.turns.values
    whole = int((turns >= 1).sum())
    return f"{whole} of {len(turns)} rotary pairs complete a turn within the window of {ds.attrs['window']:,} tokens"


def _bands_drawn(ds, title):
    levels = {"this prompt": math.log10(ds.attrs["prompt"]), "the window": math.log10(ds.attrs["window"])}
    return draw.lines(ds, "logarithm", x="pair", color="scaling", levels=levels, title=title)


def _phases(task):
    lengths = sorted({len(task), task.spec.window, int(FACTOR) * task.spec.window})
    parts = [yarn.phase_coverage(task.spec, tokens=n)[["new", "turns"]] for n in lengths]
    whole = xarray.concat(parts, xarray.Variable("length", lengths), combine_attrs="override")
    whole["length"].attrs.update(long_name="tokens of the context")
    facts = {"prompt": len(task), "sample": "from the configuration, no run"}
    return whole.assign_coords(length_text=("length", [f"{n:,}" for n in lengths])).assign_attrs(facts)


def _named(scaling):
    return "as it is" if scaling == "none" else f"under {scaling}"


def _phases_said(ds):
    here, far = ds.sel(length=ds.attrs["prompt"]).isel(scaling=0), ds.isel(length=-1)
    new, most, count = int((here.new > 0).sum()), int(ds.length[-1]), ds.sizes["pair"]
    rest = [f"{int((far.sel(scaling=name).new > 0).sum())} {_named(str(name))}" for name in far.scaling.values]
    return f"This prompt shows unseen phases in {new} of {count} pairs; {most:,} tokens would in {', '.join(rest)}"


SECTIONS = [
    Section(
        "bands",
        "yarn",
        "How fast does each rotary pair turn?",
        f"Wavelengths in tokens, as trained and under YaRN with factor {FACTOR:g}, which slows down the pairs that "
        "do not complete a turn in the window and leaves the fast ones alone.",
        _bands,
        _bands_drawn,
        _bands_said,
        applies=_rotated,
    ),
    Section(
        "phases",
        "yarn",
        "Which phases has no weight seen?",
        "The share of a turn that lies beyond what the window showed, pair by pair, for this prompt's length, the "
        "window and four windows; exact, from the configuration.",
        _phases,
        lambda ds, title: draw.heatmap(ds, "new", facet="scaling", title=title),
        _phases_said,
        applies=_rotated,
    ),
]
