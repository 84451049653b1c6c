"""Requests to vLLM that hold the rendered prompt: rows of `/v1/completions`, or outputs of the engine as JSON.

From vllm-project/vllm `vllm/outputs.py` (`RequestOutput`: `prompt`, `prompt_token_ids`, `outputs`, `num_cached_tokens`)
and `vllm/entrypoints/openai/protocol.py` (`return_token_ids`). The log in text (`vllm/entrypoints/logger.py`) holds a
part of the prompt at best and cannot be read. Chat requests are read as `openai`, batches as `openai-batch`.
"""

from labkit.thinking.sessions import bodies, parts, rendered
from labkit.thinking.sessions.format import Format

WRITTEN = ("output_token_ids", "completion_token_ids", "response_token_ids", "token_ids")  # ids of what was generated
WORDS = ("generated_text", "completion", "output", "response")  # words of it
FAILED = "requests that were answered by an error"
INSTEAD = "JSONL of requests and responses (messages, or prompt_token_ids), written by the client or a proxy"


def read(rows, gathered):
    """Every row is a call."""
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            parts.tried(_call, one, line, gathered.problems, "", line, gathered)


def _call(row, line, gathered):
    row = parts.mapping(row)
    home = next((row[name] for name in ("request", "body") if isinstance(row.get(name), dict)), row)
    if "messages" in home:
        gathered.problem(line, "a chat request among rendered ones; format='openai' reads these")
        return
    prompt, ids = home.get("prompt"), home.get("prompt_token_ids", row.get("prompt_token_ids"))
    if isinstance(prompt, dict):
        prompt, ids = prompt.get("prompt"), prompt.get("prompt_token_ids", ids)
    if isinstance(prompt, list):
        prompt, ids = (prompt[0], ids) if len(prompt) == 1 and isinstance(prompt[0], str) else (None, prompt)
    said, said_ids, body = _answer(row, line, gathered)
    if bodies.failed(body) or row.get("error"):
        gathered.leave_out(FAILED)
        return
    if ids is None:
        ids = body.get("prompt_token_ids")
    usage = bodies.billed(body, line, gathered)
    if usage is None and isinstance(row.get("num_cached_tokens"), int) and isinstance(ids, list):
        counted = {"prompt_tokens": len(ids), "completion_tokens": len(said_ids) if said_ids else None}
        counted["prompt_tokens_details"] = {"cached_tokens": row["num_cached_tokens"]}
        usage = bodies.billed({"usage": counted}, line, gathered)
    more = {
        "usage": usage,
        "time": bodies.moment(row, home, body),
        "model": bodies.options(home, line, gathered)["model"],
    }
    text = prompt if isinstance(prompt, str) else None
    rendered.call(gathered, line, text=text, ids=ids, said=said, said_ids=said_ids, **more)


def _answer(row, line, gathered):
    """(words, token ids, the body) of what was generated; None for what the row does not hold."""
    body = {}
    if isinstance(row.get("response"), dict | list):
        body = bodies.mapping(row["response"])
        body = body["body"] if isinstance(body.get("body"), dict) else body
    elif "choices" in row:
        body = row
    found = parts.many(row.get("outputs")) or parts.many(body.get("choices"))
    for _ in found[1:]:
        gathered.leave_out(bodies.FURTHER)
    first = parts.mapping(found[0]) if found else row
    said = next((first[name] for name in ("text", *WORDS) if isinstance(first.get(name), str)), None)
    ids = next((first[name] for name in WRITTEN if isinstance(first.get(name), list)), None)
    return said, ids, body


PROMPT = {"prompt": str}
SIGNS = (
    PROMPT,
    {"prompt_token_ids": [int]},
    {"request": PROMPT},
    {"request": {"prompt": [int]}},
    {"prompt": str, "choices": list},
)
SIGNS += ({"request": {"prompt_token_ids": [int]}}, {"prompt_token_ids": [int], "outputs": [{"text": str}]}, [PROMPT])
SIGNS += ([{"prompt_token_ids": [int]}], {"prompt": {"prompt_token_ids": [int]}})
TEXT = (rb"Received request \S+: (?:prompt|params)|Generated response \S+: output", INSTEAD)
FORMAT = Format("vllm", "requests to vLLM as rendered prompts or token ids", SIGNS, read, text=TEXT)
