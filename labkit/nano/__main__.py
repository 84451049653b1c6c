"""`python -m labkit.nano train | evaluate | export`; `evaluate` writes the model card too."""

import argparse
import pathlib
import sys

from labkit.nano import FOLDER
from labkit.terminal import command

MILLION = 1_000_000


@command
def main(arguments: list[str] | None = None) -> int:
    """Run one part of the recipe."""
    options = _parser().parse_args(arguments)
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    return {"train": _train, "evaluate": _evaluate, "export": _export}[options.what](options) or 0


def _parser():
    parser = argparse.ArgumentParser(prog="python -m labkit.nano", description="Train, measure and export nano.")
    parser.add_argument("what", choices=("train", "evaluate", "export"))
    parser.add_argument("--folder", default="nano-training", help="state of the training (default: %(default)s)")
    parser.add_argument("--tokens", type=float, default=20, help="train: so many million (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="train: of the data (default: %(default)s)")
    parser.add_argument("--device", default=None, help="train: default is the accelerator if there is one")
    parser.add_argument("--threads", type=int, default=1, help="of torch; more only wait for each other (default: 1)")
    parser.add_argument("--samples", type=int, default=1000, help="evaluate: questions per row (default: %(default)s)")
    parser.add_argument(
        "--parts", default="window,chat,ahead,long,knocked", help="evaluate: these alone, and no card (default: all)"
    )
    parser.add_argument("--other", metavar="FOLDER", help="evaluate: a measured training to show beside this one")
    parser.add_argument(
        "--embedded", action="store_true", help="evaluate: the embedded checkpoint, rows of its card not yet measured"
    )
    return parser


def _train(options):
    from labkit.nano import recipe

    recipe.Training(options.folder, total=int(options.tokens * MILLION), seed=options.seed, device=options.device).run()


def _evaluate(options):
    """Measure what the folder's `exam` has not yet; with all parts measured, write the card."""
    from labkit.nano import card, exam

    parts = options.parts.split(",")
    if options.embedded:
        _complete(options, parts)
        return
    folder = pathlib.Path(options.folder)
    facts, subject = _of_folder(folder, options.samples)
    known = {part: card.measured(folder, part, facts) for part in exam.PARTS}
    keep = lambda part: card.dump(card.place(folder, part), [(facts, {part: known[part]})])  # noqa: E731
    _measure(subject, parts, known, keep)
    if parts == list(exam.PARTS):
        runs = [(facts, known)]
        if options.other:
            runs.append(card.collected(options.other))
        card.dump(FOLDER / "exam.json", runs)
        card.write(FOLDER / "README.md", runs)


def _complete(options, parts):
    """Measure what the card of the embedded checkpoint lacks, and write the card again."""
    from labkit.nano import card, exam, recipe

    runs = card.load(FOLDER / "exam.json")
    subject = exam.Exam(*recipe.embedded(), _deck(FOLDER), samples=options.samples)
    _measure(subject, parts, runs[0][1], lambda part: card.dump(FOLDER / "exam.json", runs))
    card.write(FOLDER / "README.md", runs)


def _of_folder(folder, samples):
    """(facts, `Exam`) of the training that lies in a folder."""
    import torch

    from labkit.nano import card, exam, recipe

    state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    model, mtp = recipe.trained(folder)
    facts = card.facts_of(model, mtp, state["progress"], state["seed"])
    return facts, exam.Exam(model, mtp, _deck(folder), samples=samples)


def _deck(folder):
    """What questions are drawn from, read with the folder's tokenizer."""
    import random

    from tokenizers import Tokenizer

    from labkit.nano import lessons, recipe

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lessons.Deck(tokenizer, recipe.plain_text(tokenizer), random.Random(0))


def _measure(subject, parts, known, keep):
    """Ask what is not in `known` {part: results} yet; each result is added to it, kept and printed."""
    from labkit.nano import card, exam

    def note(part, result):
        known[part].append(result)
        keep(part)
        print(f"{result.name:56} {card.shown(result)}", flush=True)

    exam.examine(subject, parts, {(part, result.name) for part in known for result in known[part]}, note)


def _export(options):
    from labkit.nano import export

    export.export(options.folder)
    print(f"written to {FOLDER}")


if __name__ == "__main__":
    sys.exit(main())
