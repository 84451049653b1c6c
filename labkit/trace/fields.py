"""Fields of files that come from elsewhere: each is of its type and in its range before anything is made of it.

Each function reads one kind of value of a JSON document; another value raises `Odd`, of which `typed` makes an error.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from labkit import folders
from labkit.errors import InputError, LabError
from labkit.rotary import Scaling
from labkit.spec import Spec
from labkit.spec.config import VISION

LARGE = 1e300  # a number beyond it is none
MOST = 2**31  # tokens, layers and channels: below it no product of two overflows


class Odd(Exception):
    """A value that is not what its field holds."""


def require(good: bool, value: object) -> object:
    """The value, if that is good. Raises Odd."""
    if not good:
        raise Odd(folders.brief(value))
    return value


def text(value: object) -> str:
    """A text."""
    return require(isinstance(value, str), value)


def truth(value: object) -> bool:
    """True or False."""
    return require(isinstance(value, bool), value)


def count(value: object) -> int:
    """A whole number from 0 to below `MOST`."""
    return require(type(value) is int and 0 <= value < MOST, value)


def number(value: object) -> float:
    """A finite number."""
    return float(require(type(value) in (int, float) and abs(value) < LARGE, value))


def above_0(value: object) -> float:
    """A finite number above 0."""
    return require(number(value) > 0, value)


def texts(value: object) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(map(text, require(isinstance(value, list), value)))


def rows(value: object, width: int) -> list[list]:
    """A list of lists, each of so many values."""
    return require(isinstance(value, list) and all(isinstance(row, list) and len(row) == width for row in value), value)


def parity(value: object) -> dict[tuple[int, str], float]:
    """`{(layer, reading): error}`; of a reading that failed an error may be NaN."""
    known = rows(value, 3)
    read = {(count(layer), text(reading)): require(isinstance(error, float), error) for layer, reading, error in known}
    require(len(read) == len(known), value)
    return read


def record(value: object, names: Iterable[str]) -> dict:
    """An object with these names and no others."""
    return require(isinstance(value, dict) and set(value) == set(names), value)


def vision(value: object) -> dict | None:
    """Sizes of an image tower, or None."""
    sizes = {} if value is None else record(value, VISION)
    return {name: require(count(size) > 0, size) for name, size in sizes.items()} or None


def spec(value: object) -> Spec:
    """`Spec`, which checks itself what sizes must be to each other."""
    value = record(value, [field.name for field in dataclasses.fields(Spec)])
    kinds = {"name": text, "family": text, "tied": truth, "kinds": texts, "rope_theta": number, "eps": above_0}
    kinds |= {"vision": vision, "dtype": lambda value: None if value is None else text(value)}
    return Spec(**{name: kinds.get(name, count)(part) for name, part in value.items()})


def scaling(value: object) -> Scaling:
    """`rotary.Scaling`, which checks itself what it may be."""
    value = record(value, [field.name for field in dataclasses.fields(Scaling)])
    kinds = {"kind": text, "factor": number, "ramp": text, "attention_factor": number}
    read = {name: None if part is None else kinds.get(name, count)(part) for name, part in value.items()}
    made = Scaling(**read)
    require(dataclasses.asdict(made) == read, value)
    return made


def stated(run: "Run") -> dict:  # noqa: F821
    """What runs on disk say of the run itself, in the form that `text`, `spec`, `scaling` and `parity` read."""
    return {
        "prompt_length": run.prompt_length,
        "model": run.model,
        "spec": dataclasses.asdict(run.spec),
        "scaling": dataclasses.asdict(run.scaling),
        "parity": [[layer, reading, error] for (layer, reading), error in run.parity.items()],
        "identity": run.identity.to_json(),
    }


def typed(raw: dict, kinds: Mapping[str, Callable], what: str) -> dict:
    """The fields of a file as `kinds`, `{name: value -> typed value}`, read them; `what` names the file.

    Raises:
        InputError: one is missing, too many, of another type, or out of range.
    """
    if odd := sorted(set(raw) ^ set(kinds)):
        raise InputError(f"{what} has other fields", got=", ".join(odd)[:80], expected=", ".join(kinds))
    read = {}
    for name, kind in kinds.items():
        try:
            read[name] = kind(raw[name])
        except Odd as odd:
            raise InputError(f"a field of {what} makes no sense", got=f"{name}: {odd}") from None
        except LabError as error:
            got = f"{name}: {error.what}, {error.got}"
            raise InputError(f"a field of {what} makes no sense", got=got, expected=error.expected) from error
    return read
