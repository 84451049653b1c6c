"""Requests to SGLang: its own log in JSON, or rows of `/generate` with their responses.

From sgl-project/sglang `python/sglang/srt/utils/request_logger.py` (`--log-requests --log-requests-level 3
--log-requests-format json`: `event`, `rid`, `obj`, `out`; lower levels leave the prompts out or cut them) and
`python/sglang/srt/managers/io_struct.py`. The log in text and the dumps, which are pickles, cannot be read.
"""

from labkit.thinking.sessions import bodies, parts, rendered
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable

CUT, SIGN = 1024, "..."  # level 2 keeps so many signs, or tokens, at both ends
FAILED, EARLY = "requests that were aborted", "rows of requests as they came in; those that finished are read"
LEVEL = "start the server with --log-requests --log-requests-level 3 --log-requests-format json"


def read(rows, gathered):
    """Every request that finished is a call."""
    for line, row in rows:
        for one in row if isinstance(row, list) else [row]:
            parts.tried(_call, one, line, gathered.problems, "", line, gathered)


def _call(row, line, gathered):
    row = parts.mapping(row)
    event = row.get("event")
    if isinstance(event, str) and event.startswith("request.received"):
        gathered.leave_out(EARLY)
        return
    asked = parts.mapping(row.get("obj", row.get("request", row)))
    out = row.get("out", row.get("response", row if "meta_info" in row else None))
    out = parts.mapping(out[0] if isinstance(out, list) and len(out) == 1 else out)
    facts = parts.mapping(out.get("meta_info"))
    ended = facts.get("finish_reason")
    if (isinstance(ended, dict) and ended.get("type") == "abort") or bodies.failed(out):
        gathered.leave_out(FAILED)
        return
    text, ids = (_whole(asked.get(name)) for name in ("text" if asked is not row else "prompt", "input_ids"))
    if text is None and ids is None:
        raise Unreadable(f"a request without its prompt; {LEVEL}")
    said, said_ids = _whole(out.get("text")), _whole(out.get("output_ids"))
    names = {"input": "prompt_tokens", "cached": "cached_tokens", "output": "completion_tokens"}
    billed = {name: facts.get(given) for name, given in (names | {"thinking": "reasoning_tokens"}).items()}
    more = {"usage": usage(billed, line, gathered), "time": bodies.moment(row)}
    text = text if isinstance(text, str) else None
    said = said if isinstance(said, str) else None
    rendered.call(gathered, line, text=text, ids=ids, said=said, said_ids=said_ids, **more)


def _whole(value):
    """A text or a list of tokens that the log did not cut."""
    if isinstance(value, str):
        cut = len(value) == 2 * CUT + len(SIGN) and value[CUT : CUT + len(SIGN)] == SIGN
    else:
        cut = isinstance(value, list) and len(value) == 2 * CUT + 1 and value[CUT] == SIGN
    if cut:
        raise Unreadable(f"a prompt or an answer that the log has cut; {LEVEL}")
    return value


FINISHED = {"event": ("request.finished", "request.received", "request.received.openai"), "obj": dict}
NATIVE = tuple(
    {"request": {name: kind}, "response": {"meta_info": dict}} for name, kind in (("text", str), ("input_ids", list))
)
SIGNS = (
    FINISHED,
    [FINISHED],
    {"obj": dict, "out": {"meta_info": dict}},
    *NATIVE,
    {"input_ids": [int], "meta_info": dict},
)
TEXT = (rb"(?:Finish|Receive|Receive OpenAI): obj=", LEVEL)
FORMAT = Format("sglang", "SGLang's log of requests in JSON, or /generate with its responses", SIGNS, read, text=TEXT)
