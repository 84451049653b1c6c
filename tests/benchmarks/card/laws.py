"""The laws of `tests/test_gpu.py` on this card."""

import re
import subprocess
import sys

from tests.benchmarks.card import Goal, Skip, check
from tests.benchmarks.tools import HERE


@check(seconds=60, room=4, goals=(Goal("failed", 0),), dtype="float32, bfloat16")
def laws(bench):
    """The laws of `tests/test_gpu.py`, in float32 and bfloat16: how many hold."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "tests/test_gpu.py",
        "-m",
        "gpu",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
    ]
    done = subprocess.run(words, cwd=HERE.parent.parent, capture_output=True, text=True, check=False)
    counts = counted(done.stdout)
    if not counts["passed"] + counts["failed"]:
        raise Skip(f"all {counts['skipped']} laws were skipped")
    return counts, {}


def counted(said: str) -> dict[str, int]:
    """What pytest's closing line counts.

    Raises:
        RuntimeError: there is none; carries the end of what pytest said.
    """
    found = re.findall(r"(\d+) (passed|failed|errors?|skipped)", (said.strip().splitlines() or [""])[-1])
    if not found:
        raise RuntimeError(said[-400:])
    counts = {word.rstrip("s"): int(number) for number, word in found}
    names = ("passed", "skipped")
    return {name: counts.get(name, 0) for name in names} | {"failed": counts.get("failed", 0) + counts.get("error", 0)}
