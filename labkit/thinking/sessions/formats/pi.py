"""pi, the coding agent: rows in a tree by `id` and `parentId`; of the first version in a line.

Read from badlogic/pi-mono, `packages/coding-agent/src/core/session-manager.ts` (rows, versions 1 to 3, and what a
context is made of), `core/messages.ts` (how rows that are no messages are sent), `packages/ai/src/types.ts` (blocks and
usage) and `packages/ai/src/providers/transform-messages.ts` (what becomes of failed replies, of calls without a result
and of another model's thinking).

    compaction      what follows is its summary, the rows from `firstKeptEntryId` (version 1: `firstKeptEntryIndex`) up
                    to it, and what came after it
    stopReason      "error" and "aborted" are no calls, and are not sent

The system text and the tools are not in such a file.
"""

import dataclasses

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable
from labkit.thinking.sessions.trees import Row, Rows

COMPACTED = (
    "The conversation history before this point was compacted into the following summary:\n\n<summary>\n",
    "\n</summary>",
)
BRANCHED = (
    "The following is a summary of a branch that this conversation came back from:\n\n<summary>\n",
    "</summary>",
)
MISSING = {"role": "tool", "content": "No result provided"}
UNSEEN = "thinking that is redacted or encrypted, left out"
LEFT = {"session": "heads of sessions", "custom": "data of extensions"}
LEFT |= {"model_change": "changes of the model", "thinking_level_change": "changes of the thinking level"}
LEFT |= {"label": "labels", "session_info": "names of sessions"}


@dataclasses.dataclass
class Entry:
    """What a row says: a message, of a reply also as another model is told it, or a compaction's summary."""

    message: dict | None = None
    told: dict | None = None
    by: tuple = ()
    calls: tuple = ()
    answers: str | None = None
    keeps: object = None
    reply: dict | None = None


def read(rows, gathered):
    """Every reply is a call; sent was the path from the root to it, as compactions left it."""
    log = Log(gathered)
    for line, row in rows:
        parts.tried(log.take, row, line, gathered.problems, "", line)
    known = {}
    for name, entry in log.entries.items():
        if entry.reply is None:
            continue
        at, names = log.tree.since(name, known)
        if at is None or known[at][2] != entry.by or any(log.entries[one].keeps is not None for one in names):
            at, names = None, log.tree.path(name)[:-1]
        before, waiting, _ = known.get(at, ((), (), None))
        sent, waiting = log.sent(names, entry.by, list(before), list(waiting))
        if gathered.call(sent, entry.message, line=log.tree.rows[name].line, **entry.reply):
            known[name] = (gathered.calls[-1].sent, waiting, entry.by)


