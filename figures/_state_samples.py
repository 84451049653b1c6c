"""What the figures of states share: means with their intervals, heads above or below 0, heads along one axis."""

import xarray

from labkit import stats

CHANCE = (1 - stats.LEVEL) / 2  # how often an interval of nothing lies above 0


def average(values: xarray.DataArray) -> tuple[float, tuple[float, float]]:
    """(mean, (low, high)) of one number per sample, 95 % by Student's t."""
    low, high = stats.t_interval(values)
    return float(values.mean("sample")), (float(low), float(high))


def decided(values: xarray.DataArray) -> tuple[int, int]:
    """How many entries have an interval above 0, and how many one below."""
    low, high = stats.t_interval(values)
    return int((low > 0).sum()), int((high < 0).sum())


def spread(values: xarray.DataArray, name: str) -> dict:
    """Variables of the mean over samples and of the ends of its interval: `{name, low, high}`."""
    low, high = stats.t_interval(values)
    return {name: values.mean("sample", keep_attrs=True), "low": low, "high": high}


def in_line(ds: xarray.Dataset, by: xarray.DataArray, axis: str) -> xarray.Dataset:
    """(layer, head) as one dim `place`, in ascending order of `by`; `axis` is what its axis says."""
    flat = by.stack(place=("layer", "head"))
    order = flat.argsort().values
    names = [f"layer {layer}, head {head}" for layer, head in flat.place.values[order]]
    line = ds.stack(place=("layer", "head")).isel(place=order).reset_index("place").drop_vars(("layer", "head"))
    return line.assign_coords(place=("place", names, {"long_name": axis}))
