"""Anthropic's Messages API: requests with their responses, or a bare list of messages in blocks.

Read from anthropics/anthropic-sdk-python, `types/message_create_params.py` and `types/message.py`, and from logs as
badlogic/lemmy `apps/claude-trace` writes them. A prefilled assistant's message stands last in what was sent.
"""

import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import blocks, parts, wire
from labkit.thinking.sessions.format import Format

THINKS = {"enabled": True, "adaptive": True, "disabled": False}
EVENTS = ("message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta")
EVENTS += ("content_block_stop", "ping", "error")
FAILED, COUNTED = "a request that failed", "a request that counts tokens"


def read(rows, gathered):
    """Rows with messages are requests, each a call; messages alone are one conversation."""
    log = Log(gathered)
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            if isinstance(one, dict):
                log.take(one, line)
            else:
                gathered.problem(line, f"a {type(one).__name__} where an object is needed")
    log.answered(None)
    gathered.conversation(log.said, log.lines)


class Log:
    """Rows of a log as they come: the response of a request may stand beside it or be the events behind it."""

    def __init__(self, gathered):
        self.gathered, self.said, self.lines, self.waiting, self.events = gathered, [], [], None, []

    def take(self, row, line):
        """One row of any kind."""
        request, answer = wire.pair(row)
        kind = row.get("type")
        if isinstance(kind, str) and kind in EVENTS and request is row and "messages" not in row:
            self.events.append((line, row))
        elif "messages" not in request:
            made = blocks.messages(row, line, self.gathered)
            self.said += made
            self.lines += [line] * len(made)
        else:
            self.answered(None)
            address = parts.mapping(row["request"]).get("url") if isinstance(row.get("request"), dict) else None
            if isinstance(address, str) and address.partition("?")[0].endswith("/count_tokens"):
                self.gathered.leave_out(COUNTED)
                return
            self.waiting = request, line
            if answer is not None or isinstance(row.get("content"), list):
                self.answered(row if answer is None else answer)

    def answered(self, answer):
        """The request that waits has this answer, or the events so far."""
        events, self.events = self.events, []
        if self.waiting is None:
            if events:
                self.gathered.problem(events[0][0], "events of a stream without the request that they answer")
            return
        request, line = self.waiting
        self.waiting = None
        answer = [event for _, event in events] or None if answer is None else answer
        _request(request, answer, line, self.gathered)


def _request(request, answer, line, gathered):
    sent = []
    if request.get("system"):
        system = parts.tried(parts.words, request["system"], line, gathered.problems, "system: ")
        sent += [] if system is None else [{"role": "system", "content": system}]
    for n, one in enumerate(parts.tried(parts.many, request.get("messages"), line, gathered.problems) or [], 1):
        sent += blocks.messages(one, line, gathered, f"message {n}: ")
    tools = parts.tried(blocks.tools, request.get("tools"), line, gathered.problems, "tools: ")
    thinking = parts.tried(parts.mapping, request.get("thinking"), line, gathered.problems, "thinking: ") or {}
    asked = thinking.get("type")
    more = {"tools": tools, "enable_thinking": THINKS.get(asked) if isinstance(asked, str) else None}
    more["model"] = request["model"] if isinstance(request.get("model"), str) else None
    if answer is None and sent and sent[-1]["role"] == "assistant":
        gathered.conversation(sent, [line] * len(sent), **more)
        return
    message = None if answer is None else parts.tried(_message, answer, line, gathered.problems, "response: ")
    if message and (message.get("type") == "error" or message.get("error")) and not message.get("content"):
        gathered.leave_out(FAILED)
        return
    if not message:
        gathered.tell_once(line, wire.UNANSWERED)
        gathered.call(sent, None, line=line, **more)
        return
    billed = blocks.usage(message.get("usage"), line, gathered)
    if "content" not in message:
        gathered.problem(line, f"response: no message of Anthropic's: {', '.join(map(shown, list(message)[:6]))}")
        gathered.call(sent, None, line=line, usage=billed, **more)
        return
    made = blocks.said(message["content"], line, gathered)
    for i, one in enumerate(made):  # the provider's own tools part an answer
        if one["role"] == "assistant":
            own = billed if len(made) == 1 else None
            gathered.call([*sent, *made[:i]], one, line=line, usage=own, **more)


def _message(answer):
    found = wire.body(answer)
    return wire.of_anthropic(found) if isinstance(found, list) else found


MESSAGE = {"role": ("user", "assistant"), "content": ...}
BLOCKS = [MESSAGE | {"content": [{"type": blocks.KINDS}]}]
SOURCE = [MESSAGE | {"content": [{"type": ("image",), "source": dict}]}]
TEXTS = [{"type": ("text",), "text": str}]
REQUESTS = [{"messages": [MESSAGE]} | more for more in ({"system": str}, {"system": TEXTS})]
REQUESTS += [{"messages": [MESSAGE], "tools": [{"input_schema": dict}]}, {"messages": BLOCKS}, {"messages": SOURCE}]
REPLY = {"type": ("message",), "role": ("assistant",), "content": [{"type": str}]}
ANSWERS = [{name: answer} for name in wire.ANSWERED for answer in (REPLY, {"body": REPLY})]
ANSWERS += [{"response": {"body_raw": re.compile("^event: message_start")}}]
ANSWERS += [{"response": [{"type": ("message_start",), "message": dict}]}]
STREAM = {"type": ("message_start",), "message": {"role": ("assistant",), "content": list}}
SIGNS = [*wire.homes(REQUESTS), *ANSWERS, STREAM, BLOCKS, SOURCE, MESSAGE | {"content": [{"type": blocks.KINDS}]}]
SIGNS += [[one] for one in SIGNS if isinstance(one, dict)]
FORMAT = Format("anthropic", "Anthropic messages, or requests and responses", SIGNS, read)
