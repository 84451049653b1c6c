"""Rollouts of Codex: items of the Responses API as they were sent and said, a row each.

Read from openai/codex: `codex-rs/protocol/src/models.rs` and `protocol.rs` (RolloutItem, CompactedItem,
TokenCountEvent), `codex-rs/rollout/src/policy.rs` (what is written), `codex-rs/core/src/compact.rs` and the
reconstruction of rollouts (what a compaction leaves). A reply ends where something else follows, or where tokens are
counted, once for each sampling; the count may stand before its items or behind them. Rollouts of before September 2025
are bare items.
"""

import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.items import Items
from labkit.thinking.sessions.rows import Unreadable

ENVELOPES = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")
CONTEXT = ("<environment_context>", "<user_instructions>", "# AGENTS.md instructions", "<turn_aborted>", "<skill>")
CONTEXT += ("<user_shell_command>", "<permissions instructions>", "<subagent_notification>")
REPEATS = ("user_message", "agent_message", "agent_reasoning", "agent_reasoning_raw_content")
ASIDE = ("world_state", "token_usage_record", "realtime_item", "inter_agent_communication_metadata", "ghost_commit")
UNANSWERED = "messages behind the last reply"
UNKNOWN = "the system text and tools, which the file does not hold"
REBUILT = "a compaction that does not say what it left: read as what the user said and the summary, as the program does"


def read(rows, gathered):
    """Items make the history; what the model said since is a call of what stood before."""
    rollout = Rollout(gathered)
    for line, row in rows:
        if not isinstance(row, dict):
            gathered.problem(line, f"a {type(row).__name__} where an object is needed")
        elif isinstance(row.get("payload"), dict) and isinstance(row.get("type"), str):
            rollout.take(row["type"], row["payload"], line, parts.seconds(row.get("timestamp")))
        elif "record_type" in row:
            gathered.leave_out("a state of the program")
        elif "type" not in row and "instructions" in row:
            rollout.take("session_meta", row, line, None)
        elif "payload" in row:
            gathered.problem(line, f"a row without a payload: {shown(row['payload'])}")
        else:
            rollout.take("response_item", row, line, parts.seconds(row.get("timestamp")))
    rollout.close()


