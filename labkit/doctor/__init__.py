"""The doctor: known traps of the installed packages, tried live on small random hybrids, one verdict line each.

    labkit.doctor.checkup()                  # or `labkit doctor` in a terminal
    labkit.doctor.examine("folder")          # or `labkit doctor FOLDER`: a checkpoint, without loading it

"ok" also stands for a trap that is there as expected, because labkit walks around it; "warn" for behaviour that changed
since labkit was tested, or something useful that is missing; "fail" for what would make readings wrong.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from labkit.doctor import edits, masks, memory, seams, stack
from labkit.doctor.folder import examine
from labkit.doctor.report import Report, Verdict
from labkit.doctor.sample import Sample
from labkit.errors import first_line
from labkit.zoo.loading import quiet

CHECKS = (*stack.CHECKS, *memory.CHECKS, *masks.CHECKS, *seams.CHECKS, *edits.CHECKS)

__all__ = ["CHECKS", "Report", "Verdict", "checkup", "examine", "main"]


def checkup(checks: Sequence[Callable] = CHECKS) -> Report:
    """Run the checks on a small random hybrid of each family, on the CPU, in some seconds.

    Args:
        checks: functions from a `Sample` to a `Verdict`, named after what they look at.

    Returns:
        `Report`. A check that stumbles is a verdict "fail" with its reason.
    """
    sample = Sample()
    with quiet():
        return Report(tuple(_tried(check, sample) for check in checks))


def _tried(check, sample):
    try:
        return check(sample)
    except Exception as error:  # whatever goes wrong is a verdict, and the other checks still run
        name = check.__name__.replace("_", " ")
        return Verdict(name, "fail", f"the check stumbled: {type(error).__name__}: {first_line(error)}")


def main(argv: list[str] | None = None) -> int:
    """The command `labkit doctor` with the words `argv`: writes the report, returns the exit status, 1 if any fails."""
    description = "Check the installed packages for known traps, live, on a small random model; or a checkpoint."
    parser = argparse.ArgumentParser(prog="labkit doctor", description=description)
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="of a checkpoint, which is checked without loading it"
    )
    parser.add_argument("--device", help="where it would be loaded to; default: the GPU if there is one")
    options = parser.parse_args(argv)
    report = checkup() if options.folder is None else examine(options.folder, device=options.device)
    sys.stdout.write(f"{report}\n")
    return 0 if report.healthy else 1


def __dir__():
    return sorted(__all__)
