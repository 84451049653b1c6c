"""Online probes of the DeltaNet layers for `Lab.stream`: gates, norms, updates, spectra, saturation, exact rows.

Each chunk's inputs are recomputed from its seams and walked by the chunk form, starting from the very state that the
model's cache held; no T x key x value object is formed. Per-token numbers are reduced over blocks of tokens, spectra
are taken where a chunk ends. An exact row needs the key, decay and write strength of every earlier token: those are
kept in host memory, key_heads·dk + 2·heads float32 numbers a token and layer, and walked back when the stream ends.

`parity` of a result is the worst of its layers and chunks; a chunk above tolerance stops the stream.
"""

from collections.abc import Iterable, Sequence

import torch

from labkit.calling import public
from labkit.deltanet import costs
from labkit.deltanet.equation import implied
from labkit.deltanet.recompute import SEAMS, Walk, decay_and_write, quantity, walk
from labkit.deltanet.singular import ranks
from labkit.errors import InputError
from labkit.notation import label, whole_numbers
from labkit.plan import ProbeCost
from labkit.spec import Spec
from labkit.stream import Probe, of_kind
from labkit.trace import Run


class DeltaNetProbe(Probe):
    """Base of probes that walk every chunk of DeltaNet layers.

    Args:
        name: of the call that makes the probe, "deltanet.norms".
    """

    def __init__(self, name: str, *, layers=None, block=1):
        super().__init__(layers=layers, block=block)
        self.name = name

    def needs(self, spec: Spec) -> dict:
        self.layers = of_kind(self.asked, spec, "deltanet", "stream.capture keeps seams of attention layers")
        self.write = quantity(spec, "write")
        return dict.fromkeys(self.layers, spec.having("deltanet", SEAMS))

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        return ProbeCost(costs.watched(spec, 1, chunk, 0))

    def walk(self, run: Run, layer: int, *, updates: bool = False) -> Walk:
        """The chunk of a layer, proven; its parity joins that of the result."""
        walked = walk(run, layer, self.name, updates=updates)
        for fact, value in walked.parity.items():
            self.add(fact, torch.tensor([value], dtype=torch.float64))
        return walked

    def labelled(self, variables: dict, coords: dict, model: str, **facts) -> "xarray.Dataset":  # noqa: F821
        """The dataset of `{variable: (axes after layer and head, [row, layer, head, ...], quantity)}`."""
        axes = {
            name: (("layer", "head", *dims), rows.movedim(0, 2), what) for name, (dims, rows, what) in variables.items()
        }
        heads = next(iter(axes.values()))[1].shape[1]
        facts |= {fact: float(self.column(fact).max()) for fact in ("parity", "tolerance") if fact in self.rows}
        coords = {"layer": list(self.layers), "head": range(heads)} | coords
        return label(axes, coords=coords, attrs={"model": model, "reading": self.name} | facts)


