"""Speed and memory as ratios measured side by side in one run: `python -m tests.benchmarks [name ...]`.

The model is a random 30M-parameter hybrid: hidden 512, 8 layers, 4 key / 12 value heads of 64, 6 query / 1 kv heads of
128. Rivals alternate, and the median of the paired ratios is reported with its quartiles; nothing is asserted about
time. Memory is the high-water mark of a fresh process, in which large blocks go back to the system at once.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]
SIZES = dict(
    vocab_size=4096,
    hidden_size=512,
    intermediate_size=1536,
    num_hidden_layers=8,
    layer_types=None,
    num_attention_heads=6,
    num_key_value_heads=1,
    head_dim=128,
    linear_num_key_heads=4,
    linear_num_value_heads=12,
    linear_key_head_dim=64,
    linear_value_head_dim=64,
    max_position_embeddings=65536,
    rope_parameters=dict(
        rope_type="default",
        rope_theta=1e7,
        partial_rotary_factor=0.25,
        mrope_section=[6, 5, 5],
        mrope_interleaved=True,
    ),
)


def make(tokens=1024):
    """(lab, ids) of the 30M hybrid."""
    import tiny
    import torch

    from labkit import spec
    from labkit.lab import Lab

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    model = tiny.model(**SIZES)
    return Lab(model, None, spec.read(model.config), None, "random-30M"), tiny.ids(tokens, vocab=4096)


def paired(ours, theirs, *, rounds=21):
    """Median and quartiles of the ratio of times of two calls, after one warm-up of each; who goes first alternates."""
    ours(), theirs()
    ratios = []
    for turn in range(rounds):
        times = {}
        for call in (ours, theirs) if turn % 2 else (theirs, ours):
            begin = time.perf_counter()
            call()
            times[call] = time.perf_counter() - begin
        ratios.append(times[ours] / times[theirs])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return dict(ratio=middle, quartiles=[low, high], rounds=rounds)


def loop(call, *, rounds=15):
    """Median time of a call that follows itself."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def peak(call):
    """Bytes by which the process grew at its highest, above where it stood."""
    import gc

    gc.collect()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    kept = call()
    high = _status("VmHWM")
    del kept
    return high - before


