"""The numbers of `Statistics` from two fused passes (`passes`, Triton) on a card, at about the cost of the attention.

Any rows, in float32 (products in full precision), bfloat16 and float16; float32 sums inside a tile of rows, float64 over
tiles. What the passes write is small: of each row six numbers, of each tile of rows its mass by block of sources, bin of
distance and segment. The strongest weights of a head lie in the rows with the largest maxima, and a row's maximum comes
out of the first pass: those rows alone are formed again, by the reference.

The first pass costs about as much as the model's own attention. Its level is lse, which the model's kernel knows too, but
no attention function of transformers returns it, so that no seam shows it.
"""

import functools
import importlib
import importlib.util
import types

import torch

from labkit.attention.softmax import tiles
from labkit.attention.statistics import Statistics
from labkit.errors import InputError

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PARTS = 2**24  # numbers of tiles of rows at once
SPARE = 6 * 2**10  # bytes of shared memory that sums over a tile take
# Tiles (rows, sources, warps, stages) by bytes of a number, best first. Shared memory holds the rows' queries and the
# keys of each stage: bytes x head_dim x (rows + stages x sources). For 16 bits and heads of 256: 192 KiB of the 227 that
# an H100 lends to a program, then 128, 80, and 64 for cards that lend 99. float32 has no tensor cores: its tiles are
# bounded by registers, 128 KiB, 96 and 64.
TILES = {
    2: ((128, 128, 8, 2), (128, 64, 8, 2), (64, 32, 4, 3), (64, 32, 4, 2), (32, 32, 4, 2), (16, 16, 4, 1)),
    4: ((64, 32, 8, 2), (32, 32, 8, 2), (32, 16, 4, 2), (16, 16, 4, 1)),
}


def importable() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def takes(q: torch.Tensor, k: torch.Tensor) -> bool:
    """Whether the passes run on these of themselves: on a card, where Triton is installed, in a type that they know."""
    return q.device.type == "cuda" and q.dtype == k.dtype and q.dtype in DTYPES and importable()


def passes(device: torch.device) -> types.ModuleType:
    """The kernels.

    Raises:
        InputError: Triton is missing, or they would run on a CPU without Triton's interpreter.
    """
    if not importable():
        expected = "pip install triton, or method='tiles'"
        raise InputError("fused passes need Triton", got="no package of this name", expected=expected)
    kernels = importlib.import_module("labkit.attention.passes")
    if device.type != "cuda" and type(kernels.first).__name__ != "InterpretedFunction":
        expected = "cuda, or method='tiles', or TRITON_INTERPRET=1 set before Python starts, which is slow"
        raise InputError("fused passes run on a card", got=device.type, expected=expected)
    return kernels


def tiling(
    head_dim: int, width: int, rows: int, sources: int, shared: int = 227 * 2**10
) -> tuple[int, int, int, int]:
    """(rows, sources, warps, stages) of a tile.

    Args:
        head_dim: padded. width: bytes of a number. rows: most of one block that are taken together.
        sources: most of one block. shared: bytes of shared memory that a program can have.
    """
    fits = (row for row in TILES[width] if width * head_dim * (row[0] + row[3] * row[1]) + SPARE <= shared)
    most_rows, most_sources, warps, stages = next(fits, TILES[width][-1])
    down, right = min(most_rows, padded(rows)), min(most_sources, padded(sources))
    return down, right, 4 if down <= 64 and width == 2 else warps, stages


def padded(count: int) -> int:
    """The next power of two, at least 16: what a product of tiles takes."""
    return max(16, 1 << (count - 1).bit_length())


def cut(at: torch.Tensor, block: int, down: int) -> torch.Tensor:
    """[tile + 1] where tiles of at most `down` rows begin and the last ends, each within one block; at: [row]."""
    home = at // block
    place = torch.arange(len(at)) - torch.searchsorted(home, home)
    return torch.cat([(place % down == 0).nonzero()[:, 0], torch.tensor([len(at)])]).int()


