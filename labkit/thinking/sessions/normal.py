"""Messages of any client in the one form that the family's template reads, whether from a file or passed directly.

developer        is system
system, system   the leading ones are one, a blank line between
reasoning        stands under reasoning_content, whatever its name was
arguments        that are JSON in a text are a mapping
"""

from collections.abc import Sequence

from labkit.errors import InputError
from labkit.thinking.messages import REASONING, Conversation, conversation, function, plain, reasoning
from labkit.thinking.sessions.record import Exchange, Session
from labkit.thinking.sessions.rows import Unreadable, parsed


def message(given: dict) -> dict:
    """A checked message in the one form; itself if it has that already."""
    made = dict(given)
    if given["role"] == "developer":
        made["role"] = "system"
    if (thought := reasoning(given)) is not None:
        for name in REASONING:
            made.pop(name, None)
        made["reasoning_content"] = thought
    if given.get("tool_calls"):
        made["tool_calls"] = [_call(call) for call in given["tool_calls"]]
    return given if made == given else made


def arguments(given) -> dict:
    """Arguments of a tool as a mapping; what is none becomes one, under the name `input`."""
    if isinstance(given, str):
        try:
            given, _ = parsed(given.encode()) if given.strip() else ({}, False)
            plain(given, "arguments", None)
        except (Unreadable, InputError):  # as it stands, then
            pass
    return {} if given is None else given if isinstance(given, dict) else {"input": given}


def leading(messages: Sequence[dict]) -> list[dict]:
    """The messages, leading ones of the system's joined."""
    count = next((i for i, one in enumerate(messages) if one["role"] != "system"), len(messages))
    if count < 2:
        return list(messages)
    return [{"role": "system", "content": "\n\n".join(map(_text, messages[:count]))}, *messages[count:]]


def exchanges(messages: Sequence[dict] | Session, tools: list | None = None) -> Sequence[Exchange]:
    """The calls of a session; of plain messages every assistant's message is one.

    Raises:
        InputError: no messages.
    """
    if isinstance(messages, Session):
        return messages.calls
    given = [message(one) for one in conversation(messages)]
    given = Conversation(leading(given))
    return [Exchange(given[:i], one, tools) for i, one in enumerate(given) if one["role"] == "assistant"]


def _call(call):
    inner = function(call)
    known = inner.get("arguments")
    if isinstance(known, dict):
        return call
    inner = inner | {"arguments": arguments(known)}
    return call | {"function": inner} if isinstance(call.get("function"), dict) else inner


def _text(system):
    content = system["content"] or ""
    if isinstance(content, str):
        return content
    if any("text" not in item for item in content):
        raise InputError("a system message holds no pictures", got="an item without text")
    return "".join(item["text"] for item in content)
