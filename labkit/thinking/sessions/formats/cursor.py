"""Cursor: exported rows of its database (composers and their bubbles), and transcripts of its agent.

Cursor publishes no types; read from the tests of programs that read it, S2thend/cursor-history among them.
`composerData:<composer>` holds the order of bubbles, `bubbleId:<composer>:<bubble>` one each: type 1 is the user's, 2
the assistant's with `text`, `thinking` and a tool under `toolFormerData`. A tool ends a reply, unless the next one
names the same `modelCallId`. Both hold conversations: what the program adds to a request is not in them.
"""

import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import blocks, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Blank, Unreadable, parsed

UNKNOWN = "the system text, tools and what the program adds to a question, which the file does not hold"
SILENT = "results of tools are not in this file: what was sent behind a call of a tool was longer"
ORDERS = ("fullConversationHeadersOnly", "conversation", "bubbles", "messages")


def read(rows, gathered):
    """Every composer is a thread; rows of transcripts are one conversation."""
    home, said, lines = Bubbles(gathered), [], []
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            if isinstance(one, dict) and isinstance(one.get("message"), dict) and "role" in one:
                made = blocks.messages(one["message"] | {"role": one["role"]}, line, gathered)
                said += made
                lines += [line] * len(made)
            elif isinstance(one, dict) and one.get("type") == "turn_ended":
                gathered.leave_out("ends of turns")
            elif isinstance(one, dict):
                home.take(one, line)
            else:
                gathered.problem(line, f"a {type(one).__name__} where an object is needed")
    if any(one.get("tool_calls") for one in said) and not any(one["role"] == "tool" for one in said):
        gathered.problem(0, SILENT)
    gathered.conversation(said, lines)
    home.close()
    gathered.leave_out(UNKNOWN)


class Bubbles:
    """Composers, and bubbles by composer and id."""

    def __init__(self, gathered):
        self.gathered, self.orders, self.bubbles, self.models = gathered, {}, {}, {}

    def take(self, row, line):
        """A row of any kind: a key and its value, many of them in one object, a composer, a bubble."""
        if isinstance(row.get("key"), str) and "value" in row:
            self._keyed(row["key"], row["value"], line)
        elif any(name.startswith(("composerData:", "bubbleId:")) for name in row):
            for name, value in row.items():
                self._keyed(name, value, line)
        elif isinstance(row.get("composer"), dict) and isinstance(row.get("bubbles"), list):
            self._composer(row["composer"] | {"bubbles": row["bubbles"]}, line)
        elif isinstance(row.get("allComposers"), list):
            for one in row["allComposers"]:
                self._composer(one, line)
        elif any(isinstance(row.get(name), list) for name in ORDERS):
            self._composer(row, line)
        else:
            self._bubble("", row, line)

    def close(self):
        """The conversations of all composers."""
        for name in dict.fromkeys([*self.orders, *self.bubbles]):
            known = self.bubbles.get(name, {})
            order = [one for one in self.orders.get(name, []) if one in known]
            missing = len(self.orders.get(name, [])) - len(order)
            if missing:
                self.gathered.problem(0, f"composer {name[:40]}: {missing} bubbles that are not in the file")
            rest = set(known) - set(order)
            if order and rest:
                self.gathered.leave_out("bubbles that their composer does not name")
            thread = name if len(set(self.orders) | set(self.bubbles)) > 1 else ""
            self._told([known[one] for one in order or _timely(known)], thread, self.models.get(name))

    def _keyed(self, key, value, line):
        kind, _, name = key.partition(":")
        if kind not in ("composerData", "bubbleId"):
            self.gathered.leave_out("rows of the database that are no conversation")
            return
        value = parts.tried(_value, value, line, self.gathered.problems, f"{key[:60]}: ")
        if value is None:
            return
        if kind == "composerData":
            self._composer({"composerId": name} | value, line)
        else:
            self._bubble(name.partition(":")[0], {"bubbleId": name.rpartition(":")[2]} | value, line)

    def _composer(self, given, line):
        given = parts.tried(parts.mapping, given, line, self.gathered.problems, "a composer: ") or {}
        name = given["composerId"] if isinstance(given.get("composerId"), str) else ""
        config = given["modelConfig"] if isinstance(given.get("modelConfig"), dict) else {}
        self.models[name] = config.get("modelName") if isinstance(config.get("modelName"), str) else None
        inline = given.get("conversationMap") if isinstance(given.get("conversationMap"), dict) else {}
        for bubble, value in inline.items():
            if isinstance(value, dict):
                self._bubble(name, {"bubbleId": bubble} | value, line)
        given = next((given[one] for one in ORDERS if isinstance(given.get(one), list) and given[one]), [])
        for one in given:
            one = parts.tried(parts.mapping, one, line, self.gathered.problems, "a bubble: ") or {}
            if {"text", "thinking", "toolFormerData"} & set(one):
                self._bubble(name, one, line)
            if isinstance(one.get("bubbleId"), str):
                self.orders.setdefault(name, []).append(one["bubbleId"])
                kind = one.get("type")
                if one["bubbleId"] in inline and kind is not None:
                    self.bubbles[name][one["bubbleId"]][1].setdefault("type", kind)

    def _bubble(self, name, bubble, line):
        known = self.bubbles.setdefault(name, {})
        own = bubble["bubbleId"] if isinstance(bubble.get("bubbleId"), str) else f"line {line}, {len(known)}"
        if own in known:
            self.gathered.problem(line, f"bubble {own[:40]} for the second time; the first counts")
        else:
            known[own] = (line, bubble)

    def _told(self, bubbles, thread, model):
        """The conversation of bubbles in their order."""
        said, lines, usages, times, before = [], [], [], [], None
        for line, bubble in bubbles:
            kind = bubble.get("type")
            if kind not in (1, 2, "user", "assistant") or isinstance(kind, bool):
                self.gathered.problem(line, f"a bubble of unknown type {shown(kind)}")
                continue
            made, call = parts.tried(_read, bubble, line, self.gathered.problems, "a bubble: ") or ([], None)
            billed = _usage(bubble, line, self.gathered) if kind in (2, "assistant") else None
            parallel = call is not None and call == before and len(made) > 1 and not made[0]["content"]
            last = said[-1] if said else None
            if parallel:  # the same reply called two tools
                reply = next(one for one in reversed(said) if one["role"] == "assistant")
                reply["tool_calls"] += made[0]["tool_calls"]
                made = made[1:]
            elif made and last and made[0]["role"] == last["role"] == "assistant" and "tool_calls" not in last:
                for name in ("reasoning_content", "content"):
                    both = [one for one in (last.get(name), made[0].get(name)) if one]
                    if both:
                        last[name] = "\n\n".join(both)
                if "tool_calls" in made[0]:
                    last["tool_calls"] = made[0]["tool_calls"]
                usages[-1] = billed or usages[-1]
                made = made[1:]
            elif not made:
                self.gathered.leave_out("bubbles without words")
            before = call
            said += made
            lines += [line] * len(made)
            usages += [billed] * len(made)
            times += [parts.seconds(bubble.get("createdAt"))] * len(made)
        self.gathered.conversation(said, lines, thread=thread, model=model, usages=usages, times=times)


