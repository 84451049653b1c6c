"""LMSYS: rows of LMSYS-Chat-1M, of the Arena's battles and of WildChat, each conversation a thread.

From lm-sys/FastChat `fastchat/serve/monitor/clean_battle_data.py` and `clean_chat_data.py` (`conversation_a`, `winner`,
`tstamp`; `conversation`, `turn`, `redacted`, `openai_moderation`), and the cards of lmsys/lmsys-chat-1m,
lmarena-ai/arena-human-preference-140k and allenai/WildChat.
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, parts
from labkit.thinking.sessions.format import Format

REDACTED = "redacted: names stand as NAME_1 and the like, the words that were sent are not in the file"
IDS = ("conversation_id", "conversation_hash", "question_id", "id")
SIDES = {"conversation": ("", "model"), "conversation_a": (" a", "model_a"), "conversation_b": (" b", "model_b")}


def read(rows, gathered):
    """A row holds one conversation, or two that began with the same words."""
    found, taken = [], set()
    for line, row in rows:
        found += [(line, one) for one in (row if isinstance(row, list) else [row])]
    for n, (line, row) in enumerate(found, 1):
        row = parts.tried(parts.mapping, row, line, gathered.problems)
        if row is None:
            continue
        name = next((shown_id(row[key]) for key in IDS if isinstance(row.get(key), str | int)), str(n))
        name = f"{name} ({n})" if name in taken else name
        taken.add(name)
        if row.get("redacted") is True:
            gathered.tell_once(line, REDACTED)
        sides = [side for side in SIDES if side in row]
        if not sides:
            gathered.problem(line, "an object without a conversation")
        for side in sides:
            alone = len(found) == 1 and len(sides) == 1
            _conversation(row, side, line, gathered, "" if alone else name + SIDES[side][0])


def shown_id(value) -> str:
    """An id as a name."""
    return value if isinstance(value, str) else shown(value)


def _conversation(row, side, line, gathered, thread):
    turns = parts.tried(parts.many, row[side], line, gathered.problems, f"{side}: ") or []
    made, times, whole = [], [], parts.seconds(row.get("tstamp", row.get("timestamp")))
    for n, turn in enumerate(turns, 1):
        message = chats.message(turn, line, gathered, f"{side}, turn {n}: ")
        if message is not None:
            made.append(message)
            times.append(parts.seconds(turn.get("timestamp")) or whole)
    model = row.get(SIDES[side][1])
    model = model if isinstance(model, str) else None
    gathered.conversation(made, [line] * len(made), thread=thread, times=times, model=model)


SPOKEN = {"role": ("user", "assistant", "system"), "content": ...}
SIGNS = [{"conversation": [SPOKEN], "model": str}, {"conversation_a": [SPOKEN], "conversation_b": [SPOKEN]}]
SIGNS += [[sign] for sign in SIGNS]
FORMAT = Format("lmsys", "LMSYS-Chat, Arena and WildChat rows", tuple(SIGNS), read)
