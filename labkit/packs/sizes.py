"""What a pack takes before anything is computed, what of it is largest, and what to leave out."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from labkit.errors import BudgetError, InputError
from labkit.notation import is_index
from labkit.packs import requests
from labkit.packs.codec import BITS, BLOCK
from labkit.spec import Spec, size
from labkit.tables import Table
from labkit.trace import Run, layers_of

NAMED = 4096  # bytes of a layer's labels, beside its numbers
TEXT = 6  # bytes of a token's id and text, compressed
SHARED = 4096  # bytes of what all readings share
WORDS = "token ids and texts"


class Chosen(NamedTuple):
    """One entry of `readings`: the reading, its layers, and the other arguments by name."""

    read: Callable
    layers: list[int]
    options: dict


@dataclasses.dataclass(frozen=True, repr=False)
class Size(Table):
    """What a pack takes, planned or measured.

    Attributes:
        parts: `{name: bytes}`. bits: of a number. at_most: bytes that are allowed.
        errors: of what was written, `{reading: largest error of a variable over the variable's largest number}`.
    """

    parts: dict
    bits: int
    at_most: int | None = None
    errors: dict = dataclasses.field(default_factory=dict)

    title = "A trace pack"

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    def facts(self) -> list[tuple[str, str, str]]:
        """Rows (group, name, value) that both representations show."""
        rows = [("parts", name, size(count)) for name, count in self.parts.items()]
        allowed = "" if self.at_most is None else f" of {size(self.at_most)}"
        rows.append(("all", "bytes", f"{size(self.bytes)}{allowed}, {self.bits} bits a number"))
        return rows + [("largest error", name, f"{error:.1e}") for name, error in self.errors.items()]

    def refuse(self, cheaper: Sequence[tuple[str, int]]) -> None:
        """Raise if it is more than is allowed.

        Args:
            cheaper: `(way, bytes)` of smaller packs.

        Raises:
            BudgetError: with the largest parts, and what to leave out.
        """
        if self.at_most is None or self.bytes <= self.at_most:
            return
        largest = sorted(self.parts.items(), key=lambda part: -part[1])[:4]
        fitting = [f"{way} ({size(count)})" for way, count in cheaper if count <= self.at_most]
        least = [f"{way} ({size(count)}, still too much)" for way, count in sorted(cheaper, key=lambda way: way[1])]
        raise BudgetError(
            "this pack would be too large",
            got=f"{size(self.bytes)}: " + ", ".join(f"{name} {size(count)}" for name, count in largest),
            expected=f"at_most={self.at_most:,} bytes",
            hint=" or ".join(fitting[:4] or least[:1]) or None,
        )


def estimate(
    spec: Spec,
    *,
    tokens: int,
    readings: Iterable[Callable | tuple[Callable, Mapping]] = (),
    seams: Iterable[tuple[int, str]] = (),
    datasets: Mapping[str, "xarray.Dataset"] | None = None,  # noqa: F821
    bits: int = 32,
    texts: bool = True,
) -> Size:
    """What a pack of so many tokens will take, from the shape of a model alone; `readings`, `seams`, `datasets`,
    `bits` and `texts` as of `lk.pack`.

    Numbers are counted as they are before they are compressed, so that a file is smaller.

    Raises:
        InputError, LayerError: as `lk.pack`.
    """
    request = Request(
        spec, tokens, tokens, [chosen(each, spec) for each in readings], list(seams), datasets or {}, texts
    )
    return request.size(width(bits))


@dataclasses.dataclass(frozen=True)
class Request:
    """All that goes into a pack.

    Attributes:
        tokens, sources: of the run; sources count those of a warm cache.
        chosen, seams, datasets, texts: as `lk.pack` takes them.
    """

    spec: Spec
    tokens: int
    sources: int
    chosen: list[Chosen]
    seams: list[tuple[int, str]]
    datasets: Mapping
    texts: bool

    def size(self, bits: int, at_most: int | None = None) -> Size:
        """What it takes with so many bits a number."""
        parts: dict = {}
        for each in self.chosen:
            parts[named(each, parts)] = len(each.layers) * (_stored(self._numbers(each), bits) + NAMED)
        if self.seams:
            seams = [self.spec.seams[self.spec.kind(layer)][name] for layer, name in self.seams]
            counts = [self.tokens * math.prod(seam.shape(self.spec)) for seam in seams]
            parts["seams"] = sum(_stored(count, bits) for count in counts)
        if self.datasets:
            parts["datasets"] = sum(_dataset(data, bits) for data in self.datasets.values())
        parts[WORDS] = (TEXT * self.tokens if self.texts else 0) + SHARED
        return Size(parts, bits, at_most)

    def _numbers(self, each):
        """Numbers of one layer; readings give 32 bits to nearly all of theirs."""
        sizes = {
            name: each.options[name] for name in ("heads", "rows", "samples") if each.options.get(name) is not None
        }
        others = {name: value for name, value in each.options.items() if name not in sizes}
        needs = each.read.needs
        facts = dict(sources=self.sources, options=others, **sizes)
        return needs.cost(needs.request(self.spec, self.tokens, **facts)).result // 4

    def cheaper(self, bits: int) -> list[tuple[str, int]]:
        """`(way, bytes)` of smaller packs: fewer bits, one layer or head of what is largest, or without it."""
        ways = [(f"bits={fewer}", self.size(fewer).bytes) for fewer in (16, 8) if fewer < bits]
        less = lambda chosen, **parts: dataclasses.replace(self, chosen=chosen, **parts).size(bits).bytes  # noqa: E731
        if self.chosen:
            cost = [less([each], seams=[], datasets={}) for each in self.chosen]
            large = cost.index(max(cost))
            most, rest = self.chosen[large], self.chosen[:large] + self.chosen[large + 1 :]
            name = most.read.needs.name
            if len(most.layers) > 1:
                one = most._replace(layers=most.layers[:1])
                ways.append((f"{name} of layer={most.layers[0]} alone", less([*rest, one])))
            if "heads" in most.read.needs.options:
                one = most._replace(options=most.options | {"heads": [0]})
                ways.append((f"{name} with heads=0", less([*rest, one])))
            if rest or self.seams or self.datasets:
                ways.append((f"without {name}", less(rest)))
        ways += [("without seams", less(self.chosen, seams=[]))] if self.seams else []
        return ways + ([("without datasets", less(self.chosen, datasets={}))] if self.datasets else [])


def chosen(given: object, spec: Spec, run: Run | None = None) -> Chosen:
    """One entry of `readings`: a reading, or (reading, arguments by name); its layers are those of the run.

    Raises:
        InputError: anything else. LayerError: layers of the other kind.
    """
    read, options = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    needs = requests.needs_of(read)
    if not isinstance(options, Mapping):
        hint = "(deltanet.memory, dict(layer=0, tokens=None))"
        raise InputError("arguments of a reading are given by name", got=ascii(options)[:80], hint=hint)
    options = dict(options)
    layers = options.pop("layer", None)
    if layers is None and run is not None:
        layers = [layer for layer in run.layers if layer in run.spec.layers_of(needs.kind)] or None
    return Chosen(read, list(dict.fromkeys(layers_of(spec, layers, needs.kind, needs.name))), options)


def named(each: Chosen, parts: Mapping) -> str:
    """A name for the part of one entry, other than those that are there."""
    name = f"{each.read.needs.name} of {len(each.layers)} layer{'s' if len(each.layers) > 1 else ''}"
    return name if name not in parts else f"{name}, {sum(part.startswith(name) for part in parts) + 1}"


def width(bits: int) -> int:
    """Bits of a number, one of `codec.BITS`. Raises InputError."""
    if not is_index(bits) or int(bits) not in BITS:
        raise InputError("bits of a number", got=ascii(bits)[:40], expected=" or ".join(map(str, BITS)))
    return int(bits)


def _dataset(data, bits):
    numbers = sum(_stored(part.size, bits) * max(part.dtype.itemsize, 4) // 4 for part in data.data_vars.values())
    return numbers + sum(part.nbytes for part in data.coords.values()) + NAMED


def _stored(count, bits):
    return count * bits // 8 + (-(-count // BLOCK) * 8 if bits == 8 else 0)
