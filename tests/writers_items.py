"""Stories written down as OpenAI's Responses API, Codex, Anthropic's Messages API, Cline, Roo and Cursor keep them.

Written from the formats' own documentation and types (openai-python, openai/codex, anthropic-sdk-python, cline/cline,
RooCodeInc/Roo-Code), not from the readers.
"""

import datetime
import json


def lines(rows):
    """JSON, one a line."""
    return "\n".join(json.dumps(row) for row in rows)


def items(messages):
    """Items of the Responses API for messages."""
    found = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            found.append({"type": "function_call_output", "call_id": "c", "output": message["content"]})
            continue
        if message.get("reasoning_content"):
            thought = [{"type": "reasoning_text", "text": message["reasoning_content"]}]
            found.append({"type": "reasoning", "id": "rs", "summary": [], "content": thought})
        if role != "assistant":
            content = [{"type": "input_text", "text": message["content"]}]
            found.append({"type": "message", "role": role, "content": content})
        elif message["content"]:
            content = [{"type": "output_text", "text": message["content"], "annotations": []}]
            found.append({"type": "message", "id": "msg", "role": role, "status": "completed", "content": content})
        for call in message.get("tool_calls") or ():
            inner = call["function"]
            given = {"name": inner["name"], "arguments": json.dumps(inner["arguments"])}
            found.append({"type": "function_call", "id": "fc", "call_id": "c", "status": "completed"} | given)
    return found


def _request(sent, tools):
    """A request of the Responses API, without its input."""
    made = {"model": "gpt-5"}
    if sent[0]["role"] == "system":
        made["instructions"] = sent[0]["content"]
    if tools:
        made["tools"] = [{"type": "function"} | tool["function"] for tool in tools]
    return made, sent[1:] if sent[0]["role"] == "system" else sent


def _answer(n, reply, **more):
    """A response of the Responses API."""
    return {"id": f"resp_{n}", "object": "response", "created_at": 1.7e9 + n, "output": items([reply])} | more


def responses(story):
    """Requests with all of their input."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        request, rest = _request(sent, tools)
        rows.append({"request": request | {"input": items(rest)}, "response": _answer(n, reply)})
    return lines(rows)


def responses_chained(story):
    """Requests that name the response before them and send what is new."""
    rows, known = [], {}
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        request, rest = _request(sent, tools)
        parent = max((i for i in range(len(rest)) if id(rest[i]) in known), default=None)
        if parent is not None:
            request["previous_response_id"], rest = known[id(rest[parent])], rest[parent + 1 :]
        known[id(reply)] = f"resp_{n}"
        rows.append(request | {"input": items(rest), "response": _answer(n, reply)})
    return lines(rows)


def responses_events(story):
    """Requests, each with the events of its stream in the rows behind it."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        request, rest = _request(sent, tools)
        rows.append(request | {"stream": True, "input": items(rest)})
        rows.append({"type": "response.created", "response": _answer(n, reply) | {"output": []}})
        rows += [{"type": "response.output_item.done", "item": item} for item in items([reply])]
        rows.append({"type": "response.completed", "response": _answer(n, reply, output=[])})
    return lines(rows)


