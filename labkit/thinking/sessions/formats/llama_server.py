"""Requests to llama-server: responses of `/completion`, which hold their prompt, and dumps of `/slots`.

From ggml-org/llama.cpp `tools/server/README.md` and `tools/server/server-task.cpp` (`to_json_non_oaicompat`: `prompt`,
`content`, `tokens`, `timings`; under `__verbose` in chat responses of a server that runs with `-v`). `timings.cache_n`
is what came from the cache, `prompt_n` what was read; `tokens_cached` is all that the slot holds at the end, and says
nothing of reuse. Chat requests, and the bodies in a log file of `-v`, are read as `openai`.
"""

from labkit.thinking.sessions import bodies, parts, rendered
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage

SHORTENED = "the server has shortened this prompt (truncated): what was read is not what stands here"
EMPTY, FAILED = "slots without a prompt", "requests that were answered by an error"
INSTEAD = "the log of a server with -v holds the bodies; else the responses of /completion, one a line"


def read(rows, gathered):
    """Every row is a call, and every slot with a prompt."""
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            parts.tried(_call, one, line, gathered.problems, "", line, gathered)


def _call(row, line, gathered):
    row = parts.mapping(row)
    asked = parts.mapping(row.get("request"))
    out = bodies.mapping(row["response"]) if row.get("response") is not None else row
    out = out["__verbose"] if isinstance(out.get("__verbose"), dict) else out
    if bodies.failed(out):
        gathered.leave_out(FAILED)
        return
    prompt = out.get("prompt", asked.get("prompt", row.get("prompt")))
    if prompt is None or prompt == "":
        if "n_ctx" in row:
            gathered.leave_out(EMPTY)
        else:
            gathered.problem(line, "a request without its prompt")
        return
    if isinstance(prompt, dict):
        prompt = prompt.get("prompt_string")
    if out.get("truncated") is True:
        gathered.problem(line, SHORTENED)
    tokens = out.get("tokens") if isinstance(out.get("tokens"), list) and out["tokens"] else None
    more = {"usage": _usage(out, line, gathered), "time": bodies.moment(row, out)}
    more["model"] = out["model"] if isinstance(out.get("model"), str) else None
    text, ids = (prompt, None) if isinstance(prompt, str) else (None, prompt)
    said = out["content"] if isinstance(out.get("content"), str) else None
    rendered.call(gathered, line, text=text, ids=ids, said=said, said_ids=tokens, **more)


def _usage(out, line, gathered):
    timings = parts.mapping(out.get("timings"))
    read, cached, whole = timings.get("prompt_n"), timings.get("cache_n"), out.get("tokens_evaluated")
    if whole is None and type(read) is int and type(cached) is int:
        whole = read + cached
    if cached is None and type(read) is int and type(whole) is int and whole >= read:
        cached = whole - read  # of servers before cache_n
    written = timings.get("predicted_n", out.get("tokens_predicted"))
    return usage({"input": whole, "cached": cached, "output": written}, line, gathered)


COMPLETED = {"content": str, "timings": dict, "prompt": ...}
SLOT = {"id": int, "n_ctx": int, "prompt": ...}
SIGNS = (COMPLETED, [COMPLETED], SLOT, [SLOT], {"content": str, "tokens_evaluated": int, "generation_settings": dict})
SIGNS += ({"__verbose": {"prompt": str}}, {"request": {"prompt": ...}, "response": {"content": str, "timings": dict}})
TEXT = (rb"(?:srv|slot)\s+\S+: |slot update_slots|llama_server|main: server is listening", INSTEAD)
FORMAT = Format("llama-server", "llama-server: responses of /completion, or /slots", SIGNS, read, text=TEXT)
