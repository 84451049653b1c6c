"""Chat sessions in which something is decided in the thinking of one turn and asked for in a later one.

A session is a list of messages as any client sends them; the tokenizer's own template renders it, with thinking
preserved or stripped. Facts come three ways: decided in thinking (visible later only if thinking is preserved), said by
the user, or read by a tool.
"""

import random
from collections.abc import Callable, Sequence

from labkit.nano.tasks import answer, bare
from labkit.nano.tokens import KEYS, VALUES

DECIDE = ("pick a colour for the {key}.", "now pick a colour for the {key}.")
TELL = ("the {key} is {value}.", "then the {key} is {value}.")
LOOK = ("look up the {key}.", "now look up the {key}.")
ASK = ("what colour is the {key}?", "which colour is the {key}?")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    }
]


def decide(draw: random.Random, key: str, value: str) -> list[dict]:
    """The user leaves the choice; the model makes it in its thinking and does not say it."""
    return [user(draw.choice(DECIDE).format(key=key)), reply(f"the {key} is {value}.", "noted.")]


def tell(draw: random.Random, key: str, value: str) -> list[dict]:
    """The user states the fact."""
    return [user(draw.choice(TELL).format(key=key, value=value)), reply("noted.", "noted.")]


def look(draw: random.Random, key: str, value: str) -> list[dict]:
    """The model asks a tool."""
    call = {"type": "function", "function": {"name": "look", "arguments": {"name": key}}}
    fact = f"the {key} is {value}."
    return [
        user(draw.choice(LOOK).format(key=key)),
        reply("I need the tool.", "", [call]),
        {"role": "tool", "content": fact},
        reply(f"the tool said the {key} is{answer(' ' + value)}.", f"the {key} is{answer(' ' + value)}."),
    ]


def ask(draw: random.Random, key: str, value: str, known: bool = True) -> list[dict]:
    """The user asks; the model recalls in its thinking and answers."""
    recalled = answer(f" {value}") if known else f" {value}"
    return [
        user(draw.choice(ASK).format(key=key)),
        reply(f"the {key} is{recalled}.", f"the {key} is{answer(' ' + value)}."),
    ]


def user(text: str) -> dict:
    """A message of the user."""
    return {"role": "user", "content": text}


def reply(thinking: str, content: str, calls: list | None = None) -> dict:
    """A message of the assistant."""
    message = {"role": "assistant", "reasoning_content": thinking, "content": content}
    return message | ({"tool_calls": calls} if calls else {})


def session(
    draw: random.Random, *, turns: int, preserve: bool, kinds: Sequence[Callable] = (decide, tell, look)
) -> list[dict]:
    """Messages of one session: `turns` facts and questions, every question about an earlier fact.

    What was decided in thinking can be answered later only if `preserve`; else the answer is no right answer but a
    guess, and is not marked. A question's own reply says the value aloud, so a key is asked for once.
    """
    messages, open_, keys = [], [], draw.sample(KEYS, turns)
    for turn in range(turns):
        if open_ and draw.random() < 0.45:
            key, value, kind = open_.pop(draw.randrange(len(open_)))
            messages += ask(draw, key, value, known=preserve or kind is not decide)
        else:
            key, value, kind = keys[turn], draw.choice(VALUES), draw.choice(kinds)
            messages += kind(draw, key, value)
            open_.append((key, value, kind))
    return messages


def chat(
    draw: random.Random,
    room: int,
    size: Callable[[str], int],
    render: Callable,
    *,
    kinds: Sequence[Callable] = (decide, tell, look),
) -> str:
    """The text of a session that fits the room, ending with the end of a turn."""
    preserve = draw.random() < 0.6
    tools = TOOLS if draw.random() < 0.15 and room > 300 else None
    for turns in range(max(2, room // 36), 1, -1):
        text = render(session(draw, turns=turns, preserve=preserve, kinds=kinds), preserve, tools)
        if size(bare(text)) <= room:
            return text
    return render(session(draw, turns=2, preserve=preserve, kinds=(decide, tell)), preserve, None)
