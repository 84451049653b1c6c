"""The chunk form of the delta rule: exact, with matrix products within chunks instead of a loop over tokens.

With c the log decay cumulated within a chunk [token, key], K⁺ = K ⊙ eᶜ, Q⁺ = Q̃ ⊙ eᶜ, the couplings of two tokens
P_ij = Σ_κ k_iκ k_jκ exp(c_iκ - c_jκ) for i ≥ j, P̃_ij the same with q̃_i for k_i, and entry state S:

    M = I + tril(diag(β) P, -1)
    U = M⁻¹ diag(β) (V - K⁺ S)                        net writes
    E = V - K⁺ S - tril(P, -1) U                      errors
    O = Q⁺ S + P̃ U                                    reads
    S ← Diag(e^{c_C}) S + (K ⊙ e^{c_C - c})ᵀ U

If all channels of a head decay alike, P = K Kᵀ ⊙ D with D_ij = e^{c_i - c_j}. If they differ, factors K ⊙ e^{-c} would
overflow: `decayed_products` splits the sum so that no factor exceeds 1. Arrays of a tile are [head, chunk, C, ...]; the
last axis of decays is 1 or key. Source: Gated DeltaNet (arXiv 2412.06464), sec. 3.3; per channel
Kimi Linear (arXiv 2510.26692).
"""

import collections.abc
import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.deltanet.equation.reference import Decay, Keys, State, Values, Write, check
from labkit.errors import InputError

CHUNK = 32  # of the fast path; the kernels of models cut at 64, which changes nothing but rounding
TILE = 512  # tokens per tile: bounds memory, and fits the processor's cache

CutKeys = Float[Tensor, "key_head chunk C key"]
CutValues = Float[Tensor, "head chunk C value"]
CutWrite = Float[Tensor, "head chunk C"]
CutDecay = Float[Tensor, "head chunk C 1"] | Float[Tensor, "head chunk C key"]
Pairs = Float[Tensor, "head chunk C C"]


@dataclasses.dataclass(frozen=True)
class Chunks:
    """One tile of the chunk form.

    Attributes:
        decay: g cumulated within the chunk; float64 if channels decay differently, so that differences are exact.
        pair: exp(decay_i - decay_j) for i ≥ j, else 0; None if channels decay differently.
        entry: the state before each chunk. state: the state after the last one.
        out: None if outputs were not asked for.
    """

    q: CutKeys
    k: CutKeys
    v: CutValues
    beta: CutWrite
    decay: CutDecay
    pair: Pairs | None
    entry: Float[Tensor, "head chunk key value"]
    recalled: CutValues
    error: CutValues
    out: CutValues | None
    state: State

    @property
    def write(self) -> CutValues:
        """Net writes u = βe."""
        return self.beta[..., None] * self.error

    def state_after(self, t: int) -> State:
        """The state after token t of this tile: the chunk's entry state and at most C writes."""
        n, i = divmod(t, self.k.shape[2])
        decay = self.decay[:, n, : i + 1]
        keys = spread(self.k[:, n, : i + 1], (decay[:, -1:] - decay).exp().to(self.k))
        grown = decay[:, -1].exp().to(self.k)[..., None] * self.entry[:, n]
        return grown + keys.transpose(1, 2) @ self.write[:, n, : i + 1]

    def squares(self) -> CutDecay:
        """‖S_t‖² after each token; with decay per channel that of each row of S, since the rows fade differently.

        With one decay per head no state but the chunk entries is formed: ‖S_t‖² = α²‖S_{t-1}‖² + 2β r·e + β²‖k‖²‖e‖²,
        solved inside each chunk from its exact entry norm.
        """
        if self.pair is None:
            return torch.stack([state.square().sum(-1) for state in self._states()], 2)
        gain = 2 * self.beta * torch.einsum("hncv,hncv->hnc", self.recalled, self.error)
        size = spread(self.k.square().sum(-1), self.beta.square())
        gain = gain + size * self.error.square().sum(-1)
        first = self.entry.square().sum((-1, -2))[..., None]
        square = (2 * self.decay[..., 0]).exp() * first + (self.pair.square() @ gain[..., None])[..., 0]
        return square.clamp(min=0)[..., None]

    def norms(self) -> CutWrite:
        """‖S_t‖ after each token."""
        return self.squares().sum(-1).sqrt()

    def vectors(self) -> Float[Tensor, "head chunk C key"]:
        """The only column of the state after each token, of a rule with one value channel: what is left of one key."""
        if self.pair is None:
            return torch.stack([state[..., 0] for state in self._states()], 2)
        carried = self.decay.exp() * self.entry[..., 0][:, :, None]
        return carried + self.pair @ spread(self.k, self.write)

    def _states(self):
        """The states after token 0, 1, … of all chunks at once, [head, chunk, key, value]."""
        state, write = self.entry, self.write
        decay = self.decay.diff(dim=2, prepend=torch.zeros_like(self.decay[:, :, :1]))
        for i in range(self.k.shape[2]):
            state = decay[:, :, i].exp().to(state)[..., None] * state
            state = state + spread(self.k[:, :, i, :, None], write[:, :, i, None])
            yield state

    def flat(self, x: Float[Tensor, "head chunk C *axes"], tokens: int) -> Float[Tensor, "{tokens} head *axes"]:
        """Back to one axis of tokens, padding dropped."""
        return x.flatten(1, 2)[:, :tokens].transpose(0, 1)


