"""Questions about a long text whose one right answer stands at a chosen depth, sized by the model's own tokenizer.

In the manner of RULER (arXiv 2404.06654), in words of our own, small enough that one token is asked for:

    needle     one fact about one key, and one about another that distracts
    keys       eight facts about eight keys; one is asked for
    latest     a key gets a value, and later another; the later counts
    variable   a value given to one name, handed on over two more; the last name is asked for, beside a second chain
    spread     nine facts, one at the beginning, one before the question, the rest evenly between; the one that is
               nearest to a depth is asked for. The text is the same at every depth, so a grid reads it once

Between the facts stand sentences about other things. Every question has a foil: a value of the text that would be right
for another question. The margin, log p(answer) - log p(foil), says more than a share of right answers: it has no floor.
"""

import dataclasses
import functools
import random

import torch

from labkit import prompts
from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.nano.text import sentence
from labkit.nano.tokens import KEYS, VALUES

FACT, ASKED = " {} is {}.", "\n {} is"
SPREAD = 9  # facts of such a question


@dataclasses.dataclass(frozen=True)
class Question:
    """A text and what is asked about it, as token ids.

    Attributes:
        ids: [T] the whole prompt, question included. asked: how many of its last tokens are the question.
        answer, foil: ids of the right and of the wrong continuation.
        at: the token at which the fact begins.
    """

    ids: torch.Tensor
    asked: int
    answer: torch.Tensor
    foil: torch.Tensor
    at: int


@public
def question(lab: Lab, task: str, *, length: int, depth: float, seed: int) -> Question:
    """One question.

    Args:
        lab: `Lab` with a tokenizer. task: one of `FACTS`. length: tokens that the prompt fills but does not exceed.
        depth: where the fact stands, 0 to 1 of the text before the question, to the nearest sentence (of "spread", to
            the nearest of its facts). seed: any; the same seed gives the same facts at every length and depth, and
            filler that begins alike.

    Raises:
        InputError: an unknown task, a depth outside 0 to 1, a length without room for the facts.
    """
    if task not in FACTS:
        raise InputError("no such task", got=task, expected=", ".join(FACTS))
    length, depth = whole(length, "length", least=1), number(depth, "depth", least=0, most=1)
    seed = whole(seed, "seed")
    if lab.tokenizer is None:
        raise InputError("this lab has no tokenizer", got="a task in words", expected="a checkpoint with its tokenizer")
    draw = random.Random(f"{task}/{seed}")
    evenly = task == "spread"
    before, fact, after, key, value, foil = FACTS[task](draw, depth)
    facts, asked = [*before, fact, *after], ASKED.format(key)
    sizes = functools.partial(_size, lab.tokenizer)
    longest = max(map(sizes, map(ASKED.format, KEYS))) if evenly else sizes(asked)  # whichever fact is asked for
    room = length - sum(map(sizes, facts)) - longest - 2
    if room < 0:
        got, least = f"{length} tokens", f"{length - room} or more"
        raise InputError(f"no room for the facts of a {task} question", got=got, expected=least)
    filler = _filler(lab.tokenizer, seed, room)
    place = round(depth * len(filler))
    if evenly:
        spots = [round(n * len(filler) / (len(facts) - 1)) for n in range(len(facts))]
    else:  # the fact stands at its depth, those told before it anywhere before, those told after anywhere after
        earlier = sorted(draw.randint(0, place) for _ in before)
        spots = [*earlier, place, *sorted(draw.randint(place, len(filler)) for _ in after)]
    told = list(zip(spots, facts, strict=True))
    pieces, at = [], 0
    for n in range(len(filler) + 1):
        while told and told[0][0] == n:
            if len(told) == len(after) + 1:
                at = len(pieces)
            pieces.append(told.pop(0)[1])
        pieces += filler[n : n + 1]
    text = "".join(pieces)
    ids, tail = _ids(lab.tokenizer, lab.spec.vocab, text), lab.encode(asked)
    answers = [lab.encode(f" {name}") for name in (value, foil)]
    begin = len(lab.encode("".join(pieces[:at]))) if at else 0
    return Question(torch.cat([ids, tail]), len(tail), *answers, begin)


@functools.lru_cache(maxsize=100_000)
def _size(tokenizer, text):
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


@functools.lru_cache(maxsize=8)
def _ids(tokenizer, vocab, text):
    """Ids of a text that questions of several depths are about."""
    return prompts.encode(text, tokenizer, vocab)


@public
def filler_ids(lab: Lab, length: int, *, seed: int) -> torch.Tensor:
    """Token ids [length] of sentences that state no fact."""
    length, seed = whole(length, "length", least=0), whole(seed, "seed")
    draw, text, count = random.Random(f"filler ids/{seed}"), [], 0
    while count < length + 8:
        text.append(sentence(draw))
        count += _size(lab.tokenizer, text[-1])
    return lab.encode("".join(text))[:length]


@functools.lru_cache(maxsize=8)
def _filler(tokenizer, seed, room):
    draw, sentences = random.Random(f"filler/{seed}"), []
    while (room := room - _size(tokenizer, more := sentence(draw))) >= 0:
        sentences.append(more)
    return sentences


def _needle(draw, depth):
    (key, other), (value, foil) = draw.sample(KEYS, 2), draw.sample(VALUES, 2)
    distraction = [FACT.format(other, foil)]
    before, after = (distraction, []) if draw.random() < 0.5 else ([], distraction)
    return before, FACT.format(key, value), after, key, value, foil


def _keys(draw, depth):
    keys, values = draw.sample(KEYS, 8), draw.sample(VALUES, 8)
    fact, *others = (FACT.format(*pair) for pair in zip(keys, values, strict=True))
    return others[:3], fact, others[3:], keys[0], values[0], draw.choice(values[1:])


def _latest(draw, depth):
    key, (value, foil) = draw.choice(KEYS), draw.sample(VALUES, 2)
    return [FACT.format(key, foil)], FACT.format(key, value), [], key, value, foil


def _variable(draw, depth):
    """Two chains of three names; the middle link of the one that is asked for stands at the depth."""
    names, (value, foil) = draw.sample(KEYS, 6), draw.sample(VALUES, 2)
    chain, other = (
        [FACT.format(a, start), FACT.format(b, a), FACT.format(c, b)]
        for (a, b, c), start in ((names[:3], value), (names[3:], foil))
    )
    return [other[0], chain[0]], chain[1], [other[1], chain[2], other[2]], names[2], value, foil


def _spread(draw, depth):
    """The text must not depend on the fact that is asked for: the foil is drawn last."""
    keys, values = draw.sample(KEYS, SPREAD), draw.sample(VALUES, SPREAD)
    facts, at = [FACT.format(*pair) for pair in zip(keys, values, strict=True)], round(depth * (SPREAD - 1))
    foil = draw.choice(values[:at] + values[at + 1 :])
    return facts[:at], facts[at], facts[at + 1 :], keys[at], values[at], foil


FACTS = {"needle": _needle, "keys": _keys, "latest": _latest, "variable": _variable, "spread": _spread}
