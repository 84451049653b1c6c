"""Intervals hold what they promise, p values are uniform where nothing is, seeds repeat."""

import math

import numpy as np
import pytest
import torch
import xarray

from labkit import stats
from labkit.errors import InputError


def drawn(shape, *, seed=0, mean=0.0, dims=("trial", "sample")):
    return xarray.DataArray(np.random.default_rng(seed).normal(mean, 1, shape), dims=dims, attrs={"units": "nat"})


def covers(low, high, truth):
    return float(((low <= truth) & (truth <= high)).mean())


def test_wilson_of_known_shares():
    assert stats.wilson(95, 100) == pytest.approx((0.88825, 0.97846), abs=1e-5)
    assert stats.wilson(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)  # z²/(n + z²)
    assert stats.wilson(10, 10) == pytest.approx((1 - 0.27753, 1), abs=1e-5)
    assert all(math.isnan(end) for end in stats.wilson(0, 0))
    with pytest.raises(InputError, match="(?s)no share.*11 of 10.*0 to 10"):
        stats.wilson(11, 10)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_wilson_covers_the_true_share(share):
    counts = np.random.default_rng(1).binomial(37, share, 4000)
    low, high = np.array([stats.wilson(int(count), 37) for count in range(38)]).T
    assert 0.93 < covers(low[counts], high[counts], share) < 0.975


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.7062), (3, 4.30265), (6, 2.57058), (8, 2.36462), (32, 2.03951)])
def test_t_interval_of_known_quantiles(count, quantile):
    values = drawn((5, count), mean=3)
    low, high = stats.t_interval(values)
    half = quantile * values.std("sample", ddof=1) / math.sqrt(count)
    assert low.dims == high.dims == ("trial",) and low.attrs == high.attrs == {"units": "nat"}
    assert np.allclose(low, values.mean("sample") - half, rtol=1e-5, atol=1e-4)
    assert np.allclose(high, values.mean("sample") + half, rtol=1e-5, atol=1e-4)


def test_t_interval_covers_the_mean_and_leaves_out_what_was_not_drawn():
    assert covers(*stats.t_interval(drawn((4000, 5), mean=2)), 2) == pytest.approx(0.95, abs=0.012)
    values = drawn((3, 7))
    holed = values.copy()
    holed[1, 4:], holed[2, 1:] = np.nan, np.nan
    for end, short in zip(stats.t_interval(holed), stats.t_interval(values[:, :4]), strict=True):
        assert float(end[1]) == pytest.approx(float(short[1])) and np.isnan(end[2])


def test_bootstrap_covers_the_mean():
    low, high = stats.bootstrap(drawn((400, 40), mean=2), resamples=1000)
    assert low.dims == ("trial",) and low.attrs == {"units": "nat"}
    assert 0.9 < covers(low, high, 2) < 0.98
    values = drawn((2, 500), seed=3)
    for end, exact in zip(stats.bootstrap(values), stats.t_interval(values), strict=True):
        assert np.allclose(end, exact, atol=0.02)


def test_bootstrap_of_another_statistic_and_dim():
    values = xarray.DataArray(np.random.default_rng(4).lognormal(size=(301, 3)), dims=("draw", "head"))
    low, high = stats.bootstrap(values, "draw", statistic=np.median, resamples=2000)
    medians = values.median("draw")
    assert low.dims == ("head",) and (low < medians).all() and (medians < high).all()
    assert (high < values.mean("draw")).all()  # a lognormal's mean lies far above its median


def test_seeds_repeat_and_no_global_generator_moves():
    values = drawn((3, 25), mean=0.3)
    before = np.random.get_state()[1].copy()
    lows = [stats.bootstrap(values, seed=seed)[0] for seed in (0, 0, 1)]
    ps = [stats.permutation(values, seed=seed) for seed in (0, 0, 1)]
    for same, again, other in (lows, ps):
        assert same.equals(again) and not same.equals(other)
    assert (np.random.get_state()[1] == before).all()


def test_permutation_is_exact_for_few_pairs():
    assert float(stats.permutation(xarray.DataArray([1.0, 2.0, 3.0, 4.0, 5.0], dims="sample"))) == 2 / 2**5
    assert float(stats.permutation(xarray.DataArray([1.0, 1.0, -1.0], dims="sample"))) == 1.0
    few = drawn((2, 9))
    assert stats.permutation(few, seed=0).equals(stats.permutation(few, seed=1))


def test_permutation_p_is_uniform_under_the_null_and_small_beside_it():
    p = stats.permutation(drawn((1500, 13)), resamples=999)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert float((p <= level).mean()) == pytest.approx(level, abs=0.035)
    assert float((stats.permutation(drawn((300, 13), mean=1.2), resamples=999) <= 0.05).mean()) > 0.9


