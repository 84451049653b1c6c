"""Online probes of the DeltaNet layers for `Lab.stream`: gates, norms and the write / erase / decay ledger.

Each chunk's inputs are recomputed from its seams and walked by the chunk form, starting from the very state that the
model's cache held; no T x key x value object is formed. Results are reduced over blocks of tokens.
"""

import torch

from labkit.deltanet.readings import inputs, per_token, tiles
from labkit.errors import LayerError
from labkit.notation import label, select
from labkit.stream import Probe

NEEDED = ("qkv", "a", "b", "read")


class DeltaNetProbe(Probe):
    """Block means or sums of per-token, per-head numbers of DeltaNet layers: (block, layer, head).

    Args:
        names: variables of `deltanet.memory` to keep.
        how: "mean" or "sum" over each block.
    """

    def __init__(self, names, how, *, layers=None, block=64):
        super().__init__(layers=layers, block=block)
        self.names, self.how = names, how

    def needs(self, spec):
        if self.asked is None:
            self.layers = spec.deltanet_layers
        else:
            self.layers = tuple(select(self.asked, spec.layers, "layer"))
            if wrong := [layer for layer in self.layers if spec.kind(layer) != "deltanet"]:
                raise LayerError(
                    "this probe watches Gated DeltaNet layers",
                    got=f"layers {wrong}",
                    expected=list(spec.deltanet_layers),
                    hint="stream.capture keeps seams of attention layers",
                )
        return dict.fromkeys(self.layers, NEEDED if set(self.names) - {"keep", "write"} else ("qkv", "a", "b"))

    def signature(self):
        return [*super().signature(), list(self.names), self.how]

    def eat(self, run):
        found = {name: [] for name in self.names}
        for layer in self.layers:
            for name, value in self._read(run, layer).items():
                found[name].append(self.reduced(value, self.how))
        for name, columns in found.items():
            self.add(name, torch.stack(columns, 1))
        self.add("first", run.positions[:: self.block])

    def _read(self, run, layer):
        x = inputs(run, layer)
        if not set(self.names) - {"keep", "write"}:
            return {"keep": x.g.exp(), "write": x.beta}
        before = x.v.new_zeros(x.v.shape[1]) if x.state is None else x.state.flatten(1).norm(dim=1)
        rows, reads = [], []
        for first, count, part in tiles(x):
            rows.append(per_token(x, part, first, count, before))
            before = rows[-1]["state_norm"][-1]
            reads.append(part.flat(part.out, count))
        read = torch.cat(reads)
        run.prove(layer, "deltanet probe", read, run.seams[layer, "read"])
        columns = {name: torch.cat([row[name] for row in rows]) for name in rows[0]} | {"out": read.norm(dim=-1)}
        return {name: columns[name] for name in self.names}

    def result(self, model):
        first = self.column("first")
        values = {name: (("block", "layer", "head"), self.column(name)) for name in self.names}
        heads = values[self.names[0]][1].shape[2]
        coords = {
            "block": range(len(first)),
            "block_start": ("block", first),
            "layer": list(self.layers),
            "head": range(heads),
        }
        facts = {"model": model, "reading": f"{self.how} over {self.block} tokens", "block": self.block}
        return label(values, coords=coords, attrs=facts)


def gates(*, layers=None, block=64):
    """A probe of decay gate α (`keep`) and write strength β (`write`), block means."""
    return DeltaNetProbe(("keep", "write"), "mean", layers=layers, block=block)


def norms(*, layers=None, block=64):
    """A probe of ‖S‖, ‖o‖, ‖r‖ and ‖e‖, block means; compared with the model's own reads in every chunk."""
    return DeltaNetProbe(("state_norm", "out", "recalled", "error"), "mean", layers=layers, block=block)


def ledger_sums(*, layers=None, block=64):
    """A probe of how much decay removed, erasing removed and writing added, summed over each block."""
    return DeltaNetProbe(("decayed", "erased", "written"), "sum", layers=layers, block=block)
