"""How a conversation becomes a prompt: the family's chat template as rules, in four variants.

    3.5          thinking of turns before the last question is dropped, always
    3.5-nothink  the same (checkpoints up to 2B); thinks only if `enable_thinking` is true
    3.6          dropped unless `preserve` is true
    3.8          kept unless `preserve` is given and not true; asks for a reasoning effort in the system block

The rules are those of the templates that ship with the checkpoints (copies: huggingface/trl, `trl/chat_templates/`
`qwen3_5_think`, `qwen3_5_nothink`, `qwen3_6`, `qwen3_8`, Apache-2.0), which `render` repeats to the character. A
tokenizer that has a template is asked instead: `thinking.spans`. Every character has a kind, so that spans need no
parsing and text that looks like a tag cannot pass for one.
"""

import dataclasses
import json
from collections.abc import Sequence

from labkit.errors import InputError
from labkit.thinking.messages import checked_tools, conversation, function, picture, reasoning, shown
from labkit.thinking.wording import EFFORTS, TOOLS_FOOT, TOOLS_HEAD

VARIANTS = ("3.5", "3.5-nothink", "3.6", "3.8")
KINDS = ("frame", "system", "user", "think", "answer", "call", "tool", "open")
BEGIN, END = "<|im_start|>", "<|im_end|>\n"
EMPTY = "<think>\n\n</think>\n\n"


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a rendered prompt.

    Attributes:
        text: as it stands in the prompt.
        kind: one of `KINDS`: "frame" is what the template adds around turns, "open" the generation prompt.
        message: index of the message it comes from; -1 for what belongs to none.
    """

    text: str
    kind: str
    message: int = -1


def render(messages: Sequence[dict], *, variant: str = "3.6", preserve: bool | None = None, **options) -> str:
    """The prompt of a conversation as text.

    Args:
        messages: OpenAI messages: role, content, for assistants also `reasoning_content` and `tool_calls`.
        variant: one of `VARIANTS`.
        preserve: whether thinking of earlier turns is kept; None is the variant's own default.
        options: see `pieces`.

    Raises:
        InputError: where the template would raise, and with the message that it is about.
    """
    return "".join(piece.text for piece in pieces(messages, variant=variant, preserve=preserve, **options))


def pieces(
    messages: Sequence[dict],
    *,
    variant: str = "3.6",
    preserve: bool | None = None,
    enable_thinking: bool | None = None,
    tools: list | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    reasoning_effort: str | None = None,
) -> list[Piece]:
    """The same as a list of `Piece`; their texts joined are the prompt.

    Args:
        messages, variant, preserve: as for `render`.
        enable_thinking: what the generation prompt opens with; None is the variant's own default.
        tools: JSON schemas of functions, for the system block.
        add_generation_prompt: whether the assistant's next turn is opened.
        continue_final_message: the assistant's last message is the beginning of its answer: it stays open, and no turn
            is opened behind it (transformers, `apply_chat_template`).
        reasoning_effort: "xhigh", "medium" or "low", of variant 3.8 alone.

    Raises:
        InputError: messages, a variant or an option that the template refuses.
    """
    messages, tools = conversation(messages), checked_tools(tools)
    if not messages:
        raise InputError("no messages", got="[]", expected="a list of at least one message of role user")
    last, preserved = last_query(messages), keeps(variant, preserve)
    written = head(messages, tools, variant, enable_thinking, reasoning_effort)
    for i in range(1 if messages[0]["role"] == "system" else 0, len(messages)):
        write = begun if continue_final_message and i == len(messages) - 1 else turn
        written += write(messages, i, preserved or i > last, variant)
    if add_generation_prompt and not continue_final_message:
        written += opening(variant, enable_thinking)
    return [piece for piece in written if piece.text]


def keeps(variant: str, preserve: bool | None) -> bool:
    """Whether thinking of turns before the last question stays.

    Raises:
        InputError: no such variant.
    """
    if variant not in VARIANTS:
        raise InputError("no such variant of the template", got=variant, expected=", ".join(VARIANTS))
    return not variant.startswith("3.5") and (preserve is True or (variant == "3.8" and preserve is None))


def head(messages: Sequence[dict], tools: list | None, variant: str, enable_thinking=None, effort=None) -> list[Piece]:
    """The system block: effort, tools and the first message, if that is the system's."""
    effort = _effort(variant, enable_thinking, effort)
    system = messages[0] if messages[0].get("role") == "system" else None
    text = content_text(system, 0).strip() if system else ""
    parts = [effort] if effort else []
    if tools:
        parts.append(TOOLS_HEAD + "".join("\n" + as_json(tool) for tool in tools) + TOOLS_FOOT)
    at = 0 if system else -1
    if not parts and not (system and (text or variant != "3.8")):
        return []
    parts += [text] if text else []
    return [Piece(f"{BEGIN}system\n", "frame", at), Piece("\n\n".join(parts), "system", at), Piece(END, "frame", at)]


