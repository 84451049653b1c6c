"""Files of OpenAI's batch interface: a request a line under its `custom_id`, or a response, in any order.

From platform.openai.com/docs/guides/batch; `vllm run-batch` reads and writes the same (vllm-project/vllm,
`vllm/entrypoints/openai/run_batch.py`). The input alone gives calls without replies; the output alone holds no
requests, so both are read from one file, one behind the other.
"""

from labkit.thinking.sessions import bodies, parts, rendered
from labkit.thinking.sessions.format import Format

UNASKED = "a response without its request; put the lines of the batch's input into the same file"
FAILED = "requests that were answered by an error"
ANOTHER = "requests of another interface than chat or completions"


def read(rows, gathered):
    """Requests in their order, each with the response of its `custom_id`."""
    asked, answers = {}, {}
    for line, row in ((line, one) for line, given in rows for one in (given if isinstance(given, list) else [given])):
        name = row.get("custom_id") if isinstance(row, dict) else None
        body = row.get("body") if isinstance(row, dict) else None
        if not isinstance(name, str):
            gathered.problem(line, "a line without a custom_id")
        elif not isinstance(body, dict) and row.get("response") is None and row.get("error") is None:
            gathered.problem(line, "a line without a body or a response")
        elif name in (known := asked if isinstance(body, dict) else answers):
            gathered.problem(line, f"the custom_id {name[:40]} stands in line {known[name][0]} too; the first counts")
        else:
            known[name] = line, row
    for name, (line, row) in asked.items():
        _call(row, line, answers.pop(name, None), gathered)
    for line, _ in answers.values():
        gathered.problem(line, UNASKED)


def _call(row, line, answered, gathered):
    body, answer = row["body"], bodies.Answer(None)
    if answered is not None:
        came, given = answered
        response = parts.tried(parts.mapping, given.get("response"), came, gathered.problems, "response: ") or {}
        inner = parts.tried(bodies.mapping, response.get("body"), came, gathered.problems, "response: ") or {}
        if given.get("error") or bodies.failed(inner | {"status_code": response.get("status_code")}):
            gathered.leave_out(FAILED)
            return
        answer = bodies.answer(inner, came, gathered)
    options = bodies.options(body, line, gathered)
    options["model"] = options["model"] or answer.model
    more = options | {"usage": answer.usage, "time": answer.time}
    if "messages" in body:
        gathered.call(bodies.messages(body["messages"], line, gathered), answer.reply, line=line, **more)
    elif isinstance(body.get("prompt"), str) and answer.reply is None:
        rendered.call(gathered, line, text=body["prompt"], **more)
    elif isinstance(body.get("prompt"), str):
        rendered.call(gathered, line, text=body["prompt"], said=answer.reply["content"], **more)
    elif "input" in body:
        gathered.leave_out(ANOTHER)
    else:
        gathered.problem(line, "a body without messages")


ASKED = {"custom_id": str, "body": bodies.REQUEST}
ANSWERED = {"custom_id": str, "response": {"body": {"choices": [{"message": dict}]}}}
SIGNS = (ASKED, [ASKED], ANSWERED, {"custom_id": str, "body": dict, "url": str}, {"custom_id": str, "response": ...})
FORMAT = Format("openai-batch", "OpenAI batch files: requests, and responses behind them", SIGNS, read)