def scratch(heads: int, rows: int, sources: int, head_dim: int, block: int, kinds: int, links: int) -> int:
    """Bytes that `add` takes beside the statistics."""
    columns = -(-sources // block) + 32 + (padded(kinds) if kinds else 0)
    many = rows // 16 + 1 + -(-rows // block)  # tiles of 16 rows, the smallest; never so many where rows are many
    parts = max(min(heads * many * columns, PARTS), heads * columns)
    again = 24 * min(links, rows) * sources + 4 * sources * head_dim if links else 0
    return 12 * heads * rows + 20 * parts + 12 * sources * bool(kinds) + 16 * rows + again


def add(
    statistics: Statistics, q: torch.Tensor, k: torch.Tensor, at: torch.Tensor, gate: torch.Tensor | None = None
) -> None:
    """Rows of all heads; fills a `Statistics` like its own `add`.

    Args:
        q: [row, query_head, head_dim], k: [source, kv_head, head_dim], rotated; k at least up to the last row.
        at: [row] positions among the sources, ascending. gate: [row, query_head, head_dim], opened.

    Raises:
        InputError: see `passes`; numbers of another type.
    """
    kernels = passes(q.device)
    if q.dtype != k.dtype or q.dtype not in DTYPES:
        expected = "both float32, bfloat16 or float16, or method='tiles'"
        raise InputError("fused passes do not know this type", got=f"{q.dtype}, {k.dtype}", expected=expected)
    q, k = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k))
    device, block, rows, heads = q.device, statistics.block, len(at), statistics.heads
    most = int(torch.unique_consecutive(at // block, return_counts=True)[1].max())
    wide = padded(q.shape[-1])
    down, right, warps, stages = tiling(wide, q.element_size(), most, min(block, len(k)), _shared(device))
    starts = cut(at, block, down)
    kv = torch.tensor([_key_head(statistics, i) for i in range(len(heads))], dtype=torch.int32, device=device)
    names = ("level", "entropy", "top", "sink", "local", "distance")
    row = {name: torch.empty(len(heads), rows, dtype=torch.float32, device=device) for name in names}
    segment, until = _stretches(statistics, device)
    shared = [q, k, at.int().to(device)], [torch.tensor(heads, dtype=torch.int32, device=device), kv]
    strides, scale = (q.stride(0), q.stride(1), k.stride(0), k.stride(1)), q.shape[-1] ** -0.5 * 1.4426950408889634
    sizes = dict(D=q.shape[-1], DP=wide, BM=down, BN=right, num_warps=warps, num_stages=stages)
    sizes["PRECISION"] = "ieee" if q.dtype == torch.float32 else "tf32"
    blocks, bins, kinds = int(at[-1]) // block + 1, len(statistics.edges) - 1, statistics.kinds
    kinds_up = padded(kinds) if kinds else 0
    step = max(1, PARTS // (len(heads) * (blocks + 32 + kinds_up)))
    on_device = starts.to(device)
    for begin in range(0, len(starts) - 1, step):
        part = slice(begin, begin + step)
        home = (at[starts[:-1][part].long()] // block).to(device)
        new = functools.partial(torch.zeros, len(heads), len(home), dtype=torch.float32, device=device)
        pooled, by_bin, by_kind = (new(size) for size in (blocks, 32, kinds_up))
        before, after = shared[0] + [on_device[begin:]], shared[1]
        grid = (len(home), len(heads))
        kernels.first[grid](*before, *after, *(row[n] for n in names[:3]), *strides, rows, scale, **sizes)
        kernels.second[grid](
            *before, *after, row["level"], segment, until, *(row[n] for n in names[3:]), pooled, by_bin, by_kind,
            *strides, rows, scale, statistics.sink, statistics.local, block, blocks,
            BINS_UP=32, KINDS_UP=kinds_up, **sizes,
        )  # fmt: skip
        statistics.pool(range(len(heads)), home, pooled, by_bin[..., :bins], by_kind[..., :kinds])
    statistics.keep(at, [(list(range(len(heads))), {n: row[n] for n in ("entropy", *names[3:])})], gate)
    if statistics.links:
        _remember(statistics, q, k, at, row["top"], kv)


def _remember(statistics, q, k, at, top, kv):
    """The strongest weights, from the rows with the largest maxima, which are formed again."""
    rows = top.topk(min(statistics.links, len(at)), -1).indices.sort(-1).values.cpu()
    for place, (head, kv_head) in enumerate(zip(statistics.heads, kv.tolist(), strict=True)):
        there = at[rows[place]]
        for part, s in tiles(q[rows[place].to(q.device), head][:, None], k[:, kv_head], there):
            statistics.remember([place], s.softmax(-1), there[part].to(q.device))


def _key_head(statistics, place):
    return next(kv_head for kv_head, places in statistics.groups.items() if place in places)


def _stretches(statistics, device):
    """(segment of every source, where the stretch of sources of this segment ends), both int32; nothing without."""
    if not statistics.kinds:
        nothing = torch.zeros(1, dtype=torch.int32, device=device)
        return nothing, nothing
    segments, count = statistics.segments, torch.tensor([len(statistics.segments)])
    ends = torch.cat([segments.diff().nonzero()[:, 0] + 1, count])
    until = ends[torch.searchsorted(ends, torch.arange(len(segments)), right=True)]
    return segments.int().to(device), until.int().to(device)


@functools.cache
def _shared(device):
    """Bytes of shared memory that a program can have."""
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin if device.type == "cuda" else 2**17
