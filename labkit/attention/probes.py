"""The summary online, for `lab.stream`: each chunk's rows against all keys so far, reduced to numbers per block.

Keys come from the model's own cache; nothing of a chunk is kept but the numbers of `summaries`. Memory grows with the
square of the number of blocks, so long prompts take large blocks: 256 blocks of 4,096 tokens are a million.
"""

import torch

from labkit.attention import kernel, summaries
from labkit.attention.readings import inputs
from labkit.errors import InputError
from labkit.notation import label
from labkit.stream import Probe, of_kind

BINS = 40  # more than any length has
ROWS = ("entropy", "entropy_low", "entropy_high", "support", "sink", "local", "distance", "gate")


class WatchProbe(Probe):
    """Block statistics of attention rows: (block, layer, query_head)."""

    blocks = True

    def __init__(self, *, layers=None, block=64, rows=None, method=None):
        super().__init__(layers=layers, block=block)
        kernel.check(method, rows is None)
        if rows is not None and not 1 <= rows <= block:
            raise InputError("rows per block out of range", got=rows, expected=f"1 to {block}, or None for all")
        self.rows_taken, self.method = rows, method

    def needs(self, spec):
        instead = "deltanet.gates, deltanet.norms, deltanet.ledger_sums"
        self.layers = of_kind(self.asked, spec, "attention", instead)
        return dict.fromkeys(self.layers, ("q", "k", "v", "gate", "gated"))

    def signature(self):
        return [*super().signature(), self.rows_taken]

    def eat(self, run):
        heads, first = list(range(run.spec.query_heads)), run.start.length
        at = torch.arange(len(run))
        if self.rows_taken is not None:
            at = at[torch.isin(at % self.block, torch.tensor(summaries.spaced(self.rows_taken, self.block)))]
            at = torch.cat([at, torch.tensor([len(run) - 1])]).unique()
        begin, end = first // self.block, -(-(first + len(run)) // self.block)
        held = {name: [] for name in (*ROWS, "histogram", "pooled")}
        for layer in self.layers:
            x = inputs(run, layer)
            seen = summaries.Summary(heads, first + len(run), block=self.block)
            if kernel.serves(self.method, seen, x.q, x.k, self.rows_taken is None):
                kernel.add(seen, x.q, x.k, first, x.gate)
            else:
                seen.add(x.q[at], x.k, at + first, x.gate[at])
            summaries.checked(run, layer, x, heads, at.tolist(), most=4)
            found = summaries.reduced(seen, at + first)
            for name in ROWS:
                held[name].append(found[name][:, begin:end].T)
            histogram = torch.nn.functional.pad(found["histogram"], (0, BINS - found["histogram"].shape[2]))
            held["histogram"].append(histogram[:, begin:end].transpose(0, 1))
            held["pooled"].append(found["pooled"][:, begin:end])
        for name in (*ROWS, "histogram"):
            self.add(name, torch.stack(held[name], 1).float())
        pooled = torch.stack(held["pooled"], 1).float()  # [head, layer, block, source_block]
        for n in range(begin, end):
            self.add("pooled", pooled[:, :, n - begin, : n + 1].flatten())
        self.add("first", run.positions[:: self.block])
        self.add("taken", seen.counts[begin:end].int())

    def result(self, model):
        first = self.column("first")
        here = ("block", "layer", "query_head")
        values = {name: (here, self.column(name)) for name in ROWS}
        bins = len(summaries.bins(int(first[-1]) + self.block)) - 1
        values["histogram"] = ((*here, "bin"), self.column("histogram")[..., :bins])
        blocks, (layers, heads) = len(first), values["entropy"][1].shape[1:]
        pooled, flat, place = torch.zeros(blocks, layers, heads, blocks), self.column("pooled"), 0
        for n in range(blocks):
            size = heads * layers * (n + 1)
            pooled[n, :, :, : n + 1] = flat[place : place + size].view(heads, layers, n + 1).transpose(0, 1)
            place += size
        values["pooled"] = ((*here, "source_block"), pooled)
        coords = {"block": range(blocks), "block_start": ("block", first), "layer": list(self.layers)}
        coords |= {"query_head": range(heads), "source_block": range(blocks), "bin": range(bins)}
        coords["rows_taken"] = ("block", self.column("taken"))
        said = "all rows" if self.rows_taken is None else f"{self.rows_taken} rows a block, evenly spaced"
        return label(values, coords=coords, attrs={"model": model, "reading": "attention.watch", "rows": said})


def watch(*, layers=None, block=64, rows=None, method=None):
    """A probe of `attention.summary`'s numbers: entropy, support, sink, local, distance, gate, histogram, pooled map.

    Args:
        layers: attention layers; None for all.
        block: tokens per block, of rows and of sources.
        rows: reading tokens taken per block, evenly spaced; None for all. The dataset says what was taken.
        method: "tiles", "kernel" or None, as in `attention.summary`.
    """
    return WatchProbe(layers=layers, block=block, rows=rows, method=method)
