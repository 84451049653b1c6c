"""What a sweep asks: prompts with their answers, and cells, each a set of places that are patched in one run.

A prompt is read as it is, and its places get other values: those of another prompt (`put="other"`), zeros, or their
mean over the prompt's tokens. All that a user gives is checked here; a unit of work holds numbers alone.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from labkit.calling import check_ends
from labkit.edit import SeamEdit, StateEdit, checked
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import select, whole_numbers
from labkit.residual.stream import Answers, answers
from labkit.trace import texts

STATES = ("state", "window")  # of a DeltaNet layer, after a token
PUTS = ("other", "zero", "mean")
BLOCK = 512  # cells of one unit of work, which is what a kill can cost
Prompt = str | Sequence[int] | torch.Tensor


class Place(NamedTuple):
    """Something of one layer that is patched.

    Attributes:
        seam: a seam, "state" or "window". head: None for all of them, or where there are none.
        tokens: relative to the prompt's first, negative from its end; None for all. Of states: after which one.
        source: tokens of the other prompt, one for each of `tokens`; None for the same ones.
    """

    seam: str
    layer: int
    head: int | None = None
    tokens: tuple[int, ...] | None = None
    source: tuple[int, ...] | None = None


class Question(NamedTuple):
    """A prompt, what its places are patched from, and the two answers whose logits are compared.

    Attributes:
        ids: that are read. other: ids that values come from, or None. of, against: token ids.
    """

    ids: list[int]
    other: list[int] | None
    of: int
    against: int

    @property
    def same(self) -> int:
        """Tokens that begin both prompts: there all values are those of the other."""
        pairs = zip(self.ids, self.other or (), strict=False)
        return next((n for n, (own, its) in enumerate(pairs) if own != its), min(len(self.ids), len(self.other or ())))


def questions(
    lab: Lab, prompts: Iterable, of: Answers, against: Answers, put: str, name: str, ends: str = "same"
) -> list[Question]:
    """Checked prompts, as they are to be read.

    Args:
        prompts: pairs (clean, corrupt) for `put="other"`: the corrupt one is read; single prompts for others.
        of, against: one answer for all prompts, or one for each. ends: as of `calling.check_ends`, of every pair.

    Raises:
        InputError: none, no pairs, pairs that end in different tokens, answers that are no tokens, as many as prompts
            or equal.
    """
    if put not in PUTS:
        raise InputError(f"{name}: unknown values", got=f"put={put!r}", expected=", ".join(PUTS))
    single = isinstance(prompts, str) or hasattr(prompts, "ndim") or not isinstance(prompts, Iterable)
    if single or not (given := list(prompts)):
        expected = "[(clean, corrupt), ...]" if put == "other" else "[prompt, ...]"
        raise InputError(f"{name}: no list of prompts", got=repr(prompts)[:80], expected=expected)
    count = len(given)
    said = [answers(lab, each, name)[0] for each in (of, against)]
    if wrong := [len(each) for each in said if len(each) not in (1, count)]:
        raise InputError(f"{name}: an answer for each prompt, or one", got=f"{wrong[0]} for {count} prompts")
    rights, wrongs = (each * (count // len(each)) for each in said)
    if any(map(int.__eq__, rights, wrongs)):
        got = f"twice {next(a for a, b in zip(rights, wrongs, strict=True) if a == b)}"
        raise InputError(f"{name}: the two answers are the same token", got=got)
    made = []
    for prompt, right, wrong in zip(given, rights, wrongs, strict=True):
        clean, read = _pair(prompt, name) if put == "other" else (None, prompt)
        ids, other = lab.encode(read).tolist(), None if clean is None else lab.encode(clean).tolist()
        lab.check_room(max(len(ids), len(other or ())))
        if other is not None:
            last = torch.tensor([other[-1], ids[-1]])
            hint = f'{name}(lab, pairs, of=..., against=..., ends="any")'
            check_ends(list(zip(last.tolist(), texts(lab.tokenizer, last), strict=True)), ends, name, hint)
        made.append(Question(ids, other, right, wrong))
    return made


def _pair(prompt, name):
    if not isinstance(prompt, tuple | list) or len(prompt) != 2 or any(isinstance(part, int) for part in prompt):
        expected = "(clean, corrupt), two texts or lists of ids"
        raise InputError(f"{name}: values come from another prompt", got=repr(prompt)[:80], expected=expected)
    return prompt


def grid(
    lab: Lab,
    asked: Sequence[Question],
    *,
    put: str,
    seam: str,
    layers: int | Sequence[int] | None,
    heads: int | Sequence[int] | None,
    tokens: int | Sequence[int] | None,
    source: int | Sequence[int] | None,
    whole: bool,
    name: str,
) -> tuple[dict[str, list], list[tuple[int, ...]], list[list[Place]]]:
    """(axes, index of every cell in them, cells) of a seam's places: layer, then reader, then token, where there are.

    Raises:
        InputError, LayerError: a seam that the layers do not have, heads or tokens out of range.
    """
    spec = lab.spec
    if seam in STATES and put == "mean":
        raise InputError(f"{name}: a {seam} has no mean over tokens", got='put="mean"', expected="other, zero")
    has = lambda layer: spec.kind(layer) == "deltanet" if seam in STATES else seam in spec.seams[spec.kind(layer)]  # noqa: E731
    layers = select(
        [n for n in range(spec.layers) if has(n)] or None if layers is None else layers, spec.layers, "layer"
    )
    for layer in layers:
        _check(lab, seam, layer, None)
    counts = {layer: head_count(lab, seam, layer) for layer in layers}
    if heads is not None:
        if seam == "window":
            raise InputError(f"{name}: all heads share a window", got=f"heads={heads!r}", expected="heads=None")
        _check(lab, seam, layers[0], heads) if None in counts.values() else None
        heads, own = whole_numbers(heads, "heads"), set(counts.values())
        if len(own) == 1:  # else -1 would be another head in every layer
            heads = [n % max(own) if -max(own) <= n < 0 else n for n in heads]
        most = (min if whole else max)(counts.values())  # at once, all of them in every layer
        if outside := [n for n in heads if not 0 <= n < most] or not heads:
            raise InputError(f"{name}: no such head", got=outside if heads else [], expected=f"0 to {most - 1}")
    if seam in STATES and any(len(each.ids) < 2 for each in asked):
        got, expected = "a prompt of 1 token", "2 or more: a state is patched between two of them"
        raise InputError(f"{name}: no token is read after a {seam}", got=got, expected=expected)
    if tokens is None and seam in STATES:
        hint = f"tokens=range({min(len(each.ids) for each in asked) - 1})"
        raise InputError(f"{name}: a {seam} is patched after a token", got="tokens=None", hint=hint)
    sources = _sources(asked, tokens, source, name)
    axes = {"layer": layers}
    if not whole and None not in counts.values():
        axes["reader"] = list(range(max(counts.values()))) if heads is None else heads
    if tokens is not None:
        axes["token"] = whole_numbers(tokens, "tokens")
        if not axes["token"]:
            raise InputError(f"{name}: no token chosen", got="tokens=[]", expected="one or more, or None for all")
    where, cells = [], []
    for index in itertools.product(*(range(len(values)) for values in axes.values())):
        at = {axis: axes[axis][n] for axis, n in zip(axes, index, strict=True)}
        if "reader" in at and at["reader"] >= counts[at["layer"]]:
            continue
        token = (at["token"],) if "token" in at else None
        chosen = [at["reader"]] if "reader" in at else [None] if heads is None else heads
        row = None if sources is None else (sources[index[-1]],) if "token" in at else tuple(sources)
        cells.append([Place(seam, at["layer"], head, token, row) for head in chosen])
        where.append(index)
    for each in asked:
        for token in axes.get("token", ()):
            _check_token(each, seam, token, name)
    return axes, where, cells


def head_count(lab: Lab, seam: str, layer: int) -> int | None:
    """Heads of a seam or a state; None where there are none."""
    if seam in STATES:
        return lab.spec.value_heads if seam == "state" else None
    axis = lab.spec.seams[lab.spec.kind(layer)][seam].dims[0]
    return None if axis == "channel" else lab.spec.axis_sizes[axis]


def _check(lab, seam, layer, heads):
    """As an edit at this place would be refused."""
    heads = None if heads is None else tuple(whole_numbers(heads, "heads"))
    plain = lambda x, *at: x  # noqa: E731
    checked([StateEdit(layer, 0, plain, heads) if seam in STATES else SeamEdit(seam, layer, plain, heads)], lab.spec)


def _check_token(asked, seam, token, name):
    last = len(asked.ids) - (2 if seam in STATES else 1)
    if not -len(asked.ids) <= token <= last or (seam in STATES and token == -1):
        expected = f"0 to {last}" + (", since nothing is read after the last one" if seam in STATES else "")
        raise InputError(f"{name}: no such token in a prompt of {len(asked.ids)}", got=token, expected=expected)


def _sources(asked, tokens, source, name):
    """Tokens of the other prompts to read from, or None for the same ones."""
    if source is None:
        if uneven := [(len(a.other), len(a.ids)) for a in asked if a.other is not None and len(a.other) != len(a.ids)]:
            got, hint = f"{uneven[0][0]} and {uneven[0][1]} tokens", "tokens=[-1], source=[-1]"
            raise InputError(f"{name}: pairs of unequal lengths", got=got, expected="equal ones", hint=hint)
        return None
    if asked[0].other is None or tokens is None:
        got = "tokens=None" if asked[0].other is not None else "one prompt each"
        raise InputError(f"{name}: `source` names tokens of the other prompt", got=got, expected="a token for each")
    rows, count = whole_numbers(source, "source"), len(whole_numbers(tokens, "tokens"))
    if len(rows) != count:
        raise InputError(f"{name}: one source per patched token", got=f"{len(rows)} sources", expected=count)
    for each in asked:
        select(rows, len(each.other), "source")
    return rows


# ---------------------------------------------------------------------------------------------------------- units


def units(asked: Sequence[Question], cells: Sequence[Sequence[Place]]) -> tuple[list[dict], list[list[int]]]:
    """(units of work as JSON holds them, the numbers of the cells of each): a question and cells near each other."""
    made, numbers = [], []
    for question in asked:
        found = [[resolved(place, question) for place in cell] for cell in cells]
        order = sorted(range(len(cells)), key=lambda n: (first(found[n], len(question.ids)), n))
        for block in (order[n : n + BLOCK] for n in range(0, len(order), BLOCK)):
            made.append(question._asdict() | {"cells": [[place for place in found[n] if place] for n in block]})
            numbers.append(list(block))
    return made, numbers


def resolved(place: Place, asked: Question) -> list | None:
    """A place with positions from 0, without those where both prompts have the same value; None if none is left."""
    count = len(asked.ids)
    tokens = range(count) if place.tokens is None else [token % count for token in place.tokens]
    source = list(tokens) if place.source is None else [token % len(asked.other) for token in place.source]
    if asked.other is not None:
        kept = [(t, s) for t, s in zip(tokens, source, strict=True) if not t == s < asked.same]
        tokens, source = [t for t, _ in kept], [s for _, s in kept]
    return [place.seam, place.layer, place.head, list(tokens), source] if len(tokens) else None


def first(cell: Sequence[list | None], count: int) -> int:
    """The first token that a cell's patch changes, or `count`; after a state is from the next token on."""
    starts = [place[3][0] + (place[0] in STATES) for place in cell if place]
    return min(starts, default=count)
