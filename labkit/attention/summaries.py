"""The reading `attention.summary`: what the rows of a layer's softmax maps say, means over blocks of tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.attention import fused, kernel, methods
from labkit.attention.distances import bin_axis, edges
from labkit.attention.softmax import ELEMENTS, SEAMS, TILE, chosen, gated, inputs, proven
from labkit.attention.statistics import Statistics
from labkit.errors import InputError
from labkit.notation import label, select
from labkit.plan import Cost
from labkit.reading import Request, reading
from labkit.spec import Spec
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

LEAST = {"block": 1, "links": 0, "sink": 0, "local": 0}
# Block statistics: the quantity of each, and the axes after (query_head, block).
BLOCKS = {
    "entropy": ("entropy", ()),
    "entropy_low": ("entropy", ()),
    "entropy_high": ("entropy", ()),
    "support": ("support", ()),
    "sink": ("sink", ()),
    "local": ("local", ()),
    "distance": ("distance", ()),
    "gate": ("gate", ()),
    "histogram": ("histogram", ("bin",)),
    "pooled": ("pooled", ("source_block",)),
}


def blocks_of(spec: Spec) -> dict[str, tuple[str, tuple[str, ...]]]:
    """`BLOCKS` of a model: all of them, or all but the gate."""
    return {name: facts for name, facts in BLOCKS.items() if name != "gate" or gated(spec)}


def cost_of(request: Request) -> Cost:
    """Of a summary by each method; of None as where there is no card, which takes more than the fused passes."""
    spec, sources, heads, rows = request.spec, request.sources, request.heads, request.rows
    block, links = request.options.get("block", 64), request.options.get("links", 0)
    blocks, segments = -(-sources // block), request.options.get("segments")
    kinds = 0 if segments is None else len(set(map(str, segments)))
    links = min(links, rows * sources)
    numbers = heads * blocks * (len(BLOCKS) - 2 + len(edges(sources)) - 1 + blocks + kinds)
    # Rotated queries and keys, opened gates; of every row five numbers, and two in float64; pools in float64.
    rotated = request.tokens * (2 * spec.query_heads + spec.kv_heads) * spec.head_dim * request.width
    scratch = rotated + 40 * heads * rows + 16 * numbers + 40 * heads * links
    whole, columns = rows == request.tokens, kernel.columns(blocks, kinds)
    exact = whole and not links and request.width == 4
    match methods.chosen(request.options.get("method"), columns, spec.head_dim, exact):
        case "kernel":
            scratch += kernel.scratch(request.group, rows, sources, spec.head_dim, columns, block)
        case "fused":
            scratch += fused.scratch(heads, rows, sources, spec.head_dim, block, kinds, links)
            scratch += 0 if whole else 2 * rows * spec.query_heads * spec.head_dim * request.width
        case _:
            # What was taken of queries and gates. Of a tile p, ln p and two sums of p in float64.
            tile = min(request.group * min(rows, TILE) * sources, ELEMENTS)
            taken = rows * (2 * spec.query_heads + request.group) * spec.head_dim * request.width
            scratch += taken + 24 * tile
    return Cost(4 * numbers + 20 * heads * links, scratch, 2.0 * heads * rows * sources * spec.head_dim)


@reading("attention", seams=SEAMS, instead="deltanet.memory(run, layer={layer})", cost=cost_of, least=LEAST)
def summary(
    run: Run,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | int | None = None,
    samples: int | None = None,
    block: int = 64,
    links: int = 0,
    segments: Sequence[str] | None = None,
    sink: int = 4,
    local: int = 64,
    method: str | None = None,
) -> "xarray.Dataset":
    """Exact statistics of the softmax map of a gated attention layer, in memory that is linear in the length.

    Args:
        run: `Run` with the seams q, k, v, gated and, if heads have one, gate of this layer.
        layer: attention layers. heads: query heads; None for all.
        rows: reading tokens, relative to the run's first. samples: instead, so many of them, evenly spaced. Neither is
            all. What is left out is said in `attrs["rows"]`.
        block: rows and sources per pooled block.
        links: how many of the strongest weights to keep per head; fewer where there are fewer.
        segments: a name for every source (for example of the spans of a conversation); adds `mass` by segment.
        sink, local: how many sources at the beginning, and how many up to the reading token, are counted as such.
        method: "tiles" of the map, the reference; "kernel", the same numbers from stock attention kernels (see
            `attention.kernel`); "fused", from two passes in Triton (`attention.fused`). None takes the passes on a card
            where Triton is installed; kernels where they are exact and cheaper: all rows, float32, few blocks.

    Returns:
        Dataset. Means over the rows of each block, (query_head, block): `entropy`, with `entropy_low` and
        `entropy_high`, `support`, `sink`, `local`, `distance`, `gate` if heads have one. `histogram` (query_head,
        block, bin), mass by dyadic distance. `pooled` (query_head, block, source_block), mass of each block of sources,
        mean over the rows of a block, so that it sums to 1. `mass` (query_head, block, segment). `links` (query_head,
        link) with `link_token` and `link_source`.

    Raises:
        LayerError, SeamError, ParityError, InputError, BackendError. Parity is taken on up to 64 of the rows.

    Source: softmax attention, arXiv 1706.03762 section 3.2.1; its output gate, arXiv 2505.06708.
    """
    heads, first = select(heads, run.spec.query_heads, "query_head"), run.start.length
    rows, text = chosen(rows, samples, len(run))
    names, segments = _segments(segments, first + len(run))
    x, groups = inputs(run, layer), run.spec.kv_groups(heads)
    options = dict(block=block, sink=sink, local=local, links=links, segments=segments)
    statistics, at = Statistics(heads, groups, len(x.k), **options), torch.tensor(rows) + first
    methods.fill(statistics, x, rows, first, method)
    attrs = {"rows": text, "block": block} | proven(run, layer, "attention.summary", heads=heads, rows=rows, x=x)
    means, dims = statistics.reduced(at), ("query_head", "block")
    blocks = blocks_of(run.spec).items()
    variables = {name: ((*dims, *axes), means[name].float(), quantity) for name, (quantity, axes) in blocks}
    coords = {"query_head": heads, **block_axes(torch.arange(statistics.blocks) * block, statistics.counts)}
    coords |= bin_axis(len(statistics.edges) - 1)
    if links:
        mass, token, source = statistics.strongest()
        of_link = ("query_head", "link")
        variables |= {"links": (of_link, mass, "pattern"), "link_token": (of_link, token, None)}
        variables["link_source"] = (of_link, source, None)
    if names is not None:
        variables["mass"], coords["segment"] = ((*dims, "segment"), means["mass"].float(), "mass"), names
    return label(variables, coords=coords, attrs=attrs)


def block_axes(starts: torch.Tensor, counts: torch.Tensor) -> dict:
    """Coordinates of blocks of rows and of sources: where each starts, and how many of its rows were taken."""
    blocks = range(len(starts))
    return {
        "block": blocks,
        "block_start": ("block", starts),
        "rows_taken": ("block", counts.int()),
        "source_block": blocks,
    }


def _segments(segments, length):
    if segments is None:
        return None, None
    if len(segments) != length:
        raise InputError("one segment per source", got=f"{len(segments)} names", expected=f"{length} sources")
    names = list(dict.fromkeys(map(str, segments)))
    place = {name: i for i, name in enumerate(names)}
    return names, [place[str(name)] for name in segments]
