"""Which tokens of a prompt are what: system, question, thinking, answer, call, observation, and the frame around them.

Spans come from the rules that wrote the prompt, never from searching it for tags, so a user who types `</think>` moves
nothing. A token that lies across two pieces belongs to the one that its first character is in.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

from labkit.calling import public
from labkit.errors import InputError
from labkit.thinking import rules, templates
from labkit.thinking.given import check_tokenizer
from labkit.thinking.messages import checked_tools, conversation, plain


@dataclasses.dataclass(frozen=True)
class Span:
    """Tokens `start` up to `stop` of a prompt, of one kind (`rules.KINDS`), from one message (-1 for none)."""

    start: int
    stop: int
    kind: str
    message: int

    def __len__(self):
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A rendered conversation.

    Attributes:
        text: what the model reads.
        ids: its token ids; spans: of these tokens, in order, without gaps.
    """

    text: str
    ids: tuple[int, ...]
    spans: tuple[Span, ...]

    def kinds(self) -> list[str]:
        """The kind of every token, for `attention.summary(segments=...)`."""
        return [span.kind for span in self.spans for _ in range(len(span))]

    def of(self, kind: str, message: int | None = None) -> list[int]:
        """Positions of the tokens of one kind, of one message or all."""
        chosen = [s for s in self.spans if s.kind == kind and message in (None, s.message)]
        return [t for span in chosen for t in range(span.start, span.stop)]


@public
def spans(messages: Sequence[dict], tokenizer, *, variant: str | None = None, **options) -> Prompt:
    """Render a conversation as the tokenizer's own template does, encode it, and say of every token what it is.

    Args:
        messages: OpenAI messages.
        tokenizer: a fast tokenizer of transformers.
        variant: of the rules; None takes those that the tokenizer's template follows, 3.6 if it has none.
        options: of `rules.pieces`: preserve, enable_thinking, tools, add_generation_prompt, continue_final_message,
            reasoning_effort.

    Returns:
        `Prompt`.

    Raises:
        InputError: as `rules.render`; a tokenizer without offsets, a template that follows no variant.
    """
    check_tokenizer(tokenizer, "thinking.spans")
    templated = bool(getattr(tokenizer, "chat_template", None))
    if variant is None:
        variant = variant_of(tokenizer) if templated else "3.6"
    pieces = rules.pieces(messages, variant=variant, **options)
    if templated:
        pieces = _as_templated(pieces, rendered(messages, tokenizer, **options))
        if pieces is None:
            raise InputError("the tokenizer's template does not follow these rules", got=variant, hint="variant=None")
    text = "".join(piece.text for piece in pieces)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("offsets need a fast tokenizer", got=type(tokenizer).__name__, hint="AutoTokenizer gives one")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    edges = list(itertools.accumulate(len(piece.text) for piece in pieces))
    homes = [bisect.bisect_right(edges, start) for start, _ in _settled(coded["offset_mapping"])]
    runs, at = [], 0
    for home, group in itertools.groupby(homes):
        count = len(list(group))
        piece = pieces[min(home, len(pieces) - 1)]
        if runs and (runs[-1].kind, runs[-1].message) == (piece.kind, piece.message):
            runs[-1] = dataclasses.replace(runs[-1], stop=at + count)
        else:
            runs.append(Span(at, at + count, piece.kind, piece.message))
        at += count
    return Prompt(text, tuple(coded["input_ids"]), tuple(runs))


@public
def rendered(
    messages: Sequence[dict],
    tokenizer,
    *,
    preserve: bool | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    **options,
) -> str:
    """The prompt by the tokenizer's own template; `preserve`, `add_generation_prompt`, `continue_final_message` and
    other
    options as for `rules.pieces`.

    Raises:
        InputError: the template refuses the messages, or takes too much time, memory or text.
    """
    check_tokenizer(tokenizer, "thinking.rendered")
    chosen = {name: value for name, value in options.items() if value is not None}
    if preserve is not None:
        chosen["preserve_thinking"] = preserve
    plain(chosen, "options", None)
    tools = checked_tools(chosen.pop("tools", None))
    chosen |= {"continue_final_message": True} if continue_final_message else {}
    opens = add_generation_prompt and not continue_final_message
    return templates.apply(tokenizer, conversation(messages), tools, add_generation_prompt=opens, **chosen)


@public
def variant_of(tokenizer) -> str:
    """The variant whose rules a tokenizer's template follows, found by rendering conversations in which all differ.

    Raises:
        InputError: it follows none, or gives no prompt for one of these.
    """
    check_tokenizer(tokenizer, "thinking.variant_of")
    ask, call = {"role": "user", "content": "a"}, {"name": "f", "arguments": {"x": True}}
    reply = {"role": "assistant", "reasoning_content": "b", "content": "c"}
    inline = {"role": "assistant", "content": "<think>d</think>e", "tool_calls": [call]}
    probes = [([ask, reply, ask], {}), ([ask, reply, ask], {"preserve": True}), ([ask, inline], {})]
    texts = [rendered(messages, tokenizer, **options) for messages, options in probes]
    for variant in rules.VARIANTS:
        pairs = [(rules.pieces(m, variant=variant, **o), text) for (m, o), text in zip(probes, texts, strict=True)]
        if all(_as_templated(pieces, text) is not None for pieces, text in pairs):
            return variant
    raise InputError(
        "this tokenizer's chat template follows none of the family's variants",
        expected=", ".join(rules.VARIANTS),
        hint="pass ids, or variant= and a tokenizer without a template",
    )


def _as_templated(pieces, text):
    """The pieces with the system block as a template wrote it; None if they differ anywhere else."""
    ends = [i + 1 for i, piece in enumerate(pieces) if piece.kind == "system"]
    cut = ends[0] if ends else 0
    rest = "".join(piece.text for piece in pieces[cut:])
    if not text.endswith(rest):
        return None
    head = text[: len(text) - len(rest)]
    if not cut:
        return pieces if not head else None
    opening = f"{rules.BEGIN}system\n"
    if not head.startswith(opening):
        return None
    system = dataclasses.replace(pieces[cut - 1], text=head[len(opening) :])
    return [*pieces[: cut - 1], system, *pieces[cut:]]


def _settled(offsets):
    """Offsets that never run back; tokens of one character's bytes share a place."""
    last = 0
    for start, stop in offsets:
        last = max(last, start)
        yield last, stop
