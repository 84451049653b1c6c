"""Many units of work on one model: in order, kept as they finish, and on as many machines as a `dask` client has.

    def work(lab, unit):
        return {"logits": lab.logits(lab.encode(unit)[None]).numpy()}

    list(sweeps.results(lab, work, ["red fox", "blue whale"], progress=True))

A unit is what a kill can cost, say a pair of prompts. `results` gives them one by one, `total` their sum. In a folder,
`store`, lies one file for each that is finished, named by its own digest, and one book that says whose they are:

    sweep.json                            function, options, units, model, edits, kernels; signed
    unit-<number>-<digest>.safetensors    what a unit gave
    total-<units>-<digest>.safetensors    the sum over the first so many, whose own files are gone then

What lies there is not computed again; what is damaged is, with a warning. Workers of a cluster write the same folder,
so that one that is killed costs the unit it was at and no other; sums are made in the order of the units, so that every
way gives the same table.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit import folders
from labkit.arguments import whole
from labkit.errors import BackendError, CheckpointError, InputError
from labkit.identity import difference, lasting
from labkit.lab import Lab
from labkit.progress import counter

if TYPE_CHECKING:
    from distributed import Client
__all__ = ["Request", "results", "total"]

FORMAT = 1
BOOK, LOCK = "sweep.json", "sweep.lock"
AHEAD = 4  # units for every worker that may lie in the folder before they are added
OURS = re.compile(r"(unit|total)-(\d{6,})-([0-9a-f]{32})\.safetensors")
LABS: dict[str, Lab] = {}  # of a worker, by how they were made
LOADING = threading.Lock()
Arrays = dict[str, np.ndarray]


def results(
    lab: Lab,
    work: Callable[..., Arrays],
    units: Sequence,
    *,
    options: dict | None = None,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
    only: Sequence[int] | None = None,
) -> Iterator[Arrays]:
    """What every unit gives, in the order of the units.

    Args:
        lab: `Lab`. With a client, each worker process makes one like it by `lab.source`, and keeps it.
        work: `work(lab, unit, **options)`, a function of a module; the same unit gives the same arrays.
        units, options: what JSON can hold.
        store: a folder; None keeps nothing. With a client it must be one that all workers see.
        client: a `dask.distributed.Client`, of workers with one device each. None computes here.
        progress: show a bar of units.
        only: numbers of the units that are wanted; None for all.

    Raises:
        InputError: a client without a store, or beside open edits or scalings, which other processes do not have; a
            folder of another request; a lab that a worker cannot make, or that is another model there.
        CheckpointError: a folder that cannot be read or written. BackendError: workers that die of a unit.
    """
    with _opened(lab, work, units, options, store, client) as request:
        yield from request.results(range(len(request.units)) if only is None else only, progress)


def total(
    lab: Lab,
    work: Callable[..., Arrays],
    units: Sequence,
    *,
    options: dict | None = None,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
    upto: int | None = None,
    every: int = 1,
) -> Arrays:
    """The sum of what `work` gives for the units, in float64 and in their order; a store holds the sum so far. As
    `results`.

    Args:
        upto: the sum over the first so many alone; a later call with more goes on from there.
        every: units after which the sum is written, which a large one makes slow; a kill costs those since.
    """
    with _opened(lab, work, units, options, store, client) as request:
        upto, every = len(request.units) if upto is None else upto, whole(every, "every", least=1)
        done, sums = request.summed(upto)
        ahead = upto if client is None else AHEAD * max(1, len(client.nthreads()))
        while done < upto:
            numbers = range(done, min(upto, done + ahead))
            for result in request.results(numbers, progress, keep=client is not None):
                wide = {name: np.asarray(values, dtype=np.float64) for name, values in result.items()}
                sums = {name: values + sums[name] if name in sums else values for name, values in wide.items()}
                done += 1
                if done % every == 0 or done == upto:
                    request.keep_sum(done, sums)
    return sums


@contextlib.contextmanager
def _opened(lab, work, units, options, store, client):
    """The request, with the lock of its folder and its book written."""
    if client is not None:
        _check_client(lab, store, client)
    request = Request(lab, work, list(units), options or {}, store, client)
    if request.folder is None:
        yield request
        return
    folders.check_room(request.folder, 0)
    with folders.lock(request.folder / LOCK):
        request.open()
        yield request


def _check_client(lab, store, client):
    if not hasattr(client, "submit") or not hasattr(client, "cancel"):
        hint = "distributed.Client(n_workers=2, threads_per_worker=1)"
        raise InputError("no client of dask.distributed", got=type(client).__name__, hint=hint)
    if store is None:
        raise InputError("workers write into a folder", got="store=None", expected="a folder that all of them see")
    if opened := [*map(repr, lab.scopes.edits), *(["a rotary scaling"] if lab.scopes.scaling is not None else [])]:
        expected = "none, since other processes do not have them"
        raise InputError("a sweep on workers beside open scopes", got=", ".join(opened), expected=expected)
    if lab.source is None:
        got, expected = repr(lab), "lab.source, a function without arguments that makes this lab in another process"
        raise InputError("workers cannot make this lab", got=got, expected=expected)


class Request:
    """`units`, the `work` to do with each and its `options`, and the `store`, a folder of those that are finished."""

    def __init__(self, lab, work, units, options, store, client):
        self.lab, self.work, self.units, self.options, self.client = lab, work, units, options, client
        self.folder = None if store is None else pathlib.Path(store)
        self.facts = {
            "format": FORMAT,
            "work": f"{work.__module__}.{work.__qualname__}",
            "options": folders.mark(options),
            "units": folders.mark(units),
            "scaling": repr(lab.scaling),
        }
        if store is not None:
            self.facts["identity"] = lasting(lab)

    def open(self) -> None:
        """Take what the folder holds, if it is this request's; begin it if it is new."""
        folders.remove_drafts(self.folder)
        path = self.folder / BOOK
        if not path.exists():
            with folders.told("this folder cannot be written", self.folder):
                folders.write_text(path, folders.signed(self.facts))
            return
        found = folders.read_signed(path, FORMAT, "the book of a sweep")
        if differing := [name for name, value in self.facts.items() if found.get(name) != value]:
            if "identity" in differing and isinstance(found.get("identity"), dict):
                differing[differing.index("identity")] = difference(found["identity"], self.facts["identity"])
            raise InputError(
                "this folder belongs to another sweep",
                got=f"different {'; '.join(differing)}",
                expected="the same model, edits, kernels, function, options and units",
                hint="give another folder, or delete this one",
            )

    # ---------------------------------------------------------------------------------------------------- units

    def results(self, numbers: Sequence[int], progress: bool, *, keep: bool = True) -> Iterator[Arrays]:
        """What the units of these numbers give, in order; kept in the folder as each finishes."""
        missing = [n for n in numbers if self.found("unit", n) is None]
        bar = counter(total=len(numbers), done=len(numbers) - len(missing), unit="unit", show=progress, title="sweep")
        with contextlib.closing(bar):
            if self.client is not None:
                self._spread(missing, bar)
            for n in numbers:
                held = self.found("unit", n)
                result = None if held is None else _read(held)
                if result is None:
                    result = self.work(self.lab, self.units[n], **self.options)
                    if self.folder is not None and keep:
                        _write(self.folder, "unit", n, result)
                    bar.update()
                yield result

    def found(self, kind: str, n: int) -> pathlib.Path | None:
        """The file of a unit, or of the sum over so many; by name alone, the bytes are checked when it is read."""
        return None if self.folder is None else next(iter(sorted(self.folder.glob(f"{kind}-{n:06d}-*"))), None)

    def _spread(self, missing, bar):
        """Have the workers compute what is missing; on return the folder holds it."""
        from distributed import KilledWorker, as_completed

        task = functools.partial(_remote, self.lab.source, self.facts["identity"], self.work, self.options)
        where, key = str(self.folder.resolve()), folders.mark(self.facts)[:16]
        futures = {
            self.client.submit(task, where, n, self.units[n], key=f"labkit-{key}-{n}", pure=False): n for n in missing
        }
        try:
            for future in as_completed(futures):
                future.result()
                if self.found("unit", futures[future]) is None:
                    got, hint = f"unit {futures[future]} is not in {where}", "give a folder that all machines share"
                    raise CheckpointError("workers write into another folder", got=got, hint=hint)
                bar.update()
        except KilledWorker as error:
            got, hint = f"{error.last_worker} at the last", "labkit.doctor.checkup() on a worker"
            raise BackendError("a unit kills its workers", got=got, hint=hint) from error
        finally:
            self.client.cancel(list(futures))

    # ----------------------------------------------------------------------------------------------------- sums

    def summed(self, upto: int) -> tuple[int, Arrays]:
        """(units, their sum) of the longest sum in the folder that is not beyond `upto`; (0, none) without."""
        if self.folder is None:
            return 0, {}
        matches = [match for path in self.folder.iterdir() if (match := OURS.fullmatch(path.name))]
        kept = sorted({int(match[2]) for match in matches if match[1] == "total"}, reverse=True)
        for done in kept:
            if done <= upto and (sums := _read(self.found("total", done))) is not None:
                return done, sums
        return 0, {}

    def keep_sum(self, done: int, sums: Arrays) -> None:
        """Write the sum over the first `done` units; then what it stands for goes."""
        if self.folder is None:
            return
        _write(self.folder, "total", done, sums)
        for path in self.folder.iterdir():
            match = OURS.fullmatch(path.name)
            if match and int(match[2]) < done:  # units count from 0: those before `done` are in the sum
                path.unlink(missing_ok=True)


