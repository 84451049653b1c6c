"""The softmax of an attention layer: any rows and heads, recomputed from the seams, proven by the model's output.

    s_tj = ⟨R_t q_t, R_j k_j⟩ / √d      R rotates the first channels, if any; the rest carry no position
    P_tj = softmax_j≤t(s_tj)
    y_t  = σ(gate_t) ⊙ Σ_j P_tj v_j     and this, not P·v, reaches the residual stream; 1 for σ(gate) without a gate

Source: `Qwen3_5Attention.forward`, `OlmoHybridAttention.forward` (transformers); the output gate follows "Gated
Attention for Large Language Models" (arXiv 2505.06708). Which key/value head a query head reads is said by
`Spec.kv_head`. The model's own attention kernel stays as it is: nothing switches to eager attention, and only the rows
and heads that are asked for are formed.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import torch

from labkit import stats
from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import select
from labkit.plan import Cost
from labkit.reading import Request
from labkit.rotary import rotate
from labkit.spec import Spec
from labkit.trace import Run

SEAMS = ("q", "k", "v", "gate", "gated")  # as far as a model has them
TILE, ELEMENTS = 64, 2**24  # rows at once; logits at once


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What enters the softmax.

    Attributes:
        q: [token, query_head, head_dim], rotated.
        k, v: [source, kv_head, head_dim], k rotated; sources include those of a warm cache.
        gate: [token, query_head, head_dim], after the sigmoid; None where heads have no gate.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    gate: torch.Tensor | None

    def opened(self, rows: Sequence[int] | slice = slice(None)) -> torch.Tensor | None:
        """The gates of some rows, or None."""
        return None if self.gate is None else self.gate[rows]


@public
def inputs(run: Run, layer: int) -> Inputs:
    """Rotated queries and keys, values and opened gates of a layer; needs the seams q, k, v and, if any, gate.

    Raises:
        InputError: rows that were read under different scalings.
    """
    if "dynamic" in run.scaling.kind and run.prompt_length < len(run) and run.scaling.at().factor > 1:
        got, expected = str(run.scaling), "all rows read in one pass, under one scaling"
        raise InputError(
            "rows of this run were read under different scalings", got=got, expected=expected, hint="lab.trace(run.ids)"
        )
    cos, sin = (part.to(run.seams[layer, "q"].device)[:, None] for part in run.rotary)
    q, k = (rotate(run.seams[layer, name], cos, sin) for name in ("q", "k"))
    start = run.start
    if start.length:
        cached = start.keys[layer].transpose(0, 1).to(k)
        if start.position_ids is not None:  # keys that a dynamic scaling turns at every pass
            cached = rotate(cached, *(part[:, None] for part in start.angles(run.scaling, run.spec, k)))
        k = torch.cat([cached, k])
    return Inputs(q, k, values(run, layer), run.seams[layer, "gate"].sigmoid() if gated(run.spec) else None)


def gated(spec: Spec) -> bool:
    """Whether heads have an output gate."""
    return "gate" in spec.seams["attention"]


def values(run: Run, layer: int) -> torch.Tensor:
    """v [source, kv_head, head_dim], those of a warm cache first."""
    v, start = run.seams[layer, "v"], run.start
    return torch.cat([start.values[layer].transpose(0, 1).to(v), v]) if start.length else v


def tiles(q: torch.Tensor, k: torch.Tensor, at: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Logits of heads that read one key head, some rows at a time; no source after a tile is touched.

    Args:
        q: [row, head, head_dim], k: [source, head_dim], both rotated. at: [row] positions among the sources.

    Yields:
        (rows, s [head, row, source] in float32, -inf after each row's own position).
    """
    scale, k, device, a = q.shape[-1] ** -0.5, k[: int(at.max()) + 1].float(), q.device, 0
    while a < len(at):
        fit = ELEMENTS // (q.shape[1] * (int(at[a : a + TILE].max()) + 1))
        rows = slice(a, min(a + max(1, min(TILE, fit)), len(at)))
        free, seen = int(at[rows].min()) + 1, int(at[rows].max()) + 1  # all rows read up to free, none from seen on
        s = (q[rows].transpose(0, 1).float() * scale) @ k[:seen].T
        s[..., free:].masked_fill_(torch.arange(free, seen, device=device) > at[rows].to(device)[:, None], -torch.inf)
        yield rows, s
        a = rows.stop


