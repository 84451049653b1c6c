"""Speed and memory as ratios measured side by side in one run: `python -m tests.benchmarks [name ...]`.

The model is a random 30M-parameter hybrid: hidden 512, 8 layers, 4 key / 12 value heads of 64, 6 query / 1 kv heads of
128. Rivals alternate, and the median of the paired ratios is reported with its quartiles; nothing is asserted about
time. Memory is the high-water mark of a fresh process, in which large blocks go back to the system at once.

`on_card` is the book of a GPU, with options of its own: see `tests.benchmarks.card`.
"""

import argparse
import importlib
import json
import pathlib
import sys

from labkit.terminal import command
from tests.benchmarks.card import book

PARTS = ("spine", "memory", "look", "sessions", "patching", "clicks")


@command
def main():
    """Run the command."""
    if sys.argv[1:2] == ["on_card"]:
        return book.main(sys.argv[2:])
    parts = {name: importlib.import_module(f"tests.benchmarks.{name}") for name in PARTS}
    questions = [question for part in parts.values() for question in part.QUESTIONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(question.__name__ for question in questions))
    parser.add_argument("--page", type=pathlib.Path, help="a folder for pages of what grows with the length")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        name, *args = options.inside
        part, _, function = name.partition(".")
        print(json.dumps(getattr(parts[part], function)(*map(int, args))))
        return 0
    for question in questions:
        if not options.names or question.__name__ in options.names:
            facts = question()
            shown = "  ".join(f"{key}={_short(value)}" for key, value in facts.items())
            print(f"{question.__name__:24} {shown}\n{'':24} {question.__doc__.splitlines()[0]}", flush=True)
            if options.page and "tokens" in facts:
                print(f"{'':24} {growth(question.__name__, facts, options.page)}", flush=True)
    return 0


def growth(name, facts, folder):
    """Write a page of measured growth, times the shortest length's, beside proportional growth; returns its path."""
    from labkit import draw
    from labkit.notation import Quantity, label

    times = {key: [value / values[0] for value in values] for key, values in facts.items()}
    terms = {"tokens": "proportional", "seconds": "time", "peak_MiB": "peak memory"}
    quantity = Quantity("growth", "times the shortest", "times the shortest", "positive", "this run")
    coords = {"term": [terms.get(key, key) for key in times], "length": facts["tokens"]}
    facts_of = {"model": "random-30M", "reading": f"tests.benchmarks {name}"}
    ds = label({"growth": (("term", "length"), list(times.values()), quantity)}, coords=coords, attrs=facts_of)
    last = facts["tokens"][-1] / facts["tokens"][0]
    grown = ", ".join(f"{terms.get(key, key)} x {times[key][-1]:.3g}" for key in times if key != "tokens")
    fig = draw.lines(ds, "growth", x="length", color="term", title=f"{last:.0f} times the tokens: {grown}")
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.html"
    fig.update_yaxes(type="log", autorange=True).write_html(page, include_plotlyjs=True, config=draw.CONFIG)
    return page


def _short(value):
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
