"""The command; see `tests.mutants`."""

import argparse
import concurrent.futures
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import time

from tests.mutants import ROOT, Mutant, collected

PARTS = ("labkit", "tests", "figures", "conftest.py", "pyproject.toml")
PASSED, FAILED = 0, 1  # exit codes of pytest; others say that tests could not be run
LIMIT = 300  # seconds of one test; a mutant that hangs is found


def main(arguments=None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Plant bugs, and see tests find them.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants that say one of these words")
    parser.add_argument("--workers", type=int, default=2, help="tests at a time; default: %(default)s")
    parser.add_argument("--list", action="store_true", help="show them and run nothing")
    options = parser.parse_args(arguments)
    mutants = [m for m in collected() if not options.words or any(w in f"{m} {m.test}" for w in options.words)]
    if options.list:
        print(*(f"{mutant}\n    {mutant.test}" for mutant in mutants), sep="\n")
        return 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        copies = queue.Queue()
        for n in range(options.workers):
            copies.put(copied(os.path.join(folder, str(n))))
        with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
            tests = list(dict.fromkeys(mutant.test for mutant in mutants))
            sound = dict(zip(tests, pool.map(lambda test: tested(copies, test), tests), strict=True))
            verdicts = [pool.submit(verdict, copies, mutant, sound) for mutant in mutants]
            bad = 0
            for mutant, future in zip(mutants, verdicts, strict=True):
                good, said = future.result()
                bad += not good
                print(f"{said:9} {mutant}" + ("" if good else f"\n          {mutant.test}"), flush=True)
    print(f"{len(mutants) - bad} of {len(mutants)} found, {time.perf_counter() - begin:.0f} s")
    return int(bad > 0)


def copied(folder: str) -> str:
    """A copy of what git knows of the checkout, and of new files."""
    command = ["git", "ls-files", "-co", "--exclude-standard", *PARTS]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            shutil.copy(ROOT / name, os.path.join(folder, name))
    return folder


def verdict(copies: queue.Queue, mutant: Mutant, sound: dict[str, int]) -> tuple[bool, str]:
    """(whether it was found, the word for it)."""
    if sound[mutant.test] != PASSED:
        return False, "NO TEST"
    try:
        status = tested(copies, mutant.test, mutant)
    except (ValueError, OSError) as error:
        return False, f"ERROR {error}:"
    return status == FAILED, {PASSED: "SURVIVED", FAILED: "found"}.get(status, f"BROKEN {status}")


def tested(copies: queue.Queue, test: str, mutant: Mutant | None = None) -> int:
    """pytest's exit code in a copy, with a mutant in it for as long as the test runs."""
    folder, before = copies.get(), None
    try:
        if mutant is not None:
            place = pathlib.Path(folder, mutant.file)
            before = place.read_text(encoding="utf-8")
            place.write_text(mutant.applied(before), encoding="utf-8")
        # No bytecode: a mutant of the same size in the same second would be taken for the file before it.
        paths = os.pathsep.join((folder, os.path.join(folder, "tests")))
        env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=LIMIT, check=False).returncode
    except subprocess.TimeoutExpired:
        return FAILED
    finally:
        if before is not None:
            place.write_text(before, encoding="utf-8")
        copies.put(folder)


if __name__ == "__main__":
    sys.exit(main())
