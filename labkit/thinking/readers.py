"""From the rows of each format to OpenAI messages: `(rows, problems) -> (messages, tools)`.

A row is (line, object); what cannot be read is added to `problems` as (line, reason) and left out. Nothing in a row is
taken to be of the type that it should be: `parts` reads what it holds.
"""

from labkit.thinking import parts
from labkit.thinking.rows import Unreadable

COMPACTED = "a compaction; what follows is counted as if all messages before were still sent"
FORMATS = ("openai", "claude-code", "pi", "atif", "sharegpt")


def _openai(rows, problems):
    """Messages, one a line or in one document; of a log of requests the longest, which holds all before it.

    A client that does not send reasoning back has it in its earlier responses alone: from there it is filled in.
    """
    messages, beside, tools, replies = [], [], None, {}
    requests, longest = [], []
    for line, row in rows:
        if isinstance(row, list):
            messages += _messages(row, line, problems)
            continue
        inner = row.get("request")
        row = (inner if isinstance(inner, dict) else {}) | {k: v for k, v in row.items() if k != "request"}
        if isinstance(row.get("messages"), list):
            conversation = _messages(row["messages"], line, problems)
            reply = parts.tried(_response, row, line, problems)
            if reply:
                replies.setdefault(len(conversation), []).append(reply)
                conversation = [*conversation, reply]
            requests.append((line, [hash(_core(message)) for message in conversation]))
            longest = max(longest, conversation, key=len)
            tools = parts.tried(parts.tools, row.get("tools"), line, problems) or tools
        elif (message := parts.tried(parts.message, row, line, problems)) is not None:
            messages.append(message)
            beside.append(line)
    if not requests:
        return messages, tools
    for line in beside:
        problems.append((line, "a message beside the requests of a log"))
    cores = [hash(_core(message)) for message in longest]
    for line, conversation in requests:
        if conversation != cores[: len(conversation)]:
            problems.append((line, "another conversation than the longest request, or one that was rewritten"))
    return [_with_reasoning(message, replies.get(at, ())) for at, message in enumerate(longest)], tools


def _messages(row, line, problems):
    found = [parts.tried(parts.message, part, line, problems, f"message {n}: ") for n, part in enumerate(row, 1)]
    return [message for message in found if message is not None]


def _response(row):
    """The assistant's message of a response, or None."""
    answer = row.get("response") if isinstance(row.get("response"), dict) else row
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if first is None and "response" not in row and "choices" not in row:
        return None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise Unreadable("a response without a message")
    return parts.message({"role": "assistant"} | message)


def _core(message):
    """What two copies of a message must agree in: who said which words."""
    content = message["content"]
    words = content if isinstance(content, str) else "\n".join(item["text"] for item in content if "text" in item)
    return message["role"], words.strip()


def _with_reasoning(message, responses):
    if message.get("reasoning_content"):
        return message
    known = next((reply for reply in responses if _core(reply) == _core(message)), {})
    return message | {name: known[name] for name in ("reasoning_content",) if known.get(name)}


def _claude_code(rows, problems):
    messages, by_id, seen = [], {}, {}
    for line, row in rows:
        kind, inner = row.get("type"), row.get("message")
        if row.get("subtype") == "compact_boundary":
            problems.append((line, COMPACTED))
        if kind not in ("user", "assistant"):
            if inner is not None or not isinstance(kind, str):
                problems.append((line, f"a line of unknown type {parts.shown(kind)}"))
            continue
        if parts.tried(_aside, row, line, problems) is not False:
            continue
        if not isinstance(inner, dict) or "content" not in inner:
            problems.append((line, f"a {kind} line without a message"))
        elif not parts.repeated(row.get("uuid"), inner, line, seen, problems):
            if kind == "user":
                messages += parts.of_user(inner["content"], line, problems)
            else:
                reply = parts.tried(_begun, inner.get("id"), line, problems, "", messages, by_id)
                parts.of_assistant(reply, inner["content"], line, problems)
    return messages, None


def _aside(row):
    """Whether a line is no part of the conversation with the user."""
    for name in ("isSidechain", "isMeta"):
        if not isinstance(row.get(name) or False, bool):
            raise Unreadable(f"{name} is {parts.shown(row[name])}, not true or false")
    return bool(row.get("isSidechain") or row.get("isMeta"))


