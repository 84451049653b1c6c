"""What one reading of one layer costs, the trace apart."""

import torch

from labkit import attention, deltanet
from labkit.deltanet import implied
from tests.benchmarks.card import Goal, check
from tests.benchmarks.card.bench import milliseconds
from tests.benchmarks.memory import random_inputs


@check(seconds=6, room=4, of="period", goals=(Goal("seconds", 1.5),))
def spectrum(bench):
    """`deltanet.spectrum` of one layer of 48 heads at 64 places."""
    lab, ids = bench.period, bench.ids(bench.period, 512)
    run = lab.trace(ids, layers=[0])
    times = bench.rivals(3, spectrum=lambda: deltanet.spectrum(run, layer=0))["spectrum"]
    return {"seconds": bench.spread(times)}, {"tokens": len(ids), "heads": lab.spec.value_heads}


@check(seconds=10, room=6, of="period")
def readings(bench):
    """Readings of one layer at 512 tokens, warm: milliseconds of each."""
    lab, ids = bench.period, bench.ids(bench.period, 512)
    run, (last,) = lab.trace(ids), lab.spec.attention_layers
    calls = {
        "memory": lambda: deltanet.memory(run, layer=0),
        "implied_map": lambda: deltanet.implied_attention(run, layer=0),
        "pattern": lambda: attention.pattern(run, layer=last),
        "summary": lambda: attention.summary(run, layer=last),
        "bands": lambda: attention.bands(run, layer=last, rows=[len(ids) - 1]),
        "bands_by_distance": lambda: attention.bands_by_distance(run, layer=last),
    }
    times = bench.rivals(5, **calls)
    return {f"{name}_ms": milliseconds(taken) for name, taken in times.items()}, {"tokens": len(ids)}


@check(seconds=20, room=40, dtype="float32")
def exact_row(bench):
    """One exact row of one DeltaNet head at 1,000,000 tokens: seconds, and GiB at the peak."""
    sizes = dict(key_heads=2, heads=6, dk=16, dv=24) if bench.dry else dict(key_heads=16, heads=48, dk=128, dv=128)
    tokens = bench.length(1_000_000)
    x = random_inputs(tokens, **sizes)
    x = type(x)(*(part if part is None else part.to(bench.device) for part in (x.q, x.k, x.v, x.g, x.beta, x.state)))
    row = lambda: implied(x.q, x.k, g=x.g, beta=x.beta, rows=[tokens - 1], heads=[5])  # noqa: E731
    times = bench.rivals(2, row=row)["row"]
    with torch.no_grad():
        high = bench.peak(row)
    return {"seconds": bench.spread(times), "peak_GiB": high}, {"tokens": tokens} | sizes
