"""What rows of recorded sessions hold, whatever its type: messages, blocks, results, calls.

Every function gives what was asked for in the one form of OpenAI messages, or raises `Unreadable` with the reason;
`tried` makes a problem of it.
"""

import datetime
from collections.abc import Callable

from labkit.errors import InputError
from labkit.thinking.messages import REASONING, checked, checked_tools, plain, shown
from labkit.thinking.sessions import normal
from labkit.thinking.sessions.rows import Unreadable

ROLES = ("system", "developer", "user", "assistant", "tool")
KEPT = ("role", "content", *REASONING, "tool_calls", "name", "tool_call_id", "prompt_ids", "completion_ids")


def tried(function: Callable, value, line: int, problems, where: str = "", *more):
    """`function(value, *more)`, or None and a problem, its reason behind `where`."""
    try:
        return function(value, *more)
    except Unreadable as reason:
        problems.append((line, f"{where}{reason}"))
    except InputError as error:
        problems.append((line, where + error.what + (f" ({error.got})" if error.got is not None else "")))
    return None


def message(part) -> dict:
    """A message in the one form (`normal`), with the names of `KEPT` alone and no role that templates refuse."""
    if not isinstance(part, dict):
        raise Unreadable("no message")
    if not isinstance(role := part.get("role"), str) or role not in ROLES:
        raise Unreadable("no message: it has no role" if role is None else f"no message: role {shown(role)}")
    made = {name: part[name] for name in KEPT if part.get(name) is not None}
    made.setdefault("content", "")
    calls = many(part.get("tool_calls"))
    if not calls and part.get("function_call") is not None:  # of the time before there were tools
        calls = [mapping(part["function_call"])]
    made.pop("tool_calls", None)
    if calls:
        made["tool_calls"] = [_unwrapped(call) for call in calls]
    for name in ("name", "tool_call_id"):
        if not isinstance(made.get(name, ""), str):
            raise Unreadable(f"{name} is a {type(made[name]).__name__} where text is needed")
    for name in ("prompt_ids", "completion_ids"):
        ids = made.get(name, [])
        if not isinstance(ids, list) or any(type(i) is not int or i < 0 for i in ids):
            raise Unreadable(f"{name} are no token ids")
    return normal.message(checked(made, ""))


def call(name, arguments) -> dict:
    """A tool call in the one form, its arguments a mapping; what is none becomes one, under the name `input`."""
    if not isinstance(name, str):
        raise Unreadable(f"a tool call without a name: {shown(name)}")
    arguments = normal.arguments(arguments)
    plain(arguments, "arguments of a tool call", None)
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tools(value) -> list | None:
    """JSON schemas of functions."""
    return checked_tools(value)


def mapping(value) -> dict:
    """A mapping; none for None."""
    if not isinstance(value, dict | None):
        raise Unreadable(f"a {type(value).__name__} where an object is needed")
    return value or {}


def many(value) -> list:
    """A list; an empty one for None."""
    if not isinstance(value, list | None):
        raise Unreadable(f"a {type(value).__name__} where a list is needed")
    return value or []


def words(content) -> str:
    """Text of a content that is a string, None or a list of blocks of text."""
    found = result(content)
    if not isinstance(found, str):
        raise Unreadable("a picture where text is needed")
    return found


def result(content) -> str | list:
    """Text of a tool's result, or its items if there are pictures among them."""
    if content is None or isinstance(content, str):
        return content or ""
    items = [_item(block) for block in many(content)]
    if all("text" in item for item in items):
        return "\n".join(item["text"] for item in items)
    return items


def seconds(value) -> float | None:
    """Seconds since 1970 of a number (seconds, or thousandths down to billionths of them) or of a text as ISO 8601 has
    it, in UTC if it names no zone; None for what is no time."""
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e19:
        return None
    while value > 1e11:
        value /= 1000
    return float(value)


def of_user(content, line: int, problems) -> list[dict]:
    """Messages of a user's line: results of tools first, each its own, then what was typed."""
    results, typed = [], []
    for block in tried(_blocks, content, line, problems) or []:
        if block.get("type") == "tool_result":
            shows = tried(result, block.get("content"), line, problems, "a result: ")
            results += [] if shows is None else [{"role": "tool", "content": shows}]
        else:
            item = tried(_item, block, line, problems)
            typed += [] if item is None else [item]
    plain_text = all("text" in item for item in typed)
    content = "\n".join(item["text"] for item in typed) if plain_text else typed
    return results + ([{"role": "user", "content": content}] if typed else [])


def of_assistant(reply: dict | None, content, line: int, problems) -> None:
    """Add blocks of text, thinking and calls to an assistant's message; to None, which has its reason, nothing."""
    for block in (tried(_blocks, content, line, problems) or []) if reply is not None else ():
        tried(_added, block, line, problems, "", reply)


def blocks(content) -> list[dict]:
    """Blocks of a content; a text is one of text."""
    return _blocks(content)


def added(block: dict, reply: dict) -> None:
    """Add a block of text, of thinking or of a call to an assistant's message."""
    _added(block, reply)


def _unwrapped(one):
    inner = mapping(one)
    inner = mapping(inner.get("function")) or inner
    return call(inner.get("name"), inner.get("arguments"))


def _blocks(content):
    """Blocks of a content; a string is one of text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [mapping(block) for block in many(content)]


def _added(block, reply):
    kind = block.get("type")
    if kind == "text":
        reply["content"] += _string(block, "text")
    elif kind == "thinking":
        reply["reasoning_content"] = reply.get("reasoning_content", "") + _string(block, "thinking")
    elif kind in ("tool_use", "toolCall"):
        reply.setdefault("tool_calls", []).append(call(block.get("name"), block.get("input", block.get("arguments"))))
    else:
        raise Unreadable(f"a block of unknown type {shown(kind)}")


def _item(block):
    """A block as an item of OpenAI content; a picture with what it shows or where it lies."""
    block = mapping(block)
    if "text" in block and block.get("type", "text") == "text":
        return {"type": "text", "text": _string(block, "text")}
    if block.get("type") != "image":
        raise Unreadable(f"a block of unknown type {shown(block.get('type'))}")
    shows = {name: block[name] for name in ("source", "data") if name in block}
    plain(shows, "a picture", None)
    return {"type": "image"} | shows


def _string(block, name):
    if not isinstance(text := block.get(name), str):
        raise Unreadable(f"{name} is a {type(text).__name__} where text is needed")
    return text
