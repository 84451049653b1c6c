"""What nano can do, measured on questions from seeds that no training draws: greedy answers, counted.

Every row of the card is a task with many prompts and one right answer to each (`labkit.nano.questions`). The parts:

    window     prompts that fill the window            long      the same at 1, 2 and 4 windows, with and without YaRN
    chat       conversations, thinking kept or not     knocked   the same without the mixers of one kind
    ahead      the multi-token-prediction layer
"""

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import torch

from labkit import rotary, stats, turning
from labkit.errors import InputError
from labkit.nano import questions, tasks, text
from labkit.nano.shape import WINDOW
from labkit.nano.tokens import VALUES

COLOUR = 1 / len(VALUES)


@dataclasses.dataclass(frozen=True)
class Result:
    """One line of the card: how many of `samples` answers were right, and what guessing would reach."""

    name: str
    right: int
    samples: int
    chance: float | None = None

    @property
    def share(self) -> float:
        """Right answers over all."""
        return self.right / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval of the share."""
        return stats.wilson(self.right, self.samples)


class Exam:
    """Asks a model.

    Args:
        model, mtp: from a training folder or a checkpoint.
        deck: `lessons.Deck`, for its tokenizer and template. samples: per row. seed: of the questions.
        batch: prompts of one window that are read at once; of longer ones so many fewer.
    """

    def __init__(self, model, mtp, deck, *, samples=1000, seed=10_000, batch=8):
        self.model, self.mtp, self.deck = model.eval(), mtp.eval(), deck
        self.samples, self.seed, self.batch = samples, seed, batch

    def ask(
        self, name: str, question: Callable, *, room: int = WINDOW, chance: float | None = COLOUR, **options
    ) -> Result:
        """Ask `samples` times, count right next tokens; a `Result`."""
        draw = random.Random(f"{self.seed}/{name}")
        size, encode = self.deck.reader.size, self.deck.reader.tokenizer.encode
        right, batch = 0, max(1, self.batch * WINDOW // room)
        for first in range(0, self.samples, batch):
            pairs = [question(draw, room, size, **options) for _ in range(min(batch, self.samples - first))]
            tokens = self._next([encode(prompt).ids for prompt, _ in pairs])
            right += sum(int(token) == encode(value).ids[0] for token, (_, value) in zip(tokens, pairs, strict=True))
        return Result(name, right, self.samples, chance)

    @torch.no_grad()
    def _next(self, rows):
        ids, mask, positions = padded(rows, self.deck.pad)
        got = self.model(ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
        return got.logits[:, -1].argmax(-1)

    def converse(self, name: str, *, preserve: bool, chance: float | None = COLOUR) -> Result:
        """A question about an earlier turn's thinking; right if the generated answer says the value."""
        draw = random.Random(f"{self.seed}/{name}")
        encode = self.deck.reader.tokenizer.encode
        right, batch = 0, 4 * self.batch
        for first in range(0, self.samples, batch):
            sessions = [questions.decided(draw, preserve) for _ in range(min(batch, self.samples - first))]
            texts = [tasks.bare(self.deck.render(m, preserve, add_generation_prompt=True)) for m, _, _ in sessions]
            replies = self._continue([encode(t).ids for t in texts])
            for reply, (_, key, value) in zip(replies, sessions, strict=True):
                right += f"the {key} is {value}." in reply.partition("</think>")[2]
        return Result(name, right, self.samples, chance)

    @torch.no_grad()
    def _continue(self, rows, new=24):
        ids, mask, _ = padded(rows, self.deck.pad)
        stop = self.deck.reader.tokenizer.token_to_id("<|im_end|>")
        options = dict(max_new_tokens=new, do_sample=False, eos_token_id=stop, pad_token_id=self.deck.pad)
        got = self.model.generate(ids, attention_mask=mask, **options)
        return [
            self.deck.reader.tokenizer.decode(row.tolist(), skip_special_tokens=False) for row in got[:, ids.shape[1] :]
        ]

    @torch.no_grad()
    def acceptance(self, name: str, rows: Callable) -> Result:
        """How often the multi-token-prediction layer names the very token the model itself would say next but one.

        Args:
            rows: `(draw) -> token ids` of held-out text.
        """
        draw = random.Random(f"{self.seed}/{name}")
        right = count = 0
        while count < 10 * self.samples:
            ids = torch.tensor([rows(draw)])
            hidden = self.model.model(ids, use_cache=False).last_hidden_state
            own = self.model.lm_head(hidden).argmax(-1)[:, 1:]
            ahead = self.mtp(self.model, ids, hidden).argmax(-1)
            right, count = right + int((own == ahead).sum()), count + own.numel()
        return Result(name, right, count)


def share(lab, question: Callable, *, samples: int = 30, room: int = 192, seed: int = 7, **options) -> float:
    """The share of questions whose answer is the most likely next token of a `Lab`, with whatever edits are in force.

    Args:
        question: of `labkit.nano.questions`, with its `options`. samples: how many. room: tokens of a prompt.
    """
    draw, size = random.Random(seed), lambda text: len(lab.encode(text))
    right, _ = answers(lab, [question(draw, room, size, **options) for _ in range(samples)])
    return int(right.sum()) / samples


