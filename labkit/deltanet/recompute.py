"""The rule's inputs out of a run's seams, and the one walk over the tokens, proven by the model's own reads.

The seams `qkv` (or `q`, `k` and `v`), `a` and `b` give the inputs (`inputs`); the walk gives reads, states, net writes
and the terms of every update (`walk`), and compares the reads with the model's own, which cross the seam `read`. An
update has three terms,

    S_t - S_{t-1} = -(1-α_t) S_{t-1}  -  α_t β_t k_t (k_tᵀ S_{t-1})  +  β_t k_t v_tᵀ
                     decay               erase                          write

    ‖S_t‖² = α_t² ‖S_{t-1}‖² + 2 β_t r_t·e_t + β_t² ‖k_t‖² ‖e_t‖²

where α_t is a vector, α_t² ‖S_{t-1}‖² is Σ_c α_tc² ‖row c of S_{t-1}‖²; with r_t = (α_t ⊙ S_{t-1})ᵀ k_t what the memory
says and e_t = v_t - r_t the error. Per token and head some scalars; no state but those at chunk borders is formed.
Gated DeltaNet: arXiv 2412.06464, eq. 10.
"""

import collections
import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from labkit.calling import public
from labkit.deltanet.equation import Chunks, grouped, tiled, unit
from labkit.errors import InputError
from labkit.notation import QUANTITIES, Quantity, is_index, select
from labkit.spec import Spec
from labkit.trace import Run

