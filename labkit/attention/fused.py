"""The numbers of `Statistics` from two fused passes (`passes`, Triton) on a card, at about the cost of the attention.

Any rows, in float32 (products in full precision), bfloat16 and float16; sums in float32 inside a tile of rows, in
float64 over tiles. What the passes write is small: of each row six numbers, of each tile of rows its mass by block of
sources, bin of distance and segment. The strongest weights of a head lie in the rows with the largest maxima, and a
row's maximum comes out of the first pass: those rows alone are formed again, by the reference. Of weights that differ
by less than float32 can tell, either may be the last that is named, as it is with tiles.

The first pass costs about as much as the model's own attention. Its level is lse, which the model's kernel knows too,
but no attention function of transformers returns it, so that no seam shows it.
"""

import functools
import importlib
import importlib.util
import math

import torch

from labkit.attention.softmax import tiles
from labkit.attention.statistics import Statistics
from labkit.errors import BackendError, InputError, one_line

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PARTS = 2**24  # numbers of tiles of rows at once
BINS = 32  # of distances below 2^31
SPARE = 6 * 2**10  # bytes of shared memory that sums over a tile take
PRODUCTS = 2**10  # of float32, of each thread: with more, registers spill (ptxas, sm_90)
# Tiles (rows, sources, warps, stages) by bytes of a number, best first. Shared memory holds the queries of the rows and
# the keys of each stage, bytes x head_dim x (rows + stages x sources); an H100 lends 227 KiB to a program, other cards
# 99. Heads of 256 in 16 bits take 192 KiB, 128, 80, 64, 48, 16. float32 has no tensor cores, and its tiles are bounded
# by `PRODUCTS`: rows x sources x head_dim / threads.
TILES = {
    2: ((128, 128, 8, 2), (128, 64, 8, 2), (64, 32, 4, 3), (64, 32, 4, 2), (32, 32, 4, 2), (16, 16, 4, 1)),
    4: ((64, 64, 8, 2), (64, 32, 8, 2), (32, 32, 8, 2), (32, 16, 4, 2), (16, 16, 4, 1)),
}


def importable() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def takes(q: torch.Tensor, k: torch.Tensor) -> bool:
    """Whether the passes run on these of themselves: on a card, where Triton works, in a type that they know."""
    able = q.device.type == "cuda" and q.dtype == k.dtype and q.dtype in DTYPES and importable()
    return able and failing(q.device) is None


@functools.cache
def failing(device: torch.device) -> str | None:
    """Why Triton runs no kernel on a device, for example for want of a C compiler; None if it does.

    Raises:
        torch.OutOfMemoryError: it passes, and nothing is remembered.
    """
    try:
        place = torch.zeros(1, dtype=torch.int32, device=device)
        with torch.cuda.device_of(place):
            _kernels().touch[(1,)](place)
        return None if int(place) == 1 else "a kernel that wrote nothing"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers, drivers and Triton's own loading fail in many ways
        return one_line(error)


def check(q: torch.Tensor, k: torch.Tensor) -> None:
    """Refuse what the passes cannot do.

    Raises:
        InputError: Triton is missing; a CPU without Triton's interpreter; numbers of another type.
        BackendError: Triton is there and compiles or runs no kernel on the card.
    """
    if not importable():
        expected = "pip install triton, or method='tiles'"
        raise InputError("fused passes need Triton", got="no package of this name", expected=expected)
    if q.device.type != "cuda" and not _interpreted():
        expected = "cuda, or method='tiles'; or, slowly, TRITON_INTERPRET=1 set before Python starts"
        raise InputError("fused passes run on a card", got=q.device.type, expected=expected)
    if q.dtype != k.dtype or q.dtype not in DTYPES:
        expected = "both float32, bfloat16 or float16, or method='tiles'"
        raise InputError("fused passes do not know these types", got=f"{q.dtype}, {k.dtype}", expected=expected)
    if q.device.type == "cuda" and (why := failing(q.device)):
        raise BackendError("Triton runs no kernel on this card", got=why, expected="a C compiler, or method='tiles'")


