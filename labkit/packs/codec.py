"""Arrays as bytes and back: exact, with 16 bits or with 8 bits a number; the error is measured, bounded and told.

    exact   every bit as it was, bytes of one rank together, so that they compress
    half    float16 of x·s, s a power of two that brings the largest number just below the largest float16: the error is
            at most 2^-11 of the largest number
    byte    of 256 numbers in a row the least and the largest, and 253 steps between: the error is at most 1/504 of
            what lies between; the last three codes are -inf, inf and NaN
    whole   differences of whole numbers, so that positions take next to nothing
    text    a JSON list

Only real numbers are rounded; whole numbers, truth values and texts never are.
"""

import dataclasses
import hashlib
import json
import math
import zlib

import numpy as np

from labkit import folders
from labkit.errors import InputError
from labkit.trace import fields

BLOCK, STEPS, LEVEL = 256, 252, 6
REAL = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
WHOLE = {name: np.dtype(name) for name in ("int64", "int32", "int16", "uint8", "bool")}
KINDS = (*REAL, *WHOLE, "text")
BITS = {32: "exact", 16: "half", 8: "byte"}
EXPANDS = 1032  # zlib makes no more bytes than that of one
ROOM = 2**40  # numbers of one array: no product of two sizes overflows
DIMS = 8
TEXTS = 2**27  # bytes that numpy may take for texts beyond their own


