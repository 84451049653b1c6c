"""Intervals, tests and corrections for readings that were drawn several times; the mathematics is scipy's.

    stats.wilson(18, 20)                                  # a share of right answers, with its interval
    stats.holm([0.01, 0.04, 0.03])

    wilson               a share of right answers
    t_interval           a mean of few draws
    bootstrap            any statistic of draws
    permutation          whether the mean of paired differences is 0
    holm, benjamini_hochberg    p values of several tests

Draws lie along a dim of a DataArray and the others remain; a list or an array of one axis is of draws along `sample`.
NaN, a draw that was never made, is left out.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import xarray

from labkit.arguments import whole
from labkit.errors import InputError

__all__ = [
    "LEVEL",
    "benjamini_hochberg",
    "bootstrap",
    "holm",
    "permutation",
    "share_text",
    "t_interval",
    "wilson",
]

LEVEL = 0.95
Draws = xarray.DataArray | Sequence[float] | np.ndarray


def wilson(right: int, samples: int) -> tuple[float, float]:
    """(low, high) of the 95 % Wilson score interval of a proportion; NaN without samples.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22; `scipy.stats.binomtest`.

    Raises:
        InputError: more right answers than samples, or fewer than none.
    """
    from scipy.stats import binomtest

    right, samples = whole(right, "right"), whole(samples, "samples")
    if not 0 <= right <= samples:
        raise InputError("no share of so many samples", got=f"{right} of {samples}", expected=f"0 to {samples}")
    if samples == 0:
        return np.nan, np.nan
    ends = binomtest(int(right), int(samples)).proportion_ci(LEVEL, method="wilson")
    return float(ends.low), float(ends.high)


def t_interval(values: Draws, dim: str = "sample") -> tuple[xarray.DataArray, xarray.DataArray]:
    """(low, high) of the mean of `values` along a dim: 95 % interval by Student's t; NaN where there are fewer than
    two draws.

    Raises:
        InputError: no numbers, numbers without labels along several axes, no such dim.
    """
    from scipy.stats import t

    values = _draws(values, dim, "t_interval")
    count = values.notnull().sum(dim)
    quantile = xarray.apply_ufunc(partial(t.ppf, (1 + LEVEL) / 2), count - 1)
    half, mean = quantile * values.std(dim, ddof=1) / np.sqrt(count), values.mean(dim)
    return tuple(end.assign_attrs(values.attrs) for end in (mean - half, mean + half))


def bootstrap(
    values: Draws,
    dim: str = "sample",
    *,
    statistic: Callable = np.mean,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[xarray.DataArray, xarray.DataArray]:
    """(low, high) of a statistic of `values` along a dim: 95 % percentile interval; NaN for fewer than two draws.

    Args:
        statistic: `(array, axis) -> array`, for example `numpy.median`.
        resamples: how many; every entry along the other dims takes the same ones. seed: of a generator of its own.

    Source: Efron 1979, Ann. Stat. 7; `scipy.stats.bootstrap`.

    Raises:
        InputError: as `t_interval`; a statistic that is no function.
    """
    from scipy import stats

    values = _draws(values, dim, "bootstrap")
    if not callable(statistic):
        raise InputError(
            "stats.bootstrap: a statistic is a function", got=repr(statistic)[:80], expected="numpy.mean, say"
        )
    resamples, seed = whole(resamples, "resamples", least=2), whole(seed, "seed", least=0)
    options = dict(n_resamples=resamples, batch=500, confidence_level=LEVEL, method="percentile", vectorized=True)

    def ends(draws):
        rng = np.random.default_rng(seed)
        return tuple(stats.bootstrap((draws,), statistic, rng=rng, **options).confidence_interval)

    return _each(ends, values, dim, ends=2)


def permutation(differences: Draws, dim: str = "sample", *, resamples: int = 10_000, seed: int = 0) -> xarray.DataArray:
    """Two-sided p of the mean of paired differences along `dim`, if each might as well have had the other sign.

    Exact, over all 2^n signs, where these are at most `resamples`; else over so many drawn by `seed`. NaN for fewer
    than two pairs.

    Source: Fisher 1935, The Design of Experiments, sec. 21; `scipy.stats.permutation_test`.

    Raises:
        InputError: as `t_interval`.
    """
    from scipy import stats

    differences = _draws(differences, dim, "permutation")
    resamples, seed = whole(resamples, "resamples", least=1), whole(seed, "seed", least=0)
    options = dict(permutation_type="samples", n_resamples=resamples, batch=500, vectorized=True)

    def p(draws):
        return stats.permutation_test((draws,), np.mean, rng=np.random.default_rng(seed), **options).pvalue

    return _each(p, differences, dim)


def _draws(values, dim, name):
    """What was given as a DataArray of numbers, which has this dim."""
    given, values = values, _plain(values)
    if values is None or not isinstance(values, xarray.DataArray) and np.ndim(values) != 1:
        got = type(given).__name__ + (f" {tuple(np.shape(values))}" if np.ndim(values) else "")
        hint = f"stats.{name}([0.2, 0.4, 0.3]), or xarray.DataArray(values, dims=('sample', 'layer'))"
        if hasattr(given, "data_vars"):
            hint = f"stats.{name}(ds['margin']), one of: {', '.join(map(str, given.data_vars))}"
        raise InputError(
            f"stats.{name} reads draws", got=got, expected="a DataArray of numbers, or a list of them", hint=hint
        )
    values = values if isinstance(values, xarray.DataArray) else xarray.DataArray(values, dims="sample")
    if not isinstance(dim, Hashable) or dim not in values.dims:
        known = ", ".join(map(str, values.dims)) or "an array with at least one dim"
        raise InputError(f"stats.{name}: no such dim", got=repr(dim)[:80], expected=known)
    return values


def _plain(values):
    """An array of real numbers, a DataArray as it is; None of anything else."""
    if isinstance(values, xarray.DataArray):
        return values if values.dtype.kind in "biuf" else None
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().double().numpy()
    if not isinstance(values, list | tuple | np.ndarray):
        return None
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def _each(function, values, dim, *, ends=1):
    """A function of the draws that were made, entry by entry; it gives one number, or so many `ends`."""
    nothing = np.nan if ends == 1 else (np.nan,) * ends

    def known(draws):
        draws = draws[np.isfinite(draws)]
        return function(draws) if len(draws) > 1 else nothing

    options = dict(input_core_dims=[[dim]], output_core_dims=[[]] * ends, vectorize=True, keep_attrs=ends > 1)
    return xarray.apply_ufunc(known, values, **options)


def holm(p: np.ndarray | xarray.DataArray) -> np.ndarray | xarray.DataArray:
    """p values adjusted so that any false rejection among all of them is as rare as the level says.

    Args:
        p: array or DataArray of any shape, all of one family of tests.

    NaN, what `permutation` says of too few pairs, stays NaN and counts as a test.

    Source: Holm 1979, Scand. J. Stat. 6.

    Raises:
        InputError: anything but numbers from 0 to 1.
    """

    def adjust(flat):
        order = np.argsort(flat)
        steps = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1))
        return np.minimum(1, steps)[np.argsort(order)]

    return _adjusted(adjust, p, "holm", unknown=True)


def benjamini_hochberg(p: np.ndarray | xarray.DataArray) -> np.ndarray | xarray.DataArray:
    """p values adjusted so that the expected share of false ones among the rejected is what the level says.

    Args:
        p: array or DataArray of any shape, all of one family of tests.

    Source: Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57; `scipy.stats.false_discovery_control`.

    Raises:
        InputError: anything but numbers from 0 to 1.
    """
    from scipy.stats import false_discovery_control

    return _adjusted(false_discovery_control, p, "benjamini_hochberg")


def _adjusted(adjust, p, name, *, unknown=False):
    """A correction of p values, of which an `unknown` one, NaN, may be."""
    p = np.asarray(p) if isinstance(p, int | float) and not isinstance(p, bool) else p
    values = _plain(p)
    flat = np.empty(0) if values is None else np.ravel(values)
    wrong = flat[~((flat >= 0) & (flat <= 1) | (np.isnan(flat) & unknown))]
    if values is None or len(wrong):
        got = type(p).__name__ if values is None else ", ".join(f"{value:g}" for value in wrong[:3])
        hint = f"stats.{name}([0.01, 0.04])"
        raise InputError(f"stats.{name}: a p value is a number", got=got, expected="0 to 1", hint=hint)
    return xarray.apply_ufunc(lambda values: adjust(np.ravel(values)).reshape(np.shape(values)), values)


def share_text(count: int, length: int, how: str) -> str:
    """What a dataset says of `count` tokens of `length` that were taken, and `how`: "64 of 512, evenly spaced", or
    "all 512" that were chosen.
    """
    return f"all {length:,}" if count == length and how == "chosen" else f"{count:,} of {length:,}, {how}"


def __dir__():
    return sorted(__all__)
