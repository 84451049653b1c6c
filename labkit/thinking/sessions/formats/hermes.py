"""Hermes: conversations whose texts hold calls and results in tags, and sessions of Hermes Agent.

From NousResearch/Hermes-Function-Calling `README.md` and the rows of NousResearch/hermes-function-calling-v1 (ShareGPT
with `<tools>` in the system's text, `tools` as JSON beside it) and NousResearch/hermes-agent: `run_agent.py`
(`_convert_to_trajectory_format`, `_save_session_log`) and `gateway/run.py` (rows that begin with `session_meta`).
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, parts, tags
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.formats import sharegpt
from labkit.thinking.sessions.rows import Unreadable


def read(rows, gathered):
    """Conversations each in a thread of its own; a session is one."""
    found, said, times, lines, meta = [], [], [], [], {}
    for line, row in rows:
        if isinstance(row, dict) and isinstance(row.get("messages"), list):
            _session(row, line, gathered)
        elif isinstance(row, dict) and row.get("role") == "session_meta":
            meta = row
        elif isinstance(row, dict) and "role" in row and "conversations" not in row:
            if (message := _message(row, line, gathered)) is not None:
                said, lines, times = [*said, message], [*lines, line], [*times, parts.seconds(row.get("timestamp"))]
        else:
            found += [(line, one) for one in (row if isinstance(row, list) else [row])]
    names = sharegpt.threads(row.get("id") if isinstance(row, dict) else None for _, row in found)
    for name, (line, row) in zip(names, found, strict=True):
        sharegpt.conversation(row, line, gathered, name, _turn)
    if said:
        tools = parts.tried(parts.tools, meta.get("tools"), 1, gathered.problems, "tools: ")
        model = meta["model"] if isinstance(meta.get("model"), str) else None
        gathered.conversation(said, lines, tools=tools, times=times, model=model)
    chats.toolless(gathered)


def _session(row, line, gathered):
    """The calls of a session that is one object."""
    made = chats.messages(row["messages"], line, gathered)
    if isinstance(row.get("system_prompt"), str) and row["system_prompt"].strip():
        made.insert(0, {"role": "system", "content": row["system_prompt"]})
    tools = parts.tried(parts.tools, row.get("tools"), line, gathered.problems, "tools: ")
    model = row["model"] if isinstance(row.get("model"), str) else None
    gathered.conversation(made, [line] * len(made), tools=tools, model=model)


def _message(row, line, gathered):
    thought = any(row.get(name) for name in ("reasoning", "reasoning_content"))
    if row.get("role") == "assistant" and not thought:
        if isinstance(row.get("content"), str):
            row = row | tags.unthought(row["content"])
        elif row.get("codex_reasoning_items") or row.get("reasoning_details"):
            gathered.tell_once(line, chats.SECRET)
            gathered.unseen_thinking = True
    return chats.message(row, line, gathered)


def _turn(turn, line, gathered, where):
    turn = parts.mapping(turn)
    speaks, said = sharegpt.who(turn)
    if speaks in sharegpt.CALLS:
        return sharegpt.called(said, speaks)
    if not isinstance(said, str):
        raise Unreadable(f"a turn from {shown(speaks)}, its value a {type(said).__name__}")
    role = sharegpt.ROLES[speaks]
    if role == "assistant":
        return [parts.message(tags.assistant(said, line, gathered, where))]
    if role == "tool" or (role == "user" and said.lstrip().startswith(tags.RESPONSE[0])):
        return [parts.message({"role": "tool", "content": one}) for one in tags.results(said)]
    return [parts.message({"role": role, "content": said})]


TAGGED = {"conversations": [{"from": str, "value": tags.ANY}]}
SESSION = {"session_id": str, "system_prompt": str, "messages": [{"role": str}], "platform": ...}
META = {"role": ("session_meta",), "tools": list, "model": ...}
SIGNS = (TAGGED, [TAGGED], SESSION, META, {"role": ("session_meta",), "model": str, "timestamp": ...})
FORMAT = Format("hermes", "Hermes conversations with tags, and sessions of Hermes Agent", SIGNS, read)
