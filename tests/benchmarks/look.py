"""Attention without the map: time and memory of summaries beside eager attention, and how both grow."""

from tests.benchmarks.spine import forward, ready
from tests.benchmarks.tools import fresh, make, paired, peak, seconds

SEAMS = ["q", "k", "v", "gate", "gated"]


def summaries(lab, ids, **options):
    """Trace, then the summary of every attention layer; nothing kept."""
    from labkit import attention

    run = lab.trace(ids, layers=lab.spec.attention_layers, seams=SEAMS)
    for layer in lab.spec.attention_layers:
        attention.summary(run, layer=layer, **options)


def summary_time():
    """Trace and `attention.summary` of both layers at 4,096 tokens / eager output_attentions. Goal: at most 1."""
    lab, ids = make(4096)
    eager, _ = make()
    eager.model.set_attn_implementation("eager")
    return paired(lambda: summaries(lab, ids), lambda: forward(eager, ids, output_attentions=True), rounds=7)


def summary_memory():
    """Peak memory of the summaries of a run at 4,096 tokens / eager output_attentions. Goal: under 0.1.

    `with_trace` counts the forward pass and what the trace keeps as well, which eager attention has beside its maps.
    """
    ours, whole, theirs = (fresh(name, 4096) for name in ("look.summary_peak", "look.whole_peak", "spine.eager_peak"))
    return dict(ratio=ours / theirs, with_trace=whole / theirs, ours_MiB=ours / 2**20, eager_MiB=theirs / 2**20)


def summary_growth():
    """Time and memory of trace and summaries from 1,024 to 32,768 tokens. Goal: below 2 GB at 32,768.

    `seconds` are of this machine; each length has twice the tokens of the one before. Eager attention would keep
    6 heads x 32,768² x 4 bytes = 24 GiB for each of the two layers. `--page FOLDER` draws the growth.
    """
    lengths = [fresh("look.streamed", 2**n) for n in range(10, 16)]
    return {name: [facts[name] for facts in lengths] for name in ("tokens", "seconds", "peak_MiB")}


# ------------------------------------------------------------------------------- measured in processes of their own


def summary_peak(tokens):
    from labkit import attention

    lab, ids = ready(tokens)
    run = lab.trace(ids, layers=lab.spec.attention_layers, seams=SEAMS)
    attention.summary(run, layer=lab.spec.attention_layers[0], samples=4)
    return peak(lambda: [attention.summary(run, layer=layer) for layer in lab.spec.attention_layers])


def whole_peak(tokens):
    lab, ids = ready(tokens)
    return peak(lambda: summaries(lab, ids))


def streamed(tokens):
    """The summaries while the model reads, in chunks."""
    from labkit import attention

    lab, ids = ready(tokens)
    took = []
    probes = [attention.watch(block=256)]
    high = peak(lambda: took.append(seconds(lambda: lab.stream(ids, probes=probes, chunk=1024, progress=False))))
    return dict(tokens=tokens, seconds=took[0], peak_MiB=high / 2**20)


QUESTIONS = (summary_time, summary_memory, summary_growth)
