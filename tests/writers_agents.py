"""Stories written down as coding agents keep them; each from the description of its format alone."""

import datetime
import json


def iso(time):
    """A time as these programs write it."""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lines(rows):
    """Rows, one a line."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def summaries(story):
    """Names of the messages at which a compaction begins anew, by the name of the message that was last before."""
    roots = [one for one in story.said if one.parent == story.root and one.name != story.root]
    if story.root is None:
        roots = [one for one in story.said if one.parent is None]
    order = [one.name for one in story.said]
    return {one.name: order[order.index(one.name) - 1] for one in roots[1:] if "summary of" in one.message["content"]}


def claude_code(story):
    """One block a line; notes of the client stand between them, some of them in the tree."""
    rows = [{"type": "summary", "summary": "a title", "leafUuid": "x"}]
    ends, starts = {None: None}, summaries(story)
    for one in story.said:
        message, parent = one.message, ends[one.parent]
        common = {"isSidechain": False, "sessionId": "s1", "version": "2.1.0", "timestamp": iso(one.time)}
        if one.name in starts:
            boundary = {"type": "system", "subtype": "compact_boundary", "content": "Conversation compacted"}
            more = {"uuid": one.name + "-b", "parentUuid": None, "logicalParentUuid": ends[starts[one.name]]}
            rows.append(common | boundary | more)
            parent = one.name + "-b"
        blocks = [{"role": message["role"], "content": message["content"]}]
        kind = "user"
        if message["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
            blocks = [{"role": "user", "content": [block]}]
        elif message["role"] == "assistant":
            kind, blocks = "assistant", []
            if message.get("reasoning_content"):
                blocks.append({"type": "thinking", "thinking": message["reasoning_content"], "signature": "Eq"})
            if message["content"]:
                blocks.append({"type": "text", "text": message["content"]})
            for call in message.get("tool_calls", ()):
                inner = call["function"]
                blocks.append(
                    {"type": "tool_use", "id": call["id"], "name": inner["name"], "input": inner["arguments"]}
                )
            used = {"input_tokens": 4, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 2}
            head = {"id": "msg_" + one.name, "model": "m", "role": "assistant", "usage": used | {"output_tokens": 9}}
            blocks = [head | {"content": [block]} for block in blocks]
        for n, inner in enumerate(blocks):
            row = {"parentUuid": parent, **common, "type": kind, "message": inner, "uuid": f"{one.name}-{n}"}
            rows.append(row | ({"isCompactSummary": True} if one.name in starts else {}))
            parent = row["uuid"]
        if kind == "user":
            rows.append({"parentUuid": parent, **common, "type": "progress", "data": {}, "uuid": one.name + "-p"})
            parent = one.name + "-p"
        rows.append({"type": "file-history-snapshot", "messageId": parent, "snapshot": {}})
        ends[one.name] = parent
    return lines(rows)


def pi(story):
    """Version 3; a compaction holds the summary and keeps nothing."""
    rows = [{"type": "session", "version": 3, "id": "s1", "timestamp": iso(1.7e9), "cwd": "/w"}]
    ends, starts = {None: None}, summaries(story)
    for one in story.said:
        message, parent = one.message, ends[one.parent]
        common = {"id": one.name, "timestamp": iso(one.time)}
        if one.name in starts:
            inner = message["content"].split("<summary>\n")[1].removesuffix("\n</summary>")
            told = {"summary": inner, "firstKeptEntryId": one.name, "tokensBefore": 7}
            rows.append(common | {"type": "compaction", "parentId": ends[starts[one.name]]} | told)
            ends[one.name] = one.name
            continue
        said = [{"type": "text", "text": message["content"]}] if message["content"] else []
        inner = {"role": message["role"], "content": said, "timestamp": int(1000 * one.time)}
        if message["role"] == "tool":
            inner |= {"role": "toolResult", "toolCallId": message["tool_call_id"], "toolName": "t", "isError": False}
        elif message["role"] == "assistant":
            if message.get("reasoning_content"):
                said.insert(0, {"type": "thinking", "thinking": message["reasoning_content"]})
            for call in message.get("tool_calls", ()):
                said.append({"type": "toolCall", "id": call["id"], **call["function"]})
            used = {"input": 4, "output": 9, "cacheRead": 7, "cacheWrite": 2, "totalTokens": 22, "cost": {"total": 0.1}}
            inner |= {"api": "a", "provider": "p", "model": "m", "stopReason": "stop", "usage": used}
        rows.append(common | {"type": "message", "parentId": parent, "message": inner})
        level = {"type": "thinking_level_change", "id": one.name + "t", "parentId": one.name, "thinkingLevel": "low"}
        rows.append(level | {"timestamp": iso(one.time)})
        ends[one.name] = level["id"]
    return lines(rows)


def content(message):
    """A message as a content of the Gemini API."""
    parts = [{"text": message["content"]}] if message["content"] else []
    if message["role"] == "tool":
        response = {"id": message["tool_call_id"], "name": "t", "response": {"output": message["content"]}}
        return {"role": "user", "parts": [{"functionResponse": response}]}
    if message.get("reasoning_content"):
        parts.insert(0, {"text": message["reasoning_content"], "thought": True})
    for call in message.get("tool_calls", ()):
        inner = call["function"]
        parts.append({"functionCall": {"id": call["id"], "name": inner["name"], "args": inner["arguments"]}})
    return {"role": "model" if message["role"] == "assistant" else "user", "parts": parts}


def qwen_code(story):
    """Rows of Qwen Code."""
    rows, ends, starts = [], {None: None}, summaries(story)
    kinds = {"user": "user", "assistant": "assistant", "tool": "tool_result"}
    for one in story.said:
        common = {"sessionId": "s1", "timestamp": iso(one.time), "cwd": "/w", "version": "0.9"}
        if one.name in starts:
            told = {"type": "system", "subtype": "chat_compression", "uuid": one.name}
            payload = {"info": {}, "compressedHistory": [content(one.message)]}
            rows.append(common | told | {"parentUuid": ends[starts[one.name]], "systemPayload": payload})
            ends[one.name] = one.name
            continue
        row = common | {"uuid": one.name, "parentUuid": ends[one.parent], "type": kinds[one.message["role"]]}
        row["message"] = content(one.message)
        if one.message["role"] == "assistant":
            used = {"promptTokenCount": 13, "cachedContentTokenCount": 7, "candidatesTokenCount": 5}
            row |= {"model": "m", "usageMetadata": used | {"thoughtsTokenCount": 4, "totalTokenCount": 22}}
        note = {"uuid": one.name + "t", "parentUuid": one.name, "type": "system", "subtype": "ui_telemetry"}
        rows += [row, common | note | {"systemPayload": {"uiEvent": {}}}]
        ends[one.name] = note["uuid"]
    return lines(rows)


def gemini(story):
    """A session of Gemini CLI as rows; where the story goes back, the messages are set anew."""
    rows, last = [{"sessionId": "s1", "projectHash": "h", "startTime": iso(1.7e9), "lastUpdated": iso(1.7e9)}], None
    results = {one.parent: one for one in story.said if one.message["role"] == "tool"}

    def record(one):
        given = {"id": one.name, "timestamp": iso(one.time)}
        message = one.message
        if message["role"] == "user":
            return given | {"type": "user", "content": [{"text": message["content"]}]}
        calls = []
        for call in message.get("tool_calls", ()):
            found = {"id": call["id"], "name": call["function"]["name"], "args": call["function"]["arguments"]}
            shown = content(results[one.name].message)["parts"] if one.name in results else None
            calls.append(found | {"result": shown, "status": "success", "timestamp": iso(one.time)})
        thoughts = [{"subject": "", "description": message.get("reasoning_content", ""), "timestamp": iso(one.time)}]
        tokens = {"input": 13, "output": 5, "cached": 7, "thoughts": 4, "tool": 0, "total": 22}
        given |= {"type": "gemini", "content": message["content"], "thoughts": thoughts, "model": "m"}
        return given | {"tokens": tokens} | ({"toolCalls": calls} if calls else {})

    for one in story.said:
        if one.message["role"] == "tool":
            last = one.name
            continue
        if one.parent != last:
            path = [record(said) for said in story.path(one.parent) if said.message["role"] != "tool"]
            rows.append({"$set": {"messages": path, "lastUpdated": iso(one.time)}})
        if one.message["role"] == "assistant":
            rows.append({name: value for name, value in record(one).items() if name not in ("tokens", "toolCalls")})
        rows += [record(one), {"$set": {"lastUpdated": iso(one.time)}}]
        last = one.name
    return lines(rows)


def atif(story):
    """A trajectory for each way through the story, in a list; what it shares with those before is copied context."""
    parents = {one.parent for one in story.said}
    found, seen = [], set()
    for leaf in (one for one in story.said if one.name not in parents):
        steps = []
        for one in story.path(leaf.name):
            message = one.message
            if message["role"] == "tool":
                shows = {"source_call_id": message["tool_call_id"], "content": message["content"]}
                steps[-1]["observation"] = {"results": [shows]}
                continue
            step = {"step_id": len(steps) + 1, "timestamp": iso(one.time), "message": message["content"]}
            step["source"] = {"assistant": "agent"}.get(message["role"], message["role"])
            if message["role"] == "assistant":
                used = {"prompt_tokens": 13, "cached_tokens": 7, "completion_tokens": 9, "cost_usd": 0.1}
                step |= {"metrics": used, "model_name": "m", "reasoning_content": message.get("reasoning_content", "")}
                calls = [(call["id"], call["function"]) for call in message.get("tool_calls", ())]
                names = [{"tool_call_id": key, "function_name": inner["name"]} for key, inner in calls]
                step["tool_calls"] = [
                    name | {"arguments": inner["arguments"]} for name, (_, inner) in zip(names, calls, strict=True)
                ]
            steps.append(step | ({"is_copied_context": True} if one.name in seen else {}))
            seen.add(one.name)
        agent = {"name": "a", "version": "1", "tool_definitions": story.tools}
        found.append({"schema_version": "ATIF-v1.6", "session_id": leaf.name, "agent": agent, "steps": steps})
    return json.dumps(found if len(found) > 1 else found[0], indent=1)