def _begun(name, messages, by_id):
    """The message that blocks of this id belong to, a new one if there is none."""
    if name is not None and not isinstance(name, str):
        raise Unreadable(f"a message id that is no text: {parts.shown(name)}")
    if name and name in by_id:
        return by_id[name]
    messages.append({"role": "assistant", "content": ""})
    if name:
        by_id[name] = messages[-1]
    return messages[-1]


def _pi(rows, problems):
    messages, seen = [], {}
    for line, row in rows:
        if row.get("type") == "compaction":
            problems.append((line, COMPACTED))
        inner = row.get("message")
        if row.get("type") != "message":
            if inner is not None or not isinstance(row.get("type"), str):
                problems.append((line, f"a line of unknown type {parts.shown(row.get('type'))}"))
            continue
        if not isinstance(inner, dict) or inner.get("role") not in ("user", "assistant", "toolResult"):
            problems.append((line, "a message of unknown role"))
            continue
        if "content" not in inner:
            problems.append((line, "a message without content"))
            continue
        if parts.repeated(row.get("id"), inner, line, seen, problems):
            continue
        content = inner["content"]
        if inner["role"] == "assistant":
            messages.append({"role": "assistant", "content": ""})
            parts.of_assistant(messages[-1], content, line, problems)
        elif inner["role"] == "user":
            messages += parts.of_user(content, line, problems)
        elif (result := parts.tried(parts.result, content, line, problems)) is not None:
            messages.append({"role": "tool", "content": result})
    return messages, None


def _atif(rows, problems):
    messages, tools = [], None
    for line, row in rows:
        if "steps" not in row:
            problems.append((line, "an object without steps"))
        agent = parts.tried(parts.mapping, row.get("agent"), line, problems, "agent: ") or {}
        tools = parts.tried(parts.tools, agent.get("tool_definitions"), line, problems) or tools
        for n, step in enumerate(parts.tried(parts.many, row.get("steps"), line, problems, "steps: ") or [], 1):
            messages += parts.tried(_step, step, line, problems, f"step {n} ") or []
    return messages, tools


def _step(step):
    """The messages of a step: what was said, and the results of its calls."""
    step = parts.mapping(step)
    source = step.get("source")
    role = {"user": "user", "agent": "assistant", "system": "system"}.get(source if isinstance(source, str) else None)
    if role is None:
        raise Unreadable(f"of unknown source {parts.shown(source)}")
    if "message" not in step:
        raise Unreadable("without a message")
    said = {"role": role, "content": parts.words(step["message"])}
    if role == "assistant":
        said["reasoning_content"] = step.get("reasoning_content")
    if calls := parts.many(step.get("tool_calls")):
        calls = [parts.mapping(call) for call in calls]
        said["tool_calls"] = [{"name": call.get("function_name"), "arguments": call.get("arguments")} for call in calls]
    results = [parts.mapping(one) for one in parts.many(parts.mapping(step.get("observation")).get("results"))]
    if any(not {"content", "subagent_trajectory_ref"} & set(result) for result in results):
        raise Unreadable("with a result that shows nothing")
    results = [{"role": "tool", "content": parts.words(result.get("content"))} for result in results]
    return [parts.message(message) for message in (said, *results)]


def _sharegpt(rows, problems):
    messages = []
    for line, row in rows:
        if "conversations" not in row:
            problems.append((line, "an object without conversations"))
        turns = parts.tried(parts.many, row.get("conversations"), line, problems, "conversations: ")
        for n, turn in enumerate(turns or [], 1):
            if (message := parts.tried(_turn, turn, line, problems, f"turn {n}: ")) is not None:
                messages.append(message)
    return messages, None


def _turn(turn):
    roles = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
    roles |= {"tool": "tool", "observation": "tool", "function_response": "tool"}
    turn = parts.mapping(turn)
    who, said = turn.get("from"), turn.get("value")
    if not isinstance(who, str) or who not in roles or not isinstance(said, str):
        raise Unreadable(f"a turn from {parts.shown(who)}, its value a {type(said).__name__}")
    return {"role": roles[who], "content": said}


READERS = dict(zip(FORMATS, (_openai, _claude_code, _pi, _atif, _sharegpt), strict=True))
