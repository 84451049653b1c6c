"""Summaries of attention maps beside the layer's own attention, at lengths where no map can be."""

import torch
from torch.nn.attention.bias import causal_lower_right

from labkit import attention, deltanet
from tests.benchmarks.card import Goal, Skip, check
from tests.benchmarks.look import rows_on_card

ROUNDED = {"ratio": ("ratio", "quartiles"), "full": ("linked", "linked_quartiles")}
SEAMS = ["q", "k", "v", "gate", "gated"]
GOALS = (Goal("ratio", 1.0), Goal("full", 1.3))


@check(seconds=5, room=4, goals=GOALS)
def summary_rows(bench):
    """Summary of the last 8,192 rows of 262,144 tokens / flash attention of them; `full` with links, segments."""
    if bench.device.type != "cuda":
        raise Skip("the fused passes run on a card, or in Triton's interpreter (tests/test_attention_fused.py)")
    facts = rows_on_card()
    numbers = {}
    for name, (median, quartiles) in ROUNDED.items():
        low, high = facts[quartiles]
        numbers[name] = dict(median=facts[median], low=low, high=high, rounds=facts["rounds"])
    return numbers | {"error": facts["error"]}, {"tokens": 262_144, "rows": 8192}


@check(seconds=8, room=6, of="period", goals=GOALS)
def summary_32k(bench):
    """`attention.summary` of every row at 32,768 tokens / the layer's own attention; `full` with links, segments."""
    return _summary(bench, 32_768)


@check(seconds=25, room=14, of="period", goals=GOALS)
def summary_131k(bench):
    """`attention.summary` of every row at 131,072 tokens / the layer's own attention; `full` with links, segments."""
    return _summary(bench, 131_072)


@check(seconds=80, room=24, of="period", goals=GOALS)
def summary_262k(bench):
    """`attention.summary` of every row at 262,144 tokens / the layer's own attention; `full` with links, segments."""
    return _summary(bench, 262_144)


@check(seconds=75, room=10, of="period", goals=(Goal("ratio", 1.0),))
def watch_262k(bench):
    """What `attention.watch` of every row adds to a stream of 262,144 tokens / the layer's own attention."""
    lab, ids = bench.period, bench.ids(bench.period, 262_144)
    gates = lambda: deltanet.gates(layers=[0], block=bench.block)  # noqa: E731
    stream = lambda *more: lab.stream(ids, probes=[gates(), *more], chunk=bench.chunk)  # noqa: E731
    times = bench.rivals(
        2,
        watched=lambda: stream(attention.watch(block=bench.block)),
        plain=lambda: stream(),
        own=lambda: own_attention(bench, lab.spec, len(ids)),
    )
    added = [a - b for a, b in zip(times["watched"], times["plain"], strict=True)]
    numbers = {f"{name}_s": bench.spread(taken) for name, taken in times.items()}
    return {"ratio": bench.ratio(added, times["own"])} | numbers, {"tokens": len(ids), "block": bench.block}


def _summary(bench, tokens):
    lab, ids = bench.period, bench.ids(bench.period, tokens)
    (layer,) = lab.spec.attention_layers
    run = lab.trace(ids, layers=[layer], seams=SEAMS, chunk=bench.chunk)
    names = [f"part {9 * n // len(ids)}" for n in range(len(ids))]
    options = dict(layer=layer, block=bench.block)
    times = bench.rivals(
        3,
        summary=lambda: attention.summary(run, **options),
        full=lambda: attention.summary(run, links=16, segments=names, **options),
        own=lambda: own_attention(bench, lab.spec, len(ids)),
    )
    numbers = {"ratio": bench.ratio(times["summary"], times["own"]), "full": bench.ratio(times["full"], times["own"])}
    numbers |= {f"{name}_s": bench.spread(taken) for name, taken in times.items()}
    return numbers, {"tokens": len(ids), "heads": lab.spec.query_heads, "block": bench.block}


def own_attention(bench, spec, tokens: int) -> None:
    """One layer's attention alone in chunked prefill, by torch's flash kernel, on random input without copied keys."""
    make = lambda heads, length: torch.randn(  # noqa: E731
        1, heads, length, spec.head_dim, device=bench.device, dtype=torch.bfloat16
    )
    k, v, q = make(spec.kv_heads, tokens), make(spec.kv_heads, tokens), make(spec.query_heads, bench.chunk)
    for end in range(bench.chunk, tokens + 1, bench.chunk):
        mask = causal_lower_right(bench.chunk, end)
        torch.nn.functional.scaled_dot_product_attention(q, k[:, :, :end], v[:, :, :end], mask, enable_gqa=True)
