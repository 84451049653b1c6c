"""Open WebUI: exported chats, each a tree of messages.

From open-webui/open-webui `src/lib/components/chat/Chat.svelte` (`history`, `parentId`, `currentId`),
`backend/open_webui/utils/middleware.py` (`serialize_output`: thinking, calls and results as `<details>` in texts) and
`backend/open_webui/utils/misc.py` (`convert_output_to_messages`: `output`, where a message has it, and what of it is
sent again). A message in which tools were called is several calls of the model. Tools are not in the file.
"""

import html
import re

from labkit.thinking.sessions import chats, parts, tags, trees
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable

NAMED = re.compile(r'([\w-]{1,40})="([^"]*)"')
QUOTE = re.compile(r"^> ?", re.MULTILINE)
FAILED = "answers that failed or are empty"
CODE = "blocks of a code interpreter, which are not sent again"
TOGETHER = "usage of several calls of the model together: left out"


def read(rows, gathered):
    """Every chat is a thread, under its id, or its number; one alone has no name."""
    found = [(line, one) for line, row in rows for one in (row if isinstance(row, list) else [row])]
    taken = set()
    for n, (line, row) in enumerate(found, 1):
        row = parts.tried(parts.mapping, row, line, gathered.problems)
        if row is None:
            continue
        name = row["id"] if isinstance(row.get("id"), str) and row["id"] not in taken else str(n)
        taken.add(name)
        chat = parts.tried(parts.mapping, row.get("chat", row), line, gathered.problems, f"chat {n}: ") or {}
        _chat(chat, line, gathered, name if len(found) > 1 else "", f"chat {n}, ")
    chats.toolless(gathered)


def _chat(chat, line, gathered, thread, where):
    history = parts.tried(parts.mapping, chat.get("history"), line, gathered.problems, f"{where}history: ") or {}
    nodes = parts.tried(parts.mapping, history.get("messages"), line, gathered.problems, f"{where}messages: ") or {}
    if not nodes:  # of the time before there were trees
        flat = parts.tried(parts.many, chat.get("messages"), line, gathered.problems, f"{where}messages: ") or []
        nodes = {
            str(i): one | {"parentId": str(i - 1) if i else None} for i, one in enumerate(flat) if isinstance(one, dict)
        }
    params = chat["params"] if isinstance(chat.get("params"), dict) else {}
    system = next(
        (one for one in (params.get("system"), chat.get("system")) if isinstance(one, str) and one.strip()), None
    )
    head, tree = [{"role": "system", "content": system}] if system else [], trees.Rows(gathered)
    for name, node in nodes.items():
        node = parts.tried(parts.mapping, node, line, gathered.problems, f"{where}message {name[:40]}: ")
        if node is not None:
            said = parts.tried(_said, node, line, gathered.problems, f"{where}message {name[:40]}: ", line, gathered)
            parent = node.get("parentId")
            known = parent if isinstance(parent, str) else None
            tree.add(name, trees.Row(line, known, (node, gathered.kept(said or []))))
    for name, row in tree.rows.items():
        node, said = row.holds
        if node.get("role") == "assistant":
            before = [message for step in tree.path(name)[:-1] for message in tree.rows[step].holds[1]]
            _calls([*head, *before], node, said, line, gathered, thread)


def _calls(sent, node, said, line, gathered, thread):
    """The calls of the model in one message."""
    at = [i for i, message in enumerate(said) if message["role"] == "assistant"]
    if not at:
        gathered.leave_out(FAILED, node)
    billed = _usage(node, line, gathered)
    if billed and len(at) > 1:
        gathered.tell_once(line, TOGETHER)
    more = {"model": node["model"] if isinstance(node.get("model"), str) else None, "thread": thread}
    more |= {"time": parts.seconds(node.get("timestamp")), "usage": billed if len(at) == 1 else None}
    for i in at:
        gathered.call([*sent, *said[:i]], said[i], line=line, **more)


