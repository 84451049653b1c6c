"""A window on the maps of heads at any scale: exact masses between stretches of tokens, at a fixed number of cells.

A window of a million by a million tokens and one of 64 by 64 cost the same picture; each cell is the mass that its
reading tokens put on its sources, mean over the reading tokens, from softmax rows over all sources.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.attention.distances import stretch_text
from labkit.attention.softmax import SEAMS, Softmax, parts_cost
from labkit.errors import InputError
from labkit.notation import Quantity, label, select, whole_numbers
from labkit.plan import Cost
from labkit.reading import Request, reading
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

LEAST = 1e-6  # mass below which a cell counts as this, so that its logarithm is a number
LIFT = Quantity("log₂ lift", "mass over that of an even head", "1", "signed", "this run")


def _cost(request: Request) -> Cost:
    cells, sources = request.options.get("cells", 64), request.options.get("sources")
    wide = len(_readable(sources, request.sources - request.tokens, request.tokens))
    result = 8 * request.heads * min(cells, request.rows) * min(cells, wide)
    return parts_cost(request, result, 8 * wide // request.sources + 1)


@reading("attention", seams=SEAMS, instead="deltanet.implied_row(run, layer={layer})", cost=_cost, least={"cells": 1})
def window(
    run: Run,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
    cells: int = 64,
) -> "xarray.Dataset":
    """What stretches of reading tokens take from stretches of sources; for `draw.zoom`.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        layer: attention layers. heads: query heads; None for all.
        rows: consecutive reading tokens, relative to the run's first, for example range(64, 128); None for all.
        sources: consecutive sources, relative to the run's first token, negative from its end; what is further back
            than the run reaches into the warm cache, where -len(run) - 1 is the last token. None for all, cached too.
        cells: most stretches each way; their lengths differ by one token at most.

    Returns:
        Dataset over (query_head, token, source), the last reading token and the first source of each stretch: `mass`,
        and `lift`, log₂ of the mass over that of a head that spreads its attention evenly; NaN where there is nothing
        to read.

    Raises:
        LayerError, SeamError, ParityError; InputError: stretches outside the run or with gaps, no cells.

    Source: softmax attention, arXiv 1706.03762 section 3.2.1.
    """
    heads, known = select(heads, run.spec.query_heads, "query_head"), run.start.length
    rows = _consecutive("rows", select(rows, len(run), "token"))
    sources = _consecutive("sources", _readable(sources, known, len(run)))
    softmax = Softmax(run, layer, heads=heads, rows=rows)
    device, down, right = softmax.x.q.device, _edges(rows, cells), _edges(sources, cells)
    mass = torch.zeros(len(heads), len(down) - 1, len(right) - 1, dtype=torch.float64, device=device)
    even = mass.new_zeros(mass.shape[1:])
    row, column, edges = _stretches(down).to(device), _stretches(right).to(device), right.to(device)
    for part in softmax.parts():
        p = softmax.maps(part)[..., sources[0] : sources[-1] + 1].double()
        home = row[part]
        mass.index_add_(1, home, p.new_zeros(*p.shape[:2], len(right) - 1).index_add_(2, column, p))
        at = run.positions[rows[part]].to(device)[:, None] + 1
        readable = edges[None].minimum(at).diff(dim=1)  # sources of each stretch that a row can read
        even.index_add_(0, home, readable.double() / at)
    sizes = down.diff()[:, None].to(device)
    mass, even = mass / sizes, even / sizes
    lift = torch.where(even > 0, (mass.clamp(min=LEAST) / even).log2(), torch.nan)
    down, texts, dims = down + known, ["·"] * known + list(run.tokens), ("query_head", "token", "source")
    coords = {"query_head": heads, "token": down[1:] - 1, "source": right[:-1]}
    coords |= {"token_text": ("token", _texts(down, texts)), "source_text": ("source", _texts(right, texts))}
    variables = {"mass": (dims, mass.float(), "mass"), "lift": (dims, lift.float(), LIFT)}
    return label(variables, coords=coords, attrs=softmax.proof("attention.window"))


def _readable(sources, known, count):
    """Absolute positions of sources that are given relative to the first of `count` tokens, after `known` cached ones.

    Raises:
        InputError: out of range, or none chosen.
    """
    if sources is None:
        return list(range(known + count))
    chosen = whole_numbers(sources, "source")
    outside = [source for source in chosen if not -known - count <= source < count]
    if outside or not chosen:
        cached = f", of which those below {-count} are cached" if known else ""
        expected = f"0 to {count - 1}, or {-known - count} to -1{cached}; None for all"
        raise InputError(
            "source out of range" if outside else "no source chosen", got=outside or None, expected=expected
        )
    return [source + known + (count if source < 0 else 0) for source in chosen]


def _consecutive(name, places):
    if places != list(range(places[0], places[-1] + 1)):
        raise InputError(
            f"{name} of a window follow one another", got=places[:8], expected="for example range(64, 128)"
        )
    return places


def _edges(places, cells):
    count = min(cells, len(places))
    return places[0] + torch.arange(count + 1) * len(places) // count


def _stretches(edges):
    """The stretch of every position between the edges."""
    return torch.arange(len(edges) - 1).repeat_interleave(edges.diff())


def _texts(edges, texts):
    """The token of a stretch of one, else its positions."""
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [texts[a] if b == a + 1 else stretch_text(a, b) for a, b in pairs]
