"""Messages of Anthropic's Messages API: contents in blocks, tools, usage.

Read from anthropics/anthropic-sdk-python, `types/content_block_param.py` and its members, `types/usage.py`,
`types/tool_param.py`.
"""

import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import gathering, parts
from labkit.thinking.sessions.gathering import Gathered
from labkit.thinking.sessions.record import Usage
from labkit.thinking.sessions.rows import Unreadable

REDACTED = "thinking that is redacted"
SIGNED = "thinking of which the signature alone is kept"
HOSTED = "a result of a tool that ran at the provider, of which the file holds the places and not the words"
ROLES = ("user", "assistant", "system")
KINDS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use", "document")  # its own blocks
TAGS = re.compile("<environment_details>|^<task>")  # in the words of Cline and its kin


def messages(given, line: int, gathered: Gathered, where: str = "") -> list[dict]:
    """The messages that an entry of a list of messages stands for: a user's may hold results of tools too."""
    return parts.tried(_messages, given, line, gathered.problems, where, line, gathered) or []


def said(content, line: int, gathered: Gathered) -> list[dict]:
    """What an assistant's content stands for: one message, or several with results of the provider's tools between."""
    made, reply = [], None
    for block in _blocks(content, line, gathered):
        kind = block.get("type")
        if isinstance(kind, str) and kind.endswith("_tool_result"):
            made.append({"role": "tool", "content": _found(block.get("content"), line, gathered)})
            reply = None
            continue
        if reply is None:
            reply = {"role": "assistant", "content": ""}
            made.append(reply)
        parts.tried(_add, block, line, gathered.problems, "", reply, line, gathered)
    return made or [{"role": "assistant", "content": ""}]


def asked(content, line: int, gathered: Gathered) -> list[dict]:
    """What a user's content stands for: results of tools, each a message, then what was typed."""
    blocks = [parts.tried(_plainer, block, line, gathered.problems) for block in _blocks(content, line, gathered)]
    return parts.of_user([block for block in blocks if block is not None], line, gathered.problems)


def tools(given) -> list | None:
    """JSON schemas of tools in the form of OpenAI's; those of the provider as they stand."""
    made = []
    for tool in parts.many(given):
        tool = parts.mapping(tool)
        if "input_schema" in tool:
            own = {name: tool[name] for name in ("name", "description") if tool.get(name) is not None}
            tool = {"type": "function", "function": own | {"parameters": tool["input_schema"]}}
        made.append({name: value for name, value in tool.items() if name != "cache_control"})
    return parts.tools(made) if made else None


def usage(given, line: int, gathered: Gathered) -> Usage | None:
    """What was billed; the input is all of the prompt, what a cache gave or took included."""
    given = parts.tried(parts.mapping, given, line, gathered.problems, "usage: ") or {}
    written, cached = given.get("cache_creation_input_tokens"), given.get("cache_read_input_tokens")
    whole = given.get("input_tokens")
    if type(whole) is int:
        whole += sum(count for count in (written, cached) if type(count) is int)
    found = {"input": whole, "cached": cached, "written": written, "output": given.get("output_tokens")}
    return gathering.usage(found, line, gathered)


def _messages(given, line, gathered):
    given = parts.mapping(given)
    role, content = given.get("role"), given.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise Unreadable(f"no message: role {shown(role)}")
    if "content" not in given:
        raise Unreadable("a message without content")
    if role == "system":
        return [{"role": "system", "content": parts.words(content)}]
    return said(content, line, gathered) if role == "assistant" else asked(content, line, gathered)


def _blocks(content, line, gathered):
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = parts.tried(parts.many, content, line, gathered.problems, "content: ") or []
    made = [parts.tried(parts.mapping, block, line, gathered.problems, "a block: ") for block in blocks]
    return [block for block in made if block is not None]


def _add(block, reply, line, gathered):
    """Add a block to a reply."""
    kind = block.get("type")
    if kind == "redacted_thinking":
        gathered.unseen(line, REDACTED)
    elif kind == "thinking" and not block.get("thinking") and block.get("signature"):
        gathered.unseen(line, SIGNED)
    elif kind in ("server_tool_use", "mcp_tool_use"):
        reply.setdefault("tool_calls", []).append(parts.call(block.get("name"), block.get("input")))
    elif kind == "reasoning":  # of Roo and Cline, for providers that are not Anthropic's
        text = block.get("text", block.get("content"))
        if text is None and block.get("encrypted_content"):
            gathered.unseen(line, REDACTED)
        else:
            parts.of_assistant(reply, [{"type": "thinking", "thinking": text}], line, gathered.problems)
    else:
        parts.of_assistant(reply, [_plainer(block)], line, gathered.problems)


def _plainer(block):
    """A block whose documents and references, also in results, are the text that the model read."""
    block = parts.mapping(block)
    kind = block.get("type")
    if kind == "tool_result" and isinstance(block.get("content"), list):
        return block | {"content": [_plainer(inner) for inner in block["content"]]}
    if kind == "search_result":
        return {"type": "text", "text": parts.words(block.get("content"))}
    if kind == "tool_reference" and isinstance(block.get("tool_name"), str):
        return {"type": "text", "text": block["tool_name"]}
    if kind == "document":
        source = parts.mapping(block.get("source"))
        if source.get("type") == "content":
            return {"type": "text", "text": parts.words(source.get("content"))}
        if source.get("type") != "text":
            raise Unreadable(f"a document as {shown(source.get('type'))}, whose text is not in the file")
        return {"type": "text", "text": source.get("data")}
    return block


def _found(content, line, gathered):
    """What a tool of the provider found, as text."""
    if isinstance(content, str):
        return content
    found = []
    for one in content if isinstance(content, list) else [content]:
        one = parts.tried(parts.mapping, one, line, gathered.problems, "a result: ") or {}
        if one.get("encrypted_content"):
            gathered.leave_out(HOSTED)
        found += [one[name] for name in ("title", "url", "text", "stdout", "stderr") if isinstance(one.get(name), str)]
    return "\n".join(filter(None, found))
