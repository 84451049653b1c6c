"""What one reading of one layer costs, the trace apart."""

import torch

from labkit import attention, deltanet
from labkit.deltanet import implied, unit
from labkit.deltanet.recompute import Inputs
from tests.benchmarks.card import Goal, check
from tests.benchmarks.card.bench import milliseconds


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


@check(seconds=20, room=60, dtype="float32")
def exact_row(bench):
    """One exact row of one DeltaNet head at 1,000,000 tokens: seconds, and GiB at the peak."""
    sizes = dict(key_heads=2, heads=6, dk=16, dv=24) if bench.dry else dict(key_heads=16, heads=48, dk=128, dv=128)
    tokens = bench.length(1_000_000)
    with bench.device:
        x = random_inputs(tokens, **sizes)
    row = lambda: implied(x.q, x.k, g=x.g, beta=x.beta, rows=[tokens - 1], heads=[5])  # noqa: E731
    times = bench.rivals(2, row=row)["row"]
    return {"seconds": bench.spread(times), "peak_GiB": bench.peak(row)}, {"tokens": tokens} | sizes


def random_inputs(tokens: int, *, key_heads: int, heads: int, dk: int, dv: int) -> Inputs:
    """Random inputs of the rule on the default device, long memories and weak writes as in a trained model."""
    q, k = (unit(torch.randn(tokens, key_heads, dk)) for _ in range(2))
    g, beta = -0.05 * torch.rand(tokens, heads), 0.5 * torch.rand(tokens, heads)
    return Inputs(q=q * dk**-0.5, k=k, v=torch.randn(tokens, heads, dv), g=g, beta=beta, state=None)
