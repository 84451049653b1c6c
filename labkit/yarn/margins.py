"""The questions of `labkit.yarn.tasks` over lengths, depths and scalings: margins that survive an interrupt.

Every question is asked under every scaling, so that differences between scalings are paired. A text that questions of
several depths are about ("spread") is read once. A length beyond what a scaling reaches is asked all the same: that is
the experiment. Answers are written to a folder as they come, one line of JSON each; the same call goes on from there,
and a call with more lengths or seeds asks what is missing.
"""

import dataclasses
import itertools
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray

from labkit import folders, plan, stats, sweeps
from labkit.arguments import number, whole
from labkit.cache import restore
from labkit.calling import check_data, public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import is_index, label, whole_numbers
from labkit.rotary import Scaling, stretched
from labkit.yarn.answers import RIGHT, Answers, distinct, interruptible
from labkit.yarn.scope import under
from labkit.yarn.tasks import Question, question

if TYPE_CHECKING:
    from distributed import Client

LEAST_SEEDS = 8  # below, an interval says nothing


@public
@torch.no_grad()
def grid(
    lab: Lab,
    *,
    tasks: Sequence[str] = ("needle",),
    lengths: Sequence[int] | None = None,
    depths: int | Sequence[float] = 8,
    scalings: Sequence[Scaling] | None = None,
    seeds: int = LEAST_SEEDS,
    chunk: int | None = None,
    folder: str | os.PathLike | None = None,
    progress: bool = False,
    client: "Client | None" = None,
) -> xarray.Dataset:
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
        client: a `dask.distributed.Client` whose workers ask, one question of a length under all scalings at a time,
            and see the folder; see `labkit.sweeps`.

    Returns:
        Dataset over (task, scaling, length, depth, sample): `margin` in nats; `right`, 1 where the answer is the most
        likely next token; NaN where not yet asked.

    Raises:
        InputError: an unknown task, too few seeds, no room, scalings of one name, a folder of another model or edits.
        BudgetError: a length that would not fit.
        CheckpointError: the folder cannot be written.
        Unwritten: the disk is full; its dataset holds what was answered.
        Interrupted: on Ctrl-C; its dataset holds what was answered.
    """
    if (seeds := whole(seeds, "seeds")) < LEAST_SEEDS:
        raise InputError("too few questions for an interval", got=f"seeds={seeds}", expected=f"at least {LEAST_SEEDS}")
    window = lab.spec.window
    lengths = [window // 2, window, 2 * window, 4 * window] if lengths is None else lengths
    lengths = sorted(whole_numbers(lengths, "lengths", least=1))
    if is_index(depths):
        depths = whole(depths, "depths", least=1)
        depths = [0.5] if depths == 1 else [n / (depths - 1) for n in range(depths)]
    if scalings is None:
        scalings = [Scaling(), stretched(lab.spec, 2.0), stretched(lab.spec, 4.0)]
    depths = [number(depth, "depths", least=0, most=1) for depth in depths]
    scalings, answers = distinct(scalings), Answers(folder, lab)
    axes = (list(tasks), scalings, lengths, depths, list(range(seeds)))
    hint = "give folder=... to go on later" if folder is None else "the same call goes on"
    total = len(scalings) * len(lengths) * len(axes[0]) * len(depths) * seeds
    options = dict(total=total, unit="answer", show=progress, hint=f"error.dataset holds the answers so far; {hint}")
    with answers, interruptible(lambda: _dataset(answers, axes, lab), **options) as bar:
        units = [Unit(*each, scalings, depths) for each in itertools.product(lengths, tasks, range(seeds))]
        missing = {n: at for n, unit in enumerate(units) if (at := unit.missing(answers))}
        bar.update(total - sum(map(len, missing.values())))
        if client is not None:
            _spread(lab, units, missing, answers, chunk, folder, client, bar)
        for n, places in ({} if client is not None else missing).items():
            for at, *answer in units[n].asked(lab, places, chunk):
                answers.write(units[n].key(answers, at), *answer)
                bar.update(1)
    return _dataset(answers, axes, lab)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One question of a length, at all depths and under all scalings: what is asked together."""

    length: int
    task: str
    seed: int
    scalings: Sequence[Scaling]
    depths: Sequence[float]

    def key(self, answers: Answers, at: tuple[Scaling, float]) -> tuple:
        """What the answer at (scaling, depth) is known by."""
        return answers.key(self.task, at[0], self.length, at[1], self.seed)

    def missing(self, answers: Answers) -> list[tuple[Scaling, float]]:
        """The (scaling, depth) that are not answered."""
        places = itertools.product(self.scalings, self.depths)
        return [at for at in places if self.key(answers, at) not in answers.known]

    def asked(self, lab: Lab, places: Sequence[tuple], chunk: int | None) -> Iterator[tuple[tuple, float, bool]]:
        """((scaling, depth), margin, right) of places, as they are answered."""
        window, about = lab.spec.window, dict(length=self.length, seed=self.seed)
        asked = {depth: question(lab, self.task, depth=depth, **about) for _, depth in places}
        longest = self.length + max(len(one.answer) + len(one.foil) for one in asked.values())
        for scaling, here in itertools.groupby(places, key=lambda at: at[0]):
            here = list(here)
            with under(lab, scaling, max(longest, window, int(scaling.factor * (scaling.original or window)))):
                found = _margins(lab, [asked[depth] for _, depth in here], chunk)
                for at, answer in zip(here, found, strict=True):
                    yield at, *answer


