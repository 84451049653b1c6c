"""What nano can do, measured on questions from seeds that no training draws: greedy answers, counted.

Every row is a task with a prompt and one right answer. Rows of the first part lie in the window; those of the second
ask the same at twice and four times its length, with and without YaRN; those of the third take all mixers of one kind
away.
"""

import contextlib
import dataclasses
import math
import random

import torch

from labkit.nano import chat, tasks, text
from labkit.nano.shape import WINDOW
from labkit.nano.tokens import KEYS, VALUES

DEPTHS = 8
COLOUR = 1 / len(VALUES)


@dataclasses.dataclass(frozen=True)
class Result:
    """One line of the card: how many of `samples` answers were right, and what guessing would reach."""

    name: str
    right: int
    samples: int
    chance: float | None = None

    @property
    def share(self):
        """Right answers over all."""
        return self.right / self.samples

    @property
    def interval(self):
        """95 % Wilson score interval of the share."""
        return wilson(self.right, self.samples)


def wilson(right, n, z=1.96):
    """Bounds of the Wilson score interval of a proportion."""
    p, q = right / n, z * z / n
    middle, half = (p + q / 2) / (1 + q), z * math.sqrt(p * (1 - p) / n + q / (4 * n)) / (1 + q)
    return max(0.0, middle - half), min(1.0, middle + half)


# ------------------------------------------------------------------------------------------------ the questions


def among(draw, room, size, facts, asked, sentences=True):
    """Facts in order among sentences that fill the room; then the question. `asked` is its text."""
    left, filler = room - size(asked) - sum(map(size, facts)) - 1, []
    while sentences and left > 0:
        other = text.sentence(draw)
        left -= size(other)
        filler.append(other)
    return tasks.mixed(draw, facts, filler[:-1]) + "\n" + asked


def listed(draw, room, size, words, asked):
    """A list with sentences between its items that fill the room; then the question."""
    left, filler = room - len(words) - 2 - size(asked), []
    while left > 0:
        other = text.sentence(draw)
        left -= size(other)
        filler.append(other)
    return " list" + tasks.mixed(draw, [f" {word}" for word in words], filler[:-1]) + " end" + asked


def recall(draw, room, size, *, facts=16):
    """Different keys among sentences, all of the room; one is asked for."""
    keys = draw.sample(KEYS, facts)
    said = [(key, draw.choice(VALUES)) for key in keys]
    key, value = draw.choice(said)
    form = tasks.FACTS[draw.choice(("plain", "is"))]
    lines = [form.format(key=k, value=f" {v}") + "." for k, v in said]
    return among(draw, room, size, lines, form.format(key=key, value="")), f" {value}"


def overwritten(draw, room, size, *, facts=8):
    """One key gets a second, different value somewhere after its first; the last counts."""
    keys = draw.sample(KEYS, facts)
    said = [(key, draw.choice(VALUES)) for key in keys]
    at = draw.randrange(facts)
    key, old = said[at]
    value = draw.choice([v for v in VALUES if v != old])
    said.insert(draw.randint(at + 1, facts), (key, value))
    form = tasks.FACTS[draw.choice(("plain", "is"))]
    lines = [form.format(key=k, value=f" {v}") + "." for k, v in said]
    return among(draw, room, size, lines, form.format(key=key, value="")), f" {value}"


def needle(draw, room, size, *, depth):
    """A single fact at one of `DEPTHS` depths of the room, sentences before and after it."""
    key, value = draw.choice(KEYS), draw.choice(VALUES)
    form = tasks.FACTS[draw.choice(("plain", "is"))]
    fact, asked = form.format(key=key, value=f" {value}") + ".", form.format(key=key, value="")
    left = room - size(fact) - size(asked) - 1
    before, after = [], []
    place = left * (depth + 0.5) / DEPTHS
    while left > 0:
        other = text.sentence(draw)
        (before if sum(map(size, before)) < place else after).append(other)
        left -= size(other)
    return "".join(before) + fact + "".join(after[:-1]) + "\n" + asked, f" {value}"


