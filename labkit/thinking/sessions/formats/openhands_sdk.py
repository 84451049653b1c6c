"""OpenHands from 1.0, its software agent SDK: events of a conversation, and logs of completions.

From OpenHands/software-agent-sdk `openhands-sdk/openhands/sdk/event/` (kinds of events as messages, `condenser.py`),
`context/view/view.py`, `conversation/event_store.py` (`parent_id`, the tree), `llm/utils/telemetry.py` and `llm/llm.py`
(what is logged of a request), `openhands-tools/openhands/tools/terminal/definition.py` (what is told of a command).
"""

import dataclasses

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable, parsed

ROOT = "__root__"
SPOKEN = ("SystemPromptEvent", "MessageEvent", "ActionEvent", "ObservationEvent", "UserRejectObservation")
SPOKEN += ("AgentErrorEvent", "Condensation")
BARE = "tools without their schemas: counted by name and description alone"
FAILED = "requests that failed"
HELD = "events beside the requests that the file holds"
ERROR = "[An error occurred during execution.]\n"


def read(rows, gathered):
    """Requests, each a call, where the file holds any; else its events are one conversation, or a tree of it."""
    events, requests = [], 0
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            one = parts.tried(parts.mapping, one, line, gathered.problems)
            if one is None:
                continue
            home = next((name for name in ("events", "history", "items") if isinstance(one.get(name), list)), None)
            if "messages" in one or "instructions" in one:
                _completion(one, line, gathered)
                requests += 1
            elif home is not None:
                events += [(line, event) for event in one[home]]
            elif one.get("kind") == "LLMCompletionLogEvent":
                data = parts.tried(_log, one.get("log_data"), line, gathered.problems)
                if data is not None:
                    thread = one["usage_id"] if one.get("usage_id") not in ("agent", "default", None) else ""
                    _completion(data, line, gathered, thread if isinstance(thread, str) else "")
                    requests += 1
            else:
                events.append((line, one))
    if requests:
        for _, event in events:
            gathered.leave_out(HELD, event)
    else:
        tree = _Tree(gathered)
        for line, event in events:
            parts.tried(tree.add, event, line, gathered.problems, "", line)
        tree.close()
    chats.toolless(gathered)


def _log(text):
    return parts.mapping(parsed(text.encode())[0] if isinstance(text, str) and text.strip() else None)


def _completion(row, line, gathered, thread=""):
    """A request and its response, as they were sent: calls that are written into texts stay texts."""
    if row.get("response") is None:
        gathered.leave_out(FAILED, row)
        return
    response = row["raw_response"] if isinstance(row.get("raw_response"), dict) else row["response"]
    tools = None if "raw_messages" in row else _tools(row.get("tools"), line, gathered)
    if "messages" in row:
        sent = chats.messages(row["messages"], line, gathered)
    else:
        system = row.get("instructions")
        sent = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
        sent += parts.tried(chats.answered, row.get("input"), line, gathered.problems, "input: ", line, gathered) or []
    reply = chats.reply(response, line, gathered, "response: ")
    response = response if isinstance(response, dict) else {}
    model = response["model"] if isinstance(response.get("model"), str) else None
    more = {"time": parts.seconds(row.get("timestamp")), "usage": chats.billed(response.get("usage"), line, gathered)}
    gathered.call(sent, reply, line=line, tools=tools, thread=thread, model=model, **more)


def _tools(given, line, gathered):
    """Tools as they were sent, or as much as the file has of them."""
    made = []
    for one in parts.tried(parts.many, given, line, gathered.problems, "tools: ") or []:
        if isinstance(one, dict) and "function" not in one and "parameters" not in one:
            name = next((one[key] for key in ("name", "title", "kind") if isinstance(one.get(key), str)), "")
            words = one["description"] if isinstance(one.get("description"), str) else ""
            one = {"type": "function", "function": {"name": name, "description": words}}
            gathered.tell_once(line, BARE)
        made.append(one)
    return parts.tried(parts.tools, made or None, line, gathered.problems, "tools: ")


@dataclasses.dataclass(frozen=True)
class _Said:
    """An event in a view: its id, its message, and which response it is a part of."""

    name: object
    message: dict
    response: object = None


