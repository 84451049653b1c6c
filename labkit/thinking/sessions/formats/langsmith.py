"""Runs exported from LangSmith: those of type `llm` are calls, in the order in which they began.

From langchain-ai/langsmith-sdk `python/langsmith/schemas.py` (`Run`: `run_type`, `inputs`, `outputs`, `start_time`,
`trace_id`, `parent_run_id`, `child_runs`, `prompt_tokens`, `prompt_token_details`) and langchain-ai/langchain
`libs/core/langchain_core/load` and `messages` (`{"lc": 1, "type": "constructor", "id": [..., "HumanMessage"],
"kwargs": ...}`, `usage_metadata`, `additional_kwargs`). Exports stand newest first as often as not.
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import bodies, parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable

ROLES = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant", "system": "system"}
ROLES |= {"tool": "tool", "function": "function", "developer": "developer"}
ROLES |= {name + kind: role for name, role in list(ROLES.items()) for kind in ("message", "messagechunk")}
THREADS = ("session_id", "thread_id", "conversation_id")  # of metadata, as the pages on threads have it
OTHER, FAILED, FURTHER = "runs of type {}", "runs that failed", "further prompts or generations of one run"
TWICE, UNBORN = "runs that stand there twice", "runs without an answer"
LEVELS = 100  # of runs within runs


def read(rows, gathered):
    """Runs of all rows, those within others too, as calls in their order."""
    found, known = [], set()
    for line, row in rows:
        runs = row if isinstance(row, list) else [row]
        left = [(run, 0) for run in runs[::-1]]
        while left:
            run, depth = left.pop()
            if not isinstance(run, dict):
                gathered.problem(line, f"a {type(run).__name__} where a run is needed")
                continue
            if depth < LEVELS:
                for name in ("child_runs", "runs"):
                    inner = parts.tried(parts.many, run.get(name), line, gathered.problems, f"{name}: ") or []
                    left += [(one, depth + 1) for one in inner[::-1]]
            if "run_type" not in run and isinstance(run.get("runs"), list):
                continue
            if run.get("id") is not None and str(run["id"]) in known:
                gathered.leave_out(TWICE)
            elif run.get("run_type") != "llm":
                gathered.leave_out(OTHER.format(shown(run.get("run_type"))))
            else:
                found.append((line, run))
            known.add(str(run.get("id")))
    times = [parts.seconds(run.get("start_time")) for _, run in found]
    if all(time is not None for time in times):
        found = [one for _, one in sorted(zip(times, found, strict=True), key=lambda pair: pair[0])]
    threads = {_thread(run) for _, run in found}
    for line, run in found:
        parts.tried(_call, run, line, gathered.problems, "", line, gathered, _thread(run) if len(threads) > 1 else "")


def _thread(run):
    """The name of a run's conversation: of its metadata, else that of its trace."""
    extra = run.get("extra") if isinstance(run.get("extra"), dict) else {}
    metadata = extra.get("metadata") if isinstance(extra.get("metadata"), dict) else {}
    names = [metadata.get(name) for name in THREADS] + [run.get("trace_id")]
    return next((name for name in names if isinstance(name, str) and name), "")


def _call(run, line, gathered, thread):
    if run.get("error"):
        gathered.leave_out(FAILED)
        return
    inputs, outputs, extra = (parts.mapping(run.get(name)) for name in ("inputs", "outputs", "extra"))
    asked = parts.mapping(extra.get("invocation_params"))
    given = parts.many(inputs.get("messages"))
    if given and isinstance(given[0], list):  # prompts of one batch, of which chat models have one
        for _ in given[1:]:
            gathered.leave_out(FURTHER)
        given = given[0]
    sent = [parts.tried(_plain, one, line, gathered.problems, f"message {n}: ") for n, one in enumerate(given, 1)]
    sent = bodies.messages([one for one in sent if one is not None], line, gathered)
    if not sent:
        raise Unreadable("a run without messages")
    options = bodies.options(
        asked | {name: inputs[name] for name in ("tools", "functions") if name in inputs}, line, gathered
    )
    options["model"] = options["model"] or (asked["model_name"] if isinstance(asked.get("model_name"), str) else None)
    said = parts.tried(_said, outputs, line, gathered.problems, "", gathered)
    if said is None and run.get("outputs") is None:
        gathered.leave_out(UNBORN)
        return
    reply = None if said is None else bodies.message(said, line, gathered, "the answer: ")
    billed = _billed(run, outputs, said or {}, line, gathered)
    time = parts.seconds(run.get("start_time"))
    gathered.call(sent, reply, line=line, thread=thread, time=time, usage=billed, **options)


