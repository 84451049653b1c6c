"""The rows of a file of Claude Code taken in: a tree, its replies, and what stands beside them.

`formats.claude_code` tells how the rows hang together and makes calls of them.
"""

import dataclasses

from labkit.thinking.messages import shown
from labkit.thinking.sessions import attachments, parts
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable
from labkit.thinking.sessions.trees import Row, Rows

INTERRUPTED = "[Request interrupted by user]"
UNSEEN = "thinking that is redacted or encrypted, left out"
SENT = ("user", "assistant", "attachment")
LEFT = {"summary": "titles of conversations", "file-history-snapshot": "copies of files for undoing"}
LEFT |= {
    "progress": "the progress of a tool",
    "queue-operation": "the queue of typed commands; what was sent of it is in",
}


@dataclasses.dataclass
class Reply:
    """A reply: where it begins, what it says, the ids of its calls, and what keeps it from being one."""

    line: int
    name: str
    thread: str
    message: dict
    ids: list = dataclasses.field(default_factory=list)
    usage: object = None
    model: str | None = None
    time: float | None = None
    failed: bool = False  # an error stands in its place: it is not sent either
    made: bool = False  # the client wrote it
    interrupted: bool = False

    def no_call(self) -> str | None:
        """Why it is no call of the model, if it is none."""
        if self.failed:
            return "a reply that is an error of the API"
        if self.made:
            return "a reply that the client made up; it is sent and is no call"
        if self.empty():
            return "an empty reply"
        return "an interrupted reply; it is sent and is no call" if self.interrupted and not self.ids else None

    def empty(self) -> bool:
        """Whether it says nothing."""
        return not any(self.message.get(name) for name in ("content", "reasoning_content", "tool_calls"))


