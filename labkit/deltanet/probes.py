"""Online probes of the DeltaNet layers for `Lab.stream`: gates, norms, ledger, spectra, saturation, exact rows.

Each chunk's inputs are recomputed from its seams and walked by the chunk form, starting from the very state that the
model's cache held; no T x key x value object is formed. Per-token numbers are reduced over blocks of tokens, spectra
are taken where a chunk ends. An exact row needs the key, decay and write strength of every earlier token: those are
kept in host memory, key_heads·dk + 2·heads float32 numbers a token and layer, and walked back when the stream ends.
"""

import torch

from labkit.deltanet.equation import implied
from labkit.deltanet.readings import inputs, per_token, tiles
from labkit.deltanet.spectrum import ranks
from labkit.errors import InputError
from labkit.notation import label
from labkit.stream import Probe, of_kind

NEEDED = ("qkv", "a", "b", "read")


def watched(layers, spec):
    """The DeltaNet layers among these; None is all of them. Raises as `stream.of_kind`."""
    return of_kind(layers, spec, "deltanet", "stream.capture keeps seams of attention layers")


class DeltaNetProbe(Probe):
    """Block means or sums of per-token, per-head numbers of DeltaNet layers: (block, layer, head).

    Args:
        names: variables of `deltanet.memory` to keep.
        how: "mean" or "sum" over each block.
    """

    blocks = True

    def __init__(self, names, how, *, layers=None, block=64):
        super().__init__(layers=layers, block=block)
        self.names, self.how = names, how

    def needs(self, spec):
        self.layers = watched(self.asked, spec)
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
        run.check_parity(layer, "deltanet probe", read, run.seams[layer, "read"])
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


class SpectrumProbe(Probe):
    """Norm and ranks of the states where each chunk ends: (step, layer, head)."""

    def needs(self, spec):
        self.layers = watched(self.asked, spec)
        return dict.fromkeys(self.layers, NEEDED)

    def eat(self, run):
        held = []
        for layer in self.layers:
            x = inputs(run, layer)
            for first, count, part in tiles(x):
                read, seam = part.flat(part.out, count), run.seams[layer, "read"][first : first + count]
                run.check_parity(layer, "deltanet.spectra", read, seam)
            held.append(torch.linalg.svdvals(part.state))
        singular = torch.stack(held)
        stable, effective = ranks(singular)
        self.add("stable_rank", stable[None])
        self.add("effective_rank", effective[None])
        self.add("end_norm", singular.square().sum(-1).sqrt()[None])
        self.add("last", run.positions[-1:])

    def result(self, model):
        last = self.column("last")
        names = ("stable_rank", "effective_rank", "end_norm")
        values = {name: (("step", "layer", "head"), self.column(name)) for name in names}
        coords = {"step": range(len(last)), "step_token": ("step", last), "layer": list(self.layers)}
        coords["head"] = range(values["end_norm"][1].shape[2])
        return label(values, coords=coords, attrs={"model": model, "reading": "deltanet.spectra"})


class RowProbe(Probe):
    """Exact implied rows of chosen tokens over all their sources: (token, layer, head, source)."""

    def __init__(self, tokens, *, layers=None):
        super().__init__(layers=layers, block=1)
        self.tokens = sorted(int(t) for t in tokens)
        if not self.tokens or self.tokens[0] < 0:
            raise InputError("rows of which tokens?", got=self.tokens, expected="absolute positions, 0 and above")

    def needs(self, spec):
        self.layers = watched(self.asked, spec)
        return dict.fromkeys(self.layers, NEEDED)

    def check(self, tokens):
        if self.tokens[-1] >= tokens:
            raise InputError(
                "rows of tokens that the prompt does not have", got=self.tokens[-1], expected=f"below {tokens}"
            )

    def signature(self):
        return [*super().signature(), list(self.tokens)]

    def eat(self, run):
        first = run.start.length
        here = [t - first for t in self.tokens if first <= t < first + len(run)]
        keep = max(0, min(len(run), self.tokens[-1] + 1 - first))
        for layer in self.layers:
            x = inputs(run, layer)
            for begin, count, part in tiles(x) if keep else ():
                seam = run.seams[layer, "read"][begin : begin + count]
                run.check_parity(layer, "deltanet.rows", part.flat(part.out, count), seam)
            for name, part in (("k", x.k), ("g", x.g), ("beta", x.beta)):
                self.add(f"{layer}.{name}", part[:keep])
            self.add(f"{layer}.q", x.q[here])
        self.add("at", run.positions[here])

    def result(self, model):
        at = self.column("at")
        rows = []
        for layer in self.layers:
            k, g, beta, q = (self.column(f"{layer}.{name}") for name in ("k", "g", "beta", "q"))
            rows.append(implied(k, k, g=g, beta=beta, rows=at, queries=q)[0].transpose(0, 1))
        found = torch.stack(rows, 1)
        coords = {"token": at, "layer": list(self.layers)}
        coords |= {"head": range(found.shape[2]), "source": range(found.shape[3])}
        facts = {"model": model, "reading": "deltanet.rows"}
        return label({"weight": (("token", "layer", "head", "source"), found)}, coords=coords, attrs=facts)


def gates(*, layers=None, block=64):
    """A probe of decay gate α (`keep`) and write strength β (`write`), block means."""
    return DeltaNetProbe(("keep", "write"), "mean", layers=layers, block=block)


def norms(*, layers=None, block=64):
    """A probe of ‖S‖, ‖o‖, ‖r‖ and ‖e‖, block means; compared with the model's own reads in every chunk."""
    return DeltaNetProbe(("state_norm", "out", "recalled", "error"), "mean", layers=layers, block=block)


def ledger_sums(*, layers=None, block=64):
    """A probe of how much decay removed, erasing removed and writing added, summed over each block."""
    return DeltaNetProbe(("decayed", "erased", "written"), "sum", layers=layers, block=block)


def surprise(*, layers=None, block=64):
    """A probe of what saturates: ‖S‖, surprise ‖e‖/‖v‖ and write strength β, block means."""
    return DeltaNetProbe(("state_norm", "surprise", "write"), "mean", layers=layers, block=block)


def spectra(*, layers=None):
    """A probe of stable and effective rank and norm (`end_norm`) of every state where a chunk ends."""
    return SpectrumProbe(layers=layers)


def saturation(*, layers=None, block=64):
    """The probes that show a state filling up over long text: `surprise` and `spectra`, for `probes=`."""
    return [surprise(layers=layers, block=block), spectra(layers=layers)]


def rows(*, tokens, layers=None):
    """A probe of the exact implied rows of chosen absolute tokens: weight (token, layer, head, source).

    Host memory grows by 4·(key_heads·dk + 2·heads) bytes a token and layer (8.6 kB for a layer of the 27B).
    """
    return RowProbe(tokens, layers=layers)
