"""From a session to the calls of the model: what was read, what was written, and where its marks are.

A call is an exchange of a session, or an assistant's message of a conversation that is given. Its prompt is what was
sent, rendered under a policy:

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

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from labkit.calling import public, repeated
from labkit.errors import InputError
from labkit.thinking import Exchange, Session, common_prefix, rules
from labkit.thinking.given import check_tokenizer
from labkit.thinking.messages import REASONING, checked_tools, conversation, picture
from labkit.thinking.sessions import normal

POLICIES = ("strip", "preserve", "drop")
PADS = ("<|image_pad|>", "<|video_pad|>")
HEADER, ASKED = "<|im_start|>assistant\n", "<|im_start|>user\n"
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
        thread: the conversation or sub-agent that the call belongs to.
        before_user: tokens before the last question; 0 if a prompt that was given differs before it.
        system: tokens up to where the text of the first question begins; 0 without a message of the system's.
    """

    prompt: np.ndarray
    generated: np.ndarray
    turn: int
    message: int
    before_think: int
    last_user: int
    thinking: int
    thread: str = ""
    before_user: int = 0
    system: int = 0


@public
def calls(
    session: Sequence[dict] | Session,
    tokenizer,
    *,
    policy: str = "strip",
    variant: str = "3.6",
    tools: list | None = None,
    enable_thinking: bool | None = None,
) -> Iterator[Call]:
    """The calls of a session, one after the other.

    Args:
        session: of `thinking.read_session`; or OpenAI messages of all turns, of which every assistant's is a call.
        tokenizer: of transformers, with the family's special tokens; or an `Encoder` of one, which keeps its texts.
        policy: one of `POLICIES`.
        variant, enable_thinking: of `thinking.render`; a request that asked for thinking or against it counts first.
        tools: of plain messages; a session has its own.

    Yields:
        `Call`.

    Raises:
        InputError: no assistant message, an unknown policy, a tokenizer without the family's special tokens.
    """
    if not isinstance(tokenizer, Encoder):
        check_tokenizer(tokenizer, "reuse.calls")
    if policy not in POLICIES:
        raise InputError("no such policy", got=policy, expected=", ".join(POLICIES))
    if not isinstance(session, Session):
        session = conversation(session)
    exchanges = normal.exchanges(session, checked_tools(tools))
    if not exchanges:
        raise InputError("a session without calls", got=f"{len(session)} messages", expected="an assistant message")
    written = Written(tokenizer, variant, policy)
    return (written.call(exchange, enable_thinking) for exchange in exchanges)


def names(given: Iterable[str], word: str, name: str) -> list[str]:
    """Policies or schemes, each once.

    Args:
        word: what they are. name: of the call that compares them.

    Raises:
        InputError: one text alone, or no texts.
    """
    found = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    if isinstance(given, str) or not isinstance(given, Iterable) or not all(isinstance(each, str) for each in found):
        one = given if isinstance(given, str) and given else "end" if word == "schemes" else "strip"
        raise InputError(f"{name}: {word} is a list of names", got=repeated(given), hint=f"{word}=[{one!r}]")
    return list(dict.fromkeys(found))


def count_of(session: Sequence[dict] | Session) -> int:
    """How many calls a session or a list of messages has."""
    if isinstance(session, Session):
        return len(session.calls)
    return sum(isinstance(one, dict) and one.get("role") == "assistant" for one in session)


def thinks(session: Session) -> bool:
    """Whether a reply of a recorded session holds thinking."""
    replies = [call.reply for call in session.calls if call.reply]
    return any(reply.get("reasoning_content") or "</think>" in str(reply["content"]) for reply in replies)


