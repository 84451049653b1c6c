"""The model card: what was measured, with 95 % intervals, beside what guessing would reach."""

import dataclasses
import json
import pathlib

from labkit.errors import InputError
from labkit.nano import tokens
from labkit.nano.exam import Result
from labkit.nano.shape import WINDOW
from labkit.tables import markdown

HEAD = """# nano

A hybrid of eight layers (D D D A D D D A) for laptops and tests: Gated DeltaNet with 2 query/key and 6 value heads
(keys of 24, values of 32 channels), gated attention with 12 query heads over 2 key/value heads of 64 channels, a
quarter of them rotary (base 2,000), hidden 128, window {window} tokens, {parameters:,} parameters and a
multi-token-prediction layer of {ahead:,} more. The class is `Qwen3_5ForCausalLM` of transformers, unmodified; the
multi-token-prediction layer lies beside it under the tensor names of the published checkpoints.

Trained from nothing on generated text: facts (` fox red`, ` fox is red`) among sentences, facts that change, lists and
what stood where in them, repeated rows, chat sessions with thinking and tools, a small grammar, and docstrings of the
Python standard library. {tokens:,} tokens in {steps:,} steps, data seed {seed}. It knows {keys} keys and {values}
values, so guessing a value is right once in {values} times ({chance}). It knows nothing of the world and cannot reason.

Every row below was measured on questions from seeds that no training draws. An answer is right if the most likely next
token is the right one; in conversations, if the reply written out names the value. In brackets: 95 % Wilson intervals.
{second}"""
SECOND = """The column *other seed* is the same recipe from the same first weights with data seed {seed}.
"""


def write(path: str | pathlib.Path, runs: list[tuple]) -> None:
    """Write the card.

    Args:
        runs: `[(facts, parts)]`, the shipped training first: facts as `facts_of`, parts as `exam.examine` gives them.
    """
    (facts, parts), *others = runs
    other = others[0] if others else None
    words = facts | {
        "window": WINDOW,
        "keys": len(tokens.KEYS),
        "values": len(tokens.VALUES),
        "chance": f"{1 / len(tokens.VALUES):.2%}",
        "second": SECOND.format(**other[0]) if other else "",
    }
    text = HEAD.format(**words)
    twin = {result.name: result for results in other[1].values() for result in results} if other else {}
    text += "\n## In the window\n\n" + _table(parts["window"], twin)
    text += "\n## Conversations\n\nSomething is decided in the thinking of one turn and asked for three to six turns "
    text += "later.\n\n"
    text += _table(parts["chat"], twin)
    text += (
        "\n## Two tokens ahead\n\nHow often the multi-token-prediction layer names the token that the model itself "
        "would say next but one.\n\n" + _table(parts["ahead"], twin)
    )
    text += "\n## Beyond the window\n\nPrompts fill one, two and four windows; facts lie anywhere in them.\n\n"
    scalings = {"1": "no scaling", "2": "YaRN 2", "4": "YaRN 4"}
    text += _grid(_beside(parts, "long", "1 | 1"), scalings, windows=True)
    text += "\n## Who carries it\n\nAll mixers of one kind replaced by nothing, in the window.\n\n"
    names = {"": "whole model", "linear_attention": "no D mixers", "full_attention": "no A mixers"}
    text += _grid(_beside(parts, "knocked", ""), names)
    text += (
        "\nMade by `python -m labkit.nano train`, measured by `python -m labkit.nano evaluate`. Licence: Apache-2.0.\n"
        "Tasks and curriculum: `labkit/nano/tasks.py`, `chat.py`, `lessons.py`; questions: `questions.py`.\n"
    )
    pathlib.Path(path).write_text(text, encoding="utf-8")


def _table(results, twin):
    rows = []
    for result in results:
        chance = "" if result.chance is None else f"{result.chance:.1%}"
        more = [shown(twin[result.name]) if result.name in twin else "not measured"] if twin else []
        rows.append([result.name, shown(result), chance, f"{result.samples:,}", *more])
    return markdown(["task", "right", "guessing", "samples", *(["other seed"] if twin else [])], rows)


def shown(result: Result) -> str:
    """`97.2 % [96.0, 98.0]`."""
    low, high = result.interval
    return f"{result.share:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _beside(parts, part, plain):
    """The results of a grid and, named alike, those of the untouched model in its window."""
    tasks = {result.name.split(" | ")[0] for result in parts[part]}
    whole = [r for r in parts["window"] if r.name in tasks]
    return [dataclasses.replace(r, name=f"{r.name} | {plain}") for r in whole] + parts[part]


def _grid(results, columns, *, windows=False):
    """Rows by task (and length), columns by what was done to the model, from names `task | row | column`."""
    cells = {}
    for result in results:
        *row, column = result.name.split(" | ")
        cells.setdefault(tuple(row), {})[column] = result
    head = ["task", *(["length"] if windows else []), *columns.values()]
    rows = []
    for row, by_column in cells.items():
        name = [row[0], *(f"{int(row[1]) * WINDOW:,}" for _ in [0] if windows)]
        rows.append([*name, *(shown(by_column[c]) if c in by_column else "not measured" for c in columns)])
    return markdown(head, rows)


def dump(path: str | pathlib.Path, runs: list[tuple]) -> None:
    """Results of one or two trainings as JSON, from which the card can be written again."""
    plain = [
        {
            "facts": facts,
            "parts": {part: [dataclasses.asdict(result) for result in results] for part, results in parts.items()},
        }
        for facts, parts in runs
    ]
    pathlib.Path(path).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def load(path: str | pathlib.Path) -> list[tuple]:
    """The runs `[(facts, parts)]` that `dump` wrote."""
    runs = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    return [
        (run["facts"], {part: [Result(**row) for row in results] for part, results in run["parts"].items()})
        for run in runs
    ]


def place(folder: str | pathlib.Path, part: str) -> pathlib.Path:
    """Where the results of one part lie in a training folder."""
    return pathlib.Path(folder) / f"exam-{part}.json"


def measured(folder: str | pathlib.Path, part: str, facts: dict) -> list[Result]:
    """Results of a part that lie in a training folder and are of its weights as they are now."""
    if not place(folder, part).exists():
        return []
    ((then, parts),) = load(place(folder, part))
    return parts[part] if then == facts else []


def collected(folder: str | pathlib.Path) -> tuple[dict, dict]:
    """(facts, parts) of all parts that were measured of a training."""
    known = [load(path)[0] for path in sorted(pathlib.Path(folder).glob("exam-*.json"))]
    if not known:
        raise InputError("nothing was measured of this training", got=folder, hint="python -m labkit.nano evaluate")
    return known[0][0], {part: results for _, parts in known for part, results in parts.items()}


def facts_of(model, mtp, progress: dict, seed: int) -> dict:
    """What the head of the card says about a training."""
    count = lambda part: sum(weight.numel() for weight in part.parameters())  # noqa: E731
    return {
        "seed": seed,
        "tokens": progress["tokens"],
        "steps": progress["step"],
        "parameters": count(model),
        "ahead": count(mtp),
    }
