"""Stories in the formats of agents that export runs, of data sets, and of chat programs, as they write them."""

import html
import json

from tests import logs


def dumped(rows):
    return "\n".join(json.dumps(row) for row in rows)


def called(message):
    """Calls of tools with their arguments in a text, as interfaces hand them out."""
    calls = []
    for call in message.get("tool_calls", ()):
        function = call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}
        calls.append({"id": call["id"], "type": "function", "function": function})
    return calls


def litellm(message, **more):
    """A message as litellm gives it, and a response around it."""
    said = {"role": "assistant", "content": message["content"] or None, "tool_calls": called(message) or None}
    if message.get("reasoning_content"):
        said["reasoning_content"] = message["reasoning_content"]
        said["thinking_blocks"] = [{"type": "thinking", "thinking": message["reasoning_content"], "signature": "x"}]
    choice = {"finish_reason": "stop", "index": 0, "message": said}
    usage = {"prompt_tokens": 500, "completion_tokens": 40, "prompt_tokens_details": {"cached_tokens": 300}}
    return {"id": "r", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage} | more


# ------------------------------------------------------------------------------------------------------------ SWE-agent


def swe_item(message, **more):
    """An item of SWE-agent's history."""
    role, content = message["role"], message["content"]
    item = {"role": role, "content": content, "agent": "main", "message_type": "observation"}
    if role == "assistant":
        item |= {"thought": content, "action": "ls", "message_type": "action", "tool_calls": called(message) or None}
        thought = message.get("reasoning_content")
        item["thinking_blocks"] = [{"type": "thinking", "thinking": thought, "signature": "s"}] if thought else []
    if role == "tool":
        item["tool_call_ids"] = [message["tool_call_id"]]
    return item | more


def swe_agent(story):
    """Every step with its query, the last message of it marked for the provider's cache."""
    steps = []
    for sent, reply, _ in story.exchanges():
        query = [swe_item(message) for message in sent]
        query[-1]["content"] = [{"type": "text", "text": query[-1]["content"], "cache_control": {"type": "ephemeral"}}]
        step = {"action": "ls", "observation": "x", "response": reply["content"], "thought": reply["content"]}
        steps.append(step | {"execution_time": 0.5, "state": {}, "query": query, "extra_info": {}})
    history = [swe_item(one.message) for one in story.said]
    run = {"trajectory": steps, "history": history, "info": {"model_stats": {"api_calls": len(steps)}}}
    return json.dumps(run | {"replay_config": "{}", "environment": "e"}, indent=2)


def swe_agent_of_before(story):
    """Before 1.1: steps without queries, the history beside them."""
    run = json.loads(swe_agent(story))
    run["trajectory"] = [{k: v for k, v in step.items() if k != "query"} for step in run["trajectory"]]
    return json.dumps(run)


def mini_swe(story):
    """A run, every reply with its response."""
    messages = []
    for one in story.said:
        message = dict(one.message) | {"extra": {"timestamp": one.time}}
        if message["role"] == "assistant":
            response = litellm(message)
            message = response["choices"][0]["message"] | {"extra": {"response": response, "timestamp": one.time}}
        messages.append(message)
    messages.append({"role": "exit", "content": "Submitted", "extra": {"exit_status": "Submitted", "submission": ""}})
    info = {"config": {"model": {"model_name": "m"}}, "mini_version": "2.0.0", "exit_status": "", "submission": ""}
    return json.dumps({"info": info, "messages": messages, "trajectory_format": "mini-swe-agent-1.1"}, indent=2)


