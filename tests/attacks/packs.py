"""Attacks on packs: damaged bytes, books that are signed and lie, arrays that are not what the book says.

What is opened all the same must say what an independent reading of the file says, and be drawn.
"""

import contextlib
import hashlib
import json
import math
import pathlib
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import tiny

import labkit
from labkit import attention, deltanet, draw, folders
from labkit.errors import LabError
from tests.attacks import Outcome, attack, tried
from tests.attacks.folders import Kill, at_line, changed, damaged, raiser

MODULES = {"attention": attention, "deltanet": deltanet}
PLACES = (str(pathlib.Path(labkit.__file__).parent / "packs"), folders.__file__)
LENGTHS = struct.Struct("<QQ")
REAL = {"float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2"}


def saved(path: pathlib.Path, bits: int = 32) -> labkit.Run:
    """A run after cached tokens, packed there."""
    lab = tiny.make_lab(tiny.model())
    cache = lab.cache()
    lab.trace(tiny.ids(7), cache=cache)
    run = lab.trace(tiny.ids(11, seed=2), cache=cache)
    readings = [
        deltanet.half_life,
        (deltanet.memory, dict(layer=[0, 3], tokens=None, heads=[1, 4])),
        (attention.pattern, dict(layer=2, rows=[3, 5], logits=True)),
        (attention.contribution, dict(layer=4, lab=lab, heads=0)),
    ]
    data = lab.stream(tiny.ids(11), probes=[deltanet.gates(block=4)], chunk=8)[["keep"]]
    labkit.pack(run, path, readings=readings, seams=[(0, "b")], datasets={"gates": data}, bits=bits)
    return run


# --------------------------------------------------------------------------------------- the file, read by other means


def parts(path: pathlib.Path) -> tuple[bytes, dict, list[bytes]]:
    """(first line, book, compressed arrays) of a file."""
    raw = path.read_bytes()
    first, _, rest = raw.partition(b"\n")
    length, _ = LENGTHS.unpack_from(rest)
    book = json.loads(zlib.decompress(rest[16 : 16 + length])[4:])
    arrays, at = [], 16 + length
    for size, _ in book["blobs"]:
        arrays.append(rest[at : at + size])
        at += size
    return first, book, arrays


def put(path: pathlib.Path, first: bytes, book: object, arrays: list[bytes], *, known: bool = False) -> None:
    """Write a file and sign it; `known` leaves the lengths and the digest of the arrays as the book has them."""
    if isinstance(book, dict):
        book = {name: value for name, value in book.items() if name != "sha256"}
        if not known:
            book["payload"] = hashlib.sha256(b"".join(arrays)).hexdigest()
        book["sha256"] = folders.mark(book)
    text = json.dumps(book).encode()
    packed = zlib.compress(struct.pack("<I", len(text)) + text)
    payload = b"".join(arrays)
    path.write_bytes(first + b"\n" + LENGTHS.pack(len(packed), len(payload)) + packed + payload)


