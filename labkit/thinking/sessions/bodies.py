"""Bodies of OpenAI's chat completions, as every server of that interface writes them.

From openai/openai-python `src/openai/types/chat/` (messages, choices, chunks, usage), vllm-project/vllm
`vllm/entrypoints/openai/protocol.py` (`chat_template_kwargs`, `continue_final_message`, `prompt_token_ids`),
ggml-org/llama.cpp `tools/server/README.md` (`timings`) and OpenRouter's and DeepSeek's pages on reasoning.
"""

import dataclasses
import re

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.record import Usage
from labkit.thinking.sessions.rows import Blank, Unreadable, parsed

MESSAGE = {"role": ("system", "developer", "user", "assistant", "tool", "function"), "content": ...}
REQUEST = {"messages": [MESSAGE]}  # signs of formats
EVENT = re.compile(r"^data:[ \t]*(.*)$", re.MULTILINE)
TIMES = ("timestamp", "time", "created_at", "start_time", "startTime", "created", "ts")
DEVELOPER = "role developer, which the family's template refuses: read as the system's"
FURTHER = "further choices of a response; the first is counted"
SECRET = "reasoning that is encrypted or a summary: what was thought is not in the file"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back: an assistant's message or None, and what else the body says of the call."""

    reply: dict | None
    usage: Usage | None = None
    model: str | None = None
    time: float | None = None


def mapping(value) -> dict:
    """A body, which may be a text: JSON, or the events of a stream; chunks of a stream are one response.

    Raises:
        Unreadable: it is none of these.
    """
    if isinstance(value, str):
        if EVENT.match(value.lstrip()):
            value = [event for event in EVENT.findall(value) if event.strip() not in ("", "[DONE]")]
        else:
            value = _json(value)
    if isinstance(value, list):
        return streamed([_chunk(one) for one in value if one != "[DONE]"])
    return parts.mapping(value)


def messages(given, line: int, gathered, where: str = "") -> list[dict]:
    """The messages of a request; what is none is a problem."""
    found = parts.tried(parts.many, given, line, gathered.problems, f"{where}messages: ") or []
    made = [
        gathered.read_once(one, lambda one, n=n: message(one, line, gathered, f"{where}message {n}: "))
        for n, one in enumerate(found, 1)
    ]
    return [one for one in gathered.kept(made) if one is not None]


def message(part, line: int, gathered, where: str = "") -> dict | None:
    """One message; an item that is no text and no picture is left out and told."""
    if isinstance(part, dict):
        part = dict(part)
        if part.get("role") == "function":  # of the time before there were tools
            part["role"] = "tool"
        if part.get("role") == "developer":
            gathered.tell_once(line, DEVELOPER)
        if not part.get("content") and isinstance(part.get("refusal"), str):
            part["content"] = part["refusal"]
        if isinstance(part.get("content"), list):
            part = _itemised(part, line, gathered, where)
        if part.get("reasoning_details") is not None and not part.get("reasoning_content"):
            part = _detailed(part, line, gathered, where)
    return parts.tried(parts.message, part, line, gathered.problems, where)


def options(request: dict, line: int, gathered) -> dict:
    """What a request says beside its messages: `tools`, `model`, `enable_thinking` of a call."""
    tried = lambda function, value, name: parts.tried(function, value, line, gathered.problems, f"{name}: ")  # noqa: E731
    tools = request.get("tools")
    if tools is None and request.get("functions") is not None:
        functions = tried(parts.many, request["functions"], "functions") or []
        tools = [{"type": "function", "function": one} for one in functions]
    extra = tried(parts.mapping, request.get("extra_body"), "extra_body") or {}
    asked = None
    for home in (request, extra):
        kwargs = tried(parts.mapping, home.get("chat_template_kwargs"), "chat_template_kwargs") or {}
        thinking = home.get("thinking") if isinstance(home.get("thinking"), dict) else {}
        switch = {"enabled": True, "disabled": False}.get(str(thinking.get("type")))
        for value in (kwargs.get("enable_thinking"), home.get("enable_thinking"), switch):
            if value is not None and not isinstance(value, bool):
                gathered.problem(line, f"enable_thinking is {shown(value)}, not true or false")
            elif asked is None:
                asked = value
    found = {"tools": tried(parts.tools, tools, "tools"), "enable_thinking": asked}
    return found | {"model": request["model"] if isinstance(request.get("model"), str) else None}