def responses_sse(story):
    """Requests, each with its stream as the text that came over the wire, in one document."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        request, rest = _request(sent, tools)
        events = [{"type": "response.created", "response": _answer(n, reply) | {"output": []}}]
        events.append({"type": "response.completed", "response": _answer(n, reply)})
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        rows.append({"request": {"url": "/v1/responses", "body": request | {"input": items(rest)}}})
        rows[-1]["response"] = {"status_code": 200, "body_raw": text}
    return json.dumps(rows, indent=1)


def responses_items(story):
    """Items alone, one a line."""
    return lines(items(one.message for one in story.said))


def _row(kind, payload, time):
    stamp = datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat().replace("+00:00", "Z")
    return {"timestamp": stamp, "type": kind, "payload": payload}


def _counted(n):
    last = {"input_tokens": 100 + n, "cached_input_tokens": 7, "output_tokens": 9, "reasoning_output_tokens": 2}
    info = {"total_token_usage": {"input_tokens": 1000 * n}, "last_token_usage": last, "model_context_window": 9999}
    return {"type": "token_count", "info": info}


def codex(story, before=False):
    """A rollout: items, turns, events; a new root behind the system's text is a compaction.

    Args:
        before: whether tokens are counted before the items of a reply, as in 2025, or behind them.
    """
    rows, first = [], story.said[0]
    if first.message["role"] == "system":
        meta = {"id": "0", "base_instructions": {"text": first.message["content"]}, "cli_version": "1"}
        rows.append(_row("session_meta", meta, first.time))
    last = story.root
    for n, one in enumerate(story.said[1:] if rows else story.said):
        said = items([one.message])
        if one.parent != last:  # what a compaction left
            rows.append(_row("compacted", {"message": "x", "replacement_history": said}, one.time))
            last = one.name
            continue
        last, own = one.name, [_row("response_item", item, one.time) for item in said]
        if one.message["role"] == "assistant":
            count = _row("event_msg", _counted(n), one.time)
            own = [count, *own, count] if before else [*own, count, count]
            repeated = {"type": "agent_message", "message": one.message["content"]}
            own = [_row("turn_context", {"model": "gpt-5", "cwd": "/"}, one.time), *own]
            own.append(_row("event_msg", repeated, one.time))
        elif one.message["role"] == "user":
            own.append(_row("event_msg", {"type": "user_message", "message": one.message["content"]}, one.time))
        rows += own
    return lines(rows)


def codex_before(story):
    """The same, tokens counted first."""
    return codex(story, before=True)


def codex_bare(story):
    """A rollout of before September 2025."""
    head = {"id": "5973b6c0-94b8-487b-a530-2aeb6098ae0e", "timestamp": "2025-05-07T17:24:21.123Z", "instructions": None}
    rows = [head]
    for one in story.said:
        rows += [{"record_type": "state"}, *items([one.message])]
    return lines(rows)


def blocks(messages):
    """Messages of Anthropic's API: results of tools stand in a user's message."""
    found = []
    for message in messages:
        if message["role"] == "tool":
            result = {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "text", "text": message["content"]}],
            }
            found.append({"role": "user", "content": [result]})
        elif message["role"] == "user":
            found.append({"role": "user", "content": message["content"]})
        else:
            found.append({"role": "assistant", "content": said(message)})
    return found


def said(message):
    """Blocks of an assistant's message."""
    found = []
    if message.get("reasoning_content"):
        found.append({"type": "thinking", "thinking": message["reasoning_content"], "signature": "EqQB"})
    if message["content"]:
        found.append({"type": "text", "text": message["content"]})
    for call in message.get("tool_calls") or ():
        inner = call["function"]
        found.append({"type": "tool_use", "id": "t", "name": inner["name"], "input": inner["arguments"]})
    return found


def _asked(sent, tools):
    """A request of Anthropic's API."""
    made = {"model": "claude-opus-4", "max_tokens": 99}
    if sent[0]["role"] == "system":
        text = {"type": "text", "text": sent[0]["content"], "cache_control": {"type": "ephemeral"}}
        made["system"], sent = [text], sent[1:]
    if tools:
        own = [(tool["function"], tool["function"]["parameters"]) for tool in tools]
        made["tools"] = [
            {"name": tool["name"], "description": tool["description"], "input_schema": schema} for tool, schema in own
        ]
    return made | {"messages": blocks(sent)}


def _replied(reply):
    """A response of Anthropic's API."""
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 50, "output_tokens": 6}
    return {"id": "m", "type": "message", "role": "assistant", "content": said(reply), "usage": usage}


def _events(reply):
    """The events of a streamed response of Anthropic's API; thinking, text and arguments in two parts each."""
    whole = _replied(reply)
    found = [{"type": "message_start", "message": whole | {"content": []}}]
    for n, block in enumerate(whole["content"]):
        name = {"thinking": "thinking", "text": "text", "tool_use": "partial_json"}[block["type"]]
        text = json.dumps(block["input"]) if name == "partial_json" else block[name]
        empty = {"tool_use": {"input": {}}, "text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}
        start = block | empty[block["type"]]
        found.append({"type": "content_block_start", "index": n, "content_block": start})
        kind = {"thinking": "thinking_delta", "text": "text_delta", "tool_use": "input_json_delta"}[block["type"]]
        for part in (text[:5], text[5:]):
            found.append({"type": "content_block_delta", "index": n, "delta": {"type": kind, name: part}})
        if name == "thinking":
            delta = {"type": "signature_delta", "signature": "EqQB"}
            found.append({"type": "content_block_delta", "index": n, "delta": delta})
        found.append({"type": "content_block_stop", "index": n})
    found.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 8}})
    return [*found, {"type": "message_stop"}]


def anthropic(story):
    """Requests and responses."""
    return lines({"request": _asked(s, t), "response": _replied(r)} for s, r, t in story.exchanges())


def anthropic_bodies(story):
    """The same in bodies, as a proxy writes them."""
    return lines(
        {"timestamp": 1.7e9, "request": {"url": "https://x/v1/messages", "body": _asked(s, t)}, "response": {"body": a}}
        for s, a, t in ((s, _replied(r), t) for s, r, t in story.exchanges())
    )