MIXED = ("qkv", "q", "k", "v")  # what enters the convolution: one seam, or three
SEAMS = (*MIXED, "a", "b", "read")  # as far as a model has them
REFLECTING = "arXiv 2411.12537"
TERMS = (
    "keep",
    "write",
    "recalled",
    "error",
    "surprise",
    "agreement",
    "state_norm",
    "decayed",
    "erased",
    "written",
    "energy",
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What enters the rule, as keyword arguments of `equation`; `state` is S before the first token."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor
    beta: torch.Tensor
    state: torch.Tensor | None

    def upto(self, count: int) -> "Inputs":
        """The first `count` tokens."""
        return Inputs(*(part[:count] for part in (self.q, self.k, self.v, self.g, self.beta)), self.state)

    def start_squares(self) -> torch.Tensor:
        """‖S‖² before the first token, [head, 1]; with decay per channel of each of its rows, [head, key]."""
        heads, channels = self.v.shape[1], 1 if self.g.ndim == 2 else self.k.shape[-1]
        if self.state is None:
            return self.v.new_zeros(heads, channels)
        rows = self.state.square().sum(-1)
        return rows if channels > 1 else rows.sum(-1, keepdim=True)


@public
def inputs(run: Run, layer: int) -> Inputs:
    """Queries, keys, values, log decay and write strength of every token, after convolution and normalisation.

    Source: `Qwen3_5GatedDeltaNet.forward`, `OlmoHybridGatedDeltaNet.forward`. The convolution and SiLU run in the
    model's dtype, as there; the rest is float32.
    """
    spec = run.spec
    parts = [run.seams[layer, name].flatten(1) for name in spec.having("deltanet", MIXED)]
    qkv = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    taps = run.parameters[layer, "conv1d.weight"].to(qkv.device)
    before = run.start.conv.get(layer)
    history = qkv.new_zeros(spec.conv - 1, qkv.shape[1]) if before is None else before[:, 1 - spec.conv :].T.to(qkv)
    mixed = F.conv1d(torch.cat([history, qkv]).T[None].to(taps.dtype), taps, groups=qkv.shape[1])[0].T
    mixed = F.silu(mixed).to(qkv.dtype)
    width = spec.key_heads * spec.dk
    q, k, v = mixed.split([width, width, spec.value_heads * spec.dv], -1)
    q, k = (unit(x.float().reshape(len(x), spec.key_heads, spec.dk)) for x in (q, k))
    g, beta = decay_and_write(run, layer)
    state = run.start.state.get(layer)
    return Inputs(
        q=q * spec.dk**-0.5,
        k=k,
        v=v.float().reshape(len(v), spec.value_heads, spec.dv),
        g=g,
        beta=beta,
        state=None if state is None else state.to(qkv.device).float(),
    )


def decay_and_write(run: Run, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(log α [token, head], or [token, head, key] where each channel decays by itself; β [token, head]), float32.

    From the seams a and b alone: log α = -exp(A_log) softplus(a + dt_bias), β = most_write · σ(b).
    """
    a, b = run.seams[layer, "a"], run.seams[layer, "b"]
    rate, bias = (run.parameters[layer, name].to(a.device) for name in ("A_log", "dt_bias"))
    rate = rate.float().exp().view(-1, *[1] * (a.ndim - 2))
    return (-rate * F.softplus(a.float() + bias.view(a.shape[1:]))).float(), b.sigmoid().float() * run.spec.most_write


def quantity(spec: Spec, name: str) -> Quantity:
    """The quantity of a write strength, or of what single tokens erase: no fraction where β may be 2."""
    known = QUANTITIES[name]
    return known if spec.most_write == 1 else dataclasses.replace(known, units="1", scale="positive", source=REFLECTING)


@dataclasses.dataclass(frozen=True)
class Walk:
    """What a walk over the tokens of a layer saw, proven.

    Attributes:
        x: the rule's inputs.
        parity: `{"parity": ..., "tolerance": ...}` of the reads, for a dataset's attributes.
        states: [step, head, key, value] after the tokens that were chosen. end: [head, key, value] after the last one.
        reads, writes: [token, head, value], o and the net writes u; None unless asked for.
        terms: `{name: [token, head]}`, see `terms`; empty unless asked for.
    """

    x: Inputs
    parity: dict
    states: torch.Tensor | None
    end: torch.Tensor
    reads: torch.Tensor | None
    writes: torch.Tensor | None
    terms: dict[str, torch.Tensor]


def walk(
    run: Run,
    layer: int,
    name: str,
    *,
    at: Sequence[int] = (),
    reads: bool = True,
    writes: bool = False,
    updates: bool = False,
) -> Walk:
    """Walk the chunk form over the run, tile by tile, and compare its reads with the model's own.

    Args:
        name: of the reading, for `run.parity`.
        at: tokens, counted from the run's first, after which whole states are given.
        reads: prove every read. False spares them: the walk ends at the last of `at`, and the states there are proven
            by what the model's own queries read out of them.
        writes: give the net writes. updates: give the terms of every update.

    Raises:
        SeamError, ParityError.
    """
    x, states, columns = inputs(run, layer), {}, collections.defaultdict(list)
    squares = x.start_squares()
    for first, count, part in tiled(**vars(x if reads else x.upto(max(at) + 1)), outputs=reads):
        states |= {t: part.state_after(t - first) for t in at if first <= t < first + count}
        if reads:
            columns["reads"].append(part.flat(part.out, count))
        if writes:
            columns["writes"].append(part.flat(part.write, count))
        if updates:
            tile, squares = terms(x, part, first, count, squares)
            for term, values in tile.items():
                columns[term].append(values)
    joined = {column: torch.cat(parts) for column, parts in columns.items()}
    chosen = torch.stack([states[t] for t in at]) if len(at) else None
    recomputed, seam = joined.get("reads"), run.seams[layer, "read"]
    if not reads:
        queries = grouped(x.q[list(at)], x.v.shape[1])
        recomputed, seam = torch.einsum("nhkv,nhk->nhv", chosen, queries), seam[list(at)]
    parity = run.check_parity(layer, name, recomputed, seam)
    if reads and layer in run.states:  # the model's own last state; read and written through the same 16 bits
        held = run.states[layer][-1].to(seam.dtype)
        parity = max(parity, run.check_parity(layer, f"{name} state", part.state, held), key=lambda p: p["parity"])
    return Walk(x, parity, chosen, part.state, joined.pop("reads", None), joined.pop("writes", None), joined)


def terms(
    x: Inputs, part: Chunks, first: int, count: int, before: torch.Tensor
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """`TERMS` of one tile that starts at token `first`, {name: [token, head]}, and what `before` is after it.

    Each of the terms decay, erase and write of ΔS_t is given by its Frobenius norm; `keep` is α, its mean over channels
    where each decays by itself.

    Args:
        before: ‖S‖² before the tile, as `Inputs.start_squares`.
    """
    span, heads = slice(first, first + count), x.v.shape[1]
    write = x.beta[span]
    recalled, error = (part.flat(vectors.norm(dim=-1), count) for vectors in (part.recalled, part.error))
    key, value = grouped(x.k[span].norm(dim=-1), heads), x.v[span].norm(dim=-1)
    squares = part.flat(part.squares(), count)
    earlier = torch.cat([before[None], squares[:-1]])
    keep = x.g[span].exp().view(earlier.shape)
    columns = {
        "keep": keep.mean(-1),
        "write": write,
        "recalled": recalled,
        "error": error,
        "surprise": error / value.clamp(min=1e-30),
        "agreement": part.flat((part.recalled * part.error).sum(-1), count),
        "state_norm": squares.sum(-1).sqrt(),
        "decayed": ((1 - keep).square() * earlier).sum(-1).sqrt(),
        "erased": write * key * recalled,
        "written": write * key * value,
        "energy": (squares - earlier).sum(-1),
    }
    return columns, squares[-1]


def places(run: Run, values: int | Sequence[int], name: str, last: int | None = None) -> list[int]:
    """Indices of tokens of the run, counted from its first; none of them after `last`.

    Raises:
        InputError: out of range, or none chosen.
    """
    chosen = select(values, len(run), name)
    if last is not None and (later := [t for t in chosen if t > last]):
        raise InputError(f"{name} out of range", got=later, expected=f"0 to {last}")
    return chosen


def one_token(run: Run, token: int, hint: str, name: str = "token", last: int | None = None) -> int:
    """`places` of a single token.

    Raises:
        InputError: several tokens, or one out of range.
    """
    if not is_index(token):
        raise InputError(f"one {name} at a time", got=token, expected="an int", hint=hint)
    return places(run, token, name, last)[0]
