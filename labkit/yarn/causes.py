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

import numpy as np
import torch

from labkit.errors import InputError
from labkit.notation import label
from labkit.progress import counter
from labkit.rotary import Scaling
from labkit.stream import Interrupted
from labkit.yarn.grid import distinct, margin
from labkit.yarn.scope import scaled, under
from labkit.yarn.table import stretched
from labkit.yarn.tasks import filler_ids, question

ROOM, KV = 16, ("keys", "values")  # tokens of a question and its answer, at most
CAUSES = ("short", "gap", "dilution", "states", "all", "shift")


@torch.no_grad()
def causes(lab, *, extra=None, task="keys", length=None, scalings=None, seeds=8, kinds=CAUSES, progress=False):
    """Margins of answers under each counterfactual.

    Args:
        lab: `Lab` with a tokenizer.
        extra: N, tokens or positions between text and question; None fills the window, and goes 1, 2, 3 windows on.
        task, length: of the question; its fact stands in the middle. None is 3/8 of the window.
        scalings: `rotary.Scaling`s; None is none and YaRN 4.
        seeds: questions per cell. kinds: of `CAUSES`. progress: show a bar.

    Returns:
        Dataset over (term, scaling, gap, sample): `margin` in nats, `right`; `term` is the cause, `gap` is N.

    Raises:
        InputError: an unknown cause, a text that leaves no room for filler in the window.
        Interrupted: on Ctrl-C; its dataset holds what was answered.
    """
    if unknown := [kind for kind in kinds if kind not in CAUSES]:
        raise InputError("no such cause", got=unknown, expected=", ".join(CAUSES))
    window = lab.spec.window
    length = 3 * window // 8 if length is None else length
    block = window - length - ROOM
    if block < 1:
        raise InputError(
            "the text leaves no room for filler", got=f"{length} tokens", expected=f"below {window - ROOM}"
        )
    extra = [block + n * window for n in range(4)] if extra is None else list(extra)
    scalings = distinct([Scaling(), stretched(lab.spec)] if scalings is None else scalings)
    shape = (len(kinds), len(scalings), len(extra), seeds)
    margins, rights = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    bar, stopped = counter(total=len(scalings) * seeds, unit="question", show=progress), False
    try:
        for seed in range(seeds):
            asked = question(lab, task, length=length, depth=0.5, seed=seed)
            more = filler_ids(lab, max(extra), seed=seed)
            for j, scaling in enumerate(scalings):
                with under(lab, scaling, max(4 * window, length + max(extra) + ROOM)):
                    case = Case(lab, asked, more, block)
                    for i, n in np.ndindex(len(kinds), len(extra)):
                        margins[i, j, n, seed], rights[i, j, n, seed] = case.ask(kinds[i], extra[n])
                bar.update(1)
    except KeyboardInterrupt:
        stopped = True
    finally:
        bar.close()
    dims = ("term", "scaling", "gap", "sample")
    coords = {"term": list(kinds), "scaling": [str(one) for one in scalings], "gap": extra, "sample": range(seeds)}
    facts = {"model": lab.name, "reading": "yarn.causes", "window": window, "tokens": length}
    data = label({"margin": (dims, margins), "right": (dims, rights)}, coords=coords, attrs=facts)
    data["term"].attrs["long_name"] = "what is changed"
    data["gap"].attrs["long_name"] = "tokens or positions between text and question"
    data.right.attrs |= {"long_name": "share of right answers", "units": "fraction", "scale": "fraction"}
    return _whole(data, "margin", stopped)


