"""From the rows of each format to OpenAI messages: `(rows, problems) -> (messages, tools)`.

A row is (line, object); what cannot be read is added to `problems` as (line, reason) and left out.
"""

import json

COMPACTED = "a compaction; what follows is counted as if all messages before were still sent"
FORMATS = ("openai", "claude-code", "pi", "atif", "sharegpt")


def _openai(rows, problems):
    """Messages, one a line or in one document; of a log of requests the longest, which holds all before it.

    A client that does not send reasoning back has it in its earlier responses alone: from there it is filled in.
    """
    messages, requests, tools, replies = [], [], None, {}
    for line, row in rows:
        if isinstance(row, list):
            messages += [part for part in row if _has_role(part, line, problems)]
            continue
        inner = row.get("request")
        row = (inner if isinstance(inner, dict) else {}) | {k: v for k, v in row.items() if k != "request"}
        if isinstance(row.get("messages"), list):
            conversation = [part for part in row["messages"] if _has_role(part, line, problems)]
            if reply := _response(row, line, problems):
                replies.setdefault(len(conversation), []).append(reply)
                conversation = [*conversation, reply]
            requests.append((line, conversation))
            tools = row.get("tools") or tools
        elif _has_role(row, line, problems):
            messages.append(row)
    if not requests:
        return messages, tools
    _, longest = max(requests, key=lambda request: len(request[1]))
    for line, conversation in requests:
        if list(map(_core, conversation)) != list(map(_core, longest[: len(conversation)])):
            problems.append((line, "another conversation than the longest request, or one that was rewritten"))
    return [_with_reasoning(message, replies.get(at, ())) for at, message in enumerate(longest)], tools


def _response(row, line, problems):
    """The assistant's message of a response, or None."""
    answer = row.get("response") if isinstance(row.get("response"), dict) else row
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if first is None and "response" not in row and "choices" not in row:
        return None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        problems.append((line, "a response without a message"))
        return None
    return {"role": "assistant"} | message


def _core(message):
    """What two copies of a message must agree in: who said which words."""
    return message.get("role"), _text(message.get("content") or "").strip()


def _with_reasoning(message, responses):
    names = ("reasoning_content", "reasoning")
    if any(message.get(name) for name in names):
        return message
    known = next((reply for reply in responses if _core(reply) == _core(message)), {})
    return message | {name: known[name] for name in names if known.get(name)}


def _claude_code(rows, problems):
    messages, by_id = [], {}
    for line, row in rows:
        kind, inner = row.get("type"), row.get("message")
        if row.get("subtype") == "compact_boundary":
            problems.append((line, COMPACTED))
        if kind not in ("user", "assistant") or row.get("isSidechain") or row.get("isMeta"):
            continue
        if not isinstance(inner, dict) or "content" not in inner:
            problems.append((line, f"a {kind} line without a message"))
            continue
        if kind == "user":
            messages += _blocks_of_user(inner["content"], line, problems)
            continue
        same = by_id.get(inner.get("id")) if inner.get("id") else None
        if same is None:
            same = {"role": "assistant", "content": ""}
            messages.append(same)
            by_id[inner.get("id")] = same
        _blocks_of_assistant(same, inner["content"], line, problems)
    return messages, None


def _pi(rows, problems):
    messages = []
    for line, row in rows:
        if row.get("type") == "compaction":
            problems.append((line, COMPACTED))
        if row.get("type") != "message":
            continue
        inner = row.get("message")
        if not isinstance(inner, dict) or inner.get("role") not in ("user", "assistant", "toolResult"):
            problems.append((line, "a message of unknown role"))
            continue
        content = inner.get("content", "")
        if inner["role"] == "assistant":
            reply = {"role": "assistant", "content": ""}
            _blocks_of_assistant(reply, content, line, problems)
            messages.append(reply)
        elif inner["role"] == "user":
            messages += _blocks_of_user(content, line, problems)
        else:
            messages.append({"role": "tool", "content": _shown(content)})
    return messages, None