def tiled(
    q: Keys,
    k: Keys,
    v: Values,
    *,
    g: Decay,
    beta: Write,
    state: State | None = None,
    outputs: bool = True,
    tile: int = TILE,
) -> collections.abc.Iterator[tuple[int, int, Chunks]]:
    """Walk the chunk form over a sequence: yields (first token, tokens, `Chunks`) with bounded memory."""
    for a in range(0, len(v), tile):
        span = slice(a, a + tile)
        part = chunks(q[span], k[span], v[span], g=g[span], beta=beta[span], state=state, outputs=outputs)
        yield a, len(v[span]), part
        state = part.state


def chunks(
    q: Keys,
    k: Keys,
    v: Values,
    *,
    g: Decay,
    beta: Write,
    state: State | None = None,
    chunk: int = CHUNK,
    outputs: bool = True,
) -> Chunks:
    """The chunk form for one tile of tokens; long sequences go tile by tile (`tiled`). Memory O(T·C) per head.

    Args:
        q, k, v, g, beta, state: as of `delta_rule`. outputs: False spares the reads.

    Raises:
        InputError: see `reference.check`; a chunk that is no power of two with decay per channel.
    """
    check(k, g, beta)
    q, k, v, beta = (cut(x, chunk) for x in (q, k, v, beta))
    decay, pair, similar = couplings(k, g)
    solver = solved(similar, beta) * beta[..., None, :]
    grown = decay.exp().to(k)
    fed, left = spread(k, grown), spread(k, (decay[..., -1:, :] - decay).exp().to(k)).transpose(-1, -2)
    total = grown[..., -1, :, None]

    state = v.new_zeros(len(v), k.shape[-1], v.shape[-1]) if state is None else state.to(v)
    entry, bare, write = [], [], []
    for n in range(v.shape[1]):
        entry.append(state)
        bare.append(v[:, n] - fed[:, n] @ state)
        write.append(solver[:, n] @ bare[-1])
        state = torch.baddbmm(total[:, n] * state, left[:, n], write[-1])
    entry, bare, write = (torch.stack(part, 1) for part in (entry, bare, write))

    error = bare - similar.tril(-1) @ write
    out = spread(q, grown) @ entry + coupled(q, k, decay, pair) @ write if outputs else None
    return Chunks(q, k, v, beta, decay, pair, entry, v - error, error, out, state)


def cut(x: Float[Tensor, "token head *axes"], chunk: int) -> Float[Tensor, "head chunk {chunk} *axes"]:
    """Chunks of tokens, the last one padded with zeros."""
    tokens = len(x)
    count = -(-tokens // chunk)
    if tokens < count * chunk:
        x = torch.cat([x, x.new_zeros(count * chunk - tokens, *x.shape[1:])])
    return x.view(count, chunk, *x.shape[1:]).movedim(2, 0)


def spread(x: Float[Tensor, "key_head ..."], y: Float[Tensor, "head ..."]) -> Float[Tensor, "head ..."]:
    """The product of x and y, without copying x for every head of its group."""
    return (x[:, None] * y.unflatten(0, (len(x), -1))).flatten(0, 1)


def couplings(k: CutKeys, g: Decay) -> tuple[CutDecay, Pairs | None, Pairs]:
    """How the tokens of each chunk act on each other, from cut k: (c, D or None, P with its diagonal), see above."""
    size = k.shape[2]
    decay = cut(g.unsqueeze(-1) if g.ndim == 2 else g.double(), size).cumsum(2)
    pair = None
    if g.ndim == 2:
        pair = decay - decay.transpose(-1, -2)
        above = torch.ones(size, size, dtype=torch.bool, device=k.device).triu(1)
        pair = pair.masked_fill_(above, float("-inf")).exp_()
    return decay, pair, coupled(k, k, decay, pair)


def solved(similar: Pairs, beta: CutWrite) -> Pairs:
    """M⁻¹ from P and β."""
    identity = torch.eye(similar.shape[-1], dtype=similar.dtype, device=similar.device).expand_as(similar)
    return torch.linalg.solve_triangular(beta[..., None] * similar, identity, upper=False, unitriangular=True)


def coupled(x: CutKeys, k: CutKeys, decay: CutDecay, pair: Pairs | None) -> Pairs:
    """Σ_κ x_iκ k_jκ exp(c_iκ - c_jκ) for i ≥ j, else 0."""
    return decayed_products(x, k, decay) if pair is None else spread(x @ k.transpose(-1, -2), pair)


def decayed_products(x: CutKeys, k: CutKeys, decay: Float[Tensor, "head chunk C key"]) -> Pairs:
    """`coupled` for channels that decay differently.

    Every pair i > j lies in the second and the first half of exactly one block of 2, 4, 8, … tokens. With b the last
    token of the first half, exp(c_i - c_j) = exp(c_i - c_b) exp(c_b - c_j), and both factors are at most 1.
    """
    size = k.shape[2]
    if size & (size - 1):
        raise InputError("decay per channel needs chunks of a power of two", got=size, hint="chunk=32")
    products = torch.diag_embed((x * k).sum(-1).repeat_interleave(len(decay) // len(k), 0))
    half = size // 2
    while half:
        halves = lambda y, half=half: y.unflatten(2, (-1, 2, half)).unbind(3)  # noqa: E731
        (early, late), (_, asking), (asked, _) = halves(decay), halves(x), halves(k)
        edge = early[..., -1:, :]
        asking, asked = spread(asking, (late - edge).exp().to(k)), spread(asked, (edge - early).exp().to(k))
        blocks = products.unflatten(3, (-1, 2 * half)).unflatten(2, (-1, 2 * half)).diagonal(dim1=2, dim2=4)
        blocks[:, :, half:, :half] = (asking @ asked.transpose(-1, -2)).movedim(2, -1)
        half //= 2
    return products
