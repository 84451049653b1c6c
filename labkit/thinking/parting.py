"""Where two prompts part, and why: the reason by name, with the first pair of tokens that differ.

What was cached can be used up to the first token that differs. Which change of the conversation that token comes from
is read off its place in the template (rules: `labkit.thinking.rules`) and off what stands at both sides:

    none               nothing differs: one continues the other
    thinking stripped  the cached turn has its thinking, the new prompt drops it
    thinking added     the other way round
    reasoning dropped  the client did not send the reasoning back: an empty block in its place
    empty thinking     an empty block as a model writes it, two single newlines, and as the template does, one token
    white space        the template trims what the model wrote
    tool call          arguments were written anew: order of keys, numbers, newlines
    retokenised        the same text in other tokens
    system block       anything before the first turn: date, tools, effort, system text
    template           the frame around turns differs: another version or variant
    picture            another picture or film, or one on one side alone
    compaction         turns were replaced by fewer tokens
    edited             the text of a turn is another
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from labkit.calling import public
from labkit.errors import InputError
from labkit.thinking.given import check_tokenizer
from labkit.thinking.messages import text, token_ids

CAUSES = (
    "none",
    "thinking stripped",
    "thinking added",
    "reasoning dropped",
    "empty thinking",
    "white space",
    "tool call",
    "retokenised",
    "system block",
    "template",
    "picture",
    "compaction",
    "edited",
)
HEAD, END = "<|im_start|>assistant\n", "<|im_end|>"
LOOK, CUT = 400, 8  # tokens that are read at each side; last signs of a text, which may be half a token


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first place where two sequences of tokens differ.

    Attributes:
        position: how many tokens they share.
        cause: one of `CAUSES`.
        pair: the two token ids there, None where one has ended; texts: the same, decoded.
        before: what both share just before; after: the two texts from there on.
    """

    position: int
    cause: str
    pair: tuple
    texts: tuple
    before: str
    after: tuple

    def __str__(self):
        if self.cause == "none":
            return f"nothing differs; {self.position:,} tokens are shared"
        pair = f"{self.texts[0]!r} became {self.texts[1]!r}"
        return f"{self.cause} at token {self.position:,}: {pair}, after {self.before!r}"


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences `a` and `b` have in common at their beginning (LCP)."""
    count, at, step = min(len(a), len(b)), 0, 64
    while at < count:
        stop = min(count, at + step)
        differ = np.flatnonzero(np.asarray(a[at:stop]) != np.asarray(b[at:stop]))
        if len(differ):
            return at + int(differ[0])
        at, step = stop, 4 * step
    return count


@public
def divergence(a, b, tokenizer=None) -> Divergence:
    """Compare what was cached, or the prompt before, with the next prompt.

    Args:
        a, b: token ids, `Prompt`s, or texts.
        tokenizer: to decode ids and encode texts; needed unless both are texts, which are then compared by characters.

    Returns:
        `Divergence`.

    Raises:
        InputError: ids without a tokenizer, something else than one, or neither ids nor a text.
    """
    if tokenizer is not None:
        check_tokenizer(tokenizer, "thinking.divergence")
    a, b = (_ids(prompt, tokenizer) for prompt in (a, b))
    if isinstance(a, str):
        at, decode = len(os.path.commonprefix([a, b])), lambda part: part
        finished = END in a[:at]
    else:
        at, decode = common_prefix(a, b), lambda part: _decoded(part, tokenizer)
        finished = bool((a[:at] == tokenizer.convert_tokens_to_ids(END)).any())
    sides = [decode(ids[at : at + LOOK]) for ids in (a, b)]
    past = decode(a[max(0, at - LOOK) : at])
    begun = finished or not decode(a[:12]).startswith("<|im_start|>system")
    ended = at in (len(a), len(b))
    pair = tuple(ids[at] if at < len(ids) else None for ids in (a, b))
    pair = tuple(token if token is None or isinstance(token, str) else int(token) for token in pair)
    if not ended and any(map(_shows, pair, sides)):
        cause = "picture"
    else:
        cause = "none" if ended else _cause(past, *sides, begun, len(a) - at, len(b) - at)
    text_of = lambda token: token if isinstance(token, str) else "a picture" if token < 0 else decode([token])  # noqa: E731
    texts = tuple("" if token is None else text_of(token) for token in pair)
    return Divergence(at, cause, pair, texts, past[-40:], tuple(side[:80] for side in sides))


def _shows(token, text):
    """Whether a side goes on with a picture: its own number, or the signs around it."""
    return (isinstance(token, int) and token < 0) or text.startswith(
        ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>")
    )


def _decoded(ids, tokenizer):
    """Text of ids; negative ones stand for pictures (`labkit.reuse.calls`) and have none."""
    return tokenizer.decode([i for i in np.asarray(ids).tolist() if i >= 0])


def _ids(prompt, tokenizer):
    if hasattr(prompt, "ids"):
        prompt = prompt.ids
    if isinstance(prompt, str):
        if tokenizer is None:
            return prompt
        prompt = tokenizer(text(prompt, "a prompt", None), add_special_tokens=False, verbose=False)["input_ids"]
    if tokenizer is None:
        raise InputError("ids need a tokenizer to be read", got="ids alone", hint="divergence(a, b, tokenizer)")
    return token_ids(prompt, "a prompt's ids")


def _cause(past, old, new, begun, left_old, left_new):
    """The reason, from the shared text before and the two texts after; `begun` if the system block is over."""
    if not begun:
        return "system block"
    alike = _alike(old, new, left_old <= LOOK)
    turn = past.rpartition("<|im_start|>")[2]
    starts = [side.lstrip("\n").startswith("<think>") for side in (old, new)]
    if ("<think>" in turn and "</think>" not in turn) or (turn.startswith("assistant") and all(starts)):
        return _in_thinking(turn.rpartition("<think>")[2], old, new) or alike or "edited"
    if turn == "assistant\n" and starts[0] != starts[1]:
        return "thinking stripped" if starts[0] else "thinking added"
    if alike:
        return alike
    if (
        turn.startswith("assistant")
        and "</tool_call>" not in turn.rpartition("<tool_call>")[2]
        and "<tool_call>" in turn
    ):
        return "tool call"
    if "\n" not in turn and _alike(_bare(old), _bare(new), False):
        return "template"
    return "compaction" if left_new < left_old / 2 else "edited"


def _in_thinking(inside, old, new):
    """What became of a block of thinking, if one side closes it without a word; else None."""
    closed = tuple((inside + side).lstrip("\n ").startswith("</think>") for side in (old, new))
    names = {(True, True): "empty thinking", (False, True): "reasoning dropped", (True, False): "thinking added"}
    return names.get(closed)


def _alike(old, new, ended):
    """Whether two texts go on alike, in other tokens or but for white space; `ended`: the first is shown to its end."""
    without = ["".join(side.split()) for side in (old, new)]
    for name, (a, b) in {"retokenised": (old, new), "white space": without}.items():
        common = len(os.path.commonprefix([a, b]))
        if common == len(a) if ended else common >= max(24, min(len(a), len(b)) - CUT):
            return name
    return None


def _bare(text):
    return text.replace("<|im_start|>", "").replace("<|im_end|>", "").replace("\n", "")
