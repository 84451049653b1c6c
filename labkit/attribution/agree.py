"""Whether readings of the same places agree: rank correlation over prompts, shared tops, and where they differ most.

Readings of different units (what a head adds, what patching it restores, what its loss costs) cannot be equal; they can
name the same heads. The control is the same correlation with the cells of one of them shuffled.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from labkit import stats
from labkit.arguments import whole
from labkit.errors import InputError
from labkit.notation import Quantity, label

if TYPE_CHECKING:
    import xarray

NAME = "attribution.agreement"
RANK = Quantity("ρ", "Spearman rank correlation of mean readings over cells", "1", "signed", "Spearman 1904")
SHARED = Quantity("", "cells among the top of both", "cells", "positive", "this reading")
RESAMPLES, WORST = 2000, 5


def agreement(readings: "Mapping[str, xarray.DataArray]", *, top: int = 5, seed: int = 0) -> "xarray.Dataset":
    """How far readings rank the same cells alike.

    Args:
        readings: `{name: array}`, each with the dim `sample` and the same other dims and samples; means over samples
            are ranked. Cells that are not a number in one of them are left out.
        top: cells at the top, by size. seed: of resampling and of shuffles.

    Returns:
        Dataset over kind and other_kind: `rank`, its 95 % bootstrap ends `low` and `high` over samples (the same
        resamples for both), `chance` (what 95 % of shuffles stay below in size), `shared` of the top. `worst` (kind,
        other_kind, place): names of the cells whose ranks differ most. The attribute `cells` counts them; where `rank`
        is not above `chance`, the readings agree as shuffled cells do, and `beyond_chance` is False.

    Raises:
        InputError: fewer than two readings, other dims or sizes, fewer than three cells in common.
    """
    named = isinstance(readings, Mapping)
    if wrong := [type(each).__name__ for each in (readings.values() if named else [readings]) if not _labelled(each)]:
        hint = f'{NAME}({{"run": ds.effect, "slopes": estimate.effect}})'
        raise InputError(f"{NAME} reads arrays by name", got=wrong[0], expected="{name: DataArray}", hint=hint)
    names, arrays = list(readings), list(readings.values())
    top, seed = whole(top, "top", least=1), whole(seed, "seed", least=0)
    if len(arrays) < 2:
        raise InputError(f"{NAME}: two readings are compared", got=f"{len(arrays)} of them")
    sizes = [dict(each.sizes) for each in arrays]
    if any(each != sizes[0] for each in sizes) or "sample" not in sizes[0]:
        got = next((each for each in sizes if each != sizes[0]), sizes[0])
        raise InputError(f"{NAME}: readings of the same cells and samples", got=got, expected=f"sample, and {sizes[0]}")
    dims = [dim for dim in arrays[0].dims if dim != "sample"]
    flat = [each.transpose("sample", *dims).values.reshape(sizes[0]["sample"], -1).astype(float) for each in arrays]
    known = np.all([np.isfinite(each).any(0) for each in flat], 0)
    if known.sum() < 3:
        raise InputError(f"{NAME}: cells that all readings have", got=int(known.sum()), expected="3 or more")
    flat, rng = [each[:, known] for each in flat], np.random.default_rng(seed)
    count = len(flat[0])
    draws = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    means = [np.nanmean(each, 0) for each in flat]
    drawn = [_weighted(draws, each) for each in flat]
    shuffles = np.stack([rng.permutation(int(known.sum())) for _ in range(RESAMPLES)])
    called = _called(arrays[0], dims)[known]
    shape, n = (len(names), len(names)), min(top, int(known.sum()))
    made = {name: np.ones(shape) for name in ("rank", "low", "high")} | {"chance": np.zeros(shape)}
    shared, worst = np.full(shape, n), np.full((*shape, WORST), "", dtype=object)
    tail = 50 * (1 - stats.LEVEL)
    for i, j in itertools.permutations(range(len(names)), 2):
        made["rank"][i, j] = _rho(means[i][None], means[j][None])[0]
        made["low"][i, j], made["high"][i, j] = np.percentile(_rho(drawn[i], drawn[j]), [tail, 100 - tail])
        made["chance"][i, j] = np.percentile(abs(_rho(means[i][shuffles], means[j][None])), 100 * stats.LEVEL)
        tops = [set(np.argsort(-abs(means[k]), kind="stable")[:n]) for k in (i, j)]
        shared[i, j] = len(tops[0] & tops[1])
        apart = np.argsort(-abs(rankdata(means[i]) - rankdata(means[j])), kind="stable")[:WORST]
        worst[i, j, : len(apart)] = called[apart]
    both = ("kind", "other_kind")
    variables = {name: (both, values, RANK) for name, values in made.items()}
    variables |= {"shared": (both, shared, SHARED)}
    variables |= {"beyond_chance": (both, made["rank"] > made["chance"], None)}
    variables |= {"worst": ((*both, "place"), worst.astype(str), None)}
    facts = {"reading": NAME, "cells": int(known.sum()), "samples": count, "top": n, "seed": seed}
    facts |= {"interval": f"95 %, bootstrap over {count} samples", "model": arrays[0].attrs.get("model", "")}
    return label(variables, coords={"kind": names, "other_kind": names}, attrs=facts)


def _labelled(array):
    return hasattr(array, "dims") and hasattr(array, "values") and not hasattr(array, "data_vars")


def _weighted(draws, values):
    """Means [resample, cell] of resampled rows, without those that are no number."""
    finite = np.isfinite(values)
    return draws @ np.where(finite, values, 0) / np.maximum(draws @ finite, 1)


def _rho(some, others):
    """Spearman's correlation, row by row."""
    a, b = (rankdata(each, axis=1) for each in (some, others))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)).clip(min=1e-30)


def _called(array, dims):
    """The name of every cell: "layer 3, reader 2"."""
    axes = [
        [f"{dim} {value}" for value in (array[dim].values if dim in array.coords else range(array.sizes[dim]))]
        for dim in dims
    ]
    return np.array([", ".join(parts) for parts in itertools.product(*axes)])