class Softmax:
    """Rows and heads of one layer's softmax map. What they mix is remembered, so that it can be proven.

    Args:
        run: `Run` with `SEAMS` of this layer. heads: query heads. rows: indices below the run's length.
        x: its `Inputs`, if they are known.
    """

    def __init__(self, run, layer: int, *, heads: Sequence[int], rows: Sequence[int], x: Inputs | None = None):
        self.run, self.layer, self.heads, self.rows = run, layer, list(heads), list(rows)
        self.x = inputs(run, layer) if x is None else x
        self.mixed = self.x.q.new_full((len(self.rows), len(self.heads), run.spec.head_dim), torch.nan).float()

    def parts(self) -> list[slice]:
        """Slices of at most `TILE` rows, of which the maps of all heads stay below `ELEMENTS` numbers."""
        step = max(1, min(TILE, ELEMENTS // (len(self.heads) * len(self.x.k))))
        return [slice(a, a + step) for a in range(0, len(self.rows), step)]

    def maps(
        self, part: slice = slice(None), *, logits: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """P [query_head, row, source] of a part of the rows; with `logits` also s, -inf after the row."""
        x, rows, mixed = self.x, self.rows[part], self.mixed[part]
        shape = (len(self.heads), len(rows), len(x.k))
        weight = torch.zeros(shape, device=x.q.device, dtype=torch.float32)
        before = torch.full_like(weight, -torch.inf) if logits else None
        for kv_head, places in self.run.spec.kv_groups(self.heads).items():
            q, v = x.q[rows][:, [self.heads[i] for i in places]], x.v[:, kv_head].float()
            for tile, s in tiles(q, x.k[:, kv_head], self.run.positions[rows]):
                p, seen = s.softmax(-1), s.shape[-1]
                mixed[tile, places] = (p @ v[:seen]).transpose(0, 1)
                for n, i in enumerate(places):
                    weight[i, tile, :seen] = p[n]
                    if logits:
                        before[i, tile, :seen] = s[n]
        return (weight, before) if logits else weight

    def proof(self, name: str) -> dict[str, float]:
        """Parity of what the rows mixed, once maps of all of them were made; see `Run.check_parity`."""
        return proof(self.run, self.layer, name, self.heads, self.rows, self.mixed)


def proof(
    run: Run, layer: int, name: str, heads: Sequence[int], rows: Sequence[int], mixed: torch.Tensor
) -> dict[str, float]:
    """Parity of σ(gate) ⊙ Σ P v with the model's own seam `gated`; mixed: Σ P v [row, query_head, head_dim].

    Raises:
        ParityError: above the tolerance, or rows that were not mixed.
    """
    if gated(run.spec):
        mixed = mixed * run.seams[layer, "gate"][rows][:, heads].sigmoid().float()
    return run.check_parity(layer, name, mixed, run.seams[layer, "gated"][rows][:, heads])


def proven(
    run: Run,
    layer: int,
    name: str,
    *,
    heads: Sequence[int],
    rows: Sequence[int],
    x: Inputs | None = None,
    most: int = 64,
) -> dict[str, float]:
    """Parity of at most so many of the rows, evenly spaced, for readings that form no map."""
    rows = list(rows)
    softmax = Softmax(run, layer, heads=heads, rows=rows[:: -(-len(rows) // most)], x=x)
    for part in softmax.parts():
        softmax.maps(part)
    return softmax.proof(name)


def spaced(count: int, length: int) -> list[int]:
    """So many places below a length, evenly spaced, the last one included."""
    return [length - 1 - i * length // count for i in range(count)][::-1]


def chosen(rows: int | Sequence[int] | None, samples: int | None, length: int) -> tuple[list[int], str]:
    """(indices of rows in ascending order, what to say about them): `rows`, else so many `samples`, else all.

    Raises:
        InputError: both, no sample, rows out of range.
    """
    if rows is not None and samples is not None:
        raise InputError("either rows or samples", got="both", expected="positions, or a number of them")
    if samples is not None:
        at = spaced(min(samples, length), length)
        return at, stats.share_text(len(at), length, "evenly spaced")
    at = sorted(set(select(rows, length, "token")))
    return at, stats.share_text(len(at), length, "chosen")


def map_cost(request: Request, maps: int = 1) -> Cost:
    """Of so many maps [query_head, token, source], and of what is alive beside them at the highest moment."""
    spec, sources, rows = request.spec, request.sources, request.rows
    cell = request.heads * rows * sources
    rotated = request.tokens * (2 * spec.query_heads + spec.kv_heads) * spec.head_dim * request.width
    tile = 2 * min(request.group * min(rows, TILE) * sources, ELEMENTS)
    mixed = rows * request.heads * spec.head_dim
    scratch = rotated + 4 * (mixed + max(tile + rows * request.group * spec.head_dim, 3 * mixed))
    return Cost(4 * maps * cell, scratch, 4.0 * cell * spec.head_dim)


def parts_cost(request: Request, result: int, cell: int) -> Cost:
    """Of a result that is made from parts of the map (`Softmax.parts`), `cell` bytes beside each number of a part."""
    numbers = request.heads * request.sources
    rows = max(1, min(request.rows, TILE, ELEMENTS // numbers))
    part = map_cost(dataclasses.replace(request, rows=rows))
    mixed = 12 * (request.rows - rows) * request.heads * request.spec.head_dim
    flops = part.flops * request.rows / rows
    return Cost(result, part.result + part.scratch + mixed + cell * rows * numbers, flops)
