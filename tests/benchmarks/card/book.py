"""The command: which checks run, in which order, and the line that each leaves behind."""

import argparse
import datetime
import json
import os
import pathlib
import tempfile
import time

from labkit.errors import first_line
from labkit.zoo.backend import versions
from tests.benchmarks.card import RESULTS, Check, Skip, checks

CPU = "CPU core"


def main(words: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 if a check failed."""
    known = checks()
    options = _parser(known).parse_args(words)
    if options.list:
        print("\n".join(described(one) for one in known))
        return 0
    chosen = [one for one in known if (one.name in options.only if options.only else not one.asked)]
    import torch

    card = torch.cuda.is_available() and not options.dry
    if absent := [one.name for one in chosen if one.card and not card and not options.dry]:
        print(f"no CUDA device; skipped: {', '.join(absent)} (--dry runs them at tiny sizes)")
        chosen = [one for one in chosen if not one.card]
    folder = options.results or (pathlib.Path(tempfile.mkdtemp(prefix="dry-")) if options.dry else RESULTS)
    return run(chosen, "cuda" if card else "cpu", folder, dry=options.dry, budget=options.budget)


def run(chosen: list[Check], device: str, folder: pathlib.Path, *, dry: bool = False, budget: float | None = None):
    """Run checks in order, each with its line; returns 1 if one failed."""
    from tests.benchmarks.card import models
    from tests.benchmarks.card.bench import Bench

    bench, begin, failed = Bench(device, dry=dry), time.monotonic(), 0
    path = folder / f"{file_name(card_name(device, dry))}.jsonl"
    for n, one in enumerate(chosen):
        build = one.of and not bench.built(one.of)
        needs = one.seconds + (models.SECONDS[one.of] if build else 0)
        if budget is not None and not dry and time.monotonic() - begin + needs > budget:
            print(f"no time left for {', '.join(rest.name for rest in chosen[n:])}")
            break
        room = one.room + (models.BYTES[one.of] if build else 0)
        if room > (free := bench.free()):
            print(f"{one.name:16} skipped: needs {room:.0f} GiB, {free:.0f} are free", flush=True)
            continue
        line = asked(one, bench, dry)
        failed |= "error" in line
        if "skipped" not in line:
            append(path, line)
        print(told(one, line), flush=True)
    print(f"results: {path}" if path.exists() else "no results")
    return int(failed)


def asked(one: Check, bench, dry: bool) -> dict:
    """The line of one check: what it measured, or why it did not."""
    begin = time.monotonic()
    line = {"check": one.name, "card": card_name(bench.device.type, dry), "date": f"{datetime.date.today()}"}
    line |= {"labkit": _labkit(), "versions": versions(), "dtype": one.dtype}
    try:
        if one.of:
            bench.lab(one.of)
        numbers, sizes = one.call(bench)
    except Skip as reason:
        return line | {"skipped": str(reason)}
    except Exception as error:  # a check that fails is a line, and the next one goes on
        return line | {"error": f"{type(error).__name__}: {first_line(error, 400)}"}
    if bench.device.type != "cuda" and not dry:  # other machines' seconds say nothing
        numbers = {name: value for name, value in numbers.items() if not name.endswith(ABSOLUTE)}
    goals = {goal.number: {"at_least" if goal.least else "at_most": goal.bound} for goal in one.goals}
    line |= {"sizes": sizes, "numbers": rounded(numbers), "goals": goals}
    return line | {"seconds": round(time.monotonic() - begin, 1)}


ABSOLUTE = ("_ms", "_s", "seconds", "per_s", "_GiB")


def rounded(value):
    """Numbers with five significant digits, as JSON holds them."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items() if entry is not None}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def append(path: pathlib.Path, line: dict) -> None:
    """Add one line to a file of results, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: pathlib.Path) -> list[dict]:
    """The lines of a file of results."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def told(one: Check, line: dict) -> str:
    """One line for a person: the numbers, and which goals are reached."""
    from tests.benchmarks.card.bench import flat

    for word in ("skipped", "error"):
        if word in line:
            return f"{one.name:16} {word}: {line[word]}"
    found = flat(line["numbers"])
    goals = [
        f"{goal}: {'reached' if goal.met(found[goal.number]) else 'missed'}"
        for goal in one.goals
        if goal.number in found
    ]
    shown = "  ".join(f"{name}={shown_number(line['numbers'][name])}" for name in found)
    return "  ".join([f"{one.name:16} {shown}", *goals])


def shown_number(value) -> str:
    """A number, with its quartiles where there are some."""
    if isinstance(value, dict):
        return f"{value['median']:.3g} ({value['low']:.3g} to {value['high']:.3g})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def described(one: Check) -> str:
    """What `--list` says of a check."""
    goals = f"  goal: {', '.join(map(str, one.goals))}" if one.goals else ""
    where = f"{one.of or 'own'} model, {one.room:g} GiB beside it" + ("" if one.card else ", also on a CPU")
    named = "  only when named" if one.asked else ""
    return f"{one.name:16} {one.seconds:4} s  {where}{named}\n{'':17}{one.about}{goals}"


def card_name(device: str, dry: bool) -> str:
    """The card, or how many cores without one; a dry run says that it is one."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    count = torch.get_num_threads()
    cores = f"{count} {CPU}{'s' if count > 1 else ''}"
    return f"dry run, {cores}" if dry else cores


def file_name(card: str) -> str:
    """`NVIDIA_H200`, or `cpu`."""
    return "dry" if card.startswith("dry") else "cpu" if CPU in card else "_".join(card.split())


def _labkit():
    import labkit

    return labkit.__version__


def _parser(known):
    parser = argparse.ArgumentParser(prog="on_card", description="Measure this card, check by check.")
    parser.add_argument("--list", action="store_true", help="show the checks and run none")
    names = [one.name for one in known]
    parser.add_argument("--only", action="append", metavar="NAME", choices=names, help="one check; may be repeated")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="stop before a check that would not fit")
    parser.add_argument("--dry", action="store_true", help="tiny sizes on the CPU, results in a temporary folder")
    parser.add_argument("--results", type=pathlib.Path, metavar="FOLDER", help="where the lines go")
    return parser