class Log:
    """The rows of a file.

    Args:
        gathered: of the file. thread: what rows without a thread of their own belong to.

    Attributes:
        tree: the rows. sessions: names. replies, reply_of: by message id, and by the uuid of their rows.
        results, owned: [(line, uuid, message)] by the id of a call of a tool, and the ids of calls.
        typed: by uuid, ([(id of a call or None, its result)], [(line, items of a user's message)]).
        cleared: ids of calls whose results were cleared, by the uuid of the row that says so.
        kept: (line, anchor, head, tail) of what compactions kept.
    """

    def __init__(self, gathered, thread=""):
        self.gathered, self.thread, self.tree = gathered, thread, Rows(gathered)
        self.before, self.sessions, self.replies, self.reply_of = {}, {}, {}, {}
        self.results, self.owned, self.typed, self.cleared, self.kept = {}, set(), {}, {}, []
        self.queue, self.taken, self.said, self.last = [], [], set(), None

    def read(self, rows):
        """Take rows in."""
        for line, row in rows:
            parts.tried(self._take, row, line, self.gathered.problems, "", line)
        for line, behind, text in self.taken:
            if text not in self.said:
                self.typed[behind][1].append((line, attachments.queued(text)))

    def _take(self, row, line):
        row = parts.mapping(row)
        kind, inner = row.get("type"), row.get("message")
        if not isinstance(kind, str):
            raise Unreadable(f"a line of unknown type {shown(kind)}")
        for key in ("sessionId", "session_id"):
            if isinstance(row.get(key), str):
                self.sessions[row[key]] = True
        if kind == "queue-operation":
            self._queued(row, line)
        if kind not in (*SENT, "system") and row.get("uuid") is None:
            if inner is not None and kind not in LEFT:
                raise Unreadable(f"a line of unknown type {shown(kind)}")
            self.gathered.leave_out(LEFT.get(kind, f"a note of the client ({kind})"))
            return
        aside, thread = self._thread(row)
        holds = row.get("attachment") if kind == "attachment" else inner if kind in SENT else row.get("content")
        name = self._name(row, line)
        if not self.tree.add(name, Row(line, self._parent(row, aside, line), (kind, holds))):
            return
        self.before[aside] = name
        self.typed[name] = ([], [])
        self.last = name if not aside else self.last
        self._held(row, name, line, thread)

    def _held(self, row, name, line, thread):
        """What a row of the tree says."""
        kind, subtype = row["type"], row.get("subtype")
        if kind == "assistant":
            self._reply(row, name, line, thread)
        elif kind == "user":
            self._user(row, name, line)
        elif kind == "attachment":
            items, reason = attachments.items(parts.mapping(row.get("attachment")))
            self.typed[name][1].append((line, items))
            self.said.add(str(parts.mapping(row.get("attachment")).get("prompt")))
            if reason is not None and items:
                self.gathered.problem(line, reason)
            elif reason is not None:
                self.gathered.leave_out(reason)
        elif kind == "system" and subtype == "local_command":
            self.typed[name][1].append((line, [{"type": "text", "text": parts.words(row.get("content"))}]))
        elif kind == "system" and subtype == "compact_boundary":
            self._boundary(row, line)
        elif kind == "system" and subtype == "microcompact_boundary":
            ids = parts.many(parts.mapping(row.get("microcompactMetadata")).get("compactedToolIds"))
            self.cleared[name] = {one for one in ids if isinstance(one, str)}
        elif isinstance(row.get("message"), dict) and kind not in LEFT:
            raise Unreadable(f"a line of unknown type {shown(kind)}")
        else:
            note = f"{kind}: {subtype}" if isinstance(subtype, str) else kind
            self.gathered.leave_out(LEFT.get(kind, f"a note of the client ({note})"))

    def _thread(self, row):
        """(what tells the rows of a thread from others, its name or None)."""
        for key in ("isSidechain", "isMeta"):
            if not isinstance(row.get(key) or False, bool):
                raise Unreadable(f"{key} is {shown(row[key])}, not true or false")
        names = [row[key] for key in ("agentId", "parent_tool_use_id") if isinstance(row.get(key), str)]
        if not row.get("isSidechain") and not (names and row.get("parent_tool_use_id")):
            return "", self.thread
        return (names[0], names[0]) if names else ("sidechain", self.thread or None)

    def _name(self, row, line):
        name = row.get("uuid")
        if name is not None and not isinstance(name, str):
            self.gathered.problem(line, f"an id that is no text: {shown(name)}")
        return name if isinstance(name, str) else f"line {line}"

    def _parent(self, row, aside, line):
        """The id of the row before: a compaction begins anew, and a row that names none follows the last."""
        if row.get("subtype") == "compact_boundary":
            return None
        parent = row.get("parentUuid", self.before.get(aside))
        if parent is not None and not isinstance(parent, str):
            self.gathered.problem(line, f"a parentUuid that is no text: {shown(parent)}")
            parent = self.before.get(aside)
        if row.get("isCompactSummary") is True and parent in self.tree.rows:
            before = self.tree.rows[parent]
            if before.holds[0] != "system" or before.parent is not None:
                return None  # of the time before boundaries were written
        return parent

    def _boundary(self, row, line):
        told = parts.mapping(row.get("compactMetadata"))
        for key in ("preservedSegment", "preservedMessages"):
            kept = parts.mapping(told.get(key))
            ids = [kept.get(name) for name in ("anchorUuid", "headUuid", "tailUuid")]
            names = [one for one in parts.many(kept.get("uuids")) if isinstance(one, str)]
            ids = [ids[0], names[0], names[-1]] if names else ids
            if all(isinstance(one, str) for one in ids):
                self.kept.append((line, *ids))

    def _queued(self, row, line):
        """Commands leave the queue in order: `dequeue` for a row of its own, `remove` into the turn that runs."""
        operation, content = row.get("operation"), row.get("content")
        if operation == "enqueue" and isinstance(content, str):
            self.queue.append(content)
        elif operation == "popAll":
            self.queue.clear()
        elif operation in ("dequeue", "remove") and self.queue:
            at = self.queue.index(content) if content in self.queue else 0
            text = self.queue.pop(at)
            if operation == "remove" and self.last is not None:
                self.taken.append((line, self.last, text))

    def _user(self, row, name, line):
        inner = row.get("message")
        if not isinstance(inner, dict) or "content" not in inner:
            raise Unreadable("a user line without a message")
        items = []
        for block in parts.blocks(inner["content"]):
            if block.get("type") == "tool_result":
                key = block.get("tool_use_id") if isinstance(block.get("tool_use_id"), str) else None
                shows = self._shows(block.get("content"), line)
                if shows is not None:
                    result = self.gathered.kept([parts.message({"role": "tool", "content": shows})])[0]
                    self.typed[name][0].append((key, result))
                    self.results.setdefault(key, []).append((line, name, result))
                continue
            found = parts.tried(parts.result, [block], line, self.gathered.problems)
            items += [{"type": "text", "text": found}] if isinstance(found, str) else found or []
        self.typed[name][1].append((line, items))
        self.said |= {item["text"] for item in items if "text" in item}
        reply = self.reply_of.get(self.tree.rows[name].parent)
        if reply is not None and [item.get("text") for item in items] == [INTERRUPTED]:
            reply.interrupted = True

    def _shows(self, content, line):
        """What a result shows; blocks of it that cannot be read are problems of their own."""
        if not isinstance(content, list):
            return parts.tried(parts.result, content, line, self.gathered.problems, "a result: ")
        read = [parts.tried(parts.result, [block], line, self.gathered.problems, "a result: ") for block in content]
        good = [block for block, shows in zip(content, read, strict=True) if shows is not None]
        return parts.result(good) if good or not content else None

    def _reply(self, row, name, line, thread):
        inner = row.get("message")
        if not isinstance(inner, dict) or "content" not in inner:
            raise Unreadable("an assistant line without a message")
        if (own := inner.get("id")) is not None and not isinstance(own, str):
            raise Unreadable(f"a message id that is no text: {shown(own)}")
        key = (thread, own) if own else name
        if key not in self.replies:
            self.replies[key] = Reply(line, name, thread, {"role": "assistant", "content": ""})
            self.replies[key].time = parts.seconds(row.get("timestamp"))
        reply = self.reply_of[name] = self.replies[key]
        for block in parts.blocks(inner["content"]):
            blank = block.get("type") == "thinking" and block.get("thinking") == "" and block.get("signature")
            if block.get("type") == "redacted_thinking" or blank:
                self.gathered.unseen(line, UNSEEN)
                continue
            calls = len(reply.message.get("tool_calls", ()))
            parts.tried(parts.added, block, line, self.gathered.problems, "", reply.message)
            if len(reply.message.get("tool_calls", ())) > calls and isinstance(block.get("id"), str):
                reply.ids.append(block["id"])
                self.owned.add(block["id"])
        reply.model = inner["model"] if isinstance(inner.get("model"), str) else reply.model
        reply.usage = _usage(inner.get("usage"), line, self.gathered) or reply.usage
        reply.made |= reply.model == "<synthetic>"
        error = reply.made and reply.message["content"].startswith("API Error")
        reply.failed |= bool(row.get("isApiErrorMessage")) or error


def _usage(given, line, gathered):
    given = given if isinstance(given, dict) else {}
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    fresh, cached, written = (given.get(name) for name in names)
    known = [number for number in (fresh, cached, written) if number is not None]
    whole = sum(known) if known and all(type(number) is int for number in known) else fresh
    found = {"input": whole, "cached": cached, "written": written, "output": given.get("output_tokens")}
    return usage(found, line, gathered)
