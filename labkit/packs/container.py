"""The one file of a pack: a line that names format and writer, a book, and the bytes of all arrays.

    labkit pack 1, labkit 0.3.0⏎     at most 64 bytes of ASCII
    book, payload                    two lengths of 8 bytes, little-endian
    book                             JSON, compressed; carries its own digest and that of the payload
    payload                          arrays, each compressed; the book knows their lengths

Nothing is made room for before its size is known to be bounded: by the file's own length, by `BOOK` and by the budget
of the process.
"""

import hashlib
import json
import pathlib
import re
import struct
import sys
import zlib
from collections.abc import Sequence

from labkit import folders
from labkit.errors import DISTRIBUTION, CheckpointError, InputError
from labkit.packs.codec import EXPANDS, Blobs, inflated
from labkit.trace import fields

FORMAT, WHAT = 1, "a pack"
VERSION = sys.modules["labkit"].__version__  # of the package that this module lies in: an import would point upwards
LINE, LENGTHS = 64, struct.Struct("<QQ")
FIRST = re.compile(rb"labkit pack (\d{1,9}), labkit ([0-9A-Za-z.+-]{1,30})\n")
BOOK = 2**24  # bytes of JSON
COUNT = 2**20  # arrays
AGAIN = "pack the run again with this labkit, or open the pack with the one that wrote it"


def made(facts: dict, blobs: Blobs) -> bytes:
    """A whole file of these facts and arrays."""
    payload = b"".join(blobs.parts)
    lengths = [[len(part), size] for part, size in zip(blobs.parts, blobs.sizes, strict=True)]
    facts = facts | {"labkit": VERSION, "blobs": lengths, "payload": hashlib.sha256(payload).hexdigest()}
    raw = json.dumps(facts | {"sha256": folders.mark(facts)}).encode()
    if len(raw) > BOOK:
        raise InputError("too many readings for one pack", got=f"{len(raw):,} bytes of labels", expected=f"{BOOK:,}")
    book = zlib.compress(struct.pack("<I", len(raw)) + raw)
    first = f"labkit pack {FORMAT}, labkit {VERSION}\n".encode()
    return b"".join([first, LENGTHS.pack(len(book), len(payload)), book, payload])


def is_pack(path: pathlib.Path) -> bool:
    """Whether a file begins as a pack of any format does. Raises CheckpointError."""
    with folders.told("a pack cannot be read", path), path.open("rb") as file:
        return FIRST.match(file.read(LINE)) is not None


def read(path: pathlib.Path) -> tuple[dict, memoryview]:
    """(facts, payload) of a file; the facts are as they were written, not yet typed.

    Raises:
        InputError: no pack, or one of another format. CheckpointError: it is damaged, or cannot be read.
    """
    with folders.told("a pack cannot be read", path), path.open("rb") as file:
        first = FIRST.match(file.read(LINE))
        if first is None:
            raise InputError("no pack", got=str(path), expected="what lk.pack wrote")
        form, writer = int(first[1]), first[2].decode()
        if form != FORMAT:
            newer = f'pip install -U "{DISTRIBUTION}"'
            got, expected = f"format {form}, of labkit {writer}", f"format {FORMAT}, of labkit {VERSION}"
            hint = newer if form > FORMAT else AGAIN
            what = f"a pack of {'a newer' if form > FORMAT else 'an older'} format"
            raise InputError(what, got=got, expected=expected, hint=hint)
        file.seek(first.end())
        raw = file.read()
    damaged = lambda got: CheckpointError("a pack is damaged", got=f"{path}: {got}")  # noqa: E731
    if len(raw) < LENGTHS.size:
        raise damaged("cut off")
    length, rest = LENGTHS.unpack_from(raw)
    if length + rest != len(raw) - LENGTHS.size:
        raise damaged(f"{len(raw):,} bytes, expected {length + rest + LENGTHS.size:,}")
    raw = memoryview(raw)[LENGTHS.size :]
    facts = _book(raw[:length])
    if facts is None or facts.pop("sha256", None) != folders.mark(facts) or facts.get("labkit") != writer:
        raise damaged("other words than were written")
    if facts.get("payload") != hashlib.sha256(raw[length:]).hexdigest():
        raise damaged("other numbers than were written")
    return facts, raw[length:]


def _book(data):
    """The JSON object of a book; None where there is none of a bounded size."""
    try:
        machine = zlib.decompressobj()
        head = machine.decompress(data, 4)
        size = struct.unpack("<I", head)[0]
        raw = inflated(data, 4 + size, WHAT)[4:] if size <= BOOK else b""
    except (zlib.error, struct.error, InputError):
        return None
    facts = folders.parsed(raw)
    return facts if isinstance(facts, dict) else None


def pieces(value: object) -> list[tuple[int, int]]:
    """`[(stored, raw) length]` of all arrays. Raises fields.Odd."""
    fields.require(isinstance(value, list) and len(value) <= COUNT, value)
    fields.require(all(isinstance(each, list) and len(each) == 2 for each in value), value)
    read = [(fields.count(stored), fields.count(raw)) for stored, raw in value]
    for each in read:
        fields.require(each[1] <= EXPANDS * each[0], each)
    return read


def cut(payload: memoryview, lengths: Sequence[tuple[int, int]]) -> list[memoryview]:
    """The compressed bytes of each array.

    Raises:
        InputError: lengths that are not those of the payload.
    """
    if (total := sum(stored for stored, _ in lengths)) != len(payload):
        raise InputError("a pack contradicts itself", got=f"{len(payload):,} bytes", expected=f"{total:,}")
    ends, at = [], 0
    for stored, _ in lengths:
        ends.append(payload[at : at + stored])
        at += stored
    return ends