def failed(body: dict) -> bool:
    """Whether a response is an error and no answer."""
    code = body.get("status_code")
    bad = body.get("error") or body.get("object") == "error" or (isinstance(code, int) and code >= 400)
    return bool(bad) and not body.get("choices")


def answer(body: dict, line: int, gathered) -> Answer:
    """The answer of a response's body."""
    reply = parts.tried(_reply, body, line, gathered.problems, "", line, gathered)
    model = body["model"] if isinstance(body.get("model"), str) else None
    return Answer(reply, billed(body, line, gathered), model, parts.seconds(body.get("created")))


def billed(body: dict, line: int, gathered) -> Usage | None:
    """Usage of a response, with what DeepSeek and llama-server call it."""
    tried = lambda value, name: parts.tried(parts.mapping, value, line, gathered.problems, f"{name}: ") or {}  # noqa: E731
    given, timings = tried(body.get("usage"), "usage"), tried(body.get("timings"), "timings")
    details = tried(given.get("prompt_tokens_details"), "prompt_tokens_details")
    more = tried(given.get("completion_tokens_details"), "completion_tokens_details")
    cached = next(
        (v for v in (details.get("cached_tokens"), given.get("prompt_cache_hit_tokens")) if v is not None), None
    )
    found = {"input": given.get("prompt_tokens"), "output": given.get("completion_tokens"), "cached": cached}
    found |= {"thinking": more.get("reasoning_tokens"), "written": details.get("cache_write_tokens")}
    known = [timings.get(name) for name in ("cache_n", "prompt_n", "predicted_n")]
    if all(type(n) is int and n >= 0 for n in known):
        own = {"cached": known[0], "input": known[0] + known[1], "output": known[2]}
        found |= {name: value for name, value in own.items() if found[name] is None}
    if not given:
        found |= {"input": body.get("prompt_eval_count", found["input"])}  # of Ollama
        found |= {"output": body.get("eval_count", found["output"])}
    elif all(value is None for value in found.values()):
        gathered.tell_once(line, f"usage under other names, not read: {', '.join(map(shown, list(given)[:6]))}")
    return usage(found, line, gathered)


def moment(*homes: dict) -> float | None:
    """The first time that one of these objects gives under a usual name."""
    given = (parts.seconds(home.get(name)) for home in homes for name in TIMES)
    return next((time for time in given if time is not None), None)


def streamed(chunks: list[dict]) -> dict:
    """Chunks of a stream as the response that they are parts of."""
    whole, choices = {}, {}
    for chunk in chunks:
        whole |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for choice in parts.many(chunk.get("choices")):
            choice = parts.mapping(choice)
            known = choices.setdefault(str(choice.get("index", 0)), {"message": {"role": "assistant"}, "calls": {}})
            known |= {name: choice[name] for name in ("token_ids", "finish_reason") if choice.get(name) is not None}
            if isinstance(choice.get("text"), str):
                known.setdefault("texts", []).append(choice["text"])
            _delta(parts.mapping(choice.get("delta") or choice.get("message")), known)
    made = [_joined(known) for known in choices.values()]
    return whole | ({"choices": made} if made or any("choices" in chunk for chunk in chunks) else {})


def _json(text):
    try:
        return parsed(text.encode())[0]
    except Blank:
        return None


def _chunk(one):
    if isinstance(one, str):
        one = _json(one.strip().removeprefix("data:")) if one.strip().removeprefix("data:").strip() != "[DONE]" else {}
    return parts.mapping(one)


def _delta(delta, known):
    """Add what a chunk says to a choice: texts as lists of parts, calls by their index."""
    for name, value in delta.items():
        if name == "tool_calls":
            for n, one in enumerate(parts.many(value)):
                one = parts.mapping(one)
                function = parts.mapping(one.get("function"))
                place = _place(one, function.get("name"), n, known["calls"])
                _called(known["calls"].setdefault(place, {"name": "", "arguments": []}), function)
        elif name == "function_call" and value is not None:
            _called(known["calls"].setdefault(("0", None), {"name": "", "arguments": []}), parts.mapping(value))
        elif name == "reasoning_details":
            known["message"].setdefault(name, []).extend(parts.many(value))
        elif isinstance(value, str) and name != "role":
            known["message"].setdefault(name, []).append(value)


