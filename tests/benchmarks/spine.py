"""The spine: tracing, patterns, ledgers, streams, start-up."""

import collections
import gc
import statistics
import subprocess
import sys
import time

from tests.benchmarks.tools import HERE, deep, forward, fresh, loop, make, paired, peak, prefill, seconds, status


def trace_all_seams():
    """Trace of every seam of every layer at 1,024 tokens / the plain forward. Goal: at most 1.10.

    Each trace of a pair touches memory that the plain forward before it gave back to the system; `in_a_row` is the
    ratio of two loops, in which every trace finds the memory of the one before.
    """
    lab, ids = make()
    traced, plain = lambda: lab.trace(ids), lambda: forward(lab, ids)
    return paired(traced, plain) | {"in_a_row": loop(traced) / loop(plain)}


def trace_deep():
    """Trace of all seams of 64 layers of width 32 at 64 tokens / the plain forward. Goal: at most 1.15.

    So narrow a model costs nothing but its layers' overhead, which is what tracing adds to. `ratio_16` is at 16 tokens.
    """
    lab, ids = deep()
    long = paired(lambda: lab.trace(ids), lambda: forward(lab, ids))
    short = paired(lambda: lab.trace(ids[:16]), lambda: forward(lab, ids[:16]))
    return long | {"ratio_16": short["ratio"], "quartiles_16": short["quartiles"]}


def trace_one_deep():
    """Trace of one seam of the same / the plain forward. Goal: at most 1.02.

    `fixed_us` is what a call costs beside its pass: a trace of no layer less a plain forward, median of pairs.
    """
    lab, ids = deep()
    one = paired(lambda: lab.trace(ids, layers=[3], seams=["q"]), lambda: forward(lab, ids), rounds=41)
    pairs = [(seconds(lambda: lab.trace(ids, layers=[])), seconds(lambda: forward(lab, ids))) for _ in range(41)]
    return one | {"fixed_us": 1e6 * statistics.median(none - plain for none, plain in pairs)}


def hooks_off():
    """The plain forward of a model that was traced before / of one that never was. Goal: 1.00."""
    lab, ids = make()
    other, _ = make()
    lab.trace(ids)
    return paired(lambda: forward(lab, ids), lambda: forward(other, ids))


def knowing():
    """Identity, mode and turn of a call / a trace of one seam at 41 tokens, the shortest that one makes. Goal: 0.01."""
    import labkit
    from labkit import passes

    lab = labkit.load("nano")
    ids = lab.encode("red fox " * 20)

    def known():
        with lab.scopes.call():
            passes.check_mode(lab)
            return lab.seen

    def hundred():
        for _ in range(100):
            known()

    found = paired(hundred, lambda: lab.trace(ids, layers=[3], seams=["q"]))
    return found | {"ratio": found["ratio"] / 100, "quartiles": [edge / 100 for edge in found["quartiles"]]}


def memories():
    """`deltanet.memory` of all six DeltaNet layers at 1,024 tokens / the plain forward. Goal: at most 0.5."""
    from labkit import deltanet

    lab, ids = make()
    run = lab.trace(ids)
    every = lambda: [deltanet.memory(run, layer=layer) for layer in lab.spec.deltanet_layers]  # noqa: E731
    return paired(every, lambda: forward(lab, ids)) | {"peak_MiB": fresh("spine.memory_peak") / 2**20}


def pattern_time():
    """Trace and `attention.pattern` of all heads of both layers at 4,096 / eager output_attentions. Goal: at most 1."""
    lab, ids = make(4096)
    eager, _ = make()
    eager.model.set_attn_implementation("eager")
    ours = lambda ids: collections.deque(patterns(lab, ids), maxlen=0)  # noqa: E731
    theirs = lambda ids: forward(eager, ids, output_attentions=True)  # noqa: E731
    short = paired(lambda: ours(ids[:1024]), lambda: theirs(ids[:1024]))
    long = paired(lambda: ours(ids), lambda: theirs(ids), rounds=9)
    return long | {"ratio_1024": short["ratio"], "quartiles_1024": short["quartiles"]}


