"""What a section of a report is, and how long prompts are made to fit into a picture."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import xarray

from labkit.claims import Claim
from labkit.notation import spoken, visible

COLUMNS = 256  # tokens, or blocks of tokens, along one axis of a figure
READ = ("token", "source")  # axes whose entries are named by their text as well


@dataclasses.dataclass(frozen=True)
class Section:
    """One question of a report.

    Attributes:
        name: of its files. probe: the heading that it stands under. title: the question.
        how: what was done and how it is read; says nothing of the result.
        data: `Task -> xarray.Dataset`. Raises LabError where it cannot be had.
        draw: `(Dataset, title) -> Figure`.
        said: `Dataset -> str`, a sentence made of its numbers, which is the figure's title.
        claim: `Dataset -> Claim`, a comparison of its numbers; None where nothing is claimed.
        applies: `Task -> str`, why it does not apply to this model or prompt; empty if it does.
    """

    name: str
    probe: str
    title: str
    how: str
    data: Callable
    draw: Callable
    said: Callable[[xarray.Dataset], str]
    claim: Callable[[xarray.Dataset], Claim] | None = None
    applies: Callable[[object], str] = lambda task: ""


def pooled(ds: xarray.Dataset, dim: str, *, total: Sequence[str] = (), most: int = COLUMNS) -> xarray.Dataset:
    """A dataset with at most so many entries along an axis of tokens: blocks of equal size, the last may be shorter.

    Args:
        dim: "token" or "source".
        total: variables that are summed over a block; others are means.

    Returns:
        Dataset as it was if it is short enough; else with the first token of each block as coordinate, texts that name
        the block, and the attribute `blocks`, tokens of one.
    """
    count = ds.sizes[dim]
    if count <= most:
        return ds
    size = -(-count // most)
    edges = np.arange(0, count, size)
    where = ds[dim].values if dim in ds.coords else np.arange(count)
    made = {}
    for name, array in ds.data_vars.items():
        if dim not in array.dims:
            made[name] = array
            continue
        axis = array.get_axis_num(dim)
        values = np.add.reduceat(np.asarray(array.values, dtype=np.float64), edges, axis=axis)
        if name not in total:
            shape = [-1 if n == axis else 1 for n in range(array.ndim)]
            values = values / np.diff([*edges, count]).reshape(shape)
        made[name] = (array.dims, values.astype(np.float32), array.attrs)
    ends = [*(edges[1:] - 1), count - 1]
    texts = [f"{where[a]:,}–{where[b]:,}" for a, b in zip(edges, ends, strict=True)]
    coords = {name: coord for name, coord in ds.coords.items() if dim not in coord.dims}
    coords |= {dim: (dim, where[edges]), f"{dim}_text": (dim, texts)}
    return xarray.Dataset(made, coords=coords, attrs=ds.attrs | {"blocks": size})


def averaged(ds: xarray.Dataset, names: Sequence[str], dim: str) -> xarray.Dataset:
    """Means of some variables over an axis, with what their numbers are."""
    return ds[list(names)].mean(dim, keep_attrs=True)


def place(array: xarray.DataArray, *, highest: bool) -> tuple[float, str]:
    """(value, where) of the largest or smallest number of an array: "layer 2, head 4"."""
    values = array.values
    at = int((np.nanargmax if highest else np.nanargmin)(values))
    index = np.unravel_index(at, values.shape)
    said = []
    for dim, n in zip(array.dims, index, strict=True):
        word, text = array[dim].values[n] if dim in array.coords else n, f"{dim}_text"
        if isinstance(word, str):  # says itself what it is
            said.append(visible(word))
            continue
        beside = f" {visible(str(array[text].values[n]))!r}" if text in array.coords and dim in READ else ""
        said.append(f"{spoken(str(dim))} {word}{beside}")
    return float(values[index]), ", ".join(said)
