"""From a session to the calls of the model: what was read, what was written, and where its marks are.

Every assistant message is one call. Its prompt is the conversation before it, rendered under a policy:

    strip      thinking of turns before the last question is dropped
    preserve   all thinking stays
    drop       the client does not send reasoning back, though the template would keep it

What was generated is the assistant's message as it continues the open prompt, up to its end token. Messages that carry
`prompt_ids` or `completion_ids` are taken at their word. Tokens of a message are encoded once: special tokens part the
text, so that the tokens of a prompt are those of its messages in a row.

A picture is one pad in the template, and all pads are alike; what is cached for one picture is wrong for another, in
content and in its rotary positions (height, width). So a pad stands here as a negative number that is the picture's
own; with `prompt_ids` from an engine it counts the tokens that it really takes.
"""

import bisect
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from labkit.errors import InputError
from labkit.thinking import common_prefix, rules
from labkit.thinking.messages import Conversation, conversation, picture

POLICIES = ("strip", "preserve", "drop")
PADS = ("<|image_pad|>", "<|video_pad|>")
PARTING = ("<|im_start|>", "<|im_end|>", "<tool_response>", "</tool_response>", "<think>", "</think>")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of the model.

    Attributes:
        prompt, generated: token ids, int32.
        turn: how many questions of the user there were, from 1. message: index of the message that was generated.
        before_think: tokens of the prompt before the opening of the thinking block.
        last_user: tokens up to the assistant's header after the last question: where stripping will cut; 0 if a prompt
            that was given differs before it.
        thinking: tokens of the generated thinking block.
    """

    prompt: np.ndarray
    generated: np.ndarray
    turn: int
    message: int
    before_think: int
    last_user: int
    thinking: int


def calls(
    messages: Sequence[dict],
    tokenizer,
    *,
    policy: str = "strip",
    variant: str = "3.6",
    tools: list | None = None,
    enable_thinking: bool | None = None,
) -> Iterator[Call]:
    """The calls of a session, one after the other.

    Args:
        messages: OpenAI messages, of all turns.
        tokenizer: of transformers, with the family's special tokens.
        policy: one of `POLICIES`.
        variant, tools, enable_thinking: of `thinking.render`.

    Yields:
        `Call`.

    Raises:
        InputError: no assistant message, an unknown policy, a tokenizer without the family's special tokens.
    """
    if policy not in POLICIES:
        raise InputError("no such policy", got=policy, expected=", ".join(POLICIES))
    messages = conversation(messages)
    replies = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not replies:
        raise InputError("a session without calls", got=f"{len(messages)} messages", expected="an assistant message")
    encode = Encoder(tokenizer)
    questions = [i for i, message in enumerate(messages) if rules.asks(message, i)]
    if not questions or questions[0] > replies[0]:
        raise InputError(
            "a reply before the first question", got=f"message {replies[0]}", expected="role user before it"
        )
    sent = Conversation(map(_forgetful, messages)) if policy == "drop" else messages
    options = dict(variant=variant, preserve=policy != "strip", tools=tools, enable_thinking=enable_thinking)
    for i in replies:
        pieces = rules.pieces(sent[:i], **options)
        parts = _by_message(pieces)
        rows = [encode(text, pictures(sent[at]) if at >= 0 else ()) for at, text in parts]
        turn = bisect.bisect_left(questions, i)
        up_to = sum(len(row) for (at, _), row in zip(parts, rows, strict=True) if at <= questions[turn - 1])
        head, opened = (encode(piece.text) for piece in pieces[-2:])
        prompt = np.concatenate([*rows, head, opened])
        generated, thinking = _generated(encode, messages[i], i, pieces[-1].text, options)
        last_user = up_to + len(head)
        if messages[i].get("prompt_ids") is not None:
            rendered, prompt = prompt, np.asarray(messages[i]["prompt_ids"], np.int32)
            if common_prefix(rendered, prompt) < last_user:
                last_user = 0  # the mark of the rendered prompt is not in the one that was sent
        yield Call(
            prompt,
            generated,
            turn=turn,
            message=i,
            before_think=max(0, len(prompt) - len(opened)),
            last_user=last_user,
            thinking=thinking,
        )


class Encoder:
    """Token ids of texts, each text encoded once."""

    def __init__(self, tokenizer):
        known = tokenizer.get_added_vocab()
        if missing := [word for word in PARTING if word not in known]:
            raise InputError("a tokenizer without the family's special tokens", got=f"no {missing[0]}")
        self.tokenizer, self.known, self.pads = tokenizer, {}, [known[pad] for pad in PADS if pad in known]

    def __call__(self, text: str, pictures: Sequence[int] = ()) -> np.ndarray:
        key = (text, *pictures)
        if key not in self.known:
            ids = np.array(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], np.int32)
            places = np.flatnonzero(np.isin(ids, self.pads))
            if len(places) == len(pictures):  # else someone wrote a pad as text
                ids[places] = pictures
            self.known[key] = ids
        return self.known[key]


def pictures(message: dict) -> tuple[int, ...]:
    """A negative number for each picture or film of a message, from what it shows or where it lies."""
    content = message.get("content")
    items = content if isinstance(content, list | tuple) else []
    shown = [repr(sorted(item.items())) for item in items if picture(item)]
    return tuple(-1 - int.from_bytes(hashlib.sha256(text.encode()).digest()[:3]) for text in shown)


def _by_message(pieces):
    """(message, text) of a prompt's pieces but for the generation prompt, joined message by message."""
    joined = []
    for piece in pieces[:-2]:
        if joined and joined[-1][0] == piece.message:
            joined[-1][1] += piece.text
        else:
            joined.append([piece.message, piece.text])
    return [tuple(pair) for pair in joined]


def _generated(encode, message, i, opened, options):
    """(token ids of what the model wrote, how many of them are its thinking block)."""
    if message.get("completion_ids") is not None:
        return np.asarray(message["completion_ids"], np.int32), 0
    ask = {"role": "user", "content": "?"}
    written = rules.pieces(
        Conversation([ask, message]), **(options | {"preserve": True, "tools": None}), add_generation_prompt=False
    )
    own = [piece for piece in written if piece.message == 1][1:-1]  # without the header and the end
    text = "".join(piece.text for piece in own) + "<|im_end|>"
    thought = next((piece.text for piece in own if piece.kind == "think"), "")
    if opened == rules.EMPTY:  # the prompt has closed the block already
        return encode(text[len(thought) :]), 0
    return encode(text.removeprefix("<think>\n")), len(encode(thought.removeprefix("<think>\n"))) if thought else 0


def _forgetful(message):
    """An assistant's message as a client sends it back that keeps no reasoning."""
    return {name: value for name, value in message.items() if name != "reasoning_content"}