def _value(value):
    """A value of the database, which may be JSON in a text, twice."""
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = parsed(value.encode())[0]
            except Blank:
                value = None
    return parts.mapping(value)


def _timely(known):
    """Bubbles by their times, if each has one; else as they come."""
    times = {name: parts.seconds(bubble.get("createdAt")) for name, (_, bubble) in known.items()}
    return sorted(known, key=times.get) if all(time is not None for time in times.values()) else list(known)


def _read(bubble):
    """(messages, the id of the model's call) of a bubble: what was said, and the result of its tool."""
    text = bubble.get("text")
    if not isinstance(text, str | None):
        raise Unreadable(f"text is a {type(text).__name__}")
    if bubble.get("type") in (1, "user"):
        return ([{"role": "user", "content": text}] if text else []), None
    thought = bubble.get("thinking")
    thought = thought.get("text") if isinstance(thought, dict) else thought
    reply = {"role": "assistant", "content": text or ""} | ({"reasoning_content": thought} if thought else {})
    tool = parts.mapping(bubble.get("toolFormerData"))
    if not tool:
        return ([parts.message(reply)] if text or thought else []), None
    arguments = next((tool[name] for name in ("rawArgs", "params") if tool.get(name)), None)
    name = tool["name"] if isinstance(tool.get("name"), str) else str(tool.get("tool"))
    reply["tool_calls"] = [parts.call(name, arguments)]
    shows = tool.get("result", tool.get("error"))
    if isinstance(shows, dict):
        shows = shows.get("content", shows.get("output"))
    call = tool.get("modelCallId")
    made = [parts.message(reply)]
    if shows is not None:
        made.append({"role": "tool", "content": parts.result(shows)})
    return made, (call if isinstance(call, str) and call else None)


def _usage(bubble, line, gathered):
    """What a bubble says of its call; zeros are no count."""
    count = parts.tried(parts.mapping, bubble.get("tokenCount"), line, gathered.problems, "tokenCount: ") or {}
    if not any(count.get(name) for name in ("inputTokens", "outputTokens")):
        return None
    return usage({"input": count.get("inputTokens"), "output": count.get("outputTokens")}, line, gathered)


BUBBLE = {"type": (1, 2), "bubbleId": str}
KEY = {"key": re.compile("^(composerData|bubbleId):"), "value": ...}
COMPOSERS = [{"composerId": str, name: [{"bubbleId": str}]} for name in ("fullConversationHeadersOnly", "conversation")]
COMPOSERS += [{"composerId": str, "conversation": [{"type": (1, 2), "text": str}]}, {"allComposers": COMPOSERS[1:]}]
COMPOSERS += [{"composer": {"composerId": str}, "bubbles": [{"type": (1, 2)}]}]
AGENT = {"role": ("user", "assistant"), "message": {"content": [{"type": str}]}}
SIGNS = [BUBBLE | {"text": str}, BUBBLE | {"toolFormerData": dict}, BUBBLE | {"thinking": dict}, KEY, *COMPOSERS, AGENT]
SIGNS += [[one] for one in SIGNS] + [AGENT | {"message": {"content": str}}]
FORMAT = Format("cursor", "Cursor's conversations (exported rows, or transcripts of its agent)", SIGNS, read)
