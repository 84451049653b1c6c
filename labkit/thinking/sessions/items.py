"""Items of OpenAI's Responses API in a row, as messages: what the model said between two others is one reply.

Read from openai/openai-python, `types/responses/response_input_item_param.py` and `response_output_item.py`, and from
openai/codex, `codex-rs/protocol/src/models.py`'s Rust original, `ResponseItem`.
"""

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.gathering import Gathered
from labkit.thinking.sessions.rows import Unreadable

HOSTED = "a tool that ran at the provider, what it found is not in the file"
ENCRYPTED = "thinking that is encrypted"
SUMMARY = "thinking that is encrypted, its summary stands for it"
REPLIES = ("reasoning", "function_call", "custom_tool_call")  # and `CALLS`
# Tools that have an item of their own: where their arguments stand, and what they found.
CALLS = {
    "local_shell_call": ("action", None),
    "shell_call": ("action", None),
    "apply_patch_call": ("operation", None),
    "computer_call": ("action", None),
    "tool_search_call": ("arguments", None),
    "web_search_call": ("action", "results"),
    "file_search_call": ("queries", "results"),
    "code_interpreter_call": ("code", "outputs"),
    "image_generation_call": ("prompt", "result"),
    "mcp_call": ("arguments", "output"),
}
LOCAL = ("local_shell_call", "shell_call", "apply_patch_call", "computer_call", "tool_search_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output", "tool_search_output", "mcp_tool_call_output")
OUTPUTS += tuple(f"{name}_output" for name in LOCAL if name.endswith("_call"))
ASIDE = {"ghost_snapshot": "a snapshot of files", "mcp_list_tools": "a list of tools", "other": "an item without words"}
ASIDE |= {"mcp_approval_request": "a question of the program", "mcp_approval_response": "an answer to the program"}


class Items:
    """Messages that grow by items.

    Attributes:
        messages: so far. reply: the last one, if it is the model's and still grows; else None.
    """

    def __init__(self, gathered: Gathered, messages: list[dict] | tuple = ()):
        self.gathered, self.messages, self.reply = gathered, list(messages), None

    def add(self, item, line: int, where: str = "") -> None:
        """Take in an item; what cannot be read of it is a problem."""
        parts.tried(self._add, item, line, self.gathered.problems, where, line)

    def close(self) -> None:
        """The reply that grows is complete."""
        self.reply = None

    def _add(self, item, line):
        item = parts.mapping(item)
        kind = item.get("type", "message" if "role" in item else None)
        if kind == "message":
            self._message(item, line)
        elif kind == "reasoning":
            self._reasoning(item, line)
        elif kind == "function_call":
            self._called(item.get("name"), item.get("arguments"))
        elif kind == "custom_tool_call":
            self._called(item.get("name"), {"input": _text(item, "input")})
        elif isinstance(kind, str) and kind in CALLS:
            self._hosted(kind, item, line)
        elif kind in OUTPUTS:
            self.close()
            self.messages.append({"role": "tool", "content": self._output(item, line)})
        elif kind in ("compaction", "compaction_summary", "context_compaction"):
            self.gathered.problem(line, "a summary that is encrypted: what the model was sent from here on is longer")
        elif isinstance(kind, str) and kind in ASIDE:
            self.gathered.leave_out(ASIDE[kind])
        else:
            raise Unreadable(f"an item of unknown type {shown(kind)}")

    def _message(self, item, line):
        made = parts.message({"role": item.get("role"), "content": self._content(item.get("content"), line)})
        if made["role"] != "assistant":
            self.close()
            self.messages.append(made)
        elif made["content"]:
            reply = self._replying()
            both = [reply["content"], made["content"]]
            reply["content"] = "\n\n".join(filter(None, both)) if all(isinstance(one, str) for one in both) else both[1]

    def _reasoning(self, item, line):
        thought, summary = (self._content(item.get(name), line) for name in ("content", "summary"))
        if item.get("encrypted_content") and not thought:
            self.gathered.unseen(line, SUMMARY if summary else ENCRYPTED)
        reply = self._replying()
        if thought or summary:
            thought = parts.message({"role": "assistant", "reasoning_content": thought or summary})["reasoning_content"]
            reply["reasoning_content"] = "\n\n".join(filter(None, [reply.get("reasoning_content"), thought]))

    def _called(self, name, arguments):
        called = parts.call(name, arguments)
        self._replying().setdefault("tool_calls", []).append(called)

    def _hosted(self, kind, item, line):
        given, found = CALLS[kind]
        name = item.get("name") if isinstance(item.get("name"), str) else kind.removesuffix("_call")
        arguments = item.get(given)
        self._called(
            name, {given: arguments} if isinstance(arguments, list | str) and kind != "mcp_call" else arguments
        )
        if kind in LOCAL:
            return
        if item.get(found) is None:
            self.gathered.leave_out(HOSTED)
            return
        shows = self._output({"output": item[found]}, line)
        self.close()
        self.messages.append({"role": "tool", "content": shows})

    def _replying(self):
        if self.reply is None:
            self.reply = {"role": "assistant", "content": ""}
            self.messages.append(self.reply)
        return self.reply

    def _output(self, item, line):
        shows = item.get("output", item.get("tools"))
        if isinstance(shows, dict):
            shows = shows.get("content", shows.get("body", [shows]))
        found = self._content(shows, line)
        return parts.message({"role": "tool", "content": found})["content"]

    def _content(self, content, line):
        """Text of a content, or its items if there are pictures among them; a part that cannot be read is a problem."""
        if content is None or isinstance(content, str):
            return content or ""
        made = [parts.tried(_part, part, line, self.gathered.problems) for part in parts.many(content)]
        made = [part for part in made if part is not None]
        return "".join(part["text"] for part in made) if all("text" in part for part in made) else made


def _part(part):
    """A part of a content as an item of a message."""
    part = parts.mapping(part)
    kind = part.get("type")
    if kind in ("input_image", "image_url", "computer_screenshot"):
        return {"type": "image", "image_url": part.get("image_url", part.get("file_id"))}
    if kind == "refusal":
        return {"type": "text", "text": _text(part, "refusal")}
    for name in ("text", "logs"):
        if name in part:
            return {"type": "text", "text": _text(part, name)}
    raise Unreadable(f"a part of unknown type {shown(kind)}")


def _text(part, name):
    if not isinstance(text := part.get(name), str):
        raise Unreadable(f"{name} is a {type(text).__name__} where text is needed")
    return text
