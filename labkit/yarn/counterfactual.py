"""What fails beyond the window, one cause at a time: unseen phases, diluted softmax, saturated states.

A text A with a fact, N tokens of filler, and a question. Read as it stands, the answer may be lost for three reasons,
which these counterfactuals part. Each changes one thing and leaves the other two as in the short text:

    short     A, question                                            nothing
    gap       A, question N positions further                        rotary phases alone
    dilution  keys and values of the filler behind A, in blocks at   softmax over more and more sources alone;
              positions within the window; states of A alone         compare with one block, not with "short"
    states    states that went through the filler, block by block;   states alone
              keys and values of A alone
    all       A, filler, question, as they stand                     all three
    shift     A, question, all positions N further                   nothing that counts: the null control

The smallest N fills the window; what more N adds is what lies beyond it. A block of filler is read behind A at the
positions that follow it, so no position and no distance exceeds the window, and its keys have seen A as they would in a
text. What is put together is a `labkit.cache.Snapshot` of real keys, values and states; the model itself reads on.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import plan
from labkit.arguments import whole
from labkit.cache import restore
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import label, whole_numbers
from labkit.rotary import Scaling, stretched
from labkit.spec.memory import kv_bytes_per_token
from labkit.yarn.answers import RIGHT, distinct, interruptible
from labkit.yarn.margins import margin
from labkit.yarn.scope import under
from labkit.yarn.tasks import filler_ids, question

if TYPE_CHECKING:
    import xarray

ROOM, KV = 16, ("keys", "values")  # tokens of a question and its answer, at most
CAUSES = ("short", "gap", "dilution", "states", "all", "shift")
N = "tokens to the question"


@public
@torch.no_grad()
def counterfactuals(
    lab: Lab,
    *,
    causes: Sequence[str] = CAUSES,
    extra: Sequence[int] | None = None,
    task: str = "keys",
    length: int | None = None,
    scalings: Sequence[Scaling] | None = None,
    seeds: int = 8,
    progress: bool = False,
) -> "xarray.Dataset":
    """Margins of answers with one cause of failure at a time.

    Args:
        lab: `Lab` with a tokenizer. causes: of `CAUSES`.
        extra: N, tokens or positions between text and question; None fills the window, and goes 1, 2, 3 windows on.
        task, length: of the question; its fact stands in the middle. None is 3/8 of the window.
        scalings: `rotary.Scaling`s; None is none and YaRN 4.
        seeds: questions per cell. progress: show a bar.

    Returns:
        Dataset over (cause, scaling, gap, sample): `margin` in nats, `right`; `gap` is N.

    Raises:
        InputError: an unknown cause, a text that leaves no room for filler in the window.
        BudgetError: so much filler would not fit.
        Interrupted: on Ctrl-C; its dataset holds what was answered.
    """
    if unknown := [cause for cause in causes if cause not in CAUSES]:
        raise InputError("no such cause", got=unknown, expected=", ".join(CAUSES))
    window, seeds = lab.spec.window, whole(seeds, "seeds", least=1)
    length = 3 * window // 8 if length is None else whole(length, "length", least=1)
    block = window - length - ROOM
    if block < 1:
        expected = f"below {window - ROOM}"
        raise InputError("the text leaves no room for filler", got=f"{length} tokens", expected=expected)
    extra = [block + n * window for n in range(4)] if extra is None else whole_numbers(extra, "extra", least=0)
    most, each = length + max(extra), kv_bytes_per_token(lab.spec, lab.dtype)
    held = {"keys and values, in blocks, joined and as they stand": 3 * most * each}
    plan.admit("yarn.counterfactuals", most, held, lab.device)
    scalings = distinct([Scaling(), stretched(lab.spec)] if scalings is None else scalings)
    shape = (len(causes), len(scalings), len(extra), seeds)
    margins, rights = (np.full(shape, np.nan, np.float32) for _ in range(2))

    def dataset():
        dims = ("cause", "scaling", "gap", "sample")
        coords = {"cause": ("cause", list(causes), "what is changed"), "scaling": list(map(str, scalings))}
        coords |= {"gap": ("gap", extra, N), "sample": range(seeds)}
        facts = {"model": lab.name, "reading": "yarn.counterfactuals", "window": window, "tokens": length}
        values = {"margin": (dims, margins, "margin"), "right": (dims, rights, RIGHT)}
        return label(values, coords=coords, attrs=facts)

    hint = "error.dataset holds them, NaN for the rest"
    with interruptible(dataset, total=len(scalings) * seeds, unit="question", show=progress, hint=hint) as bar:
        for seed in range(seeds):
            asked = question(lab, task, length=length, depth=0.5, seed=seed)
            filler = filler_ids(lab, max(extra), seed=seed)
            for j, scaling in enumerate(scalings):
                with under(lab, scaling, max(4 * window, length + max(extra) + ROOM)):
                    case = Case(lab, asked, filler, block)
                    for i, n in itertools.product(range(len(causes)), np.argsort(extra, kind="stable")):
                        margins[i, j, n, seed], rights[i, j, n, seed] = case.ask(causes[i], extra[n])
                bar.update(1)
    return dataset()


class Case:
    """One question, its text read once, and the filler, each part of which is read once as long as `extra` ascends."""

    def __init__(self, lab, asked, filler, block):
        self.lab, self.asked, self.filler, self.block = lab, asked, filler, block
        split = len(asked.ids) - asked.asked
        self.text, self.last = asked.ids[:split], dataclasses.replace(asked, ids=asked.ids[split:])
        cache = lab.cache()
        lab.logits(self.text[None], cache=cache)
        self.after_text = lab.snapshot(cache)
        self.first = None  # what follows after one whole block, which three causes begin with
        self.straight = self.walked = 0, self.after_text  # tokens of filler, and the snapshot after them
        self.grown = []  # keys and values of each block
        self.short = None  # the answer that no cause changed

    def ask(self, cause: str, extra: int) -> tuple[float, bool]:
        """(margin, right) of the question under a cause."""
        length, lab, tail = len(self.text), self.lab, torch.arange(self.asked.asked)
        if cause == "shift":
            return margin(lab, self.asked, position_ids=extra + torch.arange(len(self.asked.ids)))
        if cause == "short" and self.short is not None:
            return self.short
        snap, position_ids = self.after_text, None
        if cause == "all":
            snap = self._straight(extra)
        elif cause == "gap":
            position_ids = length + extra + tail
        elif cause == "dilution":
            snap, position_ids = self._diluted(extra), length + self.block + tail
        elif cause == "states":
            snap = self._walked(extra)
        answer = margin(lab, self.last, cache=self._restored(snap), position_ids=position_ids)
        if cause == "short":
            self.short = answer
        return answer

    def _restored(self, snap):
        """As `lab.restore`, but for a look at all weights, which this case was begun with."""
        return restore(snap, self.lab.cache())

    def _read_on(self, snap, ids):
        """The snapshot after more tokens."""
        if not len(ids):
            return snap
        cache = self._restored(snap)
        self.lab.logits(ids[None], cache=cache)
        return self.lab.snapshot(cache)

    def _block(self):
        """After text and the first whole block."""
        if self.first is None:
            self.first = self._read_on(self.after_text, self.filler[: self.block])
        return self.first

    def _straight(self, extra):
        """After text and filler, as they stand."""
        begin, snap = self.straight if self.straight[0] <= extra else (0, self.after_text)
        if begin < self.block <= extra:
            begin, snap = self.block, self._block()
        self.straight = extra, self._read_on(snap, self.filler[begin:extra])
        return self.straight[1]

    def _diluted(self, extra):
        """Keys and values of text and filler, states of the text; a last block may be cut: keys look back alone."""
        blocks = self.filler[:extra].split(self.block)
        for n in range(len(self.grown), len(blocks)):
            ids = self.filler[n * self.block : (n + 1) * self.block]
            snap = self._read_on(self.after_text, ids) if n else self._block()
            new = slice(len(self.text), None)
            self.grown.append({name: {i: part[:, :, new] for i, part in getattr(snap, name).items()} for name in KV})
        joined = {name: dict(getattr(self.after_text, name)) for name in KV}
        for name, parts in joined.items():
            for layer, part in parts.items():
                more = (grown[name][layer][:, :, : len(ids)] for grown, ids in zip(self.grown, blocks, strict=False))
                parts[layer] = torch.cat([part, *more], 2)
        return dataclasses.replace(self.after_text, length=len(self.text) + extra, ids=None, placed=True, **joined)

    def _walked(self, extra):
        """States after text and filler, keys and values of the text alone."""
        begin, snap = self.walked if self.walked[0] <= extra else (0, self.after_text)
        while begin < extra:
            end = min((begin // self.block + 1) * self.block, extra)
            if begin % self.block == 0:  # a block sees the keys of the text, and its own
                snap = self._without_filler(snap)
            snap = self._block() if (begin, end) == (0, self.block) else self._read_on(snap, self.filler[begin:end])
            begin = end
        self.walked = extra, snap
        return self._without_filler(snap)

    def _without_filler(self, snap):
        return dataclasses.replace(self.after_text, conv=snap.conv, state=snap.state, ids=None)
