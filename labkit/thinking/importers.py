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

COMPACTED = "a compaction; what follows is counted as if all messages before were still sent"
FORMATS = ("openai", "claude-code", "pi", "atif", "sharegpt")


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
        kept = f"{len(self.messages)} messages, {calls} calls ({self.format})"
        lines = [f"  line {line}: {reason}" for line, reason in self.problems[:5]]
        more = [f"  and {len(self.problems) - 5} more"] if len(self.problems) > 5 else []
        return "\n".join([kept + (f", {len(self.problems)} kept out" if self.problems else ""), *lines, *more])


def read_session(path, *, format=None):
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


def examples():
    """Small recorded sessions that come along, `{name: path}`, one each of OpenAI, Claude Code and pi."""
    return {path.stem: path for path in sorted((pathlib.Path(__file__).parent / "examples").glob("*.jsonl"))}


def _rows(text):
    """((line, object), ...) and the problems: a whole JSON document is one row at line 1."""
    problems = []
    try:
        whole = json.loads(text)
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


# ---------------------------------------------------------------------------------------------------------- readers


def _openai(rows, problems):
    """Messages, one a line or in one document; of a log of requests the longest, which holds all before it."""
    messages, tools, longest = [], None, None
    for line, row in rows:
        if isinstance(row, list):
            messages += [part for part in row if _has_role(part, line, problems)]
            continue
        row = row.get("request", {}) | {k: v for k, v in row.items() if k != "request"}
        if "messages" in row:
            found = [part for part in row["messages"] if _has_role(part, line, problems)]
            found += [choice["message"] for choice in (row.get("response") or row).get("choices", [])[:1]]
            if longest is None or len(found) >= len(longest):
                longest, tools = found, row.get("tools", tools)
        elif _has_role(row, line, problems):
            messages.append(row)
    return (longest or messages), tools


def _claude_code(rows, problems):
    messages, by_id = [], {}
    for line, row in rows:
        kind, inner = row.get("type"), row.get("message")
        if row.get("subtype") == "compact_boundary":
            problems.append((line, COMPACTED))
        if kind not in ("user", "assistant") or row.get("isSidechain") or row.get("isMeta"):
            continue
        if not isinstance(inner, dict) or "content" not in inner:
            problems.append((line, f"a {kind} line without a message"))
            continue
        if kind == "user":
            messages += _blocks_of_user(inner["content"], line, problems)
            continue
        same = by_id.get(inner.get("id")) if inner.get("id") else None
        if same is None:
            same = {"role": "assistant", "content": ""}
            messages.append(same)
            by_id[inner.get("id")] = same
        _blocks_of_assistant(same, inner["content"], line, problems)
    return messages, None


def _pi(rows, problems):
    messages = []
    for line, row in rows:
        if row.get("type") == "compaction":
            problems.append((line, COMPACTED))
        if row.get("type") != "message":
            continue
        inner = row.get("message")
        if not isinstance(inner, dict) or inner.get("role") not in ("user", "assistant", "toolResult"):
            problems.append((line, "a message of unknown role"))
            continue
        content = inner.get("content", "")
        if inner["role"] == "assistant":
            reply = {"role": "assistant", "content": ""}
            _blocks_of_assistant(reply, content, line, problems)
            messages.append(reply)
        elif inner["role"] == "user":
            messages += _blocks_of_user(content, line, problems)
        else:
            messages.append({"role": "tool", "content": _text(content)})
    return messages, None


def _atif(rows, problems):
    messages, tools = [], None
    for line, row in rows:
        tools = (row.get("agent") or {}).get("tool_definitions") or tools
        for n, step in enumerate(row.get("steps", [])):
            role = {"user": "user", "agent": "assistant", "system": "system"}.get(step.get("source"))
            if role is None:
                problems.append((line, f"step {n + 1} of unknown source {step.get('source')!r}"))
                continue
            message = {"role": role, "content": _text(step.get("message") or "")}
            if role == "assistant" and isinstance(step.get("reasoning_content"), str):
                message["reasoning_content"] = step["reasoning_content"]
            if calls := step.get("tool_calls"):
                message["tool_calls"] = [_call(call.get("function_name"), call.get("arguments")) for call in calls]
            messages.append(message)
            for result in (step.get("observation") or {}).get("results", []):
                messages.append({"role": "tool", "content": _text(result.get("content") or "")})
    return messages, tools


def _sharegpt(rows, problems):
    roles = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
    roles |= {"tool": "tool", "observation": "tool", "function_response": "tool"}
    messages = []
    for line, row in rows:
        for turn in row.get("conversations", []):
            if turn.get("from") not in roles or not isinstance(turn.get("value"), str):
                problems.append((line, f"a turn from {turn.get('from')!r}"))
                continue
            messages.append({"role": roles[turn["from"]], "content": turn["value"]})
    return messages, None


READERS = dict(zip(FORMATS, (_openai, _claude_code, _pi, _atif, _sharegpt), strict=True))


# ------------------------------------------------------------------------------------------------------------ parts


def _has_role(part, line, problems):
    if isinstance(part, dict) and part.get("role") in ("system", "developer", "user", "assistant", "tool"):
        return True
    problems.append((line, f"no message: role {part.get('role')!r}" if isinstance(part, dict) else "no message"))
    return False


def _blocks_of_user(content, line, problems):
    """Messages of a user's line: results of tools first, each its own, then what was typed."""
    results, typed = [], []
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if block.get("type") == "tool_result":
            results.append({"role": "tool", "content": _text(block.get("content") or "")})
        elif block.get("type") in ("text", "image"):
            shown = {name: block[name] for name in ("source", "data") if name in block}
            typed.append({"type": "text", "text": block["text"]} if "text" in block else {"type": "image"} | shown)
        else:
            problems.append((line, f"a block of unknown type {block.get('type')!r}"))
    plain = all("text" in item for item in typed)
    said = "\n".join(item["text"] for item in typed) if plain else typed
    return results + ([{"role": "user", "content": said}] if typed else [])


def _blocks_of_assistant(message, content, line, problems):
    """Add blocks of text, thinking and calls to an assistant's message."""
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        kind = block.get("type")
        if kind == "text":
            message["content"] += block.get("text", "")
        elif kind == "thinking":
            message["reasoning_content"] = message.get("reasoning_content", "") + block.get("thinking", "")
        elif kind in ("tool_use", "toolCall"):
            arguments = block.get("input", block.get("arguments"))
            message.setdefault("tool_calls", []).append(_call(block.get("name"), arguments))
        else:
            problems.append((line, f"a block of unknown type {kind!r}"))


def _text(content):
    """Text of a content that is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if isinstance(block, dict) and "text" in block)


def _call(name, arguments):
    return {"type": "function", "function": {"name": str(name), "arguments": _mapping(arguments)}}


def _mapping(arguments):
    """Arguments as a mapping; what is none becomes one, under the name `input`."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except json.JSONDecodeError:
            return {"input": arguments}
    if arguments is None:
        return {}
    return arguments if isinstance(arguments, dict) else {"input": arguments}


def _checked(message):
    """A message in the one form: reasoning under its one name, arguments as mappings, no role that templates refuse."""
    found = {name: value for name, value in message.items() if value is not None}
    if found["role"] == "developer":
        found["role"] = "system"
    if "reasoning" in found and "reasoning_content" not in found:
        found["reasoning_content"] = found.pop("reasoning")
    found.setdefault("content", "")
    if calls := found.get("tool_calls"):
        inner = [call.get("function") or call for call in calls]
        found["tool_calls"] = [_call(call.get("name"), call.get("arguments")) for call in inner]
    return found