def answered(lab: Lab, unit: Sequence, *, scalings: list[dict], depths: list[float], chunk: int | None) -> dict:
    """The work of a worker: `margin` and `right` [scaling, depth] of one unit (length, task, seed)."""
    made = Unit(*unit, [Scaling(**each) for each in scalings], depths)
    places = list(itertools.product(made.scalings, made.depths))
    rows = [(margin, right) for _, margin, right in made.asked(lab, places, chunk)]
    found = np.array(rows, dtype=np.float64).reshape(len(scalings), len(depths), 2)
    return {"margin": found[..., 0], "right": found[..., 1]}


def _spread(lab, units, missing, answers, chunk, folder, client, bar):
    """Have workers ask what is missing, and keep what they answered."""
    if folder is None:
        raise InputError("workers write into a folder", got="folder=None", expected="a folder that all of them see")
    first = units[0]
    options = dict(scalings=list(map(dataclasses.asdict, first.scalings)), depths=list(first.depths), chunk=chunk)
    asked = [[unit.length, unit.task, unit.seed] for unit in units]
    store = pathlib.Path(folder) / f"units-{folders.mark([asked, options])[:12]}"
    results = sweeps.results(lab, answered, asked, options=options, store=store, client=client, only=list(missing))
    for (n, places), found in zip(missing.items(), results, strict=True):
        for scaling, depth in places:
            where = first.scalings.index(scaling), first.depths.index(depth)
            key = units[n].key(answers, (scaling, depth))
            answers.write(key, float(found["margin"][where]), bool(found["right"][where]))
            bar.update(1)
    shutil.rmtree(store, ignore_errors=True)  # the answers hold them


def _margins(lab, questions, chunk):
    """`margin` of each question, as they come; a text that several in a row ask about is read once."""
    for _, about in itertools.groupby(questions, key=lambda asked: asked.ids[: -asked.asked].tolist()):
        first, *more = about
        if not more:
            yield margin(lab, first, chunk=chunk)
            continue
        cache = lab.cache()
        lab.trace(first.ids[: -first.asked], layers=[], cache=cache, chunk=chunk)
        snap = lab.snapshot(cache)
        rest = [dataclasses.replace(asked, ids=asked.ids[-asked.asked :]) for asked in (first, *more)]
        alike = itertools.groupby(rest, key=lambda one: (one.asked, len(one.answer) == len(one.foil) == 1))
        for (_, simple), some in alike:
            yield from _forked(lab, snap, list(some), simple)


def _forked(lab, snap, rest, simple):
    """`margin` of questions of one length about the text of a snapshot; simple ones are rows of a pass."""
    rows = _rows(lab, snap, len(rest), rest[0].asked) if simple else 1
    for start in range(0, len(rest), rows):
        some = rest[start : start + rows]
        cache = restore(snap.stacked(len(some)) if len(some) > 1 else snap, lab.cache())  # of weights that just read it
        if len(some) == 1:
            yield margin(lab, some[0], cache=cache)
            continue
        logits = lab.logits(torch.stack([one.ids for one in some]), cache=cache).float().log_softmax(-1)
        yield from (_simple(last, one) for last, one in zip(logits, some, strict=True))