class _Tree:
    """Events that grow from one another: what is sent at a place is what its path holds, condensations applied."""

    def __init__(self, gathered):
        self.gathered, self.rows, self.last, self.view, self.tools = gathered, {}, None, [], None
        self.answered, self.metered, self.before = set(), None, {}
        self.waiting = None  # (response, what was sent, reply so far, what else is known) of the last call

    def add(self, event, line):
        """Take in an event; if it is the first of a reply, that is a call."""
        event = parts.mapping(event)
        kind, name = event.get("kind"), event.get("id")
        if not isinstance(kind, str) or not isinstance(name, str):
            raise Unreadable(f"no event: kind {shown(kind)}, id {shown(name)}")
        if name in self.rows:
            self.gathered.problem(line, f"an event of an id that was there before ({name[:40]}); the first counts")
            return
        if kind == "ConversationStateUpdateEvent":
            self._meter(event)
        parent = self.last if event.get("parent_id") is None else event["parent_id"]
        parent = parent if isinstance(parent, str) and parent != ROOT else None
        if parent != self.last:
            self._turn_to(parent, line)
        change = self._change(event, kind, line) if kind in SPOKEN else None
        self.rows[name], self.last = (parent, change), name
        if change is None:
            self.gathered.leave_out(f"events of kind {kind[:40]}", event)
        else:
            self.view = self._applied(self.view, change)

    def _turn_to(self, name, line):
        """Go on from another event: its path, anew."""
        path, seen, self.view = [], set(), []
        while name is not None and name not in seen:
            seen.add(name)
            if name not in self.rows:
                self.gathered.problem(line, f"its parent {name[:40]} is not in the file; read from here on")
                break
            path.append(self.rows[name][1])
            name = self.rows[name][0]
        for change in reversed(path):
            self.view = self.view if change is None else self._applied(self.view, change)

    def _change(self, event, kind, line):
        """What an event adds to a view, or the condensation that it is."""
        if kind == "Condensation":
            gone = {one for one in parts.many(event.get("forgotten_event_ids")) if isinstance(one, str)}
            summary, at = event.get("summary"), event.get("summary_offset")
            if summary is None or type(at) is not int:
                return gone, None, 0
            told = parts.message({"role": "user", "content": parts.words(summary)})
            return gone, _Said(f"{event['id']}-summary", told), at
        message = _message(event, kind, line, self.gathered)
        if kind == "SystemPromptEvent":
            self.tools = _tools(event.get("tools"), line, self.gathered)
        response = event["llm_response_id"] if isinstance(event.get("llm_response_id"), str) else event["id"]
        if message["role"] == "assistant" and (kind != "ActionEvent" or response not in self.answered):
            self._call(message, response, event, line)
        elif message["role"] == "assistant" and self.waiting and self.waiting[0] == response:
            self.waiting = (response, self.waiting[1], _both(self.waiting[2], message), self.waiting[3])
        return _Said(event["id"], message, response if kind == "ActionEvent" else None)

    def _applied(self, view, change):
        if isinstance(change, tuple):
            gone, summary, at = change
            view = [said for said in view if said.name not in gone]
            return view if summary is None else [*view[:at], summary, *view[at:]]
        view.append(change)
        return view

    def _call(self, message, response, event, line):
        """A call, which waits: further events of the response hold further calls of tools."""
        self.close()
        self.answered.add(response)
        more = {"time": parts.seconds(event.get("timestamp")), "usage": self._usage(line), "tools": self.tools}
        self.waiting = (response, self.gathered.kept(_joined(self.view)), message, {"line": line} | more)

    def close(self):
        """The reply that waits is whole."""
        if self.waiting is not None:
            _, sent, message, more = self.waiting
            self.gathered.call(sent, message, **more)
        self.waiting = None

    def _meter(self, event):
        """Keep what all calls so far were billed."""
        value = event["value"] if event.get("key") == "stats" and isinstance(event.get("value"), dict) else {}
        homes = value["usage_to_metrics"] if isinstance(value.get("usage_to_metrics"), dict) else {}
        for name in ("agent", "default"):
            metrics = homes[name] if isinstance(homes.get(name), dict) else {}
            now = metrics["accumulated_token_usage"] if isinstance(metrics.get("accumulated_token_usage"), dict) else {}
            now = {key: count for key, count in now.items() if type(count) is int}
            if now and now != self.before.get(name):
                before = self.before.get(name, {})
                self.metered = {key: count - before.get(key, 0) for key, count in now.items()}
                self.before[name] = now

    def _usage(self, line):
        """What was billed between the last two times that the file says; each is taken once."""
        given, self.metered = self.metered or {}, None
        names = {"input": "prompt_tokens", "output": "completion_tokens", "cached": "cache_read_tokens"}
        names |= {"written": "cache_write_tokens", "thinking": "reasoning_tokens"}
        return usage({ours: given.get(theirs) for ours, theirs in names.items()}, line, self.gathered)


