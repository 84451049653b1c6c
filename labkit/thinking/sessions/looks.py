"""What a file is that is no session: archives, tables, databases, pages, and what to do with each."""

import csv
import pathlib
import re

from labkit.errors import InputError

EXPECTED = "a JSON or JSONL file"
HEAD = 65_536  # bytes that are looked at
UNPACK = "unpack it, and give the file that was in it"
CURSOR = "sqlite3 -json state.vscdb 'select key, cast(value as text) as value from cursorDiskKV'"
ROWS = "write each of its rows as a JSON object on a line of its own"
MAGIC = (  # where, what stands there, what that is, what to do
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", UNPACK),
    (0, b"\x1f\x8b", "packed by gzip", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "packed by zstd", UNPACK),
    (0, b"BZh", "packed by bzip2", UNPACK),
    (0, b"\xfd7zXZ\x00", "packed by xz", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-zip archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"PAR1", "a Parquet table", ROWS),
    (0, b"ARROW1", "an Arrow table", ROWS),
    (
        0,
        b"SQLite format 3\x00",
        "an SQLite database",
        f"export the table that holds the messages, as of Cursor by {CURSOR}",
    ),
    (0, b"%PDF", "a PDF", "look for the program's own export, or its log"),
    (0, b"\x80\x04\x95", "a pickle of Python", "load it where it was made and " + ROWS),
)
KEY = re.compile(r"(- )?[\w.-]+:( .*)?")


def refuse(path: pathlib.Path) -> None:
    """Do nothing, if a file may be a session.

    Raises:
        InputError: it is an archive, a table, a database, a page or empty; it says what and what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError("a session that cannot be read", got=f"{path.name}: {error.strerror or error}") from None
    for at, sign, what, hint in MAGIC:
        if head.startswith(sign, at):
            raise InputError("no session", got=f"{path.name}: {what}", expected=EXPECTED, hint=hint)
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        whole = path.stat().st_size <= HEAD
        if whole:
            raise InputError("no session", got=f"{path.name}: an empty file", expected=EXPECTED)


def text(path: pathlib.Path) -> str:
    """What a text without a row of JSON is."""
    with path.open("rb") as file:
        head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    lines = [line for line in head.splitlines() if line.strip()]
    if re.match("<!doctype html|<html", head, re.IGNORECASE):
        return "a page (HTML), which holds what was shown and not what was sent"
    if head.startswith("<"):
        return "XML"
    if head.startswith(("{", "[")):
        return "JSON that does not end, or is damaged"
    if head.startswith("---") or (len(lines) > 1 and all(KEY.match(line.strip()) for line in lines[:3])):
        return "YAML; write it as JSON"
    if any(_columns(lines[:20], mark) for mark in ",;\t"):
        return f"a table (CSV); {ROWS}"
    return "plain text; a session is rows or a document of JSON"


def _columns(lines, mark):
    """Whether lines have the same number of columns, more than one."""
    try:
        counts = {len(row) for row in csv.reader(lines, delimiter=mark)}
    except csv.Error:
        return False
    return len(lines) > 1 and len(counts) == 1 and counts.pop() > 1
