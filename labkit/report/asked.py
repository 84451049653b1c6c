"""What `labkit report` is asked: a prompt from a file or a recorded session, a model, a folder."""

import argparse
import pathlib
import sys

from labkit import thinking, zoo
from labkit.errors import InputError
from labkit.report.making import PAGE, make
from labkit.terminal import INTERRUPTED
from labkit.thinking import Session

LIMIT = 64 * 2**20  # bytes of a text
KINDS = (".json", ".jsonl")


def run(options: argparse.Namespace, tell=print) -> int:
    """Make a report; returns the exit status, 1 where a section failed.

    Args:
        options: as the command line has them. tell: takes the lines that are said.

    Raises:
        LabError: as `thinking.read_session`, `labkit.load` and `report.make`.
    """
    text, session = prompt(options.prompt)
    lab = zoo.load(options.model, dtype=options.dtype, device=options.device, quantize=options.quantize)
    asked = dict(out=options.out, session=session, sections=options.section, fresh=options.fresh)
    try:
        made = make(lab, text, progress=sys.stderr.isatty(), **asked)
    except KeyboardInterrupt:
        page = pathlib.Path(options.out) / PAGE
        tell(f"interrupted: finished sections are in {page}; the same command goes on from there")
        return INTERRUPTED
    tell(made)
    return int(bool(made.failed))


def prompt(name: str) -> tuple[str, Session | None]:
    """A prompt and the session that it is of: a text file, "-" for stdin, a recorded session, or an example's name.

    Raises:
        InputError: no such file, no text in UTF-8, or one that is too long; of a session as `thinking.read_session`.
    """
    path = pathlib.Path(thinking.examples().get(name, name))
    if name != "-" and path.suffix.lower() in KINDS:
        session = thinking.read_session(path)
        call = session.calls[-1]
        more = {} if call.enable_thinking is None else {"enable_thinking": call.enable_thinking}
        return thinking.render(list(call.sent), tools=call.tools, **more), session
    try:
        raw = sys.stdin.buffer.read(LIMIT + 1) if name == "-" else _read(path)
    except OSError as error:
        got = f"{name}: {error.strerror}"
        raise InputError("a prompt that cannot be read", got=got, expected="a file of text in UTF-8") from None
    if len(raw) > LIMIT:
        raise InputError("a prompt that is too long", got=f"more than {LIMIT >> 20} MiB", expected="a shorter file")
    try:
        return raw.decode("utf-8-sig").removesuffix("\n"), None  # without the sign and the end that editors add
    except UnicodeDecodeError:
        raise InputError("a prompt that cannot be read", got=f"{name}: not UTF-8", expected="a text in UTF-8") from None


def _read(path):
    with path.open("rb") as file:
        return file.read(LIMIT + 1)
