"""Requests and responses as logs keep them: side by side under several names, whole or as the events of a stream.

Names read from badlogic/lemmy `apps/claude-trace/src/interceptor.ts` (request and response with `body`, `body_raw`),
BerriAI/litellm and simonw/llm. Events from anthropics/anthropic-sdk-python `types/raw_message_stream_event.py` and
openai/openai-python `types/responses/response_stream_event.py`.
"""

import re

from labkit.thinking.sessions import parts
from labkit.thinking.sessions.rows import Blank, Unreadable, parsed

ASKED, ANSWERED = ("request", "request_body"), ("response", "response_body")
BODIES = ("body", "body_raw")
UNANSWERED = "a request without a response: what came back is not counted; the first of them"
GROWN = {"partial": "tool_use", "thinking": "thinking"}  # what a block grows by, and its type
EVENT = re.compile(r"^data:[ \t]*(.*)$", re.MULTILINE)


def homes(signs: list[dict]) -> list[dict]:
    """Signs of requests, wherever a row keeps its request."""
    under = [{name: sign} for sign in signs for name in (*ASKED, "body")]
    return [*signs, *under, *({"request": {"body": sign}} for sign in signs)]


def pair(row: dict) -> tuple[dict, object]:
    """(request, answer) of a row; the answer is None if the row has none, and the row's own names if it is bare."""
    request = next((row[name] for name in ASKED if isinstance(row.get(name), dict)), row)
    request = request["body"] if isinstance(request.get("body"), dict) else request
    answer = next((row[name] for name in ANSWERED if row.get(name) is not None), None)
    if isinstance(answer, dict):
        answer = next((answer[name] for name in BODIES if answer.get(name) is not None), answer)
    return request, answer


def body(answer: object) -> dict | list:
    """An answer as an object, or as the list of its events.

    Raises:
        Unreadable: it is none of these.
    """
    if isinstance(answer, str):
        found = [event for event in EVENT.findall(answer) if event.strip() not in ("", "[DONE]")]
        answer = [_json(event) for event in found] if found else _json(answer)
    if isinstance(answer, list):
        return [parts.mapping(event) for event in answer]
    return parts.mapping(answer)


def of_anthropic(events: list[dict]) -> dict:
    """The message that the events of a stream are parts of."""
    message, blocks = {}, {}
    for event in events:
        kind, at = event.get("type"), str(event.get("index", 0))
        if kind == "message_start":
            message |= parts.mapping(event.get("message"))
        elif kind == "content_block_start":
            blocks[at] = dict(parts.mapping(event.get("content_block")))
        elif kind == "content_block_delta":
            _grown(blocks.setdefault(at, {}), parts.mapping(event.get("delta")))
        elif kind == "message_delta":
            message |= {name: value for name, value in parts.mapping(event.get("delta")).items() if value is not None}
            known, more = parts.mapping(message.get("usage")), parts.mapping(event.get("usage"))
            message["usage"] = known | {name: value for name, value in more.items() if value is not None}
        elif kind == "error":
            message["error"] = event.get("error")
    for block in blocks.values():
        known = next((kind for name, kind in GROWN.items() if name in block), "text")
        block.setdefault("type", known)  # not every proxy writes the event that begins a block
        if "partial" in block:
            block["input"] = "".join(block.pop("partial"))
        for name in ("text", "thinking"):
            if isinstance(block.get(name), list):
                block[name] = "".join(block[name])
    return message | ({"content": list(blocks.values())} if blocks else {})


def of_responses(events: list[dict]) -> dict:
    """The response that the events of a stream are parts of."""
    whole, done = {}, []
    for event in events:
        if isinstance(event.get("response"), dict):
            whole |= event["response"]
        if event.get("type") == "response.output_item.done":
            done.append(event.get("item"))
        elif event.get("type") == "error":
            whole["error"] = event
    return whole | ({"output": done} if done and not whole.get("output") else {})


def _grown(block, delta):
    """Add a delta to a block: texts as lists of parts."""
    for name, home in (("text", "text"), ("thinking", "thinking"), ("partial_json", "partial")):
        if isinstance(delta.get(name), str):
            known = block.setdefault(home, [])
            if isinstance(known, str):
                known = block[home] = [known]
            if isinstance(known, list):
                known.append(delta[name])


def _json(text):
    try:
        return parsed(text.encode())[0]
    except Blank:
        raise Unreadable("no body") from None
