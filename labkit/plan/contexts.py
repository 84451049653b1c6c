"""Which contexts a card holds, by how the weights are stored: `lab.plan` of a stream, from a configuration alone.

Nothing is counted here a second time: memory is that of `lab.stream` as `requests` plans it, against what `card.budget`
would leave of the card beside the weights; seconds and tokens per second are the rooflines of `labkit.spec`.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence

from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import LabError
from labkit.kernels.cards import SDPA, kernels_for
from labkit.plan import requests
from labkit.plan.card import SHARE
from labkit.spec import Gpu, Spec, decode_seconds, find_gpu, prefill_seconds, size, weight_bytes
from labkit.spec.compute import rates
from labkit.spec.memory import dtype_bytes
from labkit.spec.units import duration
from labkit.tables import Table

CARDS = ("RTX 4090", "RTX 5090", "L40S", "H100", "H200")  # of 24, 32, 48, 80 and 141 GB
STORED = (None, "fp8", "int8", "int4", "nf4")
OLDEST = (8, 0)  # compute capability of the oldest of `spec.GPUS`; a `Gpu` of one's own counts as no older
STEP = 1024  # tokens; contexts are told in these
WINDOWS = 4  # native windows that yarn.scaled opens at most
BLOCK = 512  # tokens of a block of the probes: their maps of blocks stay small at a million tokens
PROBES = {
    "gates and norms": ("deltanet.gates", "deltanet.norms"),
    "attention.watch": ("attention.watch",),
    "watch_bands": ("attention.watch_bands",),
}


@dataclasses.dataclass(frozen=True)
class Room:
    """The longest prompt that a card reads under one set of probes.

    Attributes:
        tokens: 0 where not even a short one fits.
        host: bytes of host memory that this takes: keys and values that rest there, rows and datasets of the probes.
    """

    tokens: int
    host: int


@dataclasses.dataclass(frozen=True)
class Fitted:
    """One card and one way of storing the weights.

    Attributes:
        gpu: `spec.Gpu`. stored: "bfloat16", "nf4", ... weights: bytes on the card. budget: bytes left beside them.
        here, away: `Room` without probes, keys and values on the card and on the host.
        probes: `{name: Room}`, keys and values on the card.
        seconds, away_seconds: lower bounds of reading `here` and `away` tokens.
        rate, first: upper bounds of tokens per second after `here` tokens, and after none.
    """

    gpu: Gpu
    stored: str
    weights: int
    budget: int
    here: Room
    away: Room
    probes: Mapping[str, Room]
    seconds: float
    away_seconds: float
    rate: float
    first: float

    @property
    def loads(self) -> bool:
        """Whether the weights fit, and a short prompt beside them."""
        return self.away.tokens > 0


@dataclasses.dataclass(frozen=True, repr=False)
class Fit(Table):
    """What fits where; made by `fit`.

    Attributes:
        chunk: tokens read at once. most: tokens of the longest context that was asked for.
        rows: a `Fitted` of every card and way of storing.
    """

    spec: Spec
    chunk: int
    most: int
    rows: tuple[Fitted, ...]

    @property
    def title(self) -> str:
        """Model, chunk and what the numbers are."""
        text = f"{self.spec.name}: contexts that fit, to {self.most:,} tokens (window {self.spec.window:,})"
        return f"{text} · lab.stream in chunks of {self.chunk:,}"

    def facts(self) -> list[tuple[str, str, str]]:
        """Rows (card, way of storing, what fits) that both representations show."""
        rows = [(f"{each.gpu.memory:g} GB · {each.gpu.name}", each.stored, _text(each)) for each in self.rows]
        bounds = (
            ("prefill", "no faster than this: arithmetic at the card's peak, nothing for launches and copies"),
            ("decode", "no faster than this: weights, keys and values read once a token, keys and values on the card"),
            ("memory", f"{SHARE:.0%} of what the weights leave, a GB being 10⁹ bytes; the rest is the allocator's"),
            ("keys on the host", 'lab.stream(ids, probes=[...], kv_device="cpu"), and the host memory that it takes'),
            ("beside a probe", f"the longest prompt that it watches in all its layers, in blocks of {BLOCK} tokens"),
        )
        return rows + [("what the numbers are", *each) for each in bounds]


@public
def fit(
    spec: Spec,
    *,
    cards: Sequence[str | Gpu] = CARDS,
    stored: Sequence[str | None] | None = None,
    dtype="bfloat16",
    chunk: int = 2048,
    most: int | None = None,
) -> Fit:
    """Which contexts fit which cards, and beside which probes.

    Args:
        spec: from `spec.read`. cards: names, or `Gpu`s of your own.
        stored: quantisations, of which None is `dtype` itself; None for all that a card computes with.
        dtype: of activations, keys and values. chunk: tokens of a chunk of the stream.
        most: tokens that are asked for at most; None for four windows, as far as `yarn.scaled` goes, or for one where
            nothing is rotated.

    Raises:
        InputError: an unknown card, quantisation or dtype; fp8 on a card without its arithmetic.
    """
    chunk = whole(chunk, "chunk", least=1)
    most = spec.window * (WINDOWS if spec.rotary_dim else 1) if most is None else whole(most, "most", least=1)
    dtype_bytes(dtype)
    facts, rows = dict(dtype=dtype, chunk=chunk, most=most), []
    for gpu in map(find_gpu, cards):
        able = [way for way in STORED if way != "fp8" or gpu.fp8]
        rows += [_fitted(spec, gpu, way, **facts) for way in (able if stored is None else stored)]
    return Fit(spec, chunk, most, tuple(rows))


def stream_peak(
    spec: Spec, tokens: int, made: Sequence[Callable], *, dtype="bfloat16", chunk: int = 2048, away: bool = False
) -> tuple[int, int]:
    """(bytes on an accelerator beside the weights, bytes of host memory) of a stream, at its highest.

    Args:
        made: what makes each probe of a block, as `deltanet.gates`. away: whether keys and values rest in host memory.
    """
    probes, wanted = [make(block=BLOCK) for make in made], {}
    for probe in probes:
        for layer, names in probe.needs(spec).items():
            wanted[layer] = sorted({*wanted.get(layer, ()), *names})
    sizes = dict(tokens=tokens, chunk=min(chunk, tokens), width=dtype_bytes(dtype))
    costs = [probe.cost(spec, **sizes) for probe in probes]
    options = dict(chunk=chunk, here=False, away=away, maskless=_maskless(spec, dtype))
    moments = requests.stream_moments(spec, dtype, tokens, wanted, costs, **options)
    host = requests.host_parts(spec, dtype, tokens, costs, away=away)
    return max(sum(parts.values()) for parts in moments), sum(host.values())


def _maskless(spec, dtype):
    """Whether these cards continue a cache without a mask, as `labkit.load(attention="auto")` has it."""
    import torch

    return kernels_for(OLDEST, getattr(torch, str(dtype).removeprefix("torch.")), spec.head_dim)[0] != SDPA


def _fitted(spec, gpu, way, *, dtype, chunk, most):
    weights = weight_bytes(spec, dtype, way)["text"]
    rates(gpu, dtype, way)
    budget = int(SHARE * (gpu.memory * 1e9 - weights))
    find = lambda names, away: _longest(spec, names, budget, most, dtype=dtype, chunk=chunk, away=away)  # noqa: E731
    here, away = find((), False), find((), True)
    watched = {name: find(calls, False) for name, calls in PROBES.items() if _watches(spec, calls)}
    costs = dict(dtype=dtype, quantize=way)
    seconds = [prefill_seconds(spec, room.tokens, gpu, **costs) if room.tokens else 0.0 for room in (here, away)]
    speeds = [1 / decode_seconds(spec, tokens, gpu, **costs) for tokens in (here.tokens, 0)]
    stored = way or str(dtype).removeprefix("torch.")
    return Fitted(gpu, stored, weights, budget, here, away, watched, *seconds, *speeds)


def _longest(spec, names, budget, most, **facts):
    """The longest prompt, in steps, whose peak is within the budget: peaks grow with the length."""
    made = _made(names)
    peak = lambda tokens: stream_peak(spec, tokens, made, **facts)  # noqa: E731
    step = min(STEP, most)
    low, high = 0, most // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak(middle * step)[0] <= budget else (low, middle - 1)
    tokens = most if low == most // step and low and peak(most)[0] <= budget else low * step
    return Room(tokens, peak(tokens)[1] if tokens else 0)


def _made(names):
    """What makes each probe."""
    return [getattr(importlib.import_module(f"labkit.{name.split('.')[0]}"), name.split(".")[1]) for name in names]


def _watches(spec, names):
    """Whether a model has what these probes watch: rotary bands, or maps at all."""
    try:
        return all(make(block=BLOCK).needs(spec) for make in _made(names))
    except LabError:
        return False


def _text(row):
    """One line of the table."""
    if not row.loads:
        return f"{size(row.weights)} of weights · does not fit"
    parts = [f"{size(row.weights)} of weights"]
    if row.here.tokens:
        parts += [f"{row.here.tokens:,} tokens", f"prefill {duration(row.seconds)}"]
        parts += [f"decode {row.rate:.3g} tokens/s ({row.first:.3g} with an empty cache)"]
    else:
        parts += ["no context beside them"]
    if row.away.tokens > row.here.tokens:
        away = f"keys on the host: {row.away.tokens:,} tokens"
        parts += [f"{away} and {size(row.away.host)} there, prefill {duration(row.away_seconds)}"]
    for name, room in row.probes.items():
        host = f" and {size(room.host)} of host memory" if room.host > 1e9 else ""
        parts.append(f"beside {name}: {room.tokens:,}{host}" if room.tokens else f"beside {name}: nothing")
    return " · ".join(parts)
