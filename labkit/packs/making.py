"""A run as a pack: what it will take, told before anything is computed; the readings; the file, read back at once."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch

from labkit import folders
from labkit.errors import BudgetError, InputError
from labkit.notation import is_index
from labkit.packs import container, labels, opening, requests
from labkit.packs.codec import BITS, Blobs
from labkit.packs.labels import BLANK
from labkit.spec import Spec, size
from labkit.tables import Table
from labkit.trace import Run, layers_of
from labkit.trace.saved import seam_shape

AT_MOST = 8_000_000
NAMED = 4096  # bytes of a layer's labels, beside its numbers
TEXT = 6  # bytes of a token's id and text, compressed; of English in measured packs 4.5
SHARED = 4096  # bytes of what all readings share
WHAT = "token ids and texts"


@dataclasses.dataclass(frozen=True, repr=False)
class Size(Table):
    """What a pack takes, planned or measured.

    Attributes:
        parts: `{name: bytes}`. bits: of a number. at_most: bytes that were allowed.
        errors: `{reading: largest error of a variable over the variable's largest number}` of what was written.
    """

    parts: dict
    bits: int
    at_most: int | None = None
    errors: dict = dataclasses.field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    title = "A trace pack"

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
        ways = [f"{way} ({size(count)})" for way, count in cheaper if count <= self.at_most]
        rest = [f"{way} ({size(count)}, still too much)" for way, count in sorted(cheaper, key=lambda way: -way[1])]
        raise BudgetError(
            "this pack would be too large",
            got=f"{size(self.bytes)}: " + ", ".join(f"{name} {size(count)}" for name, count in largest),
            expected=f"at_most={self.at_most:,} bytes",
            hint=" or ".join(ways[:3] or rest[-1:]) or None,
        )


def estimate(
    spec: Spec,
    *,
    tokens: int,
    readings: Iterable[Callable | tuple[Callable, Mapping]] = (),
    seams: Iterable[tuple[int, str]] = (),
    bits: int = 32,
    texts: bool = True,
    at_most: int | None = None,
) -> Size:
    """What a pack will take, from the shape of a model alone; arguments as of `pack`.

    Numbers are counted as they are before they are compressed, so that a file is smaller.

    Raises:
        InputError, LayerError: as `pack`.
    """
    chosen = [_asked(each, spec, None) for each in readings]
    return _planned(spec, tokens, tokens, chosen, list(seams), _bits(bits), texts, at_most)


def pack(
    run: Run,
    path: str | pathlib.Path,
    *,
    readings: Iterable[Callable | tuple[Callable, Mapping]] = (),
    seams: Iterable[tuple[int, str]] = (),
    bits: int = 32,
    texts: bool = True,
    at_most: int | None = AT_MOST,
) -> Size:
    """Compute readings of a run and write them into one file, which `lk.open_run` opens without the model.

        lk.pack(run, "fox.pack", readings=[deltanet.half_life, (attention.summary, dict(layer=[3, 7], block=512))])

    Args:
        run: `Run`, also one that was opened. path: a new file, or a pack that is replaced.
        readings: each a reading, or `(reading, arguments by name)`; without `layer` it is of all layers of its kind
            that the run watched. Another run or the lab is given by its name too: `dict(other=second, layer=0)`.
        seams: `(layer, name)` of seams to keep as they are.
        bits: 32 keeps every number as it was computed. 16 and 8 round real numbers: by at most 2^-11 of the largest
            number of a variable; by at most 1/504 of the range within 256 neighbours. Whole numbers and coordinates
            are never rounded.
        texts: whether token ids and texts are kept. Without them nothing in the file names a token, but numbers of a
            run can tell a lot about its prompt to somebody who has the model.
        at_most: bytes that the file may have; None for any number.

    Returns:
        `Size` of what was written, with the largest error that rounding made.

    Raises:
        InputError: no readings, arguments that a file cannot hold, a file that is no pack in its place. BudgetError:
            more than `at_most`, before anything is computed where it can be told; names what to leave out.
        LayerError, SeamError, ParityError: of the readings. CheckpointError: it cannot be written.
    """
    if not isinstance(run, Run):
        raise InputError(
            "lk.pack packs a run", got=type(run).__name__, expected="what lab.trace or lab.generate returns"
        )
    path, bits = pathlib.Path(path), _bits(bits)
    chosen, seams = [_asked(each, run.spec, run) for each in readings], [(int(layer), name) for layer, name in seams]
    if not chosen and not seams:
        raise InputError("nothing to pack", hint="lk.pack(run, path, readings=[deltanet.half_life])")
    if path.exists() and not (path.is_file() and container.is_pack(path)):
        raise InputError("something else lies in this place", got=str(path), expected="a new file, or a pack")
    asked = [_request(each, run, texts) for each in chosen]
    facts = (run.spec, len(run), int(run.positions[-1]) + 1, chosen, seams)
    _planned(*facts, bits, texts, at_most).refuse(_cheaper(facts, bits, texts, at_most))
    blobs, answered, parts, errors = Blobs(), [], {}, {}
    for (read, layers, options), request in zip(chosen, asked, strict=True):
        before, filled = blobs.nbytes, []
        more, named = requests.extra(read, options)
        for layer in layers:
            data = read(run, *more, layer=layer, **named)
            made = labels.record(data, blobs, bits=bits, texts=texts)
            filled.append([layer, made])
            errors[request.reading] = max(errors.get(request.reading, 0.0), _error(data, made))
        answered.append([[request.reading, request.arguments], filled])
        parts[_name(read, layers, parts)] = blobs.nbytes - before
    before, kept = blobs.nbytes, []
    for layer, name in seams:
        kept.append([layer, name, _seam(run.seams[layer, name], blobs, bits)])
    parts |= {"seams": blobs.nbytes - before} if seams else {}
    before = blobs.nbytes
    book = _book(run, blobs, texts) | {"bits": bits, "seams": kept, "answered": answered}
    parts[WHAT] = blobs.nbytes - before
    whole = container.made(book, blobs)
    parts["labels"] = len(whole) - sum(parts.values())
    written = Size(parts, bits, at_most, errors if bits < 32 else {})
    written.refuse(_cheaper(facts, bits, texts, at_most))
    _write(path, whole)
    return written


def _write(path, whole):
    """Put the file in its place once it opens."""
    with folders.told("a pack could not be written", path):
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        with folders.whole(path.resolve()) as draft:
            draft.write_bytes(whole)
            opening.open_run(draft)


def _book(run, blobs, texts):
    """What a pack says of the run itself."""
    ids, tokens = run.ids if texts else None, run.tokens if texts else [BLANK] * len(run)
    placed = None if run.position_ids is None else run.position_ids.cpu().numpy()
    return {
        "count": len(run),
        "length": int(run.positions[0]),
        "prompt_length": run.prompt_length,
        "model": run.model,
        "spec": dataclasses.asdict(run.spec),
        "scaling": dataclasses.asdict(run.scaling),
        "parity": [[layer, reading, error] for (layer, reading), error in run.parity.items()],
        "identity": run.identity.to_json(),
        "mark": requests.mark(run) if texts else None,
        "ids": None if ids is None else blobs.add(ids.cpu().numpy()).to_json(),
        "position_ids": None if placed is None else blobs.add(placed).to_json(),
        "tokens": blobs.add(np.array(tokens)).to_json(),
    }


def _seam(seam, blobs, bits):
    seam = seam.detach().cpu()
    if seam.dtype == torch.bfloat16:
        return blobs.add(seam.view(torch.uint16).numpy(), bits, "bfloat16").to_json()
    return blobs.add(seam.numpy(), bits).to_json()


def _error(data, made):
    """The largest stored error of a variable, over its largest number."""
    worst = 0.0
    for name, (_, stored, _) in made["variables"].items():
        values = np.abs(data[name].values[np.isfinite(data[name].values)].astype(np.float64))
        worst = max(worst, stored[-1] / max(values.max(initial=0), 1e-300)) if stored[-1] else worst
    return worst


def _bits(bits):
    if not is_index(bits) or int(bits) not in BITS:
        raise InputError("bits of a number", got=ascii(bits)[:40], expected=" or ".join(map(str, BITS)))
    return int(bits)


def _asked(given, spec, run):
    """(reading, layers, other arguments by name) of one entry of `readings`."""
    read, options = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    needs = requests.needs_of(read)
    if not isinstance(options, Mapping):
        hint = "(deltanet.memory, dict(layer=0, tokens=None))"
        raise InputError("arguments of a reading are given by name", got=ascii(options)[:80], hint=hint)
    options = dict(options)
    layers = options.pop("layer", None)
    if layers is None and run is not None:
        layers = [layer for layer in run.layers if run.spec.kind(layer) == needs.kind]
    return read, list(dict.fromkeys(layers_of(spec, layers, needs.kind, needs.name))), options


def _request(asked, run, texts):
    """The comparable form of one entry."""
    read, layers, options = asked
    more, named = requests.extra(read, options)
    request = requests.asked(read, run, more, layers, named)
    others = [name for name, value in request.arguments.items() if isinstance(value, dict) and requests.RUN in value]
    if others and not texts:
        got = f"{request.reading} with {others[0]}="
        raise InputError("another run is known by its tokens, which texts=False leaves out", got=got, hint="texts=True")
    return request


# ------------------------------------------------------------------------------------------------------------ estimates


def _planned(spec, tokens, sources, chosen, seams, bits, texts, at_most):
    parts = {}
    for read, layers, options in chosen:
        parts[_name(read, layers, parts)] = len(layers) * (
            _numbers(read.needs, spec, tokens, sources, options, bits) + NAMED
        )
    if seams:
        counts = [int(np.prod(seam_shape(spec, layer, name, tokens))) for layer, name in seams]
        parts["seams"] = sum(_stored(count, bits) for count in counts)
    parts[WHAT] = (TEXT * tokens if texts else 0) + SHARED
    return Size(parts, bits, at_most)


def _numbers(needs, spec, tokens, sources, options, bits):
    """Bytes of the numbers of one layer; readings give 32 bits to nearly all of theirs."""
    sizes = {name: options[name] for name in ("heads", "rows", "samples") if options.get(name) is not None}
    others = {name: value for name, value in options.items() if name not in sizes}
    cost = needs.cost(needs.request(spec, tokens, sources=sources, options=others, **sizes))
    return _stored(cost.result // 4, bits)


def _stored(count, bits):
    return count * bits // 8 + (count // 32 if bits == 8 else 0)


def _name(read, layers, parts):
    """A name for the part of one entry, other than those that are there."""
    name = f"{read.needs.name} of {len(layers)} layer{'s' if len(layers) > 1 else ''}"
    return name if name not in parts else f"{name}, {sum(part.startswith(name) for part in parts) + 1}"


def _cheaper(facts, bits, texts, at_most):
    """`(way, bytes)` of smaller packs: fewer bits, fewer layers, one reading less."""
    spec, tokens, sources, chosen, seams = facts
    count = lambda chosen, bits, seams=seams: _planned(spec, tokens, sources, chosen, seams, bits, texts, at_most).bytes  # noqa: E731
    ways = [(f"bits={fewer}", count(chosen, fewer)) for fewer in (16, 8) if fewer < bits]
    if chosen:
        cost = [count([each], bits, []) for each in chosen]
        large = cost.index(max(cost))
        read, layers, options = chosen[large]
        rest = chosen[:large] + chosen[large + 1 :]
        if len(layers) > 1:
            one = [*rest, (read, layers[:1], options)]
            ways.append((f"{read.needs.name} of layer={layers[0]} alone", count(one, bits)))
        if "heads" in read.needs.options:
            one = [*rest, (read, layers, options | {"heads": [0]})]
            ways.append((f"heads=0 of {read.needs.name}", count(one, bits)))
        if rest or seams:
            ways.append((f"without {read.needs.name}", count(rest, bits)))
    return ways + ([("no seams", count(chosen, bits, []))] if seams and chosen else [])
