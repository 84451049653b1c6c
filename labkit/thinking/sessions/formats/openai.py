"""OpenAI chat completions: messages, one a line or in one document, or requests with their responses."""

from labkit.thinking.sessions import parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable


def read(rows, gathered):
    """Rows that hold messages are requests, each a call of its own; rows that are messages are one conversation."""
    said, lines = [], []
    for line, row in rows:
        if isinstance(row, list):
            found = _messages(row, line, gathered)
            said, lines = said + found, lines + [line] * len(found)
            continue
        inner = row.get("request")
        row = (inner if isinstance(inner, dict) else {}) | {k: v for k, v in row.items() if k != "request"}
        if isinstance(row.get("messages"), list):
            _request(row, line, gathered)
        elif (message := parts.tried(parts.message, row, line, gathered.problems)) is not None:
            said, lines = [*said, message], [*lines, line]
    gathered.conversation(said, lines)


def _request(row, line, gathered):
    sent = _messages(row["messages"], line, gathered)
    tools = parts.tried(parts.tools, row.get("tools"), line, gathered.problems)
    answer = row.get("response") if isinstance(row.get("response"), dict) else row
    reply = parts.tried(_response, row, line, gathered.problems)
    if reply is None and sent and sent[-1]["role"] == "assistant":
        gathered.conversation(sent, [line] * len(sent), tools=tools)
        return
    gathered.call(sent, reply, line=line, tools=tools, usage=_usage(answer.get("usage"), line, gathered))


def _messages(row, line, gathered):
    made = [parts.tried(parts.message, one, line, gathered.problems, f"message {n}: ") for n, one in enumerate(row, 1)]
    return [message for message in made if message is not None]


def _response(row):
    """The assistant's message of a response, or None."""
    answer = row.get("response") if isinstance(row.get("response"), dict) else row
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if first is None and "response" not in row and "choices" not in row:
        return None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise Unreadable("a response without a message")
    return parts.message({"role": "assistant"} | message)


def _usage(given, line, gathered):
    given = given if isinstance(given, dict) else {}
    details, more = (given.get(name) or {} for name in ("prompt_tokens_details", "completion_tokens_details"))
    found = {"input": given.get("prompt_tokens"), "output": given.get("completion_tokens")}
    found |= {"cached": details.get("cached_tokens"), "thinking": more.get("reasoning_tokens")}
    return usage(found, line, gathered)


MESSAGE = {"role": ("system", "developer", "user", "assistant", "tool"), "content": ...}
SIGNS = (MESSAGE, [MESSAGE], {"messages": [MESSAGE]}, {"request": {"messages": [MESSAGE]}}, {"messages": list})
FORMAT = Format("openai", "OpenAI chat completions: messages, or requests and responses", SIGNS, read)
