"""The numbers of `Statistics` from stock attention kernels: the same softmax, other values.

A fused kernel returns Σ p v and lse = ln Σ e^s of every row and never shows p. Three choices of v say the rest:

    v := k              H = lse - scale ⟨q, Σ p k⟩, the entropy
    v := 1[j in block]  exact mass of every block of sources, so the pooled map; sinks and segments alike
    v := j mod block    with the block masses, the mean source

What cuts through a block, the bounds of distances, is read from single tiles: rows of one block against the few blocks
in which a bound 2^n - 1 falls, O(T block log T) weights in all. In float32 the numbers are those of the tiles; 16-bit
kernels round, entropy by 0.001 to 0.03 nat on average, so there they are not taken of themselves.
"""

import torch

from labkit.attention.statistics import Statistics, between

CALLS = 5  # kernel calls that cost as much as the tiles, measured on two CPU cores
WEIGHTS = 2**21  # of one tile of rows at once


def cheaper(values: int, head_dim: int) -> bool:
    """Whether kernels that mix so many `values` beside the keys cost less than tiles."""
    return 1 + -(-values // head_dim) <= CALLS


def columns(blocks: int, kinds: int) -> int:
    """Values that are mixed beside the keys: every block, the sink, the place in the block, every segment."""
    return blocks + 2 + kinds


def scratch(group: int, rows: int, sources: int, head_dim: int, values: int, block: int) -> int:
    """Bytes that `add` takes beside the statistics, for the largest group of heads that read one key head."""
    taken = group * min(rows, _step(group, values, block))
    mixed = -(-values // head_dim) * head_dim
    near = max(12 * block, 24 * values)  # tiles in which bounds fall; masses of blocks in float64
    read = 4 * head_dim + 2 * mixed  # queries and what they read; columns
    return taken * (near + 4 * read + 12 * sources.bit_length()) + 8 * sources * head_dim


def add(statistics: Statistics, q: torch.Tensor, k: torch.Tensor, first: int, gate: torch.Tensor | None = None) -> None:
    """Rows first, first + 1, ... of all heads; fills a `Statistics` like its own `add`.

    Args:
        q: [row, query_head, head_dim], rotated. k: [source, kv_head, head_dim], rotated; up to the last row.
        first: position of the first row among the sources. gate: [row, query_head, head_dim], opened.
    """
    last, block = first + len(q), statistics.block
    begin = min(-(-first // block) * block, last)  # rows before the first whole block go the ordinary way
    if begin > first:
        part = slice(0, begin - first)
        statistics.add(q[part], k, torch.arange(first, begin), None if gate is None else gate[part])
    step = _step(max(map(len, statistics.groups.values())), columns(statistics.blocks, statistics.kinds), block)
    for a in range(begin, last, step):
        b = min(a + step, last)
        rows, groups = slice(a - first, b - first), []
        for kv_head, places in statistics.groups.items():
            queries = q[rows, [statistics.heads[i] for i in places]].transpose(0, 1)  # [head, row, head_dim]
            groups.append((places, _row_statistics(statistics, places, queries, k[:b, kv_head], a)))
        statistics.keep(torch.arange(a, b), groups, None if gate is None else gate[rows])


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ p v [head, row, column] and lse [head, row] of rows at first, first + 1, ...: the model's kernel, any values.

    Args:
        q: [head, row, head_dim]. k: [source, head_dim], v: [source, column], read by every head; first + row sources.
    """
    own, lse = _call(q, k[first:], v[first:], causal=True)
    if not first:
        return own, lse
    before, other = _call(q, k[:first], v[:first], causal=False)
    both = torch.logaddexp(lse, other)
    return own * (lse - both).exp()[..., None] + before * (other - both).exp()[..., None], both


def _call(q, k, v, causal):
    heads = len(q)
    k, v = (part[None, None].expand(1, heads, -1, -1) for part in (k, v))
    aten, scale = torch.ops.aten, q.shape[-1] ** -0.5
    if q.device.type == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q[None], k, v, 0.0, causal, scale=scale)
    else:
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(q[None], k, v, None, True, 0.0, causal, scale=scale)
    return out[0].float(), lse[0, :, : q.shape[1]].float()


def _step(group, values, block):
    """Rows at once."""
    return max(block, WEIGHTS // (group * max(values, 2 * block)) // block * block)


def _row_statistics(statistics, places, q, k, first):
    """Row statistics `{name: [head, row, ...]}`; pools and distances on the way. first: a multiple of the block."""
    block, (sources, wide) = statistics.block, k.shape
    mean, lse = attend(q, k, k, first)
    stats = {"entropy": (lse - wide**-0.5 * (q.float() * mean).sum(-1)).clamp(min=0)}
    j = torch.arange(sources, device=k.device)
    blocks, kinds = -(-sources // block), statistics.kinds
    marks = [j // block, torch.where(j < statistics.sink, blocks, -1)]
    if kinds:
        marks.append(blocks + 2 + statistics.segments[:sources].to(k.device))
    pieces = []
    for low in range(0, blocks + 2 + kinds, wide):
        values = k.new_zeros(sources, wide)
        for mark in marks:
            inside = (mark >= low) & (mark < low + wide)
            values[j[inside], mark[inside] - low] = 1
        if low <= blocks + 1 < low + wide:
            values[:, blocks + 1 - low] = (j % block).to(k)
        pieces.append(attend(q, k, values, first)[0])
    mixed = torch.cat(pieces, -1)
    masses, stats["sink"] = mixed[..., :blocks], mixed[..., blocks]
    at = torch.arange(first, sources, device=k.device)
    starts = torch.arange(blocks, device=k.device, dtype=torch.float64) * block
    stats["distance"] = (at - masses.double() @ starts - mixed[..., blocks + 1]).float()
    nearer = _nearer(q, k, lse, masses, first, block, [*statistics.edges, statistics.local])
    stats["local"] = nearer[..., -1].float()
    segments = mixed[..., blocks + 2 : blocks + 2 + kinds]
    statistics.pool(places, at // block, masses, between(nearer[..., :-1]), segments)
    return stats


def _nearer(q, k, lse, masses, first, block, bounds):
    """Mass at distances below each bound, [head, row, bound] in float64.

    A bound e of row t falls into the block of source t - e + 1: blocks behind it count whole, of that one the weights
    from there on. Which block it is, seen from the block of t, depends on the place r of t in its block alone.
    """
    (heads, rows, wide), sources = q.shape, len(k)
    count = -(-rows // block)
    padded = torch.nn.functional.pad(q.float(), (0, 0, 0, count * block - rows)).view(heads, count, block, wide)
    level = torch.nn.functional.pad(lse, (0, count * block - rows)).view(heads, count, block, 1)
    keys = torch.nn.functional.pad(k.float(), (0, 0, 0, -sources % block)).view(-1, block, wide)
    r, e = torch.arange(block)[:, None], torch.tensor(bounds)[None]
    back, place = -torch.div(r - e + 1, block, rounding_mode="floor"), (r - e + 1) % block  # [r, bound]
    home = first // block + torch.arange(count)
    inside = torch.zeros(heads, count, block, len(bounds), dtype=torch.float64, device=q.device)
    later = torch.ones(block, block, device=q.device, dtype=torch.bool).triu(1)
    for step in range(min(int(back.max()), int(home[-1])) + 1):
        cuts = (back == step).any(0).nonzero()[:, 0].tolist()
        behind = (home >= step).nonzero()[:, 0]
        if not cuts or len(behind) == 0:
            continue
        p = padded[:, behind] @ keys[home[behind] - step].transpose(-1, -2) * wide**-0.5 - level[:, behind]
        p = (p.masked_fill(later, -torch.inf) if step == 0 else p).exp()
        for cut in cuts:
            taken = (back[:, [cut]] == step) & (torch.arange(block) >= place[:, [cut]])  # [r, source]
            inside[:, behind, :, cut] += (p * taken.to(p)).sum(-1)
    tails = torch.nn.functional.pad(masses.double().flip(-1).cumsum(-1).flip(-1), (0, 2))  # blocks from one on
    whole = (home[:, None, None] - back + 1).view(count * block, -1)[:rows].clamp(min=0).to(q.device)
    total = inside.view(heads, count * block, -1)[:, :rows]
    return total + tails.gather(-1, whole.clamp(max=tails.shape[-1] - 1)[None].expand(heads, -1, -1))