class Case:
    """One question, its text read once, and the filler."""

    def __init__(self, lab, asked, more, block):
        self.lab, self.asked, self.more, self.block = lab, asked, more, block
        split = len(asked.ids) - asked.asked
        self.text, self.last = asked.ids[:split], dataclasses.replace(asked, ids=asked.ids[split:])
        cache = lab.cache()
        lab.trace(self.text, layers=[], cache=cache)
        self.after_text = lab.snapshot(cache)
        self.walked = [self.after_text]  # states after each block
        self.grown = []  # keys and values of each block

    def ask(self, kind, extra):
        """(margin, right) of the question under a cause."""
        n, lab = len(self.text), self.lab
        here = torch.arange(self.asked.asked)
        if kind == "short":
            return margin(lab, self.last, cache=lab.restore(self.after_text))
        if kind == "gap":
            return margin(lab, self.last, cache=lab.restore(self.after_text), positions=n + extra + here)
        if kind == "shift":
            return margin(lab, self.asked, positions=extra + torch.arange(len(self.asked.ids)))
        if kind == "all":
            whole = torch.cat([self.text, self.more[:extra], self.last.ids])
            return margin(lab, dataclasses.replace(self.last, ids=whole))
        if kind == "dilution":
            snap = self._diluted(extra)
            return margin(lab, self.last, cache=lab.restore(snap), positions=n + self.block + here)
        return margin(lab, self.last, cache=lab.restore(self._walked(extra)))

    def _blocks(self, extra):
        return self.more[:extra].split(self.block)

    def _diluted(self, extra):
        """Keys and values of text and filler, states of the text; a last block may be cut: keys look back alone."""
        for n in range(len(self.grown), len(self._blocks(extra))):
            block = self.more[n * self.block : (n + 1) * self.block]
            cache = self.lab.restore(self.after_text)
            self.lab.trace(block, layers=[], cache=cache)
            snap = self.lab.snapshot(cache)
            self.grown.append(
                {name: {i: part[:, :, len(self.text) :] for i, part in getattr(snap, name).items()} for name in KV}
            )
        sizes = [len(block) for block in self._blocks(extra)]
        joined = {
            name: {
                i: torch.cat(
                    [part, *(one[name][i][:, :, :size] for one, size in zip(self.grown, sizes, strict=False))], 2
                )
                for i, part in getattr(self.after_text, name).items()
            }
            for name in KV
        }
        return dataclasses.replace(self.after_text, length=len(self.text) + extra, ids=None, placed=True, **joined)

    def _walked(self, extra):
        """States after text and filler, keys and values of the text alone."""
        blocks = self._blocks(extra)
        snap = self.after_text
        for n, block in enumerate(blocks):
            whole = len(block) == self.block
            if whole and n + 1 < len(self.walked):
                snap = self.walked[n + 1]
                continue
            cache = self.lab.restore(snap)
            self.lab.trace(block, layers=[], cache=cache)
            after = self.lab.snapshot(cache)
            snap = dataclasses.replace(self.after_text, conv=after.conv, state=after.state, ids=None)
            if whole:
                self.walked.append(snap)
        return snap


@torch.no_grad()
def tax(lab, *, factor=4.0, length=None, samples=32, texts=None):
    """What a stretched window costs a short text: 2 x 2 of its frequencies and its attention factor.

    Args:
        lab: `Lab`. factor: of YaRN. length: tokens of a text, at most the window; None is half of it.
        samples: how many texts. texts: your own, as text or ids; None draws sentences.

    Returns:
        Dataset over (step, term, sample): `loss`, mean negative log-likelihood per token in nats; `step` is the
        frequencies (native, YaRN), `term` the attention factor (off, on).

    Raises:
        InputError: a text longer than the window.
    """
    length = lab.spec.window // 2 if length is None else length
    rows = [filler_ids(lab, length, seed=n) for n in range(samples)] if texts is None else list(map(lab.encode, texts))
    if (longest := max(map(len, rows))) > lab.spec.window:
        raise InputError("the tax is on short texts", got=f"{longest} tokens", expected=f"at most {lab.spec.window}")
    m, loss = stretched(lab.spec, factor).m, np.zeros((2, 2, len(rows)), np.float32)
    for i, kind in enumerate(("none", "yarn")):
        for j, grown in enumerate((1.0, m)):
            with scaled(lab, factor, kind=kind, attention_factor=grown):
                loss[i, j] = [likelihood(lab, ids) for ids in rows]
    coords = {"step": ["native frequencies", f"YaRN {factor:g} frequencies"], "term": ["m off", f"m {m:.4f}"]}
    facts = {"model": lab.name, "reading": "yarn.tax", "tokens": max(map(len, rows))}
    return label(
        {"loss": (("step", "term", "sample"), loss)}, coords=coords | {"sample": range(len(rows))}, attrs=facts
    )


