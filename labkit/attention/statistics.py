"""What every row of a softmax map says, without the map: entropy, sinks, distances, pooled blocks, strongest links.

Rows are taken in tiles against all sources they can see, so memory grows with the rows of a tile times the length and
never with its square. For a row p over the sources j ≤ t, with logits s and lse = ln Σ e^s:

    entropy    H = -Σ p ln p = Σ p (lse - s)       support  e^H, the number of sources it is spread over
    sink       Σ p over the first few sources      local    Σ p over the last few
    distance   Σ p over 2^n - 1 ≤ t - j < 2^{n+1} - 1, n = 0, 1, ...; and the mean Σ p (t - j)
    pooled     Σ p over each block of sources, summed over each block of rows
    links      the largest p of all rows, and where they point

Everything is exact: the numbers of the dense map. The output gate is not in the map; its mean is given beside it
(arXiv 2505.06708), since a head with mass but a closed gate contributes nothing.
"""

from collections.abc import Mapping, Sequence

import torch

from labkit.attention.distances import edges
from labkit.attention.softmax import tiles

LOWEST = torch.finfo(torch.float32).min


class Statistics:
    """Accumulates the statistics of rows of one layer.

    Args:
        heads: query heads. groups: `{kv head: places in heads of those that read it}`, as `Spec.kv_groups` gives them.
        length: sources there will be in the end. block: rows and sources that are pooled.
        sink, local: sources at the two ends. links: strongest weights that are remembered of each head.
        segments: [length] segment of every source, or None.
    """

    def __init__(
        self,
        heads: Sequence[int],
        groups: Mapping[int, Sequence[int]],
        length: int,
        *,
        block: int = 64,
        sink: int = 4,
        local: int = 64,
        links: int = 0,
        segments: Sequence[int] | None = None,
    ):
        self.heads, self.groups, self.length, self.block = list(heads), groups, length, block
        self.sink, self.local, self.links = sink, local, links
        self.blocks, self.edges = -(-length // block), edges(length)
        self.segments = None if segments is None else torch.as_tensor(segments)
        self.kinds = 0 if segments is None else int(self.segments.max()) + 1
        self.rows = {}  # name -> list of [head, row] pieces
        self.pooled = torch.zeros(len(self.heads), self.blocks, self.blocks, dtype=torch.float64)
        self.counts = torch.zeros(self.blocks, dtype=torch.float32)
        self.histogram = torch.zeros(len(self.heads), self.blocks, len(self.edges) - 1, dtype=torch.float64)
        self.masses = torch.zeros(len(self.heads), self.blocks, self.kinds, dtype=torch.float64)  # by segment
        self.top = dict.fromkeys(range(len(self.heads)))  # place: (weight, token, source) [link], strongest first

    def add(self, q: torch.Tensor, k: torch.Tensor, at: torch.Tensor, gate: torch.Tensor | None = None) -> None:
        """Rows of all heads.

        Args:
            q: [row, query_head, head_dim], k: [source, kv_head, head_dim], rotated; k at least up to the last row.
            at: [row] positions among the sources, ascending.
            gate: [row, query_head, head_dim], opened.
        """
        groups = []
        for kv_head, places in self.groups.items():
            pieces = []
            for rows, s in tiles(q[:, [self.heads[i] for i in places]], k[:, kv_head], at):
                log_p = s.sub_(s.logsumexp(-1, keepdim=True))
                p = log_p.exp()
                log_p[..., int(at[rows][0]) + 1 :].clamp_(min=LOWEST)  # there p is 0
                pieces.append({"entropy": -(p * log_p).sum(-1)} | self._reduce(places, p, at[rows].to(p.device)))
            groups.append((places, {name: torch.cat([piece[name] for piece in pieces], 1) for name in pieces[0]}))
        self.keep(at, groups, gate)

    def keep(self, at: torch.Tensor, groups: list, gate: torch.Tensor | None) -> None:
        """Row statistics of the next rows: (places, `{name: [head, row, ...]}`) of every group, and their gates."""
        for name, example in groups[0][1].items():
            column = example.new_empty(len(self.heads), *example.shape[1:])
            for places, rows in groups:
                column[places] = rows[name]
            self.rows.setdefault(name, []).append(column)
        if gate is not None:
            self.rows.setdefault("gate", []).append(gate.mean(-1, dtype=torch.float32)[:, self.heads].T)
        self.counts.index_add_(0, at.cpu() // self.block, torch.ones(len(at), dtype=torch.float32))

    def pool(
        self,
        places: Sequence[int],
        home: torch.Tensor,
        masses: torch.Tensor,
        distances: torch.Tensor,
        segments: torch.Tensor,
    ) -> None:
        """Add rows, or sums of rows, of the blocks `home`: mass of each block of sources, bin and segment.

        Args:
            places: of the heads. home: [row], ascending. masses, distances, segments: [head, row, ...]; of blocks the
                first ones.
        """
        blocks, rows_of = home.unique_consecutive(return_counts=True)  # rows of a tile change few blocks of very many
        lengths = rows_of.expand(len(places), -1).contiguous()
        heads = torch.tensor(list(places), device=blocks.device)[:, None]
        for name, rows in (("pooled", masses), ("histogram", distances), ("masses", segments)):
            whole = getattr(self, name).to(rows.device)
            # One after another, in order: atomic sums would change their last digits from run to run on a card.
            part = torch.segment_reduce(rows.double(), "sum", lengths=lengths, axis=1, unsafe=True)
            whole[..., : rows.shape[-1]][heads, blocks] += part
            setattr(self, name, whole)

    def _reduce(self, places, p, at):
        """Row statistics `{name: [head, row, ...]}` of p [head, row, source]; pools, distances and links on the way."""
        heads, rows, seen = p.shape
        count = -(-seen // self.block)
        whole = p if count * self.block == seen else torch.nn.functional.pad(p, (0, count * self.block - seen))
        masses = whole.view(heads, rows, count, self.block).sum(-1)  # exact block masses of every row
        upto = torch.nn.functional.pad(p.double().cumsum(-1), (1, 0))
        total = upto.gather(2, (at + 1)[None, :, None].expand(heads, -1, 1))
        bounds = torch.tensor([*self.edges, self.local], device=p.device)
        start = (at[:, None] + 1 - bounds).clamp(min=0)  # sources from here on are nearer than the bound
        nearer = total - upto.gather(2, start.expand(heads, -1, -1))
        segments = p.new_zeros(heads, rows, self.kinds)
        if self.kinds:
            segments.index_add_(2, self.segments[:seen].to(p.device), p)
        self.pool(places, at // self.block, masses, between(nearer[..., :-1]), segments)
        stats = {"sink": p[..., : self.sink].sum(-1), "local": nearer[..., -1].float()}
        stats["distance"] = at.to(p.dtype) - p @ torch.arange(seen, device=p.device, dtype=p.dtype)
        if self.links:
            self.remember(places, p, at)
        return stats

    def remember(self, places: Sequence[int], p: torch.Tensor, at: torch.Tensor) -> None:
        """Put the strongest weights of a tile p [head, row, source] beside those of the tiles before; p is spoilt."""
        seen, free = p.shape[-1], int(at[0]) + 1
        p[..., free:].masked_fill_(torch.arange(free, seen, device=p.device) > at[:, None], -1)  # no weights
        for n, place in enumerate(places):
            mass, where = p[n].flatten().topk(min(self.links, int((at + 1).sum())))
            new = (mass, at[torch.div(where, seen, rounding_mode="floor")], where % seen)
            known = self.top[place]
            if known is not None:
                joined = [torch.cat(pair) for pair in zip(known, new, strict=True)]
                best = joined[0].topk(min(self.links, len(joined[0]))).indices
                new = tuple(column[best] for column in joined)
            self.top[place] = new

    def column(self, name: str) -> torch.Tensor:
        """[head, row, ...] of a row statistic, of all rows so far."""
        return torch.cat(self.rows[name], 1).cpu()

    def block_means(self, rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """[head, block, ...] mean of [head, row, ...] over the rows of each block, NaN where none was taken."""
        total = torch.zeros(len(rows), self.blocks, *rows.shape[2:], dtype=torch.float64)
        total.index_add_(1, at // self.block, rows.double())
        return total / self.counts.double().view(-1, *[1] * (rows.ndim - 2))

    def block_extremes(self, rows: torch.Tensor, at: torch.Tensor) -> list[torch.Tensor]:
        """[head, block] smallest and largest of [head, row] over the rows of each block."""
        home = (at // self.block).expand_as(rows)
        blank = torch.full((len(rows), self.blocks), torch.nan, dtype=rows.dtype)
        return [blank.scatter_reduce(1, home, rows, kind, include_self=False) for kind in ("amin", "amax")]

    def reduced(self, at: torch.Tensor) -> dict[str, torch.Tensor]:
        """`{name: [head, block, ...]}`: means of the rows of each block, whose positions are `at`; NaN for none."""
        names = [name for name in ("entropy", "sink", "local", "distance", "gate") if name in self.rows]
        means, entropy = {name: self.block_means(self.column(name), at) for name in names}, self.column("entropy")
        means["entropy_low"], means["entropy_high"] = self.block_extremes(entropy, at)
        means["support"], count = self.block_means(entropy.double().exp(), at), self.counts.double()[:, None]
        pools = {"histogram": self.histogram, "pooled": self.pooled} | ({"mass": self.masses} if self.kinds else {})
        return means | {name: pool.cpu() / count for name, pool in pools.items()}

    def strongest(self) -> list[torch.Tensor]:
        """(weight, token, source) [head, link] of the largest weights of all rows; fewer where there are fewer."""
        return [torch.stack(column).cpu() for column in zip(*self.top.values(), strict=True)]


def between(nearer: torch.Tensor) -> torch.Tensor:
    """Mass in each bin, from the mass below each edge."""
    return nearer.diff(dim=-1).clamp(min=0)