def anthropic_sse(story):
    """The same, answers as the text that came over the wire."""
    rows = []
    for sent, reply, tools in story.exchanges():
        text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _events(reply))
        rows.append({"request": {"body": _asked(sent, tools)}, "response": {"body_raw": text}})
    return lines(rows)


def anthropic_events(story):
    """Requests, each with the events of its stream in the rows behind it."""
    return lines(row for sent, reply, tools in story.exchanges() for row in [_asked(sent, tools), *_events(reply)])


def anthropic_list(story):
    """Messages alone, in one list."""
    return json.dumps(blocks(one.message for one in story.said))


def _milli(time):
    return round(1000 * time)


def cline(story):
    """A history of Cline: a question in tags with details of the surroundings, blocks behind them."""
    rows = []
    for one, entry in zip(story.said, blocks(said.message for said in story.said), strict=True):
        if one.message["role"] == "user":
            entry["content"] = [{"type": "text", "text": one.message["content"]}]
        if one.message["role"] == "assistant":
            entry["modelInfo"] = {"modelId": "qwen3.6", "providerId": "x", "mode": "act"}
            entry["metrics"] = {"tokens": {"prompt": 3, "completion": 4, "cached": 50}}
        rows.append(entry | {"ts": _milli(one.time)})
    return json.dumps(rows)


def roo(story):
    """A history of Roo Code: a new root is a summary, under which all before it is hidden."""
    rows, last = [], None
    for one, entry in zip(story.said, blocks(said.message for said in story.said), strict=True):
        if isinstance(entry["content"], str):
            entry["content"] = [{"type": "text", "text": entry["content"]}]
        if rows and one.parent != last:
            for row in rows:
                row.setdefault("condenseParent", one.name)
            entry |= {"isSummary": True, "condenseId": one.name}
        last = one.name
        rows.append(entry | {"ts": _milli(one.time)})
    return json.dumps(rows)


def _bubbles(story):
    """(id, bubble) of a story: thinking, words and a tool are bubbles of their own."""
    found = []
    for one in story.said:
        message, stamp = one.message, {"createdAt": _row("x", None, one.time)["timestamp"]}
        if message["role"] == "user":
            found.append({"type": 1, "text": message["content"]} | stamp)
        elif message["role"] == "tool":
            found[-1]["toolFormerData"] |= {"status": "completed", "result": message["content"]}
        else:
            if message.get("reasoning_content"):
                thought = {"text": message["reasoning_content"], "signature": ""}
                found.append({"type": 2, "text": "", "capabilityType": 30, "thinking": thought} | stamp)
            if message["content"]:
                count = {"inputTokens": 70, "outputTokens": 8}
                found.append({"type": 2, "text": message["content"], "tokenCount": count} | stamp)
            for call in message.get("tool_calls") or ():
                tool = {"name": call["function"]["name"], "rawArgs": json.dumps(call["function"]["arguments"])}
                tool |= {"tool": 5, "toolCallId": "t", "modelCallId": one.name}
                found.append({"type": 2, "text": "", "toolFormerData": tool} | stamp)
    return [(f"b{len(found) - n}", bubble) for n, bubble in enumerate(found)]


def cursor(story):
    """Rows of the database as sqlite3 -json writes them, in the order of their keys."""
    found = _bubbles(story)
    headers = [{"bubbleId": name, "type": bubble["type"]} for name, bubble in found]
    head = {"composerId": "c1", "modelConfig": {"modelName": "qwen"}, "fullConversationHeadersOnly": headers}
    rows = [{"key": "composerData:c1", "value": json.dumps(head)}]
    rows += [{"key": f"bubbleId:c1:{name}", "value": json.dumps(bubble | {"bubbleId": name})} for name, bubble in found]
    return json.dumps(sorted(rows, key=lambda row: row["key"]), indent=1)


def cursor_composer(story):
    """A composer with its bubbles, as older versions keep it and exports give it."""
    bubbles = [bubble | {"bubbleId": name} for name, bubble in _bubbles(story)]
    return json.dumps({"composerId": "c1", "conversation": bubbles})


def cursor_agent(story):
    """A transcript of the agent; with results of tools, which newer versions write."""
    rows = []
    for entry in blocks(one.message for one in story.said):
        if isinstance(entry["content"], str):
            entry["content"] = [{"type": "text", "text": entry["content"]}]
        rows.append({"role": entry["role"], "message": {"content": entry["content"]}})
    return lines([*rows, {"type": "turn_ended", "status": "success"}])
