"""Tracing, prefill and long prompts: what looking adds to the pass."""

import tiny

import labkit
from labkit import attention, deltanet, yarn
from labkit.spec import GPUS
from labkit.spec.compute import prefill_seconds
from tests.benchmarks.card import Goal, check
from tests.benchmarks.card.bench import milliseconds, per_second, two

DEEP = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=64, layer_types=None)  # no arithmetic to speak of
DEEP |= dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
DEEP |= dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8)
DEEP |= dict(
    rope_parameters=dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.5, mrope_section=[1, 1, 0])
)


@check(seconds=12, room=10, of="27B", goals=(Goal("ratio", 1.05),))
def trace(bench):
    """A trace of all seams of all layers at 512 tokens / the plain pass."""
    return _traced(bench, 9)


@check(seconds=30, room=10, of="27B", goals=(Goal("ratio", 2),))
def trace_host(bench):
    """A trace of all seams of all layers at 512 tokens, moved to the host / the plain pass."""
    return _traced(bench, 5, device="cpu")


@check(seconds=12, room=6, of="27B")
def trace_few(bench):
    """A trace of `resid_post` of every layer, and of one seam of one layer, at 512 tokens / the plain pass."""
    lab, ids = bench.big, bench.ids(bench.big, 512)
    layer = lab.spec.attention_layers[0]
    times = bench.rivals(
        15,
        plain=lambda: bench.forward(lab, ids),
        resid_post=lambda: lab.trace(ids, seams=["resid_post"]),
        one_seam=lambda: lab.trace(ids, layers=[layer], seams=["q"]),
    )
    numbers = {name: bench.ratio(times[name], times["plain"]) for name in ("resid_post", "one_seam")}
    return numbers | {"plain_ms": milliseconds(times["plain"])}, {"tokens": len(ids)}


@check(seconds=30, room=1, goals=(Goal("ratio", 1.15),), card=False, dtype="float32")
def trace_deep(bench):
    """A trace of all seams of 64 layers of width 32 at 64 tokens / the plain pass: what hooks cost alone."""
    sizes = DEEP | ({"num_hidden_layers": 8} if bench.dry else {})
    lab = tiny.make_lab(tiny.model(**sizes).to(bench.device), "deep")
    ids = tiny.ids(64)
    times = bench.rivals(101, traced=lambda: lab.trace(ids), plain=lambda: bench.forward(lab, ids))
    numbers = {f"{name}_ms": milliseconds(taken) for name, taken in times.items()}
    sizes = {"tokens": len(ids), "layers": lab.spec.layers, "hidden": lab.spec.hidden}
    return {"ratio": bench.ratio(times["traced"], times["plain"])} | numbers, sizes


def _traced(bench, rounds, **options):
    lab, ids = bench.big, bench.ids(bench.big, 512)
    run = lab.trace(ids, **options)
    sizes = dict(tokens=len(ids), seams=len(run.seams), seams_GiB=round(run.seams.nbytes / 2**30, 2))
    del run
    times = bench.rivals(rounds, traced=lambda: lab.trace(ids, **options), plain=lambda: bench.forward(lab, ids))
    numbers = {f"{name}_ms": milliseconds(taken) for name, taken in times.items()}
    return {"ratio": bench.ratio(times["traced"], times["plain"])} | numbers, sizes


# ------------------------------------------------------------------------------------------------------- prefill


@check(seconds=75, room=7, of="27B", goals=(Goal("ratio", 1.03),))
def probes(bench):
    """Gates and norms of two layers in a prefill of 32,768 tokens / probes off.

    `watched` is the same ratio with `attention.watch(samples=8)` and `watch_bands(samples=1)` of two layers as well.
    """
    lab, ids = bench.big, bench.ids(bench.big, 32_768)
    stream = lambda probes: lab.stream(ids, probes=probes, chunk=bench.chunk)  # noqa: E731
    times = bench.rivals(
        3,
        plain=lambda: bench.prefill(lab, ids),
        light=lambda: stream(light(bench, lab)),
        watched=lambda: stream(light(bench, lab) + watching(bench, lab)),
    )
    numbers = {"ratio": bench.ratio(times["light"], times["plain"])}
    numbers["watched"] = bench.ratio(times["watched"], times["plain"])
    speeds = {f"{name}_tokens_per_s": per_second(len(ids), taken) for name, taken in times.items()}
    return numbers | speeds, {"tokens": len(ids), "chunk": bench.chunk}


