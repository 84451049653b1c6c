"""Which rotary pairs never turn once in the trained window, and what does YaRN do to them?

Wavelength of every pair in tokens, as a power of two, for the native frequencies and under four ways to stretch the
window by 4. The level line is the trained window. Computed from the configuration, no model is run.

Look where the curves cross the line: pairs above it never turn once while training. Linear interpolation lifts all
pairs, also the fast ones that tell neighbours apart. The control is the base that a program falls back to when the
configuration's own is left out: a native curve below the line everywhere, of which nothing would be new.

Source: RoPE, arXiv 2104.09864; YaRN, arXiv 2309.00071; transformers, `modeling_rope_utils.py`; `labkit.yarn`.
"""

import dataclasses

import numpy as np

import figures
from labkit import draw as plot
from labkit import spec, yarn
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label

PLACE = ("yarn", 10)
WAYS = {
    "YaRN 4": {},
    "YaRN 4, the paper's ramp": {"ramp": "paper"},
    "NTK-aware 4": {"kind": "ntk"},
    "linear 4": {"kind": "linear"},
}
FALLBACK, FAST = 10_000.0, 32  # the base without `rope_theta`; turns in the window above which YaRN leaves a pair alone
OCTAVE = Quantity("log₂ λ", "wavelength", "tokens", "positive", "arXiv 2104.09864")


def data(lab):
    """octave (term, pair): log2 of the wavelength in tokens; other: the same at the base that programs fall back to."""
    model = spec.read("Qwen3.6-27B")
    octave, other = (_octaves(each) for each in (model, dataclasses.replace(model, rope_theta=FALLBACK)))
    coords = {"term": ["native", *WAYS], "pair": ("pair", range(octave.shape[1]), "rotary pair")}
    values = {"octave": (("term", "pair"), octave, OCTAVE), "other": (("term", "pair"), other, OCTAVE)}
    facts = figures.made(model.name, sample=f"all {octave.shape[1]} pairs, from the configuration")
    facts |= {"reading": "yarn.wavelengths", "rotary_dim": model.rotary_dim, "window": model.window}
    return label(values, coords=coords, attrs=facts)


def _octaves(model):
    ways = [yarn.wavelengths(model, 4, **options) for options in WAYS.values()]
    return np.log2([ways[0].wavelength.values, *(ds.scaled_wavelength.values for ds in ways)])


def claim(ds):
    """Pairs beyond the window are slowed by all of the factor, fast ones by none of it."""
    window = np.log2(ds.attrs["window"])
    native = ds.octave.sel(term="native", drop=True)
    slowed = (2 ** (ds.octave - native)).round(3)
    never, fast = native > window, native < window - np.log2(FAST)
    count, left = int(never.sum()), int(fast.sum())
    least = {way: float(slowed.sel(term=way).where(never).min()) for way in WAYS}
    most = {way: float(slowed.sel(term=way).where(fast).max()) for way in WAYS}
    return Claim(
        f"{count} of {ds.sizes['pair']} pairs never turn once in the window: YaRN slows these {least['YaRN 4']:.0f} "
        f"times, the {left} fastest not at all",
        [
            Part("pairs that never turn once in the window", count, ">", 0),
            Part("times slower, at least, under YaRN 4", least["YaRN 4"], ">", least["NTK-aware 4"], "NTK-aware 4"),
            Part(f"times slower, the {left} fastest pairs at most", most["YaRN 4"], "<", most["linear 4"], "linear 4"),
            Part(f"times slower, the {left} fastest pairs at most", most["YaRN 4"], "=", 1),
        ],
    )


def controls(ds):
    """Another base, other ways."""
    put = lambda way: ds.assign(octave=ds.octave.where(ds.term != "YaRN 4", ds.octave.sel(term=way, drop=True)))
    return {
        "base 10,000, as where the configuration's is left out": ds.assign(octave=ds.other),
        "linear interpolation in place of YaRN": put("linear 4"),
        "NTK-aware scaling in place of YaRN": put("NTK-aware 4"),
    }


def draw(ds):
    """One line per scaling, and the window."""
    window = int(ds.attrs["window"])
    level = {f"the window, {window:,} tokens": float(np.log2(window))}
    return plot.lines(ds, "octave", x="pair", color="term", levels=level, title=claim(ds).title)
