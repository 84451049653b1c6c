"""The fused passes say what the dense map says, in float64, for every shape of the problem; Triton interprets them."""

import os
import subprocess
import sys

import compiled
import pytest
import tiny
import torch
from interpreted import interpreter  # noqa: F401
from test_attention_summaries import dense, oracle

from labkit import attention
from labkit.attention import distances, fused, methods
from labkit.attention.statistics import Statistics
from labkit.attention.summaries import cost_of
from labkit.errors import BackendError, InputError
from labkit.reading import Request
from tests.benchmarks import look

IDS = tiny.ids(150)
HEADS, GROUPS = [4, 0, 3], {1: [0, 2], 0: [1]}  # of 6 query heads that read 2 key heads
OPTIONS = dict(sink=4, local=10, links=7)
CASES = {
    "ragged": dict(block=32),
    "16 bits": dict(block=32, dtype=torch.bfloat16),
    "half": dict(block=16, dtype=torch.float16, head_dim=16),
    "all rows": dict(block=32, rows=101, first=0),
    "small blocks": dict(block=8, head_dim=16, rows=19, first=40),
    "odd blocks": dict(block=21, first=27),
    "one block": dict(block=128),
    "one row": dict(block=64, rows=1),
    "first row": dict(block=64, rows=1, first=0),
    "steep": dict(block=32, times=30),
    "flat": dict(block=64, times=0),
}


def drawn(*, block, rows=37, first=64, head_dim=24, dtype=torch.float32, times=1.0):
    """q [row, 6, head_dim], k [source, 2, head_dim], first row's position, block."""
    r = torch.Generator().manual_seed(0)
    q = torch.randn(rows, 6, head_dim, generator=r) * times
    return q.to(dtype), torch.randn(rows + first, 2, head_dim, generator=r).to(dtype), first, block


