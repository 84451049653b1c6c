"""OpenAI chat completions: messages, one a line or in one document, or requests with or without their responses.

A row is a message; a request (`messages`), bare or under `request`, `body` or `request_body`, its response beside it,
in the next row, or as the chunks of a stream; or a response. What the bodies hold is read in `sessions.bodies`, which
names its sources; rows of messages alone are those of openai/openai-cookbook `How_to_format_inputs` and fine-tuning.

Three kinds of rows hold messages and no response. If they end with what was asked, they are requests, and a reply is
read off the next request of its conversation. If they end with the assistant's, and one begins with all of another,
they are pictures of a conversation that grows: of each the last message is the reply. Else each row is a conversation
of its own, as for fine-tuning.
"""

import dataclasses

from labkit.thinking.sessions import bodies, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.rows import Unreadable

HOMES = ("request", "request_body", "body")  # where a row keeps a request
ANSWERS = ("response", "response_body")
IDS = ("id", "request_id", "call_id", "trace_id")
FAILED = "requests that were answered by an error"
TWICE = "requests that are there twice, with the same response of the same id"
ALONE = "a response whose request is not the row before it"
PREFILLED = "it ends with the assistant's and does not say continue_final_message; read as a reply that was begun"


@dataclasses.dataclass
class Request:
    """A request: what was sent, its options, and its answer, or None where the row has none."""

    line: int
    sent: list[dict]
    options: dict
    continued: bool
    answer: bodies.Answer | None
    time: float | None
    name: str | None


def read(rows, gathered):
    """Requests are calls, each its own; messages outside of requests are one conversation."""
    log = Log(gathered)
    for line, row in rows:
        if not isinstance(row, list):
            log.take(row, line, "")
        elif row and all(isinstance(one, dict) and "role" in one for one in row):
            log.said += [(line, message) for message in bodies.messages(row, line, gathered)]
        else:
            for n, one in enumerate(row, 1):
                log.take(one, line, f"entry {n}: ")
    log.close()


class Log:
    """Rows of a log as they come."""

    def __init__(self, gathered):
        self.gathered, self.requests, self.said, self.chunks, self.waiting = gathered, [], [], [], {}
        self.answers = {}  # by the id of the response and what was sent
        self.last = None  # the request that the row before held, if it has no response yet

    def take(self, row, line: int, where: str) -> None:
        """One row of any kind."""
        gathered = self.gathered
        if not isinstance(row, dict):
            gathered.problem(line, f"{where}a {type(row).__name__} where an object is needed")
            return
        if self._chunk(row, line):
            return
        self._close_stream()
        home = parts.tried(_home, row, line, gathered.problems, where)
        if home is not None:
            self._request(row, home, line, where)
        elif row.get("role") is not None or not {"choices", "error", "object", *ANSWERS} & set(row):
            message = bodies.message(row, line, gathered, where)
            self.said += [(line, message)] if message is not None else []
        else:
            self._response(row, line, where)

    def close(self) -> None:
        """Make calls of what was found."""
        self._close_stream()
        requests, gathered = [one for one in self.requests if one is not None], self.gathered
        bare = [one for one in requests if one.answer is None]
        ended = {id(one) for one in bare if not one.continued and one.sent[-1]["role"] == "assistant"}
        chains, asked = Chains(requests), [one for one in bare if id(one) not in ended]
        each = len(ended) == len(requests) and not any(map(chains.extends, requests))
        if asked:
            found = chains.infer(asked)
            gathered.problem(0, f"requests without a response, {len(asked)}: of {found} a later one holds the reply")
        for n, one in enumerate(requests, 1):
            more = one.options | {"time": one.time}
            if each:
                thread = (one.name or str(n)) if len(requests) > 1 else ""
                gathered.conversation(one.sent, [one.line] * len(one.sent), thread=thread, **more)
            elif id(one) in ended:
                gathered.call(one.sent[:-1], one.sent[-1], line=one.line, **more)
            else:
                self._call(one, more)
        if requests and self.said:
            gathered.problem(self.said[0][0], "messages beside the requests of a log; read as a conversation apart")
        said, lines = [message for _, message in self.said], [line for line, _ in self.said]
        gathered.conversation(said, lines, thread="beside" if requests else "")

    def _call(self, one, more):
        if one.sent[-1]["role"] == "assistant" and not one.continued:
            self.gathered.tell_once(one.line, PREFILLED)
        answer = one.answer or bodies.Answer(None)
        more["time"] = answer.time if one.time is None else one.time
        more["model"] = more["model"] or answer.model
        self.gathered.call(one.sent, answer.reply, line=one.line, usage=answer.usage, **more)

    def _request(self, row, home, line, where):
        gathered = self.gathered
        sent = bodies.messages(home["messages"], line, gathered, where)
        self.last = None
        if not sent:
            gathered.problem(line, f"{where}a request without messages")
            return
        continued = home.get("continue_final_message") is True or _prefix(home["messages"])
        name = next((row[name] for name in IDS if isinstance(row.get(name), str)), None)
        options = bodies.options(home, line, gathered)
        one = Request(line, sent, options, continued, None, bodies.moment(row, home), name)
        self.requests.append(one)
        given = next((row[name] for name in ANSWERS if row.get(name) is not None), None)
        if given is None and any(row.get(name) is not None for name in ("choices", "error")):
            given = {name: value for name, value in row.items() if name not in (*HOMES, "messages")}
        if given is None:
            self.last, self.waiting[name] = len(self.requests) - 1, len(self.requests) - 1
        else:
            self._answer(len(self.requests) - 1, given, line, where)

    def _response(self, row, line, where):
        """A response in a row of its own: of the request before it, or of the one with its id."""
        given = next((row[name] for name in ANSWERS if row.get(name) is not None), row)
        names = [row[name] for name in IDS if isinstance(row.get(name), str) and row[name] in self.waiting]
        at = self.waiting.pop(names[0]) if names else self.last
        self.last = None
        if at is None:
            self.gathered.problem(line, where + ALONE)
        else:
            self._answer(at, given, line, where)

    def _answer(self, at, given, line, where):
        """Give a request its answer; one that failed is no call."""
        body = parts.tried(_body, given, line, self.gathered.problems, f"{where}response: ")
        if body is None:
            self.requests[at].answer = bodies.Answer(None)
        elif bodies.failed(body):
            self.gathered.leave_out(FAILED)
            self.requests[at] = None
        else:
            one, answer, name = self.requests[at], bodies.answer(body, line, self.gathered), body.get("id")
            key = (name, hash(tuple(map(id, one.sent)))) if isinstance(name, str) else id(one)
            if self.answers.setdefault(key, answer) == answer is not self.answers[key]:
                self.gathered.leave_out(TWICE)
                self.requests[at] = None
            else:
                one.answer = answer

    def _chunk(self, row, line):
        """Whether a row is a chunk of a stream, and is kept until its end."""
        found = row.get("object") == "chat.completion.chunk"
        if found:
            self.chunks.append((line, row))
        return found

    def _close_stream(self):
        chunks, self.chunks = self.chunks, []
        streams = {}
        for line, row in chunks:  # of several streams, whose chunks may take turns
            streams.setdefault(str(row.get("id")), []).append((line, row))
        for found in streams.values():
            line, first = found[0]
            whole = parts.tried(bodies.streamed, [row for _, row in found], line, self.gathered.problems, "a stream: ")
            self._response({"response": whole or {}, "id": first.get("id")}, line, "")


