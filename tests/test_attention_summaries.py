"""The summary without the map says what the dense map says, in float64, for every shape of the problem."""

import math

import pytest
import tiny
import torch

from labkit import attention, deltanet, edit, yarn
from labkit.attention import distances, kernel, methods, softmax
from labkit.attention.statistics import Statistics
from labkit.errors import InputError, LayerError

IDS = tiny.ids(150)
GROUPS = {1: [0, 2], 0: [1]}  # of query heads 4, 0, 3, of which three read one key/value head


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
    edges = distances.edges(length)
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


def drawn(tokens, block, first=0, times=1):
    """q, k and the sizes of a case."""
    r = torch.Generator().manual_seed(0)
    q = torch.randn(tokens, 6, 16, generator=r) * times
    return q, torch.randn(tokens + first, 2, 16, generator=r), tokens, first, block


@pytest.mark.parametrize("tile", [7, 64])
@pytest.mark.parametrize("name", CASES)
def test_every_statistic_is_that_of_the_dense_map(name, tile, monkeypatch):
    monkeypatch.setattr(softmax, "TILE", tile)
    q, k, tokens, first, block = drawn(**CASES[name])
    heads = [4, 0, 3]
    seen = Statistics(heads, GROUPS, tokens + first, block=block, sink=4, local=10, links=3)
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


def filled(seen, q, k, first, by):
    """A `Summary` of consecutive rows, by tiles of the map or by stock kernels."""
    gate = torch.rand(q.shape, generator=torch.Generator().manual_seed(1))
    if by == "kernel":
        kernel.add(seen, q, k, first, gate)
    else:
        seen.add(q, k, torch.arange(len(q)) + first, gate)
    return seen


