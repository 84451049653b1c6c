"""Speed and memory as ratios measured side by side in one run: `python -m tests.benchmarks [name ...]`.

The model is a random 30M-parameter hybrid: hidden 512, 8 layers, 4 key / 12 value heads of 64, 6 query / 1 kv heads of
128. Rivals alternate, and the median of the paired ratios is reported with its quartiles; nothing is asserted about
time. Memory is the high-water mark of a fresh process, in which large blocks go back to the system at once.
"""

import argparse
import importlib
import json

PARTS = ("spine", "memory", "look")


def main():
    """Run the command."""
    parts = {name: importlib.import_module(f"tests.benchmarks.{name}") for name in PARTS}
    questions = [question for part in parts.values() for question in part.QUESTIONS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(question.__name__ for question in questions))
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        name, *args = options.inside
        part, _, function = name.partition(".")
        print(json.dumps(getattr(parts[part], function)(*map(int, args))))
        return
    for question in questions:
        if not options.names or question.__name__ in options.names:
            facts = question()
            shown = "  ".join(f"{key}={_short(value)}" for key, value in facts.items())
            print(f"{question.__name__:24} {shown}\n{'':24} {question.__doc__.splitlines()[0]}", flush=True)


def _short(value):
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
