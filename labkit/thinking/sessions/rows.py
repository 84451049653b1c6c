"""JSON and JSONL from elsewhere, read line by line within bounds.

A line is parsed alone, so that what is held at once is the line, not the file. What Python's `json` lets through and
JSON does not have is refused: NaN, a key twice, numbers without end; halves of surrogate pairs, which no tokenizer can
read, become U+FFFD and are reported.
"""

import codecs
import itertools
import json
import pathlib
import re
from collections.abc import Iterator

from labkit.bounded import decoder, deep
from labkit.errors import InputError
from labkit.thinking.messages import DEPTH, DIGITS

LARGEST = 2**29  # bytes of a file
TOLD, MOST = 1000, 100_000  # problems that are told one by one; problems after which a file is given up
HALF = re.compile("[\ud800-\udfff]")
ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")
RARE = 256  # signs of four bytes in so many bytes, or fewer, are escaped: one alone widens every sign of a text to four
LOGGED = re.compile(  # what SGLang and llama-server write before an object in their logs
    rb"\s*(?:\[\d{4}-\d\d-\d\d[^\]\n]{0,80}\]\s+(?=\{\")|"
    rb"[^{\n]{0,120}\blog_server_r\w*: +(?:request|response): +(?=\{\"))"
)
OF_FOUR = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")


class Unreadable(Exception):
    """A line, or a part of one, that is kept out; its text is the reason."""


class Blank(Exception):
    """A line without a value."""


class Problems:
    """(line, reason) of what was kept out: the first `TOLD`, and how many more."""

    def __init__(self):
        self.told, self.more = [], 0

    def append(self, problem: tuple[int, str]) -> None:
        """Add one.

        Raises:
            InputError: there are more than `MOST`.
        """
        if len(self.told) < TOLD:
            self.told.append(problem)
            return
        self.more += 1
        if self.more + TOLD > MOST:
            line, reason = self.told[0]
            got = f"more than {MOST:,} problems, the first in line {line}: {reason}"
            raise InputError("hardly a line of this session can be read", got=got)

    def count(self) -> int:
        """How many there are."""
        return len(self.told) + self.more

    def emptied(self) -> int:
        """How many there are, from now on none."""
        count, self.told, self.more = self.count(), [], 0
        return count

    def all(self) -> tuple[tuple[int, str], ...]:
        """Those that are told, by line; line 0 is the file as a whole."""
        more = [(0, f"{self.more:,} more problems than the {TOLD:,} that are told")] if self.more else []
        return (*more, *sorted(self.told))


class Log:
    """Lines of a log in which a program writes other lines too: these are one problem."""

    def __init__(self, problems: Problems):
        self.problems, self.known, self.others = problems, False, 0

    def without_prefix(self, line: bytes) -> bytes:
        """A line without what a logger put before its object."""
        if not (found := LOGGED.match(line)):
            return line
        if not self.known:
            self.known, self.others = True, self.problems.emptied()
        return line[found.end() :]

    def unreadable(self, number: int, reason: str) -> None:
        """A line without an object."""
        if self.known:
            self.others += 1
        else:
            self.problems.append((number, reason))

    def close(self) -> None:
        """Tell how many lines held nothing."""
        if self.others:
            self.problems.append((0, f"other lines of a log, without a request or a response: {self.others:,}"))


def rows(path: pathlib.Path, problems: Problems) -> Iterator[tuple[int, dict | list]]:
    """(line, object) of a file, where a whole JSON document is one at line 1.

    Raises:
        InputError: the file cannot be read, is too large or is no UTF-8 text.
    """
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise InputError("a session too large", got=f"{size:,} bytes", expected=f"up to {LARGEST:,}")
        with path.open("rb") as file:
            start = file.read(4)
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
                raise InputError("a session is UTF-8 text", got=f"{path.name}: UTF-16, UTF-32 or no text")
            file.seek(3 if start.startswith(codecs.BOM_UTF8) else 0)
            yield from _read(file, problems)
    except OSError as error:
        raise InputError("a session that cannot be read", got=f"{path.name}: {error.strerror or error}") from None


def parsed(line: bytes) -> tuple[object, bool]:
    """(value, whether halves of surrogate pairs were replaced) of one JSON value in UTF-8.

    Raises:
        Unreadable: it is none. Blank: nothing stands there.
    """
    if line.isspace():
        raise Blank
    try:
        halves = ESCAPED.search(line)
        if 0 < line.count(b"\xf0") < len(line) / RARE:
            line = OF_FOUR.sub(lambda found: json.dumps(found[0].decode())[1:-1].encode(), line)
        line = line.decode()
        value = DECODER.decode(line)
        if type(value) in (dict, list) and deep(value, DEPTH):
            raise Unreadable(f"nested too deeply, more than {DEPTH} levels")
        mended = _mended(value) if halves else value
        return mended, bool(halves) and mended != value
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise Unreadable(f"not JSON ({error.msg} at {place})") from None
    except RecursionError:
        raise Unreadable(f"nested too deeply, more than {DEPTH} levels") from None


def _read(file, problems):
    begin, lines, first, none, log = file.tell(), iter(file), True, None, Log(problems)
    for number in itertools.count(1):
        try:  # nothing but `parsed` holds a line, which may be large
            row, halved = parsed(log.without_prefix(next(lines)))
        except StopIteration:
            break
        except Blank:
            continue
        except Unreadable as reason:
            if first:
                document, none = _document(file, begin)
                if document:
                    yield from _row(1, *document, first, problems)
                    return
            log.unreadable(number, str(reason))
        else:
            none = None
            yield from _row(number, row, halved, first, problems)
        first = False
    log.close()
    if none:
        problems.append((0, f"as one document: {none}"))


def _document(file, begin):
    """((value, halved), None) of a document of many lines; (None, the reason) if it is none."""
    after = file.tell()
    file.seek(begin)
    try:
        return parsed(file.read()), None
    except Unreadable as reason:
        file.seek(after)
        return None, str(reason)


def _row(number, row, halved, first, problems):
    if halved:
        problems.append((number, "halves of surrogate pairs, read as U+FFFD"))
    if isinstance(row, dict) or (isinstance(row, list) and first):
        yield number, row
    else:
        problems.append((number, f"a {type(row).__name__} where an object is needed"))


def _mended(value):
    """The value, halves of surrogate pairs replaced."""
    if isinstance(value, str):
        return HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return value


DECODER = decoder(DIGITS, Unreadable)
