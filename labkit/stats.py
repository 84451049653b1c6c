"""Intervals, tests and corrections for readings that were drawn several times; the mathematics is scipy's.

    stats.wilson(18, 20)                                  # a share of right answers, with its interval
    stats.holm([0.01, 0.04, 0.03])

    wilson               a share of right answers
    t_interval           a mean of few draws
    bootstrap            any statistic of draws
    permutation          whether the mean of paired differences is 0
    holm, benjamini_hochberg    p values of several tests

Draws lie along a dim of a DataArray and the others remain; NaN, a draw that was never made, is left out.
"""

from collections.abc import Callable
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


def t_interval(values: xarray.DataArray, dim: str = "sample") -> tuple[xarray.DataArray, xarray.DataArray]:
    """(low, high) of the mean of `values` along a dim: 95 % interval by Student's t; NaN where there are fewer than
    two draws.
    """
    from scipy.stats import t

    count = values.notnull().sum(dim)
    quantile = xarray.apply_ufunc(partial(t.ppf, (1 + LEVEL) / 2), count - 1)
    half, mean = quantile * values.std(dim, ddof=1) / np.sqrt(count), values.mean(dim)
    return tuple(end.assign_attrs(values.attrs) for end in (mean - half, mean + half))


def bootstrap(
    values: xarray.DataArray,
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
    """
    from scipy import stats

    resamples, seed = whole(resamples, "resamples", least=2), whole(seed, "seed", least=0)
    options = dict(n_resamples=resamples, batch=500, confidence_level=LEVEL, method="percentile", vectorized=True)

    def ends(draws):
        rng = np.random.default_rng(seed)
        return tuple(stats.bootstrap((draws,), statistic, rng=rng, **options).confidence_interval)

    return _each(ends, values, dim, ends=2)


def permutation(
    differences: xarray.DataArray, dim: str = "sample", *, resamples: int = 10_000, seed: int = 0
) -> xarray.DataArray:
    """Two-sided p of the mean of paired differences along `dim`, if each might as well have had the other sign.

    Exact, over all 2^n signs, where these are at most `resamples`; else over so many drawn by `seed`. NaN for fewer
    than two pairs.

    Source: Fisher 1935, The Design of Experiments, sec. 21; `scipy.stats.permutation_test`.
    """
    from scipy import stats

    resamples, seed = whole(resamples, "resamples", least=1), whole(seed, "seed", least=0)
    options = dict(permutation_type="samples", n_resamples=resamples, batch=500, vectorized=True)

    def p(draws):
        return stats.permutation_test((draws,), np.mean, rng=np.random.default_rng(seed), **options).pvalue

    return _each(p, differences, dim)


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

    Source: Holm 1979, Scand. J. Stat. 6.
    """

    def adjust(flat):
        order = np.argsort(flat)
        steps = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1))
        return np.minimum(1, steps)[np.argsort(order)]

    return _adjusted(adjust, p)


def benjamini_hochberg(p: np.ndarray | xarray.DataArray) -> np.ndarray | xarray.DataArray:
    """p values adjusted so that the expected share of false ones among the rejected is what the level says.

    Args:
        p: array or DataArray of any shape, all of one family of tests.

    Source: Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57; `scipy.stats.false_discovery_control`.
    """
    from scipy.stats import false_discovery_control

    return _adjusted(false_discovery_control, p)


def _adjusted(adjust, p):
    return xarray.apply_ufunc(lambda values: adjust(np.ravel(values)).reshape(np.shape(values)), p)


def share_text(count: int, length: int, how: str) -> str:
    """What a dataset says of `count` tokens of `length` that were taken, and `how`: "64 of 512, evenly spaced", or
    "all 512" that were chosen.
    """
    return f"all {length:,}" if count == length and how == "chosen" else f"{count:,} of {length:,}, {how}"


def __dir__():
    return sorted(__all__)
