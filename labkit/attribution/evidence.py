"""What prompts say together about many cells: mean, interval, p, and p for so many cells.

The tests are those of `labkit.stats`. All cells take the same resamples and the same signs, so that thousands of them
cost a product of matrices, and p values go deep enough to be left of a correction for thousands.
"""

from collections.abc import Callable

import numpy as np
import xarray

from labkit import stats
from labkit.arguments import whole
from labkit.errors import InputError
from labkit.notation import Quantity
from labkit.orders import ROUNDED

RESAMPLES, SIGNS = 10_000, 2**17
SLICE = 512  # cells, or signs, at a time
P = Quantity("p", "permutation p of the mean change", "fraction", "fraction", "Fisher 1935")
CORRECTIONS = {"holm": stats.holm, "benjamini_hochberg": stats.benjamini_hochberg}


def checked(correction: str, seed: int, name: str) -> int:
    """The seed, as numpy takes it.

    Raises:
        InputError: an unknown correction, or no seed.
    """
    if not isinstance(correction, str) or correction not in CORRECTIONS:
        raise InputError(f"{name}: unknown correction", got=repr(correction), expected=", ".join(CORRECTIONS))
    return whole(seed, "seed", least=0)


def with_statistics(ds: xarray.Dataset, correction: str, seed: int) -> xarray.Dataset:
    """A Dataset of `effect` and `change` over samples, with their mean, interval, p and p adjusted for all cells."""
    low, high = over_cells(interval, ds.effect, 2, seed)
    (p,) = over_cells(signed, xarray.where(abs(ds.change) <= ROUNDED, 0.0, ds.change), 1, seed)
    known = np.isfinite(p.values)
    adjusted, count = p.copy(deep=True), int(known.sum())
    if count:
        adjusted.values[known] = CORRECTIONS[correction](p.values[known])
    p = p.assign_attrs(vars(P))
    adjusted.attrs = vars(P) | {"long_name": f"p, adjusted for {count} cells: {correction}"}
    mean = ds.effect.mean("sample", keep_attrs=True)
    ds = ds.assign(mean=mean, low=low.assign_attrs(mean.attrs), high=high.assign_attrs(mean.attrs))
    facts = {"interval": f"95 %, bootstrap over {ds.sizes['sample']} prompts", "seed": seed}
    facts |= {"correction": f"{correction}, {count} cells"}
    return ds.assign(p=p, p_adjusted=adjusted).assign_attrs(facts)


def over_cells(function: Callable, values: xarray.DataArray, results: int, seed: int) -> list[xarray.DataArray]:
    """`function(draws [sample, cell], seed) -> [results, cell]` of all cells; not-a-number for fewer than two draws.

    Samples without any number are left out; a cell that lacks one of the others has no result.
    """
    flat = values.stack(cell=[dim for dim in values.dims if dim != "sample"]) if values.ndim > 1 else values
    draws = np.asarray(flat.values, dtype=float).reshape(values.sizes["sample"], -1)
    draws = draws[np.isfinite(draws).any(1)]
    known = np.isfinite(draws).all(0)
    made = np.full((results, draws.shape[1]), np.nan)
    if len(draws) > 1:
        for part in np.array_split(np.flatnonzero(known), -(-int(known.sum()) // SLICE)):
            made[:, part] = function(draws[:, part], seed)
    shape = [size for dim, size in values.sizes.items() if dim != "sample"]
    like = values.isel(sample=0, drop=True)
    return [like.copy(data=row.reshape(shape)) for row in made]


def interval(draws: np.ndarray, seed: int) -> np.ndarray:
    """Ends [2, cell] of the 95 % percentile interval of the mean, as `stats.bootstrap`."""
    count = len(draws)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES) / count
    tail = 50 * (1 - stats.LEVEL)
    return np.percentile(weights @ draws, [tail, 100 - tail], axis=0)


def signed(draws: np.ndarray, seed: int) -> np.ndarray:
    """Two-sided p [1, cell] of the mean, as `stats.permutation`: over all signs where these are few enough."""
    count = len(draws)
    exact = 2**count <= SIGNS
    total = 2**count if exact else SIGNS
    rng, bar = np.random.default_rng(seed), np.abs(draws.sum(0)) * (1 - 1e-7)  # as good as equal is as extreme
    reached = np.zeros(draws.shape[1], np.int64)
    for start in range(0, total, 16 * SLICE):
        rows = min(16 * SLICE, total - start)
        bits = (np.arange(start, start + rows)[:, None] >> np.arange(count)) & 1 if exact else None
        signs = 2.0 * (rng.integers(0, 2, (rows, count)) if bits is None else bits) - 1
        reached += (np.abs(signs @ draws) >= bar).sum(0)
    return np.minimum(1, (reached + (not exact)) / (total + (not exact)))[None]
