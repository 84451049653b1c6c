"""ShareGPT: turns, each `{"from": who, "value": words}`, of one conversation, of a list of them, or of one a line."""

from labkit.thinking.sessions import parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.rows import Unreadable

ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
ROLES |= {"tool": "tool", "observation": "tool", "function_response": "tool"}


def read(rows, gathered):
    """Every conversation is a thread of its own, under its id or its number."""
    found = [(line, one) for line, row in rows for one in (row if isinstance(row, list) else [row])]
    for n, (line, row) in enumerate(found, 1):
        row = parts.tried(parts.mapping, row, line, gathered.problems) or {}
        if "conversations" not in row:
            gathered.problem(line, "an object without conversations")
        turns = parts.tried(parts.many, row.get("conversations"), line, gathered.problems, "conversations: ") or []
        made = [parts.tried(_turn, turn, line, gathered.problems, f"turn {t}: ") for t, turn in enumerate(turns, 1)]
        made = [message for message in made if message is not None]
        name = row.get("id") if isinstance(row.get("id"), str) else str(n)
        gathered.conversation(made, [line] * len(made), thread=name if len(found) > 1 else "")


def _turn(turn):
    turn = parts.mapping(turn)
    who, said = turn.get("from"), turn.get("value")
    if not isinstance(who, str) or who not in ROLES or not isinstance(said, str):
        raise Unreadable(f"a turn from {parts.shown(who)}, its value a {type(said).__name__}")
    return parts.message({"role": ROLES[who], "content": said})


SIGNS = {"conversations": [{"from": str, "value": str}]}
FORMAT = Format("sharegpt", "ShareGPT conversations", (SIGNS, [SIGNS], {"conversations": [{"from": ...}]}), read)
