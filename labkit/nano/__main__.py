"""`python -m labkit.nano train | evaluate | export`."""

import argparse
import json
import pathlib

from labkit.nano import FOLDER


def main(arguments=None):
    """Run one step of the recipe."""
    parser = argparse.ArgumentParser(prog="python -m labkit.nano", description="Train, measure and export nano.")
    parser.add_argument("what", choices=("train", "evaluate", "export"))
    parser.add_argument("--folder", default="nano-training", help="state of the training (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default=None, help="default: the accelerator if there is one")
    parser.add_argument("--samples", type=int, default=1000, help="questions per row of the card")
    options = parser.parse_args(arguments)

    import torch

    from labkit.nano import recipe

    if options.what == "train":
        recipe.train(options.folder, steps=options.steps, seed=options.seed, device=options.device)
    elif options.what == "export":
        recipe.export(options.folder)
        print(f"written to {FOLDER}")
    else:
        from tokenizers import Tokenizer

        model = recipe.trained(options.folder)
        tokenizer = Tokenizer.from_file(str(pathlib.Path(options.folder) / "tokenizer.json"))
        rows = recipe.evaluate(model, tokenizer, samples=options.samples)
        at = torch.load(pathlib.Path(options.folder) / "state.pt", weights_only=True)["progress"]
        count = sum(weight.numel() for weight in model.parameters())
        facts = {"parameters": count, "tokens": at["tokens"], "steps": at["step"], "seed": options.seed}
        text = recipe.card(rows, facts)
        (FOLDER / "README.md").write_text(text, encoding="utf-8")
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
