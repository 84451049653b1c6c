"""From a file to a session: its format is found out, its reader gathers the calls, and what came out is looked at once.

Nothing is dropped in silence: what a reader cannot place is a problem with its line, what is no part of a request is
counted with its reason, and a session that came out empty though the file holds words or thinking is an error.
"""

import importlib
import itertools
import json
import mmap
import os
import pathlib
import pkgutil
import re

from labkit.errors import InputError
from labkit.thinking.sessions import formats, looks
from labkit.thinking.sessions.format import Format, nearest, recognised
from labkit.thinking.sessions.gathering import THOUGHT, Gathered
from labkit.thinking.sessions.record import Session
from labkit.thinking.sessions.rows import Problems, rows

LOOK, HEAD = 1000, 2**18  # rows by which a format is found out; bytes by which a log in text is
PLACES, WORDS = 100, 60  # places where thinking may stand that are looked at; bytes of each
END = re.compile(rb'(?<!\\)(?:\\\\)*"')
SAID = re.compile(rb'"(?:content|text|value|message)"\s*:\s*"[^"]')


def known() -> dict[str, Format]:
    """The formats by name: one module in `formats` each."""
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    found = [importlib.import_module(f"{formats.__name__}.{name}").FORMAT for name in names]
    return {format.name: format for format in found}


FORMATS = known()


def read_session(path: str | pathlib.Path, *, format: str | None = None) -> Session:
    """Read a recorded session.

    Args:
        path: a JSON or JSONL file. format: one of `FORMATS`; None finds it out.

    Returns:
        `Session`.

    Raises:
        InputError: no such file, an archive or a table, an unknown format, nothing in it that could be read, or a
            session without words or thinking of a file that holds them.
    """
    if not isinstance(path, str | os.PathLike) or not pathlib.Path(path).is_file():
        raise InputError("no such session", got=str(path), expected="a JSON or JSONL file")
    path, problems = pathlib.Path(path), Problems()
    looks.refuse(path)
    found = rows(path, problems)
    first = list(itertools.islice(found, LOOK))
    chosen = _format(path, format, first, problems)
    gathered = Gathered(problems, path)
    chosen.read(itertools.chain(_given_away(first), found), gathered)
    if not gathered.calls:
        got = path.name + _first(problems, gathered)
        raise InputError("no call of a model in this session", got=got, expected=chosen.says)
    calls = sorted(gathered.calls, key=lambda call: call.time) if _timed(gathered.calls) else gathered.calls
    session = Session(tuple(calls), chosen.name, problems.all(), gathered.left_out(), tuple(gathered.along))
    _not_empty(path, session, gathered)
    return session


def examples() -> dict[str, pathlib.Path]:
    """Small recorded sessions that come along, `{name: path}`, one each of OpenAI, Claude Code and pi."""
    home = pathlib.Path(__file__).parent.parent / "examples"
    return {path.stem: path for path in sorted(home.glob("*.jsonl"))}


def _format(path, name, first, problems):
    if name is not None:
        if not isinstance(name, str) or name not in FORMATS:
            raise InputError("a session of unknown format", got=str(name), expected=", ".join(FORMATS))
        return FORMATS[name]
    seen = [row for _, row in first]
    chosen = recognised(list(FORMATS.values()), seen) if any(seen) else None
    if chosen is None:
        _no_text_log(path)
        found = nearest(list(FORMATS.values()), seen) if seen else looks.text(path)
        got = f"{path.name}: {found}{_first(problems)}"
        raise InputError("a session of unknown format", got=got, expected=", ".join(FORMATS))
    return chosen


def _no_text_log(path):
    """Say which program wrote a log in text, and what it can write that is read."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    for format in FORMATS.values():
        if format.text is not None and (found := re.search(format.text[0], head)):
            got = f"{path.name}: {found[0].decode('utf-8', 'replace')[:60]}"
            raise InputError(f"a log of {format.name} in text, which is not read", got=got, expected=format.text[1])


def _timed(calls):
    """Whether every call says when it was made: then calls of several threads stand in that order."""
    return len({call.thread for call in calls}) > 1 and all(call.time is not None for call in calls)


def _not_empty(path, session, gathered):
    """Refuse a session that came out empty while the file is not."""
    messages = {id(one): one for call in session.calls for one in (*call.sent, *filter(None, [call.reply]))}.values()
    if not any(one.get("content") or one.get("tool_calls") for one in messages) and next(_found(path, SAID), None):
        raise InputError("no message of this session has words", got=path.name + _first(gathered.problems, gathered))
    thinks = any(one.get("reasoning_content") or "</think>" in str(one.get("content")) for one in messages)
    if thinks or gathered.unseen_thinking:
        return
    known = None
    for words in _found(path, THOUGHT):  # words of a tool, or of somebody who writes of thinking, are no thinking
        known = known or "\0".join(_texts([*messages, *(call.tools for call in session.calls)]))
        if words not in known and not words.startswith("</think>"):
            got = path.name + _first(gathered.problems, gathered)
            raise InputError("thinking stands in this file and in none of the messages that were read", got=got)


def _found(path, pattern):
    """The words that stand behind each place of a pattern, the first of them."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for found in itertools.islice(pattern.finditer(data), PLACES):
            words = END.split(data[found.end() : found.end() + WORDS], maxsplit=1)[0]
            while words:
                try:
                    yield json.loads(b'"' + words + b'"').strip()
                    break
                except ValueError:  # cut within a sign
                    words = words[:-1]


def _texts(value):
    """Every text in a value, each value of a kind once."""
    stack, seen = [value], set()
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list) and id(one) not in seen:
            seen.add(id(one))
            stack += one.values() if isinstance(one, dict) else one


def _given_away(first):
    """The rows that were looked at, each let go of as it is read."""
    while first:
        yield first.pop(0)


def _first(problems, gathered=None):
    """The first problem in words, if there is one, and what was left out."""
    told = problems.all()
    told = [one for one in told if one[0]] or told  # what is true of the whole file says less
    words = [f"line {told[0][0]}, {told[0][1]}"] if told else []
    words += [f"left out, {number}: {reason}" for number, reason in gathered.left_out()] if gathered else []
    return "".join(f": {'; '.join(words)}" for _ in words[:1])