def likelihood(lab, ids, *, last=None, chunk=None):
    """Mean negative log-likelihood, in nats per token, of a text's tokens but the first, or of its `last` ones.

    Raises:
        InputError: fewer tokens than are to be scored, and one before them.
    """
    count = len(ids) - 1 if last is None else last
    if not 1 <= count < len(ids):
        raise InputError("no token can be scored without one before it", got=f"last={last}, {len(ids)} tokens")
    at = list(range(len(ids) - 1 - count, len(ids) - 1))
    logits = lab.trace(ids, layers=[], logits=at, chunk=chunk).logits.float()
    wanted = ids[len(ids) - count :, None].to(logits.device)
    return float(-logits.log_softmax(-1).gather(1, wanted).mean())


@torch.no_grad()
def paired(lab, *, lengths=None, last=64, samples=16, scalings=None, texts=None, chunk=None, progress=False):
    """The same last tokens behind more and more text: what a longer context adds, and under which scaling.

    Args:
        lab: `Lab`. lengths: tokens before the last ones, the first is what others are compared with; None is 1/4, 1, 2
            and 3 windows. last: tokens that are scored. samples: how many texts.
        texts: your own, each of at least `max(lengths) + last` tokens; None draws sentences.
        scalings: `rotary.Scaling`s; None is none and YaRN 4. chunk, progress: as in `probe`.

    Returns:
        Dataset over (scaling, length, sample): `loss` of the last tokens; `effect`, loss minus that at the first
        length, text by text.

    Raises:
        InputError: a text that is too short, lengths or `last` below 1, scalings of one name.
        Interrupted: on Ctrl-C; its dataset holds what was scored.
    """
    window = lab.spec.window
    lengths = [window // 4, window, 2 * window, 3 * window] if lengths is None else list(lengths)
    scalings = distinct([Scaling(), stretched(lab.spec)] if scalings is None else scalings)
    if min(lengths) < 1 or last < 1:
        got = f"lengths {lengths}, last={last}"
        raise InputError("no token can be scored without one before it", got=got, expected="1 or more of both")
    most = max(lengths) + last
    rows = [filler_ids(lab, most, seed=n) for n in range(samples)] if texts is None else list(map(lab.encode, texts))
    if (least := min(map(len, rows))) < most:
        raise InputError("a text is too short", got=f"{least} tokens", expected=f"at least {most}")
    loss, stopped = np.full((len(scalings), len(lengths), len(rows)), np.nan, np.float32), False
    bar = counter(total=len(scalings) * len(rows), unit="text", show=progress)
    try:
        for n, (i, scaling) in itertools.product(range(len(rows)), enumerate(scalings)):
            with under(lab, scaling, max(most, int(scaling.factor * window))):
                for j, length in enumerate(lengths):
                    loss[i, j, n] = likelihood(lab, rows[n][-last - length :], last=last, chunk=chunk)
            bar.update(1)
    except KeyboardInterrupt:
        stopped = True
    finally:
        bar.close()
    dims = ("scaling", "length", "sample")
    coords = {"scaling": [str(one) for one in scalings], "length": lengths, "sample": range(len(rows))}
    facts = {"model": lab.name, "reading": "yarn.paired", "window": window, "last": last}
    data = label({"loss": (dims, loss), "effect": (dims, loss - loss[:, :1])}, coords=coords, attrs=facts)
    data.effect.attrs |= {"long_name": "loss minus that behind the shortest text", "units": "nat", "scale": "signed"}
    return _whole(data, "loss", stopped)


def _whole(data, name, stopped):
    """The dataset, or the error that carries what there is of it."""
    if not stopped:
        return data
    done = f"{int(data[name].notnull().sum())} of {data[name].size}"
    raise Interrupted(f"stopped after {done} answers", hint="error.dataset holds them, NaN for the rest", dataset=data)
