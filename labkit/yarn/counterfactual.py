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
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import plan
from labkit.arguments import whole
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
N = "tokens or positions between text and question"


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
    plan.admit("yarn.counterfactuals", most, {"keys and values, in blocks and joined": 2 * most * each}, lab.device)
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
                    for i, n in np.ndindex(len(causes), len(extra)):
                        margins[i, j, n, seed], rights[i, j, n, seed] = case.ask(causes[i], extra[n])
                bar.update(1)
    return dataset()


class Case:
    """One question, its text read once, and the filler."""

    def __init__(self, lab, asked, filler, block):
        self.lab, self.asked, self.filler, self.block = lab, asked, filler, block
        split = len(asked.ids) - asked.asked
        self.text, self.last = asked.ids[:split], dataclasses.replace(asked, ids=asked.ids[split:])
        cache = lab.cache()
        lab.trace(self.text, layers=[], cache=cache)
        self.after_text = lab.snapshot(cache)
        self.walked = [self.after_text]  # states after each block
        self.grown = []  # keys and values of each block

    def ask(self, cause: str, extra: int) -> tuple[float, bool]:
        """(margin, right) of the question under a cause."""
        length, lab, tail = len(self.text), self.lab, torch.arange(self.asked.asked)
        if cause == "shift":
            return margin(lab, self.asked, position_ids=extra + torch.arange(len(self.asked.ids)))
        if cause == "all":
            whole = torch.cat([self.text, self.filler[:extra], self.last.ids])
            return margin(lab, dataclasses.replace(self.last, ids=whole))
        snap, position_ids = self.after_text, None
        if cause == "gap":
            position_ids = length + extra + tail
        elif cause == "dilution":
            snap, position_ids = self._diluted(extra), length + self.block + tail
        elif cause == "states":
            snap = self._walked(extra)
        return margin(lab, self.last, cache=lab.restore(snap), position_ids=position_ids)

    def _read_on(self, snap, ids):
        """The snapshot after more tokens."""
        cache = self.lab.restore(snap)
        self.lab.trace(ids, layers=[], cache=cache)
        return self.lab.snapshot(cache)

    def _diluted(self, extra):
        """Keys and values of text and filler, states of the text; a last block may be cut: keys look back alone."""
        blocks = self.filler[:extra].split(self.block)
        for n in range(len(self.grown), len(blocks)):
            snap = self._read_on(self.after_text, self.filler[n * self.block : (n + 1) * self.block])
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
        snap = self.after_text
        for n, block in enumerate(self.filler[:extra].split(self.block)):
            whole = len(block) == self.block
            if whole and n + 1 < len(self.walked):
                snap = self.walked[n + 1]
                continue
            after = self._read_on(snap, block)
            snap = dataclasses.replace(self.after_text, conv=after.conv, state=after.state, ids=None)
            if whole:
                self.walked.append(snap)
        return snap
