"""Draw every figure from the default model: pages, gallery and the change against golden data.

    python -m figures [--only NAME ...] [--update] [--png] [--out FOLDER]

Ends with 1 if a figure failed, has no golden data or left its tolerance.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

import figures
from figures import _gallery, _golden
from labkit.draw.pages import height
from labkit.errors import BackendError, LabError
from labkit.terminal import command

HOME = ("index.html", "All figures")
TITLE = "Inside a hybrid language model"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
)


@command
def main(arguments=None, folder=figures.HERE, load=None):
    """Run the command; returns the exit status.

    Args:
        arguments: command-line words; None takes the process's.
        folder: where the figure modules and their golden data lie.
        load: makes the lab; None is `labkit.load`.
    """
    options = _options(arguments)
    out = pathlib.Path(options.out or folder)
    try:
        chosen = figures.entries(folder, options.only)
        browser = find_browser() if options.png else None
        lab, seconds = _timed(load or _load)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"model {lab.name}   {seconds:.1f} s", flush=True)
    facts, cards, status = _gallery.facts(lab), [], 0
    for entry in chosen:
        begin = time.perf_counter()
        try:
            dataset = entry.module.data(lab)
            card = _gallery.card(entry, dataset, entry.module.draw(dataset))
            _gallery.write(out / f"{entry.name}.html", entry.question, [card], facts, HOME)
            if browser:
                _picture(browser, out / f"{entry.name}.html", height(card[-1]))
            good, verdict = _judge(entry, dataset, lab.name, options.update)
            cards.append(card)
        except LabError as error:
            good, verdict = False, "\n".join(["FAILED", *map(_indent, str(error).splitlines())])
        status |= not good
        print(f"{entry.name:<28} {time.perf_counter() - begin:4.1f} s   {verdict}", flush=True)
    if options.only is None:
        _gallery.write(out / "index.html", TITLE, cards, facts)
        print(f"{len(cards)} figures in {os.path.relpath(out / 'index.html')}")
    return int(status)


def _options(arguments):
    parser = argparse.ArgumentParser(prog="python -m figures", description="Draw all figures.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this figure alone; no gallery")
    parser.add_argument("--update", action="store_true", help="record what is drawn now as golden data")
    parser.add_argument("--png", action="store_true", help="also a PNG of each, by Chromium")
    parser.add_argument("--out", metavar="FOLDER", help="where the pages go; default: beside the modules")
    return parser.parse_args(arguments)


def _judge(entry, dataset, model, update):
    """(good, one line): how the data compares with what is recorded; records it if asked."""
    fault = entry.fault(dataset)
    if model != "nano":
        told = ["golden data not compared: it is of nano, not of " + model, *(fault or "").splitlines()]
        return True, "\n    ".join(told)
    if fault:
        return False, "\n".join(["FALSE", *map(_indent, fault.splitlines())])
    known = entry.golden.exists()
    change = _golden.compare(_golden.read(entry.golden), dataset, entry.tolerance) if known else None
    if update:
        _golden.write(entry.golden, dataset)
        return True, f"{change}   recorded" if known else "recorded for the first time"
    if not known:
        return False, "NEW: no golden data; look at it, then record it by --update"
    return not change.failures, "\n".join([str(change), *map(_indent, change.failures)])


def _indent(line):
    return f"    {line}"


def _load():
    import torch

    import labkit

    torch.set_num_threads(1)
    return labkit.load()


def _timed(call):
    begin = time.perf_counter()
    return call(), time.perf_counter() - begin


def find_browser():
    """Path of an installed Chromium or Chrome.

    Raises:
        BackendError: there is none.
    """
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    expected = ", ".join(BROWSERS)
    raise BackendError("a picture needs a browser", got="none", expected=expected, hint="leave out --png")


def _picture(browser, path, height):
    """A PNG beside a page: the figure without its words, 1,040 pixels wide."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    shot = [f"--screenshot={path.with_suffix('.png').resolve()}", f"--window-size=1040,{height + 40}"]
    wait = ["--virtual-time-budget=8000", f"{path.resolve().as_uri()}#picture"]
    words = [browser, *FLAGS, *root, *shot, *wait]
    done = subprocess.run(words, capture_output=True, timeout=120, check=False)
    if done.returncode or not path.with_suffix(".png").exists():
        raise BackendError("the browser drew no picture", got=done.stderr.decode(errors="replace")[-300:])


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