def _place(one, name, n, calls):
    """(index, id) under which a part of a call is kept: not every server counts its calls, some give all one index."""
    index, own = one.get("index"), one.get("id") if isinstance(one.get("id"), str) else None
    if index is None and not name and calls:
        return next(reversed(calls))
    at = str(n if index is None else index)
    known = next((place for place in reversed(calls) if place[0] == at), None)
    other = known is not None and name and own and known[1] not in (None, own)
    return (at, own) if known is None or other else known


def _called(call, part):
    if isinstance(part.get("name"), str):
        call["name"] += part["name"]
    if isinstance(arguments := part.get("arguments"), str | dict):
        call["arguments"].append(arguments)


def _joined(known):
    said = {}
    for name, value in known["message"].items():
        said[name] = "".join(value) if isinstance(value, list) and name != "reasoning_details" else value
    calls = []
    for call in known["calls"].values():
        texts = [one for one in call["arguments"] if isinstance(one, str)]
        whole = "".join(texts) if len(texts) == len(call["arguments"]) else call["arguments"][-1]
        calls.append({"type": "function", "function": {"name": call["name"], "arguments": whole}})
    said |= {"tool_calls": calls} if calls else {}
    made = {"message": said} | {name: known[name] for name in ("token_ids", "finish_reason") if name in known}
    return made | ({"text": "".join(known["texts"])} if "texts" in known else {})


def _reply(body, line, gathered):
    """The assistant's message of a response."""
    choices = parts.many(body.get("choices")) if "choices" in body else [body]
    for _ in choices[1:]:
        gathered.leave_out(FURTHER)
    first = parts.mapping(choices[0]) if choices else {}
    said = first.get("message") or first.get("delta")
    if said is None and isinstance(first.get("text"), str):
        said = {"content": first["text"]}
    if said is None and first.get("role") == "assistant":
        said = first
    if not isinstance(said, dict) or not said:
        raise Unreadable("a response without a message")
    ids = {
        "prompt_ids": body.get("prompt_token_ids", first.get("prompt_token_ids")),
        "completion_ids": first.get("token_ids"),
    }
    ids = {name: value for name, value in ids.items() if value is not None}
    made = message({"role": "assistant"} | said | ids, line, gathered)
    if made is not None and made["role"] != "assistant":
        raise Unreadable(f"a response of role {shown(made['role'])}")
    return made


def _itemised(part, line, gathered, where):
    """A message whose content is a list: texts, pictures; thinking among them goes to the reasoning."""
    kept, thought = [], []
    for item in part["content"]:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind in ("input_audio", "audio", "audio_url", "file", "input_file"):
            gathered.problem(
                line, f"{where}an item of type {kind}, which the family's template has no place for; left out"
            )
        elif kind in ("image_url", "image", "video", "video_url") and part.get("role") in ("system", "developer"):
            gathered.problem(line, f"{where}a picture of the system's, which the family's template refuses; left out")
        elif kind == "refusal" and isinstance(item.get("refusal"), str):
            kept.append({"type": "text", "text": item["refusal"]})
        elif kind in ("thinking", "reasoning") and part.get("role") == "assistant":
            inner = item.get("thinking", item.get("text"))
            texts = inner if isinstance(inner, list) else [{"text": inner}]
            thought += [one["text"] for one in texts if isinstance(one, dict) and isinstance(one.get("text"), str)]
        else:
            kept.append(item)
    made = part | {"content": kept}
    if thought and not any(part.get(name) for name in ("reasoning_content", "reasoning", "thinking")):
        made["reasoning_content"] = "".join(thought)
    return made


def _detailed(part, line, gathered, where):
    """A message with the reasoning of its `reasoning_details`, where it says it nowhere else."""
    details = parts.tried(parts.many, part["reasoning_details"], line, gathered.problems, where) or []
    texts = [one["text"] for one in details if isinstance(one, dict) and isinstance(one.get("text"), str)]
    if any(part.get(name) for name in ("reasoning", "thinking")):
        return part
    if not texts and details:
        gathered.tell_once(line, where + SECRET)
        gathered.unseen_thinking = True
    return part | ({"reasoning_content": "".join(texts)} if texts else {})
