"""Tags that texts hold where there is no field for it: thinking, calls of tools, and what tools gave back.

<think> why </think> words                          also <REASONING_SCRATCHPAD>
<tool_call> {"name": …, "arguments": …} </tool_call>    JSON, or a dict as Python writes it
<tool_response> what it gave </tool_response>
"""

import ast
import re
import warnings
from collections.abc import Iterator

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.gathering import Gathered
from labkit.thinking.sessions.rows import Blank, Unreadable, parsed

THINK = re.compile(r"\s*<(think|REASONING_SCRATCHPAD)>(.*?)</\1>\s*", re.DOTALL)
CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
RESPONSE = "<tool_response>", "</tool_response>"
ANY = re.compile(r"<tool_call>|<tool_response>|<tools>|<scratch_pad>|<REASONING_SCRATCHPAD>")
LONGEST = 100_000  # characters of a dict as Python writes it
BEHIND = "words behind a call of a tool: the family's template writes them before it"


def unthought(text: str) -> dict:
    """`content`, and `reasoning_content` where the text begins with thinking in tags."""
    found = THINK.match(text)
    if found is None:
        return {"content": text}
    thought = found[2].strip()
    return {"content": text[found.end() :]} | ({"reasoning_content": thought} if thought else {})


def assistant(text: str, line: int, gathered: Gathered, where: str = "") -> dict:
    """An assistant's message whose thinking and calls stand in its text; a call that cannot be read stays there."""
    made, calls, words, end = {"role": "assistant"} | unthought(text), [], [], 0
    for found in CALL.finditer(made["content"]):
        call = parts.tried(_call, found[1], line, gathered.problems, where)
        if call is not None:
            between = made["content"][end : found.start()]
            if calls and between.strip():
                gathered.problem(line, where + BEHIND)
            words, end = [*words, between], found.end()
            calls.append(call)
    if not calls:
        return made
    if made["content"][end:].strip():
        gathered.problem(line, where + BEHIND)
    words = [word.strip() for word in (*words, made["content"][end:])]
    return made | {"content": "\n".join(filter(None, words)), "tool_calls": calls}


def results(text: str) -> list[str]:
    """What tools gave, each in its tags; the whole text where it is anything else."""
    found, made, end = between(text, *RESPONSE), [], 0
    for start, inner, stop in found:
        if text[end:start].strip():
            return [text]
        made.append(inner.strip())
        end = stop
    return made if made and not text[end:].strip() else [text]


def between(text: str, opening: str, closing: str) -> Iterator[tuple[int, str, int]]:
    """(start, what is between, end) of every pair of tags, in one pass."""
    end = 0
    while (start := text.find(opening, end)) >= 0:
        last = text.find(closing, start)
        if last < 0:
            return
        end = last + len(closing)
        yield start, text[start + len(opening) : last], end


def written(text: str) -> object:
    """A value as JSON or as Python writes it.

    Raises:
        Unreadable: it is neither.
    """
    try:
        return parsed(text.encode())[0]
    except Blank:
        raise Unreadable("nothing in it") from None
    except Unreadable as reason:
        if len(text) > LONGEST:
            raise
        try:
            with warnings.catch_warnings(action="ignore"):
                return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            raise reason from None


def _call(text):
    try:
        given = written(text)
    except Unreadable as reason:
        raise Unreadable(f"a call of a tool that stays text: {reason}") from None
    if not isinstance(given, dict):
        raise Unreadable(f"a call of a tool that stays text: {shown(given)}")
    given = given["function"] if isinstance(given.get("function"), dict) else given
    return parts.call(given.get("name"), given.get("arguments", given.get("parameters")))
