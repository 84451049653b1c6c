"""Histories of Cline, `api_conversation_history.json`: Anthropic's messages; what was cut off stands in a file beside.

Read from cline/cline, `src/shared/messages/content.ts` (ClineStorageMessage: `ts`, `modelInfo`, `metrics`),
`src/core/context/context-management/ContextManager.ts` (getTruncatedMessages: the first two messages stay, those of the
cut go) and `src/core/task/index.ts`. Tools that are called in the text, and their results, stay text.
"""

from labkit.thinking.sessions import asides, blocks, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage


def read(rows, gathered):
    """Every assistant's message is the reply to what stood before it, without what was cut off by then."""
    entries = [(line, one) for line, row in rows for one in asides.history(row, line, gathered)]
    made = [blocks.messages(one, line, gathered, f"message {n}: ") for n, (line, one) in enumerate(entries, 1)]
    replies = [i for i, (_, one) in enumerate(entries) if one.get("role") == "assistant"]
    told = asides.requests(gathered, {i: parts.seconds(entries[i][1].get("ts")) for i in replies})
    for i in replies:
        line, entry = entries[i]
        request = told.get(i)
        first, last = request.cut if request and request.cut else (i, i - 1)
        sent = [message for at in (*range(min(first, i)), *range(last + 1, i)) for message in made[at]]
        info = parts.tried(parts.mapping, entry.get("modelInfo"), line, gathered.problems, "modelInfo: ") or {}
        billed = request.usage if request else _usage(entry, line, gathered)
        time = parts.seconds(entry.get("ts"))
        model = info["modelId"] if isinstance(info.get("modelId"), str) else None
        for n, one in enumerate(made[i]):
            if one["role"] == "assistant":
                own = billed if len(made[i]) == 1 else None
                gathered.call([*sent, *made[i][:n]], one, line=line, time=time, usage=own, model=model)


def _usage(entry, line, gathered):
    """What a message says of its own call; what was cached stands apart."""
    metrics = parts.tried(parts.mapping, entry.get("metrics"), line, gathered.problems, "metrics: ") or {}
    tokens = parts.tried(parts.mapping, metrics.get("tokens"), line, gathered.problems, "tokens: ") or {}
    whole, cached = tokens.get("prompt"), tokens.get("cached")
    whole = whole + cached if type(whole) is int and type(cached) is int else whole
    return usage({"input": whole, "output": tokens.get("completion")}, line, gathered)


ENTRY = {"role": ("user", "assistant"), "content": [{"type": str}]}
SIGNS = [[ENTRY | {"content": [{"type": ("text",), "text": blocks.TAGS}]}]]
INFO = {"modelId": str, "providerId": str, "mode": str}
SIGNS += [[ENTRY | {"ts": int, "modelInfo": INFO}], [ENTRY | {"modelInfo": {"modelId": str}}]]
FORMAT = Format("cline", "histories of Cline (api_conversation_history.json)", SIGNS, read)
