"""The header of a .gguf file, walked once with bounds before a library touches the file.

    magic "GGUF", version, number of tensors, number of settings        4 + 4 + 8 + 8 bytes
    setting: name, type, value                                          a string is a length of 8 bytes and its UTF-8
    tensor: name, number of dimensions, dimensions, type, offset        the fastest dimension first
    numbers, from the next multiple of `general.alignment`              every tensor begins at one

Numbers are little-endian. Every length and count is compared with the bytes that are left before it is followed.
"""

import dataclasses
import math
import mmap
import pathlib
import struct

from labkit.spec.documents import shown

VERSIONS = (2, 3)
FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
BOOL, STRING, ARRAY = 7, 8, 9
SETTINGS, TENSORS, ITEMS = 10_000, 1_000_000, 10_000_000  # at most so many
NAME, TEXT, DIMENSIONS, LARGEST = 256, 2**24, 4, 2**40  # bytes of a name and of a text; dimensions, and each of them
ALIGNMENT = "general.alignment"
PLAIN = {0: (1, 4), 1: (1, 2), 30: (1, 2)}  # float32, float16, bfloat16: numbers and bytes of a block


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor: its name, shape in torch's order, type by the format's number, first byte and bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        settings: `{name: number, bool or text}`; of an array of numbers the list, of one of texts how many.
        tensors: in their order in the file. start: first byte of their numbers. end: bytes that the file has at least.
    """

    settings: dict
    tensors: tuple[Entry, ...]
    start: int
    end: int


def read(path: pathlib.Path, blocks: dict[int, tuple[int, int]]) -> Header:
    """The header of a file.

    Args:
        blocks: `{type: (numbers, bytes)}` of a block, of the packed types that can be unpacked.

    Raises:
        OSError: cannot be read. ValueError: not this format, or a header that contradicts itself or the file.
    """
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise ValueError("too short for a header")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(_Cursor(data), blocks | PLAIN)


class _Cursor:
    """A place in the file; nothing is read beyond its end."""

    def __init__(self, data):
        self.data, self.at, self.size = data, 0, len(data)

    def need(self, count, what):
        if count > self.size - self.at:
            raise ValueError(f"{what} of {count:,} bytes, and {self.size - self.at:,} are left at byte {self.at:,}")

    def number(self, form, what):
        self.need(struct.calcsize(form), what)
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def count(self, form, most, what):
        if (value := self.number(form, what)) > most:
            raise ValueError(f"{value:,} {what}, more than {most:,}")
        return value

    def text(self, most, what):
        length = self.count("<Q", most, f"bytes of {what}")
        self.need(length, what)
        self.at += length
        try:
            return self.data[self.at - length : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{what} is no UTF-8 at byte {self.at - length:,}") from None


def _header(cursor, blocks):
    if cursor.data[:4] != b"GGUF":
        raise ValueError(f"begins with {cursor.data[:4]!r}, not with GGUF")
    cursor.at = 4
    if (version := cursor.number("<I", "version")) not in VERSIONS:
        raise ValueError(f"version {version}, expected {' or '.join(map(str, VERSIONS))}")
    count, settings = cursor.count("<Q", TENSORS, "tensors"), {}
    for _ in range(cursor.count("<Q", SETTINGS, "settings")):
        name = cursor.text(NAME, "a setting's name")
        if name in settings:
            raise ValueError(f"{shown(name)} stands twice")
        settings[name] = _value(cursor, cursor.number("<I", "a type"), name)
    alignment = settings.get(ALIGNMENT, 32)
    if type(alignment) is not int or not 8 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise ValueError(f"{ALIGNMENT} is {shown(alignment)}")
    entries = {}
    for _ in range(count):
        entry = _entry(cursor, blocks)
        if entries.setdefault(entry.name, entry) is not entry:
            raise ValueError(f"{shown(entry.name)} stands twice")
    start, end = -(-cursor.at // alignment) * alignment, 0
    for entry in sorted(entries.values(), key=lambda entry: entry.offset):
        if entry.offset != -(-end // alignment) * alignment:
            raise ValueError(f"{shown(entry.name)} begins at {entry.offset:,}, the numbers before it end at {end:,}")
        end = entry.offset + entry.bytes
    return Header(settings, tuple(entries.values()), start, start + end)


def _value(cursor, kind, name):
    if kind in FORMATS:
        return _bounded(cursor.number(FORMATS[kind], name), kind, name)
    if kind == STRING:
        return cursor.text(TEXT, shown(name))
    if kind != ARRAY:
        raise ValueError(f"{shown(name)} is of type {kind}, which does not exist")
    kind, items = cursor.number("<I", "a type"), cursor.count("<Q", ITEMS, f"items in {shown(name)}")
    if kind == STRING:
        for _ in range(items):
            length = cursor.number("<Q", "a text's length")
            cursor.need(length, f"a text in {shown(name)}")
            cursor.at += length
        return items
    if kind not in FORMATS:
        raise ValueError(f"{shown(name)} is an array of type {kind}, which is neither number nor text")
    width = struct.calcsize(FORMATS[kind])
    cursor.need(items * width, shown(name))
    values = struct.unpack_from(f"<{items}{FORMATS[kind][1]}", cursor.data, cursor.at)
    cursor.at += items * width
    return [_bounded(value, kind, name) for value in values]


def _bounded(value, kind, name):
    if kind == BOOL and value > 1:
        raise ValueError(f"{shown(name)} is {value}, neither true nor false")
    if not math.isfinite(value):
        raise ValueError(f"{shown(name)} is {value}")
    return bool(value) if kind == BOOL else value


def _entry(cursor, blocks):
    name = cursor.text(NAME, "a tensor's name")
    dimensions = cursor.count("<I", DIMENSIONS, f"dimensions of {shown(name)}")
    shape = tuple(cursor.count("<Q", LARGEST, f"in {shown(name)}") for _ in range(dimensions))[::-1]
    kind, offset = cursor.number("<I", "a type"), cursor.number("<Q", "an offset")
    if kind not in blocks:
        raise ValueError(f"{shown(name)} is of type {kind}, which is not read here")
    numbers, width = blocks[kind]
    if not shape or not all(shape) or shape[-1] % numbers:
        raise ValueError(f"{shown(name)} has the shape {list(shape)}, in blocks of {numbers}")
    return Entry(name, shape, kind, offset, math.prod(shape) // numbers * width)
