"""Recorded sessions of other programs as OpenAI messages with `reasoning_content`.

    openai       JSON or JSONL: messages, or requests and responses of a chat-completions log (vLLM, OpenAI)
    claude-code  JSONL of Claude Code: one content block per line, blocks of one message id belong together
    pi           JSONL of the pi coding agent
    atif         Agent Trajectory Interchange Format, JSON
    sharegpt     {"conversations": [{"from": ..., "value": ...}]}

A line, or a part of one, that cannot be read is kept out and reported with its number and the reason; the rest is read.
Nothing is dropped in silence. Tool arguments that are JSON in a string are parsed, since the template needs a mapping.
"""

import dataclasses
import itertools
import os
import pathlib

from labkit.errors import InputError
from labkit.thinking.readers import FORMATS, READERS
from labkit.thinking.rows import Problems, rows

LOOK = 1000  # rows by which a format is found out


@dataclasses.dataclass(frozen=True)
class Session:
    """A recorded session.

    Attributes:
        messages: OpenAI messages. tools: JSON schemas, or None.
        format: one of `FORMATS`.
        problems: (line, reason) of everything that was kept out or read otherwise; line 0 is the file as a whole.
    """

    messages: list
    tools: list | None
    format: str
    problems: tuple

    def __str__(self):
        calls = sum(message["role"] == "assistant" for message in self.messages)
        summary = f"{len(self.messages)} messages, {calls} calls ({self.format})"
        lines = [f"  line {line}: {reason}" for line, reason in self.problems[:5]]
        more = [f"  and {len(self.problems) - 5} more"] if len(self.problems) > 5 else []
        return "\n".join([summary + (f", {len(self.problems)} problems" if self.problems else ""), *lines, *more])


def read_session(path: str | pathlib.Path, *, format: str | None = None) -> Session:
    """Read a recorded session.

    Args:
        path: a JSON or JSONL file. format: one of `FORMATS`; None finds it out.

    Returns:
        `Session`.

    Raises:
        InputError: no such file, an unknown format, nothing in it that could be read.
    """
    if not isinstance(path, str | os.PathLike) or not pathlib.Path(path).is_file():
        raise InputError("no such session", got=str(path), expected="a JSON or JSONL file")
    path, problems = pathlib.Path(path), Problems()
    found = rows(path, problems)
    first = list(itertools.islice(found, LOOK))
    chosen = format or _sniffed(first)
    if chosen not in FORMATS:
        got = str(format or path.name) + ("" if format else _first(problems))
        raise InputError("a session of unknown format", got=got, expected=", ".join(FORMATS))
    messages, tools = READERS[chosen](itertools.chain(_given_away(first), found), problems)
    if not messages:
        got = path.name + _first(problems)
        raise InputError("nothing in this session could be read", got=got, expected=chosen)
    return Session(messages, tools, chosen, problems.all())


def examples() -> dict[str, pathlib.Path]:
    """Small recorded sessions that come along, `{name: path}`, one each of OpenAI, Claude Code and pi."""
    return {path.stem: path for path in sorted((pathlib.Path(__file__).parent / "examples").glob("*.jsonl"))}


def _given_away(first):
    """The rows that were looked at, each let go of as it is read."""
    while first:
        yield first.pop(0)


def _first(problems):
    """The first problem in words, if there is one."""
    told = problems.all()
    return f": line {told[0][0]}, {told[0][1]}" if told else ""


def _sniffed(rows):
    for _, row in rows:
        if isinstance(row, list):
            return "openai"
        if "conversations" in row:
            return "sharegpt"
        if "steps" in row or str(row.get("schema_version", "")).startswith("ATIF"):
            return "atif"
        if "messages" in row or "request" in row or "role" in row:
            return "openai"
        if row.get("type") in ("message", "session", "model_change", "thinking_level_change"):
            return "pi"
        if row.get("type") in ("user", "assistant", "summary", "file-history-snapshot") and "sessionId" in row:
            return "claude-code"
        if row.get("type") in ("user", "assistant") and "message" in row:
            return "claude-code"
    return None