def _atif(rows, problems):
    messages, tools = [], None
    for line, row in rows:
        tools = (row.get("agent") or {}).get("tool_definitions") or tools
        for n, step in enumerate(row.get("steps", [])):
            role = {"user": "user", "agent": "assistant", "system": "system"}.get(step.get("source"))
            if role is None:
                problems.append((line, f"step {n + 1} of unknown source {step.get('source')!r}"))
                continue
            message = {"role": role, "content": _text(step.get("message") or "")}
            if role == "assistant" and isinstance(step.get("reasoning_content"), str):
                message["reasoning_content"] = step["reasoning_content"]
            if calls := step.get("tool_calls"):
                message["tool_calls"] = [as_call(call.get("function_name"), call.get("arguments")) for call in calls]
            messages.append(message)
            for result in (step.get("observation") or {}).get("results", []):
                messages.append({"role": "tool", "content": _text(result.get("content") or "")})
    return messages, tools


def _sharegpt(rows, problems):
    roles = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
    roles |= {"tool": "tool", "observation": "tool", "function_response": "tool"}
    messages = []
    for line, row in rows:
        for turn in row.get("conversations", []):
            if turn.get("from") not in roles or not isinstance(turn.get("value"), str):
                problems.append((line, f"a turn from {turn.get('from')!r}"))
                continue
            messages.append({"role": roles[turn["from"]], "content": turn["value"]})
    return messages, None


READERS = dict(zip(FORMATS, (_openai, _claude_code, _pi, _atif, _sharegpt), strict=True))


# ------------------------------------------------------------------------------------------------------------ parts


def _has_role(part, line, problems):
    if isinstance(part, dict) and part.get("role") in ("system", "developer", "user", "assistant", "tool"):
        return True
    problems.append((line, f"no message: role {part.get('role')!r}" if isinstance(part, dict) else "no message"))
    return False


def _blocks_of_user(content, line, problems):
    """Messages of a user's line: results of tools first, each its own, then what was typed."""
    results, typed = [], []
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if not isinstance(block, dict):
            problems.append((line, f"a {type(block).__name__} where a block is needed"))
        elif block.get("type") == "tool_result":
            results.append({"role": "tool", "content": _shown(block.get("content") or "")})
        elif block.get("type") in ("text", "image"):
            typed.append(_item(block))
        else:
            problems.append((line, f"a block of unknown type {block.get('type')!r}"))
    plain = all("text" in item for item in typed)
    content = "\n".join(item["text"] for item in typed) if plain else typed
    return results + ([{"role": "user", "content": content}] if typed else [])


def _blocks_of_assistant(message, content, line, problems):
    """Add blocks of text, thinking and calls to an assistant's message."""
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        kind = block.get("type")
        if kind == "text":
            message["content"] += block.get("text", "")
        elif kind == "thinking":
            message["reasoning_content"] = message.get("reasoning_content", "") + block.get("thinking", "")
        elif kind in ("tool_use", "toolCall"):
            arguments = block.get("input", block.get("arguments"))
            message.setdefault("tool_calls", []).append(as_call(block.get("name"), arguments))
        else:
            problems.append((line, f"a block of unknown type {kind!r}"))


def _item(block):
    """A block as an item of OpenAI content; a picture with what it shows or where it lies."""
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    return {"type": "image"} | {name: block[name] for name in ("source", "data") if name in block}


def _shown(content):
    """Text of a result, or its items if there are pictures among them."""
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    if any(block.get("type") == "image" for block in blocks):
        return [_item(block) for block in blocks if "text" in block or block.get("type") == "image"]
    return _text(content)


def _text(content):
    """Text of a content that is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if isinstance(block, dict) and "text" in block)


def as_call(name: str, arguments) -> dict:
    """A tool call in the one form, its arguments a mapping."""
    return {"type": "function", "function": {"name": str(name), "arguments": _mapping(arguments)}}


def _mapping(arguments):
    """Arguments as a mapping; what is none becomes one, under the name `input`."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except json.JSONDecodeError:
            return {"input": arguments}
    if arguments is None:
        return {}
    return arguments if isinstance(arguments, dict) else {"input": arguments}
