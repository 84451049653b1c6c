"""Merging: the tokens of each word along the axes of a dataset, and the labels that are left."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from labkit.calling import described
from labkit.errors import InputError
from labkit.notation import is_index, visible
from labkit.words.bounds import CACHED, by_text, decoded, of_run
from labkit.words.rules import RULES, WAYS

AXES = ("token", "source")


class Word(NamedTuple):
    """A word of a run: its text, and the positions of its first and last token."""

    text: str
    first: int
    last: int


def spans(run) -> list[Word]:
    """The words of a run, in order, as `merge` takes them.

    Raises:
        InputError: no run, or one whose tokenizer is not known.
    """
    if not hasattr(run, "ids"):
        hint = "words.spans(lab.trace('red fox'))"
        raise InputError("words.spans reads a run", got=described(run), expected="what lab.trace returns", hint=hint)
    start = run.start.length if hasattr(run, "start") else 0
    found, _ = of_run(run)
    groups = [np.flatnonzero(found == word) for word in range(int(found.max()) + 1)] if len(found) else []
    text = lambda some: _shown(decoded(run.tokenizer, run.ids[some].tolist()))  # noqa: E731
    return [Word(text(some), start + int(some[0]), start + int(some[-1])) for some in groups]


def merge(
    ds: "xarray.Dataset",  # noqa: F821
    run=None,
    *,
    how: Mapping[str, str | Mapping[str, str]] | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """A dataset by token as one by word.

    Args:
        ds: with an axis `token` or `source`, or both; several layers or heads stay as they are.
        run: the run that was read, whose tokenizer knows the words; None goes by the texts that the dataset has, where
            parts of a character are not told apart.
        how: for variables by name, in place of what their quantity says: "sum", "mean", "product", "largest", "first"
            or "last", or a mapping of these by axis.

    Returns:
        Dataset with the same axes, an entry for each word: the position of its last token, with the coordinates
        `token_text` (the word), `token_first` and `token_last`, and the same of `source`. Of a word of which only some
        tokens were read, these. The attribute `merged` of a variable says how it was.

    Raises:
        InputError: no such axis, a variable or a way that is not there, a quantity that has no rule; a run of other
            tokens.
    """
    if not hasattr(ds, "data_vars"):
        hint = "words.merge(deltanet.memory(run, layer=0), run)"
        raise InputError("words.merge takes a dataset", got=type(ds).__name__, expected="of a reading", hint=hint)
    if not (run is None or hasattr(run, "ids")):
        hint = "words.merge(ds, run)"
        raise InputError("words.merge goes by a run", got=described(run), expected="the run that was read", hint=hint)
    axes = [axis for axis in AXES if axis in ds.dims]
    if not axes:
        raise InputError("nothing to merge", got=f"axes {', '.join(map(str, ds.dims))}", expected=" or ".join(AXES))
    how = dict(how or {})
    if unknown := [name for name in how if name not in ds.data_vars]:
        raise InputError("no such variable", got=unknown[0], expected=", ".join(map(str, ds.data_vars)))
    ways = {name: _ways(ds[name], how.get(name), axes) for name in ds.data_vars}
    for axis in axes:
        groups, texts = _groups(ds, run, axis)
        ds = _merged(ds, axis, groups, texts, ways)
    for name, chosen in ways.items():
        if chosen:
            ds[name].attrs["merged"] = ", ".join(f"{way} over {axis}" for axis, way in chosen.items())
    return ds


def _ways(array, asked, axes):
    """`{axis: way}` of a variable."""
    made = {}
    for axis in axes:
        if axis in array.dims:
            rule = RULES.get(array.attrs.get("long_name")) or ({} if array.attrs else {"token": "last"})
            way = asked.get(axis) if isinstance(asked, Mapping) else asked
            way = rule.get(axis) if way is None else way
            if way not in WAYS:
                got = f"{array.name}, {array.attrs.get('long_name', 'which has no quantity')}, over {axis}"
                expected, hint = ", ".join(WAYS), f'words.merge(ds, run, how={{{array.name!r}: "mean"}})'
                what = "no rule says how this is merged" if way is None else f"no such way to merge: {way!r}"
                raise InputError(what, got=got, expected=expected, hint=hint)
            made[axis] = way
    return made


def _merged(ds, axis, groups, texts, ways):
    """The dataset with one entry along an axis for each group of its places."""
    import xarray

    where, last = ds[axis].values, [some[-1] for some in groups]
    variables = {}
    for name, array in ds.data_vars.items():
        if axis in array.dims:
            place = array.dims.index(axis)
            rows = np.moveaxis(array.values, place, 0)
            made = np.stack([WAYS[ways[name][axis]](rows[some]) for some in groups])
            variables[name] = (array.dims, np.moveaxis(made, 0, place), dict(array.attrs))
        else:
            variables[name] = array
    coords = {}
    for name, coord in ds.coords.items():
        coords[name] = coord.isel({axis: last}) if axis in coord.dims else coord
    made = xarray.Dataset(variables, coords=coords, attrs=ds.attrs)
    ends = {
        f"{axis}_text": (axis, texts),
        f"{axis}_first": (axis, [int(where[some[0]]) for some in groups]),
        f"{axis}_last": (axis, [int(where[some[-1]]) for some in groups]),
    }
    return made.assign_coords(ends)


def _groups(ds, run, axis):
    """(places along an axis that make up each word, the words)."""
    where = np.asarray(ds[axis].values)
    if f"{axis}_text" not in ds.coords:
        got, expected = f"no {axis}_text", "a reading by token, not of stretches of them"
        raise InputError("the dataset does not say what its tokens are", got=got, expected=expected)
    if run is not None:
        start = run.start.length
        known, _ = of_run(run)
        inside = where - start
        if wrong := [int(n) for n in where if not is_index(n) or n >= start + len(known)]:
            expected = f"{axis} up to {start + len(known) - 1}"
            raise InputError("the dataset has tokens that the run lacks", got=wrong[:3], expected=expected)
        own = [run.tokens[n] if n >= 0 else None for n in inside.tolist()]
        if any(a not in (None, str(b)) for a, b in zip(own, ds[f"{axis}_text"].values, strict=True)):
            hint = "words.merge(deltanet.memory(run, layer=0), run)"
            raise InputError("the dataset is of another run", got=repr(run)[:80], expected="its own", hint=hint)
        keys = [int(known[n]) if n >= 0 else int(n) for n in inside.tolist()]  # tokens of a warm cache are apart
    else:
        texts = [str(text) for text in ds[f"{axis}_text"].values]
        keys = _numbered(by_text(texts), where)
    groups = {}
    for n, key in enumerate(keys):
        groups.setdefault(key, []).append(n)
    made = list(groups.values())
    if run is not None:
        ids = run.ids.tolist()
        text = lambda some: [ids[n] for n in inside[some].tolist() if n >= 0]  # noqa: E731
        words = [_shown(decoded(run.tokenizer, text(some))) if text(some) else CACHED for some in made]
    else:
        words = [_shown("".join(texts[n] for n in some).replace("␣", " ")) for some in made]
    return made, words


def _numbered(begins, where):
    """The number of the word of each place; places that are not neighbours are of different words."""
    steps = np.diff(where, prepend=where[:1] - 2) != 1
    return (np.asarray(begins) | steps).cumsum().tolist()


def _shown(text):
    return visible(text.strip() or text)
