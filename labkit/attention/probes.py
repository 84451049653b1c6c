"""Attention rows online, for `lab.stream`: each chunk's rows against all keys so far, reduced to small numbers.

Keys come from the model's own cache; nothing of a chunk is kept but block statistics and sums. The memory of `watch`
grows with the square of the number of blocks, so long prompts take large blocks: 256 blocks of 4,096 tokens are a
million.
"""

from collections.abc import Sequence

import torch

from labkit.arguments import whole
from labkit.attention import methods
from labkit.attention.distances import bin_axis, edges
from labkit.attention.rotation import BINS as BANDS_BINS
from labkit.attention.rotation import Unrotated, bands_of, binned, binned_cost
from labkit.attention.softmax import SEAMS, inputs, proven, spaced
from labkit.attention.statistics import Statistics
from labkit.attention.summaries import BLOCKS, block_axes, blocks_of, cost_of
from labkit.calling import public
from labkit.notation import label, select
from labkit.plan import ProbeCost
from labkit.reading import Request
from labkit.spec import Spec
from labkit.stream import Probe, of_kind
from labkit.trace import Run

BINS = 40  # more than any length has
INSTEAD = "lab.stream(run.ids, probes=[deltanet.gates(), deltanet.norms()])"


class AttentionProbe(Probe):
    """What probes of attention layers share: sampled rows of every block, and the worst parity of all chunks."""

    def __init__(self, samples, *, layers=None, block=64):
        super().__init__(layers=layers, block=block)
        self.samples = None if samples is None else whole(samples, "samples", least=1, most=self.block)

    def needs(self, spec: Spec) -> dict[int, Sequence[str]]:
        self.layers = of_kind(self.asked, spec, "attention", INSTEAD)
        return dict.fromkeys(self.layers, spec.having("attention", SEAMS))

    def signature(self) -> list:
        return [*super().signature(), self.samples]

    def request(self, spec: Spec, tokens: int, chunk: int, width: int, heads: int, **options) -> Request:
        """One chunk at the end of a prompt, as a reading's request."""
        rows, group = len(self.sampled(chunk)), min(heads, spec.query_heads // spec.kv_heads)
        return Request(spec, chunk, max(tokens, chunk), heads, rows, width, options, group)

    def sampled(self, tokens: int) -> list[int]:
        """The rows of a chunk that are taken: so many of each block, evenly spaced, and the last one."""
        if self.samples is None:
            return list(range(tokens))
        taken = set(spaced(self.samples, self.block))
        return [t for t in range(tokens) if t % self.block in taken or t == tokens - 1]

    def note(self, parity: dict) -> None:
        """Remember the parity of a layer's rows."""
        self.add("parity", torch.tensor([[parity["parity"], parity["tolerance"]]], dtype=torch.float64))

    def attrs(self, model: str, reading: str) -> dict:
        """Where the dataset comes from."""
        parity, tolerance = self.column("parity").amax(0).tolist()
        rows = "all rows" if self.samples is None else f"{self.samples} rows a block, evenly spaced"
        return {"model": model, "reading": reading, "rows": rows, "parity": parity, "tolerance": tolerance}


class SummaryProbe(AttentionProbe):
    """Block statistics of attention rows: (layer, query_head, block)."""

    blocks = True

    def __init__(self, *, layers=None, block=64, samples=None, method=None):
        methods.check(method, samples is None)
        super().__init__(samples, layers=layers, block=block)
        self.method = method

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        blocks = blocks_of(spec).items()
        return {name: dict.fromkeys(("layer", "query_head", "block", *axes)) for name, (_, axes) in blocks}

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        blocks, heads, layers = -(-tokens // self.block), spec.query_heads, len(self.layers)
        options = {"block": self.block, "method": self.method}
        taken = cost_of(self.request(spec, tokens, chunk, width, heads, **options))
        numbers = heads * layers * (len(BLOCKS) - 2 + BINS)
        square, triangle = heads * layers * blocks**2, heads * layers * blocks * (blocks + 1) // 2
        rotated = (max(tokens, chunk) - chunk) * spec.kv_heads * spec.head_dim * width * 2  # keys and values of before
        scratch = taken.scratch + taken.result + rotated
        return ProbeCost(scratch, 4 * (blocks * numbers + triangle), 4 * (2 * blocks * numbers + triangle + 2 * square))

    def eat(self, run: Run) -> None:
        spec, first = run.spec, run.start.length
        heads, rows = list(range(spec.query_heads)), self.sampled(len(run))
        at, begin, end = torch.tensor(rows) + first, first // self.block, -(-(first + len(run)) // self.block)
        columns = {name: [] for name in blocks_of(spec)}
        for layer in self.layers:
            x = inputs(run, layer)
            statistics = Statistics(heads, spec.kv_groups(heads), len(x.k), block=self.block)
            methods.fill(statistics, x, rows, first, self.method)
            self.note(proven(run, layer, "attention.watch", heads=heads, rows=rows, x=x, most=4))
            for name, means in statistics.reduced(at).items():
                columns[name].append(means[:, begin:end].transpose(0, 1))  # [block, head, ...]
        for name in columns:
            column = torch.stack(columns[name], 1).float()  # [block, layer, head, ...]
            if name == "histogram":
                column = torch.nn.functional.pad(column, (0, BINS - column.shape[-1]))
            if name == "pooled":  # blocks of sources grow with the stream
                column = torch.cat([row[..., : begin + n + 1].flatten() for n, row in enumerate(column)])
            self.add(name, column)
        self.add("first", run.positions[:: self.block])
        self.add("taken", statistics.counts[begin:end].int())

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        first = self.column("first")
        blocks, bins = len(first), len(edges(int(first[-1]) + self.block)) - 1
        layers, heads = self.column("entropy").shape[1:]
        columns, place = {name: self.column(name) for name in BLOCKS if name in self.rows}, 0
        pooled, columns["histogram"] = (
            torch.zeros(blocks, layers, heads, blocks, dtype=torch.float32),
            columns["histogram"][..., :bins],
        )
        for n in range(blocks):
            size = layers * heads * (n + 1)
            pooled[n, ..., : n + 1] = columns["pooled"][place : place + size].view(layers, heads, n + 1)
            place += size
        columns["pooled"] = pooled
        variables = {
            name: (("layer", "query_head", "block", *axes), columns[name].movedim(0, 2), quantity)
            for name, (quantity, axes) in BLOCKS.items()
            if name in columns
        }
        coords = {"layer": list(self.layers), "query_head": range(heads), **bin_axis(bins)}
        coords |= block_axes(first, self.column("taken"))
        return label(variables, coords=coords, attrs=self.attrs(model, "attention.watch"))


class BandsProbe(AttentionProbe):
    """Sums of bands over the rows that are taken: one row of sums per chunk."""

    def __init__(self, *, layers=None, block=64, samples=8, heads=None, by="class"):
        super().__init__(samples, layers=layers, block=block)
        self.heads_asked, self.by = heads, by

    def needs(self, spec: Spec) -> dict[int, Sequence[str]]:
        self.heads = select(self.heads_asked, spec.query_heads, "query_head")
        self.bands, self.names = bands_of(spec, self.by)
        return super().needs(spec)

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        dims = dict.fromkeys(("layer", "query_head", "bin", "band"))
        return {"part": dims, "spread": dims, "count": {"bin": None}}

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        taken = binned_cost(self.request(spec, tokens, chunk, width, len(self.heads), by=self.by))
        sums = 8 * len(self.layers) * len(self.heads) * len(self.names) * BANDS_BINS * 2
        return ProbeCost(taken.scratch + taken.result + sums, -(-tokens // chunk) * sums, 2 * sums)

    def signature(self) -> list:
        return [*super().signature(), list(self.heads), self.by]

    def eat(self, run: Run) -> None:
        rows, sums = self.sampled(len(run)), []
        for layer in self.layers:
            unrotated = Unrotated.of(run, layer)
            total, count = unrotated.sums(run.scaling, self.bands, rows, self.heads)
            self.note(unrotated.proof("attention.watch_bands", self.bands, rows, self.heads, most=1))
            sums.append(total)
        self.add("sums", torch.stack(sums, 1)[None])
        self.add("count", count[None])

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        total, count = self.column("sums").sum(0), self.column("count").sum(0)
        variables, coords = binned(total, count, self.heads, self.names)
        attrs = self.attrs(model, "attention.watch_bands")
        return label(variables, coords=coords | {"layer": list(self.layers)}, attrs=attrs)


@public
def watch(
    *,
    layers: Sequence[int] | int | None = None,
    block: int = 64,
    samples: int | None = None,
    method: str | None = None,
) -> SummaryProbe:
    """A probe of `attention.summary`'s numbers: entropy, support, sink, local, distance, gate, histogram, pooled map.

    Args:
        layers: attention layers; None for all.
        block: tokens per block, of rows and of sources.
        samples: reading tokens taken per block, evenly spaced; None for all. The dataset says what was taken.
        method: "tiles", "kernel", "fused" or None, as in `attention.summary`.
    """
    return SummaryProbe(layers=layers, block=block, samples=samples, method=method)


@public
def watch_bands(
    *,
    layers: Sequence[int] | int | None = None,
    block: int = 64,
    samples: int | None = 8,
    heads: Sequence[int] | int | None = None,
    by: str = "class",
) -> BandsProbe:
    """A probe of `attention.bands_by_distance`: part, spread (layer, query_head, bin, band) and count (bin).

    Args:
        layers: attention layers; None for all. heads: query heads; None for all.
        block, samples: of every `block` tokens so many rows are taken, evenly spaced; None takes all.
        by: "class" or "pair", as in `attention.bands`.
    """
    return BandsProbe(layers=layers, block=block, samples=samples, heads=heads, by=by)