def _remote(source, identity, work, options, folder, n, unit):
    """On a worker: one unit into the folder, unless another worker had it there before it died."""
    path, lab = pathlib.Path(folder), _lab(source)
    if (now := lasting(lab)) != identity:
        raise InputError(
            "a worker has another model", got=difference(identity, now), expected="the same on every worker"
        )
    if not list(path.glob(f"unit-{n:06d}-*")):
        _write(path, "unit", n, work(lab, unit, **options))


def _lab(source):
    with LOADING:
        if (key := repr(source)) not in LABS:
            LABS.clear()  # a device has room for one
            LABS[key] = source()
        return LABS[key]


# -------------------------------------------------------------------------------------------------------------- files


def _write(folder, kind, n, arrays):
    """Arrays as a file that is known by its bytes; whole or not there."""
    from safetensors.numpy import save

    raw = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    mark = hashlib.sha256(raw).hexdigest()[:32]
    with (
        folders.told("a result could not be written", folder),
        folders.whole(folder / f"{kind}-{n:06d}-{mark}.safetensors") as draft,
    ):
        draft.write_bytes(raw)


def _read(path):
    """The arrays of a file; None, with a warning, if its bytes are not those that were written: then it goes."""
    from safetensors.numpy import load

    with folders.told("a result cannot be read", path):
        raw, match = path.read_bytes(), OURS.fullmatch(path.name)
        if match and hashlib.sha256(raw).hexdigest()[:32] == match[3]:
            return load(raw)
        path.unlink(missing_ok=True)
    warnings.warn(f"a result is damaged, and is computed again: {path}", stacklevel=2)
    return None


def __dir__():
    return sorted(__all__)
