"""Numbers that a user gives: each is checked once, where it comes in, and is a plain int or float below.

Numbers of numpy and torch count as what they hold. Truth values, texts, NaN and infinity are no numbers.
"""

import numbers
import operator
import os
import pathlib
import sys
from collections.abc import Container, Mapping

from labkit.errors import InputError

WIDEST = 2**63 - 1  # what a tensor of whole numbers can hold
LONGEST = 2**24  # positions that float32 tells apart; no selection names more

# Arguments that mean the same wherever they stand; a docstring says more where there is more to say.
WORDS = {
    "lab": "the lab, of `labkit.load` or `labkit.wrap`",
    "run": "a run, of `lab.trace` or `lab.generate`, or one opened from a pack",
    "ds": "a dataset that a reading made",
    "data": "a dataset that a reading made, or one of its variables",
    "spec": "the shape of a model, `lab.spec` or `labkit.spec.read(name)`",
    "layer": "index in the model's stack, from 0 and negative from its end; several give an axis `layer`",
    "layers": "indices of layers; None is all of the kind",
    "heads": "None for all, an index or several: value heads of a DeltaNet layer, query heads of an attention layer",
    "tokens": "positions relative to the run's first token, negative from its end; or, of a model alone, how many",
    "token": "one position, as in `tokens`",
    "source": "the position of a token that is read",
    "rows": "positions of reading tokens, as in `tokens`, never a number of them",
    "seed": "of a random generator of the call's own; the same seed gives the same numbers",
    "dtype": "of stored numbers, by the name that torch gives it",
    "quantize": "how weights are stored, as in `labkit.load`; None is as `dtype` says",
    "kv_dtype": "of keys and values in the cache; None is `dtype`",
    "gpu": "name of a card in `spec.GPUS`, or a `spec.Gpu`",
    "client": "of `dask.distributed`, whose workers share the work; None computes here",
    "store": "a folder in which finished parts are kept, and from which a later call goes on",
    "progress": "whether a bar is shown",
    "chunk": "tokens that are computed at once; numbers do not depend on it",
    "name": "what it is called: a variable of the dataset, a seam, a part of the model",
    "scaling": "a `rotary.Scaling`; None is none, or that of the run",
    "path": "of a file or folder",
    "seam": "a boundary between modules, by labkit's name; `run.names` lists them",
    "title": "of the figure, over its whole width",
    "ids": "token ids, (token,)",
    "tokenizer": "of transformers; None is that of nano",
    "sae": "a `features.Dictionary` or `features.Atoms`, of `features.open`",
}


def is_whole(value: object) -> bool:
    """Whether this is one whole number; a truth value, a fraction and an array of one entry are not."""
    if type(value) is int:
        return True
    if isinstance(value, bool) or getattr(value, "ndim", 0) or str(getattr(value, "dtype", "")).endswith("bool"):
        return False
    try:
        operator.index(value)
    except Exception:  # also what a foreign type raises
        return False
    return True


def whole(value: int, name: str, *, least: int | None = None, most: int | None = WIDEST) -> int:
    """A whole number as an int.

    Raises:
        InputError: anything else, or one outside of `least` to `most`.
    """
    if not is_whole(value):
        raise InputError(f"{name} is a whole number", got=_shown(name, value), expected=_range(least, most))
    value = operator.index(value)
    if (least is not None and value < least) or (most is not None and value > most):
        raise InputError(f"{name} out of range", got=_shown(name, value), expected=_range(least, most))
    return value


def number(
    value: float,
    name: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """A finite number as a float.

    Raises:
        InputError: anything else, or one outside of its bounds; `above` and `below` are not met themselves.
    """
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    real = isinstance(plain, numbers.Real) and not isinstance(plain, bool)
    if not real or not abs(plain) <= sys.float_info.max:
        expected = _range(least, most, above, below)
        raise InputError(f"{name} is a finite number", got=_shown(name, value), expected=expected)
    low = (least is None or plain >= least) and (above is None or plain > above)
    if not low or (most is not None and plain > most) or (below is not None and plain >= below):
        raise InputError(f"{name} out of range", got=_shown(name, value), expected=_range(least, most, above, below))
    return float(plain)


def wholes(given: Mapping, least: Mapping[str, int], optional: Container[str] = ()) -> dict:
    """Named arguments, those that `least` names as whole numbers of at least so much; an `optional` one may be None.

    Raises:
        InputError: as `whole`.
    """
    asked = {name for name in given if name in least and not (given[name] is None and name in optional)}
    return {name: whole(value, name, least=least[name]) if name in asked else value for name, value in given.items()}


def file_path(value: str | os.PathLike, name: str, example: str) -> pathlib.Path:
    """The path of a file.

    Args:
        name: of the call that writes or reads it. example: the call as it is right.

    Raises:
        InputError: no path, an empty one, or one that names no file.
    """
    named = isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str) and "\0" not in os.fspath(value)
    if not named or pathlib.Path(value).name in ("", ".."):
        raise InputError(f"{name} needs the path of a file", got=_shown("path", value), hint=example)
    return pathlib.Path(value)


def _shown(name, value):
    text = repr(value)
    return f"{name}={text if len(text) <= 80 else f'... of type {type(value).__name__}'}"


def _range(least, most, above=None, below=None):
    low = f"above {above}" if above is not None else None if least is None else f"{least} or more"
    high = f"below {below}" if below is not None else None if most in (None, WIDEST) else f"at most {most}"
    if least is not None and high is not None and below is None:
        return f"{least} to {most}"
    return ", ".join(filter(None, (low, high))) or "a number"