def test_what_was_not_drawn_is_left_out_and_nothing_drawn_is_no_finding():
    values = drawn((3, 9), mean=2)
    holed = values.copy()
    holed[1, 2:7], holed[2, 1:] = np.nan, np.nan
    short = values[:, [0, 1, 7, 8]]
    for call in (lambda x: stats.bootstrap(x)[0], lambda x: stats.bootstrap(x)[1], stats.permutation):
        result = call(holed)
        assert float(result[0]) == float(call(values)[0]) and float(result[1]) == float(call(short)[1])
        assert np.isnan(result[2])


def test_corrections_of_known_p_values():
    p = [0.01, 0.04, 0.03, 0.005]
    assert stats.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    grid = xarray.DataArray(np.reshape([0.9, *p, 0.8], (2, 3)), dims=("layer", "head"))
    for correct in (stats.holm, stats.benjamini_hochberg):
        adjusted = correct(grid)
        assert adjusted.dims == ("layer", "head") and (grid <= adjusted).all() and (adjusted <= 1).all()
        assert adjusted.values.ravel() == pytest.approx(correct(grid.values.ravel()))


def test_corrections_keep_their_level_under_the_null():
    p = np.random.default_rng(5).uniform(size=(2000, 8))
    assert np.mean([stats.holm(row).min() <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([stats.benjamini_hochberg(row).min() <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


PAIR = xarray.DataArray(np.arange(8.0).reshape(4, 2), dims=("sample", "head"))
DRAWS = {"t_interval": stats.t_interval, "bootstrap": stats.bootstrap, "permutation": stats.permutation}


@pytest.mark.parametrize("name", DRAWS)
def test_a_list_is_of_draws_and_anything_else_is_told(name):
    call, numbers = DRAWS[name], [0.2, 0.5, 0.1, 0.4]
    told = call(xarray.DataArray(numbers, dims="sample"))
    for given in (numbers, tuple(numbers), np.array(numbers), torch.tensor(numbers, dtype=torch.float64)):
        for end, expected in zip(np.atleast_1d(call(given)), np.atleast_1d(told), strict=True):
            assert float(end) == float(expected)
    for given in (3, None, "x", {}, np.ones((2, 3)), [[1], [2, 3]], ["a", "b"], [None, 1.0], xarray.DataArray(["a"])):
        with pytest.raises(InputError, match=rf"(?s)stats.{name} reads draws.*got: .*try: stats.{name}\(\[0.2"):
            call(given)
    data = xarray.Dataset({"margin": ("sample", numbers), "right": ("sample", numbers)})
    with pytest.raises(InputError, match=rf"(?s)got: Dataset.*stats.{name}\(ds\['margin'\]\).*margin, right"):
        call(data)
    for dim in ("token", 3, None, ["sample"], np.zeros(2)):
        with pytest.raises(InputError, match=rf"(?s)stats.{name}: no such dim.*expected: sample, head"):
            call(PAIR, dim)
    with pytest.raises(InputError, match=r"(?s)no such dim.*got: 'sample'.*at least one dim"):
        call(xarray.DataArray(1.0))
    with pytest.raises(InputError, match=r"(?s)no such dim.*got: 'token'.*expected: sample"):
        call(numbers, "token")


def test_a_statistic_is_a_function():
    with pytest.raises(InputError, match="(?s)a statistic is a function.*got: 3"):
        stats.bootstrap([1.0, 2.0], statistic=3)


@pytest.mark.parametrize("correct", [stats.holm, stats.benjamini_hochberg])
def test_what_is_no_p_is_told(correct):
    for p, got in (
        ([0.1, 5], "5"),
        ([-0.1], "-0.1"),
        ("x", "str"),
        (None, "NoneType"),
        (["a"], "list"),
        (True, "bool"),
    ):
        with pytest.raises(
            InputError, match=rf"(?s){correct.__name__}: a p value is a number.*got: {got}.*0 to 1.*try"
        ):
            correct(p)
    assert float(correct(0.03)) == 0.03 and list(correct([0.0, 1.0])) == [0, 1]
    assert correct(torch.tensor([0.01, 0.04])) == pytest.approx(correct([0.01, 0.04]), rel=1e-6)


def test_a_p_that_was_not_found_stays_unknown():
    assert stats.holm([0.01, np.nan]) == pytest.approx([0.02, np.nan], nan_ok=True)
    with pytest.raises(InputError, match="(?s)benjamini_hochberg: a p value is a number.*got: nan"):
        stats.benjamini_hochberg([0.01, np.nan])
