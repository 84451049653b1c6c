"""What the benchmarks are made of: the model, paired timings, high-water marks of fresh processes."""

import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # the tiny models of the tests
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


def deep(tokens=64):
    """(lab, ids) of 64 layers of width 32, three DeltaNet layers to each of attention."""
    import tiny
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=64, layer_types=None)
    sizes |= dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    sizes |= dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8)
    sizes |= dict(rope_parameters=SIZES["rope_parameters"] | dict(partial_rotary_factor=0.5, mrope_section=[1, 1, 0]))
    return tiny.make_lab(tiny.model(**sizes), "deep"), tiny.ids(tokens)


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
    gc.collect()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    kept = call()
    high = status("VmHWM")
    del kept
    return high - before


def status(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def fresh(name, *args):
    """The result of `module.function(*args)` of this folder in a process of its own; args are integers."""
    env = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.benchmarks", "--inside", name, *map(str, args)]
    done = subprocess.run(command, env=env, cwd=HERE.parent.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def forward(lab, ids, **options):
    """The plain forward pass, logits of the last token."""
    import torch

    with torch.no_grad():
        return lab.model(ids[None], use_cache=False, logits_to_keep=1, **options)


def prefill(lab, ids, chunk):
    """Chunked prefill as transformers makes it; returns the cache."""
    import torch
    from transformers import DynamicCache

    from labkit.trace import cache_parameter

    cache = DynamicCache(config=lab.model.config)
    with torch.no_grad():
        for part in ids.split(chunk):
            lab.model(part[None], **{cache_parameter(lab.model): cache}, logits_to_keep=1)
    return cache


def seconds(call):
    """Time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
