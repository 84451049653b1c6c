"""Contents of the Gemini API as messages: parts are text, thought, calls of functions, their responses, and pictures.

Read from google-gemini/gemini-cli and from QwenLM/qwen-code, which sends them to an OpenAI interface: a response is its
output, its error, or all of it as JSON.
"""

import json

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.rows import Unreadable

ROLES = {"user": "user", "model": "assistant", "assistant": "assistant", "system": "system", "function": "user"}


def messages(content, line, gathered):
    """Messages of a content: results of tools first, each its own, then what is said; of none a problem."""
    return gathered.kept(parts.tried(_messages, content, line, gathered.problems, "", line, gathered.problems) or [])


def _messages(content, line, problems):
    content = parts.mapping(content)
    role = content.get("role", "user")
    if not isinstance(role, str) or role not in ROLES:
        raise Unreadable(f"a content of role {shown(role)}")
    said, thought, calls, results, shows = [], [], [], [], []
    for part in parts.many(content.get("parts")):
        part = parts.tried(_part, part, line, problems) or {}
        if part.get("thought"):
            thought.append(part.get("text", ""))
        elif "text" in part:
            said.append(part["text"])
        elif "call" in part:
            calls.append(part["call"])
        elif "result" in part:
            results.append({"role": "tool", "content": part["result"]})
        elif part:
            shows.append(part["picture"])
    made = {"role": ROLES[role], "content": "".join(said)}
    if shows:
        made["content"] = [{"type": "text", "text": text} for text in said] + shows
    if made["role"] == "assistant":
        made |= {"reasoning_content": "".join(thought)} if thought else {}
        made |= {"tool_calls": calls} if calls else {}
        return [parts.message(made)]
    return [parts.message(one) for one in (*results, *([made] if made["content"] or not results else []))]


def _part(part):
    """A part as {"text", "thought"}, {"call"}, {"result"} or {"picture"}."""
    part = {"text": part} if isinstance(part, str) else parts.mapping(part)
    if part.get("functionCall") is not None:
        call = parts.mapping(part["functionCall"])
        return {"call": parts.call(call.get("name"), call.get("args"))}
    if part.get("functionResponse") is not None:
        return {"result": _response(parts.mapping(part["functionResponse"]).get("response"))}
    for key in ("inlineData", "fileData"):
        if part.get(key) is not None:
            data = parts.mapping(part[key])
            if not str(data.get("mimeType", "image/")).startswith("image/"):
                raise Unreadable(f"a part that is a {shown(data['mimeType'])}")
            return {"picture": {"type": "image", "source": data}}
    if "text" not in part:
        if set(part) <= {"thought", "thoughtSignature"}:
            return {}
        raise Unreadable(f"a part of unknown kind: {', '.join(sorted(part))[:80]}")
    if not isinstance(part["text"], str):
        raise Unreadable(f"text is a {type(part['text']).__name__} where text is needed")
    return {"text": part["text"], "thought": bool(part.get("thought"))}


def _response(response):
    """What a tool's answer shows: its output, its error, or all of it as JSON."""
    if response is None or isinstance(response, str):
        return response or ""
    if isinstance(response, dict):
        for key in ("output", "error"):
            if isinstance(response.get(key), str):
                return response[key]
    return json.dumps(response, ensure_ascii=False, separators=(",", ":"))


def joined(before, more):
    """Two messages of the user as one."""
    if isinstance(before["content"], str) and isinstance(more["content"], str):
        return before | {"content": before["content"] + more["content"]}
    both = (before["content"], more["content"])
    items = [[{"type": "text", "text": one}] if isinstance(one, str) else one for one in both]
    return before | {"content": items[0] + items[1]}
