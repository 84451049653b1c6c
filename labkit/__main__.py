"""The `labkit` command: what a model costs, and whether the installed packages are sound.

Anything heavy is imported by the subcommand that needs it, so that `labkit --help` answers at once.
"""

import argparse
import os
import pathlib
import sys

import labkit
from labkit.errors import LabError


def main(arguments=None):
    """Run the command; returns the exit status: 0, or 1 with the reason on stderr.

    Args:
        arguments: words of the command line; None takes the process's.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["doctor"]:  # has options of its own
            return _doctor(words[1:])
        options = _parser().parse_args(words)
        return options.run(options)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser(prog="labkit", description="Look inside hybrid-attention language models.")
    parser.add_argument("--version", action="version", version=f"labkit {labkit.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser("doctor", help="check the installed packages for known traps")

    text = "anatomy and cost of a model, from its configuration alone"
    plan = commands.add_parser("plan", help=text, description=text)
    plan.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="a folder, a config.json or a published size such as Qwen3.6-27B; default: $LABKIT_MODEL or nano",
    )
    plan.add_argument("--tokens", type=int, metavar="N", help="context length; default: the model's window")
    plan.add_argument("--gpu", default="H200", help="for the times; default: %(default)s")
    plan.add_argument("--dtype", default="bfloat16", help="of weights and activations; default: %(default)s")
    plan.add_argument("--quantize", help="nf4, int4, int8 or fp8; default: none")
    plan.set_defaults(run=_plan)
    return parser


def _doctor(words):
    from labkit import doctor

    return doctor.main(words)


def _plan(options):
    from labkit import spec

    model = options.model or os.environ.get("LABKIT_MODEL") or "nano"
    found = spec.read(pathlib.Path(__file__).parent / "nano" if model == "nano" else model)
    card = found.card(tokens=options.tokens, gpu=options.gpu, dtype=options.dtype, quantize=options.quantize)
    print(found, card, sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