class Log:
    """The rows of a file."""

    def __init__(self, gathered):
        self.gathered, self.tree, self.entries = gathered, Rows(gathered), {}
        self.names, self.before = [], None

    def take(self, row, line):
        """A row, added to the tree with what it says."""
        row = parts.mapping(row)
        kind, inner = row.get("type"), row.get("message")
        if not isinstance(kind, str):
            raise Unreadable(f"a line of unknown type {shown(kind)}")
        name = row.get("id")
        if name is not None and not isinstance(name, str):
            self.gathered.problem(line, f"an id that is no text: {shown(name)}")
        name = name if isinstance(name, str) and kind != "session" else f"line {line}"
        self.names.append(name)
        if kind == "session":
            self.gathered.leave_out(LEFT[kind])
            return
        holds = (kind, inner, row.get("summary"), row.get("content"))
        parent = row.get("parentId", self.before)
        if parent is not None and not isinstance(parent, str):
            self.gathered.problem(line, f"a parentId that is no text: {shown(parent)}")
            parent = self.before
        if not self.tree.add(name, Row(line, parent, holds)):
            return
        self.before, self.entries[name] = name, Entry()
        entry = self.entries[name] = self._entry(row, kind, line)
        entry.message, entry.told = self.gathered.kept([entry.message, entry.told])

    def sent(self, path, by, messages, waiting):
        """Messages of a path, behind those before, for a model (provider, api, name), and calls without a result."""
        for entry in self._kept(path):
            message = entry.message if entry.by in ((), by) else entry.told
            if message is None:
                continue
            if message["role"] != "tool":
                messages += [MISSING] * len(waiting)
                waiting = list(entry.calls)
            elif entry.answers in waiting:
                waiting.remove(entry.answers)
            messages.append(message)
        return messages, waiting

    def _kept(self, path):
        """Entries of a path as its last compaction left them."""
        entries = [self.entries[name] for name in path]
        last = max((i for i, entry in enumerate(entries) if entry.keeps is not None), default=None)
        if last is None:
            return entries
        keeps = entries[last].keeps
        if isinstance(keeps, int):
            keeps = self.names[keeps] if 0 <= keeps < len(self.names) else None
        kept = entries[path.index(keeps) : last] if keeps in path[:last] else []
        return [entries[last], *(one for one in kept if one.keeps is None), *entries[last + 1 :]]

    def _entry(self, row, kind, line):
        inner = row.get("message")
        if kind == "message":
            return self._message(parts.mapping(inner), row, line)
        if kind == "compaction":
            keeps = row.get("firstKeptEntryId", row.get("firstKeptEntryIndex"))
            if not isinstance(keeps, str | int) or isinstance(keeps, bool):
                self.gathered.problem(line, f"a compaction that keeps {shown(keeps)}: read as if it kept nothing")
                keeps = ""
            return Entry(_told(COMPACTED, row.get("summary")), keeps=keeps)
        if kind == "branch_summary":
            return Entry(_told(BRANCHED, row["summary"]) if row.get("summary") else None)
        if kind == "custom_message":
            return Entry(_user(row.get("content")))
        if kind not in LEFT and inner is not None:
            raise Unreadable(f"a line of unknown type {shown(kind)}")
        self.gathered.leave_out(LEFT.get(kind, f"a row of type {kind}"))
        return Entry()

    def _message(self, inner, row, line):
        role = inner.get("role")
        if role == "bashExecution":
            return self._bash(inner)
        if role in ("compactionSummary", "branchSummary"):
            return Entry(_told(COMPACTED if role[0] == "c" else BRANCHED, inner.get("summary")))
        if role not in ("user", "custom", "hookMessage", "assistant", "toolResult"):
            raise Unreadable(f"a message of unknown role {shown(role)}")
        if "content" not in inner:
            raise Unreadable("a message without content")
        if role == "assistant":
            return self._reply(inner, row, line)
        if role == "toolResult":
            key = inner.get("toolCallId") if isinstance(inner.get("toolCallId"), str) else None
            return Entry(parts.message({"role": "tool", "content": parts.result(inner["content"])}), answers=key)
        return Entry(_user(inner["content"]))

    def _reply(self, inner, row, line):
        if inner.get("stopReason") in ("error", "aborted"):
            self.gathered.leave_out(f"a reply that ended with {inner['stopReason']}; it is not sent either")
            return Entry()
        own, other = {"role": "assistant", "content": ""}, {"role": "assistant", "content": ""}
        calls = []
        for block in parts.blocks(inner["content"]):
            thinks = block.get("type") == "thinking"
            if thinks and (block.get("redacted") or (not block.get("thinking") and block.get("thinkingSignature"))):
                self.gathered.unseen(line, UNSEEN)
                continue
            parts.tried(parts.added, block, line, self.gathered.problems, "", own)
            told = {"type": "text", "text": block.get("thinking")} if thinks else block
            if not thinks or (isinstance(told["text"], str) and told["text"].strip()):
                parts.tried(parts.added, told, line, [], "", other)
            if block.get("type") == "toolCall" and len(own.get("tool_calls", ())) > len(calls):
                calls.append(block.get("id"))
        message = parts.message(own)
        if not any(message.get(name) for name in ("content", "reasoning_content", "tool_calls")):
            self.gathered.leave_out("an empty reply")
            return Entry()
        model = inner["model"] if isinstance(inner.get("model"), str) else None
        time = parts.seconds(inner.get("timestamp")) or parts.seconds(row.get("timestamp"))
        reply = dict(usage=_usage(inner.get("usage"), line, self.gathered), time=time, model=model)
        by = tuple(str(inner.get(name)) for name in ("provider", "api", "model"))
        return Entry(message, parts.message(other), by, tuple(calls), reply=reply)

    def _bash(self, inner):
        if inner.get("excludeFromContext"):
            self.gathered.leave_out("a command that the user kept from the model")
            return Entry()
        output = parts.words(inner.get("output"))
        text = f"Ran `{parts.words(inner.get('command'))}`\n" + (f"```\n{output}\n```" if output else "(no output)")
        code = inner.get("exitCode")
        if inner.get("cancelled"):
            text += "\n\n(command cancelled)"
        elif type(code) is int and code != 0:
            text += f"\n\nCommand exited with code {code}"
        if inner.get("truncated") and isinstance(inner.get("fullOutputPath"), str):
            text += f"\n\n[Output truncated. Full output: {inner['fullOutputPath']}]"
        return Entry(_user(text))


def _told(around, summary):
    """A summary as the user's message that it is sent in."""
    if not isinstance(summary, str):
        raise Unreadable(f"a summary that is {shown(summary)}")
    return _user(around[0] + summary + around[1])


def _user(content):
    return parts.message({"role": "user", "content": parts.result(content)})


def _usage(given, line, gathered):
    given = given if isinstance(given, dict) else {}
    fresh, cached, written, output = (given.get(name) for name in ("input", "cacheRead", "cacheWrite", "output"))
    known = [number for number in (fresh, cached, written) if number is not None]
    whole = sum(known) if known and all(type(number) is int for number in known) else fresh
    if whole == 0 == output:  # a provider that counts nothing
        return None
    return usage({"input": whole, "cached": cached, "written": written, "output": output}, line, gathered)


BLOCKS = {"role": ("user", "assistant", "toolResult", "bashExecution", "custom", "hookMessage"), "content": ...}
SIGNS = (
    {"type": ("message",), "message": BLOCKS},
    {"type": ("message",), "id": str, "parentId": ..., "message": {"role": str}},
    {"type": ("session",), "id": str, "cwd": str},
    {"type": ("session",), "id": str, "version": int},
    {"type": ("compaction",), "summary": str},
)
FORMAT = Format("pi", "pi sessions", SIGNS, read)