def _status(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def fresh(name, *args):
    """The result of `python -m tests.benchmarks --inside name args` in a process of its own."""
    env = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(HERE / "__main__.py"), "--inside", name, *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


# ----------------------------------------------------------------------------------------------------- the questions


def trace_all_seams():
    """Trace of every seam of every layer at 1,024 tokens / the plain forward. Goal: at most 1.10.

    Each trace of a pair touches memory that the plain forward before it gave back to the system; `in_a_row` is the
    ratio of two loops, in which every trace finds the memory of the one before.
    """
    lab, ids = make()
    traced, plain = lambda: lab.trace(ids), lambda: forward(lab, ids)
    return paired(traced, plain) | {"in_a_row": loop(traced) / loop(plain)}


def hooks_off():
    """The plain forward of a model that was traced before / of one that never was. Goal: 1.00."""
    lab, ids = make()
    other, _ = make()
    lab.trace(ids)
    return paired(lambda: forward(lab, ids), lambda: forward(other, ids))


def ledgers():
    """Ledgers, norms, gates of all six DeltaNet layers at 1,024 tokens / the plain forward. Goal: at most 0.5."""
    from labkit import deltanet

    lab, ids = make()
    run = lab.trace(ids)
    every = lambda: [deltanet.memory(run, layer=layer) for layer in lab.spec.deltanet_layers]  # noqa: E731
    return paired(every, lambda: forward(lab, ids)) | {"peak_MiB": fresh("ledger_peak") / 2**20}


def pattern_time():
    """Trace and `attention.pattern` of all heads of both layers at 4,096 / eager output_attentions. Goal: at most 1."""
    lab, ids = make(4096)
    eager, _ = make()
    eager.model.set_attn_implementation("eager")
    ours = lambda ids: collections.deque(patterns(lab, ids), maxlen=0)  # noqa: E731
    theirs = lambda ids: forward(eager, ids, output_attentions=True)  # noqa: E731
    short = paired(lambda: ours(ids[:1024]), lambda: theirs(ids[:1024]))
    found = paired(lambda: ours(ids), lambda: theirs(ids), rounds=9)
    return found | {"ratio_1024": short["ratio"], "quartiles_1024": short["quartiles"]}


def pattern_memory():
    """Peak memory of the same / eager, at 4,096 tokens, each layer's maps dropped before the next. Goal: at most 0.5.

    `both_kept` is the ratio when the maps of both layers are kept, as eager attention cannot help doing.
    """
    ours, both, theirs = (fresh(name, 4096) for name in ("pattern_peak", "patterns_peak", "eager_peak"))
    return dict(ratio=ours / theirs, both_kept=both / theirs, ours_MiB=ours / 2**20, eager_MiB=theirs / 2**20)


def rows_memory():
    """Eight chosen rows: memory of the reading at 8,192 tokens / at 4,096. Goal: linear, 2 or less."""
    a, b = fresh("rows_peak", 4096), fresh("rows_peak", 8192)
    return dict(ratio=b / max(a, 1), MiB_4096=a / 2**20, MiB_8192=b / 2**20)


def stream_time():
    """`lab.stream` of 4,096 tokens in chunks of 1,024 with gates / plain chunked prefill. Goal: at most 1.10."""
    from labkit import deltanet

    lab, ids = make(4096)
    ours = lambda: lab.stream(ids, probes=[deltanet.gates()], chunk=1024)  # noqa: E731
    return paired(ours, lambda: prefill(lab, ids, 1024), rounds=9)


def stream_time_all_probes():
    """The same with gates, norms and ledger sums of all six layers. No goal; the price of the ledger."""
    from labkit import deltanet

    lab, ids = make(4096)
    made = lambda: [deltanet.gates(), deltanet.norms(), deltanet.ledger_sums()]  # noqa: E731
    return paired(lambda: lab.stream(ids, probes=made(), chunk=1024), lambda: prefill(lab, ids, 1024), rounds=9)


def stream_memory():
    """Process size after `lab.stream` without keys and values, 32,768 tokens / 4,096. Goal: within 5 % of 1.

    `peak_over_plain` and `peak_beyond_plain_MiB` compare its highest moment with that of plain chunked prefill, at
    both lengths: what the probes add must not grow.
    """
    lengths = (4096, 32768)
    ours, plain = ([fresh(name, tokens) for tokens in lengths] for name in ("stream_held", "prefill_held"))
    return dict(
        ratio=ours[1]["held"] / ours[0]["held"],
        held_MiB=[one["held"] / 2**20 for one in ours],
        peak_over_plain=[a["peak"] / b["peak"] for a, b in zip(ours, plain, strict=True)],
        peak_beyond_plain_MiB=[(a["peak"] - b["peak"]) / 2**20 for a, b in zip(ours, plain, strict=True)],
    )


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


# ------------------------------------------------------------------------------------------- the parts they are made of


def forward(lab, ids, **options):
    import torch

    with torch.no_grad():
        return lab.model(ids[None], use_cache=False, logits_to_keep=1, **options)


def patterns(lab, ids):
    from labkit import attention

    run = lab.trace(ids, layers=lab.spec.attention_layers, keep=["q", "k", "v", "gate", "gated"])
    for layer in lab.spec.attention_layers:
        yield attention.pattern(run, layer=layer)


def prefill(lab, ids, chunk):
    import torch

    cache = lab.cache()
    with torch.no_grad():
        for part in ids.split(chunk):
            lab.model(part[None], past_key_values=cache, logits_to_keep=1)
    return cache


def kv_bytes(cache):
    return sum(
        layer.keys.numel() * layer.keys.element_size() * 2
        for layer in cache.layers
        if not hasattr(layer, "conv_states")
    )


def inside(name, args):
    """One measurement in this process; prints its JSON last."""
    from labkit import attention, deltanet

    tokens = int(args[0]) if args else 1024
    lab, ids = make(tokens)
    forward(lab, ids[:128])
    if name == "ledger_peak":
        run = lab.trace(ids)
        deltanet.memory(run, layer=0)
        return peak(lambda: [deltanet.memory(run, layer=layer) for layer in lab.spec.deltanet_layers])
    if name == "pattern_peak":
        return peak(lambda: collections.deque(patterns(lab, ids), maxlen=0))
    if name == "patterns_peak":
        return peak(lambda: list(patterns(lab, ids)))
    if name == "eager_peak":
        lab.model.set_attn_implementation("eager")
        return peak(lambda: forward(lab, ids, output_attentions=True))
    if name == "rows_peak":
        run = lab.trace(ids, layers=[3], keep=["q", "k", "v", "gate", "gated"])
        attention.pattern(run, layer=3, rows=[5])
        rows = list(range(0, tokens, tokens // 8))
        return peak(lambda: attention.pattern(run, layer=3, rows=rows))
    if name == "prefill_held":
        return dict(peak=peak(lambda: prefill(lab, ids, 1024)))
    caches = []
    grow = lab.cache
    lab.cache = lambda: caches.append(grow()) or caches[-1]
    probes = [deltanet.gates(), deltanet.norms(), deltanet.ledger_sums()]
    high = peak(lambda: lab.stream(ids, probes=probes, chunk=1024))
    import gc

    gc.collect()
    return dict(peak=high, held=_status("VmRSS") - kv_bytes(caches[0]))


QUESTIONS = [trace_all_seams, hooks_off, ledgers, pattern_time, pattern_memory, rows_memory, stream_time]
QUESTIONS += [stream_time_all_probes, stream_memory, start_up, load_nano]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(q.__name__ for q in QUESTIONS))
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(inside(options.inside[0], options.inside[1:])))
        return
    for question in QUESTIONS:
        if not options.names or question.__name__ in options.names:
            facts = question()
            shown = "  ".join(f"{k}={_short(v)}" for k, v in facts.items())
            print(f"{question.__name__:24} {shown}\n{'':24} {question.__doc__.splitlines()[0]}", flush=True)


def _short(value):
    if isinstance(value, list):
        return "/".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