def pattern_memory():
    """Peak memory of the same / eager, at 4,096 tokens, each layer's maps dropped before the next. Goal: at most 0.5.

    `both_kept` is the ratio when the maps of both layers are kept, as eager attention cannot help doing.
    """
    ours, both, theirs = (fresh(f"spine.{name}", 4096) for name in ("pattern_peak", "patterns_peak", "eager_peak"))
    return dict(ratio=ours / theirs, both_kept=both / theirs, ours_MiB=ours / 2**20, eager_MiB=theirs / 2**20)


def rows_memory():
    """Eight chosen rows: memory of the reading at 8,192 tokens / at 4,096. Goal: linear, 2 or less."""
    a, b = fresh("spine.rows_peak", 4096), fresh("spine.rows_peak", 8192)
    return dict(ratio=b / max(a, 1), MiB_4096=a / 2**20, MiB_8192=b / 2**20)


def stream_time():
    """`lab.stream` of 4,096 tokens in chunks of 1,024 with gates / plain chunked prefill. Goal: at most 1.10."""
    from labkit import deltanet

    lab, ids = make(4096)
    ours = lambda: lab.stream(ids, probes=[deltanet.gates()], chunk=1024)  # noqa: E731
    return paired(ours, lambda: prefill(lab, ids, 1024), rounds=9)


def stream_time_all_probes():
    """The same with gates, norms and updates of all six layers. No goal; the price of the walk over states."""
    from labkit import deltanet

    lab, ids = make(4096)
    made = lambda: [deltanet.gates(), deltanet.norms(), deltanet.updates()]  # noqa: E731
    return paired(lambda: lab.stream(ids, probes=made(), chunk=1024), lambda: prefill(lab, ids, 1024), rounds=9)


def stream_memory():
    """Process size after `lab.stream` without keys and values, 32,768 tokens / 4,096. Goal: within 5 % of 1.

    `peak_over_plain` and `peak_beyond_plain_MiB` compare its highest moment with that of plain chunked prefill, at
    both lengths: what the probes add must not grow.
    """
    lengths = (4096, 32768)
    ours, plain = ([fresh(f"spine.{name}", tokens) for tokens in lengths] for name in ("stream_held", "prefill_held"))
    return dict(
        ratio=ours[1]["held"] / ours[0]["held"],
        held_MiB=[facts["held"] / 2**20 for facts in ours],
        peak_over_plain=[a["peak"] / b["peak"] for a, b in zip(ours, plain, strict=True)],
        peak_beyond_plain_MiB=[(a["peak"] - b["peak"]) / 2**20 for a, b in zip(ours, plain, strict=True)],
    )


def decode_time():
    """A step after 8,192 tokens and more, keys and values in blocks / concatenated by transformers. Goal: at most 1.

    2,000 tokens, both caches in turn; `growing` is the median of the last 200 steps over that of the first 200.
    """
    import torch
    from transformers import DynamicCache

    from labkit.trace import cache_parameter

    lab, ids = make(8192)
    name, caches, times = cache_parameter(lab.model), [lab.cache(), DynamicCache(config=lab.model.config)], [[], []]
    with torch.no_grad():
        for cache in caches:
            for part in ids.split(2048):
                lab.model(part[None], **{name: cache}, logits_to_keep=1)
        for at in range(2000):
            for turn in (0, 1) if at % 2 else (1, 0):
                begin = time.perf_counter()
                lab.model(ids[None, at : at + 1], **{name: caches[turn]})
                times[turn].append(time.perf_counter() - begin)
    ratios = [ours / theirs for ours, theirs in zip(*times, strict=True)]
    growing = [statistics.median(each[-200:]) / statistics.median(each[:200]) for each in times]
    quartiles = statistics.quantiles(ratios, n=4)
    return dict(ratio=quartiles[1], quartiles=quartiles[::2], growing=growing, ms=1e3 * statistics.median(times[0]))