def first_value(draw, room, size, *, which="first"):
    """Two keys with three values each, mixed; the first or last value of one is asked for."""
    keys = draw.sample(KEYS, 2)
    said = [(key, value) for key in keys for value in draw.sample(VALUES, 3)]
    draw.shuffle(said)
    key = draw.choice(keys)
    own = [value for k, value in said if k == key]
    lines = [f" {k} {v}." for k, v in said]
    return among(draw, room, size, lines, f" {which} {key}"), f" {own[0 if which == 'first' else -1]}"


def earlier(draw, room, size, *, items=8):
    """A list with sentences between its items; which of two came first?"""
    words = draw.sample(KEYS, items)
    i, j = sorted(draw.sample(range(items), 2))
    one, two = draw.sample((words[i], words[j]), 2)
    return listed(draw, room, size, words, f" earlier {one} {two}"), f" {words[i]}"


def ordinal(draw, room, size, *, items=8):
    """A list with sentences between its items; the third, say."""
    words = draw.sample(KEYS, items)
    i = draw.randrange(items)
    return listed(draw, room, size, words, f" {tasks.ORDINALS[i]}"), f" {words[i]}"


def induction(draw, room, size):
    """A row of random words, then its beginning again; the next word is asked for."""
    row = [draw.choice(KEYS + VALUES) for _ in range(24)]
    at = draw.randint(2, 23)
    return "".join(f" {w}" for w in row) + "." + "".join(f" {w}" for w in row[:at]), f" {row[at]}"


def decided(draw, preserve):
    """(messages, key, value): something decided in thinking, two to five other turns, then the question about it."""
    keys = draw.sample(KEYS, 6)
    value = draw.choice(VALUES)
    messages = chat.decide(draw, keys[0], value)
    for key in keys[1 : draw.randint(3, 6)]:
        messages += draw.choice((chat.decide, chat.tell, chat.look))(draw, key, draw.choice(VALUES))
    return messages + [chat.user(draw.choice(chat.ASK).format(key=keys[0]))], keys[0], value


# -------------------------------------------------------------------------------------------------- asking them


