"""Draw every figure from the default model: pages, gallery, verdicts and the change against golden data.

    python -m figures [--only NAME ...] [--update] [--fresh] [--png] [--data] [--out FOLDER]

Of nano only figures whose code or inputs changed are computed (`figures/_data.py`), on all processors. With them comes
`explain.html`, nano itself in one page (`figures/_explain`), which `--only explain` writes alone. Ends with 1 if a
figure failed, its claim does not hold of nano, no control refutes a part of it, it has no golden data, or left its
tolerance; with 130 after an interrupt, which costs nothing that was finished.
"""

import argparse
import contextlib
import os
import pathlib
import sys
import time

import figures
from figures import _build, _data, _explain, _gallery, _shots, _workers
from labkit.errors import LabError
from labkit.terminal import command

# Of two processes neither should begin one of these when the other is done.
LONGEST = (
    "one_cause_at_a_time",
    "margin_by_depth",
    "division_of_labour",
    "short_context_cost",
    "work_by_load",
    "three_kinds_of_effect",
    "states_beyond_the_window",
)
INTERRUPTED = 130  # what a shell says of a tool that was interrupted: 128 and the number of SIGINT
MOST = 8  # processes; each loads PyTorch and a model


@command
def main(arguments=None, folder=figures.HERE, load=None, kept=None, workers=1):
    """Run the command; returns the exit status.

    Args:
        arguments: command-line words; None takes the process's.
        folder: where the figure modules and their golden data lie.
        load: makes the lab; None is `labkit.load`, which of nano keeps data and uses all processors.
        kept: text that tells the lab that `load` makes from others named nano: then its data is kept; None keeps none.
        workers: how many processes compute with `load`, which they must be able to import.
    """
    options, done = _options(arguments), []
    if load is None:
        load = _build.load
        if (os.environ.get("LABKIT_MODEL") or "nano") == "nano":
            kept, workers = "nano", min(_processors(), MOST)
    try:
        return _run(options, pathlib.Path(folder), load, kept, workers, done)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: {len(done)} figures are done and stay; the next run goes on from there", file=sys.stderr)
        return INTERRUPTED


def _run(options, folder, load, kept, workers, done):
    begin = time.perf_counter()
    out, ours = pathlib.Path(options.out or folder), folder.resolve() == figures.HERE
    explained = ours and (options.only is None or _explain.NAME in options.only)
    only = options.only and [name for name in options.only if not (explained and name == _explain.NAME)]
    if workers > 1 and options.only is None and (options.fresh or not _data.all_there(folder)):
        _workers.prepare()
    entries = {entry.name: entry for entry in figures.entries(folder, only)}
    job = _build.Job(
        folder=folder,
        out=out,
        load=load,
        digests={} if kept is None else _data.digests(folder, entries, kept),
        beside={} if options.only else _neighbours(list(entries.values())),
        facts=_gallery.facts(),
        fresh=options.fresh,
        update=options.update,
        browser=_shots.find_browser() if options.png else None,
        data=options.data,
    )
    here, elsewhere = _shared_out(job, list(entries), workers)
    with contextlib.closing(_results(job, entries, here, elsewhere, workers)) as results:
        for result in results:
            done.append(result)
            print(result, flush=True)
    if explained:
        _explain_told(out, options.fresh)
    if options.only is None:
        cards = {result.name: result.card for result in done if result.card}
        _gallery.write_gallery(
            job.out / "index.html", [cards[name] for name in entries if name in cards], job.facts, explained
        )
        where, seconds = os.path.relpath(job.out / "index.html"), time.perf_counter() - begin
        print(f"{len(cards)} figures in {where}   {seconds:.1f} s")
    return int(not all(result.good for result in done))


def _explain_told(out, fresh):
    """Write the page of nano and say so, in the form of a figure's line."""
    begin = time.perf_counter()
    done = "written" if _explain.write(out / f"{_explain.NAME}.html", fresh=fresh) else "unchanged, not written"
    print(f"{_explain.NAME:<28} {time.perf_counter() - begin:4.1f} s   {done}", flush=True)


def _shared_out(job, names, workers):
    """(figures for this process, figures for the others): what is kept here; the first there first, to be seen soon."""
    new = [name for name in names if not job.unchanged(name)]
    if workers < 2 or len(new) < 2:
        return names, []
    rank = {name: n for n, name in enumerate([names[0], *LONGEST])}
    new.sort(key=lambda name: rank.get(name, len(rank)))
    return [name for name in names if name not in new], new


def _results(job, entries, here, elsewhere, workers):
    """Results as figures finish; the other processes compute while this one draws what it has."""
    with _workers.started(job, elsewhere, workers) as finished:
        build = _build.Builder(job, entries)
        for name in here:
            if build.needs_lab(name):
                begin = time.perf_counter()
                print(f"model {build.lab.name}   {time.perf_counter() - begin:.1f} s", flush=True)
            yield build(name)
            yield from finished(wait=False)
        yield from finished(wait=True)


def _neighbours(entries):
    """`{name: (previous, next)}`, each `(name, question)` or None at the ends."""
    told = [None, *((entry.name, entry.question) for entry in entries), None]
    return {entry.name: (told[n], told[n + 2]) for n, entry in enumerate(entries)}


def _options(arguments):
    parser = argparse.ArgumentParser(prog="python -m figures", description="Draw all figures.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this figure alone; no gallery")
    parser.add_argument("--update", action="store_true", help="record what is drawn now as golden data")
    parser.add_argument("--fresh", action="store_true", help="compute also what did not change")
    parser.add_argument("--png", action="store_true", help="also a PNG of each, by Chromium")
    parser.add_argument("--data", action="store_true", help="also the numbers of each, as CSV and netCDF")
    parser.add_argument("--out", metavar="FOLDER", help="where the pages go; default: beside the modules")
    return parser.parse_args(arguments)


def _processors():
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
