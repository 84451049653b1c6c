"""mini-swe-agent trajectories: messages, each reply with the response that it came from.

From SWE-agent/mini-swe-agent `src/minisweagent/agents/default.py` (`serialize`, the role `exit`),
`models/litellm_model.py` (`extra.response`, `extra.timestamp`; a response that could not be used stands beside the
complaint about it), `models/litellm_response_model.py` (a message that is a response with output) and
`docs/usage/output_files.md`. Tools are not in the file.
"""

import re

from labkit.thinking.sessions import chats, parts
from labkit.thinking.sessions.format import Format

ENDED = "the end of a run, which is sent to nobody"


def read(rows, gathered):
    """Every object is a run; of several each is a thread."""
    found = [(line, one) for line, row in rows for one in (row if isinstance(row, list) else [row])]
    for n, (line, row) in enumerate(found, 1):
        if (row := parts.tried(parts.mapping, row, line, gathered.problems)) is not None:
            name = row["instance_id"] if isinstance(row.get("instance_id"), str) else str(n)
            _run(row, line, gathered, name if len(found) > 1 else "")
    chats.toolless(gathered)


def _run(row, line, gathered, thread):
    given = parts.tried(parts.many, row.get("messages"), line, gathered.problems, "messages: ") or []
    sent, model = [], _model(row)
    for n, one in enumerate(given, 1):
        where = f"message {n}: "
        one = parts.tried(parts.mapping, one, line, gathered.problems, where)
        if one is None:
            continue
        if one.get("role") == "exit":
            gathered.leave_out(ENDED)
            continue
        extra = parts.tried(parts.mapping, one.get("extra"), line, gathered.problems, where + "extra: ") or {}
        made = parts.tried(_messages, one, line, gathered.problems, where, line, gathered) or []
        response = extra["response"] if isinstance(extra.get("response"), dict) else {}
        came = made[0] if made and made[0]["role"] == "assistant" else None
        refused = not came and bool(response.get("choices") or response.get("output"))
        if came or refused:
            reply = came or chats.reply(response, line, gathered, where)
            billed = one.get("usage") if one.get("object") == "response" else response.get("usage")
            more = {"time": parts.seconds(extra.get("timestamp")), "model": model, "thread": thread}
            gathered.call(sent, reply, line=line, usage=chats.billed(billed, line, gathered), **more)
        sent += gathered.kept(made)


def _messages(one, line, gathered):
    """The messages that one of the file stands for: itself, or the items of a response."""
    if one.get("object") == "response":
        return chats.answered(one.get("output"), line, gathered)
    if one.get("type") == "function_call_output":
        return chats.answered([one], line, gathered)
    message = chats.message(one, line, gathered)
    return [message] if message else []


def _model(row):
    """The name of the model, from the settings of a run."""
    for name in ("info", "config", "model"):
        row = row.get(name) if isinstance(row.get(name), dict) else {}
    return row["model_name"] if isinstance(row.get("model_name"), str) else None


SAID = {"role": ("system", "user", "assistant", "tool"), "content": ...}
RUN = {"messages": [SAID], "trajectory_format": re.compile("^mini-swe-agent")}
OLDER = {"messages": [SAID], "info": {"exit_status": ..., "submission": ...}}
SIGNS = (RUN, OLDER, [RUN])
FORMAT = Format("mini-swe", "mini-swe-agent trajectories", SIGNS, read)
