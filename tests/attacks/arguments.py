"""Hostile arguments: every number, selection and choice of the public calls, one at a time replaced by something else.

A case is a call that works and, of each argument under attack, what is legal (`Whole`, `Number`, `Several`, `Choice`).
A value that is legal must give what the plain equivalent gives (`numpy.int64(3)` is 3), any other a clear error.
"""

import contextlib
import dataclasses
import fractions
import functools
import random

import numpy as np
import tiny
import torch
import xarray

from labkit import attention, deltanet, draw, edit, reuse, rotary, spec, stats, stream, yarn
from labkit.errors import LabError
from tests.attacks import attack, tried

IDS = tiny.ids(40)
NOTHING = (None, "", "3", b"3", [], {}, (), object(), 3j, np.datetime64("2026-01-01"), Ellipsis, lambda: 3, type)
ODD = (True, False, np.bool_(True), torch.tensor(True), np.array([3]), torch.tensor([3]), [3], range(2), "all", {3})
NUMBERS = (0, 1, 2, 3, -1, -3, 10**6, 10**30, -(10**30), 0.0, 0.5, 1.0, 2.5, -0.5, 1e300, fractions.Fraction(1, 2))
WRAPPED = tuple(
    wrap(n) for n in (0, 1, 3, -1) for wrap in (np.int64, np.uint8, np.int32, torch.tensor, np.array) if n >= 0
)
FLOATS = tuple(wrap(n) for n in (0.5, 2.5) for wrap in (np.float32, np.float64, torch.tensor, np.array))
BROKEN = tuple(
    wrap(n) for n in (float("nan"), float("inf"), float("-inf")) for wrap in (float, np.float32, torch.tensor)
)
SCALARS = (*NUMBERS, *WRAPPED, *FLOATS, *BROKEN, *ODD, *NOTHING)
LISTS = (
    [0, 1],
    (1, 0),
    np.array([0, 1]),
    torch.tensor([1, 0]),
    range(2),
    [np.int64(1)],
    [torch.tensor(1)],
    np.array(1),
)
LISTS += (
    [True, False],
    np.array([True, False]),
    [0.0],
    [None],
    ["1"],
    [[0, 1]],
    torch.tensor([0.5]),
    [10**30],
    [-(10**9)],
)
LISTS += (range(10**12), range(0), {0: 1}, "01", b"01", slice(0, 2))
WORDS = (
    "",
    "VALUE",
    "tokens",
    " value",
    "%{x}",
    "\u202evalue",
    3,
    b"value",
    ["value"],
    {"value"},
    None,
    True,
    1.5,
    object,
)


def plain(value):
    """What numpy and torch hold, as Python's own."""
    scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if scalar else value


def is_int(value):
    return isinstance(plain(value), int) and not isinstance(plain(value), bool)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    least: float = -float("inf")
    most: float = float("inf")
    none: bool = False
    values = SCALARS

    def legal(self, value):
        return (
            value is None and self.none if value is None else is_int(value) and self.least <= plain(value) <= self.most
        )


@dataclasses.dataclass(frozen=True)
class Decimal(Whole):
    """A whole number that may be written with a point, as configurations do."""

    def legal(self, value):
        return super().legal(int(value) if isinstance(value, float) and value.is_integer() else value)


