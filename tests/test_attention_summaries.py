"""The summary without the map says what the dense map says, in float64, for every shape of the problem."""

import math

import pytest
import tiny
import torch

from labkit import attention
from labkit.attention import summaries as module
from labkit.errors import InputError, LayerError

IDS = tiny.ids(150)


def dense(q, k, first=0, scale=None):
    """Softmax weights [head, row, source] in float64."""
    shared = q.shape[1] // k.shape[1]
    keys = k.repeat_interleave(shared, 1).double()
    logits = torch.einsum("thd,shd->hts", q.double(), keys) * (q.shape[-1] ** -0.5 if scale is None else scale)
    hidden = torch.arange(len(k))[None] > torch.arange(len(q))[:, None] + first
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


def oracle(p, first, block, sink, local):
    """The same statistics from the dense map, by their definitions."""
    heads, rows, length = p.shape
    at = torch.arange(rows) + first
    far = at[:, None] - torch.arange(length)[None]
    found = {"entropy": -(p * p.clamp(min=1e-300).log()).sum(-1), "sink": p[..., :sink].sum(-1)}
    found["local"] = (p * (far < local)).sum(-1)
    found["distance"] = (p * far.clamp(min=0)).sum(-1)
    edges = module.bins(length)
    histogram = [(p * ((far >= a) & (far < b))).sum(-1) for a, b in zip(edges, edges[1:], strict=False)]
    blocks = -(-length // block)
    pooled = torch.zeros(heads, blocks, blocks, dtype=torch.float64)
    for t in range(rows):
        for n in range(blocks):
            pooled[:, at[t] // block, n] += p[:, t, n * block : (n + 1) * block].sum(-1)
    return found, torch.stack(histogram, -1), pooled, at


CASES = {
    "ragged": dict(tokens=150, block=64),
    "even": dict(tokens=128, block=32),
    "prefix": dict(tokens=70, first=61, block=64),
    "one token": dict(tokens=1, block=64),
    "steep": dict(tokens=130, block=16, times=30),
    "flat": dict(tokens=130, block=64, times=0),
}


@pytest.mark.parametrize("tile", [7, 64])
@pytest.mark.parametrize("name", CASES)
def test_every_statistic_is_that_of_the_dense_map(name, tile, monkeypatch):
    case = CASES[name]
    monkeypatch.setattr(module, "TILE", tile)
    r = torch.Generator().manual_seed(0)
    tokens, first, block = case["tokens"], case.get("first", 0), case["block"]
    q = torch.randn(tokens, 6, 16, generator=r) * case.get("times", 1)
    k = torch.randn(tokens + first, 2, 16, generator=r)
    heads = [5, 0, 3]
    seen = module.Summary(heads, tokens + first, block=block, sink=4, local=10, links=3)
    seen.add(q, k, torch.arange(tokens) + first)
    p = dense(q, k, first)[heads]
    rows, histogram, pooled, at = oracle(p, first, block, 4, 10)
    for key, expected in rows.items():
        mine = torch.cat(seen.rows[key], 1).double()
        assert (mine - expected).abs().max() < 2e-5 * max(1, float(expected.abs().max())), key
    for n in range(seen.blocks):
        mine = seen.histogram[:, n]
        assert (mine - histogram[:, at // block == n].sum(1)).abs().max() < 2e-5 * block
    assert (seen.pooled - pooled).abs().max() < 1e-5 * block
    assert abs(seen.pooled.sum() - len(heads) * tokens) < 1e-3, "all rows' mass is in the blocks"
    assert (seen.histogram.sum(-1).sum(-1) - tokens).abs().max() < 1e-3
    entropy = torch.cat(seen.rows["entropy"], 1)
    assert (entropy > -1e-5).all() and (entropy <= torch.log(at + 1.0) + 1e-5).all()
    mass, token, source = seen.strongest()
    count = min(3, p[0].numel())
    for i in range(3):
        assert (mass[i, :count].double() - p[i].flatten().topk(count).values).abs().max() < 1e-5
        there = p[i, token[i, :count] - first, source[i, :count]].float()
        assert torch.allclose(there, mass[i, :count], atol=1e-5)


def test_equal_logits_spread_evenly():
    q, k = torch.zeros(100, 6, 16), torch.randn(100, 2, 16)
    seen = module.Summary([0, 4], 100)
    seen.add(q, k, torch.arange(100))
    expected = torch.arange(1, 101).float().log()
    assert (torch.cat(seen.rows["entropy"], 1) - expected).abs().max() < 1e-5


def test_one_huge_key_takes_all():
    q, k = torch.randn(90, 6, 16).abs(), torch.zeros(90, 2, 16)
    k[20] = 1e4
    seen = module.Summary([1], 90, block=16, sink=4)
    seen.add(q, k, torch.arange(90))
    assert (torch.cat(seen.rows["entropy"], 1)[:, 20:] < 1e-5).all()
    assert abs(seen.pooled[0, 3:, 1].sum() - (90 - 48)) < 1e-3


def test_pools_of_a_block_add_up_to_those_of_twice_the_block(lab):
    run = lab.trace(IDS)
    small, large = (attention.summary(run, layer=4, block=block) for block in (16, 32))
    count = small.rows_taken.values
    mass = small.pooled.values * count[None, :, None]
    mass = torch.tensor(mass)
    padded = torch.zeros(6, 10, 10)
    padded[:, :10, :10] = mass
    doubled = padded.view(6, 5, 2, 5, 2).sum((2, 4)) / torch.tensor(large.rows_taken.values)[None, :, None]
    assert (doubled - torch.tensor(large.pooled.values)).abs().max() < 1e-5


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_summary_of_a_run_is_that_of_its_pattern(lab, warm):
    run = lab.trace(IDS)
    if warm:
        cache = lab.cache()
        lab.trace(IDS[:61], cache=cache)
        run = lab.trace(IDS[61:], cache=cache)
    names = ["first"] * 50 + ["second"] * 100
    ds = attention.summary(run, layer=2, heads=[4, 1], links=5, segments=names, block=50)
    maps = attention.pattern(run, layer=2, heads=[4, 1])
    p = torch.tensor(maps.weight.values).double()
    entropy = -(p * p.clamp(min=1e-300).log()).sum(-1)
    blocks = torch.tensor(maps.token.values) // 50
    for n in range(3):
        here = blocks == n
        if not here.any():
            assert ds.entropy.isel(block=n).isnull().all() and int(ds.rows_taken[n]) == 0
            continue
        assert abs(ds.entropy.isel(block=n).values - entropy[:, here].mean(1).numpy()).max() < 1e-5
        assert abs(ds.entropy_low.isel(block=n).values - entropy[:, here].amin(1).numpy()).max() < 1e-5
        assert abs(ds.support.isel(block=n).values - entropy[:, here].exp().mean(1).numpy()).max() < 1e-3
        assert abs(ds.gate.isel(block=n).values - maps.gate.values[:, here].mean(1)).max() < 1e-6
        mass = p[:, here, :50].sum(-1).mean(1)
        assert abs(ds.mass.sel(segment="first").isel(block=n).values - mass.numpy()).max() < 1e-5
    assert abs(ds.pooled.sum("source_block") - 1).where(ds.rows_taken > 0).max() < 1e-5
    assert abs(ds.histogram.sum("bin") - 1).where(ds.rows_taken > 0).max() < 1e-5
    best = maps.weight.sel(token=ds.link_token[0].values[0], source=ds.link_source[0].values[0], query_head=4)
    assert abs(float(best) - float(ds.links[0, 0])) < 1e-6
    assert ds.attrs["parity"] < 1e-5 and ds.attrs["rows"].startswith("all ")


def test_sampled_rows_are_exact_for_those_rows_and_say_so(lab):
    run = lab.trace(IDS)
    ds = attention.summary(run, layer=4, rows=10, block=150)
    whole = attention.pattern(run, layer=4, rows=list(range(149, -1, -15))[::-1])
    p = torch.tensor(whole.weight.values).double()
    entropy = -(p * p.clamp(min=1e-300).log()).sum(-1).mean(1)
    assert abs(ds.entropy.isel(block=0).values - entropy.numpy()).max() < 1e-5
    assert ds.attrs["rows"] == "10 of 150, evenly spaced" and int(ds.rows_taken[0]) == 10


def test_bins_are_dyadic():
    assert module.bins(1) == [0, 1] and module.bins(8) == [0, 1, 3, 7, 15]
    for length in range(1, 70):
        assert module.bins(length)[-1] >= length > module.bins(length)[-2]


def test_misuse(lab):
    run = lab.trace(IDS[:20])
    with pytest.raises(LayerError, match="(?s)layer 3 is a Gated DeltaNet layer.*try: deltanet.ledger"):
        attention.summary(run, layer=3)
    with pytest.raises(InputError, match="(?s)one segment per source.*3 names.*20 sources"):
        attention.summary(run, layer=2, segments=["a", "b", "c"])
    with pytest.raises(InputError, match="at least one row"):
        attention.summary(run, layer=2, rows=0)
    with pytest.raises(InputError, match="(?s)token out of range.*25"):
        attention.summary(run, layer=2, rows=[25])
    assert math.isfinite(float(attention.summary(run, layer=2, rows=[7]).entropy.max()))


@pytest.mark.parametrize(("rows", "length"), [(64, 127), (64, 191), (5, 5), (7, 100), (1, 9), (64, 10)])
def test_rows_that_are_spaced_reach_back_to_the_beginning(rows, length):
    at, said = module.chosen(rows, length)
    assert len(at) == min(rows, length) == len(set(at)) and at[-1] == length - 1
    gaps = [b - a for a, b in zip([-1, *at], at, strict=False)]
    assert max(gaps) - min(gaps) <= 1, "evenly, from the first to the last"
    assert said.startswith(f"{len(at):,} of {length:,}")