def turn(messages: Sequence[dict], i: int, thinks: bool, variant: str, *, late: bool = False) -> list[Piece]:
    """Message `i`, not the leading system message, as it is written: with its thinking or without.

    Of the other messages only the roles of its two neighbours count, and those for results of tools alone.

    Args:
        late: write a system message that does not lead as a turn of its own, as ChatML has it; the templates of the
            family raise there.
    """
    message, role = messages[i], messages[i]["role"]
    body = content_text(message, i).strip()
    if role == "user" or (role == "system" and late):
        return _around(role, [Piece(body, role, i)], i)
    if role == "assistant":
        return _around("assistant", _reply(message, body, i, thinks, variant), i)
    if role == "tool":
        return _observed(messages, i, body)
    if role == "system":
        raise InputError("a system message stands first or nowhere", got=f"message {i}")
    raise InputError("no such role", got=shown(role), expected="system, user, assistant, tool", hint=f"message {i}")


def begun(messages: Sequence[dict], i: int, thinks: bool, variant: str) -> list[Piece]:
    """Message `i`, an assistant's, up to the end of its text, which goes on from there; white space there is dropped.

    Raises:
        InputError: another's message, or one without content or that the template rewrites (transformers refuses these
            two; it would go on from a user's words).
    """
    if messages[i]["role"] != "assistant" or messages[i].get("content") is None:
        got = f"message {i} of role {shown(messages[i]['role'])}, content {shown(messages[i].get('content'))}"
        raise InputError("only an assistant's words are continued", got=got, expected="role assistant, its content")
    written = [piece for piece in turn(messages, i, thinks, variant)[:-1] if piece.kind != "call"]
    body = content_text(messages[i], i).strip()
    if body not in "".join(piece.text for piece in written):
        hint = "give its reasoning apart, as reasoning_content"
        raise InputError("the template rewrites the message that is to be continued", got=shown(body), hint=hint)
    while not (text := written[-1].text.rstrip()):
        written.pop()
    return [*written[:-1], dataclasses.replace(written[-1], text=text)]


def opening(variant: str, enable_thinking: bool | None) -> list[Piece]:
    """The generation prompt: the assistant's header, and a thinking block that is open or closed already."""
    thinks = enable_thinking is True if variant == "3.5-nothink" else enable_thinking is not False
    return [Piece(f"{BEGIN}assistant\n", "open"), Piece("<think>\n" if thinks else EMPTY, "open")]


def last_query(messages: Sequence[dict]) -> int:
    """Index of the last of the `messages` that a person wrote: role user, and not just an observation in
    `<tool_response>` tags.

    Raises:
        InputError: there is none.
    """
    messages = conversation(messages)
    for i in range(len(messages) - 1, -1, -1):
        if asks(messages[i], i):
            return i
    raise InputError("no user query among the messages", got=f"{len(messages)} messages", expected="one of role user")