@pytest.mark.parametrize("weights", [2**23, 2**9], ids=["at once", "in pieces"])
@pytest.mark.parametrize("name", CASES)
def test_stock_kernels_say_what_the_dense_map_says(name, weights, monkeypatch):
    monkeypatch.setattr(kernel, "WEIGHTS", weights)
    q, k, tokens, first, block = drawn(**CASES[name])
    heads, marks = [4, 0, 3], [j % 3 for j in range(tokens + first)]
    seen = filled(Statistics(heads, GROUPS, len(k), block=block, local=10, segments=marks), q, k, first, "kernel")
    p = dense(q, k, first)[heads]
    rows, histogram, pooled, at = oracle(p, first, block, 4, 10)
    for key, expected in rows.items():
        mine = torch.cat(seen.rows[key], 1).double()
        # entropy is a difference of numbers as large as the logits, here up to 300
        assert (mine - expected).abs().max() < 5e-5 * max(
            1, float(expected.abs().max()), CASES[name].get("times", 1)
        ), key
    for n in range(seen.blocks):
        assert (seen.histogram[:, n] - histogram[:, at // block == n].sum(1)).abs().max() < 2e-5 * block
    assert (seen.pooled - pooled).abs().max() < 2e-5 * block
    masses = torch.stack([p[..., torch.tensor(marks) == n].sum(-1) for n in range(max(marks) + 1)], -1)
    for n in range(seen.blocks):
        assert (seen.masses[:, n] - masses[:, at // block == n].sum(1)).abs().max() < 2e-5 * block
    assert (seen.histogram.sum(-1).sum(-1) - tokens).abs().max() < 1e-3
    tiles = filled(Statistics(heads, GROUPS, len(k), block=block, local=10, segments=marks), q, k, first, "tiles")
    assert torch.equal(torch.cat(seen.rows["gate"], 1), torch.cat(tiles.rows["gate"], 1))
    assert torch.equal(seen.counts, tiles.counts)


def test_kernels_are_taken_where_they_are_exact_and_cheaper(lab):
    run = lab.trace(IDS)
    tiles, fast = (attention.summary(run, layer=4, block=50, method=method) for method in ("tiles", "kernel"))
    for name in tiles.data_vars:
        assert abs(fast[name] - tiles[name]).max() < 1e-4 * max(1, float(abs(tiles[name]).max())), name
    own, given = attention.summary(run, layer=4, block=50), attention.summary(run, layer=4, block=50, links=2)
    assert own.identical(fast) and given.drop_vars(["links", "link_token", "link_source"]).identical(tiles)
    assert attention.summary(run, layer=4, samples=9, block=50).identical(
        attention.summary(run, layer=4, samples=9, block=50, method="tiles")
    )
    half, one = torch.zeros(1, 1, 16).half(), torch.zeros(1)
    assert methods.way(None, Statistics([0], {0: [0]}, 150), half, one, True) == "tiles"
    assert methods.way(None, Statistics([0], {0: [0]}, 9000, block=8), half.float(), one, True) == "tiles"


def test_kernel_misuse(lab):
    run = lab.trace(IDS[:30])
    with pytest.raises(InputError, match="(?s)unknown method.*got: fast.*'tiles', 'kernel' or 'fused'"):
        attention.summary(run, layer=4, method="fast")
    with pytest.raises(InputError, match="(?s)kernels take all rows.*chosen rows, links=0.*method='tiles'"):
        attention.summary(run, layer=4, samples=3, method="kernel")
    with pytest.raises(InputError, match="(?s)kernels take all rows and name no links.*all rows, links=2"):
        attention.summary(run, layer=4, links=2, method="kernel")
    with pytest.raises(InputError, match="(?s)unknown method.*got: fast"):
        attention.watch(method="fast")
    with pytest.raises(InputError, match="(?s)kernels take all rows.*chosen rows"):
        attention.watch(samples=3, method="kernel")
    with pytest.raises(InputError, match="(?s)kernels run on a CPU or an NVIDIA card.*got: meta.*method='tiles'"):
        there = torch.zeros(1, 1, 16, device="meta")
        methods.way("kernel", Statistics([0], {0: [0]}, 9), there, torch.zeros(1), True)


@pytest.mark.parametrize("by", ["tiles", "kernel"])
def test_sources_after_the_last_row_are_never_read(by):
    q, k = torch.randn(40, 6, 16), torch.randn(100, 2, 16)
    k[64 + 40 - 10 :] = float("nan")
    seen = filled(Statistics([4, 1], {1: [0], 0: [1]}, 100, block=16), q[:30], k, 64, by)
    assert torch.isfinite(torch.cat(seen.rows["entropy"], 1)).all() and torch.isfinite(seen.pooled).all()
    fresh = filled(Statistics([4, 1], {1: [0], 0: [1]}, 94, block=16), q[:30], k[:94], 64, by)
    assert torch.equal(torch.cat(seen.rows["distance"], 1), torch.cat(fresh.rows["distance"], 1))


def test_equal_logits_spread_evenly():
    q, k = torch.zeros(100, 6, 16), torch.randn(100, 2, 16)
    seen = Statistics([0, 4], {0: [0], 1: [1]}, 100)
    seen.add(q, k, torch.arange(100))
    expected = torch.arange(1, 101).float().log()
    assert (torch.cat(seen.rows["entropy"], 1) - expected).abs().max() < 1e-5


def test_a_tile_touches_the_pools_of_its_own_blocks_alone():
    """However long the sequence: a row adds to one block of rows, and memory beside the pools is that of a tile."""
    import measure

    q, k, blocks = torch.randn(40, 6, 16), torch.randn(16_000, 2, 16), 2_000
    seen = Statistics([4, 1], {1: [0], 0: [1]}, 16_000, block=8)
    pools = seen.pooled.nbytes
    peak, _, _ = measure.peak(lambda: seen.add(q, k, torch.arange(15_957, 15_997)))
    assert pools == 8 * 2 * blocks**2 > 1.5 * peak
    rows = seen.pooled.sum(-1)
    assert rows.nonzero()[:, 1].unique().tolist() == list(range(1994, 2000))
    assert (rows[:, 1994:] - torch.tensor([3.0, 8, 8, 8, 8, 5])).abs().max() < 1e-4
    assert (seen.histogram.sum(-1) - rows).abs().max() < 1e-4


def test_one_huge_key_takes_all():
    q, k = torch.randn(90, 6, 16).abs(), torch.zeros(90, 2, 16)
    k[20] = 1e4
    seen = Statistics([1], {0: [0]}, 90, block=16, sink=4)
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
    ds = attention.summary(run, layer=4, samples=10, block=150)
    whole = attention.pattern(run, layer=4, rows=list(range(149, -1, -15))[::-1])
    p = torch.tensor(whole.weight.values).double()
    entropy = -(p * p.clamp(min=1e-300).log()).sum(-1).mean(1)
    assert abs(ds.entropy.isel(block=0).values - entropy.numpy()).max() < 1e-5
    assert ds.attrs["rows"] == "10 of 150, evenly spaced" and int(ds.rows_taken[0]) == 10


def test_bins_are_dyadic():
    assert distances.edges(1) == [0, 1] and distances.edges(8) == [0, 1, 3, 7, 15]
    for length in range(1, 70):
        assert distances.edges(length)[-1] >= length > distances.edges(length)[-2]


def test_misuse(lab):
    run = lab.trace(IDS[:20])
    with pytest.raises(LayerError, match=r"(?s)layer 3 is a Gated DeltaNet.*try: deltanet.memory\(run, layer=3\)"):
        attention.summary(run, layer=3)
    with pytest.raises(InputError, match="(?s)one segment per source.*3 names.*20 sources"):
        attention.summary(run, layer=2, segments=["a", "b", "c"])
    with pytest.raises(InputError, match="(?s)samples out of range.*1 or more"):
        attention.summary(run, layer=2, samples=0)
    with pytest.raises(InputError, match="(?s)token out of range.*25"):
        attention.summary(run, layer=2, rows=[25])
    with pytest.raises(InputError, match="(?s)either rows or samples.*both.*positions, or a number"):
        attention.summary(run, layer=2, rows=[3], samples=2)
    one, several = attention.summary(run, layer=2, rows=5), attention.summary(run, layer=2, samples=5)
    assert (one.attrs["rows"], several.attrs["rows"]) == ("1 of 20, chosen", "5 of 20, evenly spaced")
    assert math.isfinite(float(attention.summary(run, layer=2, rows=[7]).entropy.max()))


@pytest.mark.parametrize(("rows", "length"), [(64, 127), (64, 191), (5, 5), (7, 100), (1, 9), (64, 10)])
def test_rows_that_are_spaced_reach_back_to_the_beginning(rows, length):
    at, said = softmax.chosen(None, rows, length)
    assert len(at) == min(rows, length) == len(set(at)) and at[-1] == length - 1
    gaps = [b - a for a, b in zip([-1, *at], at, strict=False)]
    assert max(gaps) - min(gaps) <= 1, "evenly, from the first to the last"
    assert said.startswith(f"{len(at):,} of {length:,}")


@pytest.mark.parametrize("reading", [attention.summary, attention.pattern, attention.similarity])
def test_the_default_type_of_torch_does_not_matter(lab, reading):
    def calls():
        with yarn.scaled(lab, 2.0), lab.edit(edit.scale("gated", layer=1, factor=0.5)):
            scaled = lab.generate(tiny.ids(40), max_new_tokens=2)
        return (
            lab.trace(tiny.ids(40), chunk=16),
            scaled,
            lab.stream(tiny.ids(40), probes=deltanet.norms(block=8), chunk=8),
        )

    (run, scaled, streamed), before = calls(), lab.trace(tiny.ids(40))
    plain, held = reading(run, layer=2), deltanet.memory(run, layer=1)
    torch.set_default_dtype(torch.float64)
    try:
        assert reading(run, layer=2).identical(plain) and deltanet.memory(run, layer=1).identical(held)
        again, *others = calls()
        assert torch.equal(lab.trace(tiny.ids(40)).logits, before.logits)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(again.logits, run.logits) and again.logits.dtype == torch.float32
    assert torch.equal(others[0].logits, scaled.logits) and others[1].identical(streamed)
