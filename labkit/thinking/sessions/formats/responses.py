"""OpenAI's Responses API: requests with their responses, streams of events, or items alone.

Read from openai/openai-python, `types/responses/response_create_params.py`, `response.py`, `response_usage.py` and
`response_stream_event.py`. A `previous_response_id` (or `conversation`) stands for all that was sent and said under it;
`instructions` are those of the request alone.
"""

import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts, wire
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.items import CALLS, OUTPUTS, Items

FAILED = "a request that failed"


def read(rows, gathered):
    """Rows with an input are requests, each a call; items alone are one conversation."""
    log = Log(gathered)
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            if isinstance(one, dict):
                log.take(one, line)
            else:
                gathered.problem(line, f"a {type(one).__name__} where an object is needed")
    log.answered(None)
    gathered.conversation(log.items.messages, log.lines)


class Log:
    """Rows of a log as they come.

    Attributes:
        items, lines: those outside of requests. chains: messages up to a response, by its id or its conversation's.
    """

    def __init__(self, gathered):
        self.gathered, self.items, self.lines, self.chains = gathered, Items(gathered), [], {}
        self.waiting, self.events = None, []

    def take(self, row, line):
        """One row of any kind."""
        request, answer = wire.pair(row)
        kind = row.get("type")
        if isinstance(kind, str) and (kind.startswith("response.") or kind == "error"):
            self.events.append((line, row))
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self.answered(None)
        elif request is row and answer is None and "input" not in row and isinstance(kind or row.get("role"), str):
            self.items.add(row, line)
            self.lines += [line] * (len(self.items.messages) - len(self.lines))
        elif request is row and answer is None and "input" not in row and "output" in row and self.waiting:
            self.answered(row)  # a response in a row of its own
        else:
            self.answered(None)
            self.waiting = request, line
            if answer is not None or (request is row and row.get("output") is not None):
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
        answer = None if answer is None else parts.tried(_response, answer, line, self.gathered.problems, "response: ")
        self._call(request, answer or {}, line)

    def _call(self, request, answer, line):
        gathered = self.gathered
        if answer.get("error") and not answer.get("output"):
            gathered.leave_out(FAILED)
            return
        items, before = Items(gathered, self._before(request, answer, line)), None
        _taken(items, request.get("input"), line)
        system = Items(gathered)
        _taken(system, request.get("instructions", answer.get("instructions")), line, "system")
        sent = [*system.messages, *items.messages]
        tools = parts.tried(_tools, request.get("tools", answer.get("tools")), line, gathered.problems, "tools: ")
        thinks = parts.tried(parts.mapping, request.get("reasoning"), line, gathered.problems, "reasoning: ") or {}
        model = request.get("model", answer.get("model"))
        more = {"tools": tools, "enable_thinking": False if thinks.get("effort") == "none" else None}
        more |= {"model": model if isinstance(model, str) else None, "time": parts.seconds(answer.get("created_at"))}
        if not answer and sent and sent[-1]["role"] == "assistant":
            more.pop("time")
            gathered.conversation(sent, [line] * len(sent), **more)
            return
        before = len(items.messages)
        items.close()
        if not answer:
            gathered.tell_once(line, wire.UNANSWERED)
        elif "output" not in answer:
            gathered.problem(line, f"response: it has no output: {', '.join(map(shown, list(answer)[:6]))}")
        output = answer.get("output")
        _taken(items, [output] if isinstance(output, dict) else output, line, "assistant")
        for name in (answer.get("id"), _conversation(request)):
            if isinstance(name, str):
                self.chains[name] = items.messages
        said = items.messages[before:]
        replies = [i for i, one in enumerate(said) if one["role"] == "assistant"]
        billed = _usage(answer.get("usage"), line, gathered)
        if not replies:
            gathered.call(sent, None, line=line, usage=billed, **more)
        for i in replies:  # the provider's own tools part an answer
            own = billed if len(replies) == 1 else None
            gathered.call([*sent, *said[:i]], said[i], line=line, usage=own, **more)

    def _before(self, request, answer, line):
        """What stands under the response or the conversation that a request goes on from."""
        previous = request.get("previous_response_id") or answer.get("previous_response_id")
        if previous is None:
            return self.chains.get(_conversation(request), [])
        if not isinstance(previous, str) or previous not in self.chains:
            reason = (
                f"it goes on from the response {shown(previous)}, which is not in the file: what was before is missing"
            )
            self.gathered.problem(line, reason)
            return []
        return self.chains[previous]


def _taken(items, given, line, role="user"):
    """Take in a text as a message of this role, or a list of items."""
    if isinstance(given, str):
        given = [{"type": "message", "role": role, "content": given}] if given else []
    found = parts.tried(parts.many, given, line, items.gathered.problems) or []
    for n, item in enumerate(found, 1):
        items.add(item, line, f"item {n}: ")


def _conversation(request):
    given = request.get("conversation")
    given = given.get("id") if isinstance(given, dict) else given
    return given if isinstance(given, str) else None


def _response(answer):
    found = wire.body(answer)
    return wire.of_responses(found) if isinstance(found, list) else found


def _tools(given):
    """JSON schemas, functions in the form of chat completions; those of the provider as they stand."""
    made = []
    for tool in parts.many(given):
        tool = parts.mapping(tool)
        if tool.get("type") == "function" and "function" not in tool:
            tool = {"type": "function", "function": {name: tool[name] for name in tool if name != "type"}}
        made.append(tool)
    return parts.tools(made) if made else None


def _usage(given, line, gathered):
    given = parts.tried(parts.mapping, given, line, gathered.problems, "usage: ") or {}
    details = [given.get(name) for name in ("input_tokens_details", "output_tokens_details")]
    read, wrote = (parts.tried(parts.mapping, one, line, gathered.problems, "usage: ") or {} for one in details)
    found = {"input": given.get("input_tokens"), "output": given.get("output_tokens")}
    return usage(
        found | {"cached": read.get("cached_tokens"), "thinking": wrote.get("reasoning_tokens")}, line, gathered
    )


ROLES = ("user", "assistant", "system", "developer")
MESSAGE = {"type": ("message",), "role": ROLES, "content": ...}
ITEMS = [MESSAGE, {"type": ("reasoning",), "summary": list}, {"type": tuple(CALLS), "status": str}]
ITEMS += [{"type": ("function_call", "custom_tool_call", *OUTPUTS), "call_id": str}]
ASKED = [{"input": [item]} for item in (*ITEMS, {"role": ROLES, "content": ...})]
ASKED += [{"input": str, "model": str}, {"input": str, "output": [{"type": str}]}, {"input": str, "instructions": str}]
ASKED += [{"input": ..., "previous_response_id": str}, {"input": str, "tools": list}]
ANSWER = {"object": ("response",), "output": [{"type": str}]}
ANSWERS = [{name: answer} for name in wire.ANSWERED for answer in (ANSWER, {"body": ANSWER})]
EVENT = {"type": re.compile("^response\\.(created|completed|output_item)")}
ANSWERS += [{"response": [EVENT]}, {"response": re.compile("^event: response\\.created")}]
ANSWERS += [{"response": {"body_raw": re.compile("^event: response\\.created")}}]
SIGNS = [*wire.homes(ASKED), *ANSWERS, ANSWER, EVENT | {"response": dict}, EVENT | {"item": dict}, *ITEMS]
SIGNS += [[one] for one in SIGNS]
FORMAT = Format("responses", "OpenAI Responses API: items, or requests and responses", SIGNS, read)
