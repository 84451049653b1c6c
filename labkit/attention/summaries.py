"""What every row of a softmax map says, without the map: entropy, sinks, distances, pooled blocks, strongest links.

Rows are taken in tiles against all sources they can see, so memory grows with the rows of a tile times the length and
never with its square. For a row p over the sources j ≤ t, with logits s and lse = ln Σ e^s:

    entropy    H = -Σ p ln p = Σ p (lse - s)       support  e^H, the number of sources it is spread over
    sink       Σ p over the first few sources      local    Σ p over the last few
    distance   Σ p over 2^n - 1 ≤ t - j < 2^{n+1} - 1, n = 0, 1, ...; and the mean Σ p (t - j)
    pooled     Σ p over each block of sources, summed over each block of rows
    links      the largest p of a row, and where they point

Everything is exact: the numbers of the dense map. The output gate is not in the map; its mean is given beside it
(arXiv 2505.06708), since a head with mass but a closed gate contributes nothing.
"""

import math

import torch

from labkit.attention import kernel
from labkit.attention.readings import inputs, weights
from labkit.errors import InputError
from labkit.notation import label, select

TILE, ELEMENTS = 64, 2**24  # rows at once; weights of one group of heads at once


def bins(length):
    """Edges of the dyadic distance bins: 0, 1, 3, 7, ...; bin n holds distances from edge n up to edge n + 1."""
    return [2**n - 1 for n in range(math.floor(math.log2(max(length, 1))) + 2)]


