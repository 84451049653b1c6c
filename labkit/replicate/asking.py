"""What the measurements have in common: texts and questions for any tokenizer, heads taken away, shares and means.

Questions are those of `yarn.question`, in words that every English model knows, sized by the model's own tokenizer;
right is an answer whose first token is the most likely next one. Texts are the user's own, cut to a length, or
sentences of a small grammar.
"""

import math
import random
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import xarray

from labkit import edit, stats, yarn
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.replicate.record import Reading

BATCH = 8  # questions that are read at once
ABLE = 0.5  # share of questions that a model must answer before one can ask what it loses
Place = tuple[int, int]  # layer, head


def rows(lab: Lab, texts: Sequence[str] | None, samples: int, length: int) -> list[torch.Tensor]:
    """Token ids [length] of so many texts: pieces of the user's own, one after the other, or sentences.

    Raises:
        InputError: texts that are too short for two pieces.
    """
    if texts is None:
        return [yarn.filler_ids(lab, length, seed=n) for n in range(samples)]
    pieces = [piece for text in texts for piece in lab.encode(text).split(length) if len(piece) == length]
    if len(pieces) < 2:
        tokens = sum(len(lab.encode(text)) for text in texts)
        raise InputError("too little text", got=f"{tokens} tokens", expected=f"two pieces of {length} or more")
    return pieces[:samples]


def source(texts: Sequence[str] | None) -> str:
    """What `rows` were made of, in words."""
    return "sentences that state no facts" if texts is None else "text of the user's own"


def questions(lab: Lab, samples: int, length: int, *, first: int = 0) -> list[yarn.Question]:
    """Questions with eight facts about eight keys, one of which is asked for, at depths from the first to the last."""
    seeds = range(first, first + samples)
    return [yarn.question(lab, "keys", length=length, depth=seed % 5 / 4, seed=seed) for seed in seeds]


def answered(lab: Lab, asked: Sequence[yarn.Question]) -> tuple[np.ndarray, np.ndarray]:
    """(right [question] bool, log-probability of the answer [question]), with whatever edits are in force."""
    right, chance = [], []
    for first in range(0, len(asked), BATCH):
        some = asked[first : first + BATCH]
        for one, run in zip(some, lab.trace([one.ids for one in some], layers=[]), strict=True):
            logits, token = run.logits[-1].float(), int(one.answer[0])
            right.append(int(logits.argmax()) == token)
            chance.append(float(logits.log_softmax(-1)[token]))
    return np.array(right), np.array(chance)


def without(places: Iterable[Place]) -> list[edit.SeamEdit]:
    """Edits that take heads, (layer, head), out of what their layers project to the stream."""
    layers = {}
    for layer, head in places:
        layers.setdefault(layer, []).append(head)
    return [edit.scale("gated", layer=layer, heads=heads, factor=0) for layer, heads in sorted(layers.items())]


def kept(lab: Lab, asked: Sequence[yarn.Question], edits: Sequence[edit.Edit]) -> Reading:
    """Share of questions that are still answered under edits; Wilson interval. The model answers all of them whole."""
    right = still(lab, asked, edits)
    return share(int(right.sum()), len(right))


def still(lab: Lab, asked: Sequence[yarn.Question], edits: Sequence[edit.Edit]) -> np.ndarray:
    """right [question] under edits."""
    with lab.edit(*edits):
        return answered(lab, asked)[0]


def able(lab: Lab, asked: Sequence[yarn.Question]) -> tuple[list[yarn.Question], str]:
    """(those questions that the whole model answers, why it cannot be asked or "")."""
    right, _ = answered(lab, asked)
    known = [one for one, its in zip(asked, right, strict=True) if its]
    few = len(known) < max(2, ABLE * len(asked))
    return known, f"the whole model answers {len(known)} of {len(asked)} questions: what could it lose?" if few else ""


def untrained(lab: Lab, texts: Sequence[torch.Tensor]) -> str:
    """Why a model that finds texts no likelier than even chances would cannot be asked about them, or ""."""
    loss, even = np.mean([yarn.likelihood(lab, ids) for ids in texts[:2]]), np.log(lab.spec.vocab)
    return "" if loss < even else f"{loss:.1f} nats a token, by even chances {even:.1f}: it has not learned such texts"


def every(lab: Lab, kind: str) -> list[Place]:
    """All heads, (layer, head), of one kind of layer: value heads or query heads."""
    spec = lab.spec
    layers, heads = {
        "deltanet": (spec.deltanet_layers, spec.value_heads),
        "attention": (spec.attention_layers, spec.query_heads),
    }[kind]
    return [(layer, head) for layer in layers for head in range(heads)]


def by_chance(among: Sequence, count: int, draws: int) -> list[list]:
    """Draws without replacement, seed 0."""
    draw = random.Random(0)
    return [draw.sample(list(among), count) for _ in range(draws)]


def share(right: int, samples: int) -> Reading:
    """A share of answers with its Wilson interval."""
    return Reading(right / samples if samples else np.nan, *stats.wilson(right, samples))


def apart(first: np.ndarray, second: np.ndarray) -> Reading:
    """How much larger the share of right answers is in the first, the same questions having been asked of both.

    Its interval is made of both Wilson intervals and how both go together, so that answers that are all alike, of
    which Student's t knows no spread, are not taken for certain.

    Args:
        first, second: right [question] bool.

    Source: Newcombe 1998, Stat. Med. 17, 2635, method 10.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    samples = len(first)
    if samples == 0:
        return Reading()
    (one, low, high), (other, least, most) = (share(int(right.sum()), samples) for right in (first, second))
    counts = [int((a & b).sum()) for a in (first, ~first) for b in (second, ~second)]
    crossed = counts[0] * counts[3] - counts[1] * counts[2]
    sides = math.prod(int(right.sum()) for right in (first, ~first, second, ~second))
    # Few answers that go together by chance must not narrow it.
    tied = (max(crossed - samples / 2, 0) if crossed > 0 else crossed) / math.sqrt(sides) if sides else 0.0
    ends = lambda a, b: math.sqrt(a * a - 2 * tied * a * b + b * b)  # noqa: E731
    value = one - other
    return Reading(value, value - ends(one - low, most - other), value + ends(high - one, other - least))


def mean(values: Sequence[float]) -> Reading:
    """A mean of few draws, Student's t; no number where a draw is none, no interval of a single one."""
    if not _known(values):
        return Reading()
    array = xarray.DataArray(np.asarray(values, float), dims="sample")
    if len(array) == 1:
        return Reading(float(array[0]))
    low, high = stats.t_interval(array)
    return Reading(float(array.mean()), float(low), float(high))


def median(values: Sequence[float]) -> Reading:
    """A median, by bootstrap over the draws; no number where a draw is none, no interval of a single one."""
    if not _known(values):
        return Reading()
    array = xarray.DataArray(np.asarray(values, float), dims="sample")
    low, high = stats.bootstrap(array, statistic=np.median, resamples=2000)
    return Reading(float(array.median()), float(low), float(high))


def span(values: Sequence[float]) -> Reading:
    """Median and range of draws of a control; no number where there is no draw, or one is none."""
    if not _known(values):
        return Reading()
    return Reading(float(np.median(values)), float(min(values)), float(max(values)))


def _known(values):
    """Whether there are draws, and every one is a number: what a broken one would have been, nobody knows."""
    return len(values) > 0 and bool(np.isfinite(np.asarray(values, float)).all())
