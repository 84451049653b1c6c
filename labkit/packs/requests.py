"""What was asked of a reading, in a form that a file can hold and that two calls can be compared by.

Positions of tokens are counted from the run's first, however they were given. Another run is known by its tokens, its
start and its identity; a lab is that of the run; what is no plain value, a tensor or an edit, by its fingerprint.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence

from labkit import folders
from labkit.errors import InputError
from labkit.fingerprint import Opaque, fingerprint
from labkit.notation import is_index
from labkit.reading import Needs, Stored
from labkit.rotary import Scaling
from labkit.trace import Run, fields

PLACES = ("token", "tokens", "rows", "source", "sources", "at")  # arguments that are positions of tokens
RUN, LAB, RECORD, OWN = "run", "lab", "record", "fingerprint"
SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Request:
    """One reading with its arguments.

    Attributes:
        reading: "deltanet.memory". arguments: all but `run` and `layer`, comparable: JSON values, or `{RUN: mark}`,
            `{LAB: True}`, `{RECORD: how it is written}` and `{OWN: fingerprint}`.
    """

    reading: str
    arguments: dict

    @property
    def others(self) -> dict:
        """The arguments but `heads`."""
        return {name: value for name, value in self.arguments.items() if name != "heads"}

    @property
    def owned(self) -> bool:
        """Whether an argument is known by its fingerprint alone, and may have a part for every head."""
        return any(isinstance(value, dict) and OWN in value for value in self.arguments.values())

    def call(self, layers: int | Sequence[int], defaults: Mapping | None = None) -> str:
        """The call as it is written; arguments that equal their default are left out."""
        words, options = ["run"], [f"layer={_brief(layers if is_index(layers) else list(layers))}"]
        for name, value in self.arguments.items():
            if isinstance(value, dict):
                words += {RUN: [name], LAB: ["None"]}.get(next(iter(value)), [])
                options += [f"{name}=..."] if OWN in value else []
                options += [f"{name}={ascii(value[RECORD])[1:-1]}"] if RECORD in value else []
            elif value != (defaults or {}).get(name):
                options.append(f"{name}={_brief(value)}")
        return f"{self.reading}({', '.join(words + options)})"


def asked(read: Callable, run: Run, more: Sequence, layer: object, chosen: Mapping) -> Request:
    """The request of a call `read(run, *more, layer=layer, **chosen)`.

    Raises:
        TypeError: an argument is missing or unknown. InputError: one that nothing is known of.
    """
    bound = inspect.signature(read).bind(run, *more, layer=layer, **chosen)
    bound.apply_defaults()
    given = {name: value for name, value in bound.arguments.items() if name not in ("run", "layer")}
    return Request(read.needs.name, {name: _known(name, value, run) for name, value in given.items()})


def defaults(read: Callable, run: Run) -> dict:
    """`{name: default}` of the arguments of a reading, as `asked` gives them."""
    parameters = inspect.signature(read).parameters.values()
    return {each.name: _known(each.name, each.default, run) for each in parameters if each.default is not each.empty}


def extra(read: Callable, options: Mapping) -> tuple[list, dict]:
    """(arguments after the run that are given by place, the others by name) of a call that was given all by name."""
    kinds = inspect.signature(read).parameters
    placed = [name for name, each in kinds.items() if each.kind is each.POSITIONAL_OR_KEYWORD and name != "run"]
    given = [options[name] for name in placed if name in options]
    return given, {name: value for name, value in options.items() if name not in placed}


def mark(run: Run) -> str | None:
    """What tells a run from others; of a run that was opened, as it was before; None if its tokens were left out."""
    if isinstance(run, Stored):
        return run.mark
    start = run.start
    parts = [fingerprint({str(layer): part for layer, part in getattr(start, name).items()}) for name in STARTS]
    placed = None if run.position_ids is None else run.position_ids.tolist()
    return folders.mark([run.ids.tolist(), placed, start.length, parts, run.identity.to_json()])


STARTS = ("conv", "state", "keys", "values")


def _known(name, value, run):
    """An argument as a file can hold it."""
    if isinstance(value, Run):
        return {RUN: mark(value)}
    if name == "lab":
        if value is not None:
            value.identity().check(run.identity, "this run was made")
        return {LAB: True}
    if isinstance(value, Scaling):
        return {RECORD: repr(value)}
    if value is None or isinstance(value, bool | str):
        return value
    if is_index(value):
        return int(value) % len(run) if name in PLACES and -len(run) <= int(value) < 0 else int(value)
    if isinstance(value, slice):
        value = range(*value.indices(len(run)))
    if isinstance(value, float):
        return value
    listed = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(listed, list | tuple | range):
        if all(is_index(each) for each in listed):
            return [_known(name, each, run) for each in listed]
        if all(isinstance(each, str) for each in listed):
            return list(listed)
    try:
        return {OWN: fingerprint(value)}
    except Opaque as error:
        hint = "give numbers, or a ready edit"
        raise InputError(f"nobody can tell later what {name} was", got=str(error), hint=hint) from None


def of_json(value: object) -> Request:
    """The `Request` of `[reading, arguments]`. Raises fields.Odd."""
    fields.require(isinstance(value, list) and len(value) == 2, value)
    reading, arguments = fields.text(value[0]), value[1]
    fields.require(len(parts := reading.split(".")) == 2 and all(map(str.isidentifier, parts)), value)
    fields.require(isinstance(arguments, dict) and all(map(str.isidentifier, arguments)), value)
    return Request(reading, {name: _argument(each) for name, each in arguments.items()})


def _argument(value):
    if isinstance(value, dict):
        fields.require(len(value) == 1, value)
        ((kind, what),) = value.items()
        fields.require(what is True if kind == LAB else kind in (RUN, RECORD, OWN) and isinstance(what, str), value)
        return value
    if isinstance(value, list):
        fields.require(all(type(each) in (int, str) for each in value), value)
        return value
    return fields.require(value is None or type(value) in (bool, int, float, str), value)


def _brief(value):
    """A value as it is written in a call, in a few words where it can be: ascending numbers as a range."""
    if isinstance(value, list) and len(value) > 3 and all(type(each) is int for each in value):
        step = value[1] - value[0]
        if step and value == list(range(value[0], value[0] + step * len(value), step)):
            last = value[0] + step * len(value)
            return f"range({value[0]}, {last})" if step == 1 else f"range({value[0]}, {last}, {step})"
    text = ascii(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + " ..."


def needs_of(read: object) -> Needs:
    """What a reading needs.

    Raises:
        InputError: something that is no reading.
    """
    if not isinstance(needs := getattr(read, "needs", None), Needs):
        expected = "a reading such as deltanet.memory, or (reading, arguments by name)"
        raise InputError("not a reading", got=ascii(read)[:80], expected=expected)
    return needs
