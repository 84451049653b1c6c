"""The bands of the logits online, for `lab.stream`: sums by distance, from sampled rows of each block."""

import torch

from labkit.errors import InputError
from labkit.notation import select
from labkit.stream import Probe, of_kind
from labkit.yarn.bands import binned, grouped, inputs, proven, summed


class BandsProbe(Probe):
    """Sums of bands over the rows that are taken: one row of sums per chunk."""

    def __init__(self, *, layers=None, block=64, rows=8, heads=None, by="class"):
        super().__init__(layers=layers, block=block)
        if not 1 <= rows <= block:
            raise InputError("rows per block out of range", got=rows, expected=f"1 to {block}")
        self.taken, self.heads_asked, self.by = rows, heads, by

    def needs(self, spec):
        self.layers = of_kind(self.asked, spec, "attention", "deltanet.norms, deltanet.saturation")
        self.heads = select(self.heads_asked, spec.query_heads, "query_head")
        self.groups, self.names = grouped(spec, self.by)
        return dict.fromkeys(self.layers, ("q", "k", "v", "gate", "gated"))

    def signature(self):
        return [*super().signature(), self.taken, list(self.heads), self.by]

    def eat(self, run):
        step = self.block / self.taken
        rows = [a + int((n + 0.5) * step) for a in range(0, len(run), self.block) for n in range(self.taken)]
        rows = [row for row in rows if row < len(run)] or [len(run) - 1]
        sums = []
        for layer in self.layers:
            heads, rows, q, k, places = inputs(run, layer, self.heads, rows)
            total, count = summed(run.spec, run.scaling, q, k, places, rows, heads, self.groups)
            facts = proven(run, layer, heads, rows, run.scaling, q, k, places, self.groups, most=1)
            self.add("parity", torch.tensor([[facts["parity"], facts["tolerance"]]]))
            sums.append(total)
        self.add("sums", torch.stack(sums, 1)[None])
        self.add("count", count[None])

    def result(self, model):
        total, count = self.column("sums").sum(0), self.column("count").sum(0)
        parity, tolerance = self.column("parity").amax(0).tolist()
        facts = {"model": model, "reading": "yarn.watch", "rows": f"{self.taken} rows a block, evenly spaced"}
        facts |= {"parity": parity, "tolerance": tolerance}
        return binned(total, count, self.heads, self.names, facts, self.layers)


def watch(*, layers=None, block=64, rows=8, heads=None, by="class"):
    """A probe of `yarn.by_distance`'s numbers: part, spread (layer, query_head, bin, band) and count (bin).

    Args:
        layers: attention layers; None for all. heads: query heads; None for all.
        block, rows: of every `block` tokens so many rows are taken, evenly spaced; the dataset says so.
        by: "class" or "pair", as in `yarn.bands`.
    """
    return BandsProbe(layers=layers, block=block, rows=rows, heads=heads, by=by)