@dataclasses.dataclass(frozen=True)
class Small(Whole):
    """A whole number whose size is memory: huge ones are the budget's."""

    values = tuple(value for value in SCALARS if not is_int(value) or abs(value) < 10**4)


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number within bounds; open ends are given a hair inside."""

    least: float = -float("inf")
    most: float = float("inf")
    none: bool = False
    values = SCALARS

    def legal(self, value):
        value = plain(value)
        if value is None:
            return self.none
        real = isinstance(value, int | float | fractions.Fraction) and not isinstance(value, bool)
        return real and abs(value) <= 1.7e308 and self.least <= value <= self.most


@dataclasses.dataclass(frozen=True)
class Filled(Number):
    """A number, or one that stands in an array and fills what it replaces."""

    least: float = -3.4e38
    most: float = 3.4e38

    def legal(self, value):
        one = isinstance(value, list | np.ndarray | torch.Tensor) and len(np.shape(value)) == 1 and len(value) == 1
        return super().legal(value[0] if one else value)


@dataclasses.dataclass(frozen=True)
class Several:
    """Indices below a count: None, one or several."""

    count: int
    none: bool = True
    empty: bool = False
    slices: bool = True
    words: tuple = ()
    values = (*SCALARS, *LISTS)

    def legal(self, value):
        if value is None:
            return self.none
        if isinstance(value, slice) or (isinstance(value, str) and value in self.words):
            return self.slices or not isinstance(value, slice)
        if isinstance(value, range) and len(value) > 10**6:
            return False
        try:
            entries = (
                [value] if is_int(value) else list(value) if not isinstance(value, str | bytes | dict | type) else None
            )
        except TypeError:
            return False
        if entries is None or getattr(value, "ndim", 1) > 1:
            return False
        return (bool(entries) or self.empty) and all(
            is_int(n) and -self.count <= plain(n) < self.count for n in entries
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple
    values = WORDS

    def legal(self, value):
        return value in self.words if isinstance(value, str | None) else False


@dataclasses.dataclass(frozen=True)
class Case:
    """A call that works, and its arguments under attack."""

    name: str
    call: object
    given: dict
    attacked: dict


def same(one, other):
    """Whether two results say the same."""
    if isinstance(one, xarray.Dataset):
        return one.identical(other)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    if isinstance(one, draw.Figure):
        return one.to_json() == other.to_json()
    return one == other


def ordinary(value):
    """The plain equivalent of a legal value."""
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim or isinstance(value, list):
        return [plain(n) for n in value]
    return plain(value)


def outcome(case, name, value):
    kind = case.attacked[name]
    legal = bool(kind.legal(value))
    call = lambda given: case.call(**case.given | {name: given})  # noqa: E731
    right = lambda result: legal and same(result, call(ordinary(value)))  # noqa: E731
    shown = (
        f"{case.name}({name}={value if isinstance(value, range | slice) else repr(value)[:60]} {type(value).__name__})"
    )
    made = tried(lambda: call(value), right, shown, clear=LabError, memory=2**28)
    return made


@functools.cache
def scene():
    """A small lab, what it read, and a dataset."""
    lab = tiny.make_lab(tiny.model())
    run, held = lab.trace(IDS), lab.cache()
    lab.trace(IDS[:20], cache=held)
    return lab, run, lab.trace(tiny.ids(40, seed=1)), lab.snapshot(held), deltanet.memory(run, layer=1)


def cases():
    """Every case: readings, edits, probes, passes, plans, statistics, costs."""
    lab, run, other, snap, data = scene()
    heads, queries, tokens = Several(9), Several(6), Several(40)
    with_edit = lambda made: traced(lab, made)  # noqa: E731
    yield from readings(lab, run, other, heads, queries, tokens)
    for name, base in {
        "clamp_write": dict(value=0.5),
        "never_forget": {},
        "never_write": {},
    }.items():
        call = lambda name=name, **given: with_edit(getattr(deltanet, name)(**given))
        asked = {"heads": heads, "tokens": Several(10**6)} | ({"value": Number(0, 1 - 1e-9)} if base else {})
        asked |= {"layer": Whole(-5, 4)}
        yield Case(f"deltanet.{name}", call, {"layer": 1} | base, asked)
    call = lambda **given: with_edit(deltanet.clamp_keep(run, **given))  # noqa: E731
    asked = {"value": Number(1e-300, 1), "heads": heads, "tokens": tokens}
    yield Case("deltanet.clamp_keep", call, dict(layer=1, value=0.5), asked)
    call = lambda **given: with_edit(deltanet.replace_state(**given))  # noqa: E731
    asked = {"state": Filled(), "at": Whole(0, 38), "share": Number(-1e6, 1e6), "heads": heads}
    yield Case("deltanet.replace_state", call, dict(state=0.5, layer=1, at=12), asked)
    call = lambda **given: with_edit(deltanet.associate(run, **given))  # noqa: E731
    asked = {"source": Whole(-40, 39), "at": Whole(-40, 39), "heads": heads}
    yield Case("deltanet.associate", call, dict(layer=1, source=3, value=7, at=12), asked)
    call = lambda **given: with_edit(deltanet.forget(run, **given))  # noqa: E731
    asked = {"at": Whole(-40, 39), "sense": Choice(("value", "write")), "heads": heads}
    yield Case("deltanet.forget", call, dict(layer=1, source=0, at=12), asked)
    yield from edits(lab, run, snap, with_edit)
    yield from probes(lab)
    yield from passes(lab, snap)
    yield from numbers(lab, data)


def readings(lab, run, other, heads, queries, tokens):
    """The readings of a run."""
    one, layers = Whole(-40, 39), {"deltanet": (1, Several(5, none=False)), "attention": (2, Several(5, none=False))}
    form = Choice(("value", "write", "heuristic"))
    asked = {
        "deltanet.memory": ({}, {"tokens": tokens, "heads": heads}),
        "deltanet.implied_attention": ({}, {"form": form, "heads": heads}),
        "deltanet.implied_row": ({}, {"token": one, "form": form, "heads": heads}),
        "deltanet.survival": ({}, {"token": one, "heads": heads}),
        "deltanet.forgetting": ({"source": 3}, {"source": Whole(-40, 39), "heads": heads}),
        "deltanet.half_life": ({}, {"heads": heads}),
        "deltanet.recall": ({"source": 3}, {"source": Several(40), "token": one}),
        "deltanet.spectrum": ({}, {"tokens": tokens, "heads": heads}),
        "deltanet.state_difference": ({"other": other}, {"token": one, "modes": Whole(1, 10**5), "heads": heads}),
        "deltanet.measured": ({"changed": run, "at": 5}, {"at": Whole(-40, 38)}),
        "deltanet.response": ({"change": 0.5, "at": 5}, {"at": Whole(-40, 38), "change": Filled(), "heads": heads}),
        "deltanet.written_by": ({"segments": list("ab") * 20}, {"token": one, "heads": heads}),
        "attention.pattern": ({}, {"rows": tokens, "heads": queries}),
        "attention.summary": (
            {},
            {"block": Small(1), "links": Small(0), "sink": Whole(0), "local": Whole(0), "samples": Whole(1, none=True)}
            | {"rows": tokens, "heads": queries, "method": Choice((None, "tiles", "kernel"))},
        ),
        "attention.similarity": ({}, {"samples": Whole(1, none=True), "rows": tokens}),
        "attention.window": ({"cells": 7}, {"cells": Whole(1)}),
        "attention.bands": ({}, {"by": Choice(("class", "pair")), "rows": tokens, "heads": queries}),
        "attention.bands_by_distance": ({}, {"by": Choice(("class", "pair")), "rows": tokens}),
        "attention.contribution": ({"lab": lab}, {"rows": tokens, "heads": queries}),
    }
    for name, (base, arguments) in asked.items():
        module, function = name.split(".")
        layer, legal = layers[module]
        call = functools.partial(read, getattr({"deltanet": deltanet, "attention": attention}[module], function), run)
        yield Case(name, call, {"layer": layer} | base, arguments)


def read(function, run, *, layer, **options):
    more = [options.pop(name) for name in ("other", "changed", "change", "lab") if name in options]
    return function(run, *more, layer=layer, **options)


def traced(lab, made):
    with lab.edit(made):
        return lab.trace(IDS).logits


def edits(lab, run, snap, with_edit):
    at, far, size = Whole(0, 38), Several(10**6), Number(-3.4e38, 3.4e38)
    call = lambda **given: with_edit(edit.scale("gated", layer=1, **given))  # noqa: E731
    yield Case("edit.scale", call, {"factor": 0.5}, {"factor": size, "heads": Several(9), "tokens": far})
    call = lambda **given: with_edit(edit.set("gated", layer=1, **given))  # noqa: E731
    yield Case("edit.set", call, {"value": 0.5}, {"value": Filled(), "heads": Several(9)})
    call = lambda **given: with_edit(edit.add("gated", layer=1, **given))  # noqa: E731
    yield Case("edit.add", call, {"vector": 0.5}, {"vector": Filled()})
    call = lambda **given: with_edit(edit.state(lambda state: state / 2, layer=1, **given))  # noqa: E731
    yield Case("edit.state", call, {"at": 3}, {"at": at, "heads": Several(9)})
    call = lambda **given: with_edit(edit.patch_state(snap, layer=1, **given))  # noqa: E731
    yield Case("edit.patch_state", call, {"at": 3}, {"at": at, "heads": Several(9)})
    call = lambda **given: with_edit(edit.patch("read", layer=1, run=run, **given))  # noqa: E731
    yield Case("edit.patch", call, {}, {"tokens": Several(40), "heads": Several(9)})


def probes(lab):
    def watched(make, **given):
        return lab.stream(IDS, probes=make(**given), chunk=8)

    blocks = Choice(())  # a block divides the chunk
    for name in ("gates", "norms", "updates", "surprise"):
        call = functools.partial(watched, getattr(deltanet, name))
        yield Case(f"deltanet.{name}", call, {"block": 4}, {"block": Divides(8)})
    yield Case("deltanet.rows", functools.partial(watched, deltanet.rows), {"tokens": [3]}, {"tokens": Absolute(40)})
    call = functools.partial(watched, functools.partial(stream.capture, "read"))
    yield Case("stream.capture", call, {"tokens": [3]}, {"tokens": Several(40)})
    call = functools.partial(watched, attention.watch)
    yield Case("attention.watch", call, {"block": 4}, {"block": Divides(8), "samples": Whole(1, 4, none=True)})
    call = functools.partial(watched, attention.watch_bands)
    asked = {"samples": Whole(1, 4, none=True), "by": Choice(("class", "pair")), "heads": Several(6)}
    yield Case("attention.watch_bands", call, {"block": 4, "samples": 2}, asked)
    del blocks


@dataclasses.dataclass(frozen=True)
class Divides(Whole):
    """A whole number that divides another."""

    of: int = 8

    def __init__(self, of):
        object.__setattr__(self, "of", of)

    def legal(self, value):
        return is_int(value) and plain(value) >= 1 and self.of % plain(value) == 0


@dataclasses.dataclass(frozen=True)
class Absolute(Several):
    """Several positions from 0, never none."""

    none: bool = False

    def legal(self, value):
        entries = [value] if is_int(value) else value
        return not isinstance(value, slice) and super().legal(value) and all(plain(n) >= 0 for n in entries)


def stepped(lab, snap, **given):
    return {str(place): seam.tolist() for place, seam in lab.step(lab.restore(snap), **given).seams.items()}


def passes(lab, snap):
    call = lambda **given: lab.trace(IDS, **given).logits  # noqa: E731
    asked = {"chunk": Whole(1, none=True), "layers": Several(5, empty=True)}
    asked["logits"] = Several(40, none=False, slices=False, words=("all", "last"))
    yield Case("lab.trace", call, {}, asked)
    call = lambda **given: (lambda made: (made.ids, made.logits))(lab.generate(IDS[:9], **given))  # noqa: E731
    asked = {"max_new_tokens": Whole(1, 500), "temperature": Number(0), "seed": Whole(0, 2**63 - 1)}
    yield Case("lab.generate", call, {"max_new_tokens": 2, "temperature": 0.5, "seed": 3}, asked)
    asked = {"token": Whole(0, tiny.SIZES["vocab_size"] - 1), "layers": Several(5, empty=True)}
    yield Case("lab.step", functools.partial(stepped, lab, snap), {"token": 3}, asked)
    call = lambda **given: lab.stream(IDS, probes=deltanet.gates(block=1), **given)  # noqa: E731
    yield Case("lab.stream", call, {"chunk": 8}, {"chunk": Whole(1), "every": Whole(1)})
    yield Case("lab.fork", lambda n: len(lab.fork(snap, n)), {"n": 2}, {"n": Whole(1, 2**16)})
    yield Case("snap.stacked", lambda n: snap.stacked(n).state[1], {"n": 2}, {"n": Whole(1, 2**16)})
    call = lambda **given: {**(made := lab.plan(**given)).parts, "all": made.flops}  # noqa: E731
    yield Case(
        "lab.plan", call, {"tokens": 40}, {"tokens": Whole(1), "chunk": Whole(1, none=True), "layers": Several(5)}
    )


def numbers(lab, data):
    """Statistics, costs, scalings, drawn sessions, figures."""
    some, small = xarray.DataArray([0.5, 1.0, 2.5, 4.0], dims="sample"), lab.spec
    yield Case("stats.wilson", stats.wilson, {"right": 1, "samples": 3}, {"right": Whole(0, 3), "samples": Whole(1)})
    for name, least in (("bootstrap", 2), ("permutation", 1)):
        asked = {"resamples": Whole(least), "seed": Whole(0, 2**63 - 1)}
        call = functools.partial(getattr(stats, name), some)
        yield Case(f"stats.{name}", lambda call=call, **given: values(call(**given)), {"resamples": 50}, asked)
    call = lambda **given: rotary.stretched(small, **given)  # noqa: E731
    asked = {"factor": Number(1), "attention_factor": Number(1e-300, none=True), "length": Decimal(1, none=True)}
    asked |= {"kind": Choice(rotary.KINDS), "ramp": Choice(rotary.RAMPS)}
    yield Case("rotary.stretched", call, {}, asked)
    call = lambda **given: yarn.wavelengths(small, **given)  # noqa: E731
    yield Case("yarn.wavelengths", call, {}, {"factor": Number(1)})
    call = lambda **given: yarn.phase_coverage(small, **given)  # noqa: E731
    yield Case("yarn.phase_coverage", call, {"tokens": 9}, {"tokens": Whole(1)})
    call = lambda **given: yarn.phase_error(small, **given)  # noqa: E731
    asked = {"samples": Whole(1), "lengths": Lengths()}
    yield Case("yarn.phase_error", call, {"lengths": [9], "samples": 4}, asked)
    call = lambda **given: scaled(lab, **given)  # noqa: E731
    yield Case("yarn.scaled", call, {}, {"factor": Number(1, 2**15), "reach": Whole(512, 2**24, none=True)})
    call = lambda **given: yarn.likelihood(lab, IDS, **given)  # noqa: E731
    yield Case("yarn.likelihood", call, {}, {"last": Whole(1, 39, none=True), "chunk": Whole(1, none=True)})
    call = lambda **given: small.card(**given).numbers  # noqa: E731
    yield Case("spec.card", call, {"tokens": 9}, {"tokens": Whole(1, none=True)})
    for name in ("kv_bytes", "cache_bytes", "logits_bytes", "pattern_bytes", "trajectory_bytes", "decode_seconds"):
        call = functools.partial(getattr(spec, name), small)
        yield Case(f"spec.{name}", call, {"tokens": 9}, {"tokens": Number(0, 2**63)})
    for name in ("prefill_flops", "prefill_seconds"):
        call = functools.partial(getattr(spec, name), small)
        yield Case(f"spec.{name}", call, {"tokens": 9}, {"tokens": Whole(1), "cached": Whole(0, 8)})
    asked = dict.fromkeys(("thinking", "answer", "result", "question"), Number(0, 10**5))
    asked |= {"turns": Whole(1, 10**4), "calls": Whole(0, 1000), "seed": Whole(-(2**63), 2**63), "spread": Number(0, 3)}
    yield Case("reuse.drawn", reuse.drawn, {"turns": 2, "calls": 1}, asked)
    session = reuse.drawn(turns=1, calls=1, thinking=3, answer=3, result=3, question=3)
    call = functools.partial(reuse.replay, session, spec=small)
    asked = {"block": Whole(1), "slots": Whole(1, 1, none=True), "most": Whole(1, none=True), "budget": Budget()}
    yield Case("reuse.replay", call, {}, asked)
    asked = {
        "visible": Number(0, 2**24),
        "generated": Number(0, 2**24),
        "thinking": Number(0, 2**24),
        "position": Number(0, 2**24),
    }
    call = functools.partial(reuse.break_even_turn, small)
    yield Case("reuse.break_even_turn", call, dict(visible=9, generated=9, thinking=9, position=9), asked)
    drawn = data.drop_vars("layer")
    call = lambda **given: draw.tokens(drawn.isel(head=0), "keep", **given)  # noqa: E731
    yield Case("draw.tokens", call, {}, {"width": Whole(1)})
    call = lambda **given: draw.heatmap(cards(), "weight", slider="step", **given)  # noqa: E731
    yield Case("draw.heatmap", call, {}, {"start": Whole(-3, 2)})


@dataclasses.dataclass(frozen=True)
class Lengths(Several):
    """Whole numbers from 1."""

    count: int = 0

    def legal(self, value):
        entries = [value] if is_int(value) else value
        several = Several(2**62, none=False, slices=False).legal(value)
        return several and all(plain(n) > 0 for n in entries)


@dataclasses.dataclass(frozen=True)
class Budget(Number):
    """Bytes that hold one snapshot, or None."""

    def legal(self, value):
        return value is None or (super().legal(value) and plain(value) >= spec.snapshot_bytes(scene()[0].spec))


def cards():
    return xarray.Dataset({"weight": (("step", "token", "source"), np.ones((3, 2, 2)))})


def values(result):
    return [part.values.tolist() for part in result] if isinstance(result, tuple) else result.values.tolist()


def scaled(lab, **given):
    with contextlib.ExitStack() as scope:
        scope.enter_context(yarn.scaled(lab, **given))
        return lab.window, lab.trace(IDS[:5]).logits


@attack("hostile arguments", short=80, long=4000)
def arguments(tries, seed, folder):
    """One argument of one public call at a time."""
    everything = [
        (case, name, value) for case in cases() for name in case.attacked for value in case.attacked[name].values
    ]
    order = list(range(len(everything)))
    random.Random(seed).shuffle(order)
    for i in (order * (tries // len(order) + 1))[:tries]:
        yield outcome(*everything[i])