class Exam:
    """Asks a model.

    Args:
        model, mtp: from a training folder or a checkpoint.
        deck: `lessons.Deck`, for its tokenizer and template. samples: per row. seed: of the questions.
    """

    def __init__(self, model, mtp, deck, *, samples=1000, seed=10_000, batch=50):
        self.model, self.mtp, self.deck = model.eval(), mtp.eval(), deck
        self.samples, self.seed, self.batch = samples, seed, batch

    def ask(self, name, question, *, room=WINDOW, chance=COLOUR, **options):
        """Ask `samples` times, count right next tokens; a `Result`."""
        draw = random.Random(f"{self.seed}/{name}")
        size, encode = self.deck.reader.size, self.deck.reader.tokenizer.encode
        right = 0
        for first in range(0, self.samples, self.batch):
            asked = [question(draw, room, size, **options) for _ in range(min(self.batch, self.samples - first))]
            found = self._next([encode(prompt).ids for prompt, _ in asked])
            right += sum(int(one) == encode(value).ids[0] for one, (_, value) in zip(found, asked, strict=True))
        return Result(name, right, self.samples, chance)

    @torch.no_grad()
    def _next(self, rows):
        ids, mask, positions = padded(rows, self.deck.pad)
        got = self.model(ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
        return got.logits[:, -1].argmax(-1)

    def converse(self, name, *, preserve, chance=COLOUR):
        """A question about an earlier turn's thinking; right if the generated answer says the value."""
        draw = random.Random(f"{self.seed}/{name}")
        encode = self.deck.reader.tokenizer.encode
        right = 0
        for first in range(0, self.samples, self.batch):
            asked = [decided(draw, preserve) for _ in range(min(self.batch, self.samples - first))]
            texts = [self.deck.render(m, preserve, add_generation_prompt=True) for m, _, _ in asked]
            for said, (_, key, value) in zip(self._continue([encode(t).ids for t in texts]), asked, strict=True):
                right += f"the {key} is {value}." in said.rpartition("</think>")[2]
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
    def acceptance(self, name, rows):
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


def padded(rows, pad):
    """ids, mask and positions [batch, T] of rows of different lengths, padded on the left."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


@contextlib.contextmanager
def yarn(model, factor):
    """The model's rotary frequencies and scale as YaRN (arXiv 2309.00071) makes them, while the block lasts."""
    import copy

    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if factor == 1:
        yield
        return
    config, rotary = copy.deepcopy(model.config), model.model.rotary_emb
    config.rope_parameters = config.rope_parameters | {
        "rope_type": "yarn",
        "factor": float(factor),
        "original_max_position_embeddings": WINDOW,
    }
    frequencies, scale = ROPE_INIT_FUNCTIONS["yarn"](config, rotary.inv_freq.device)
    before = rotary.inv_freq.clone(), rotary.attention_scaling
    rotary.inv_freq.copy_(frequencies)
    rotary.attention_scaling = scale
    try:
        yield
    finally:
        rotary.inv_freq.copy_(before[0])
        rotary.attention_scaling = before[1]


@contextlib.contextmanager
def without(model, kind):
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

LONG = (
    ("recall, 16 facts", recall, COLOUR, {}),
    ("overwritten key, last value", overwritten, COLOUR, {}),
    ("first of three values", first_value, COLOUR, {}),
    ("which came earlier", earlier, 0.5, {}),
)
KNOCKED = (*LONG, ("nth item of a list", ordinal, 1 / 8, {}), ("next word of a repeated row", induction, None, {}))


def examine(exam, say=lambda result: None):
    """Every row of the card: `{part: [Result, ...]}`; `say` is told each as it comes."""
    parts = {}

    def note(part, result):
        parts.setdefault(part, []).append(result)
        say(result)

    note("window", exam.ask("recall, 16 facts among sentences", recall))
    note("window", exam.ask("overwritten key, last value counts", overwritten))
    for depth in range(DEPTHS):
        note("window", exam.ask(f"needle, depth {depth + 1} of {DEPTHS}", needle, depth=depth))
    note("window", exam.ask("first of three values", first_value))
    note("window", exam.ask("last of three values", first_value, which="last"))
    note("window", exam.ask("which came earlier", earlier, chance=0.5))
    note("window", exam.ask("nth item of a list", ordinal, chance=1 / 8))
    note("window", exam.ask("next word of a repeated row", induction, chance=None))
    note("chat", exam.converse("asked about earlier thinking, preserved", preserve=True))
    note("chat", exam.converse("asked about earlier thinking, stripped", preserve=False))
    size = exam.deck.reader.size
    stories = lambda draw: exam.deck.reader.read(text.story(draw, 256, size))[0]  # noqa: E731
    held_out = lambda draw: text.passage(draw, 256, exam.deck.held_out)  # noqa: E731
    note("ahead", exam.acceptance("sentences of the grammar", stories))
    note("ahead", exam.acceptance("docstrings kept from training", held_out))
    for times in (1, 2, 4):
        for factor in (1, 2, 4):
            with yarn(exam.model, factor):
                for name, question, chance, options in LONG:
                    title = f"{name} | {times} | {factor}"
                    note("long", exam.ask(title, question, room=times * WINDOW, chance=chance, **options))
    for kind in (None, "linear_attention", "full_attention"):
        with without(exam.model, kind):
            for name, question, chance, options in KNOCKED:
                note("knocked", exam.ask(f"{name} | {kind}", question, chance=chance, **options))
    return parts
