"""What programs that speak to a chat interface keep of it: messages, usage, and items of an answer.

The names are those of OpenAI's chat completions and responses as litellm hands them on (BerriAI/litellm
`litellm/types/utils.py`: `thinking_blocks`, `cache_creation_input_tokens`).
"""

import json

from labkit.thinking.messages import REASONING, shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.gathering import Gathered, usage
from labkit.thinking.sessions.record import Usage
from labkit.thinking.sessions.rows import Unreadable

SECRET = "thinking that is encrypted or was taken out: what was thought is not in the file"
TOOLLESS = "tools were called, and which ones were sent is not in the file: prompts are short by them"


def flat(content) -> str | list:
    """A content as templates see it: texts with nothing between them, or the items if there are pictures.

    Raises:
        Unreadable: it is neither a text nor a list of texts and pictures.
    """
    if content is None or isinstance(content, str):
        return content or ""
    items = [parts.mapping(item) for item in parts.many(content)]
    items = [{"type": "text", "text": item["text"]} if isinstance(item.get("text"), str) else item for item in items]
    if any(not isinstance(item.get("text", ""), str) for item in items):
        raise Unreadable("an item whose text is none")
    return "".join(item["text"] for item in items) if all("text" in item for item in items) else items


def message(given, line: int, gathered: Gathered, where: str = "") -> dict | None:
    """A message in the one form, thinking in blocks as its reasoning; None, and a problem, if it is none."""
    return parts.tried(_message, given, line, gathered.problems, where, line, gathered)


def messages(given, line: int, gathered: Gathered, where: str = "") -> list[dict]:
    """Messages in the one form, those that were there before as the same objects, which are not read again."""
    found = parts.tried(parts.many, given, line, gathered.problems, f"{where}messages: ") or []
    made = []
    for n, one in enumerate(found, 1):
        key = json.dumps(one, ensure_ascii=False)
        if key not in gathered.read:
            one = message(one, line, gathered, f"{where}message {n}: ")
            if one is None:
                continue
            gathered.read[key] = gathered.kept([one])[0]
        made.append(gathered.read[key])
    return made


def reply(response, line: int, gathered: Gathered, where: str = "") -> dict | None:
    """The assistant's message of a response, with choices or with items of output; None, and a problem, without one."""
    return parts.tried(_reply, response, line, gathered.problems, where, line, gathered)


def billed(given, line: int, gathered: Gathered) -> Usage | None:
    """What `usage` of a response says."""
    given = parts.tried(parts.mapping, given, line, gathered.problems, "usage: ") or {}
    home = lambda *names: next((given[name] for name in names if isinstance(given.get(name), dict)), {})  # noqa: E731
    details = home("prompt_tokens_details", "input_tokens_details")
    more = home("completion_tokens_details", "output_tokens_details")
    first = lambda *values: next((value for value in values if value is not None), None)  # noqa: E731
    found = {"input": first(given.get("prompt_tokens"), given.get("input_tokens"))}
    found["output"] = first(given.get("completion_tokens"), given.get("output_tokens"))
    found["cached"] = first(details.get("cached_tokens"), given.get("cache_read_input_tokens"))
    found["written"] = first(given.get("cache_creation_input_tokens"), details.get("cache_creation_tokens"))
    found["thinking"] = more.get("reasoning_tokens")
    return usage(found, line, gathered)


def answered(items, line: int, gathered: Gathered) -> list[dict]:
    """Items of answers (`reasoning`, `message`, `function_call`, `function_call_output`) as messages; what the model
    said between two others is one.

    Raises:
        Unreadable: no list, or an item of another type.
    """
    made = []
    for item in map(parts.mapping, parts.many(items)):
        kind = item.get("type")
        if kind == "function_call_output":
            made.append(parts.message({"role": "tool", "content": flat(_shown(item.get("output")))}))
            continue
        if not made or made[-1]["role"] != "assistant":
            made.append({"role": "assistant", "content": ""})
        if kind == "message":
            texts = [made[-1]["content"], parts.words(flat(item.get("content")))]
            made[-1]["content"] = "\n".join(filter(None, texts))
        elif kind == "reasoning":
            _thought(item, made[-1], line, gathered)
        elif kind == "function_call":
            made[-1].setdefault("tool_calls", []).append(parts.call(item.get("name"), item.get("arguments")))
        else:
            raise Unreadable(f"an item of unknown type {shown(kind)}")
    return [parts.message(one) for one in made]


def toolless(gathered: Gathered) -> None:
    """Say so where calls of tools came back and no tools are known."""
    if any(call.tools is None and call.reply and call.reply.get("tool_calls") for call in gathered.calls):
        gathered.problem(0, TOOLLESS)


def _message(given, line, gathered):
    given = parts.mapping(given)
    made = given | {"content": flat(given.get("content"))}
    if not any(given.get(name) for name in REASONING):
        blocks = [parts.mapping(block) for block in parts.many(given.get("thinking_blocks"))]
        texts = [block["thinking"] for block in blocks if isinstance(block.get("thinking"), str)]
        if texts:
            made["reasoning_content"] = "".join(texts)
        if len(texts) < len(blocks):
            gathered.tell_once(line, SECRET)
            gathered.unseen_thinking = True
    return parts.message(made)


def _reply(response, line, gathered):
    response = parts.mapping(response)
    if "output" in response:
        made = answered(response["output"], line, gathered)
        if len(made) != 1 or made[0]["role"] != "assistant":
            raise Unreadable("a response without a message")
        return made[0]
    choices = parts.many(response.get("choices"))
    said = parts.mapping(choices[0]).get("message") if choices else None
    if not isinstance(said, dict):
        raise Unreadable("a response without a message")
    made = _message(said | {"role": said.get("role") or "assistant"}, line, gathered)
    if made["role"] != "assistant":
        raise Unreadable(f"a response of role {shown(made['role'])}")
    return made


def _thought(item, reply, line, gathered):
    texts = [flat(item.get(name)) for name in ("content", "summary") if item.get(name)]
    texts = [text for text in texts if isinstance(text, str) and text]
    if texts:
        reply["reasoning_content"] = reply.get("reasoning_content", "") + texts[0]
    elif item.get("encrypted_content"):
        gathered.tell_once(line, SECRET)
        gathered.unseen_thinking = True


def _shown(output):
    """What a tool gave back: a text, or its items, pictures among them."""
    if not isinstance(output, list):
        return output
    return [
        {"type": "image", "image": one.get("image_url")} if isinstance(one, dict) and "image_url" in one else one
        for one in output
    ]


def command_output(said: str, metadata: dict) -> str:
    """Output of a command, as OpenHands tells it to an agent, with where it ran and how it ended."""
    text = "".join((parts.words(metadata.get("prefix")), said, parts.words(metadata.get("suffix"))))
    if metadata.get("working_dir"):
        text += f"\n[Current working directory: {metadata['working_dir']}]"
    if metadata.get("py_interpreter_path"):
        text += f"\n[Python interpreter: {metadata['py_interpreter_path']}]"
    code = metadata.get("exit_code", -1)
    return text if code == -1 else text + f"\n[Command finished with exit code {shown(code)}]"