class Rollout:
    """The history as it grows.

    Attributes:
        items: what was sent and said so far. reply: (index, line, time) of the one that grows. said: calls whose usage
            may still come. raw: thoughts that an event tells and an item does not.
    """

    def __init__(self, gathered):
        self.gathered, self.items, self.reply, self.said = gathered, Items(gathered), None, None
        self.system, self.known, self.model, self.thinks = [], False, None, None
        self.usage, self.counted, self.raw = None, None, []

    def take(self, kind: str, holds: dict, line: int, time: float | None) -> None:
        """One row."""
        if kind == "response_item":
            self._item(holds, line, time)
        elif kind == "event_msg":
            self._event(holds, line)
        elif kind == "session_meta":
            self._meta(holds, line)
        elif kind == "turn_context":
            self.model = holds["model"] if isinstance(holds.get("model"), str) else self.model
            self.thinks = False if holds.get("effort") == "none" else None
            self.gathered.leave_out("settings of a turn")
        elif kind == "compacted":
            self._compacted(holds, line)
        elif kind in ASIDE:
            self.gathered.leave_out(f"rows of type {kind}")
        else:
            self.gathered.problem(line, f"a row of unknown type {shown(kind)}")

    def close(self) -> None:
        """The file is at its end."""
        self._ended()
        self._told()
        for one in reversed(self.items.messages):
            if one["role"] == "assistant":
                break
            self.gathered.leave_out(UNANSWERED)
        if not self.known:
            self.gathered.leave_out(UNKNOWN)

    def _item(self, item, line, time):
        self.items.add(item, line)
        grows = self.items.reply
        if self.reply is not None and grows is not self.items.messages[self.reply[0]]:
            self._ended()
        if self.reply is None and grows is not None:
            self._told()
            self.reply = len(self.items.messages) - 1, line, time

    def _ended(self):
        """The reply that grew is complete: a call, which waits for its usage. Whether it showed something."""
        if self.reply is None:
            return True
        (at, line, time), self.reply = self.reply, None
        messages, raw = self.items.messages, "\n\n".join(self.raw)
        reply = messages[at]
        self.items.close()
        self.raw = []
        if raw:
            reply["reasoning_content"] = raw
        if not any(reply.get(name) for name in ("content", "reasoning_content", "tool_calls")):
            self.gathered.leave_out("replies that were broken off before they said anything")
            del messages[at]
            return False
        self.said = [*self.system, *messages[:at]], reply, line, time, self.model, self.thinks
        if self.usage is not None:
            self._told()
        return True

    def _told(self):
        """Hand on the call that waited."""
        if self.said is None:
            return
        (sent, reply, line, time, model, thinks), self.said = self.said, None
        billed, self.usage = self.usage, None
        self.gathered.call(sent, reply, line=line, time=time, model=model, enable_thinking=thinks, usage=billed)

    def _event(self, event, line):
        kind = event.get("type")
        if kind == "token_count":
            self._count(event.get("info"), line)
        elif kind == "agent_reasoning_raw_content" and isinstance(event.get("text"), str):
            self.raw.append(event["text"])
        elif kind == "thread_rolled_back":
            self._rolled_back(event.get("num_turns"), line)
        elif not isinstance(kind, str):
            self.gathered.problem(line, f"an event of type {shown(kind)}")
        else:
            what = "events that repeat items" if kind in REPEATS else "events of the program"
            self.gathered.leave_out(what)

    def _count(self, info, line):
        """Usage of a sampling: of the reply so far, if there is one without any, or of the next."""
        info = parts.tried(parts.mapping, info, line, self.gathered.problems, "token_count: ") or {}
        total, last = (info.get(name) for name in ("total_token_usage", "last_token_usage"))
        if not isinstance(last, dict) or (total is not None and total == self.counted):
            self.gathered.leave_out("counts of tokens that repeat the one before, or hold none")
            return
        self.counted = total
        found = {"input": last.get("input_tokens"), "cached": last.get("cached_input_tokens")}
        found |= {"output": last.get("output_tokens"), "thinking": last.get("reasoning_output_tokens")}
        if self._ended():
            self.usage = usage(found, line, self.gathered)
            self._told()

    def _meta(self, meta, line):
        if self.known or self.items.messages:
            self.gathered.leave_out("the head of a session that this one was forked from")
            return
        base = meta.get("base_instructions")
        base = base.get("text") if isinstance(base, dict) else base
        if isinstance(base, str):
            self.system, self.known = [{"role": "system", "content": base}], True
        elif base is not None:
            self.gathered.problem(line, f"base_instructions are a {type(base).__name__}")

    def _compacted(self, holds, line):
        """What follows a compaction was sent with what it left."""
        self._ended()
        self._told()
        left = holds.get("replacement_history")
        before, self.items = self.items.messages, Items(self.gathered)
        if left is not None:
            found = parts.tried(parts.many, left, line, self.gathered.problems, "replacement_history: ") or []
            for n, item in enumerate(found, 1):
                item = item["item"] if isinstance(item, dict) and isinstance(item.get("item"), dict) else item
                self.items.add(item, line, f"replacement_history, item {n}: ")
        elif (summary := parts.tried(_summary, holds, line, self.gathered.problems)) is not None:
            self.gathered.problem(line, REBUILT)
            self.items.messages = [one for one in before if one["role"] in ("system", "user")]
            self.items.messages.append({"role": "user", "content": summary})
        else:
            self.items.messages = before
        self.items.close()

    def _rolled_back(self, turns, line):
        """The last questions and what followed them are taken back."""
        self._ended()
        self._told()
        messages = self.items.messages
        asked = [i for i, one in enumerate(messages) if one["role"] == "user" and not _context(one)]
        if type(turns) is not int or turns < 1:
            self.gathered.problem(line, f"thread_rolled_back by {shown(turns)} turns")
        else:
            stop = asked[max(0, len(asked) - turns)] if asked else 0
            self.items = Items(self.gathered, messages[:stop])
            self.gathered.leave_out("turns that were taken back: what follows is sent without them")


def _summary(holds):
    if not isinstance(summary := holds.get("message"), str):
        raise Unreadable(f"a compaction without a summary: {shown(summary)}")
    return summary


def _context(message):
    """Whether the program wrote a user's message."""
    return isinstance(message["content"], str) and message["content"].lstrip().startswith(CONTEXT)


HEAD = {"id": re.compile("^[0-9a-f-]{36}$"), "timestamp": re.compile("^20..-"), "instructions": ...}
SIGNS = ({"timestamp": str, "type": ENVELOPES, "payload": {"type": str}}, {"type": ENVELOPES, "payload": dict}, HEAD)
FORMAT = Format("codex", "Codex rollouts", SIGNS, read)
