"""ChatGPT: exported conversations (`conversations.json`), each a tree of nodes.

From exports in public repositories (All-Dings/Gpt-to-Markdown, `conversations.json`) and what programs that read them
keep: `mapping` of nodes with `parent` and `children`; `author.role`, `content_type`, `recipient`, `weight`. Nodes of
the assistant in a row are one answer: thinking, words, and a call where somebody else is the recipient. The system's
text and the tools of ChatGPT are not in the file.
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import chats, normal, parts, trees
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.rows import Unreadable

EMPTY = "rows without words"
RECAP = "recaps of thinking"
SOUNDS = "sounds and films, of which the file holds no words"
CONTEXT = {
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context",),
}
SHOWN = {
    "execution_output": "text",
    "tether_quote": "text",
    "tether_browsing_display": "result",
    "system_error": "text",
}


def read(rows, gathered):
    """Every conversation is a thread, under its id, or its number; one alone has no name."""
    found = [(line, one) for line, row in rows for one in (row if isinstance(row, list) else [row])]
    taken = set()
    for n, (line, row) in enumerate(found, 1):
        row = parts.tried(parts.mapping, row, line, gathered.problems)
        if row is None:
            continue
        ids = [row.get(name) for name in ("conversation_id", "id")]
        name = next((one for one in ids if isinstance(one, str) and one not in taken), str(n))
        taken.add(name)
        _conversation(row, line, gathered, name if len(found) > 1 else "", f"conversation {n}, ")
    chats.toolless(gathered)


def _conversation(row, line, gathered, thread, where):
    nodes = parts.tried(parts.mapping, row.get("mapping"), line, gathered.problems, f"{where}mapping: ") or {}
    tree, parents = trees.Rows(gathered), {}
    for name, node in nodes.items():
        node = parts.tried(parts.mapping, node, line, gathered.problems, f"{where}node {name[:40]}: ") or {}
        given = node.get("message")
        said = None
        if given is not None:
            said = parts.tried(_said, given, line, gathered.problems, f"{where}node {name[:40]}: ", gathered)
        parent = node.get("parent") if isinstance(node.get("parent"), str) else None
        tree.add(name, trees.Row(line, parent, (said, given)))
        parents.setdefault(parent, []).append(name)
    merged = {}
    for name, node in tree.rows.items():
        said, given = node.holds
        if said and said["role"] == "assistant" and _ends(name, tree, parents):
            messages = gathered.kept(_joined((tree.rows[step].holds[0] for step in tree.path(name)), merged))
            metadata = given["metadata"] if isinstance(given.get("metadata"), dict) else {}
            model = metadata["model_slug"] if isinstance(metadata.get("model_slug"), str) else None
            more = {"time": parts.seconds(given.get("create_time")), "thread": thread, "model": model}
            gathered.call(messages[:-1], messages[-1], line=line, **more)


def _ends(name, tree, parents):
    """Whether an answer ends with a node: no node behind it, or one that somebody else says."""
    children, seen, ends = list(parents.get(name, ())), {name}, []
    while children:
        child = children.pop()
        if child in seen:
            continue
        seen.add(child)
        said = tree.rows[child].holds[0]
        if said is None:  # says nothing: what is behind it counts
            more = parents.get(child, ())
            ends += [] if more else [True]
            children += more
        else:
            ends.append(said["role"] != "assistant")
    return not ends or any(ends)


def _said(message, gathered):
    """What a node says, as a part of a message; None for nothing that is sent."""
    message = parts.mapping(message)
    role = parts.mapping(message.get("author")).get("role")
    content = parts.mapping(message.get("content"))
    kind = content.get("content_type")
    if not isinstance(kind, str) or role not in ("system", "user", "assistant", "tool"):
        raise Unreadable(f"a {shown(kind)} of {shown(role)}")
    if kind == "reasoning_recap":
        gathered.leave_out(RECAP)
        return None
    if kind == "thoughts":
        texts = [_thought(parts.mapping(one)) for one in parts.many(content.get("thoughts"))]
        made = {"role": "assistant", "content": "", "reasoning_content": "\n".join(filter(None, texts))}
    elif kind in CONTEXT:
        texts = [parts.words(content.get(name)) for name in CONTEXT[kind]]
        made = {"role": "system", "content": "\n\n".join(filter(None, texts))}
    else:
        said, to = _content(content, kind, gathered), message.get("recipient")
        made = {"role": role, "content": said}
        if role == "assistant" and isinstance(to, str) and to != "all" and said:
            made = {"role": role, "content": "", "tool_calls": [parts.call(to, normal.arguments(parts.words(said)))]}
    made = parts.message(made)
    if not any(made.get(name) for name in ("content", "reasoning_content", "tool_calls")):
        gathered.leave_out(EMPTY)
        return None
    return made


def _content(content, kind, gathered):
    """The words of a content, with pictures where it has them."""
    if kind in ("text", "multimodal_text"):
        items = [_part(part, gathered) for part in parts.many(content.get("parts"))]
        items = [item for item in items if item is not None]
        if all("text" in item for item in items):
            return "\n".join(item["text"] for item in items)
        return items
    if kind == "code":
        return parts.words(content.get("text"))
    if kind in SHOWN:
        return parts.words(content.get(SHOWN[kind]))
    raise Unreadable(f"a content of unknown type {shown(kind)}")


def _part(part, gathered):
    if isinstance(part, str):
        return {"type": "text", "text": part}
    part = parts.mapping(part)
    kind = part.get("content_type")
    if kind == "image_asset_pointer" and isinstance(part.get("asset_pointer"), str):
        return {"type": "image", "image": part["asset_pointer"]}
    if kind == "audio_transcription" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind in ("audio_asset_pointer", "real_time_user_audio_video_asset_pointer"):
        gathered.leave_out(SOUNDS)
        return None
    raise Unreadable(f"a part of unknown type {shown(kind)}")


def _thought(thought):
    for name in ("content", "summary"):
        if isinstance(thought.get(name), str) and thought[name]:
            return thought[name]
    return ""


def _joined(found, merged):
    """Messages of a path: what the assistant says in a row is one, which `merged` keeps for other paths."""
    made = []
    for said in found:
        if said is None:
            continue
        if made and made[-1]["role"] == said["role"] == "assistant":
            key = (id(made[-1]), id(said))
            if key not in merged:
                merged[key] = (_both(made[-1], said), made[-1], said)  # ids stay theirs
            made[-1] = merged[key][0]
        else:
            made.append(said)
    return made


def _both(last, said):
    made = dict(last)
    for name in ("content", "reasoning_content"):
        texts = [one[name] for one in (last, said) if one.get(name)]
        if texts:
            made[name] = "\n".join(texts) if all(isinstance(text, str) for text in texts) else _items(texts)
    calls = [*last.get("tool_calls", []), *said.get("tool_calls", [])]
    return made | ({"tool_calls": calls} if calls else {})


def _items(texts):
    """Texts and lists of items as one list."""
    return [item for text in texts for item in ([{"type": "text", "text": text}] if isinstance(text, str) else text)]


NODE = {"mapping": dict, "current_node": ..., "title": ...}
SIGNS = (NODE, [NODE], {"mapping": dict, "create_time": ...}, [{"mapping": dict, "create_time": ...}])
FORMAT = Format("chatgpt", "ChatGPT's conversations.json", SIGNS, read)
