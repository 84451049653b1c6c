"""Stories as logs of requests: how clients and servers of OpenAI's interface write them, from their own pages."""

import datetime
import json

from labkit import reuse, thinking


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


def prompt(sent, tools, **more):
    """A prompt as the family's template writes it, thinking of all turns in it."""
    return thinking.render(sent, tools=tools, preserve=True, **more)


def written(reply):
    """What a model writes behind the open thinking block."""
    alone = [{"role": "user", "content": "?"}, reply]
    text = thinking.render(alone, preserve=True, add_generation_prompt=False)
    return text.partition("<|im_start|>assistant\n<think>\n")[2].removesuffix("<|im_end|>\n")


def coded(text):
    """Token ids of nano."""
    return reuse.small_tokenizer()(text, add_special_tokens=False)["input_ids"]


def stamp(n):
    """A time as ISO 8601 has it."""
    return datetime.datetime.fromtimestamp(1.7e9 + n, datetime.UTC).isoformat()


def vllm(story):
    """Requests to /v1/completions with their responses."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        choice = {"index": 0, "text": written(reply), "finish_reason": "stop"}
        usage = {"prompt_tokens": 50 + n, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 48}}
        response = {"object": "text_completion", "created": 1700000000 + n, "choices": [choice], "usage": usage}
        rows.append({"request": {"model": "q", "prompt": prompt(sent, tools)}, "response": response})
    return lines(rows)


def vllm_ids(story):
    """Outputs of the engine, their prompts as token ids alone."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        ids = coded(prompt(sent, tools))
        output = {"index": 0, "text": written(reply), "token_ids": coded(written(reply) + "<|im_end|>")}
        row = {"request_id": str(n), "prompt": None, "prompt_token_ids": ids, "outputs": [output], "finished": True}
        rows.append(row | {"num_cached_tokens": 16})
    return lines(rows)


def sglang(story, texts=True):
    """The log of a server, level 3, as JSON behind what its logger writes; a row when a request came in, too."""
    text = ""
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        whole = prompt(sent, tools)
        asked = {"rid": f"r{n}", "text": whole if texts else None, "input_ids": None if texts else coded(whole)}
        asked |= {"sampling_params": {"temperature": 1.0, "stop": None}, "stream": True}
        facts = {"id": f"r{n}", "finish_reason": {"type": "stop", "matched": 9}, "prompt_tokens": 70 + n}
        facts |= {"completion_tokens": 11, "cached_tokens": 64, "e2e_latency": 0.5}
        out = {"text": written(reply), "output_ids": coded(written(reply) + "<|im_end|>"), "meta_info": facts}
        out = out if not texts else {name: value for name, value in out.items() if name != "output_ids"}
        for event, more in (("request.received", {}), ("request.finished", {"out": out})):
            row = {"timestamp": stamp(n), "event": event, "rid": f"r{n}", "obj": asked} | more
            text += f"[2026-05-20 08:02:{n % 60:02d}] {json.dumps(row)}\n"
    return text


def sglang_ids(story):
    """The same where requests came as token ids."""
    return sglang(story, texts=False)


def llama_server(story):
    """Responses of /completion, a line each."""
    rows = []
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        row = {"index": 0, "content": written(reply), "tokens": [], "id_slot": 0, "stop": True, "model": "q.gguf"}
        row |= {"tokens_predicted": 12, "tokens_evaluated": 90 + n, "generation_settings": {"n_predict": -1}}
        row |= {"prompt": prompt(sent, tools), "truncated": False, "stop_type": "eos", "tokens_cached": 101 + n}
        rows.append(row | {"timings": {"cache_n": 80, "prompt_n": 10 + n, "prompt_ms": 4.5, "predicted_n": 12}})
    return lines(rows)


def llama_log(story):
    """The log file of a server that runs with -v: bodies of chat requests among everything else it says."""
    text = "build: 7000 (abcdef) with GNU\nmain: server is listening on http://127.0.0.1:8080\n"
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        response = completion(reply, n)
        del response["usage"]["prompt_tokens_details"]
        response["timings"] = {"cache_n": 40, "prompt_n": 60 + n, "predicted_n": 7}
        text += f"slot launch_slot_: id  0 | task {n} | processing task\n"
        text += "srv  log_server_r: request: POST /v1/chat/completions 127.0.0.1 200\n"
        text += f"srv  log_server_r: request:  {json.dumps(body(sent, tools))}\n"
        text += f"srv  log_server_r: response: {json.dumps(response)}\n"
    return text


def serialised(message):
    """A message as LangChain's `dumpd` has it."""
    kind = {"system": "System", "user": "Human", "assistant": "AI", "tool": "Tool"}[message["role"]]
    kwargs = {"content": message["content"], "type": {"Human": "human"}.get(kind, kind.lower())}
    if message.get("reasoning_content"):
        kwargs["additional_kwargs"] = {"reasoning_content": message["reasoning_content"]}
    calls = [call | call["function"] for call in message.get("tool_calls") or ()]
    if calls:
        kwargs["tool_calls"] = [
            {"name": c["name"], "args": c["arguments"], "id": c["id"], "type": "tool_call"} for c in calls
        ]
    if "tool_call_id" in message:
        kwargs["tool_call_id"] = message["tool_call_id"]
    names = ["langchain", "schema", "messages", f"{kind}Message"]
    return {"lc": 1, "type": "constructor", "id": names, "kwargs": kwargs}


def langsmith(story, form=serialised):
    """Runs of an agent, newest first: a chain, its calls of the model and of tools."""
    root = {"id": "root", "name": "agent", "run_type": "chain", "start_time": stamp(0), "inputs": {"input": "go"}}
    runs = [root | {"outputs": {}, "trace_id": "t", "parent_run_id": None}]
    for n, (sent, reply, tools) in enumerate(story.exchanges()):
        answer = form(reply)
        usage = {"input_tokens": 60 + n, "output_tokens": 8, "input_token_details": {"cache_read": 32}}
        if "kwargs" in answer:
            answer["kwargs"]["usage_metadata"] = usage
        outputs = {"generations": [[{"text": reply["content"], "type": "ChatGeneration", "message": answer}]]}
        extra = {"invocation_params": {"model": "q", "tools": tools or []}, "metadata": {"ls_provider": "openai"}}
        run = {"id": f"run-{n}", "name": "ChatOpenAI", "run_type": "llm", "start_time": stamp(2 * n + 1)}
        run |= {"trace_id": "t", "parent_run_id": "root", "extra": extra, "error": None}
        runs.append(run | {"inputs": {"messages": [[form(message) for message in sent]]}, "outputs": outputs})
        tool = {"id": f"tool-{n}", "name": "read", "run_type": "tool", "start_time": stamp(2 * n + 2)}
        runs.append(tool | {"trace_id": "t", "inputs": {"input": "x"}, "outputs": {"output": "y"}})
    return json.dumps(runs[::-1])


def langsmith_lines(story):
    """The same a run a line, messages as mappings of a type."""

    def plain(message):
        made = serialised(message)["kwargs"]
        return made | {"type": made["type"]}

    return lines(json.loads(langsmith(story, plain)))