def _message(event, kind, line, gathered):
    """The message of an event."""
    items = lambda *lists: [parts.mapping(one) for each in lists for one in parts.many(each)]  # noqa: E731
    if kind == "SystemPromptEvent":
        texts = [parts.mapping(event.get(name)).get("text") for name in ("system_prompt", "dynamic_context")]
        given = {"role": "system", "content": "".join(parts.words(text) for text in texts if text)}
    elif kind == "MessageEvent":
        said = parts.mapping(event.get("llm_message"))
        given = said | {"content": items(said.get("content"), event.get("extended_content"))}
        given.pop("tool_calls", None) if not said.get("tool_calls") else None
    elif kind == "ActionEvent":
        names = ("reasoning_content", "thinking_blocks")
        given = {"role": "assistant", "content": items(event.get("thought")), "tool_calls": [event.get("tool_call")]}
        given |= {name: event[name] for name in names if event.get(name)}
    elif kind == "ObservationEvent":
        seen = parts.mapping(event.get("observation"))
        content = items(seen.get("content"))
        if seen.get("kind") in ("TerminalObservation", "ExecuteBashObservation"):
            told = chats.command_output(_said(content), parts.mapping(seen.get("metadata")))
            content = [{"type": "text", "text": told}]
        head = [{"type": "text", "text": ERROR}] if seen.get("is_error") is True else []
        given = {"role": "tool", "content": [*head, *content, *items(event.get("extended_content"))]}
    elif kind == "UserRejectObservation":
        reason = parts.words(event.get("rejection_reason")) or "User rejected the action"
        given = {"role": "tool", "content": f"Action rejected: {reason}"}
    else:
        given = {"role": "tool", "content": parts.words(event.get("error"))}
    given["content"] = _imaged(given["content"])
    made = chats.message(given, line, gathered, f"{kind}: ")
    if made is None:
        raise Unreadable("left out")
    return made


def _imaged(content):
    """Items with a picture each, where one holds several."""
    if isinstance(content, str):
        return content
    made = []
    for one in content:
        urls = parts.many(one.get("image_urls"))
        made += [{"type": "image_url", "image_url": {"url": url}} for url in urls] if "image_urls" in one else [one]
    return made


def _said(content):
    """The texts of a content, joined."""
    return "".join(one["text"] for one in content if isinstance(one.get("text"), str))


def _joined(view):
    """Messages of a view: actions of one response are one, and what users say in a row too."""
    made, before = [], None
    for said in view:
        message = said.message
        if said.response is not None and before is not None and before.response == said.response:
            made[-1] = _both(made[-1], message)
        elif made and made[-1]["role"] == message["role"] == "user":
            made[-1] = _together(made[-1], message)
        else:
            made.append(message)
        before = said
    return made


def _both(one, other):
    """A reply with the calls of tools of two parts of it."""
    return one | {"tool_calls": [*one.get("tool_calls", []), *other.get("tool_calls", [])]}


def _together(one, other):
    texts = [message["content"] for message in (one, other)]
    if all(isinstance(text, str) for text in texts):
        return one | {"content": "".join(texts)}
    items = [[{"type": "text", "text": text}] if isinstance(text, str) else text for text in texts]
    return one | {"content": [item for each in items for item in each]}


EVENT = {"id": str, "timestamp": str, "source": ("agent", "user", "environment", "hook"), "kind": SPOKEN}
LOGGED = {"id": str, "kind": ("LLMCompletionLogEvent",), "log_data": str, "filename": ...}
SAID = {"role": ("system", "user", "assistant", "tool"), "content": ...}
LOG = {"messages": [SAID], "context_window": int, "kwargs": dict, "timestamp": ..., "latency_sec": ..., "cost": ...}
ITEMS = {"input": list, "llm_path": ("responses",), "instructions": ..., "context_window": int}
ANSWERED = LOG | {"response": {"choices": [{"message": dict}]}}
SIGNS = [EVENT, [EVENT], LOGGED, [LOGGED], LOG, [LOG], ANSWERED, [ANSWERED], ITEMS, [ITEMS]]
SIGNS += [{"history": [EVENT], "instance_id": str}, {"items": [EVENT], "next_page_id": ...}, {"events": [EVENT]}]
FORMAT = Format("openhands-sdk", "OpenHands SDK events, and its logs of completions", tuple(SIGNS), read)
