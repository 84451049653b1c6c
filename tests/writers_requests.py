"""Stories as logs of requests: how clients and servers of OpenAI's interface write them, from their own pages."""

import datetime
import json


def lines(rows):
    """JSONL."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def sent_as(message):
    """A message as clients send it: arguments as a text, ids at calls and results."""
    made = dict(message)
    if made.get("tool_calls"):
        made["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}}
            for call in made["tool_calls"]
        ]
        made["content"] = made["content"] or None
    return made


def body(sent, tools, **more):
    """A request's body."""
    made = {"model": "qwen3.6-27b", "messages": [sent_as(message) for message in sent]} | more
    return made | ({"tools": tools} if tools else {})


def completion(reply, n=0, **more):
    """A response's body."""
    choice = {"index": 0, "message": sent_as(reply), "finish_reason": "stop"}
    usage = {"prompt_tokens": 100 + n, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    made = {"id": f"chatcmpl-{n}", "object": "chat.completion", "created": 1700000000 + n, "model": "qwen3.6-27b"}
    return made | {"choices": [choice], "usage": usage} | more


def chunks(reply, n=0, reasoning="reasoning_content"):
    """The chunks of a stream: two signs of text each, arguments in two halves, usage in the last one."""
    head = {"id": f"chatcmpl-{n}", "object": "chat.completion.chunk", "created": 1700000000 + n, "model": "q"}
    deltas, reply = [{"role": "assistant", "content": ""}], sent_as(reply)
    for name, text in ((reasoning, reply.get("reasoning_content") or ""), ("content", reply["content"] or "")):
        deltas += [{name: text[i : i + 2]} for i in range(0, len(text), 2)]
    for i, call in enumerate(reply.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        function = {"name": name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": i, "id": call["id"], "type": "function", "function": function}]})
        for half in (arguments[:3], arguments[3:]):
            deltas.append({"tool_calls": [{"index": i, "function": {"arguments": half}}]})
    made = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    made.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*made, head | {"choices": [], "usage": {"prompt_tokens": 100 + n, "completion_tokens": 7}}]


def events(rows):
    """Chunks as a server sends them."""
    return "".join(f"data: {json.dumps(row)}\n\n" for row in rows) + "data: [DONE]\n\n"


def openai(story):
    """A log of requests and responses."""
    found = enumerate(story.exchanges())
    return lines({"request": body(sent, tools), "response": completion(reply, n)} for n, (sent, reply, tools) in found)


def openai_list(story):
    """The same as one JSON list, a byte order mark before it."""
    return "\ufeff" + json.dumps([json.loads(line) for line in openai(story).splitlines()], indent=1)


def openai_sides(story):
    """Requests and responses in rows that follow each other."""
    rows = [json.loads(line) for line in openai(story).splitlines()]
    return lines(side for row in rows for side in (row["request"], row["response"]))


def openai_texts(story):
    """Bodies as texts, as proxies keep them."""
    rows = [json.loads(line) for line in openai(story).splitlines()]
    return lines(
        {"request_body": json.dumps(row["request"]), "response_body": json.dumps(row["response"])} for row in rows
    )


def openai_events(story):
    """Responses as the events of a stream."""
    found = enumerate(story.exchanges())
    return lines(
        {"request": body(sent, tools, stream=True), "response": events(chunks(reply, n))}
        for n, (sent, reply, tools) in found
    )


def openai_chunks(story):
    """Rows of chunks behind each request; the reasoning under OpenRouter's name."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        rows += [body(sent, tools, stream=True), *chunks(reply, n, "reasoning")]
    return lines(rows)


def openai_snapshots(story):
    """Pictures of a conversation that grows, each after an answer."""
    return lines(
        {"messages": [*map(sent_as, [*sent, reply])], "tools": tools} for sent, reply, tools in story.exchanges()
    )


def openai_batch(story):
    """A batch: all lines of its input, then all of its output, which comes in another order."""
    first, second = [], []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        name = f"request-{n}"
        first.append({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body(sent, tools)})
        response = {"status_code": 200, "request_id": f"r{n}", "body": completion(reply, n)}
        second.append({"id": f"batch_req_{n}", "custom_id": name, "response": response, "error": None})
    return lines([*first, *second[::-1]])


def _prompt(sent, tools):
    from labkit import thinking

    return thinking.render(sent, tools=tools, preserve=True)


def _words(reply):
    """What a model writes behind the open thinking block."""
    from labkit import thinking

    alone = [{"role": "user", "content": "?"}, reply]
    text = thinking.render(alone, preserve=True, add_generation_prompt=False)
    return text.partition("<|im_start|>assistant\n<think>\n")[2].removesuffix("<|im_end|>\n")


def stamp(n):
    """A time as ISO 8601 has it."""
    return datetime.datetime.fromtimestamp(1.7e9 + n, datetime.UTC).isoformat()