class Chains:
    """Which requests begin with all that another one sent.

    Args:
        requests: their messages are the same objects where they are equal.
    """

    def __init__(self, requests):
        self.requests, self.cores, self.ends = requests, {}, {}
        self.order = {id(one): n for n, one in enumerate(requests)}
        for n, one in enumerate(requests):
            self.ends.setdefault(self._marks(one.sent)[-1], n)

    def extends(self, one: Request) -> bool:
        """Whether an earlier request sent what this one begins with."""
        n = self.order[id(one)]
        return any(self.ends.get(mark, n) < n for mark in self._marks(one.sent)[:-1])

    def infer(self, bare: list[Request]) -> int:
        """Give requests without an answer the reply that a later one sends back; how many were found.

        The system's messages need not agree, if no request agrees in these too: clients write the time into them.
        """
        found, bare, waiting = 0, {id(one) for one in bare}, {}
        for one in self.requests:
            marks, loose = self._marks(one.sent), self._marks(one.sent, but="system")
            for at in range(1, len(one.sent)):
                if one.sent[at]["role"] == "assistant":
                    known = waiting.pop(marks[at - 1], None) or waiting.pop((loose[at - 1],), None)
                    if known is not None and known.answer is None:
                        known.answer, found = bodies.Answer(one.sent[at]), found + 1
            if id(one) in bare:
                waiting[marks[-1]] = waiting[loose[-1],] = one
        return found

    def _marks(self, sent, but=None):
        """A number for the beginning up to each message: who said which words and called which tools."""
        marks, mark = [], 0
        for message in sent:
            if id(message) not in self.cores:
                content = message["content"]
                words = content.strip() if isinstance(content, str) else repr(content)
                calls = repr(message.get("tool_calls") or None)
                self.cores[id(message)] = hash((message["role"], words, calls)), message
            if message["role"] != but:
                mark = hash((mark, self.cores[id(message)][0]))
            marks.append(mark)
        return marks


def _home(row):
    """The object of a row that holds a request's messages; None if there is none."""
    if "messages" in row:
        return row
    for name in HOMES:
        inner = row.get(name)
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            inner = bodies.mapping(inner)
        inner = inner.get("body", inner) if isinstance(inner, dict) else inner
        inner = bodies.mapping(inner) if isinstance(inner, str) and inner.lstrip().startswith("{") else inner
        if isinstance(inner, dict) and "messages" in inner:
            return inner
        if name == "request" and inner is not None and not isinstance(inner, dict):
            raise Unreadable(f"a request that is a {type(inner).__name__}")
    return None


def _body(given):
    """The body of a response, which may stand under `body` with the code of its status; words alone are its content."""
    if isinstance(given, dict) and isinstance(given.get("body"), dict | list | str):
        inner = _body(given["body"])
        return {name: given[name] for name in ("status_code", "error") if given.get(name) is not None} | inner
    try:
        return bodies.mapping(given)
    except Unreadable:
        if isinstance(given, str) and given and given[0] not in "{[":
            return {"role": "assistant", "content": given}
        raise


def _prefix(messages):
    """Whether the last message says that it was begun (DeepSeek's `prefix`, Mistral's too)."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and (last.get("prefix") is True or last.get("partial") is True)


MESSAGE, REQUEST = bodies.MESSAGE, bodies.REQUEST
ANSWERED = {"object": ("chat.completion", "chat.completion.chunk"), "choices": ...}
SIGNS = (MESSAGE, [MESSAGE], REQUEST, [REQUEST], ANSWERED, [ANSWERED])
SIGNS += tuple({name: REQUEST} for name in HOMES) + tuple([{name: REQUEST}] for name in HOMES)
SIGNS += ({"request": {"body": REQUEST}}, {"request_body": str, "response_body": str})
FORMAT = Format("openai", "OpenAI chat completions: messages, or requests and responses", SIGNS, read)