def _said(outputs, gathered):
    """The answer of a run: of LangChain's generations, or of a provider's body."""
    found = outputs.get("generations")
    while isinstance(found, list) and found:
        for _ in found[1:]:
            gathered.leave_out(FURTHER)
        found = found[0]
    if isinstance(found, dict):
        if found.get("message") is not None:
            return _plain(found["message"])
        if isinstance(found.get("text"), str):
            return {"role": "assistant", "content": found["text"]}
    if isinstance(outputs.get("choices"), list) and outputs["choices"]:
        return {"role": "assistant"} | parts.mapping(parts.mapping(outputs["choices"][0]).get("message"))
    for name in ("message", "output", "messages"):
        inner = outputs.get(name)
        inner = inner[-1] if isinstance(inner, list) and inner else inner
        if isinstance(inner, str):
            return {"role": "assistant", "content": inner}
        if isinstance(inner, dict):
            return _plain({"role": "assistant"} | inner)
    if "content" in outputs:
        return _plain({"role": "assistant"} | outputs)
    raise Unreadable(f"an answer of unknown form, {', '.join(sorted(map(str, outputs))[:5]) or 'empty'}")


def _plain(given):
    """A message of LangChain, serialised or as a mapping, in OpenAI's form."""
    given = parts.mapping(given)
    kwargs = given.get("kwargs", given.get("lc_kwargs", given.get("data")))
    fields = parts.mapping(kwargs) if kwargs is not None else given
    names = parts.many(given["id"]) if isinstance(given.get("id"), list) else []
    said = [given.get("role"), names[-1] if names else None, given.get("type"), fields.get("type"), fields.get("role")]
    role = next((ROLES[one.lower()] for one in said if isinstance(one, str) and one.lower() in ROLES), None)
    if role is None:
        raise Unreadable(f"no message: of type {shown(next((one for one in said if one is not None), None))}")
    more = parts.mapping(fields.get("additional_kwargs"))
    made = {"role": role, "content": fields.get("content")}
    names = (
        "reasoning_content",
        "reasoning",
        "thinking",
        "reasoning_details",
        "tool_calls",
        "function_call",
        "refusal",
    )
    made |= {name: home[name] for name in names for home in (fields, more) if home.get(name)}
    calls = parts.many(made.get("tool_calls"))
    if calls:
        made["tool_calls"] = [_called(parts.mapping(one)) for one in calls]
    made |= {name: fields[name] for name in ("tool_call_id", "name") if isinstance(fields.get(name), str)}
    if isinstance(made["content"], list):
        kept = [one for one in made["content"] if not (isinstance(one, dict) and one.get("type") == "tool_use")]
        if len(kept) < len(made["content"]) and not calls:  # Anthropic's blocks, where no calls stand apart
            blocks = [one for one in made["content"] if isinstance(one, dict) and one.get("type") == "tool_use"]
            made["tool_calls"] = [{"function": {"name": b.get("name"), "arguments": b.get("input")}} for b in blocks]
        made["content"] = [{"type": "text", "text": one} if isinstance(one, str) else one for one in kept]
    return made


def _called(call):
    if "args" in call:
        return {"type": "function", "function": {"name": call.get("name"), "arguments": call["args"]}}
    return call


def _billed(run, outputs, said, line, gathered):
    """Usage: of the message, of LangChain's `llm_output`, of the provider's body, or of the run."""
    found = outputs.get("generations")
    while isinstance(found, list) and found:
        found = found[0]
    message = found.get("message") if isinstance(found, dict) else outputs
    message = message if isinstance(message, dict) else {}
    fields = next((message[name] for name in ("kwargs", "data") if isinstance(message.get(name), dict)), message)
    given = fields.get("usage_metadata") or outputs.get("usage_metadata")
    if isinstance(given, dict):
        read, wrote = (parts.mapping(given.get(f"{side}_token_details")) for side in ("input", "output"))
        counts = {"input": given.get("input_tokens"), "output": given.get("output_tokens")}
        counts |= {
            "cached": read.get("cache_read"),
            "written": read.get("cache_creation"),
            "thinking": wrote.get("reasoning"),
        }
        return usage(counts, line, gathered)
    output = outputs.get("llm_output") if isinstance(outputs.get("llm_output"), dict) else {}
    for body in (output.get("token_usage"), outputs.get("usage")):
        if isinstance(body, dict):
            return bodies.billed({"usage": body}, line, gathered)
    read, wrote = (parts.mapping(run.get(f"{side}_token_details")) for side in ("prompt", "completion"))
    counts = {
        "input": run.get("prompt_tokens"),
        "output": run.get("completion_tokens"),
        "cached": read.get("cache_read"),
    }
    return usage(counts | {"written": read.get("cache_creation"), "thinking": wrote.get("reasoning")}, line, gathered)


RUN = {"run_type": str, "inputs": dict}
SIGNS = (RUN, [RUN], {"run_type": str, "id": str, "name": str, "start_time": ...}, {"runs": [RUN]})
FORMAT = Format("langsmith", "runs exported from LangSmith", SIGNS, read)
