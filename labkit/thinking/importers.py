"""Recorded sessions of other programs as OpenAI messages with `reasoning_content`.

    openai       JSON or JSONL: messages, or requests and responses of a chat-completions log (vLLM, OpenAI)
    claude-code  JSONL of Claude Code: one content block per line, blocks of one message id belong together
    pi           JSONL of the pi coding agent
    atif         Agent Trajectory Interchange Format, JSON
    sharegpt     {"conversations": [{"from": ..., "value": ...}]}

A line that cannot be read is kept out and reported with its number and the reason; nothing is dropped in silence. Tool
arguments that are JSON in a string are parsed, since the template needs a mapping.
"""

import dataclasses
import json
import pathlib

from labkit.errors import InputError
from labkit.thinking.readers import FORMATS, READERS, as_call


@dataclasses.dataclass(frozen=True)
class Session:
    """A recorded session.

    Attributes:
        messages: OpenAI messages. tools: JSON schemas, or None.
        format: one of `FORMATS`.
        problems: (line, reason) of everything that was kept out; line 0 is the file as a whole.
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
        return "\n".join([summary + (f", {len(self.problems)} kept out" if self.problems else ""), *lines, *more])


def read_session(path: str | pathlib.Path, *, format: str | None = None) -> Session:
    """Read a recorded session.

    Args:
        path: a JSON or JSONL file. format: one of `FORMATS`; None finds it out.

    Returns:
        `Session`.

    Raises:
        InputError: no such file, an unknown format, nothing in it that could be read.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError("no such session", got=str(path), expected="a JSON or JSONL file")
    rows, problems = _rows(path.read_text(encoding="utf-8", errors="replace"))
    chosen = format or _sniffed(rows)
    if chosen not in FORMATS:
        raise InputError("a session of unknown format", got=str(format or path.name), expected=", ".join(FORMATS))
    messages, tools = READERS[chosen](rows, problems)
    messages = [_checked(message) for message in messages]
    if not messages:
        reason = f": line {problems[0][0]}, {problems[0][1]}" if problems else ""
        raise InputError("nothing in this session could be read", got=f"{path.name}{reason}", expected=chosen)
    return Session(messages, tools, chosen, tuple(sorted(problems)))


def examples() -> dict[str, pathlib.Path]:
    """Small recorded sessions that come along, `{name: path}`, one each of OpenAI, Claude Code and pi."""
    return {path.stem: path for path in sorted((pathlib.Path(__file__).parent / "examples").glob("*.jsonl"))}


def _rows(text):
    """((line, object), ...) and the problems: a whole JSON document is one row at line 1."""
    problems = []
    try:
        whole = json.loads(text)
        if isinstance(whole, dict | list):
            return [(1, whole)], problems
    except json.JSONDecodeError:
        pass
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold other line breaks within a line
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append((number, f"not JSON ({error.msg} at column {error.colno})"))
            continue
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            problems.append((number, f"a {type(row).__name__} where an object is needed"))
    return rows, problems


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


def _checked(message):
    """A message in the one form: reasoning under its one name, arguments as mappings, no role that templates refuse."""
    checked = {name: value for name, value in message.items() if value is not None}
    if checked["role"] == "developer":
        checked["role"] = "system"
    if "reasoning" in checked and "reasoning_content" not in checked:
        checked["reasoning_content"] = checked.pop("reasoning")
    checked.setdefault("content", "")
    old = checked.pop("function_call", None)  # of the time before there were tools
    if isinstance(old, dict) and not checked.get("tool_calls"):
        checked["tool_calls"] = [old]
    if calls := checked.get("tool_calls"):
        inner = [call.get("function") or call for call in calls]
        checked["tool_calls"] = [as_call(call.get("name"), call.get("arguments")) for call in inner]
    return checked
