"""OpenHands up to 1.0: logs of completions, which are the requests, and streams of events.

From All-Hands-AI/OpenHands `openhands/llm/llm.py` (`log_completions`), `openhands/memory/conversation_memory.py`
(events as messages), `openhands/memory/view.py` and `openhands/events/action/agent.py` (condensation),
`openhands/events/serialization/event.py` and `openhands/controller/state/state_tracker.py` (which events are history).
Reasoning comes back and is never sent again: `ConversationMemory` keeps content and calls alone.
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable

UNKEPT = ("null", "change_agent_state", "agent_state_changed")  # events that are no part of an agent's history
SILENT = ("recall", "condensation_request", "pause", "resume", "stop", "start", "reject", "loop_recovery")
RECALLED = "what was recalled of the repository is sent in words that are not in the file: left out"
DELEGATED = "what a delegate does is read as if it were its caller's"
FAILED = "requests that failed"


def read(rows, gathered):
    """Completions, each a call; events, one conversation, or one for each row that holds its history."""
    alone = None
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            one = parts.tried(parts.mapping, one, line, gathered.problems)
            if one is None:
                continue
            home = next((name for name in ("history", "trajectory", "events") if isinstance(one.get(name), list)), None)
            if isinstance(one.get("messages"), list):
                _completion(one, line, gathered)
            elif home is not None:
                thread = one["instance_id"] if isinstance(one.get("instance_id"), str) else ""
                stream = _Stream(gathered, thread)
                for event in one[home]:
                    parts.tried(stream.add, event, line, gathered.problems, "an event: ", line)
            else:
                alone = alone or _Stream(gathered, "")
                parts.tried(alone.add, one, line, gathered.problems, "", line)
    chats.toolless(gathered)


def _completion(row, line, gathered):
    """A request and its response, as they were sent: calls that are written into texts stay texts."""
    if row.get("response") is None:
        gathered.leave_out(FAILED, row)
        return
    kwargs = parts.tried(parts.mapping, row.get("kwargs"), line, gathered.problems, "kwargs: ") or {}
    tools = parts.tried(parts.tools, kwargs.get("tools"), line, gathered.problems, "tools: ")
    response = parts.tried(parts.mapping, row["response"], line, gathered.problems, "response: ") or {}
    reply = chats.reply(response, line, gathered, "response: ")
    model = next((name for name in (kwargs.get("model"), response.get("model")) if isinstance(name, str)), None)
    more = {"time": parts.seconds(row.get("timestamp")), "usage": chats.billed(response.get("usage"), line, gathered)}
    gathered.call(chats.messages(row["messages"], line, gathered), reply, line=line, tools=tools, model=model, **more)


class _Stream:
    """A history of events that grows, and the messages that it stands for."""

    def __init__(self, gathered, thread):
        self.gathered, self.thread, self.tools, self.events = gathered, thread, None, []
        self.summary, self.answered = None, set()  # (message, where it stands); ids of responses that were counted

    def add(self, event, line):
        """Take in an event; if it is the first of a reply, that is a call."""
        event = parts.mapping(event)
        kind = event.get("action", event.get("observation"))
        if not isinstance(kind, str):
            raise Unreadable(f"no event: action {shown(kind)}")
        args = parts.mapping(event.get("args" if "action" in event else "extras"))
        if kind in UNKEPT or args.get("hidden") is True:
            self.gathered.leave_out("events that are no part of the history", event)
        elif kind == "condensation":
            self._condense(args, line)
        elif "action" in event:
            self._act(event, kind, args, line)
        else:
            self._observe(event, kind, args, line)

    def _act(self, event, kind, args, line):
        response = parts.mapping(parts.mapping(event.get("tool_call_metadata")).get("model_response"))
        by_agent = event.get("source") == "agent"
        message, again = None, isinstance(response.get("id"), str) and response["id"] in self.answered
        if kind == "system":
            self.tools = parts.tools(args.get("tools")) or self.tools
            message = parts.message({"role": "system", "content": args.get("content")})
        elif response and by_agent:
            reply = chats.reply(response, line, self.gathered)
            if reply is not None and not again:
                self.answered |= {response["id"]} if isinstance(response.get("id"), str) else set()
                self._call(reply, response, event, line)
            message = reply and {name: value for name, value in reply.items() if name != "reasoning_content"}
            if kind == "finish" and message:
                said, thought = message["content"], parts.words(args.get("thought"))
                thought = said if not thought else thought if thought == said else f"{thought}\n{said}"
                message = {"role": "assistant", "content": thought}
        elif kind in ("message", "finish"):
            said = args.get("content") if kind == "message" else args.get("thought")
            message = parts.message({"role": "assistant" if by_agent else "user", "content": _pictured(said, args)})
            if by_agent:
                self._call(message, {}, event, line)
        elif kind == "run" and not by_agent:
            message = {"role": "user", "content": f"User executed the command:\n{parts.words(args.get('command'))}"}
        elif kind not in SILENT:
            self.gathered.problem(
                line, f"an action {kind} of {shown(event.get('source'))} without a response; left out"
            )
        asks = [call.get("id") for call in _calls(response) if isinstance(call.get("id"), str)]
        asks = asks if kind != "finish" and by_agent and message and not again else []
        self._keep(event, None if again else message, asks=asks)

    def _observe(self, event, kind, extras, line):
        said = parts.words(event.get("content"))
        called = parts.mapping(event.get("tool_call_metadata")).get("tool_call_id")
        called = called if isinstance(called, str) else None
        if kind == "run":
            said = chats.command_output(said, parts.mapping(extras.get("metadata")))
            said = said if called else f"\nObserved result of command executed by user:\n{said}"
        elif kind == "error":
            said += "\n[Error occurred in processing last action]"
        elif kind == "user_rejected":
            said = f"OBSERVATION:\n{said}\n[Last action has been rejected by the user]"
        elif kind == "delegate":
            said = parts.words(parts.mapping(extras.get("outputs")).get("content", said))
        elif kind == "recall":
            self.gathered.tell_once(line, RECALLED)
        if kind in ("recall", "loop_detection"):
            self._keep(event, None)
        else:
            self._keep(event, {"role": "tool" if called else "user", "content": said}, gives=called)

    def _keep(self, event, message, asks=(), gives=None):
        """Hold an event: its message, the calls that it makes, or the one that it answers."""
        message = message and self.gathered.kept([message])[0]
        self.events.append((event.get("id"), message, asks, gives))

    def _condense(self, args, line):
        """Forget events, and let a summary stand where the condensation says."""
        ids, ends = (
            args.get("forgotten_event_ids"),
            (args.get("forgotten_events_start_id"), args.get("forgotten_events_end_id")),
        )
        if ids is None and all(type(end) is int for end in ends):
            gone = lambda name: type(name) is int and ends[0] <= name <= ends[1]  # noqa: E731
        else:
            known = {name for name in parts.many(ids) if isinstance(name, int | str)}
            gone = lambda name: isinstance(name, int | str) and name in known  # noqa: E731
        self.events = [entry for entry in self.events if not gone(entry[0])]
        summary, offset = args.get("summary"), args.get("summary_offset")
        if summary is not None and type(offset) is int:
            self.summary = ((None, {"role": "user", "content": parts.words(summary)}, (), None), offset)
        self.gathered.leave_out("condensations, which are counted as what they left", args)

    def _call(self, reply, response, event, line):
        billed = (
            chats.billed(response["usage"], line, self.gathered)
            if response.get("usage")
            else self._metered(event, line)
        )
        model = response["model"] if isinstance(response.get("model"), str) else None
        more = {"time": parts.seconds(event.get("timestamp")), "thread": self.thread, "model": model, "usage": billed}
        self.gathered.call(self._sent(), reply, line=line, tools=self.tools, **more)

    def _metered(self, event, line):
        """Usage of the last response that the metrics of an event tell of."""
        metrics = event["llm_metrics"] if isinstance(event.get("llm_metrics"), dict) else {}
        known = metrics["token_usages"] if isinstance(metrics.get("token_usages"), list) else []
        last = known[-1] if known and isinstance(known[-1], dict) else {}
        found = {"input": last.get("prompt_tokens"), "output": last.get("completion_tokens")}
        found |= {"cached": last.get("cache_read_tokens"), "written": last.get("cache_write_tokens")}
        return usage(found, line, self.gathered)

    def _sent(self):
        """Messages of the events that are kept: calls of tools with all their results, or not at all."""
        events = list(self.events)
        if self.summary:
            events.insert(self.summary[1], self.summary[0])
        given, pending, made = {}, [], []
        for _, message, asks, gives in events:
            if asks:
                pending.append((message, asks))
            elif gives is not None:
                given[gives] = message
            elif message:
                made.append(message)
            for whole in [one for one in pending if all(call in given for call in one[1])]:
                made += [whole[0], *(given[call] for call in whole[1])]
                pending.remove(whole)
        return made


def _calls(response):
    """Calls of tools of a response."""
    choices = parts.many(response.get("choices"))
    said = parts.mapping(parts.mapping(choices[0]).get("message")) if choices else {}
    return [parts.mapping(call) for call in parts.many(said.get("tool_calls"))]


def _pictured(said, args):
    """Words, with the pictures that go with them."""
    urls = [url for url in parts.many(args.get("image_urls")) if isinstance(url, str)]
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"type": "text", "text": parts.words(said)}, *pictures] if pictures else parts.words(said)


SAID = {"role": ("system", "user", "assistant", "tool"), "content": ...}
LOG = {"messages": [SAID], "response": ..., "kwargs": dict, "timestamp": ..., "cost": ...}
ACTION = {"source": ("agent", "user", "environment"), "action": str, "args": dict, "id": int}
OBSERVED = {"source": ("agent", "user", "environment"), "observation": str, "extras": dict, "id": int}
ANSWERED = LOG | {"response": {"choices": [{"message": dict}]}}
SIGNS = [LOG, [LOG], ANSWERED, [ANSWERED], ACTION, [ACTION], OBSERVED, [OBSERVED]]
SIGNS += [{"history": [ACTION], "instance_id": str}, {"trajectory": [ACTION]}, {"events": [ACTION]}]
FORMAT = Format("openhands", "OpenHands logs of completions, and its events", tuple(SIGNS), read)