class BlockProbe(DeltaNetProbe):
    """Block means or sums of per-token, per-head numbers of DeltaNet layers: (layer, head, block).

    Args:
        names: variables of `deltanet.memory`. how: "mean" or "sum" over each block.
    """

    blocks = True

    def __init__(self, name: str, names: Sequence[str], how: str, *, layers=None, block=64):
        super().__init__(name, layers=layers, block=block)
        self.names, self.how = tuple(names), how

    def needs(self, spec: Spec) -> dict[int, Sequence[str]]:
        needed = super().needs(spec)
        return needed if self._walked() else dict.fromkeys(needed, ("a", "b"))

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        return {name: {"layer": None, "head": spec.value_heads, "block": None} for name in self.names}

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        column, layers, walked = 4 * spec.value_heads, len(self.layers), self._walked()
        kept = layers * -(-tokens // self.block) * column * len(self.names)
        scratch = costs.watched(spec, layers, chunk, costs.NUMBERS) if walked else 4 * (layers + 1) * chunk * column
        return ProbeCost(scratch, kept, 2 * kept)

    def signature(self) -> list:
        return [*super().signature(), list(self.names), self.how]

    def eat(self, run: Run) -> None:
        layers = [self._columns(run, layer) for layer in self.layers]
        for name in self.names:
            self.add(name, torch.stack([self.reduced(columns[name], self.how) for columns in layers], 1))
        self.add("first", run.positions[:: self.block])

    def _walked(self):
        """Whether its numbers ask for a walk; decay and write strength follow from two seams."""
        return bool(set(self.names) - {"keep", "write"})

    def _columns(self, run, layer):
        if not self._walked():
            g, beta = decay_and_write(run, layer)
            keep = g.exp() if g.ndim == 2 else g.exp().mean(-1)
            return {"keep": keep, "write": beta}
        walked = self.walk(run, layer, updates=True)
        return walked.terms | {"out": walked.reads.norm(dim=-1)}

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        first = self.column("first")
        what = {name: name for name in self.names} | {"write": self.write}
        values = {name: (("block",), self.column(name), what[name]) for name in self.names}
        coords = {"block": range(len(first)), "block_start": ("block", first)}
        return self.labelled(values, coords, model, block=self.block, reduced=f"{self.how} over {self.block} tokens")


class SpectrumProbe(DeltaNetProbe):
    """Norm and ranks of the states where each chunk ends: (layer, head, step)."""

    names = {"stable_rank": "stable_rank", "effective_rank": "effective_rank", "end_norm": "state_norm"}

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        return {name: {"layer": None, "head": spec.value_heads, "step": None} for name in self.names}

    def eat(self, run: Run) -> None:
        singular = torch.stack([torch.linalg.svdvals(self.walk(run, layer).end) for layer in self.layers])
        stable, effective = ranks(singular)
        self.add("stable_rank", stable[None])
        self.add("effective_rank", effective[None])
        self.add("end_norm", singular.square().sum(-1).sqrt()[None])
        self.add("last", run.positions[-1:])

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        last = self.column("last")
        values = {name: (("step",), self.column(name), quantity) for name, quantity in self.names.items()}
        return self.labelled(values, {"step": range(len(last)), "step_token": ("step", last)}, model)


class RowProbe(DeltaNetProbe):
    """Exact implied rows of chosen tokens over all their sources: (layer, head, token, source)."""

    def __init__(self, name: str, tokens: Iterable[int], *, layers=None):
        super().__init__(name, layers=layers)
        self.tokens = sorted(set(whole_numbers(tokens, "tokens")))
        if not self.tokens or self.tokens[0] < 0:
            raise InputError("rows of which tokens?", got=self.tokens, expected="absolute positions, 0 and above")

    def outputs(self, spec: Spec) -> dict[str, dict[str, int | None]]:
        return {"weight": {"layer": None, "head": spec.value_heads, "token": None, "source": None}}

    def check(self, tokens: int) -> None:
        if self.tokens[-1] >= tokens:
            raise InputError(
                "rows of tokens that the prompt does not have", got=self.tokens[-1], expected=f"below {tokens}"
            )

    def signature(self) -> list:
        return [*super().signature(), list(self.tokens)]

    def cost(self, spec: Spec, *, tokens: int, chunk: int, width: int) -> ProbeCost:
        last, rows = self.tokens[-1] + 1, len(self.tokens)
        kept = 4 * last * len(self.layers) * (spec.key_heads * spec.dk + (1 + spec.decays) * spec.value_heads)
        weights = 4 * rows * len(self.layers) * spec.value_heads * last
        end = 4 * last * spec.key_heads * spec.dk + costs.row(spec, last, rows) + 2 * weights
        return ProbeCost(costs.watched(spec, 1, chunk, 0), kept, end)

    def eat(self, run: Run) -> None:
        first = run.start.length
        inside = [t - first for t in self.tokens if first <= t < first + len(run)]
        sources = max(0, min(len(run), self.tokens[-1] + 1 - first))
        for layer in self.layers if sources else ():
            x = self.walk(run, layer).x
            for name, part in (("k", x.k), ("g", x.g), ("beta", x.beta)):
                self.add(f"{layer}.{name}", part[:sources])
            self.add(f"{layer}.q", x.q[inside])
        self.add("at", run.positions[inside])

    def result(self, model: str) -> "xarray.Dataset":  # noqa: F821
        at, rows = self.column("at"), []
        for layer in self.layers:
            k, g, beta, q = (self.column(f"{layer}.{name}") for name in ("k", "g", "beta", "q"))
            rows.append(implied(k, k, g=g, beta=beta, rows=at, queries=q)[0].transpose(0, 1))
        weight = torch.stack(rows, 1)
        coords = {"token": at, "source": range(weight.shape[-1])}
        return self.labelled({"weight": (("token", "source"), weight, "weight")}, coords, model)


@public
def gates(*, layers: int | Sequence[int] | None = None, block: int = 64) -> Probe:
    """A probe of decay gate α (`keep`) and write strength β (`write`), block means.

    They follow from the seams a and b alone; nothing is walked, so there is no parity.
    """
    return BlockProbe("deltanet.gates", ("keep", "write"), "mean", layers=layers, block=block)


@public
def norms(*, layers: int | Sequence[int] | None = None, block: int = 64) -> Probe:
    """A probe of ‖S‖, ‖o‖, ‖r‖ and ‖e‖, block means; compared with the model's own reads in every chunk."""
    names = ("state_norm", "out", "recalled", "error")
    return BlockProbe("deltanet.norms", names, "mean", layers=layers, block=block)


@public
def updates(*, layers: int | Sequence[int] | None = None, block: int = 64) -> Probe:
    """A probe of how much decay removed, erasing removed and writing added, summed over each block."""
    return BlockProbe("deltanet.updates", ("decayed", "erased", "written"), "sum", layers=layers, block=block)


@public
def surprise(*, layers: int | Sequence[int] | None = None, block: int = 64) -> Probe:
    """A probe of what saturates: ‖S‖, surprise ‖e‖/‖v‖ and write strength β, block means."""
    names = ("state_norm", "surprise", "write")
    return BlockProbe("deltanet.surprise", names, "mean", layers=layers, block=block)


@public
def spectra(*, layers: int | Sequence[int] | None = None) -> Probe:
    """A probe of stable and effective rank and norm (`end_norm`) of every state where a chunk ends."""
    return SpectrumProbe("deltanet.spectra", layers=layers)


@public
def saturation(*, layers: int | Sequence[int] | None = None, block: int = 64) -> list[Probe]:
    """The probes that show a state filling up over long text, `surprise` and `spectra` by blocks of `block` tokens."""
    return [surprise(layers=layers, block=block), spectra(layers=layers)]


@public
def rows(*, tokens: Iterable[int], layers: int | Sequence[int] | None = None) -> Probe:
    """A probe of the exact implied rows of chosen absolute tokens: weight (layer, head, token, source).

    Host memory grows by 4·(key_heads·dk + 2·heads) bytes a token and layer (8.6 kB for a layer of the 27B), with decay
    per channel by 4·heads·dk more.
    """
    return RowProbe("deltanet.rows", tokens, layers=layers)