@dataclasses.dataclass(frozen=True)
class Stored:
    """How one array is stored.

    Attributes:
        kind: of its numbers, a key of `REAL` or `WHOLE`, or "text". code: see the module. shape: of the array.
        blob: index of its bytes. scale: s of half, else 1. error: the largest absolute one, measured.
    """

    kind: str
    code: str
    shape: tuple[int, ...]
    blob: int
    scale: float = 1.0
    error: float = 0.0

    @property
    def count(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def packed(self) -> int | None:
        """Bytes of it before they are compressed; None of texts."""
        width = {"whole": 8, "half": 2, "byte": 1}.get(self.code)
        if self.code == "text":
            return None
        if self.code == "exact":
            width = np.dtype(REAL[self.kind]).itemsize
        return self.count * width + (2 * _edge(self.kind).itemsize * -(-self.count // BLOCK)) * (self.code == "byte")

    @property
    def nbytes(self) -> int:
        """Bytes of the array, of texts without their length."""
        kind = REAL.get(self.kind) or WHOLE.get(self.kind) or np.int32
        return self.count * max(np.dtype(kind).itemsize, 8 if self.code in ("whole", "half", "byte") else 1)

    def to_json(self) -> list:
        """As plain objects; `of_json` reads them."""
        return [self.kind, self.code, list(self.shape), self.blob, self.scale, self.error]


def of_json(value: object) -> Stored:
    """The `Stored` of what `to_json` gave. Raises `fields.Odd`."""
    fields.require(isinstance(value, list) and len(value) == 6, value)
    kind, code, shape, blob, scale, error = value
    codes = {"exact", "half", "byte"} if kind in tuple(REAL) else {"whole"} if kind in tuple(WHOLE) else {"text"}
    fields.require(kind in KINDS and code in tuple(codes), value)
    fields.require(isinstance(shape, list) and len(shape) <= DIMS, value)
    read = Stored(
        kind, code, tuple(map(fields.count, shape)), fields.count(blob), fields.above_0(scale), fields.number(error)
    )
    fields.require(read.count < ROOM and read.error >= 0 and (kind in tuple(REAL) or not read.error), value)
    return read


class Blobs:
    """Bytes of arrays, each once and compressed, in the order in which they came."""

    def __init__(self):
        self.parts: list[bytes] = []
        self.sizes: list[int] = []
        self._known: dict[bytes, int] = {}

    @property
    def nbytes(self) -> int:
        """Of all of them, compressed."""
        return sum(map(len, self.parts))

    def add(self, array: np.ndarray, bits: int = 32, error: float = 0.0, *, kind: str | None = None) -> Stored:
        """Store an array.

        Args:
            bits: 32 for every number as it is, 16 or 8. error: what its numbers were rounded by before.
            kind: "bfloat16" of bits in uint16; else what the array says.

        Raises:
            InputError: neither numbers nor texts.
        """
        kind = kind or ("text" if array.dtype.kind == "U" else str(array.dtype))
        if kind not in KINDS:
            expected = f"one of {', '.join(KINDS)}"
            raise InputError("an array of this kind cannot be packed", got=kind, expected=expected)
        scale = None
        if kind == "text":
            code, raw = "text", json.dumps(array.ravel().tolist()).encode()
        elif kind in WHOLE:
            code, raw = "whole", _ranked(_differences(array))
        elif BITS[bits] == "exact" or (bits == 16 and kind in ("float16", "bfloat16")):
            code, raw = "exact", _ranked(array)
        else:
            code, numbers = BITS[bits], floats(array, kind)
            scale = _scale(numbers) if code == "half" else None
            raw = _halves(numbers, scale) if code == "half" else _bytes(numbers, kind)
        stored = Stored(kind, code, array.shape, self._put(raw), scale or 1.0)
        if code in ("half", "byte"):
            there, back = floats(array, kind), floats(decoded(stored, raw), kind)
            fine = np.isfinite(there)
            error += float(np.abs(back[fine] - there[fine]).max(initial=0))
        return dataclasses.replace(stored, error=error)

    def _put(self, raw):
        key = hashlib.sha256(raw).digest()
        if key not in self._known:
            self._known[key] = len(self.parts)
            self.parts.append(zlib.compress(raw, LEVEL))
            self.sizes.append(len(raw))
        return self._known[key]


def inflated(data: bytes, size: int, what: str) -> bytes:
    """The bytes that were compressed, `size` of them and no more.

    Raises:
        InputError: others, or fewer, or more.
    """
    machine = zlib.decompressobj()
    try:
        raw = machine.decompress(data, size + 1) if size <= EXPANDS * len(data) else b""
    except zlib.error:
        raw = b""
    if len(raw) != size or not machine.eof or machine.unused_data:
        raise InputError(f"{what} contradicts itself", got=f"{len(data)} bytes", expected=f"{size} bytes, compressed")
    return raw


def decoded(stored: Stored, raw: bytes) -> np.ndarray:
    """The array; bits of bfloat16 stay in uint16.

    Raises:
        fields.Odd: bytes that are not this array's.
    """
    fields.require(stored.packed in (None, len(raw)), f"{len(raw)} bytes")
    if stored.code == "text":
        return _texts(raw, stored)
    kind = (REAL | WHOLE)[stored.kind]
    with np.errstate(all="ignore"):
        if stored.code == "whole":
            numbers = np.cumsum(_unranked(raw, np.dtype(np.int64)))
            least, most = (0, 1) if stored.kind == "bool" else (np.iinfo(kind).min, np.iinfo(kind).max)
            fields.require(not len(numbers) or (numbers.min() >= least and numbers.max() <= most), stored.kind)
        elif stored.code == "exact":
            return _unranked(raw, np.dtype(kind)).reshape(stored.shape)
        elif stored.code == "half":
            numbers = _unranked(raw, np.dtype(np.float16)).astype(np.float64) / stored.scale
        else:
            numbers = _of_bytes(raw, stored)
        if stored.kind == "bfloat16":
            return bfloat16(numbers).reshape(stored.shape)
        return numbers.astype(kind).reshape(stored.shape)


def floats(array: np.ndarray, kind: str) -> np.ndarray:
    """Real numbers as float64."""
    if kind == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def bfloat16(numbers: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16, in uint16."""
    import torch

    return torch.from_numpy(numbers.astype(np.float32)).bfloat16().view(torch.uint16).numpy()


def _ranked(array):
    """Bytes of an array, all first ones of its numbers, then all second ones, and so on."""
    return np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8).T.tobytes()


def _unranked(raw, kind):
    return np.frombuffer(raw, np.uint8).reshape(kind.itemsize, -1).T.copy().view(kind).ravel()


def _differences(array):
    flat = array.ravel().astype(np.int64)
    return np.diff(flat, prepend=np.int64(0))


def _scale(numbers):
    """s of half: a power of two, so that scaling rounds nothing."""
    largest = float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0))
    return 2.0 ** min(15 - math.frexp(largest)[1], 900) if largest else 1.0


def _halves(numbers, scale):
    return _ranked((numbers * scale).astype(np.float16))


def _edge(kind):
    """Numbers of the least and the largest of a block."""
    return np.dtype(np.float64 if kind == "float64" else np.float32)


def _bytes(numbers, kind):
    """Least and largest of each block, then the codes."""
    flat = numbers.ravel()
    blocks = -(-len(flat) // BLOCK)
    rows = np.full((blocks, BLOCK), np.nan)
    rows.ravel()[: len(flat)] = flat
    fine = np.isfinite(rows)
    low = np.where(fine, rows, np.inf).min(1, initial=np.inf)
    high = np.where(fine, rows, -np.inf).max(1, initial=-np.inf)
    low, high = (np.where(np.isfinite(edge), edge, 0).astype(_edge(kind)) for edge in (low, high))
    width = (high.astype(np.float64) - low)[:, None]
    with np.errstate(all="ignore"):
        steps = np.where(width > 0, (rows - low[:, None].astype(np.float64)) / width * STEPS, 0)
    codes = np.select([fine, rows == -np.inf, rows == np.inf], [np.rint(steps), STEPS + 1, STEPS + 2], STEPS + 3)
    return low.tobytes() + high.tobytes() + codes.astype(np.uint8).ravel()[: len(flat)].tobytes()


def _of_bytes(raw, stored):
    kind, blocks = _edge(stored.kind), -(-stored.count // BLOCK)
    low, high = np.frombuffer(raw, kind, 2 * blocks).astype(np.float64).reshape(2, blocks)
    codes = np.frombuffer(raw, np.uint8, offset=2 * blocks * kind.itemsize)
    block = np.arange(stored.count) // BLOCK
    numbers = low[block] + codes / STEPS * (high - low)[block]
    for code, value in ((1, -np.inf), (2, np.inf), (3, np.nan)):
        numbers[codes == STEPS + code] = value
    return numbers


def _texts(raw, stored):
    """Texts of a bounded size that can be shown: numpy gives each of them the room of the longest."""
    words = folders.parsed(raw)
    fields.require(isinstance(words, list) and len(words) == stored.count, f"not {stored.count} texts")
    for word in words:
        fields.require(speakable(fields.text(word)), ascii(word))
    longest = max(map(len, words), default=1)
    fields.require(4 * longest * len(words) <= 4 * len(raw) + TEXTS, f"{len(words)} texts of up to {longest} signs")
    return np.array(words, dtype=f"<U{max(longest, 1)}").reshape(stored.shape)


def speakable(word):
    """Whether a text can be written as UTF-8, which half a pair of surrogates cannot."""
    return not any(0xD800 <= ord(sign) < 0xE000 for sign in word)