def _rows(lab, snap, most, tokens):
    """Rows of a batch that fit, each with keys and values of its own."""
    free, _ = plan.budget(lab.device)
    own = snap.nbytes["own"]
    while (
        most > 1
        and plan.make(lab, prompts=most, tokens=tokens, want="logits", cached=snap.length).peak + most * own > free
    ):
        most //= 2
    return most


def _dataset(answers, axes, lab):
    """margin and right over all axes, NaN where there is no answer."""
    dims = ("task", "scaling", "length", "depth", "sample")
    margins, rights = (np.full([len(axis) for axis in axes], np.nan, np.float32) for _ in range(2))
    for cell in np.ndindex(*margins.shape):
        key = answers.key(*(axis[i] for axis, i in zip(axes, cell, strict=True)))
        margins[cell], rights[cell] = answers.known.get(key, (np.nan, np.nan))
    values = {"margin": (dims, margins, "margin"), "right": (dims, rights, RIGHT)}
    coords = dict(zip(dims, axes, strict=True)) | {"scaling": list(map(str, axes[1]))}
    return label(values, coords=coords, attrs={"model": lab.name, "reading": "yarn.grid", "window": lab.spec.window})


def margin(
    lab: Lab, asked: Question, *, chunk: int | None = None, cache=None, position_ids: torch.Tensor | None = None
) -> tuple[float, bool]:
    """(log p(answer) - log p(foil) in nats, whether the answer's first token is the most likely one), teacher-forced.

    Args:
        asked: `tasks.Question`. chunk, cache, position_ids: of `lab.trace`; with a cache, `asked.ids` is what is left.
    """
    simple = len(asked.answer) == len(asked.foil) == 1
    cache = lab.cache() if cache is None and (not simple or chunk) else cache
    if chunk is None and position_ids is None:  # as a trace, without its record
        last = lab.logits(asked.ids[None], cache=cache)
    else:
        last = lab.trace(asked.ids, layers=[], cache=cache, chunk=chunk, position_ids=position_ids).logits
    first = last[-1].float().log_softmax(-1)
    if simple:
        return _simple(first, asked)
    right = bool(first.argmax() == asked.answer[0])
    snap, sums = lab.snapshot(cache), []
    for ids in (asked.answer, asked.foil):
        total = first[ids[0]]
        if len(ids) > 1:
            at = None if position_ids is None else int(position_ids[-1]) + 1 + torch.arange(len(ids) - 1)
            rest = lab.trace(ids[:-1], layers=[], cache=lab.restore(snap), logits="all", position_ids=at).logits
            total = total + rest.float().log_softmax(-1).gather(1, ids[1:, None].to(rest.device)).sum()
        sums.append(float(total))
    return sums[0] - sums[1], right


def _simple(first, asked):
    """`margin` where answer and foil are a token each; `first` [vocab] are the log-probabilities of the next one."""
    return float(first[asked.answer[0]] - first[asked.foil[0]]), bool(first.argmax() == asked.answer[0])


@public
def cell_means(ds: xarray.Dataset) -> xarray.Dataset:
    """Means over the questions of each cell, with 95 % intervals.

    Args:
        ds: of `grid`.

    Returns:
        Dataset over (task, scaling, length, depth): `margin`, `margin_low`, `margin_high` (Student's t over the
        questions); `right`, `right_low`, `right_high` (Wilson); `answers`, how many there are.

    Raises:
        InputError: another dataset.
    """
    check_data(ds, "yarn.cell_means", "yarn.grid(lab)", ["margin", "right"])
    answers = ds.margin.notnull().sum("sample")
    right, options = ds.right.sum("sample").astype(int), dict(output_core_dims=[[], []], vectorize=True)
    right_ends = xarray.apply_ufunc(stats.wilson, right, answers, **options)
    parts = {"margin": (ds.margin, stats.t_interval(ds.margin)), "right": (ds.right, right_ends)}
    dims, values = answers.dims, {"answers": (answers.dims, answers.values, None)}
    for name, (drawn, (low, high)) in parts.items():
        quantity = "margin" if name == "margin" else RIGHT
        ends = {name: drawn.mean("sample"), f"{name}_low": low, f"{name}_high": high}
        values |= {key: (dims, end.transpose(*dims).values, quantity) for key, end in ends.items()}
    return label(values, coords={dim: ds[dim].values for dim in dims}, attrs=ds.attrs | {"reading": "yarn.cell_means"})