def asks(message: dict, i: int) -> bool:
    """Whether a person wrote checked message `i`: role user, and not just an observation in `<tool_response>` tags."""
    if message.get("role") != "user":
        return False
    text = content_text(message, i).strip()
    return not (text.startswith("<tool_response>") and text.endswith("</tool_response>"))


def content_text(message: dict, i: int) -> str:
    """The content of a checked message as text, pads in the place of pictures.

    Raises:
        InputError: a picture in the system message.
    """
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    parts = []
    for item in content:
        if pad := picture(item):
            if message["role"] == "system":
                raise InputError("a system message holds no pictures", got=pad, hint=f"message {i}")
            parts.append(f"<|vision_start|><|{pad}_pad|><|vision_end|>")
        else:
            parts.append(item["text"])
    return "".join(parts)


def split_thinking(message: dict, body: str, variant: str) -> tuple[str, str]:
    """(reasoning, answer) of an assistant's message; a tag inside the text counts if no reasoning is given apart."""
    apart = reasoning(message)
    if apart is not None:
        return apart.strip(), body
    if variant != "3.8" and "</think>" in body:
        parts = body.split("</think>")
        return parts[0].rstrip("\n").split("<think>")[-1].lstrip("\n").strip(), parts[-1].lstrip("\n")
    return "", body


def _around(role, inside, i):
    return [Piece(f"{BEGIN}{role}\n", "frame", i), *inside, Piece(END, "frame", i)]


def _reply(message, body, i, thinks, variant):
    thought, answer = split_thinking(message, body, variant)
    inside = [Piece(f"<think>\n{thought}\n</think>\n\n", "think", i)] if thinks else []
    inside.append(Piece(answer, "answer", i))
    for n, call in enumerate(message.get("tool_calls") or []):
        gap = "\n" if n else ("\n\n" if answer.strip() else "")
        inside.append(Piece(gap + _call(function(call), i, variant), "call", i))
    return inside


def _call(call, i, variant):
    arguments = call.get("arguments", {})
    if variant == "3.8" and arguments == "":
        arguments = {}
    if not isinstance(arguments, dict):
        raise InputError(
            "arguments of a tool call must be a mapping",
            got=shown(arguments),
            expected="{name: value}",
            hint=f"json.loads them first (message {i}, {call.get('name')})",
        )
    lines = [f"<tool_call>\n<function={call['name']}>\n"]
    for name, value in arguments.items():
        plain = not isinstance(value, dict | list | tuple) if variant.startswith("3.5") else isinstance(value, str)
        lines.append(f"<parameter={name}>\n{str(value) if plain else as_json(value)}\n</parameter>\n")
    return "".join([*lines, "</function>\n</tool_call>"])


def _observed(messages, i, body):
    """One result of a tool; a run of them is one block of the user's."""
    before = messages[i - 1].get("role") if i else "tool"  # as in the templates: at the very start no header is written
    after = messages[i + 1].get("role") if i + 1 < len(messages) else None
    head = [Piece(f"{BEGIN}user", "frame", i)] if before != "tool" else []
    result = Piece(f"\n<tool_response>\n{body}\n</tool_response>", "tool", i)
    return [*head, result, *([Piece(END, "frame", i)] if after != "tool" else [])]


def _effort(variant, enable_thinking, effort):
    if variant != "3.8":
        if effort is not None:
            raise InputError("only variant 3.8 knows a reasoning effort", got=f"variant {variant}, {effort!r}")
        return ""
    if enable_thinking is False:
        return ""
    if (effort or "xhigh") not in EFFORTS:
        raise InputError("no such reasoning effort", got=effort, expected=", ".join(EFFORTS))
    return EFFORTS[effort or "xhigh"]


def as_json(value: object) -> str:
    """JSON as the templates write it: keys in their order, letters unescaped."""
    return json.dumps(value, ensure_ascii=False)
