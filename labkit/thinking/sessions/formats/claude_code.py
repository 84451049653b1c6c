"""Claude Code: rows of one content block each, a tree by `uuid` and `parentUuid`; sub-agents have files of their own.

There is no published schema. Read from descriptions of the program and of its files (jeremedia/claude-code-log-format,
`source-docs/JSONL_LOGGING.md`; microsoft/amplifier, `ai_working/claude_code_logging`; alicoding/claude-parser,
`docs/JSONL-STRUCTURE.md`), and from its types as published with the Agent SDK.

    a reply         all rows of one `message.id`; a call of the model, sent the path from the root to its first row
    results         of tools hang on the row of their call, so that a path holds one of several: they are found by
                    `tool_use_id`, stand in the order of the calls, and were there before the next reply
    user's words    in a row, attachments among them, are one message, as they are sent
    compaction      `compact_boundary` is a new root; what it kept (`preservedSegment`) stands behind its summary
"""

import re

from labkit.errors import InputError
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.claude_rows import Log
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.rows import Blank, Unreadable, parsed

UNRECORDED = (
    "the system text, the tools and the project's CLAUDE.md are not in such a file: prompts are counted without"
)
CLEARED = {"role": "tool", "content": "[Old tool result content cleared]"}
SAFE = re.compile(r"[\w-]{1,64}")


def read(rows, gathered):
    """The calls of a file, then those of its sub-agents in the files beside it."""
    gathered.problem(0, UNRECORDED)
    log = _calls(rows, gathered, "")
    for path in _beside(gathered.path, log.sessions):
        name = path.stem.removeprefix("agent-")
        gathered.beside(path, lambda found, inner, name=name: _calls(found, inner, name))


def _calls(rows, gathered, thread):
    """Add the calls of rows; gives the rows."""
    log = Log(gathered, thread)
    log.read(rows)
    sent = Sent(log)
    for reply in log.replies.values():
        if (reason := reply.no_call()) is not None:
            gathered.leave_out(reason)
            continue
        messages, root = sent.messages(reply)
        name = f"sidechain {root[:8]}" if reply.thread is None else reply.thread
        more = dict(thread=name, time=reply.time, usage=reply.usage, model=reply.model)
        if gathered.call(messages, reply.message, line=reply.line, **more):
            sent.known[reply.name] = (gathered.calls[-1].sent, sent.open, root)
    return log


class Sent:
    """What was sent for a reply.

    Args:
        log: the rows.

    Attributes:
        known: by the id of the first row of a call's reply, what was sent for it, its calls of tools without a result
            by then, and the root of its path. open: these calls of the reply that was last asked for.
    """

    def __init__(self, log):
        self.log, self.joined, self.known, self.open = log, {}, {}, frozenset()

    def messages(self, reply):
        """(messages, id of the first row) of what was sent for a reply: on from the call before it on its path."""
        at, names = self.log.tree.since(reply.name, self.known)
        cut = [line for line, *_ in self.log.kept if line < reply.line]
        if at is None or self.log.cleared.keys() & set(names) or (cut and cut[-1] > self.log.tree.rows[at].line):
            names = self._path(reply)
            before, still, root = (), frozenset(), (names or [reply.name])[0]
        else:
            before, still, root = self.known[at]
        found = list(before)
        self.open = self._more(names, reply, found, set(still))
        return found, root

    def _path(self, reply):
        """Ids of the rows before a reply, with those that a compaction kept behind its summary."""
        path = self.log.tree.path(reply.name)[:-1]
        for line, anchor, head, tail in self.log.kept:
            if line > reply.line or tail not in self.log.tree.rows or anchor not in self.log.tree.rows:
                continue
            if anchor in path and head not in path:
                segment = self.log.tree.path(tail)
                at = path.index(anchor) + 1
                path = path[:at] + (segment[segment.index(head) :] if head in segment else []) + path[at:]
            elif head in path and tail in path and anchor not in path:
                path = self.log.tree.path(anchor) + path[path.index(head) :]
        return path

    def _more(self, names, answer, messages, still):
        """Add the messages of rows before an answer; gives the calls that have no result yet."""
        typed, done, on_path = [], set(), set(names)
        cleared = set().union(*(self.log.cleared.get(name, ()) for name in names))
        turns = [self.log.reply_of[name] for name in names if name in self.log.reply_of]
        turns = list({id(turn): turn for turn in turns}.values())
        until = {id(turn): later.line for turn, later in zip(turns, [*turns[1:], answer], strict=False)}
        for name in names:
            reply = self.log.reply_of.get(name)
            if reply is not None and reply is not answer and id(reply) not in done:
                done.add(id(reply))
                if not reply.failed and not reply.empty():
                    self._close(typed, messages)
                    messages.append(reply.message)
                    answers = self._answers(reply, on_path, until[id(reply)])
                    messages += [CLEARED if key in cleared else one for key, one in answers.items()]
                    still |= set(reply.ids) - set(answers)
            results, more = self.log.typed[name]
            for key, one in results:
                if key in still or key not in self.log.owned:
                    messages.append(CLEARED if key in cleared else one)
                    still.discard(key)
            typed += [(name, at) for at, (line, items) in enumerate(more) if items and line < answer.line]
        self._close(typed, messages)
        return frozenset(still)

    def _answers(self, reply, on_path, until):
        """Results of a reply's calls that were there in time, those on the path first, in the order of the calls."""
        found = {}
        for key in reply.ids:
            known = [(name not in on_path, line, one) for line, name, one in self.log.results.get(key, ())]
            known = [one for one in known if one[1] < until]
            if known:
                found[key] = min(known, key=lambda one: one[:2])[2]
        return found

    def _close(self, typed, messages):
        """Add what was typed as one message."""
        if typed:
            key = tuple(typed)
            if key not in self.joined:
                items = [item for name, at in typed for item in self.log.typed[name][1][at][1]]
                plain = all("text" in item for item in items)
                content = "\n".join(item["text"] for item in items) if plain else items
                made = parts.message({"role": "user", "content": content})
                self.joined[key] = self.log.gathered.kept([made])[0]
            messages.append(self.joined[key])
            typed.clear()


def _beside(path, sessions):
    """Files of the sub-agents of sessions: in the folder with them, or in one of their own."""
    if path.stem.startswith("agent-"):
        return []
    found = [one for one in sorted(path.parent.glob("agent-*.jsonl")) if _session(one) in sessions]
    for name in {path.stem: True} | sessions:
        if SAFE.fullmatch(name):
            found += sorted((path.parent / name / "subagents").glob("agent-*.jsonl"))
    return found


def _session(path):
    """The session that a file's first row names."""
    try:
        with path.open("rb") as file:
            row, _ = parsed(file.readline(2**20))
    except (OSError, Unreadable, Blank, InputError):
        return None
    name = row.get("sessionId") if isinstance(row, dict) else None
    return name if isinstance(name, str) else None


MESSAGE = {"content": ...}
SIGNS = (
    {"type": ("user", "assistant"), "sessionId": str, "message": MESSAGE},
    {"type": ("user", "assistant"), "session_id": str, "message": MESSAGE},
    {"type": ("user", "assistant"), "uuid": str, "parentUuid": ..., "message": MESSAGE},
    {"type": ("user", "assistant"), "message": {"role": ("user", "assistant"), "content": ...}},
    {"type": ("summary",), "summary": str, "leafUuid": str},
)
FORMAT = Format("claude-code", "Claude Code sessions", SIGNS, read)
