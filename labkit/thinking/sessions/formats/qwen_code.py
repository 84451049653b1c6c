"""Qwen Code and Gemini CLI: messages of `parts` (text, thought, functionCall, functionResponse).

Read from QwenLM/qwen-code, `packages/core/src/services/chatRecordingService.ts` (rows in a tree by `uuid` and
`parentUuid`) and `session-api-history.ts` (what is sent of them), and from google-gemini/gemini-cli,
`packages/core/src/services/chatRecordingTypes.ts`, `chatRecordingService.ts` (a session as a document, or as rows of
which a later one takes the place of an earlier one of its id) and `utils/sessionUtils.ts`.

    rows            every assistant's row is a call; a `chat_compression` takes the place of all before it
    sessions        a message of type `gemini` is a call, with its tools' results; `$rewindTo` and `$set` change what
                    the next is sent, not what the last was
    checkpoints     a list of contents, alone or under `history` or `clientHistory`: a conversation

The system text and the tools are not in such files.
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import contents, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable
from labkit.thinking.sessions.trees import Row, Rows

HISTORIES = {"chat_compression": "compressedHistory", "agent_bootstrap": "history"}


def read(rows, gathered):
    """Rows of any of the kinds; contents without a tree are one conversation."""
    tree, session, plain = Tree(gathered), Chat(gathered), []
    for line, row in rows:
        if isinstance(row, list):
            plain += [(line, one) for one in row]
        elif isinstance(row.get("uuid"), str) and row.get("type") in ("user", "assistant", "tool_result", "system"):
            parts.tried(tree.take, row, line, gathered.problems, "", line)
        elif (found := next((row[key] for key in ("history", "clientHistory") if key in row), None)) is not None:
            plain += [(line, one) for one in parts.tried(parts.many, found, line, gathered.problems) or []]
        elif "parts" in row:
            plain.append((line, row))
        else:
            parts.tried(session.take, row, line, gathered.problems, "", line)
    tree.calls()
    session.calls()
    said = [(line, one) for line, content in plain for one in contents.messages(content, line, gathered)]
    gathered.conversation([one for _, one in said], [line for line, _ in said])


class Tree:
    """Rows of Qwen Code."""

    def __init__(self, gathered):
        self.gathered, self.tree, self.before = gathered, Rows(gathered), {}
        self.said, self.begins, self.replies, self.joins = {}, {}, {}, set()

    def take(self, row, line):
        """A row, added to the tree with what it says."""
        name, kind, subtype = row["uuid"], row["type"], row.get("subtype")
        thread = row["agentId"] if isinstance(row.get("agentId"), str) else ""
        holds = (kind, row.get("message"), row.get("systemPayload"))
        parent = row.get("parentUuid", self.before.get(thread))
        if parent is not None and not isinstance(parent, str):
            self.gathered.problem(line, f"a parentUuid that is no text: {shown(parent)}")
            parent = self.before.get(thread)
        if not self.tree.add(name, Row(line, parent, holds)):
            return
        self.before[thread], self.said[name] = name, []
        if isinstance(subtype, str) and subtype in HISTORIES and kind == "system":
            history = parts.many(parts.mapping(row.get("systemPayload")).get(HISTORIES[subtype]))
            self.begins[name] = [one for content in history for one in contents.messages(content, line, self.gathered)]
        elif kind == "system" or subtype == "realtime_message":
            self.gathered.leave_out(f"a note of the client ({subtype if isinstance(subtype, str) else kind})")
        else:
            self._message(row, name, line, thread)

    def _message(self, row, name, line, thread):
        if not isinstance(row.get("message"), dict):
            raise Unreadable(f"a {row['type']} line without a message")
        self.said[name] = contents.messages(row["message"], line, self.gathered)
        if row.get("subtype") == "mid_turn_user_message":
            self.joins.add(name)
        if row["type"] != "assistant":
            return
        reply = next((one for one in self.said[name] if one["role"] == "assistant"), None)
        if reply is None or not any(reply.get(key) for key in ("content", "reasoning_content", "tool_calls")):
            self.gathered.leave_out("an empty reply")
            self.said[name] = []
            return
        model = row["model"] if isinstance(row.get("model"), str) else None
        billed = _usage(row.get("usageMetadata"), line, self.gathered)
        more = dict(thread=thread, usage=billed, model=model, time=parts.seconds(row.get("timestamp")))
        self.replies[name] = (reply, more)

    def calls(self):
        """Add the calls of all replies."""
        known = {}
        for name, (reply, more) in self.replies.items():
            at, names = self.tree.since(name, known)
            sent = list(known.get(at, ()))
            for one in names:
                if one in self.begins:
                    sent = list(self.begins[one])
                elif one in self.joins and sent and sent[-1]["role"] == "user":
                    sent[-1:] = [contents.joined(sent[-1], said) for said in self.said[one]]
                else:
                    sent += self.said[one]
            if self.gathered.call(sent, reply, line=self.tree.rows[name].line, **more):
                known[name] = self.gathered.calls[-1].sent


class Chat:
    """Messages of a session of Gemini CLI, by their ids."""

    def __init__(self, gathered):
        self.gathered, self.now, self.done, self.found, self.made = gathered, {}, set(), [], {}

    def take(self, row, line):
        """A row, or a session as a whole."""
        inner = row.get("$set") if isinstance(row.get("$set"), dict) else row
        if "$rewindTo" in row:
            self._settle()
            names = list(self.now)
            at = names.index(row["$rewindTo"]) if row["$rewindTo"] in names else 0
            self.now = {name: self.now[name] for name in names[:at]}
        elif isinstance(inner.get("messages"), list):
            self._settle()
            self.now = {}
            for n, message in enumerate(inner["messages"], 1):
                parts.tried(self._message, message, line, self.gathered.problems, f"message {n}: ", line)
        elif isinstance(row.get("type"), str):
            self._message(row, line)
        elif "$set" in row or isinstance(row.get("sessionId"), str):
            self.gathered.leave_out("what is told of the session as a whole")
        else:
            raise Unreadable("a row of unknown kind")

    def calls(self):
        """Add the calls that were found."""
        self._settle()
        for line, sent, reply, more in sorted(self.found, key=lambda one: one[0]):
            self.gathered.call(sent, reply, line=line, **more)

    def _message(self, given, line):
        given = parts.mapping(given)
        kind = given.get("type")
        if kind in ("info", "error", "warning"):
            self.gathered.leave_out(f"a note of the client ({kind})")
            return
        if kind not in ("user", "gemini", "qwen"):
            raise Unreadable(f"a message of type {shown(kind)}")
        name = given["id"] if isinstance(given.get("id"), str) else f"line {line}, {len(self.now)}"
        self.now[name] = (line, given)

    def _settle(self):
        """Find the calls of the messages as they stand."""
        sent = []
        for name, (line, given) in self.now.items():
            if (name, line) not in self.made:
                self.made[name, line] = self._says(given, line)
            made = self.made[name, line]
            if given["type"] == "user":
                sent += made
                continue
            if made and name not in self.done:
                model = given["model"] if isinstance(given.get("model"), str) else None
                more = dict(usage=_tokens(given.get("tokens"), line, self.gathered), model=model)
                more["time"] = parts.seconds(given.get("timestamp"))
                self.found.append((line, list(sent), made[0], more))
            self.done.add(name)
            sent += made

    def _says(self, given, line):
        """The messages of one."""
        content = given.get("content")
        said = [{"text": content}] if isinstance(content, str) else [content] if isinstance(content, dict) else content
        if given["type"] == "user":
            return contents.messages({"role": "user", "parts": said}, line, self.gathered)
        return self._reply(given, said, line)

    def _reply(self, given, said, line):
        """The reply, then the results of its tools; nothing of an empty one."""
        told = self.gathered.problems
        said = [part for part in parts.tried(parts.many, said, line, told) or [] if part != {"text": ""}]
        calls = parts.tried(_mappings, given.get("toolCalls"), line, told, "toolCalls: ") or []
        if not any(isinstance(part, dict) and ("functionCall" in part or part.get("thought")) for part in said):
            thoughts = parts.tried(_mappings, given.get("thoughts"), line, told, "thoughts: ") or []
            said = [{"thought": True, "text": _thought(one)} for one in thoughts] + said
            said += [{"functionCall": {"name": one.get("name"), "args": one.get("args")}} for one in calls]
        if not said:
            self.gathered.leave_out("an empty reply")
            return []
        results = []
        for one in calls:
            shows = one.get("result")
            shows = {"functionResponse": {"response": {"output": shows}}} if isinstance(shows, str) else shows
            results += shows if isinstance(shows, list) else [shows] if shows else []
        made = contents.messages({"role": "model", "parts": said}, line, self.gathered)
        return made + (
            contents.messages({"role": "user", "parts": results}, line, self.gathered) if results and made else []
        )


def _mappings(value):
    return [parts.mapping(one) for one in parts.many(value)]


def _thought(one):
    """A thought's summary."""
    said = [one.get(key) if isinstance(one.get(key), str) else "" for key in ("subject", "description")]
    return f"**{said[0]}** {said[1]}" if said[0] else said[1]


