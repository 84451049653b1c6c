"""Folders in which results are kept: a kill, a full disk, a flipped bit or a second writer neither costs nor makes one.

A file is written beside its place, synced and moved there whole (`whole`). What was written is known by its SHA-256: of
tensors it stands in a book, a JSON object that carries its own (`signed`). One process writes a folder at a time
(`lock`), and whether there is room is tried before anything long begins (`check_room`).
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import reprlib
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator

from labkit.errors import CheckpointError, InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BOOK_LIMIT = 2**26  # bytes of JSON; a run of a million tokens takes a quarter of it
SPARE = 2**20  # bytes beyond what is counted: books, names, blocks of the file system
DRAFT = ".new"
SHOWN = 200  # characters
HELD: dict[str, tuple] = {}  # locks of this process: the thread, and the open file
BRIEF = reprlib.Repr()
BRIEF.maxstring = BRIEF.maxother = SHOWN
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def told(what: str, path: pathlib.Path) -> Iterator[None]:
    """Errors of the file system, and of safetensors, become a clear one.

    Raises:
        CheckpointError: `what`, with the path and the reason.
    """
    from safetensors import SafetensorError

    try:
        yield
    except CheckpointError:
        raise
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        reason = str(error) if number is None else os.strerror(number)
        hint = "make room, or give a folder on another disk" if number in FULL else "give another folder"
        raise CheckpointError(what, got=f"{path}: {reason}", hint=hint) from error


# ------------------------------------------------------------------------------------------------------- whole files


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A draft beside a file or folder, to write into; it takes the place when the block ends, and goes if it fails.

    Raises:
        OSError: what the file system says.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{DRAFT}")
    try:
        yield draft
        for file in [*draft.glob("*"), draft] if draft.is_dir() else [draft]:
            _sync(file)
        draft.replace(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path):
    """To the disk, so that a loss of power cannot keep a name and lose what it names."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_text(path: pathlib.Path, text: str) -> None:
    """The whole text or, after a kill, what was there before. Raises OSError."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_tensors(path: pathlib.Path, tensors: dict) -> str:
    """Write a safetensors file, whole; returns its digest. Raises OSError and SafetensorError."""
    from safetensors.torch import save_file

    with whole(path) as draft:
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, draft)
        return digest(draft)


def read_tensors(path: pathlib.Path, known: str) -> dict:
    """The tensors of a safetensors file whose digest is known.

    Raises:
        CheckpointError: it is missing, cannot be read, or its bytes are others than those that were written.
    """
    from safetensors.torch import load_file

    with told("a file of this folder cannot be read", path):
        if digest(path) != known:
            raise CheckpointError(
                "a file of this folder is damaged", got=f"{path}: other bytes than were written", expected=known[:12]
            )
        return load_file(path)


def remove_drafts(folder: pathlib.Path) -> None:
    """Remove what kills left half written; for whoever holds the folder's lock. Raises CheckpointError."""
    with told("this folder cannot be written", folder):
        for draft in folder.glob(f".*.{8 * '[0-9a-f]'}{DRAFT}"):
            draft.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------------- digests


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark(value: object) -> str:
    """SHA-256 of something that JSON can hold, in hexadecimal; the order of keys does not count."""
    try:
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return "nested too deeply"


def signed(facts: dict) -> str:
    """JSON text of facts, one to a line, and of their own digest as `sha256`."""
    return json.dumps(facts | {"sha256": mark(facts)}, indent=1)


