"""One figure from its module to its page: data kept or computed, verdict, golden data, page."""

import dataclasses
import functools
import pathlib
import time
import traceback
from collections.abc import Callable, Mapping

import figures
from figures import _data, _gallery, _golden, _shots
from labkit import export
from labkit.draw.pages import height
from labkit.errors import LabError


@dataclasses.dataclass(frozen=True)
class Job:
    """What the figures of one run have in common; travels to other processes.

    Attributes:
        folder: where the modules lie. out: where the pages go.
        load: makes the lab, in each process that computes.
        digests: `{name: digest}` under which data is kept; empty: nothing is kept.
        beside: `{name: (previous, next)}`, each `(name, question)` or None. facts: the line at the bottom.
        fresh: compute what is kept as well. update: record golden data. browser: makes a PNG of each, or None.
        data: write the numbers of each as CSV and netCDF.
    """

    folder: pathlib.Path
    out: pathlib.Path
    load: Callable
    digests: Mapping[str, str]
    beside: Mapping[str, tuple]
    facts: str
    fresh: bool = False
    update: bool = False
    browser: str | None = None
    data: bool = False

    def unchanged(self, name):
        """Whether the data of a figure is kept and need not be computed."""
        return not self.fresh and name in self.digests and _data.known(self.folder, name, self.digests[name])


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of one figure; `card` is None if it could not be drawn."""

    name: str
    good: bool
    verdict: str
    seconds: float
    card: _gallery.Card | None = None

    def __str__(self):
        return f"{self.name:<28} {self.seconds:4.1f} s   {self.verdict}"


class Builder:
    """Builds the figures of a job in one process; the first that is computed loads the lab.

    Args:
        job: what they have in common.
        entries: `{name: Entry}` of modules that are loaded already.
    """

    def __init__(self, job, entries=()):
        self.job, self._entries = job, dict(entries)

    @functools.cached_property
    def lab(self):
        """The lab, loaded when it is first asked for."""
        return self.job.load()

    def needs_lab(self, name):
        """Whether a figure would load the lab now."""
        return "lab" not in vars(self) and not self.job.unchanged(name)

    def __call__(self, name):
        """The `Result` of a figure; an error of the figure is one."""
        begin = time.perf_counter()
        spent = lambda: time.perf_counter() - begin  # noqa: E731
        try:
            good, verdict, card = self._built(name)
        except LabError as error:
            return failed(name, str(error), spent())
        except Exception:
            return failed(name, traceback.format_exc().rstrip(), spent())
        return Result(name, good, verdict, spent(), card)

    def _built(self, name):
        entry = self._entries.get(name) or figures.entries(self.job.folder, [name])[0]
        dataset, note = self._dataset(entry)
        figure = entry.module.draw(dataset)
        numbers = self._numbers(name, dataset) if self.job.data else ()
        card = _gallery.card(entry, dataset, figure, numbers)
        path = self.job.out / f"{name}.html"
        _gallery.write_figure(path, card, self.job.beside.get(name, (None, None)), self.job.facts)
        if self.job.browser:
            _shots.shoot(self.job.browser, path, height(card.figure))
        model = "nano" if self.job.digests else self.lab.name  # of another model nothing is kept
        good, verdict = _judge(entry, dataset, card.fault, model, self.job.update)
        return good, note + verdict, card

    def _numbers(self, name, dataset):
        """The files beside the page that hold a figure's numbers."""
        written = [export.to_csv(dataset, self.job.out / f"{name}.csv")]
        written += [export.to_netcdf(dataset, self.job.out / f"{name}.nc")]
        return tuple(path.name for path in written)

    def _dataset(self, entry):
        """(dataset, what is to be said of it)."""
        folder, digest = self.job.folder, self.job.digests.get(entry.name)
        if digest is None:
            return entry.module.data(self.lab), ""
        if not self.job.fresh and (kept := _data.read(folder, entry.name, digest)) is not None:
            return kept, "unchanged, not computed   "
        dataset = entry.module.data(self.lab)
        try:
            return _data.write(folder, entry.name, digest, dataset), ""
        except (LabError, ValueError) as error:
            return dataset, f"not kept: {' '.join(str(error).split())}   "


def load():
    """The default lab, with one thread: tiny models wait for more, and one repeats its numbers."""
    import torch

    import labkit

    torch.set_num_threads(1)
    return labkit.load()


def failed(name, reason, seconds):
    """The `Result` of a figure that could not be drawn."""
    return Result(name, False, _told("FAILED", reason), seconds)


def _judge(entry, dataset, fault, model, update):
    """(good, verdict): whether the claim may stand, and how the data compares with what is recorded."""
    if model != "nano":
        told = "golden data not compared: it is of nano, not of " + model
        return True, _told(told, fault or "")
    if fault:
        return False, _told("FALSE", fault)
    known = entry.golden.exists()
    change = _golden.compare(_golden.read(entry.golden), dataset, entry.tolerance) if known else None
    if update:
        _golden.write(entry.golden, dataset)
        return True, f"{change}   recorded" if known else "recorded for the first time"
    if not known:
        return False, "NEW: no golden data; look at it, then record it by --update"
    return not change.failures, _told(str(change), "\n".join(change.failures))


def _told(line, more):
    return "\n".join([line, *(f"    {each}" for each in more.splitlines())])