def _usage(given, line, gathered):
    given = given if isinstance(given, dict) else {}
    names = ("promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    return _billed([given.get(name) for name in (*names, "totalTokenCount")], line, gathered)


def _tokens(given, line, gathered):
    given = given if isinstance(given, dict) else {}
    return _billed([given.get(name) for name in ("input", "cached", "output", "thoughts", "total")], line, gathered)


def _billed(counts, line, gathered):
    """A usage; thinking is within what was generated, or beside it if only so the total is right."""
    whole, cached, output, thinking, total = counts
    if all(type(count) is int for count in (whole, output, thinking, total)) and whole + output + thinking == total:
        output += thinking
    return usage({"input": whole, "cached": cached, "output": output, "thinking": thinking}, line, gathered)


CONTENT = {"role": ("user", "model"), "parts": [{}]}
SIGNS = (
    {"uuid": str, "sessionId": str, "type": ("user", "assistant", "tool_result", "system"), "message": {"parts": [{}]}},
    {"uuid": str, "type": ("user", "assistant", "tool_result"), "message": {"role": str, "parts": [{}]}},
    {"uuid": str, "parentUuid": ..., "type": ("system",), "systemPayload": dict},
    [CONTENT],
    CONTENT,
    {"history": [CONTENT]},
    {"clientHistory": [CONTENT]},
    {"sessionId": str, "projectHash": str, "messages": [{"type": ("user", "gemini", "qwen"), "content": ...}]},
    {"sessionId": str, "projectHash": str, "startTime": str},
    {"id": str, "timestamp": str, "type": ("user", "gemini", "qwen"), "content": ...},
)
FORMAT = Format("qwen-code", "Qwen Code or Gemini CLI chats", SIGNS, read)