def answers(lab, asked: Sequence[tuple[str, str]], *, batch: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """What a `Lab` makes of (prompt, answer) pairs, with whatever edits are in force: one pass for each, none written.

    Args:
        batch: prompts of similar lengths that are read at once.

    Returns:
        right [pair] bool, whether the answer's first token is the most likely next one; p [pair], its probability.
    """
    order = sorted(range(len(asked)), key=lambda n: len(lab.encode(asked[n][0])))
    right, p = torch.zeros(len(asked), dtype=torch.bool), torch.zeros(len(asked))
    for first in range(0, len(order), batch):
        at = order[first : first + batch]
        for n, run in zip(at, lab.trace([asked[n][0] for n in at], layers=[]), strict=True):
            logits, token = run.logits[-1].float().cpu(), int(lab.encode(asked[n][1])[0])
            right[n], p[n] = int(logits.argmax()) == token, float(logits.softmax(-1)[token])
    return right, p


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, mask and positions [batch, T] of rows of different lengths, padded on the left."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


def yarn(model, factor: float) -> contextlib.AbstractContextManager:
    """The model's rotary frequencies and scale as YaRN (arXiv 2309.00071) makes them, while the block lasts."""
    rope, width = model.config.rope_parameters, 2 * len(model.model.rotary_emb.inv_freq)
    scaling = rotary.Scaling("yarn", factor, original=WINDOW)
    where = dict(theta=rope["rope_theta"], width=width, window=WINDOW, reach=factor * WINDOW)
    return turning.switched(model.model, scaling, **where)


@contextlib.contextmanager
def without(model, kind: str) -> Iterator[None]:
    """The model without its mixers of one kind, "linear_attention" or "full_attention", while the block lasts."""
    with contextlib.ExitStack() as scope:
        for layer, its in zip(model.model.layers, model.config.layer_types, strict=True):
            if its == kind:
                mixer = layer.linear_attn if kind == "linear_attention" else layer.self_attn
                scope.callback(mixer.register_forward_hook(_nothing).remove)
        yield


def _nothing(module, args, output):
    return (output[0] * 0, *output[1:]) if isinstance(output, tuple) else output * 0


# --------------------------------------------------------------------------------------------------- all of them

RECALL = ("recall, 16 facts among sentences", questions.recall, COLOUR, {})
OVERWRITTEN = ("overwritten key, last value counts", questions.overwritten, COLOUR, {})
FIRST = ("first of three values", questions.first_value, COLOUR, {})
EARLIER = ("which came earlier", questions.earlier, 0.5, {})
NTH = ("nth item of a list", questions.ordinal, 1 / 8, {})
REPEATED = ("next word of a repeated row", questions.induction, None, {})
NEEDLES = [
    (f"needle, depth {depth + 1} of {questions.DEPTHS}", questions.needle, COLOUR, {"depth": depth})
    for depth in range(questions.DEPTHS)
]
LAST = ("last of three values", questions.first_value, COLOUR, {"which": "last"})
SHOWN = {
    "window": [RECALL, OVERWRITTEN, *NEEDLES, FIRST, LAST, EARLIER, NTH, REPEATED],
    "long": [RECALL, OVERWRITTEN],
    "knocked": [RECALL, OVERWRITTEN, REPEATED],
}
PARTS = ("window", "chat", "ahead", "long", "knocked")


def examine(
    exam: Exam,
    parts: Sequence[str] = PARTS,
    done: Collection[tuple[str, str]] = (),
    say: Callable = lambda part, result: None,
) -> dict[str, list[Result]]:
    """Measure rows of the card: `{part: [Result, ...]}`.

    Args:
        exam: `Exam`.
        parts: which; rows named in `done`, (part, name), are left out.
        say: told (part, result) as each comes.
    """
    results = {}
    for part in parts:
        for name, ask in _rows(exam, part):
            if (part, name) not in done:
                result = ask()
                results.setdefault(part, []).append(result)
                say(part, result)
    return results


def _rows(exam, part):
    """(name, function that measures it) of every row of a part."""
    if part == "window":
        for name, question, chance, options in SHOWN[part]:
            yield name, partial(exam.ask, name, question, chance=chance, **options)
    elif part == "chat":
        for policy in ("preserved", "stripped"):
            name = f"asked about earlier thinking, {policy}"
            yield name, partial(exam.converse, name, preserve=policy == "preserved")
    elif part == "ahead":
        size = exam.deck.reader.size
        stories = lambda draw: exam.deck.reader.read(text.story(draw, 256, size))[0]  # noqa: E731
        held_out = lambda draw: text.passage(draw, 256, exam.deck.held_out)  # noqa: E731
        for name, rows in (("sentences of the grammar", stories), ("docstrings kept from training", held_out)):
            yield name, partial(exam.acceptance, name, rows)
    elif part == "long":
        for times, factor, (task, *row) in itertools.product((1, 2, 4), (1, 2, 4), SHOWN[part]):
            if (times, factor) != (1, 1):
                name = f"{task} | {times} | {factor}"
                yield name, partial(_longer, exam, name, row, times, factor)
    elif part == "knocked":
        for kind, (task, *row) in itertools.product(("linear_attention", "full_attention"), SHOWN[part]):
            name = f"{task} | {kind}"
            yield name, partial(_knocked, exam, name, row, kind)
    else:
        raise InputError("unknown part of the exam", got=part, expected=", ".join(PARTS))


def _longer(exam, title, row, times, factor):
    question, chance, options = row
    with yarn(exam.model, factor):
        return exam.ask(title, question, room=times * WINDOW, chance=chance, **options)


def _knocked(exam, title, row, kind):
    question, chance, options = row
    with without(exam.model, kind):
        return exam.ask(title, question, chance=chance, **options)