def read_signed(path: pathlib.Path, form: int, what: str) -> dict:
    """The facts that `signed` wrote, whose `format` is `form`, with their digest taken out; `what` names the file.

    Raises:
        CheckpointError: it is missing, not a JSON object of a bounded size, or not what was written.
        InputError: of another format.
    """
    with told(f"{what} cannot be read", path), path.open("rb") as file:
        raw = file.read(BOOK_LIMIT + 1)
    facts = parsed(raw) if len(raw) <= BOOK_LIMIT else None
    if not isinstance(facts, dict):
        got = f"{path}: not a JSON object of at most {BOOK_LIMIT >> 20} MiB"
        raise CheckpointError(f"{what} is damaged", got=got)
    known = facts.pop("sha256", None)
    if known != mark(facts) and (known is not None or facts.get("format") == form):
        raise CheckpointError(f"{what} is damaged", got=f"{path}: other words than were written")
    if facts.get("format") != form:
        hint = "another version of labkit wrote it; make it again, in another folder"
        raise InputError(f"unknown format of {what}", got=brief(facts.get("format")), expected=form, hint=hint)
    return facts


def parsed(raw: bytes) -> object:
    """The value of JSON bytes; None where they are not JSON, or nested too deeply."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def brief(value: object) -> str:
    """A value of a file as a message may show it, however long or deep it is."""
    return value[:SHOWN] if isinstance(value, str) else BRIEF.repr(value)


# ---------------------------------------------------------------------------------------------------- room and locks


def check_room(folder: pathlib.Path, needed: int) -> None:
    """Try that a folder can be written and that there is room for so many bytes; makes the folder.

    Raises:
        CheckpointError: it cannot, with the reason; or there is not, with the bytes.
    """
    with told("this folder cannot be written", folder):
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".trial.{secrets.token_hex(4)}{DRAFT}"
        try:
            trial.write_bytes(bytes(512))
            _sync(trial)
        finally:
            trial.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        got, expected = (f"{count / 2**20:,.1f} MiB" for count in (free, needed + SPARE))
        hint = "make room, or give a folder on another disk"
        raise CheckpointError("no room on the disk", got=f"{folder}: {got} free", expected=expected, hint=hint)


@contextlib.contextmanager
def lock(path: pathlib.Path) -> Iterator[None]:
    """Hold a lock file, made with its folder, while the block lasts; it says who holds it.

    The system frees it when a process ends in whatever way. Where the file system knows no locks, the file is one by
    what it says, and that of a process of this host that is gone is taken over, as is what an interrupt left of an
    earlier call of the same thread. Where nothing can be written, nothing needs a lock.

    Raises:
        InputError: another process, or another call of this one, holds it.
    """
    file = _opened(path)
    if file is None:
        yield
        return
    key, me = str(path.resolve()), threading.get_ident()
    if key in HELD and (HELD[key][0] == me or HELD[key][0] not in {thread.ident for thread in threading.enumerate()}):
        HELD.pop(key)[1].close()
    with file:
        _take(file, path)
        HELD[key] = me, file
        try:
            yield
        finally:
            if HELD.get(key) == (me, file):
                del HELD[key]
                with contextlib.suppress(OSError):
                    file.truncate(0)


def _opened(path):
    """A lock file, open; None where its folder cannot be written."""
    with told("this folder cannot be written", path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        except OSError as error:
            if error.errno not in NO_WRITING:
                raise
    return None


def _take(file, path):
    """Lock a file by the system, or else by what it says, and say who has it."""
    holder = parsed(file.read(4096))
    holder = holder if isinstance(holder, dict) else {}
    try:
        if fcntl is None:
            raise OSError(errno.ENOLCK, "no locks")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EAGAIN or _lives(holder):
            pid, host = (holder.get(name, "unknown") for name in ("pid", "host"))
            raise InputError(
                "another process writes into this folder",
                got=f"process {pid} on {host} holds {path}",
                expected="one writer at a time",
                hint="wait for it, or give another folder; a process that is gone holds nothing",
            ) from None
    with told("this folder cannot be written", path):
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())


def _lives(holder):
    """Whether the process that wrote a lock may still run; of another host nobody here knows."""
    import psutil

    pid = holder.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31:
        return False
    return holder.get("host") != socket.gethostname() or psutil.pid_exists(pid)