def _said(node, line, gathered):
    """The messages that one of the tree stands for."""
    role, content = node.get("role"), node.get("content")
    if role != "assistant":
        pictures = [
            one for one in parts.many(node.get("files")) if isinstance(one, dict) and one.get("type") == "image"
        ]
        pictures = [{"type": "image", "image": one["url"]} for one in pictures if isinstance(one.get("url"), str)]
        if pictures:
            content = [{"type": "text", "text": parts.words(content)}, *pictures]
        message = chats.message({"role": role, "content": content}, line, gathered)
        return [message] if message else []
    output = [parts.mapping(item) for item in parts.many(node.get("output"))]
    own = [item for item in output if not str(item.get("type")).startswith("open_webui:")]
    for item in output:
        if item not in own:
            gathered.leave_out(CODE, item)
    made = chats.answered(own, line, gathered) if own else _detailed(parts.words(chats.flat(content)), line, gathered)
    if not own and isinstance(node.get("reasoning_content"), str) and made:
        made[0].setdefault("reasoning_content", node["reasoning_content"])
    made = [one for one in made if any(one.get(name) for name in ("content", "reasoning_content", "tool_calls"))]
    return made if any(one["role"] == "assistant" for one in made) else []


def _detailed(text, line, gathered):
    """Messages of a text with `<details>` of thinking, calls and results in it."""
    made, end = [{"role": "assistant", "content": ""}], 0
    for start, inner, stop in tags.between(text, "<details ", "</details>"):
        _spoken(made, text[end:start])
        end = stop
        head, _, body = inner.partition(">")
        body = body.partition("</summary>")[2] if body.lstrip("\n").startswith("<summary>") else body
        named = {name: html.unescape(value) for name, value in NAMED.findall(head)}
        kind = named.get("type")
        if kind == "reasoning":
            if made[-1]["role"] != "assistant":
                made.append({"role": "assistant", "content": ""})
            known = made[-1].get("reasoning_content")
            made[-1]["reasoning_content"] = "\n".join(filter(None, [known, _thought(body)]))
        elif kind == "tool_calls":
            _called(made, named, body, line, gathered)
        elif kind == "code_interpreter":
            gathered.leave_out(CODE, inner)
        else:
            _spoken(made, text[start:stop])
    _spoken(made, text[end:])
    made = [one | tags.unthought(one["content"]) if "reasoning_content" not in one else one for one in made]
    return [parts.message(one | {"content": one["content"].strip()}) for one in made]


def _spoken(made, words):
    """Add words to the message that grows; behind a result they begin another."""
    if made[-1]["role"] != "assistant":
        if not words.strip():
            return
        words = words.lstrip("\n")
        made.append({"role": "assistant", "content": ""})
    made[-1]["content"] += words


def _called(made, named, body, line, gathered):
    """A call and its result; calls in a row without words between are of one message."""
    call = parts.call(named.get("name"), _json(_json(named.get("arguments", "{}"))))
    told = html.unescape(body).strip() or named.get("result", "")
    result = given if isinstance(given := _json(told), str) else told
    if made[-1]["role"] == "assistant":
        made[-1]["tool_calls"] = [*made[-1].get("tool_calls", []), call]
    else:
        at = max(i for i, one in enumerate(made) if one["role"] == "assistant")
        made[at]["tool_calls"] = [*made[at].get("tool_calls", []), call]
    made.append({"role": "tool", "content": result})


def _json(text):
    """What a text of JSON says; the text itself if it is none."""
    try:
        return tags.written(text) if isinstance(text, str) and text.strip() else text
    except Unreadable:
        return text


def _thought(body):
    """Thinking as it is quoted in a text."""
    body = body.strip("\n")
    body = html.unescape(body) if body.startswith("&gt;") else body
    return QUOTE.sub("", body).strip()


def _usage(node, line, gathered):
    """What a message was billed, under OpenAI's or Ollama's names."""
    given = next((node[name] for name in ("usage", "info") if isinstance(node.get(name), dict)), {})
    if "prompt_eval_count" in given and "prompt_tokens" not in given:
        return usage({"input": given["prompt_eval_count"], "output": given.get("eval_count")}, line, gathered)
    return chats.billed(given, line, gathered)


CHAT = {"history": {"messages": dict, "currentId": ...}}
OLDER = {"title": str, "chat": {"messages": [{"role": str, "content": str}]}}
SIGNS = ({"chat": CHAT}, [{"chat": CHAT}], CHAT, [CHAT], OLDER, [OLDER])
FORMAT = Format("open-webui", "Open WebUI exports of chats", SIGNS, read)
