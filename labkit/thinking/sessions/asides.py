"""What stands in the files beside a history of Cline or Roo: `ui_messages.json` says of each request what was billed,
when it was made and what was cut off.

Read from cline/cline `src/shared/ExtensionMessage.ts`, `src/core/task/index.ts` (a request is announced before its
message joins the history: its `conversationHistoryIndex` is two less than that of the reply) and
`src/core/context/context-management/ContextManager.ts`, and RooCodeInc/Roo-Code `packages/types/src/message.ts`.
"""

import dataclasses

from labkit.errors import InputError
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.gathering import Gathered, usage
from labkit.thinking.sessions.record import Usage
from labkit.thinking.sessions.rows import Blank, Problems, Unreadable, parsed, rows

HISTORY, SHOWN, CHANGED = "api_conversation_history.json", "ui_messages.json", "context_history.json"
ALONE = "usage and cuts, which stand in ui_messages.json: it is not beside this file"
UNKNOWN = "the system text and tools, which these files do not hold"
NOT_APPLIED = f"{CHANGED} beside it changes messages before they are sent (notices, files read twice): not applied"


@dataclasses.dataclass
class Request:
    """A request as the window of the program showed it.

    Attributes:
        time: seconds since 1970. at: index of its reply in the history, or None. usage: what was billed. cut: (first,
            last) message of the history that was left out of it, or None.
    """

    time: float | None
    at: int | None
    usage: Usage | None
    cut: tuple[int, int] | None = None


def requests(gathered: Gathered, times: dict[int, float | None]) -> dict[int, Request]:
    """The requests of the file beside a history, by the index of their replies.

    Args:
        gathered: of the history. times: of its replies, by their indices.
    """
    gathered.leave_out(UNKNOWN)
    path = gathered.path.parent / SHOWN
    if gathered.path.name != HISTORY or not path.is_file():
        gathered.leave_out(ALONE)
        return {}
    gathered.along.append(path)
    if (gathered.path.parent / CHANGED).is_file():
        gathered.problem(0, NOT_APPLIED)
    found, problems = [], Problems()
    inner = Gathered(problems, path)
    try:
        for line, row in rows(path, problems):
            _read(row, line, inner, found)
    except InputError as error:
        inner.problem(0, f"{error.what} ({error.got})")
    for line, reason in problems.all():
        gathered.problem(0, f"{path.name}, line {line}: {reason}")
    return _placed(found, times, gathered)


def _read(row, line, inner, found):
    """Requests of the list of what was shown; the cut that stands last before the next one is that of a request."""
    for one in row if isinstance(row, list) else [row]:
        one = parts.tried(parts.mapping, one, line, inner.problems) or {}
        if one.get("say") == "api_req_started":
            time, at = parts.seconds(one.get("ts")), one.get("conversationHistoryIndex")
            told = parts.tried(_told, one.get("text"), line, inner.problems) or {}
            found.append(Request(time, at + 2 if type(at) is int else None, _usage(told, line, inner)))
        cut = one.get("conversationHistoryDeletedRange")
        if found and isinstance(cut, list) and len(cut) == 2 and all(type(i) is int and i >= 0 for i in cut):
            found[-1].cut = tuple(cut)


def _told(text):
    """What a request told in its text."""
    try:
        return parts.mapping(parsed(text.encode())[0]) if isinstance(text, str) else {}
    except Blank:
        return {}


def _usage(told, line, inner):
    """What was billed; the input is all of the prompt."""
    cached, written, whole = (told.get(name) for name in ("cacheReads", "cacheWrites", "tokensIn"))
    if type(whole) is int and told.get("apiProtocol") != "openai":  # there the cached ones are among them
        whole += sum(count for count in (cached, written) if type(count) is int)
    found = {"input": whole, "cached": cached, "written": written, "output": told.get("tokensOut")}
    return usage(found, line, inner)


def _placed(found, times, gathered):
    """Requests by the index of the reply that each led to: by the time, the index that it gave, or the order."""
    if all(time is not None for time in times.values()) and all(one.time is not None for one in found):
        placed, waiting = {}, list(found)
        for at, time in times.items():
            before = [one for one in waiting if one.time <= time]
            if before:
                placed[at], waiting = before[-1], waiting[len(before) :]
        return placed
    placed = {one.at: one for one in found if one.at in times}
    if not placed and len(found) == len(times):
        placed = dict(zip(times, found, strict=True))
    if len(placed) < len(times):
        reason = (
            f"{SHOWN}: {len(found)} requests, of which {len(placed)} belong to the {len(times)} replies of this file"
        )
        gathered.problem(0, reason)
    return placed


def history(row, line: int, gathered: Gathered) -> list[dict]:
    """The entries of a history: a list, or under `messages`."""
    if isinstance(row, dict):
        row = row.get("messages", row)
    row = row if isinstance(row, list) else [row]
    return [one for one in (parts.tried(_entry, one, line, gathered.problems) for one in row) if one is not None]


def _entry(one):
    if not isinstance(one, dict):
        raise Unreadable(f"a {type(one).__name__} where an object is needed")
    return one
