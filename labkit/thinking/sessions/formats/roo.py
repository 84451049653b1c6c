"""Histories of Roo Code, `api_conversation_history.json`: Anthropic's messages, condensed and cut, none deleted.

Read from RooCodeInc/Roo-Code, `src/core/task-persistence/apiMessages.ts` (`ts`, `isSummary`, `condenseId`,
`condenseParent`, `truncationId`, `truncationParent`, `isTruncationMarker`), `src/core/condense/index.ts`
(getEffectiveApiHistory) and `src/core/context-management/index.ts` (truncateConversation). What is sent is the last
summary and all behind it, without what a truncation hides. Two things the file does not say are taken from how the
program works: summaries of the assistant's were put before the three last messages; a truncation stands before the
messages that it kept, about as many as it hid.
"""

from labkit.thinking.sessions import asides, blocks, parts
from labkit.thinking.sessions.format import Format

KEPT = 3  # messages that summaries of the assistant's kept
CUT = "a truncation: the file does not say before which request; counted from the first that it can have been"


def read(rows, gathered):
    """Every assistant's message that is no summary is the reply to what the program sent of all before it."""
    entries = [(line, one) for line, row in rows for one in asides.history(row, line, gathered)]
    history = History(entries, gathered)
    replies = [i for i, (_, one) in enumerate(entries) if history.replies(one)]
    told = asides.requests(gathered, {i: parts.seconds(entries[i][1].get("ts")) for i in replies})
    for i in replies:
        line, entry = entries[i]
        sent = history.sent(i)
        billed, own = told[i].usage if i in told else None, history.made[i]
        for n, one in enumerate(own):
            if one["role"] == "assistant":
                more = {"time": parts.seconds(entry.get("ts")), "usage": billed if len(own) == 1 else None}
                gathered.call([*sent, *own[:n]], one, line=line, **more)


class History:
    """Entries and what of them is sent.

    Attributes:
        made: the messages of each. summaries: (index, from which reply on it is sent).
    """

    def __init__(self, entries, gathered):
        self.made, thoughts = [], []
        for n, (line, one) in enumerate(entries, 1):
            if one.get("type") == "reasoning":  # an entry of its own, before the reply that it belongs to
                thoughts.append(_thought(one, line, gathered))
                self.made.append([])
                continue
            made = blocks.messages(one, line, gathered, f"message {n}: ")
            first = next((message for message in made if message["role"] == "assistant"), None)
            if first is not None:
                thoughts = [*thoughts, _apart(one, line, gathered), first.get("reasoning_content")]
                if any(thoughts):
                    first["reasoning_content"] = "\n\n".join(filter(None, thoughts))
                thoughts = []
            self.made.append(made)
        self.entries, hidden = entries, {}
        for i, (_, one) in enumerate(entries):
            if isinstance(parent := one.get("truncationParent"), str):
                hidden.setdefault(parent, []).append(i)
        self.summaries = [
            (i, i + 1 + (KEPT if one.get("role") == "assistant" else 0))
            for i, (_, one) in enumerate(entries)
            if one.get("isSummary") is True
        ]
        self.cuts = []
        for i, (line, one) in enumerate(entries):
            if one.get("isTruncationMarker") is True and isinstance(name := one.get("truncationId"), str):
                gone = hidden.get(name, [])
                self.cuts.append((i, i + 1 + len(gone), frozenset(gone)))
                gathered.problem(line, f"message {i + 1}: {CUT}")

    def replies(self, entry) -> bool:
        """Whether an entry is a reply of the model's to the conversation."""
        return (
            entry.get("role") == "assistant" and entry.get("type") != "reasoning" and entry.get("isSummary") is not True
        )

    def sent(self, stop: int) -> list[dict]:
        """What was sent for the reply at an index."""
        known = [i for i, since in self.summaries if since <= stop]
        begin = known[-1] if known else 0
        absent = {i for i, since in self.summaries if since > stop} | {i for i, since, _ in self.cuts if since > stop}
        gone = frozenset().union(*(hidden for _, since, hidden in self.cuts if since <= stop))
        return [one for i in range(begin, stop) if i not in absent and i not in gone for one in self.made[i]]


def _thought(entry, line, gathered):
    """The words of an entry of reasoning."""
    if isinstance(text := entry.get("text"), str) and text:
        return text
    if entry.get("encrypted_content"):
        gathered.unseen(line, blocks.REDACTED)
    return _words(entry.get("summary"), line, gathered)


def _apart(entry, line, gathered):
    """Reasoning that stands beside the content of a reply."""
    if isinstance(text := entry.get("reasoning_content"), str):
        return text
    return _words(entry.get("reasoning_details"), line, gathered)


def _words(details, line, gathered):
    """The words of parts of reasoning; what is sealed is reported."""
    found = []
    for one in parts.tried(parts.many, details, line, gathered.problems, "reasoning: ") or []:
        one = parts.tried(parts.mapping, one, line, gathered.problems, "reasoning: ") or {}
        words = one.get("text", one.get("summary"))
        if isinstance(words, str):
            found.append(words)
        elif one:
            gathered.unseen(line, blocks.REDACTED)
    return "".join(found)


ENTRY = {"role": ("user", "assistant"), "content": [{"type": str}]}
SIGNS = [[ENTRY | {"ts": int}], [ENTRY | {"ts": int, "content": [{"type": ("text",), "text": blocks.TAGS}]}]]
MARKS = ({"isSummary": bool}, {"condenseParent": str}, {"condenseId": str}, {"truncationParent": str})
SIGNS += [[ENTRY | {"ts": int, "content": ...} | more] for more in MARKS]
SIGNS += [[ENTRY | {"ts": int, "content": [{"type": ("text",), "text": blocks.TAGS}]} | more] for more in MARKS]
SIGNS += [[{"type": ("reasoning",), "ts": int, "role": ("assistant",)}], [ENTRY | {"ts": int, "content": str}]]
FORMAT = Format("roo", "histories of Roo Code (api_conversation_history.json)", SIGNS, read)