class Written:
    """Prompts of exchanges in tokens; every message is written and encoded once for each way that it can stand in.

    Args:
        tokenizer, variant, policy: as for `calls`.
    """

    def __init__(self, tokenizer, variant: str, policy: str):
        self.encode = tokenizer if isinstance(tokenizer, Encoder) else Encoder(tokenizer)
        self.variant, self.policy = variant, policy
        self.keeps, self.rows, self.bare, self.asked = rules.keeps(variant, policy != "strip"), {}, {}, {}
        self.before = [], [], []  # of the call before: messages, indices of questions, rows

    def call(self, exchange: Exchange, enable_thinking: bool | None) -> Call:
        """The tokens of one exchange."""
        if exchange.enable_thinking is not None:
            enable_thinking = exchange.enable_thinking
        sent = list(exchange.sent if self.policy != "drop" else map(self._forgetful, exchange.sent))
        pairs = enumerate(zip(sent, self.before[0], strict=False))
        same = next((i for i, (one, other) in pairs if one is not other), min(len(sent), len(self.before[0])))
        questions = [i for i in self.before[1] if i < same]
        questions += [i for i in range(same, len(sent)) if self._asks(sent[i], i)]
        if not questions:
            got = f"message {len(sent)}"
            raise InputError("a reply before the first question", got=got, expected="role user before it")
        rows = self._prompt(sent, exchange.tools, enable_thinking, questions[-1], same)
        self.before = sent, questions, rows
        prefilled = sent[-1]["role"] == "assistant"
        opening = [] if prefilled else rules.opening(self.variant, enable_thinking)
        head, opened = (self.encode(piece.text) for piece in opening) if opening else ([], [])
        prompt = np.concatenate([*rows, head, opened], dtype=np.int32, casting="unsafe")
        leads = sent[0]["role"] == "system"
        before_user = sum(map(len, rows[: questions[-1] + (not leads)]))
        behind = range(questions[-1] + 1, len(sent))  # a late message of the system's may stand before the answer
        answer = next((i for i in behind if sent[i]["role"] == "assistant"), len(sent))
        last_user = sum(map(len, rows[: answer + (not leads)])) + (len(head) or len(self.encode(HEADER)))
        system = len(rows[0]) + len(self.encode(ASKED)) if leads else 0
        generated, thinking = self._generated(exchange.reply, opening[-1].text if opening else None)
        given = exchange.reply or {}
        if given.get("prompt_ids") is not None:
            rendered, prompt = prompt, np.asarray(given["prompt_ids"], np.int32)
            same = common_prefix(rendered, prompt)  # a mark of the rendered prompt may not be in the one that was sent
            last_user, before_user, system = (at if at <= same else 0 for at in (last_user, before_user, system))
        return Call(
            prompt,
            generated,
            turn=len(questions),
            message=len(exchange.sent),
            before_think=max(0, len(prompt) - len(opened)),
            last_user=last_user,
            thinking=thinking,
            thread=exchange.thread,
            before_user=before_user,
            system=system,
        )

    def _prompt(self, sent, tools, enable_thinking, last, same):
        """Token ids of the system block, which may be empty, and of every message behind it.

        Of the call before, what stands there is taken up to the last message that is the same, whose neighbour may be
        another, and up to the earlier of both last questions, from which on thinking may stand in one alone.
        """
        leads = sent[0]["role"] == "system"
        key = (id(sent[0]) if leads else None, id(tools), enable_thinking)
        if key not in self.rows:
            pieces = rules.head(sent[:1], tools, self.variant, enable_thinking)
            self.rows[key] = self.encode("".join(piece.text for piece in pieces)), sent[0], tools  # ids stay theirs
        known = max(min(same - 1, same if self.keeps or not same else min(self.before[1][-1], last) + 1), int(leads))
        rows = [self.rows[key][0], *self.before[2][1 : known + (not leads)]]
        for i in range(known, len(sent)):
            message, role = sent[i], sent[i]["role"]
            thinks = role == "assistant" and (self.keeps or i > last)
            beside = role == "tool" and (i > 0 and sent[i - 1]["role"], i + 1 < len(sent) and sent[i + 1]["role"])
            open_end = role == "assistant" and i == len(sent) - 1
            key = (id(message), thinks, beside, open_end)
            if key not in self.rows:
                pieces = self._pieces(sent, i, thinks, open_end)
                text = "".join(piece.text for piece in pieces)
                self.rows[key] = self.encode(text, pictures(message)), message
            rows.append(self.rows[key][0])
        return rows

    def _pieces(self, sent, i, thinks, open_end):
        if open_end:
            return rules.begun(sent, i, thinks, self.variant)
        return rules.turn(sent, i, thinks, self.variant, late=True)

    def _generated(self, reply, opened):
        """(token ids of what the model wrote, how many of them are its thinking block)."""
        if reply is None:
            return np.empty(0, np.int32), 0
        if reply.get("completion_ids") is not None:
            return np.asarray(reply["completion_ids"], np.int32), 0
        own = rules.turn([reply], 0, True, self.variant)[1:-1]  # without the header and the end
        text = "".join(piece.text for piece in own) + "<|im_end|>"
        thought = next((piece.text for piece in own if piece.kind == "think"), "")
        if opened is None and not rules.split_thinking(reply, reply.get("content") or "", self.variant)[0]:
            return self.encode(text[len(thought) :]), 0  # it goes on from words
        if opened == rules.EMPTY:  # the prompt has closed the block already
            return self.encode(text[len(thought) :]), 0
        text, thought = text.removeprefix("<think>\n"), thought.removeprefix("<think>\n")
        return self.encode(text), len(self.encode(thought)) if thought else 0

    def _forgetful(self, message):
        """An assistant's message as a client sends it back that keeps no reasoning, inline or apart."""
        if message["role"] != "assistant":
            return message
        if id(message) not in self.bare:
            made = {name: value for name, value in message.items() if name not in REASONING}
            body = rules.content_text(message, 0)
            if "</think>" in body:
                made["content"] = rules.split_thinking(made, body.strip(), "3.6")[1]
            self.bare[id(message)] = (made if made != message else message), message
        return self.bare[id(message)][0]

    def _asks(self, message, i):
        if message["role"] != "user":
            return False
        if id(message) not in self.asked:
            self.asked[id(message)] = rules.asks(message, i), message
        return self.asked[id(message)][0]


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