def filled(q, k, at, block, add=fused.add, **options):
    """`Statistics` of rows, with segments of which some follow one another and some alternate."""
    j = torch.arange(len(k))
    segments = torch.where(j < 40, j // 17, 3 + j % 2)
    seen = Statistics(HEADS, GROUPS, len(k), block=block, **dict(segments=segments) | OPTIONS | options)
    gate = torch.rand(q.shape, generator=torch.Generator().manual_seed(1)).to(q.device)
    if add is fused.add:
        fused.add(seen, q, k, at, gate)
    else:
        seen.add(q, k, at, gate)
    return seen


def differences(seen, p, first, block, size=1.0):
    """The largest difference of each statistic from the dense map p, relative to its largest value; at least `size`."""
    rows, histogram, pooled, at = oracle(p, first, block, seen.sink, seen.local)
    pairs = {name: (seen.column(name), expected) for name, expected in rows.items()}
    home = torch.nn.functional.one_hot(at // block, seen.blocks).double()
    pairs["histogram"] = seen.histogram, torch.einsum("htb,tn->hnb", histogram, home)
    pairs["pooled"] = seen.pooled, pooled
    if seen.kinds:
        masses = [p[..., seen.segments == n].sum(-1) for n in range(seen.kinds)]
        pairs["masses"] = seen.masses, torch.einsum("htk,tn->hnk", torch.stack(masses, -1), home)
    means, entropy = seen.reduced(at), rows["entropy"]
    taken = seen.counts > 0
    for name, expected in (("entropy_low", seen.block_extremes(entropy, at)[0]), ("support", None)):
        expected = seen.block_means(entropy.exp(), at) if expected is None else expected
        pairs[name] = means[name][:, taken], expected[:, taken]
    weight = seen.strongest()[0]
    pairs["links"] = weight, p.flatten(1).topk(weight.shape[1]).values
    return {
        name: float((mine.double().cpu() - exact).abs().max() / max(size, float(exact.abs().max())))
        for name, (mine, exact) in pairs.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_every_statistic_of_the_passes_is_that_of_the_dense_map(interpreter, name):  # noqa: F811
    q, k, first, block = drawn(**CASES[name])
    at = torch.arange(len(q)) + first
    seen, p = filled(q, k, at, block), dense(q, k, first)[HEADS]
    steep = CASES[name].get("times", 1) > 1  # logits up to 300, of which float32 keeps seven digits
    worst = differences(seen, p, first, block, size=1.0 if steep or len(q) == 1 else 0.0)
    assert max(worst.values()) < (5e-5 if steep else 1e-5), worst
    assert torch.equal(seen.counts, torch.bincount(at // block, minlength=seen.blocks).float())
    assert (seen.pooled.sum(-1) - seen.counts).abs().max() < 1e-4 and (seen.column("entropy") >= 0).all()
    count = min(OPTIONS["links"], int((at + 1).sum()))
    mass, token, source = seen.strongest()
    assert mass.shape == (3, count) and (mass.diff(dim=-1) <= 0).all()
    assert (p[torch.arange(3)[:, None], token - first, source] - mass).abs().max() < (1e-4 if steep else 1e-5)
    tiles = filled(q.float(), k.float(), at, block, add=None)
    assert torch.equal(seen.column("gate"), tiles.column("gate"))


@pytest.mark.parametrize("tile", [(16, 32), (64, 16), (64, 128)])
def test_tiles_of_any_size_say_the_same(interpreter, tile, monkeypatch):  # noqa: F811
    monkeypatch.setattr(fused, "TILES", {4: ((*tile, 4, 1),)})
    monkeypatch.setattr(fused, "PARTS", 1)  # four tiles of rows at once
    q, k, first, block = drawn(block=48, rows=100, first=27)
    worst = differences(filled(q, k, torch.arange(100) + 27, block), dense(q, k, 27)[HEADS], 27, block, size=0.0)
    assert max(worst.values()) < 1e-5, worst


def test_plain_tiles_say_the_same(interpreter, monkeypatch):  # noqa: F811
    """Far from the diagonal, where nothing is masked: the case of nearly all tiles of a long prompt."""
    monkeypatch.setattr(fused, "TILES", {4: ((16, 16, 4, 1),)})
    q, k, first, block = drawn(block=64, rows=40, first=420, head_dim=16)
    segments = [j // 150 for j in range(len(k))]
    seen = filled(q, k, torch.arange(40) + first, block, segments=segments, local=100, sink=20)
    worst = differences(seen, dense(q, k, first)[HEADS], first, block, size=0.0)
    assert max(worst.values()) < 1e-5, worst


def test_chosen_rows_are_those_rows_of_all(interpreter):  # noqa: F811
    q, k, first, block = drawn(block=32, rows=101, first=0)
    rows = torch.tensor([3, 4, 31, 32, 77, 100])
    some, all_rows = filled(q[rows], k, rows, block), filled(q, k, torch.arange(101), block)
    for name in ("entropy", "sink", "local", "distance"):
        assert (some.column(name) - all_rows.column(name)[:, rows]).abs().max() < 1e-5 * all_rows.column(name).max()
    tiles = filled(q[rows], k, rows, block, add=None)
    for name, expected in tiles.reduced(rows).items():
        mine = some.reduced(rows)[name]
        error, largest = (mine - expected).nan_to_num().abs().max(), expected.nan_to_num().abs().max()
        assert torch.equal(mine.isnan(), expected.isnan()) and error < 1e-5 * largest, name
    assert all(torch.allclose(a, b) for a, b in zip(some.strongest(), tiles.strongest(), strict=True))


def test_a_second_run_repeats_every_digit(interpreter):  # noqa: F811
    q, k, first, block = drawn(block=32, rows=20)
    one, two = (filled(q, k, torch.arange(20) + first, block) for _ in range(2))
    assert torch.equal(one.pooled, two.pooled) and torch.equal(one.histogram, two.histogram)
    assert torch.equal(one.masses, two.masses) and torch.equal(one.column("distance"), two.column("distance"))


def test_sources_after_the_last_row_are_never_read_and_views_are_taken_as_they_are(interpreter):  # noqa: F811
    q, k, first, block = drawn(block=32, rows=20)
    room = torch.full((2, 150, 48), torch.nan)
    room[:, : len(k), ::2] = k.transpose(0, 1)
    at = torch.arange(20) + first
    seen, fresh = filled(q, room[..., ::2].transpose(0, 1), at, block), filled(q, k, at, block)
    room = room[..., ::2].contiguous().transpose(0, 1)  # by head and source, as a cache keeps them
    assert not room.is_contiguous() and room.stride(-1) == 1
    for other in (seen, filled(q, room, at, block)):
        for name in ("entropy", "distance"):
            assert torch.equal(other.column(name), fresh.column(name))
        there = slice(0, fresh.blocks)
        assert torch.equal(other.pooled[:, there, there], fresh.pooled) and torch.isfinite(other.pooled).all()


def test_a_million_sources(interpreter, monkeypatch):  # noqa: F811
    """Whole numbers of positions stay exact, and so do bounds of distances: 2^20 - 1 falls between these rows."""
    monkeypatch.setattr(fused, "TILES", {4: ((16, 2**14, 4, 1),)})
    length, r = 2**20 + 40, torch.Generator().manual_seed(0)
    at = torch.tensor([5, 2**20 - 2, 2**20 - 1, 2**20, length - 1])
    q, k = torch.randn(len(at), 1, 4, generator=r) * 3, torch.randn(length, 1, 4, generator=r)
    seen, tiles = (Statistics([0], {0: [0]}, length, block=2**18, links=3) for _ in range(2))
    fused.add(seen, q, k, at)
    tiles.add(q, k, at)
    logits, back = q[:, 0].double() @ k[:, 0].double().T / 2, at[:, None] - torch.arange(length)
    p = logits.masked_fill(back < 0, -torch.inf).softmax(-1)
    bins = distances.bin_of(back.clamp(min=0))
    exact = {"entropy": torch.special.entr(p).sum(-1), "distance": (p * back).sum(-1)}
    exact |= {"sink": p[:, :4].sum(-1), "local": (p * (back < 64)).sum(-1)}
    for name, expected in exact.items():
        assert (seen.column(name)[0] - expected).abs().max() < 1e-5 * expected.max(), name
    by_bin = torch.zeros(len(at), 21, dtype=torch.float64).scatter_add_(1, bins, p)
    for block, rows in ((3, slice(1, 3)), (4, slice(3, 5))):
        assert (seen.histogram[0, block] - by_bin[rows].sum(0)).abs().max() < 1e-6
    assert by_bin[1, 20] == 0 and abs(seen.histogram[0, 3, 20] / by_bin[2, 20] - 1) < 1e-5, "one weight, 2^20 - 1 back"
    assert torch.equal(seen.strongest()[2], tiles.strongest()[2])


def test_keys_beyond_two_billion_numbers_are_reached(interpreter):  # noqa: F811
    """Memory that is never touched is not there: keys that lie 2^20 numbers apart."""
    count, apart = 2060, 2**20 + 16
    k = torch.empty(count * apart).as_strided((count, 1, 16), (apart, 16, 1))
    q, keys = torch.randn(3, 1, 16), torch.randn(count, 1, 16)
    k.copy_(keys)
    far, near = (Statistics([0], {0: [0]}, count, block=512) for _ in range(2))
    fused.add(far, q, k, torch.arange(count - 3, count))
    fused.add(near, q, keys, torch.arange(count - 3, count))
    assert torch.equal(far.column("entropy"), near.column("entropy")) and torch.equal(far.pooled, near.pooled)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_summary_by_the_passes_is_that_by_tiles(interpreter, lab, warm):  # noqa: F811
    run = lab.trace(IDS)
    if warm:
        cache = lab.cache()
        lab.trace(IDS[:61], cache=cache)
        run = lab.trace(IDS[61:], cache=cache)
    options = dict(layer=2, heads=[4, 1], block=50, links=5, segments=["first"] * 50 + ["second"] * 100)
    for rows in ({}, {"samples": 9}):
        mine, tiles = (attention.summary(run, **options, **rows, method=way) for way in ("fused", "tiles"))
        assert mine.attrs == tiles.attrs and set(mine.data_vars) == set(tiles.data_vars)
        for name in tiles.data_vars:
            error = abs(mine[name] - tiles[name]).max()
            assert error < 1e-5 * max(1, float(abs(tiles[name]).max())), name
            assert (mine[name].isnull() == tiles[name].isnull()).all()


def test_the_check_of_the_card_runs_dry(interpreter):  # noqa: F811
    sizes = dict(rows=16, sources=48, heads=2, kv_heads=1, head_dim=16, block=32)
    facts = look.rows_on_card("cpu", **sizes, rounds=2)
    assert facts["error"] < 1e-5 and facts["ratio"] > 0 and facts["linked"] > 0


def test_which_method_is_taken(interpreter, monkeypatch):  # noqa: F811
    q, k = torch.zeros(4, 2, 16), torch.zeros(4, 1, 16)
    statistics = Statistics([0, 1], {0: [0, 1]}, 4)
    assert methods.way(None, statistics, q, k, True) == "kernel", "on a CPU the passes are never taken of themselves"
    assert methods.way(None, statistics, q.half(), k.half(), True) == "tiles"
    assert methods.way("fused", statistics, q, k, False) == "fused"
    card = type("card", (), {"type": "cuda"})
    there = [type("tensor", (), {"device": card, "dtype": torch.bfloat16, "shape": x.shape})() for x in (q, k)]
    monkeypatch.setattr(fused, "failing", lambda device: None)
    assert methods.way(None, statistics, *there, False) == "fused" == methods.way("fused", statistics, *there, False)
    monkeypatch.setattr(fused, "failing", lambda device: "RuntimeError: Failed to find C compiler")
    assert methods.way(None, statistics, *there, False) == "tiles"
    with pytest.raises(BackendError, match=r"(?s)runs no kernel on this card.*find C compiler.*method='tiles'"):
        methods.way("fused", statistics, *there, False)
    monkeypatch.setattr(fused, "failing", lambda device: None)
    there[1].dtype = torch.float64
    assert methods.way(None, statistics, *there, False) == "tiles"
    monkeypatch.setattr(fused, "importable", lambda: False)
    there[1].dtype = torch.bfloat16
    assert methods.way(None, statistics, *there, False) == "tiles"


def test_the_passes_are_refused_where_they_do_not_run(interpreter, lab, monkeypatch):  # noqa: F811
    run = lab.trace(IDS[:20])
    with pytest.raises(InputError, match=r"(?s)do not know these types.*float64, torch.float32.*method='tiles'"):
        fused.check(torch.zeros(1, 1, 16).double(), torch.zeros(1, 1, 16))
    monkeypatch.setattr(interpreter, "first", None)
    with pytest.raises(InputError, match="(?s)run on a card.*got: cpu.*method='tiles'; or, slowly, TRITON_INTERPRET=1"):
        attention.summary(run, layer=4, method="fused")
    monkeypatch.setattr(fused, "importable", lambda: False)
    with pytest.raises(InputError, match="(?s)need Triton.*pip install triton, or method='tiles'"):
        attention.summary(run, layer=4, method="fused")


def test_a_tiny_kernel_says_whether_triton_works(interpreter):  # noqa: F811
    fused.failing.cache_clear()
    assert fused.failing(torch.device("cpu")) is None
    fused.failing.cache_clear()


# ------------------------------------------------------------------------------------------- without an interpreter


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            RuntimeError("Failed to find C compiler.\nPlease specify CC"),
            "RuntimeError: Failed to find C compiler. Please",
        ),
        (ImportError("libcuda.so cannot be opened"), "ImportError: libcuda.so cannot be opened"),
        (None, "a kernel that wrote nothing"),
    ],
)
def test_a_triton_that_compiles_nothing_says_why_once(error, why, monkeypatch):
    tries = []

    def touch(place):
        tries.append(place)
        if error:
            raise error

    kernels = type("kernels", (), {"touch": {(1,): touch}})
    monkeypatch.setattr(fused, "_kernels", lambda: kernels)
    fused.failing.cache_clear()
    assert fused.failing(torch.device("cpu")).startswith(why) and fused.failing(torch.device("cpu")) and len(tries) == 1
    kernels.touch = {(1,): lambda place: place.fill_(1)}
    fused.failing.cache_clear()
    assert fused.failing(torch.device("cpu")) is None
    fused.failing.cache_clear()
    kernels.touch = {(1,): full}
    with pytest.raises(torch.OutOfMemoryError):
        fused.failing(torch.device("cpu"))
    kernels.touch = {(1,): lambda place: place.fill_(1)}
    assert fused.failing(torch.device("cpu")) is None, "a passing error is not remembered"
    fused.failing.cache_clear()


def full(place):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_tiles_fit_the_shared_memory_and_the_registers_of_a_card():
    assert fused.tiling(256, 2, 4096, 4096) == (128, 128, 8, 2), "what a prototype was fastest with on an H200"
    assert fused.tiling(256, 2, 4096, 4096, 99 * 2**10) == (64, 32, 4, 3)
    assert fused.tiling(256, 4, 4096, 4096) == (32, 32, 8, 2)
    assert fused.tiling(256, 2, 8, 4096)[:3] == (16, 128, 4) and fused.tiling(256, 2, 64, 50)[:3] == (64, 64, 4)
    for shared in (48, 64, 99, 163, 227):
        for head_dim in (16, 32, 64, 128, 256, 512):
            for width in (2, 4):
                down, right, warps, stages = fused.tiling(head_dim, width, 10**6, 10**6, shared * 2**10)
                least = (down, right) == (16, 16)
                assert least or width * head_dim * (down + stages * right) < shared * 2**10
                assert least or width == 2 or down * right * head_dim / (32 * warps) <= 1024


def test_rows_are_cut_at_their_blocks():
    assert fused.cut(torch.arange(27, 101), 32, 16).tolist() == [0, 5, 21, 37, 53, 69, 74]
    assert fused.cut(torch.tensor([3, 5, 40, 41, 99]), 32, 16).tolist() == [0, 2, 4, 5]
    assert fused.cut(torch.arange(8), 3, 16).tolist() == [0, 3, 6, 8]


def test_the_plan_of_the_passes_asks_for_less():
    spec, scratch = tiny.make_lab(tiny.model()).spec, {}
    for method in ("fused", "tiles", None):
        options = dict(block=1024, method=method, links=8)
        scratch[method] = cost_of(Request(spec, 65_536, 65_536, 6, 65_536, 2, options, 3, chosen=False)).scratch
    assert scratch["fused"] < scratch["tiles"] / 2 and scratch["tiles"] == scratch[None]
    pieces = fused.scratch(24, 8192, 262_144, 256, 4096, 0, 0)
    assert pieces < 2**25, "of a chunk of the 27B, beside keys of half a gigabyte"


@pytest.mark.parametrize("kind", ["bf16 64 0 90", "fp32 24 16 80"])
def test_the_compiler_takes_the_kernels_and_the_shared_memory_is_what_was_counted(kind, tmp_path):
    """For cards that are not here: what the interpreter lets pass, the compiler may refuse."""
    pytest.importorskip("triton", reason="fused passes need Triton, which has wheels for Linux on x86-64")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, compiled.__file__, *kind.split()], env=env, capture_output=True, text=True)
    lines = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
    assert len(lines) == 2, done.stderr[-3000:]
    assert all(taken <= counted and waits for taken, counted, waits in lines), lines


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("head_dim", [24, 256])
def test_the_compiled_passes_say_what_the_dense_map_says(dtype, head_dim):
    q, k, first, block = drawn(block=200, rows=450, first=777, head_dim=head_dim, dtype=dtype)
    at, p = torch.arange(450) + first, dense(q, k, first)[HEADS]
    assert methods.way(None, filled(q[:1], k, at[:1], block, add=None), q.cuda(), k.cuda(), True) == "fused"
    seen = filled(q.cuda(), k.cuda(), at, block)
    worst = differences(seen, p, first, block, size=0.0)
    assert max(worst.values()) < 3e-5, worst
    again = filled(q.cuda(), k.cuda(), at, block)
    assert torch.equal(again.pooled, seen.pooled) and torch.equal(again.histogram, seen.histogram)
