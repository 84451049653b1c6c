"""Ten of the 27B's 32 rotary pairs never complete a turn in its window; YaRN slows those by its factor

Wavelength of every pair in tokens, as a power of two, for the native frequencies and under four ways to stretch the
window by 4. The level line is the trained window of 262,144 tokens. Computed from the configuration, no model is run.

Look where the curves cross the line: pairs above it never turn once while training. Linear interpolation lifts all
pairs, also the fast ones that tell neighbours apart; YaRN leaves them. A native curve below the line everywhere would
mean that no phase is new beyond the window.

Source: RoPE, arXiv 2104.09864; YaRN, arXiv 2309.00071; transformers, `modeling_rope_utils.py`; `labkit.yarn`.
"""

import numpy as np

from labkit import draw as plot
from labkit import spec, yarn
from labkit.notation import label

WAYS = {
    "YaRN 4": {},
    "YaRN 4, the paper's ramp": {"ramp": "paper"},
    "NTK-aware 4": {"kind": "ntk"},
    "linear 4": {"kind": "linear"},
}


def data(lab):
    """octave (term, pair): log2 of the wavelength in tokens; never: pairs above the window."""
    model = spec.read("Qwen3.6-27B")
    found = {name: yarn.wavelengths(model, 4, **options) for name, options in WAYS.items()}
    plain = next(iter(found.values()))
    rows = [np.log2(plain.wavelength.values), *(np.log2(ds.scaled_wavelength.values) for ds in found.values())]
    rows.append(np.full(plain.sizes["pair"], np.log2(model.window)))
    coords = {"term": ["native", *found, "the window"], "pair": range(plain.sizes["pair"])}
    held = label({"octave": (("term", "pair"), np.array(rows))}, coords=coords)
    held.octave.attrs = {"symbol": "log₂ λ", "long_name": "wavelength", "units": "tokens", "scale": "positive"}
    held["pair"].attrs["long_name"] = "rotary pair"
    slowed = plain.slowed.values[plain.kind.values == "interpolated"]
    facts = {"model": model.name, "reading": "yarn.wavelengths", "rotary_dim": model.rotary_dim}
    return held.assign(never=(plain.turns < 1).sum(), slowed=slowed.min()).assign_attrs(facts)


def draw(ds):
    """One line per scaling."""
    title = f"{int(ds.never)} of {ds.sizes['pair']} pairs turn less than once in the window; "
    title += f"YaRN 4 makes them {float(ds.slowed):.0f} times slower"
    return plot.lines(ds, "octave", x="pair", color="term", title=title)