def read(stored: list, arrays: list[bytes]) -> np.ndarray:
    """The array of an entry of a book, number by number."""
    kind, code, shape, blob, scale, _ = stored
    raw, count = zlib.decompress(arrays[blob]), math.prod(shape)
    spread = lambda width: b"".join(raw[i::count][:width] for i in range(count))  # noqa: E731
    if code == "text":
        return np.array(json.loads(raw), dtype=object).reshape(shape)
    if code == "exact":
        width = np.dtype(REAL[kind]).itemsize
        return np.frombuffer(spread(width), REAL[kind]).reshape(shape)
    if code == "whole":
        steps, total, numbers = np.frombuffer(spread(8), "i8").tolist(), 0, []
        for step in steps:
            total = (total + step + 2**63) % 2**64 - 2**63
            numbers.append(total)
        return np.array(numbers, dtype="i8").reshape(shape)
    if code == "half":
        with np.errstate(all="ignore"):
            return (np.frombuffer(spread(2), "f2").astype(float) / scale).astype(REAL[kind]).reshape(shape)
    edge, blocks = ("f8", 8) if kind == "float64" else ("f4", 4), -(-count // 256)
    low, high = np.frombuffer(raw[: 2 * blocks * edge[1]], edge[0]).astype(float).reshape(2, blocks)
    numbers = []
    with np.errstate(all="ignore"):
        for i, step in enumerate(raw[2 * blocks * edge[1] :]):
            span = low[i // 256] + step / 252 * (high[i // 256] - low[i // 256])
            numbers.append({253: -np.inf, 254: np.inf, 255: np.nan}.get(step, span))
        return np.array(numbers).astype(REAL[kind]).reshape(shape)


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same, NaN included."""
    if one.dtype.kind in "OU":
        return one.shape == other.shape and (one == other).all()
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f" and other.dtype.kind == "f")


def says(path: pathlib.Path, run: labkit.Run) -> bool:
    """Whether a run is what its file says, read by other means; and whether what it answers can be drawn."""
    _, book, arrays = parts(path)
    facts = ("model", "prompt_length", "bits", "mark", "count", "length")
    if any(getattr(run, name) != book[name] for name in facts) or run.identity.to_json() != book["identity"]:
        return False
    if list(run.tokens) != read(book["tokens"], arrays).tolist():
        return False
    if book["ids"] is not None and run.ids.tolist() != read(book["ids"], arrays).tolist():
        return False
    for layer, name, stored in book["seams"]:
        if not equal(run.seams[layer, name].numpy(), read(stored, arrays)):
            return False
    for name, made in book["datasets"]:
        stored, data = made["variables"] | made["coords"], run.datasets[name]
        if not all(equal(data[key].values, read(entry[1], arrays)) for key, entry in stored.items()):
            return False
        if "keep" in data.data_vars:
            drawn(data)
    repr(run), run.readings, run.positions, run.layers
    return all(answers(run, request, layers, arrays) for request, layers in book["answered"])


def answers(run: labkit.Run, request: list, layers: list, arrays: list[bytes]) -> bool:
    """Whether the call of a stored request gives what is stored, layer by layer, or says clearly why not."""
    (reading, arguments), function = request, None
    kind, name = reading.split(".")
    function = getattr(MODULES[kind], name, None)
    if not hasattr(function, "needs"):
        return True
    more = [None for each in arguments.values() if isinstance(each, dict)]
    plain = {key: each for key, each in arguments.items() if not isinstance(each, dict)}
    try:
        function(run, *more, layer=[layer for layer, _ in layers], **plain)
        single = {layer: function(run, *more, layer=layer, **plain) for layer, _ in layers}
    except (LabError, TypeError) as error:  # of arguments that the reading does not have, as Python says it
        return isinstance(error, LabError) or "argument" in str(error)
    for layer, made in layers:
        data = single[layer]
        stored = made["variables"] | made["coords"]
        if set(stored) != set(data.variables) or data.attrs.get("parity") != made["attrs"]["parity"]:
            return False
        if not all(equal(data[key].values, read(entry[1], arrays)) for key, entry in stored.items()):
            return first_of(run, request, layers)
    drawn(single[layers[0][0]])
    return True


def drawn(data: "xarray.Dataset") -> None:  # noqa: F821
    """Draw its first variable; a clear error is an answer too."""
    for variable in list(data.data_vars)[:1]:
        for figure in (draw.heatmap, draw.lines):
            with contextlib.suppress(LabError):
                figure(data, variable)


def first_of(run: labkit.Run, request: list, layers: list) -> bool:
    """Whether another request of the pack answers this call: equal arguments may be stored twice."""
    own = [each for each in run.answered if each.request.reading == request[0]]
    return sum(each.request.others == own[-1].request.others for each in own) > 1


# --------------------------------------------------------------------------------------------------------- the attacks


@attack("packs: damaged bytes", short=60, long=2000)
def damage(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """A bit, a cut, zeros, the file gone."""
    saved(folder / "whole")
    raw = (folder / "whole").read_bytes()
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / "pack"
        place.write_bytes(raw)
        what = damaged(place, draw)
        same = not place.exists() or place.read_bytes() == raw
        yield tried(lambda: labkit.open_run(place), lambda run: same, what)  # noqa: B023


@attack("packs: signed books that lie", short=60, long=2000)
def lies(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """One value of the book changed, and the book signed again."""
    saved(folder / "32")
    saved(folder / "8", bits=8)
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / "pack"
        first, book, arrays = parts(folder / draw.choice(["32", "8"]))
        part = draw.choice([*["answered"] * 3, "datasets", "seams", "tokens", "ids", "blobs", "spec", ""])
        lie, what = changed(book[part] if part else book, draw, part)
        lie = book | {part: lie} if part else lie
        put(place, first, lie, arrays, known=draw.random() < 0.5)
        yield tried(lambda: labkit.open_run(place), lambda run: says(place, run), what)  # noqa: B023


def bent(book: dict, arrays: list[bytes], draw: random.Random) -> str:
    """Change the bytes of one array, its length in the book with them or not; returns how."""
    at = draw.randrange(len(arrays))
    raw = bytearray(zlib.decompress(arrays[at]))
    how = draw.choice(["flip", "flip", "zeros", "ones", "longer", "shorter", "none", "texts", "bomb", "raw", "swap"])
    if how == "flip" and raw:
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    elif how in ("zeros", "ones"):
        raw = bytearray([255 * (how == "ones")]) * len(raw)
    elif how in ("longer", "shorter"):
        raw = raw + b"\x07" * draw.choice([1, 8, 4096]) if how == "longer" else raw[: draw.randrange(len(raw) + 1)]
    elif how == "none":
        raw = bytearray()
    elif how == "texts":
        words = draw.choice(
            [["\ud800"] * 11, ["<b>"] * 11, [None] * 11, ["x" * 2**20] * 11, {}, [[]], ["\0"] * 11, "x"]
        )
        raw = bytearray(json.dumps(words).encode())
    elif how == "bomb":
        raw = bytearray(2**26)
    arrays[at] = zlib.compress(bytes(raw)) if how != "raw" else bytes(raw)
    if how == "swap":
        other = draw.randrange(len(arrays))
        for pairs in (arrays, book["blobs"]):
            pairs[at], pairs[other] = pairs[other], pairs[at]
    if draw.random() < 0.8 and how != "swap":
        book["blobs"][at] = [len(arrays[at]), len(raw) + draw.choice([0, 0, 0, 1, -1, 2**30, 2**31])]
    return f"array {at}: {how}"


@attack("packs: signed arrays that lie", short=60, long=2000)
def arrays_lie(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """The bytes of one array changed, and the file signed again."""
    saved(folder / "32")
    saved(folder / "16", bits=16)
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / "pack"
        first, book, arrays = parts(folder / draw.choice(["32", "16"]))
        what = bent(book, arrays, draw)
        put(place, first, book, arrays)
        yield tried(lambda: labkit.open_run(place), lambda run: says(place, run), what)  # noqa: B023


@attack("packs: stopped at any line", short=10, long=200)
def stopped(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """An exception at a line of `lk.pack` over an earlier pack: the earlier one is there, or the new one."""
    run = saved(folder / "whole")
    earlier = (folder / "whole").read_bytes()
    again = lambda path: labkit.pack(run, path, readings=[deltanet.half_life])  # noqa: E731
    with at_line(0, print, PLACES) as lines:
        again(folder / "new")
    new = (folder / "new").read_bytes()
    for i in range(tries):
        number, place = random.Random(seed + i).randrange(1, lines[0] + 1), folder / "pack"
        place.write_bytes(earlier)
        try:
            with at_line(number, raiser(Kill()), PLACES):
                again(place)
        except Kill:
            pass
        right = place.read_bytes() in (earlier, new)
        yield tried(lambda: labkit.open_run(place), lambda run: right, f"line {number}", clear=())  # noqa: B023
