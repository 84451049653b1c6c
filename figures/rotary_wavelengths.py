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
from labkit.notation import Quantity, label

WAYS = {
    "YaRN 4": {},
    "YaRN 4, the paper's ramp": {"ramp": "paper"},
    "NTK-aware 4": {"kind": "ntk"},
    "linear 4": {"kind": "linear"},
}


OCTAVE = Quantity("log₂ λ", "wavelength", "tokens", "positive", "arXiv 2104.09864")


def data(lab):
    """octave (term, pair): log2 of the wavelength in tokens; never: pairs above the window."""
    model = spec.read("Qwen3.6-27B")
    ways = {name: yarn.wavelengths(model, 4, **options) for name, options in WAYS.items()}
    pairs = ways["YaRN 4"]
    rows = [np.log2(pairs.wavelength.values), *(np.log2(ds.scaled_wavelength.values) for ds in ways.values())]
    rows.append(np.full(pairs.sizes["pair"], np.log2(model.window)))
    coords = {"term": ["native", *ways, "the window"], "pair": ("pair", range(pairs.sizes["pair"]), "rotary pair")}
    values = {
        "octave": (("term", "pair"), np.array(rows), OCTAVE),
        "never": ((), (pairs.turns < 1).sum(), None),
        "slowed": ((), pairs.slowed.values[pairs.kind.values == "interpolated"].min(), "slowed"),
    }
    facts = {"model": model.name, "reading": "yarn.wavelengths", "rotary_dim": model.rotary_dim}
    return label(values, coords=coords, attrs=facts)


def draw(ds):
    """One line per scaling."""
    title = f"{int(ds.never)} of {ds.sizes['pair']} pairs turn less than once in the window; "
    title += f"YaRN 4 makes them {float(ds.slowed):.0f} times slower"
    return plot.lines(ds, "octave", x="pair", color="term", title=title)
