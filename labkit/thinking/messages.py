"""A conversation from elsewhere, checked once: what is a `Conversation` is not checked again below.

A message is a mapping with a role and content, and for assistants reasoning, tool calls and token ids. What it holds is
plain (mappings, lists, texts, numbers), of bounded depth and number, so that nothing below meets a cycle or a text that
no tokenizer can read.
"""

import reprlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from labkit.errors import InputError

DEPTH, COUNT, DIGITS = 100, 100_000, 400  # of what one message holds: levels, values, digits of a whole number
REASONING = ("reasoning_content", "thinking", "reasoning")  # its names, the first that is there counts (transformers)
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80
FORM = '{"role": "user", "content": "hi"}'


class Conversation(tuple):
    """Messages that were checked. A slice of one is one."""

    def __getitem__(self, key):
        found = super().__getitem__(key)
        return Conversation(found) if isinstance(key, slice) else found


def conversation(messages: Sequence[dict]) -> Conversation:
    """Check messages.

    Raises:
        InputError: no list, or a message that is not as the rules need it; the hint names it.
    """
    if isinstance(messages, Conversation):
        return messages
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise InputError("a conversation is a list of messages", got=type(messages).__name__, expected=f"[{FORM}]")
    return Conversation(checked(message, f"message {i}") for i, message in enumerate(messages))


def checked(message: dict, where: str) -> dict:
    """The message itself, if it is one.

    Raises:
        InputError: what is wrong; its hint is `where`.
    """
    if not isinstance(message, dict):
        raise InputError("a message is a mapping", got=type(message).__name__, expected=FORM, hint=where)
    if not isinstance(role := message.get("role"), str):
        raise InputError("no such role", got=shown(role), expected="system, user, assistant, tool", hint=where)
    _content(message.get("content"), where)
    for name in REASONING:
        if message.get(name) is not None:
            text(message[name], name, where)
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list | tuple):
        raise InputError("tool_calls of unknown type", got=type(calls).__name__, expected="a list of calls", hint=where)
    for call in calls or ():
        _call(call, where)
    for name in ("prompt_ids", "completion_ids"):
        if message.get(name) is not None:
            token_ids(message[name], name, where)
    return message


def checked_tools(tools: Sequence[dict] | None) -> Sequence[dict] | None:
    """The tools themselves, if they are JSON schemas.

    Raises:
        InputError: no list of mappings, or something in them that is no JSON.
    """
    if tools is None:
        return None
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError("tools are JSON schemas", got=shown(tools), expected='[{"name": "look"}], say')
    plain(tools, "tools", None)
    return tools


def reasoning(message: dict) -> str | None:
    """The reasoning of a checked message under any of its names; None if it has none apart from its content."""
    return next((message[name] for name in REASONING if message.get(name) is not None), None)


def picture(item: dict) -> str | None:
    """Whether an item of content is an "image" or a "video"; None if it is neither."""
    for kind, names in (("image", ("image", "image_url")), ("video", ("video",))):
        given = item.get("type")
        if (isinstance(given, str) and given == kind) or any(name in item for name in names):
            return kind
    return None


def function(call: dict) -> dict:
    """The name and arguments of a tool call, which may stand under "function"."""
    inner = call.get("function")
    return inner if isinstance(inner, dict) and inner else call


def token_ids(ids: Sequence[int], name: str, where: str | None = None) -> np.ndarray:
    """Token ids as an array [T], int64.

    Raises:
        InputError: no whole numbers of 32 bits in a row.
    """
    fits = hasattr(ids, "ndim") or (isinstance(ids, Sequence) and all(_is_whole(i) for i in ids))
    if fits:
        array = np.asarray(ids)
        fits = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
        fits = fits and (not array.size or (array.min() >= -(2**31) and array.max() < 2**31))
    if not fits:
        raise InputError(f"{name} are no token ids", got=shown(ids), expected="whole numbers of 32 bits", hint=where)
    return array.astype(np.int64)


def text(value: str, name: str, where: str | None) -> str:
    """The text itself, if a tokenizer can read it.

    Raises:
        InputError: no text, or half of a surrogate pair in it.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} of unknown type", got=type(value).__name__, expected="str", hint=where)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            got = f"{value[error.start]!r} at character {error.start}"
            raise InputError(f"{name} holds half of a surrogate pair", got=got, hint=where) from None
    return value


def plain(value: object, name: str, where: str | None, *, others: bool = False) -> None:
    """Check that a value is made of mappings with text keys, lists, texts, numbers and None alone.

    Args:
        value: it. name, where: for the message. others: whether objects of other types may be in it (pictures).

    Raises:
        InputError: it is not, or is a cycle, or goes beyond `DEPTH`, `COUNT` or `DIGITS`.
    """
    left, stack = COUNT, [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, Mapping):
            inner: Iterable = item.values()
            for key in item:
                text(key, f"a key of {name}", where)
        elif isinstance(item, list | tuple):
            inner = item
        elif isinstance(item, str):
            text(item, name, where)
            continue
        elif isinstance(item, int) and abs(item) >= 10**DIGITS:
            raise InputError(f"{name} holds a number of too many digits", expected=f"up to {DIGITS}", hint=where)
        elif item is None or isinstance(item, int | float) or others:
            continue
        else:
            raise InputError(f"{name} of unknown type", got=type(item).__name__, expected="JSON values", hint=where)
        left -= len(item)
        if depth == DEPTH or left < 0:
            expected = f"{DEPTH} levels and {COUNT:,} values at most"
            raise InputError(f"{name} nested too deeply, or too large", expected=expected, hint=where)
        stack += [(one, depth + 1) for one in inner]


def shown(value: object) -> str:
    """A value in few signs, whatever it is."""
    try:
        return SHORT.repr(value)
    except ValueError:  # a number with more digits than Python writes
        return f"a {type(value).__name__}"


def _content(content, where):
    if content is None or isinstance(content, str):
        text(content or "", "content", where)
        return
    if not isinstance(content, list | tuple):
        expected = "str, None, a list of items"
        raise InputError("content of unknown type", got=type(content).__name__, expected=expected, hint=where)
    for item in content:
        known = isinstance(item, dict) and (picture(item) or "text" in item)
        if not known:
            got = shown(list(item)) if isinstance(item, dict) else type(item).__name__
            raise InputError("an item of unknown type", got=got, expected="text, image or video", hint=where)
        if picture(item):
            plain(item, "a picture", where, others=True)
        else:
            text(item["text"], "the text of an item", where)


def _call(call, where):
    inner = function(call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise InputError("a tool call without a name", got=shown(call), expected='{"name": "look"}, say', hint=where)
    text(inner["name"], "the name of a tool", where)
    plain(inner.get("arguments"), "arguments of a tool call", where)


def _is_whole(entry):
    return isinstance(entry, int | np.integer) and not isinstance(entry, bool)