def tiling(head_dim: int, width: int, rows: int, sources: int, shared: int = 227 * 2**10) -> tuple[int, int, int, int]:
    """(rows, sources, warps, stages) of a tile.

    Args:
        head_dim: padded. width: bytes of a number. rows: most of one block that are taken together.
        sources: most of one block. shared: bytes of shared memory that a program can have.
    """
    for most_rows, most_sources, warps, stages in TILES[width]:
        fits = width * head_dim * (most_rows + stages * most_sources) + SPARE <= shared
        if fits and (width == 2 or most_rows * most_sources * head_dim <= 32 * warps * PRODUCTS):
            break
    down, right = min(most_rows, padded(rows)), min(most_sources, padded(sources))
    return down, right, warps if width == 4 or down > 64 else 4, stages


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
    columns = -(-sources // block) + BINS + (padded(kinds) if kinds else 0)
    many = rows // 16 + 1 + -(-rows // block)  # tiles of 16 rows, the smallest; never so many where rows are many
    parts = max(min(heads * many * columns, PARTS), 4 * heads * columns)
    again = 24 * min(links, rows) * sources + 4 * sources * head_dim if links else 0
    return 12 * heads * rows + 20 * parts + 12 * sources * bool(kinds) + 16 * rows + again


def add(
    statistics: Statistics, q: torch.Tensor, k: torch.Tensor, at: torch.Tensor, gate: torch.Tensor | None = None
) -> None:
    """Rows of all heads; fills a `Statistics` like its own `add`.

    Args:
        q: [row, query_head, head_dim], k: [source, kv_head, head_dim], rotated; k at least up to the last row.
        at: [row] positions among the sources, ascending. gate: [row, query_head, head_dim], opened.
    """
    if q.device.type == "cpu":  # Triton's interpreter multiplies the bits of bfloat16; these are the same numbers
        q, k = q.float(), k.float()
    q, k = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k))
    device, block, heads, kinds = q.device, statistics.block, statistics.heads, statistics.kinds
    most = int(torch.unique_consecutive(at // block, return_counts=True)[1].max())
    wide = padded(q.shape[-1])
    down, right, warps, stages = tiling(wide, q.element_size(), most, min(block, len(k)), _shared(device))
    sizes = dict(D=q.shape[-1], DP=wide, BM=down, BN=right, num_warps=warps, num_stages=stages, enable_fp_fusion=True)
    sizes["PRECISION"] = "ieee" if q.dtype == torch.float32 else "tf32"
    number = lambda numbers: torch.as_tensor(numbers).int().to(device)
    key_head = {place: kv_head for kv_head, places in statistics.groups.items() for place in places}
    readers = number(heads), number([key_head[place] for place in range(len(heads))])
    layout = (q.stride(0), q.stride(1), k.stride(0), k.stride(1), len(at), q.shape[-1] ** -0.5 * math.log2(math.e))
    names = ("level", "entropy", "top", "sink", "local", "distance")
    rows = {name: torch.empty(len(heads), len(at), dtype=torch.float32, device=device) for name in names}
    kernels, starts, positions, stretches = _kernels(), cut(at, block, down), number(at), _stretches(statistics, device)
    columns = int(at[-1]) // block + 1, BINS, padded(kinds) if kinds else 0
    step = max(4, PARTS // (len(heads) * sum(columns)) // 4 * 4)  # places in memory that Triton takes for aligned
    for begin in range(0, len(starts) - 1, step):
        home = at[starts[begin : begin + step + 1][:-1].long()] // block
        parts = [torch.zeros(len(heads), len(home), n, dtype=torch.float32, device=device) for n in columns]
        inputs, grid = (q, k, positions, number(starts[begin:]), *readers), (len(home), len(heads))
        outputs = (*(rows[n] for n in names[3:]), *parts, *layout)
        bounds = (statistics.sink, statistics.local, block, columns[0])
        with torch.cuda.device_of(q):
            kernels.first[grid](*inputs, *(rows[n] for n in names[:3]), *layout, **sizes)
            kernels.second[grid](
                *inputs, rows["level"], *stretches, *outputs, *bounds, BINS_UP=BINS, KINDS_UP=columns[2], **sizes
            )
        pooled, by_bin, by_kind = parts
        bins = len(statistics.edges) - 1
        statistics.pool(range(len(heads)), home.to(device), pooled, by_bin[..., :bins], by_kind[..., :kinds])
    kept = {name: rows[name] for name in ("entropy", *names[3:])}
    statistics.keep(at, [(list(range(len(heads))), kept)], gate)
    if statistics.links:
        _remember(statistics, q, k, at, rows["top"], readers[1])


def _remember(statistics, q, k, at, top, kv):
    """The strongest weights, from the rows with the largest maxima, which are formed again."""
    rows = top.topk(min(statistics.links, len(at)), -1).indices.sort(-1).values.cpu()
    for place, (head, kv_head) in enumerate(zip(statistics.heads, kv.tolist(), strict=True)):
        there = at[rows[place]]
        for part, s in tiles(q[rows[place].to(q.device), head][:, None], k[:, kv_head], there):
            statistics.remember([place], s.softmax(-1), there[part].to(q.device))


def _kernels():
    """The passes; Triton loads with them, and not before."""
    return importlib.import_module("labkit.attention.passes")


def _interpreted():
    return type(_kernels().first).__name__ == "InterpretedFunction"


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
    if device.type == "cpu":
        return 227 * 2**10
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 2**16)  # 64 KiB on AMD's
