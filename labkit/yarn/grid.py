"""The questions of `labkit.yarn.tasks` over lengths, depths and scalings: margins that survive an interrupt.

Every question is asked under every scaling, so that differences between scalings are paired. A length beyond what a
scaling reaches is asked all the same: that is the experiment. Answers are written to a folder as they come, one line of
JSON each; the same call goes on from there, and a call with more lengths or seeds asks what is missing.
"""

import dataclasses
import json
import pathlib

import numpy as np
import torch
import xarray

from labkit import stats
from labkit.errors import InputError
from labkit.notation import label
from labkit.progress import counter
from labkit.rotary import Scaling
from labkit.stream import Interrupted
from labkit.yarn.scope import under
from labkit.yarn.table import stretched
from labkit.yarn.tasks import question

LEAST_SEEDS = 8  # below, an interval says nothing


@torch.no_grad()
def probe(
    lab,
    *,
    tasks=("needle",),
    lengths=None,
    depths=8,
    scalings=None,
    seeds=LEAST_SEEDS,
    chunk=None,
    folder=None,
    progress=False,
):
    """Ask, and measure the margin of the right answer over its foil.

    Args:
        lab: `Lab` with a tokenizer. tasks: of `tasks.FACTS`.
        lengths: tokens of the prompts; None is 1/2, 1, 2 and 4 native windows.
        depths: how many, evenly spaced from 0 to 1, or the depths themselves.
        scalings: `rotary.Scaling`s; None is none, YaRN 2 and YaRN 4.
        seeds: how many questions per cell, at least 8.
        chunk: tokens per forward pass; None for one pass.
        folder: where answers are kept; None keeps them in memory alone.
        progress: show a bar.

    Returns:
        Dataset over (task, scaling, length, depth, sample): `margin` in nats; `right`, 1 where the answer is the most
        likely next token; NaN where not yet asked.

    Raises:
        InputError: an unknown task, too few seeds, no room, scalings of one name, a folder of another model or edits.
        BudgetError: a length that would not fit.
        Interrupted: on Ctrl-C; its dataset holds what was answered.
    """
    if seeds < LEAST_SEEDS:
        raise InputError("too few questions for an interval", got=f"seeds={seeds}", expected=f"at least {LEAST_SEEDS}")
    window = lab.spec.window
    lengths = [window // 2, window, 2 * window, 4 * window] if lengths is None else sorted(map(int, lengths))
    if isinstance(depths, int):
        depths = [0.5] if depths == 1 else [n / (depths - 1) for n in range(depths)]
    depths = [float(depth) for depth in depths]
    if scalings is None:
        scalings = [Scaling(), stretched(lab.spec, 2.0), stretched(lab.spec, 4.0)]
    scalings, book = distinct(scalings), Book(folder, lab)
    axes = (list(tasks), scalings, lengths, depths, list(range(seeds)))
    cells = [(t, n, d, s) for n in lengths for t in tasks for d in depths for s in range(seeds)]
    bar = counter(total=len(cells) * len(scalings), unit="answer", show=progress)
    try:
        for task, length, depth, seed in cells:
            keys = {one: (task, book.name(one), length, depth, seed) for one in scalings}
            todo = [one for one in scalings if keys[one] not in book.known]
            bar.update(len(scalings) - len(todo))
            if todo:
                asked = question(lab, task, length=length, depth=depth, seed=seed)
            for scaling in todo:
                with under(lab, scaling, max(length + len(asked.answer) + len(asked.foil), _reach(scaling, window))):
                    book.write(keys[scaling], *margin(lab, asked, chunk=chunk))
                bar.update(1)
    except KeyboardInterrupt:
        kept = "error.dataset holds the answers so far"
        hint = f"{kept}; give folder=... to go on later" if folder is None else f"{kept}; the same call goes on"
        found = book.dataset(axes, lab)
        done = f"{int(found.margin.notnull().sum())} of {found.margin.size}"
        raise Interrupted(f"stopped after {done} answers", hint=hint, dataset=found) from None
    finally:
        bar.close()
    return book.dataset(axes, lab)


def margin(lab, asked, *, chunk=None, cache=None, positions=None):
    """(log p(answer) - log p(foil) in nats, whether the answer's first token is the most likely one), teacher-forced.

    Args:
        asked: `tasks.Question`. chunk, cache, positions: of `lab.trace`; with a cache, `asked.ids` is what is left.
    """
    simple = len(asked.answer) == len(asked.foil) == 1
    cache = lab.cache() if cache is None and (not simple or chunk) else cache
    run = lab.trace(asked.ids, layers=[], cache=cache, chunk=chunk, positions=positions)
    first = run.logits[-1].float().log_softmax(-1)
    right = bool(first.argmax() == asked.answer[0])
    if simple:
        return float(first[asked.answer[0]] - first[asked.foil[0]]), right
    snap, sums = lab.snapshot(cache), []
    for ids in (asked.answer, asked.foil):
        total = first[ids[0]]
        if len(ids) > 1:
            at = None if positions is None else int(positions[-1]) + 1 + torch.arange(len(ids) - 1)
            more = lab.trace(ids[:-1], layers=[], cache=lab.restore(snap), logits="all", positions=at).logits
            total = total + more.float().log_softmax(-1).gather(1, ids[1:, None].to(more.device)).sum()
        sums.append(float(total))
    return sums[0] - sums[1], right


def summary(ds):
    """Means over the questions of each cell, with 95 % intervals.

    Args:
        ds: of `probe`.

    Returns:
        Dataset over (task, scaling, length, depth): `margin`, `margin_low`, `margin_high` (Student's t over the
        questions); `right`, `right_low`, `right_high` (Wilson); `answers`, how many there are.
    """
    count, (low, high) = ds.margin.notnull().sum("sample"), stats.t_interval(ds.margin)
    found = ds[[]].assign(margin=ds.margin.mean("sample"), margin_low=low, margin_high=high, answers=count)
    right, options = ds.right.sum("sample").astype(int), dict(output_core_dims=[[], []], vectorize=True)
    low, high = xarray.apply_ufunc(stats.wilson, right, count, **options)
    found = found.assign(right=ds.right.mean("sample"), right_low=low, right_high=high)
    found.margin.attrs, found.right.attrs = dict(ds.margin.attrs), dict(ds.right.attrs)
    return found.drop_vars("sample", errors="ignore").assign_attrs(ds.attrs)


class Book:
    """Answers by (task, scaling, length, depth, seed), on disk as they come."""

    def __init__(self, folder, lab):
        self.known, self.path = {}, None if folder is None else pathlib.Path(folder) / "answers.jsonl"
        self.facts = {"format": 1, "model": lab.name, "edits": [repr(edit) for edit in lab.scopes.edits]}
        self.window = lab.spec.window
        head, *lines = _lines(self.path)
        if head is not None and head != self.facts:
            got, expected = (f"{one.get('model')}, edits {one.get('edits')}" for one in (head, self.facts))
            hint = "give another folder, or delete this one"
            raise InputError("answers of another model or edits", got=got, expected=expected, hint=hint)
        if head is None and self.path is not None:
            self.path.unlink(missing_ok=True)  # nothing in it but what a kill left
        for *key, margin, right in lines:
            self.known[tuple(key)] = margin, right

    def name(self, scaling):
        """What a scaling is known by in the file: all of it, spelt out."""
        return json.dumps(dataclasses.asdict(scaling.plain(self.window)))

    def write(self, key, margin, right):
        """Keep one answer."""
        self.known[key] = margin, right
        if self.path is not None:
            fresh = not self.path.is_file()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(self.facts) + "\n" if fresh else "")
                out.write("\n" * (not fresh and self._cut()) + json.dumps([*key, margin, right]) + "\n")

    def _cut(self):
        """Whether the file ends within a line."""
        with self.path.open("rb") as there:
            there.seek(-1, 2)
            return there.read(1) != b"\n"

    def dataset(self, axes, lab):
        """margin and right over all axes, NaN where there is no answer."""
        dims = ("task", "scaling", "length", "depth", "sample")
        margins, rights = (np.full([len(axis) for axis in axes], np.nan, np.float32) for _ in range(2))
        for place in np.ndindex(*margins.shape):
            task, scaling, *rest = (axis[i] for axis, i in zip(axes, place, strict=True))
            if (key := (task, self.name(scaling), *rest)) in self.known:
                margins[place], rights[place] = self.known[key]
        facts = {"model": lab.name, "reading": "yarn.probe", "window": lab.spec.window}
        values = {"margin": (dims, margins), "right": (dims, rights)}
        coords = dict(zip(dims, axes, strict=True)) | {"scaling": [str(one) for one in axes[1]]}
        data = label(values, coords=coords, attrs=facts)
        data.right.attrs |= {"long_name": "share of right answers", "units": "fraction", "scale": "fraction"}
        return data


def distinct(scalings):
    """The scalings as a list.

    Raises:
        InputError: two that would have one name along the axis.
    """
    found = list(scalings)
    if len({str(one) for one in found}) < len(found):
        got = ", ".join(map(str, found))
        raise InputError("scalings of one name", got=got, hint="compare those in separate calls and datasets")
    return found


def _lines(path):
    """The header and the answers of a file, as objects; a header of None where there is no whole one."""
    if path is None or not path.is_file():
        return [None]
    found = []
    for line in path.read_text("utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            if not found:
                return [None]
            continue  # a line that a kill cut off; its question is asked again
    return found or [None]


def _reach(scaling, window):
    return max(window, int(scaling.factor * (scaling.original or window)))
