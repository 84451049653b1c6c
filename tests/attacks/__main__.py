"""The command; see `tests.attacks`."""

import argparse
import collections
import pathlib
import sys
import tempfile
import time

from labkit.terminal import command
from tests.attacks import BAD, KINDS, collected


@command
def main(arguments=None) -> int:
    """Run the command; returns the exit status: 1 if anything was raw, hung or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description="Attack the lab, and count.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only attacks whose name holds one of these words")
    parser.add_argument("--tries", type=int, help="tries of each; default: its own long number")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))  # as pytest does
    chosen = [each for name, each in collected().items() if not options.words or any(w in name for w in options.words)]
    wide = max((len(each.name) for each in chosen), default=5)
    print(f"{'attack':{wide}}  {'tried':>6}", *(f"{kind:>11}" for kind in KINDS), "seconds", sep="  ")
    total, bad = collections.Counter(), []
    for each in chosen:
        begin, counts = time.perf_counter(), collections.Counter()
        with tempfile.TemporaryDirectory() as folder:
            for outcome in each.outcomes(options.tries or each.long, options.seed, pathlib.Path(folder)):
                counts[outcome.kind] += 1
                bad += [f"{each.name}, {outcome.kind}: {outcome.text}"] if outcome.kind in BAD else []
        total += counts
        _row(each.name, counts, wide, f"{time.perf_counter() - begin:7.0f}")
    _row("all", total, wide, "")
    print(*bad[:40], sep="\n")
    return int(bool(bad))


def _row(name, counts, wide, seconds):
    cells = (f"{counts[kind]:>11}" for kind in KINDS)
    print(f"{name:{wide}}  {counts.total():>6}", *cells, seconds, sep="  ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