def start_up():
    """Start of `import labkit` and of `labkit --help` / a bare interpreter; goal: each under one second."""

    def run(code):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *code], check=True, capture_output=True, cwd=HERE.parent.parent)
        return time.perf_counter() - begin

    bare, lib, command = ["-c", "pass"], ["-c", "import labkit"], ["-m", "labkit", "--help"]
    times = [(run(bare), run(lib), run(command)) for _ in range(5)]
    bare, lib, command = (statistics.median(column) for column in zip(*times, strict=True))
    return dict(import_ratio=lib / bare, help_ratio=command / bare, under_one_second=max(lib, command) < 1)


def load_nano():
    """`load("nano")` once transformers is imported / importing torch and transformers; goal: under one second."""
    import torch  # noqa: F401
    from transformers import AutoTokenizer, Qwen3_5ForCausalLM  # noqa: F401

    import labkit

    labkit.load("nano")
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        labkit.load("nano")
        times.append(time.perf_counter() - begin)
    bare = "import torch; from transformers import AutoTokenizer, Qwen3_5ForCausalLM"
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", bare], check=True, capture_output=True)
    imports = time.perf_counter() - begin
    return dict(ratio=statistics.median(times) / imports, under_one_second=statistics.median(times) < 1)


# ------------------------------------------------------------------------------- measured in processes of their own


def patterns(lab, ids):
    from labkit import attention

    run = lab.trace(ids, layers=lab.spec.attention_layers, seams=["q", "k", "v", "gate", "gated"])
    for layer in lab.spec.attention_layers:
        yield attention.pattern(run, layer=layer)


def ready(tokens):
    lab, ids = make(tokens)
    forward(lab, ids[:128])
    return lab, ids


def memory_peak(tokens=1024):
    from labkit import deltanet

    lab, ids = ready(tokens)
    run = lab.trace(ids)
    deltanet.memory(run, layer=0)
    return peak(lambda: [deltanet.memory(run, layer=layer) for layer in lab.spec.deltanet_layers])


def pattern_peak(tokens):
    lab, ids = ready(tokens)
    return peak(lambda: collections.deque(patterns(lab, ids), maxlen=0))


def patterns_peak(tokens):
    lab, ids = ready(tokens)
    return peak(lambda: list(patterns(lab, ids)))


def eager_peak(tokens):
    lab, ids = ready(tokens)
    lab.model.set_attn_implementation("eager")
    return peak(lambda: forward(lab, ids, output_attentions=True))


def rows_peak(tokens):
    from labkit import attention

    lab, ids = ready(tokens)
    run = lab.trace(ids, layers=[3], seams=["q", "k", "v", "gate", "gated"])
    attention.pattern(run, layer=3, rows=[5])
    return peak(lambda: attention.pattern(run, layer=3, rows=list(range(0, tokens, tokens // 8))))


def prefill_held(tokens):
    lab, ids = ready(tokens)
    return dict(peak=peak(lambda: prefill(lab, ids, 1024)))


def stream_held(tokens):
    from labkit import deltanet

    lab, ids = ready(tokens)
    caches, grow = [], lab.cache
    lab.cache = lambda **options: caches.append(grow(**options)) or caches[-1]
    probes = [deltanet.gates(), deltanet.norms(), deltanet.updates()]
    high = peak(lambda: lab.stream(ids, probes=probes, chunk=1024))
    gc.collect()
    attention = [caches[0].layers[layer] for layer in lab.spec.attention_layers]
    grown = sum(part.numel() * part.element_size() for layer in attention for part in (layer.keys, layer.values))
    return dict(peak=high, held=status("VmRSS") - grown)


QUESTIONS = [trace_all_seams, trace_deep, trace_one_deep, hooks_off, knowing, memories, pattern_time, pattern_memory]
QUESTIONS += [rows_memory, stream_time, stream_time_all_probes, stream_memory, decode_time, start_up, load_nano]
