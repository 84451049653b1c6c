"""ShareGPT: turns, each `{"from": who, "value": words}`, of one conversation, of a list of them, or of one a line.

From lm-sys/FastChat `docs/commands/data_cleaning.md` and `fastchat/data/` (human, gpt, system; ids),
hiyouga/LLaMA-Factory `data/README.md` (`function_call`, `observation`, `system` and `tools` beside the turns) and
OpenAccess-AI-Collective/axolotl `docs/dataset-formats/conversation.qmd` (role and content, `weight`).
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, parts, tags
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.rows import Unreadable

ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
ROLES |= dict.fromkeys(("chatgpt", "bing", "bard", "model", "bot"), "assistant")
ROLES |= dict.fromkeys(("tool", "observation", "function_response", "function-response", "ipython"), "tool")
CALLS = ("function_call", "function-call", "tool_call")
HOMES = ("conversations", "conversation", "items", "turns")


def read(rows, gathered):
    """Every conversation is a thread of its own, under its id or its number."""
    found = [(line, one) for line, row in rows for one in _conversations(row)]
    names = threads(row.get("id") if isinstance(row, dict) else None for _, row in found)
    for name, (line, row) in zip(names, found, strict=True):
        conversation(row, line, gathered, name, _turn)
    chats.toolless(gathered)


def threads(ids) -> list[str]:
    """A name for each conversation: its id, or its number where it has none or another has it already; "" for one."""
    ids, taken, names = list(ids), set(), []
    for n, name in enumerate(ids, 1):
        name = str(n) if not isinstance(name, str | int) or isinstance(name, bool) or name == "" else shown_id(name)
        names.append(name if name not in taken else f"{name} ({n})")
        taken.add(names[-1])
    return names if len(names) > 1 else [""] * len(names)


def shown_id(name: str | int) -> str:
    """An id as a name of a thread."""
    return name if isinstance(name, str) else shown(name)


def conversation(row, line: int, gathered, thread: str, turn) -> None:
    """Add the calls of one conversation.

    Args:
        row: a list of turns, or an object that holds them. turn: `(turn, line, gathered, where) -> messages`.
    """
    row = {"conversations": row} if isinstance(row, list) else parts.tried(parts.mapping, row, line, gathered.problems)
    if row is None:
        return
    home = next((name for name in HOMES if name in row), None)
    if home is None:
        gathered.problem(line, "an object without conversations")
        return
    turns = parts.tried(parts.many, row[home], line, gathered.problems, f"{home}: ") or []
    made = []
    for n, one in enumerate(turns, 1):
        where = f"turn {n}: "
        made += parts.tried(turn, one, line, gathered.problems, where, line, gathered, where) or []
    system = row.get("system") or row.get("system_prompt")
    if isinstance(system, str) and system.strip():
        made.insert(0, {"role": "system", "content": system})
    elif system:
        gathered.problem(line, f"system is {shown(system)}, no text")
    tools = parts.tried(_tools, row.get("tools"), line, gathered.problems, "tools: ")
    if tools and made and made[0]["role"] == "system" and "<tools>" in str(made[0]["content"]):
        gathered.leave_out("tools beside a system text that holds them")
        tools = None
    gathered.conversation(made, [line] * len(made), thread=thread, tools=tools)


def who(turn: dict) -> tuple[str, object]:
    """(who speaks, what) of a turn, under either pair of names.

    Raises:
        Unreadable: nobody who is known.
    """
    speaks, said = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if not isinstance(speaks, str) or (speaks not in ROLES and speaks not in CALLS):
        raise Unreadable(f"a turn from {shown(speaks)}, its value a {type(said).__name__}")
    return speaks, said


def called(said, speaks: str) -> list[dict]:
    """The message of a turn that is a call of a tool, or several.

    Raises:
        Unreadable: it is none.
    """
    given = tags.written(said) if isinstance(said, str) else said
    given = [parts.mapping(one) for one in (given if isinstance(given, list) else [given])]
    return [parts.message({"role": "assistant", "content": "", "tool_calls": given})]


def _conversations(row):
    """The conversations of a row: of a list of them each; a list of turns is one."""
    if not isinstance(row, list):
        return [row]
    turns = row and all(isinstance(one, dict) and ("from" in one or "role" in one) for one in row[:20])
    return [row] if turns else row


def _turn(turn, line, gathered, where):
    turn = parts.mapping(turn)
    speaks, said = who(turn)
    if speaks in CALLS:
        return called(said, speaks)
    if not isinstance(said, str):
        if "from" in turn:
            raise Unreadable(f"a turn from {shown(speaks)}, its value a {type(said).__name__}")
        made = chats.message(turn | {"role": ROLES[speaks]}, line, gathered, where)
        return [made] if made else []
    made = {"role": ROLES[speaks], "content": said}
    if made["role"] == "assistant":
        made |= tags.unthought(said)
    more = {name: turn[name] for name in parts.KEPT[2:] if turn.get(name) is not None}
    return [parts.message(more | made)]


def _tools(given):
    """Tools, as a text of JSON or as they are."""
    if isinstance(given, str):
        given = tags.written(given) if given.strip() else None
    given = [given] if isinstance(given, dict) else given
    return parts.tools(given)


TURN = {"from": str, "value": str}
SPOKEN = {"role": ("system", "user", "assistant", "tool", "human", "gpt"), "content": ...}
SIGNS = [{name: [TURN]} for name in ("conversations", "conversation", "items")]
SIGNS += [[sign] for sign in SIGNS] + [[TURN], [[TURN]], {"conversations": [{"from": ...}]}]
SIGNS += [{"conversations": [SPOKEN]}, [{"conversations": [SPOKEN]}]]
FORMAT = Format("sharegpt", "ShareGPT conversations", tuple(SIGNS), read)
