"""Attacks on folders that results are kept in: kills, full disks, damaged and foreign bytes, of streams and answers.

Right is the identical result of a call that nothing happened to.
"""

import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

import tiny

from labkit import folders, stream
from labkit.deltanet import gates
from labkit.errors import LabError
from labkit.rotary import Scaling
from labkit.yarn.answers import Answers
from tests.attacks import Outcome, attack, tried

IDS, CHUNK = tiny.ids(36), 8
PLACES = tuple(str(pathlib.Path(folders.__file__).parent / part) for part in ("stream", "folders.py"))


class Kill(BaseException):
    """Ends a call as no handler of the lab expects."""


def made(lab, folder=None) -> "xarray.Dataset":  # noqa: F821
    """The stream that all attacks run: five checkpoints, rows of two probes."""
    probes = [gates(block=8), stream.capture("resid_post", tokens=[3, 11, 35], layers=[0, 2])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lab.stream(IDS, probes=probes, chunk=CHUNK, checkpoint=folder, every=1)


@contextlib.contextmanager
def at_line(number: int, act: Callable, places: tuple[str, ...]) -> Iterator[list[int]]:
    """Call `act` when so many lines of these files have run; yields the count, in a list."""
    seen = [0]

    def line(frame, event, argument):
        if event == "line":
            seen[0] += 1
            if seen[0] == number:
                sys.settrace(None)
                act()
        return line

    def call(frame, event, argument):
        return line if frame.f_code.co_filename.startswith(places) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield seen
    finally:
        sys.settrace(before)


def raiser(error: BaseException) -> Callable:
    """A function that raises it."""

    def act():
        raise error

    return act


def forked(call: Callable) -> int:
    """Run `call` in a child; returns the signal that ended it, or 0."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            call()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@attack("stream: stopped at any line", short=4, long=300)
def stopped(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """Interrupted, ended by an unknown exception, or killed, at a line of the stream or of its folder; then again."""
    lab = tiny.make_lab(tiny.model())
    whole = made(lab)
    with at_line(0, print, PLACES) as lines:
        made(lab, folder / "whole")
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / str(i)
        number, how = draw.randrange(1, lines[0] + 1), draw.choice(["interrupt", "exception", "kill"])
        if how == "kill":

            def killed(number=number, place=place):
                with at_line(number, lambda: os.kill(os.getpid(), signal.SIGKILL), PLACES):
                    made(lab, place)

            forked(killed)
        else:
            error = KeyboardInterrupt() if how == "interrupt" else Kill()
            with contextlib.suppress(KeyboardInterrupt, Kill), at_line(number, raiser(error), PLACES):
                made(lab, place)
        yield tried(lambda: made(lab, place), whole.identical, f"{how} at line {number} of {lines[0]}", clear=())  # noqa: B023
        shutil.rmtree(place, ignore_errors=True)


@attack("stream: a disk that fills up", short=4, long=200)
def full(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """No room at the n-th sync; the error hands over what is finished, and the folder goes on."""
    lab, real = tiny.make_lab(tiny.model()), os.fsync
    whole = made(lab)
    for i in range(tries):
        draw, place, left = random.Random(seed + i), folder / str(i), [0]
        left[0] = limit = draw.randrange(1, 40)

        def fsync(file, left=left):
            left[0] -= 1
            if left[0] <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(file)

        def run(place=place, fsync=fsync):
            os.fsync = fsync
            try:
                made(lab, place)
            except stream.Unwritten as error:
                finished = error.dataset
                return all(finished[name].equals(whole[name].reindex_like(finished)) for name in ("keep", "write"))
            except LabError as error:
                return "this folder cannot be written" in str(error) and limit < 3  # noqa: B023
            finally:
                os.fsync = real
            return False

        yield tried(run, bool, f"full at sync {limit}")
        yield tried(lambda: made(lab, place), whole.identical, f"after a disk full at sync {limit}", clear=())  # noqa: B023
        shutil.rmtree(place, ignore_errors=True)


def damaged(path: pathlib.Path, draw: random.Random) -> str:
    """Damage a file; returns how."""
    raw = bytearray(path.read_bytes())
    at, how = draw.randrange(len(raw)), draw.choice(["flip", "flip", "flip", "cut", "gone", "zeros", "longer", "twice"])
    if how == "flip":
        raw[at] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del raw[at:]
    elif how == "zeros":
        raw[at : at + 512] = bytes(len(raw[at : at + 512]))
    elif how == "longer":
        raw += bytes(draw.randrange(256) for _ in range(9))
    elif how == "twice":
        raw[at:at] = raw[at : at + 40]
    path.write_bytes(raw)
    if how == "gone":
        path.unlink()
    return f"{path.name}: {how} at {at}"


@attack("stream: damaged files", short=20, long=1000)
def damage(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """A bit, a cut, zeros, a file gone or in another's place: of one or two files of a checkpoint folder."""
    lab = tiny.make_lab(tiny.model())
    whole = made(lab, folder / "whole")
    files = sorted(path.name for path in (folder / "whole").iterdir() if path.stat().st_size)
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / str(i)
        shutil.copytree(folder / "whole", place)
        if draw.random() < 0.1:
            one, other = draw.sample(files, 2)
            (place / one).rename(place / "third")
            (place / other).rename(place / one)
            (place / "third").rename(place / other)
            what = f"{one} and {other} exchanged"
        else:
            what = "; ".join(damaged(place / name, draw) for name in draw.sample(files, draw.choice([1, 1, 2])))
        yield tried(lambda: made(lab, place), whole.identical, what)  # noqa: B023
        shutil.rmtree(place)


def changed(value: object, draw: random.Random, path: str = "") -> tuple[object, str]:
    """JSON with one value in it changed, and a word on where and how."""
    if isinstance(value, dict | list) and value and draw.random() < 0.9:
        key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = dict(value) if isinstance(value, dict) else list(value)
        if draw.random() < 0.12:
            del copy[key]
            return copy, f"{path}/{key} gone"
        copy[key], how = changed(value[key], draw, f"{path}/{key}")
        return copy, how
    odd = [
        None,
        True,
        -1,
        0,
        1,
        2**31,
        10**400,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../x",
        [],
        {},
        [[]],
        {"x": 1},
    ]
    if type(value) is int:
        odd += [value + 1, value - 1, 2 * value, -value, float(value), str(value), [value]]
    if isinstance(value, str):
        odd += [value[:-1], value + "0", value.upper(), "\ud800" + value, [value]]
    if isinstance(value, dict):
        odd += [value | {"x": 1}, list(value)]
    if isinstance(value, list):
        odd += [value[:-1], value + value, value[::-1], [value]]
    new = draw.choice(odd)
    return new, f"{path} {str(value)[:20]} -> {str(new)[:20]}"


@attack("stream: signed books that lie", short=20, long=1000)
def lies(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """One value of the book changed, and the book signed again."""
    lab = tiny.make_lab(tiny.model())
    whole = made(lab, folder / "whole")
    facts = json.loads((folder / "whole" / "stream.json").read_text())
    facts.pop("sha256")
    for i in range(tries):
        draw, place = random.Random(seed + i), folder / str(i)
        shutil.copytree(folder / "whole", place)
        lie, what = changed(facts, draw)
        text = folders.signed(lie) if isinstance(lie, dict) else json.dumps(lie)
        (place / "stream.json").write_text(text)
        yield tried(lambda: made(lab, place), whole.identical, what)  # noqa: B023
        shutil.rmtree(place)


@attack("answers: damaged lines", short=60, long=2000)
def answers(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """A file of 24 answers damaged once; nothing false is read, and at most the lines that were hit are lost."""
    lab = tiny.make_lab(tiny.model())
    draw = random.Random(seed)
    with Answers(folder / "whole", lab) as kept:
        for n in range(24):
            key = kept.key("needle", Scaling("yarn", 2.0), 64 + n, n / 23, n % 8)
            kept.write(key, draw.gauss(0, 3), n % 2 == 0)
    raw = (folder / "whole" / "answers.jsonl").read_bytes()
    for i in range(tries):
        draw, path = random.Random(seed + i), folder / str(i) / "answers.jsonl"
        path.parent.mkdir()
        path.write_bytes(raw)
        what = damaged(path, draw)
        now = path.read_bytes() if path.exists() else b""
        same = len(set(now.split(b"\n")[1:]) & set(raw.split(b"\n")[1:-1]))

        def read(place=path.parent):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Answers(place, lab) as read:
                    return dict(read.known)

        right = lambda known: known.items() <= kept.known.items() and len(known) >= same - 1  # noqa: B023, E731
        yield tried(read, right, what)
        shutil.rmtree(path.parent)
