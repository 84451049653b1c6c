"""SWE-agent trajectories: steps with the query that was sent, or, before 1.1, the history alone.

From SWE-agent/SWE-agent `sweagent/types.py` (`TrajectoryStep`, `HistoryItem`), `sweagent/agent/agents.py` (attempts,
requeries, demonstrations), `sweagent/agent/history_processors.py` and `docs/usage/trajectories.md` (1.0 kept, as
`messages`, the query of the next step). A query is what history processors made of the history: observations that they
elided are elided in it. Tools are not in the file.
"""

import collections

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, parts
from labkit.thinking.sessions.format import Format

WHOLE = "steps without their queries, as before SWE-agent 1.1: prompts are the history, in which nothing is elided"
ENDED = "steps that asked no model"
UNHEARD = "steps that are not in the history: what they sent is not in the file"
BEST = "a copy of the best attempt"


def read(rows, gathered):
    """One run, or one that was attempted several times: each attempt is a thread."""
    for line, row in rows:
        row = parts.tried(parts.mapping, row, line, gathered.problems)
        if row is None:
            continue
        attempts = parts.tried(parts.many, row.get("attempts"), line, gathered.problems, "attempts: ")
        for n, attempt in enumerate(attempts or [], 1):
            if (attempt := parts.tried(parts.mapping, attempt, line, gathered.problems, f"attempt {n}: ")) is not None:
                _run(attempt, line, gathered, f"attempt {n}" if len(attempts) > 1 else "", f"attempt {n}, ")
        if not attempts:
            _run(row, line, gathered, "", "")
        elif "trajectory" in row:
            gathered.leave_out(BEST)
    chats.toolless(gathered)


def _run(row, line, gathered, thread, where):
    history = _history(row.get("history"), line, gathered, where)
    steps = parts.tried(parts.many, row.get("trajectory"), line, gathered.problems, f"{where}trajectory: ") or []
    tried = lambda n, step: parts.tried(parts.mapping, step, line, gathered.problems, f"{where}step {n}: ")  # noqa: E731
    steps = [tried(n, step) for n, step in enumerate(steps, 1)]
    queries = [_query(step, before) for step, before in zip(steps, [None, *steps[:-1]], strict=True)] if steps else []
    if not any(queries):
        if any(step for step in steps):
            gathered.tell_once(line, WHOLE)
        _conversations(history, line, gathered, thread)
        _unheard(steps, history, line, gathered, thread)
        return
    replies = _Replies(history)
    for n, (step, query) in enumerate(zip(steps, queries, strict=True), 1):
        if step is None:
            continue
        if not query:
            gathered.leave_out(ENDED, step)
            continue
        sent = chats.messages([_plain(one) for one in query], line, gathered, f"{where}step {n}, ")
        gathered.call(sent, replies.of(step, line, gathered, f"{where}step {n}: "), line=line, thread=thread)


class _Replies:
    """The model's messages of a history, by what a step says of them: steps alone hold no calls and no thinking."""

    def __init__(self, history):
        self.known, self.at = collections.defaultdict(collections.deque), -1
        for i, (item, message) in enumerate(history):
            if message["role"] == "assistant" and item.get("is_demo") is not True:
                self.known[_said(item, item.get("content"))].append((i, message))

    def of(self, step, line, gathered, where):
        """The message of a step: the next one in the history that says the same, or its response alone."""
        found = self.known[_said(step, step.get("response"))]
        while found and found[0][0] <= self.at:
            found.popleft()
        if found:
            self.at, message = found.popleft()
            return message
        return chats.message({"role": "assistant", "content": step.get("response")}, line, gathered, where)


def _said(item, content):
    return tuple(str(one) for one in (content, item.get("thought"), item.get("action")))


def _query(step, before):
    """The messages that a step sent: its query, or what the step before it kept as the next one's; None for neither."""
    if isinstance(query := (step or {}).get("query"), list) and any(query):
        return query
    if before is not None and isinstance(kept := before.get("messages"), list) and kept:
        return kept
    own = (step or {}).get("messages")
    own = own if before is None and isinstance(own, list) else []
    return own[:-2] if len(own) > 2 and isinstance(own[-2], dict) and own[-2].get("role") == "assistant" else None


def _history(given, line, gathered, where):
    """(item, message) of a history."""
    items = parts.tried(parts.many, given, line, gathered.problems, f"{where}history: ") or []
    made = [chats.message(_plain(one), line, gathered, f"{where}item {n}: ") for n, one in enumerate(items, 1)]
    return [(item, message) for item, message in zip(items, made, strict=True) if message is not None]


def _conversations(history, line, gathered, thread):
    """The calls of every agent of a history; demonstrations were sent and are nobody's replies."""
    agents = list(dict.fromkeys(shown(item.get("agent")) for item, _ in history))
    for agent in agents:
        own = [(item, message) for item, message in history if shown(item.get("agent")) == agent]
        sent = gathered.kept([message for _, message in own])
        name = "" if len(agents) == 1 else agent.strip("'")
        for i, (item, message) in enumerate(own):
            if message["role"] == "assistant" and item.get("is_demo") is not True:
                gathered.call(sent[:i], message, line=line, thread=" ".join(filter(None, [thread, name])))


def _unheard(steps, history, line, gathered, thread):
    """Steps that no item of the history tells of: the last one asked with all of it, of the others nothing is known."""
    heard = {str(item.get("content")) for item, message in history if message["role"] == "assistant"}
    alone = [step for step in steps if step and step.get("response") and str(step["response"]) not in heard]
    for step in alone:
        if step is steps[-1] and len({shown(item.get("agent")) for item, _ in history}) == 1:
            reply = chats.message({"role": "assistant", "content": step["response"]}, line, gathered, "the last step: ")
            gathered.call(gathered.kept([message for _, message in history]), reply, line=line, thread=thread)
        else:
            gathered.leave_out(UNHEARD, step)


def _plain(item):
    """An item with what templates read of it: `tool_call_ids` and the like are the program's own."""
    if not isinstance(item, dict):
        return item
    names = ("role", "content", "tool_calls", "thinking_blocks", "reasoning_content")
    return {name: item[name] for name in names if item.get(name) is not None}


STEP = {"action": ..., "observation": ..., "response": ..., "thought": ...}
ITEM = {"role": str, "content": ..., "agent": ...}
RUN = {"trajectory": [STEP], "history": [ITEM]}
SIGNS = (RUN, {"trajectory": [STEP], "info": ...}, {"attempts": [RUN]}, {"history": [ITEM]})
FORMAT = Format("swe-agent", "SWE-agent trajectories", SIGNS, read)