def mini_swe_responses(story):
    """The same through OpenAI's responses: a reply is a response with output."""
    messages = []
    for one in story.said:
        message = one.message
        if message["role"] == "tool":
            output = {"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}
            messages.append(output | {"extra": {}})
        elif message["role"] == "assistant":
            usage = {"input_tokens": 500, "output_tokens": 40, "input_tokens_details": {"cached_tokens": 300}}
            messages.append({"object": "response", "output": items(message), "usage": usage, "extra": {}})
        else:
            messages.append(message)
    info = {"exit_status": "Submitted", "submission": "diff", "config": {}, "mini_version": "1.17.0"}
    return json.dumps({"info": info, "messages": messages, "trajectory_format": "mini-swe-agent-1"})


def items(message):
    """Items of an answer."""
    made = []
    if message.get("reasoning_content"):
        summary = [{"type": "summary_text", "text": message["reasoning_content"]}]
        made.append({"type": "reasoning", "id": "rs", "summary": summary})
    if message["content"]:
        text = [{"type": "output_text", "text": message["content"]}]
        made.append({"type": "message", "role": "assistant", "content": text})
    for call in called(message):
        made.append({"type": "function_call", "call_id": call["id"]} | call["function"])
    return made


# ------------------------------------------------------------------------------------------------------------ OpenHands


def openhands_logs(story):
    """What `log_completions` writes, a file each; here a line each."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        messages = []
        for message in sent:
            text = [{"type": "text", "text": message["content"]}] if message["content"] else []
            own = {"content": text, "role": message["role"]}
            own |= {"tool_calls": called(message)} if message.get("tool_calls") else {}
            own |= {k: message[k] for k in ("tool_call_id", "reasoning_content") if k in message}
            messages.append(own)
        kwargs = {"temperature": 0.0} | ({"tools": tools, "tool_choice": "auto"} if tools else {})
        row = {"messages": messages, "response": litellm(reply), "args": [], "kwargs": kwargs}
        rows.append(row | {"timestamp": 1.7e9 + n, "cost": 0.01})
    return dumped(rows)


def openhands_events(story):
    """A stream of events; a compacted story forgets by ids, all but the system's, and a summary stands behind it."""
    events, roots = [], 0
    for one in story.said:
        message, head = one.message, {"id": len(events), "timestamp": "2025-06-01T10:00:00.000001"}
        if message["role"] == "user" and one.parent == story.root and (roots := roots + 1) > 1:
            forgotten = [event["id"] for event in events if event["id"] and event.get("action") != "condensation"]
            args = {"forgotten_event_ids": forgotten, "summary": message["content"], "summary_offset": 1, "thought": ""}
            action = {"source": "agent", "message": "Condensed", "action": "condensation", "args": args}
        elif message["role"] == "system":
            args = {"content": message["content"], "tools": story.tools, "agent_class": "CodeActAgent"}
            action = {"source": "agent", "message": "", "action": "system", "args": args}
        elif message["role"] == "user":
            args = {"content": message["content"], "image_urls": None, "wait_for_response": False}
            action = {"source": "user", "message": message["content"], "action": "message", "args": args}
        elif message["role"] == "tool":
            action = {"source": "agent", "message": "", "observation": "mcp", "content": message["content"]}
            action |= {"extras": {}, "cause": len(events) - 1, "tool_call_metadata": waiting(events, message)}
        elif message.get("tool_calls"):
            call = message["tool_calls"][0]
            metadata = {"function_name": "read", "tool_call_id": call["id"], "total_calls_in_response": 1}
            metadata["model_response"] = litellm(message, id=f"r{len(events)}")
            action = {"source": "agent", "message": "", "action": "call_tool_mcp", "args": {"name": "read"}}
            action |= {"tool_call_metadata": metadata, "timeout": 120}
        else:
            metrics = {"token_usages": [{"prompt_tokens": 700, "completion_tokens": 9, "cache_read_tokens": 600}]}
            args = {"content": message["content"], "wait_for_response": True}
            action = {"source": "agent", "message": "", "action": "message", "args": args, "llm_metrics": metrics}
        events.append(head | action)
        if message["role"] == "tool":
            change = {"source": "environment", "observation": "agent_state_changed", "content": "", "extras": {}}
            events.append({"id": len(events), "timestamp": head["timestamp"]} | change)
    return json.dumps(events)


def waiting(events, message):
    """The metadata of the call that a result answers."""
    known = [event["tool_call_metadata"] for event in events if "tool_call_metadata" in event]
    return next(one for one in known[::-1] if one["tool_call_id"] == message["tool_call_id"])


def sdk_events(story):
    """Events of the SDK, each under the one before it; a condensation where a compacted story begins anew."""
    rows, roots = [], 0
    text = lambda words: [{"cache_prompt": False, "type": "text", "text": words}] if words else []  # noqa: E731
    for one in story.said:
        message, parent = one.message, one.parent
        row = {"id": one.name, "timestamp": "2026-06-16T05:39:48.701247"}
        if message["role"] == "user" and parent == story.root and (roots := roots + 1) > 1 and not story.branched:
            gone = [said.name for said in story.said if said.name < one.name and said.message["role"] != "system"]
            at = 1 if story.root else 0
            row |= {"source": "environment", "forgotten_event_ids": gone, "summary": message["content"]}
            row |= {"summary_offset": at, "llm_response_id": "c", "kind": "Condensation"}
            parent = rows[-1]["id"]
        elif message["role"] == "system":
            row |= {"source": "agent", "system_prompt": text(message["content"])[0], "tools": story.tools or []}
            row |= {"dynamic_context": None, "kind": "SystemPromptEvent"}
        elif message["role"] == "user":
            said = {"role": "user", "content": text(message["content"]), "tool_calls": None, "thinking_blocks": []}
            row |= {"source": "user", "llm_message": said, "activated_skills": [], "extended_content": []}
            row |= {"kind": "MessageEvent"}
        elif message["role"] == "tool":
            shown = {"content": text(message["content"]), "is_error": False, "kind": "FileEditorObservation"}
            row |= {"source": "environment", "observation": shown, "tool_name": "read", "action_id": parent}
            row |= {"tool_call_id": message["tool_call_id"], "kind": "ObservationEvent"}
        elif message.get("tool_calls"):
            call = called(message)[0]
            row |= {"source": "agent", "thought": text(message["content"]), "tool_name": "read", "action": {}}
            row |= {"reasoning_content": message.get("reasoning_content"), "thinking_blocks": []}
            row |= {"tool_call": {"id": call["id"], "origin": "completion"} | call["function"], "kind": "ActionEvent"}
            row |= {"tool_call_id": call["id"], "llm_response_id": f"r-{one.name}"}
        else:
            said = {"role": "assistant", "content": text(message["content"])}
            said["reasoning_content"] = message.get("reasoning_content")
            row |= {"source": "agent", "llm_message": said, "llm_response_id": f"r-{one.name}", "kind": "MessageEvent"}
        rows.append(row | {"parent_id": parent if parent else "__root__"})
    return dumped(rows)


def sdk_logs(story):
    """Requests of the SDK, the tools beside the messages."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        messages = [message | ({"tool_calls": called(message)} if "tool_calls" in message else {}) for message in sent]
        row = {"context_window": 200_000, "messages": messages, "tools": tools, "kwargs": {"temperature": 0.0}}
        row |= {"response": litellm(reply), "cost": 0.0, "timestamp": 1.7e9 + n, "latency_sec": 1.0}
        rows.append(row | {"usage_summary": {"prompt_tokens": 500}})
    return dumped(rows)


# ------------------------------------------------------------------------------------------------------------ data sets


def tagged(message):
    """The text of a message as Hermes has it."""
    text = message["content"]
    if message["role"] == "tool":
        return f"<tool_response>\n{text}\n</tool_response>"
    for n, call in enumerate(message.get("tool_calls", ())):
        inner = {"arguments": call["function"]["arguments"], "name": call["function"]["name"]}
        inner = json.dumps(inner) if n % 2 else repr(inner)  # the data set has both
        text = f"{text}\n<tool_call>\n{inner}\n</tool_call>".strip()
    thought = message.get("reasoning_content")
    return f"<think>\n{thought}\n</think>\n{text}" if thought else text


NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}


def hermes(story):
    """A row of the data set: tools as a text of JSON beside the turns."""
    turns = [{"from": NAMES[one.message["role"]], "value": tagged(one.message)} for one in story.said]
    row = {"id": "h1", "conversations": turns, "category": "a", "task": "b"}
    return dumped([row | ({"tools": json.dumps(story.tools)} if story.tools else {})])


def hermes_session(story):
    """What Hermes Agent keeps of a session."""
    messages = []
    for one in story.said[1 if story.root else 0 :]:
        message = {k: v for k, v in one.message.items() if k != "reasoning_content"}
        if message["role"] == "assistant":
            message |= {"reasoning": one.message.get("reasoning_content"), "finish_reason": "stop"}
            message["tool_calls"] = called(one.message) or None
        messages.append(message)
    system = story.said[0].message["content"] if story.root else ""
    row = {"session_id": "s", "model": "m", "base_url": "u", "platform": "cli", "session_start": "2026-01-01T00:00:00"}
    row |= {"system_prompt": system, "tools": story.tools or [], "message_count": len(messages), "messages": messages}
    return json.dumps(row, indent=2)


def hermes_rows(story):
    """The same as a gateway writes it, a row each."""
    whole = json.loads(hermes_session(story))
    meta = {"role": "session_meta", "tools": whole["tools"], "model": "m", "platform": "slack", "timestamp": "x"}
    rows = [m | {"timestamp": f"2026-01-01T00:{n:02}:00"} for n, m in enumerate(whole["messages"])]
    return dumped([meta, *rows])


def sharegpt(story):
    """One conversation in a document: calls are turns of their own, the system's text and the tools beside them."""
    turns = []
    for one in story.said[1 if story.root else 0 :]:
        message = one.message
        if message.get("tool_calls"):
            turns.append({"from": "function_call", "value": json.dumps(message["tool_calls"][0]["function"])})
        elif message["role"] == "tool":
            turns.append({"from": "observation", "value": message["content"]})
        else:
            turns.append({"from": NAMES[message["role"]], "value": tagged(message), "weight": 1})
    row = {"conversations": turns, "tools": json.dumps(story.tools) if story.tools else ""}
    row |= {"system": story.said[0].message["content"]} if story.root else {}
    return json.dumps([row])


def sharegpt_roles(story):
    """The variant with role and content in it."""
    turns = [{"role": one.message["role"], "content": one.message["content"]} for one in story.said]
    return dumped([{"id": "a", "conversations": turns}])


def lmsys(story):
    """A row of LMSYS-Chat-1M."""
    turns = [{"content": one.message["content"], "role": one.message["role"]} for one in story.said]
    row = {"conversation_id": "c", "model": "vicuna-13b", "conversation": turns, "turn": len(turns) // 2}
    moderation = [{"categories": {"hate": False}, "category_scores": {"hate": 0.1}, "flagged": False}]
    return dumped([row | {"language": "English", "openai_moderation": moderation, "redacted": False}])


# -------------------------------------------------------------------------------------------------------- chat programs


def turns(story):
    """(name, parent, messages) of what users see as one: a question, or all that answers it."""
    found, home = [], {}
    for one in story.said:
        if one.message["role"] == "system":
            continue
        parent = home.get(one.parent)
        if one.message["role"] != "user" and parent is not None and found[parent][2][0]["role"] != "user":
            found[parent][2].append(one.message)
            home[one.name] = parent
        else:
            home[one.name] = len(found)
            found.append((one.name, found[parent][0] if parent is not None else None, [one.message], one.time))
    return found


def webui(story, write):
    """An export of one chat."""
    nodes = {}
    for name, parent, messages, time in turns(story):
        node = {"id": name, "parentId": parent, "childrenIds": [], "role": messages[0]["role"], "timestamp": int(time)}
        if parent:
            nodes[parent]["childrenIds"].append(name)
        if node["role"] == "assistant":
            usage = {"prompt_tokens": 500, "completion_tokens": 40}
            node |= {"model": "m", "modelName": "M", "done": True, "usage": usage} | write(messages)
        else:
            node |= {"content": messages[0]["content"], "models": ["m"]}
        nodes[name] = node
    params = {"system": story.said[0].message["content"]} if story.root else {}
    history = {"messages": nodes, "currentId": list(nodes)[-1]}
    chat = {"id": "", "title": "t", "models": ["m"], "params": params, "history": history, "messages": []}
    return json.dumps([{"id": "u1", "user_id": "x", "title": "t", "chat": chat, "archived": False, "meta": {}}])


def open_webui(story):
    """Thinking, calls and results in texts, escaped as they are."""

    def write(messages):
        texts, results = [], {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
        for message in messages:
            if thought := message.get("reasoning_content"):
                quoted = html.escape("\n".join(f"> {line}" for line in thought.splitlines()))
                head = '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds</summary>\n'
                texts.append(f"{head}{quoted}\n</details>")
            texts += [message["content"]] if message["content"] and message["role"] == "assistant" else []
            for call in called(message):
                arguments = html.escape(json.dumps(call["function"]["arguments"]))
                result = html.escape(json.dumps(results[call["id"]], ensure_ascii=False))
                head = f'<details type="tool_calls" done="true" id="{call["id"]}" name="{call["function"]["name"]}" '
                head += f'arguments="{arguments}" files="" embeds="">\n<summary>Tool Executed</summary>\n'
                texts.append(f"{head}{result}\n</details>")
        return {"content": "\n".join(texts).strip()}

    return webui(story, write)


def open_webui_output(story):
    """Later versions: items of the answers beside the text."""

    def write(messages):
        made = []
        for message in messages:
            if message["role"] == "tool":
                output = [{"type": "input_text", "text": message["content"]}]
                made.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": output})
            else:
                made += items(message)
        return {"content": "<details type=...", "output": made}

    return webui(story, write)


def chatgpt(story):
    """An export of one conversation."""
    nodes, last = {"root": {"id": "root", "message": None, "parent": None, "children": []}}, {None: "root"}

    def add(name, parent, role, content, time, **more):
        message = {"id": name, "author": {"role": role, "name": None, "metadata": {}}, "create_time": time}
        message |= {"content": content, "status": "finished_successfully", "weight": 1.0, "recipient": "all"} | more
        message["metadata"] = {"model_slug": "gpt-5-thinking"}
        nodes[name] = {"id": name, "message": message, "parent": parent, "children": []}
        nodes[parent]["children"].append(name)
        return name

    for one in story.said:
        message, at, time = one.message, last[one.parent], one.time
        if message.get("reasoning_content"):
            thoughts = [{"summary": "s", "content": message["reasoning_content"], "chunks": [], "finished": True}]
            at = add(f"{one.name}-t", at, "assistant", {"content_type": "thoughts", "thoughts": thoughts}, time)
            recap = {"content_type": "reasoning_recap", "content": "Thought for 8s"}
            at = add(f"{one.name}-r", at, "assistant", recap, time)
        if message["content"] or not message.get("tool_calls"):
            text = {"content_type": "text", "parts": [message["content"]]}
            at = add(one.name, at, message["role"], text, time)
        for call in message.get("tool_calls", ()):
            code = {"content_type": "code", "language": "json", "text": json.dumps(call["function"]["arguments"])}
            at = add(f"{one.name}-c", at, "assistant", code, time, recipient=call["function"]["name"])
        last[one.name] = at
    row = {"title": "t", "create_time": 1.7e9, "mapping": nodes, "current_node": at, "conversation_id": "g1"}
    return json.dumps([row])


def story(seed, **options):
    """A story that knows whether it has branches."""
    made = logs.Story(seed, **options)
    made.branched = bool(options.get("branches"))
    return made
