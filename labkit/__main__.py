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

SESSION = "a recorded session, a folder of them, or the name of an example: bread, garden, tides"


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
    reuse.add_argument("--format", help="of the session; default: found out")
    reuse.add_argument("--thread", help="one conversation or sub-agent of the session alone")
    reuse.add_argument("--model", default="Qwen3.6-27B", help="whose costs are counted; default: %(default)s")
    reuse.add_argument("--variant", default="3.6", help="of the chat template: 3.5, 3.6 or 3.8; default: %(default)s")
    reuse.add_argument("--gpu", default="H200", help="for the times; default: %(default)s")
    reuse.add_argument("--page", metavar="FILE", help="write an interactive page as well, which works offline")
    reuse.set_defaults(run=_reuse)

    text = "a published claim, measured on a model: its number, ours with an interval, and a verdict"
    replicate = commands.add_parser("replicate", help=text, description=text)
    replicate.add_argument("paper", metavar="PAPER", nargs="?", help="an arXiv id, 2603.22473; without one, a list")
    replicate.add_argument("--model", metavar="MODEL", help="as labkit.load takes it; default: $LABKIT_MODEL or nano")
    replicate.add_argument("--dtype", help="of weights and activations; default: the checkpoint's")
    replicate.add_argument("--text", action="append", metavar="FILE", help="UTF-8, again for more; default: sentences")
    replicate.add_argument("--samples", type=int, metavar="N", help="texts or questions; default: the paper's")
    replicate.add_argument("--length", type=int, metavar="N", help="tokens of each; default: the paper's")
    replicate.add_argument("--out", metavar="FILE", help="write a page as well, which works offline")
    replicate.set_defaults(run=_replicate)

    text = "the standard probes of a model on a prompt: a folder with a page that works offline"
    report = commands.add_parser("report", help=text, description=f"{text}. After an interrupt it goes on.")
    report.add_argument("model", metavar="MODEL", nargs="?", help="as labkit.load takes it; default: nano")
    report.add_argument("--prompt", required=True, metavar="FILE", help="text in UTF-8, - for stdin, or a session")
    report.add_argument("--out", required=True, metavar="DIR", help="a new folder, or that of an earlier report")
    report.add_argument("--section", action="append", metavar="NAME", help="this one alone, again for more")
    report.add_argument("--dtype", help="of weights and activations; default: the checkpoint's")
    report.add_argument("--device", help="cpu or cuda; default: a card where there is one")
    report.add_argument("--quantize", help="nf4, int4, int8 or fp8; default: none")
    report.add_argument("--fresh", action="store_true", help="compute also what is there")
    report.set_defaults(run=_report)
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
    from labkit.errors import InputError
    from labkit.reuse import call

    if options.page and pathlib.Path(options.page).is_dir():
        raise InputError("a page is a file", got=f"the folder {options.page}", expected="page.html, say")
    if pathlib.Path(options.session).is_dir():
        return _folder(options)
    path = thinking.examples().get(options.session, options.session)
    session = thinking.read_session(path, format=options.format)
    print(session)
    session = _thread(session, options.thread)
    if not (thinks := call.thinks(session)):
        print("no thinking was recorded: counted as replies without thinking")
    tokenizer = _vocabulary()
    counted = dict(variant=options.variant) | ({} if thinks else {"enable_thinking": False})
    costs = dict(spec=spec.read(options.model), gpu=options.gpu, progress=sys.stderr.isatty()) | counted
    data = reuse.compare(session, tokenizer, **costs)
    text = reuse.as_text(data)
    told = any(one.usage and one.usage.input is not None for one in session.calls)
    billed = reuse.billed(session, tokenizer, **counted) if told else None
    if billed is not None:
        text += "\n\n" + reuse.billed_text(billed)
    print("", text, sep="\n")
    if options.page:
        print(f"\nwritten to {_page(options, session, tokenizer, costs, data, billed, text)}")
    return 0


def _thread(session, name):
    from labkit.errors import InputError

    if name is None:
        return session
    if name not in session.threads:
        raise InputError(
            "no such thread in this session", got=name, expected=", ".join(map(repr, session.threads[:20]))
        )
    return session.of(name)


def _vocabulary():
    from labkit import reuse, thinking
    from labkit.errors import BackendError

    try:
        return thinking.tokenizer("qwen3.6")
    except BackendError as error:
        print(f"counted with the small vocabulary of nano: {error.hint}")
        return reuse.small_tokenizer()


def _folder(options):
    from labkit import draw, reuse, spec
    from labkit.errors import InputError

    for name in ("thread", "format"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is of one session", got=f"the folder {options.session}", expected="a file")
    shown = sys.stderr.isatty()
    found, failed = reuse.sessions(options.session, progress=shown)
    if not found:
        print(*(f"not read, {name}: {reason}" for name, reason in failed.items()), sep="\n")
        return 1
    costs = dict(spec=spec.read(options.model), gpu=options.gpu, variant=options.variant, progress=shown)
    ds = reuse.across(found, _vocabulary(), **costs)
    text = reuse.across_text(ds, failed)
    print(text)
    if options.page:
        title = f"Tokens of prompts that are computed, states saved at {ds.attrs['snapshots']}"
        figures = [draw.bars(ds, "recomputed", x="session", color="policy", title=title)]
        name = f"{pathlib.Path(options.session).name}: sessions side by side"
        print(f"\nwritten to {draw.page(options.page, figures, title=name, text=text)}")
    return 0


def _page(options, session, tokenizer, costs, data, billed, text):
    """Where tokens come from by call, what schemes read again, what it takes, why prompts part, what was billed."""
    from labkit import draw, reuse

    figures = []
    for policy in data.policy.values:
        ds = reuse.replay(session, policy=policy, snapshots="end", tokenizer=tokenizer, **costs)
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
    if int(data.parted.sum()):
        figures.append(draw.bars(reuse.parted(data), "parted", x="cause", color="policy", title=title))
    if billed is not None:
        title = "Counted here and billed by the provider; counted ones in its tokens, with what is not in the log"
        figures.append(draw.lines(reuse.curves(billed), "tokens", x="call", color="term", title=title))
    return draw.page(
        options.page, figures, title=f"{pathlib.Path(options.session).name}: what can be reused", text=text
    )


def _replicate(options):
    from labkit import replicate, zoo
    from labkit.errors import InputError

    if options.paper is None:
        print(*(f"{paper.arxiv}  {paper.claim}" for paper in replicate.papers().values()), sep="\n")
        return 0
    paper = replicate.find(options.paper)
    if options.out and pathlib.Path(options.out).is_dir():
        raise InputError("a page is a file", got=f"the folder {options.out}", expected="page.html, say")
    texts = options.text and [_text(file) for file in options.text]
    lab = zoo.load(options.model, dtype=options.dtype)
    ds = replicate.measure(lab, paper.arxiv, texts=texts, samples=options.samples, length=options.length)
    print(replicate.as_text(ds))
    if options.out:
        print(f"\nwritten to {replicate.write(options.out, ds)}")
    return 0


def _report(options):
    from labkit.report import asked

    return asked.run(options)


def _text(file):
    from labkit.errors import InputError

    try:
        return pathlib.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        raise InputError("a text that cannot be read", got=got, expected="a file of text in UTF-8") from None


if __name__ == "__main__":
    sys.exit(main())
