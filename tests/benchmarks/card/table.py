"""README's table of speeds, made from the results files alone: what nobody measured is not in it."""

import pathlib
import re

import labkit
from tests.benchmarks.card import RESULTS, Check, checks
from tests.benchmarks.card.bench import flat
from tests.benchmarks.card.book import read

README = pathlib.Path(__file__).parents[3] / "README.md"
BEGIN, END = "<!-- speeds: python -m tests.benchmarks.card table -->", "<!-- end of speeds -->"
UNITS = {"ratio": "", "seconds": " s", "peak_GiB": " GiB", "tokens_per_s": " tokens/s"}
CARD = "NVIDIA_H200"


def main() -> int:
    """Write the table into README; returns the exit status."""
    text = README.read_text("utf-8")
    README.write_text(placed(text, rendered()), "utf-8")
    return 0


def placed(text: str, table: str) -> str:
    """A text with what stands between the markers replaced.

    Raises:
        ValueError: the markers are not there once each.
    """
    found = re.findall(re.escape(BEGIN) + r".*?" + re.escape(END), text, re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"README has {len(found)} tables between {BEGIN} and {END}")
    return text.replace(found[0], f"{BEGIN}\n{table}\n{END}")


def rendered(folder: pathlib.Path = RESULTS) -> str:
    """The tables: the card beside the goals, and the tools beside each other on a CPU."""
    known, version = [one for one in checks() if one.goals], labkit.__version__
    shape = "27B shape, seeded weights"
    parts = [card_table(read(folder / f"{CARD}.jsonl"), [one for one in known if one.card], version, shape)]
    if (folder / "cpu.jsonl").exists():
        lines = read(folder / "cpu.jsonl")
        parts += [card_table(lines, [one for one in known if not one.card], version, "small random models")]
        parts += peers_table([line for line in lines if line["check"] == "peers"])
    return "\n\n".join(parts)


def card_table(lines: list[dict], known: list[Check], current: str, shape: str) -> str:
    """One row for each check, which has a goal: what each version of labkit measured, and the goal."""
    columns = {}
    for line in lines:
        columns.setdefault(line["labkit"], {})[line["check"]] = line  # the last line of a check counts
    columns.setdefault(current, {})
    heads = [
        f"labkit {version}" + (f", {max(one['date'] for one in found.values())}" if found else "")
        for version, found in columns.items()
    ]
    rows = [
        [one.about.rstrip("."), *(cell(one, found.get(one.name)) for found in columns.values()), goals(one)]
        for one in known
    ]
    table = [
        [f"{lines[0]['card']}, {shape}", *heads, "goal"],
        *rows,
    ]
    made = [f"labkit {version}: {packages(list(found.values())[-1])}" for version, found in columns.items() if found]
    return markdown(table) + "\n\nMeasured with " + "; ".join(made) + "."


def cell(one: Check, line: dict | None) -> str:
    """What a version measured: the numbers that have goals."""
    if line is None or "numbers" not in line:
        return "not measured" if line is None else "failed"
    found = flat(line["numbers"])
    if {"passed", "failed"} <= found.keys():
        return f"{found['passed']:.0f} of {found['passed'] + found['failed']:.0f}"
    shown = [named(goal.number, found[goal.number], line["numbers"]) for goal in one.goals if goal.number in found]
    return ", ".join(shown) or "not measured"


def named(number: str, value: float, numbers: dict) -> str:
    """A number with its unit; more than, where the run was stopped there."""
    above = "> " if isinstance(numbers[number], dict) and numbers[number].get("above") else ""
    head, unit = label(number)
    return f"{head}{above}{value:,.3g}{unit}"


def label(number: str) -> tuple[str, str]:
    """(words before, unit after) of a number's name."""
    for ending, unit in UNITS.items():
        if number == ending:
            return "", unit
        if number.endswith(f"_{ending}"):
            return number.removesuffix(f"_{ending}").replace("_", " ") + " ", unit
    return number.replace("_", " ") + " ", ""


def goals(one: Check) -> str:
    """The goals of a check, as the row says its numbers."""
    if any(goal.number == "failed" for goal in one.goals):
        return "all"
    parts = []
    for goal in one.goals:
        head, unit = label(goal.number)
        parts.append(f"{head}{'≥' if goal.least else '≤'} {goal.bound:g}{unit}")
    return ", ".join(parts)


def packages(line: dict) -> str:
    """Which versions computed."""
    return ", ".join(f"{name} {version}" for name, version in line["versions"].items() if version)


def peers_table(lines: list[dict]) -> list[str]:
    """The tools beside each other, from the last line; [] without one."""
    if not lines or "numbers" not in lines[-1]:
        return []
    line = lines[-1]
    tools, sizes = line["sizes"]["tools"], line["sizes"]
    head = f"the residual stream after each of {sizes['layers']} layers, {sizes['tokens']} tokens, {line['card']}"
    rows = [[head, "/ the plain pass", "quartiles"]]
    for name, value in line["numbers"].items():
        version = f" {tools[name]}" if name in tools else f" {line['labkit']}" if name == "labkit" else ""
        rows.append(
            [name.replace("_", "\\_") + version, f"{value['median']:.2f}", f"{value['low']:.2f} to {value['high']:.2f}"]
        )
    rows += [[name, "does not run: " + why, ""] for name, why in sizes["refused"].items()]
    return [f"{markdown(rows)}\n\nMeasured {line['date']} with {packages(line)}."]


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head; cells are Markdown of this project's own, and stay as they are."""
    lines = ["| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]
    return "\n".join(lines)