@check(seconds=90, room=9, of="27B")
def attentions(bench):
    """Plain prefill of 65,536 tokens with `attention="flash"` / with "sdpa", as transformers computes it."""
    lab, ids, times = bench.big, bench.ids(bench.big, 65_536), {}
    try:
        for name in ("sdpa", "flash"):
            chosen = labkit.wrap(lab.model, attention=name)
            bench.prefill(chosen, ids[: 2 * bench.chunk])
            times[name] = [bench.seconds(lambda: bench.prefill(lab, ids))]
    finally:
        labkit.wrap(lab.model, attention="auto")
    numbers = {"ratio": bench.ratio(times["flash"], times["sdpa"])}
    return numbers | {f"{name}_s": taken[0] for name, taken in times.items()}, {"tokens": len(ids)}


@check(seconds=100, room=22, of="27B", goals=(Goal("seconds", 60),))
def prefill_262k(bench):
    """Prefill of 262,144 tokens with gates and norms of two layers: seconds, and GiB at the peak, weights included.

    `of_bound` is the share of the card's arithmetic peak, where the card is one that `labkit.spec` knows.
    """
    return _long(bench, bench.big, 262_144, light)


@check(seconds=115, room=7, of="27B")
def kv_host(bench):
    """Prefill of 32,768 tokens with keys and values on the host / on the card."""
    lab, ids = bench.big, bench.ids(bench.big, 32_768)
    stream = lambda where: lab.stream(ids, probes=light(bench, lab), chunk=bench.chunk, kv_device=where)  # noqa: E731
    times = bench.rivals(3, host=lambda: stream("cpu"), card=lambda: stream(None))
    speeds = {f"{name}_tokens_per_s": per_second(len(ids), taken) for name, taken in times.items()}
    return {"ratio": bench.ratio(times["host"], times["card"])} | speeds, {"tokens": len(ids), "chunk": bench.chunk}


@check(seconds=300, room=41, of="27B")
def half_a_million(bench):
    """Prefill of 524,288 tokens under YaRN 2, with summaries and bands of two layers: seconds and peak."""
    with yarn.scaled(bench.big, 2):
        return _long(bench, bench.big, 524_288, heavy)


@check(seconds=720, room=73, of="27B", goals=(Goal("seconds", 720), Goal("peak_GiB", 139)))
def million(bench):
    """Prefill of 1,010,000 tokens in one pass under YaRN 4, with gates and norms of two layers: seconds and peak."""
    with yarn.scaled(bench.big, 4):
        return _long(bench, bench.big, 1_010_000, light)


def light(bench, lab):
    """Probes that cost next to nothing."""
    layers = two(lab.spec.deltanet_layers)
    return [deltanet.gates(layers=layers, block=bench.block), deltanet.norms(layers=layers, block=bench.block)]


def heavy(bench, lab):
    """Sampled rows and norms."""
    return watching(bench, lab) + light(bench, lab)[1:]


def watching(bench, lab):
    """Probes of attention rows, sampled."""
    options = dict(layers=two(lab.spec.attention_layers), block=bench.block)
    return [attention.watch(samples=8, **options), attention.watch_bands(samples=1, **options)]


def _long(bench, lab, tokens, probes):
    ids, took = bench.ids(lab, tokens), []
    stream = lambda ids: lab.stream(ids, probes=probes(bench, lab), chunk=bench.chunk, progress=True)  # noqa: E731
    stream(ids[: 2 * bench.chunk])
    high = bench.peak(lambda: took.append(bench.seconds(lambda: stream(ids))))
    numbers = dict(seconds=took[0], tokens_per_s=len(ids) / took[0], peak_GiB=high)
    bounds = [prefill_seconds(lab.spec, len(ids), gpu) for gpu in GPUS if gpu in bench.card]
    numbers |= {"of_bound": bounds[0] / took[0]} if bounds else {}
    return numbers, {"tokens": len(ids), "chunk": bench.chunk}
