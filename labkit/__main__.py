"""The `labkit` command: what a model costs, which cards hold it, what a session could reuse, whether the packages work.

Anything heavy is imported by the subcommand that needs it, so that `labkit --help` answers at once.
"""

import argparse
import os
import pathlib
import sys

import labkit
from labkit.errors import LabError
from labkit.terminal import command

SESSION = "JSON or JSONL: OpenAI, Claude Code, pi, ATIF, ShareGPT; or the name of an example: bread, garden, tides"


@command
def main(arguments: list[str] | None = None) -> int:
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

    commands.add_parser("doctor", help="check the installed packages for known traps, or a checkpoint: doctor FOLDER")

    text = "anatomy and cost of a model, from its configuration alone"
    plan = commands.add_parser("plan", help=text, description=text)
    plan.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="a folder, a config.json, a .gguf file, a published size (Qwen3.6-27B); default: $LABKIT_MODEL or nano",
    )
    plan.add_argument("--tokens", type=int, metavar="N", help="context length; default: the model's window")
    plan.add_argument("--gpu", default="H200", help="for the times; default: %(default)s")
    plan.add_argument("--dtype", default="bfloat16", help="of weights and activations; default: %(default)s")
    plan.add_argument("--quantize", help="nf4, int4, int8 or fp8; default: none")
    plan.set_defaults(run=_plan)

    text = "which contexts fit cards of 24 to 141 GB, by how the weights are stored, and beside which probes"
    fit = commands.add_parser("fit", help=text, description=text)
    fit.add_argument("model", metavar="MODEL", nargs="?", help="as for plan")
    fit.add_argument("--gpu", action="append", help="a card, again for more; default: one each of 24 to 141 GB")
    fit.add_argument("--dtype", default="bfloat16", help="of weights, activations and keys; default: %(default)s")
    fit.add_argument("--chunk", type=int, default=2048, metavar="N", help="tokens of a chunk; default: %(default)s")
    fit.add_argument("--tokens", type=int, metavar="N", help="at most so many; default: four windows")
    fit.set_defaults(run=_fit)

    text = "what of a recorded session's cache could be used again, under both policies of thinking"
    reuse = commands.add_parser("reuse", help=text, description=text)
    reuse.add_argument("session", metavar="SESSION", help=SESSION)
    reuse.add_argument("--model", default="Qwen3.6-27B", help="whose costs are counted; default: %(default)s")
    reuse.add_argument("--variant", default="3.6", help="of the chat template: 3.5, 3.6 or 3.8; default: %(default)s")
    reuse.add_argument("--gpu", default="H200", help="for the times; default: %(default)s")
    reuse.add_argument("--page", metavar="FILE", help="write an interactive page as well, which works offline")
    reuse.set_defaults(run=_reuse)
    return parser


def _doctor(words):
    from labkit import doctor

    return doctor.main(words)


def _plan(options):
    anatomy = _anatomy(options.model)
    card = anatomy.card(tokens=options.tokens, gpu=options.gpu, dtype=options.dtype, quantize=options.quantize)
    print(anatomy, card, sep="\n\n")
    return 0


def _fit(options):
    from labkit import plan

    asked = dict(dtype=options.dtype, chunk=options.chunk, most=options.tokens)
    print(plan.fit(_anatomy(options.model), cards=options.gpu or plan.CARDS, **asked))
    return 0


def _anatomy(model):
    from labkit import spec

    model = model or os.environ.get("LABKIT_MODEL") or "nano"
    path = pathlib.Path(model)
    if path.suffix == ".gguf" or any(path.glob("*.gguf")):
        from labkit.zoo import gguf

        if (file := gguf.alone(path) if path.is_dir() else path) is not None:
            return gguf.anatomy(file)
    return spec.read(pathlib.Path(__file__).parent / "nano" if model == "nano" else model)


def _reuse(options):
    from labkit import reuse, spec, thinking
    from labkit.errors import BackendError, InputError

    if options.page and pathlib.Path(options.page).is_dir():
        raise InputError("a page is a file", got=f"the folder {options.page}", expected="page.html, say")
    session = thinking.read_session(thinking.examples().get(options.session, options.session))
    print(session)
    thinks = any(turn.get("reasoning_content") or "</think>" in str(turn["content"]) for turn in session.messages)
    if not thinks:
        print("no thinking was recorded: counted as replies without thinking")
    try:
        tokenizer = thinking.tokenizer("qwen3.6")
    except BackendError as error:
        tokenizer = reuse.small_tokenizer()
        print(f"counted with the small vocabulary of nano: {error.hint}")
    costs = dict(spec=spec.read(options.model), gpu=options.gpu)
    costs |= dict(variant=options.variant, tools=session.tools, progress=sys.stderr.isatty())
    costs |= {} if thinks else {"enable_thinking": False}
    data = reuse.compare(session.messages, tokenizer, **costs)
    text = reuse.as_text(data)
    print("", text, sep="\n")
    if options.page:
        print(f"\nwritten to {_page(options, session, tokenizer, costs, data, text)}")
    return 0


def _page(options, session, tokenizer, costs, data, text):
    """Where tokens come from call by call, what schemes read again, what it takes and why prompts part."""
    from labkit import draw, reuse

    figures = []
    for policy in data.policy.values:
        ds = reuse.replay(session.messages, policy=policy, snapshots="end", tokenizer=tokenizer, **costs)
        title = f"{policy}: what each prompt is made of, with states saved where a request ends"
        figures.append(draw.bars(reuse.timeline(ds), "tokens", x="call", color="term", stacked=True, title=title))
    title = "Tokens that are computed, by where states are saved; the first bars are a model with attention alone"
    figures.append(draw.bars(data, "recomputed", x="scheme", color="policy", title=title))
    seconds = reuse.costs(data)
    for policy in data.policy.values:
        title = f"{policy}: seconds of the whole session on {data.attrs['gpu']}, lower bounds"
        figures.append(
            draw.bars(seconds.sel(policy=policy), "seconds", x="scheme", color="phase", stacked=True, title=title)
        )
    title = "Why the prompt of a call parts from what was cached; none: it continues it"
    if data.attrs["calls"] > 1:
        figures.append(draw.bars(reuse.parted(data), "parted", x="cause", color="policy", title=title))
    return draw.page(
        options.page, figures, title=f"{pathlib.Path(options.session).name}: what can be reused", text=text
    )


if __name__ == "__main__":
    sys.exit(main())