class Summary:
    """Accumulates the statistics of rows of one layer, tile by tile.

    Args:
        heads: query heads that are summarised. length: sources there will be in the end.
        block: rows and sources that are pooled. sink, local: sources at the two ends. links: strongest sources a row.
        segments: [length] segment of every source, or None.
    """

    def __init__(self, heads, length, *, block=64, sink=4, local=64, links=0, segments=None):
        self.heads, self.length, self.block, self.sink, self.local, self.links = (
            heads,
            length,
            block,
            sink,
            local,
            links,
        )
        self.blocks = -(-length // block)
        self.edges = bins(length)
        self.segments = None if segments is None else torch.as_tensor(segments)
        self.rows = {}  # name -> list of [head, row] pieces
        self.pooled = torch.zeros(len(heads), self.blocks, self.blocks, dtype=torch.float64)
        self.counts = torch.zeros(self.blocks)
        self.histogram = torch.zeros(len(heads), self.blocks, len(self.edges) - 1, dtype=torch.float64)
        self.top = []

    def add(self, q, k, at, gate=None, scale=None):
        """Rows of all heads.

        Args:
            q: [row, query_head, value], rotated. k: [source, kv_head, value], rotated; at least up to the last row.
            at: [row] absolute positions, ascending.
            gate: [row, query_head, value], opened.
        """
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        at, home, groups = at.to(q.device), at.to(q.device) // self.block, self.groups(q, k)
        a = 0
        while a < len(at):
            fit = ELEMENTS // (max(map(len, groups.values())) * (int(at[a]) + TILE))
            tile = slice(a, a + max(1, min(TILE, fit)))
            a = tile.stop
            part = at[tile]
            free, seen = int(part[0]) + 1, int(part[-1]) + 1
            hidden = torch.arange(free, seen, device=q.device) > part[:, None]
            found = []
            for kv_head, places in groups.items():
                asked = q[tile, [self.heads[i] for i in places]].transpose(0, 1) * scale
                logits = asked.float() @ k[:seen, kv_head].float().T  # [head, row, source]
                logits[..., free:].masked_fill_(hidden, -torch.inf)
                logits -= logits.logsumexp(-1, keepdim=True)
                p = logits.exp()
                logits[..., free:].masked_fill_(hidden, 0.0)  # there p is 0
                rows = {"entropy": -(p * logits).sum(-1)} | self._reduce(places, p, part, home[tile])
                found.append((places, rows))
            self.keep(part, found, None if gate is None else gate[tile])

    def groups(self, q, k):
        """`{kv head: places in self.heads of the query heads that read it}`."""
        shared, found = q.shape[1] // k.shape[1], {}
        for i, head in enumerate(self.heads):
            found.setdefault(head // shared, []).append(i)
        return found

    def keep(self, at, found, gate):
        """Row statistics of the next rows: (places, `{name: [head, row, ...]}`) of every group, and their gates."""
        for name in found[0][1]:
            whole = found[0][1][name].new_empty(len(self.heads), *found[0][1][name].shape[1:])
            for places, rows in found:
                whole[places] = rows[name]
            self.rows.setdefault(name, []).append(whole)
        if gate is not None:
            self.rows.setdefault("gate", []).append(gate[:, self.heads].float().mean(-1).T)
        self.counts.index_add_(0, at.cpu() // self.block, torch.ones(len(at)))

    def pool(self, places, home, masses, nearer):
        """Add rows of these blocks: mass of each block of sources, and mass below each edge, [head, row, ...]."""
        self.pooled, self.histogram = self.pooled.to(masses.device), self.histogram.to(masses.device)
        heads, _, count = masses.shape
        held = self.pooled.new_zeros(heads, self.blocks, count)
        self.pooled[places, :, :count] += held.index_add_(1, home, masses.double())
        steps = nearer.diff(dim=-1).clamp(min=0)
        held = self.histogram.new_zeros(heads, self.blocks, len(self.edges) - 1)
        self.histogram[places] += held.index_add_(1, home, steps)

    def _reduce(self, places, p, at, home):
        """Row statistics `{name: [head, row, ...]}` of p [head, row, source]; pools, distances and links on the way."""
        heads, rows, seen = p.shape
        count = -(-seen // self.block)
        if count * self.block > seen:
            masses = torch.nn.functional.pad(p, (0, count * self.block - seen))
        else:
            masses = p
        masses = masses.view(heads, rows, count, self.block).sum(-1)  # exact block masses of every row
        upto = torch.nn.functional.pad(p.double().cumsum(-1), (1, 0))
        whole = upto.gather(2, (at + 1)[None, :, None].expand(heads, -1, 1))
        edges = torch.tensor(self.edges, device=p.device)
        start = (at[:, None] + 1 - edges).clamp(min=0)  # sources from here on are nearer than the edge
        self.pool(places, home, masses, whole - upto.gather(2, start.expand(heads, -1, -1)))
        near = (at + 1 - self.local).clamp(min=0)[None, :, None].expand(heads, -1, 1)
        found = {"sink": p[..., : self.sink].sum(-1), "local": (whole - upto.gather(2, near))[..., 0].float()}
        found["distance"] = at.to(p.dtype) - p @ torch.arange(seen, device=p.device, dtype=p.dtype)
        if self.links:
            mass, where = p.topk(min(self.links, seen), dim=-1)
            pad = (0, self.links - mass.shape[-1])
            mass, where = torch.nn.functional.pad(mass, pad), torch.nn.functional.pad(where, pad)
            self.top += [(i, at, mass[n], where[n]) for n, i in enumerate(places)]
        if self.segments is not None:
            held = p.new_zeros(heads, rows, int(self.segments.max()) + 1)
            found["segments"] = held.index_add_(2, self.segments[:seen].to(p.device), p)
        return found

    def means(self, name, at):
        """[head, block] mean of a row statistic over the rows of each block, NaN where none was taken."""
        rows = torch.cat(self.rows[name], 1).cpu().double()
        held = torch.zeros(len(rows), self.blocks, dtype=torch.float64).index_add_(1, at // self.block, rows)
        return held / self.counts.double()

    def extremes(self, name, at):
        """[head, block] smallest and largest value of a row statistic over the rows of each block."""
        rows = torch.cat(self.rows[name], 1).cpu()
        places = (at // self.block).expand_as(rows)
        blank = torch.full((len(rows), self.blocks), float("nan"))
        return [blank.scatter_reduce(1, places, rows, kind, include_self=False) for kind in ("amin", "amax")]

    def strongest(self):
        """(weight, token, source) [head, link] of the largest weights of all rows."""
        kept = []
        for i in range(len(self.heads)):
            parts = [(at[:, None].expand_as(mass), mass, where) for j, at, mass, where in self.top if j == i]
            token, mass, where = (torch.cat(column).flatten().cpu() for column in zip(*parts, strict=True))
            best = mass.topk(min(self.links, len(mass))).indices
            kept.append((mass[best], token[best], where[best]))
        return [torch.stack(column) for column in zip(*kept, strict=True)]


def summary(run, *, layer, heads=None, rows=None, block=64, links=0, segments=None, sink=4, local=64, method=None):
    """Exact statistics of the softmax map of a gated attention layer, in memory that is linear in the length.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        layer: an attention layer.
        heads: query heads; None for all.
        rows: reading tokens, relative to the run's first: None for all, a number for so many, evenly spaced, or a list.
            What is left out is said in `attrs["rows"]`.
        block: rows and sources per pooled block.
        links: how many of the strongest weights to keep per head.
        segments: a name for every source (for example of the spans of a conversation); adds `mass` by segment.
        sink, local: how many sources at the beginning, and how many up to the reading token, are counted as such.
        method: "tiles" of the map, the reference; "kernel", the same numbers from stock attention kernels (see
            `attention.kernel`); None takes kernels where they are exact and cheaper: all rows, float32, few blocks.

    Returns:
        Dataset. Means over the rows of each block, (query_head, block): `entropy`, with `entropy_low` and
        `entropy_high`, `support`, `sink`, `local`, `distance`, `gate`. `histogram` (query_head, block, bin), mass by
        dyadic distance. `pooled` (query_head, block, source_block), mass of each block of sources, mean over the rows
        of a block, so that it sums to 1. `mass` (query_head, block, segment). `links` (query_head, link) with
        `link_token` and `link_source`.

    Raises:
        LayerError, SeamError, ParityError, InputError. Parity is taken on up to 64 of the rows.
    """
    run.require(layer, "attention", "attention.summary", "deltanet.ledger")
    heads = select(heads, run.spec.query_heads, "query_head")
    at, said = chosen(rows, len(run))
    names, marks = _segments(segments, run.start.length + len(run))
    x = inputs(run, layer)
    first = run.start.length
    seen = Summary(heads, len(x.k), block=block, sink=sink, local=local, links=links, segments=marks)
    index = torch.tensor(at)
    if kernel.serves(method, seen, x.q, x.k, len(at) == len(run)):
        kernel.add(seen, x.q, x.k, first, x.gate)
    else:
        seen.add(x.q[index], x.k, index + first, x.gate[index])
    facts = checked(run, layer, x, heads, at) | {"rows": said, "block": block}
    return dataset(seen, index + first, names, facts)


def checked(run, layer, x, heads, at, most=64):
    """Parity of some of the rows with the model's own next seam, as attributes."""
    some = at[:: max(1, -(-len(at) // most))]
    _, mixed = weights(x, rows=some, heads=heads, first=run.start.length)
    rebuilt = mixed * x.gate[some][:, heads].float()
    error, tolerance = run.check_parity(layer, "attention.summary", rebuilt, run.seams[layer, "gated"][some][:, heads])
    facts = {"model": run.model, "layer": layer, "reading": "attention.summary"}
    return facts | {"parity": error, "tolerance": tolerance}


def dataset(seen, at, names, facts):
    """The labelled result of a `Summary` whose rows were at these absolute positions."""
    here, found = ("query_head", "block"), reduced(seen, at)
    deep = {"histogram": ("bin",), "pooled": ("source_block",)}
    values = {name: ((*here, *deep.get(name, ())), value) for name, value in found.items()}
    count = seen.counts.double()[:, None]
    starts = torch.arange(seen.blocks) * seen.block
    coords = {"query_head": list(seen.heads), "block": range(seen.blocks), "block_start": ("block", starts)}
    coords |= {"source_block": range(seen.blocks), "bin": range(len(seen.edges) - 1)}
    coords |= {"bin_text": ("bin", [f"{a:,}" if b - a == 1 else f"{a:,}–{b - 1:,}" for a, b in _pairs(seen.edges)])}
    coords["rows_taken"] = ("block", seen.counts.int())
    if seen.links:
        mass, token, source = seen.strongest()
        values["links"] = (("query_head", "link"), mass)
        values |= {"link_token": (("query_head", "link"), token), "link_source": (("query_head", "link"), source)}
    if names is not None:
        held = torch.zeros(len(seen.heads), seen.blocks, len(names), dtype=torch.float64)
        rows = torch.cat(seen.rows["segments"], 1).cpu().double()
        values["mass"] = (("query_head", "block", "segment"), held.index_add_(1, at // seen.block, rows) / count)
        coords["segment"] = names
    values = {
        name: (dims, array.float() if array.dtype == torch.float64 else array) for name, (dims, array) in values.items()
    }
    data = label(values, coords=coords, attrs=facts)
    for name in ("entropy_low", "entropy_high"):
        data[name].attrs = dict(data["entropy"].attrs)
    return data


def reduced(seen, at):
    """`{name: [head, block, ...]}`: means of the rows of each block, NaN where none was taken."""
    found = {
        name: seen.means(name, at) for name in ("entropy", "sink", "local", "distance", "gate") if name in seen.rows
    }
    found["entropy_low"], found["entropy_high"] = seen.extremes("entropy", at)
    rows = torch.cat(seen.rows["entropy"], 1).cpu().double().exp()
    support = torch.zeros(len(rows), seen.blocks, dtype=torch.float64).index_add_(1, at // seen.block, rows)
    found["support"] = support / seen.counts
    count = seen.counts.double()[:, None]
    return found | {"histogram": seen.histogram.cpu() / count, "pooled": seen.pooled.cpu() / count}


def chosen(rows, length):
    """(rows, what to say about them)."""
    if rows is None:
        return list(range(length)), f"all {length:,}"
    if isinstance(rows, int):
        if rows < 1:
            raise InputError("at least one row is needed", got=rows)
        at = spaced(min(rows, length), length)
        return at, f"{len(at):,} of {length:,}, evenly spaced"
    at = sorted(set(select(rows, length, "token")))
    return at, f"{len(at):,} of {length:,}, chosen"


def spaced(count, length):
    """So many places below a length, evenly spaced, the last one included."""
    return [length - 1 - i * length // count for i in range(count)][::-1]


def _segments(segments, length):
    if segments is None:
        return None, None
    if len(segments) != length:
        raise InputError("one segment per source", got=f"{len(segments)} names", expected=f"{length} sources")
    names = list(dict.fromkeys(str(name) for name in segments))
    place = {name: i for i, name in enumerate(names)}
    return names, [place[str(name)] for name in segments]


def _pairs(edges):
    return list(zip(edges, edges[1:], strict=False))
