"""The gated delta rule: one step, the loop over steps, the chunk form, and the exact implied attention.

One head keeps a matrix S [key, value]. Per token, with unit key k, value v, decay α = exp(g) and write strength β:

    r = α Sᵀk          what the memory says for this key
    e = v - r          error
    S ← α S + k (βe)ᵀ  decay, erase what was said, write what should be said
    o = Sᵀ q̃           read, q̃ = q / √dk

Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (arXiv 2412.06464), eq. 10; chunk form sec. 3.3, there with states
transposed. Everything here is plain tensors of one sequence, float32 unless the inputs are float64:

    q, k [token, key_head, key]   unit length, q already divided by √dk
    v    [token, head, value]     g, β [token, head]     S [head, key, value]

Value head h reads key head h // (heads / key_heads). `step` and `scan` are the reference and are never made fast.
"""

import dataclasses

import torch

CHUNK = 32  # of the fast path; the kernels of models cut at 64, which changes nothing but rounding


def unit(x):
    """x / √(Σx² + 1e-6) along the last axis, as the family's kernels do; slightly shorter than 1."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def grouped(x, heads):
    """[token, key_head, ...] -> [token, head, ...]: each key head serves consecutive value heads."""
    return x.repeat_interleave(heads // x.shape[1], 1)


def step(state, q, k, v, *, g, beta):
    """One token: state [head, key, value], q and k [head, key], v [head, value], g and beta [head].

    Returns:
        (state, out, recalled, error), the last three [head, value].
    """
    decayed = g.exp()[:, None, None] * state
    recalled = torch.einsum("hkv,hk->hv", decayed, k)
    error = v - recalled
    state = decayed + torch.einsum("hk,hv->hkv", k, beta[:, None] * error)
    return state, torch.einsum("hkv,hk->hv", state, q), recalled, error


def scan(q, k, v, *, g, beta, state=None):
    """The reference: `step` in a loop over tokens.

    Returns:
        (out, recalled, error, state): [token, head, value] three times, and the final state.
    """
    heads = v.shape[1]
    q, k = grouped(q, heads), grouped(k, heads)
    state = v.new_zeros(heads, k.shape[-1], v.shape[-1]) if state is None else state
    rows = []
    for t in range(len(v)):
        state, *row = step(state, q[t], k[t], v[t], g=g[t], beta=beta[t])
        rows.append(row)
    out, recalled, error = (torch.stack(part) for part in zip(*rows, strict=True))
    return out, recalled, error, state


@dataclasses.dataclass(frozen=True)
class Chunks:
    """One tile of the chunk form; head axis first, then chunk, then token in the chunk.

    Attributes:
        q, k: [key_head, chunk, C, key]; v, recalled, error, out: [head, chunk, C, value].
        beta, decay: [head, chunk, C]; decay is the cumulated g within the chunk.
        pair: [head, chunk, C, C], exp(decay_i - decay_j) for i ≥ j, else 0.
        entry: [head, chunk, key, value], the state before each chunk.
        state: [head, key, value], the state after the last chunk.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    beta: torch.Tensor
    decay: torch.Tensor
    pair: torch.Tensor
    entry: torch.Tensor
    recalled: torch.Tensor
    error: torch.Tensor
    out: torch.Tensor | None
    state: torch.Tensor

    @property
    def write(self):
        """Net writes u = βe, [head, chunk, C, value]."""
        return self.beta[..., None] * self.error

    def state_after(self, t):
        """The state after token t of this tile, [head, key, value]: the chunk's entry state and at most C writes."""
        n, i = divmod(t, self.k.shape[2])
        keys = spread(self.k[:, n, : i + 1], self.pair[:, n, i, : i + 1, None])
        grown = self.decay[:, n, i].exp()[:, None, None] * self.entry[:, n]
        return grown + keys.transpose(1, 2) @ self.write[:, n, : i + 1]

    def norms(self):
        """‖S_t‖ after each token, [head, chunk, C]; no state but the chunk entries is ever formed.

        ‖S_t‖² = α²‖S_{t-1}‖² + 2β r·e + β²‖k‖²‖e‖², solved inside each chunk from its exact entry norm.
        """
        gain = 2 * self.beta * torch.einsum("hncv,hncv->hnc", self.recalled, self.error)
        size = spread(self.k.square().sum(-1), self.beta.square())
        gain = gain + size * self.error.square().sum(-1)
        first = self.entry.square().sum((-1, -2))[..., None]
        square = (2 * self.decay).exp() * first + (self.pair.square() @ gain[..., None])[..., 0]
        return square.clamp(min=0).sqrt()

    def flat(self, x, tokens):
        """[head, chunk, C, ...] -> [token, head, ...], padding dropped."""
        return x.flatten(1, 2)[:, :tokens].transpose(0, 1)


def cut(x, chunk):
    """[token, head, ...] -> [head, chunk, C, ...], padded with zeros at the end."""
    tokens = len(x)
    count = -(-tokens // chunk)
    if tokens < count * chunk:
        x = torch.cat([x, x.new_zeros(count * chunk - tokens, *x.shape[1:])])
    return x.view(count, chunk, *x.shape[1:]).movedim(2, 0)


def spread(x, y):
    """x [key_head, ...] times y [head, ...] -> [head, ...], without copying x for every head of its group."""
    return (x[:, None] * y.unflatten(0, (len(x), -1))).flatten(0, 1)


def chunks(q, k, v, *, g, beta, state=None, chunk=CHUNK, outputs=True):
    """The chunk form for one tile of tokens: exact, with matrix products instead of a loop over tokens.

    With c the cumulated g, D_ij = exp(c_i - c_j) for i ≥ j, and entry state S:

        W = (I + tril(diag(β)(K Kᵀ ⊙ D), -1))⁻¹ diag(β)
        X = V - diag(eᶜ) K S                                   errors but for the chunk's own writes
        U = W X                                                net writes
        E = X - tril(K Kᵀ ⊙ D, -1) U                           errors
        O = diag(eᶜ) Q̃ S + (Q̃ Kᵀ ⊙ D) U                       reads
        S ← e^{c_C} S + (diag(e^{c_C - c}) K)ᵀ U

    Returns:
        `Chunks`. Memory O(T·C) per head; call it tile by tile on long sequences, handing `state` on.
    """
    heads = v.shape[1]
    q, k, v, g, beta = (cut(x, chunk) for x in (q, k, v, g, beta))
    decay, pair, similar, inverse = couplings(k, g, beta)
    solver = inverse * beta[..., None, :]
    grown = decay.exp()[..., None]
    fed, left = spread(k, grown), spread(k, (decay[..., -1:] - decay).exp()[..., None]).transpose(-1, -2)
    total = decay[..., -1].exp()[..., None, None]

    state = v.new_zeros(heads, k.shape[-1], v.shape[-1]) if state is None else state.to(v)
    entry, bare, write = [], [], []
    for n in range(v.shape[1]):
        entry.append(state)
        bare.append(v[:, n] - fed[:, n] @ state)
        write.append(solver[:, n] @ bare[-1])
        state = torch.baddbmm(total[:, n] * state, left[:, n], write[-1])
    entry, bare, write = (torch.stack(part, 1) for part in (entry, bare, write))

    error = bare - similar.tril_(-1) @ write
    out = None
    if outputs:
        out = spread(q, grown) @ entry + spread(q @ k.transpose(-1, -2), pair) @ write
    return Chunks(q, k, v, beta, decay, pair, entry, v - error, error, out, state)


def couplings(k, g, beta):
    """How the tokens of each chunk act on each other, from cut k, g and β.

    Returns:
        (c, D, K Kᵀ ⊙ D with its diagonal, (I + tril(diag(β)(K Kᵀ ⊙ D), -1))⁻¹), see `chunks`: [head, chunk, C] and
        three times [head, chunk, C, C].
    """
    size = k.shape[2]
    decay = g.cumsum(-1)
    pair = decay[..., :, None] - decay[..., None, :]
    above = torch.ones(size, size, dtype=torch.bool, device=k.device).triu(1)
    pair = pair.masked_fill_(above, float("-inf")).exp_()
    similar = spread(k @ k.transpose(-1, -2), pair)
    identity = torch.eye(size, dtype=k.dtype, device=k.device).expand_as(similar)
    inverse = torch.linalg.solve_triangular(beta[..., None] * similar, identity, upper=False, unitriangular=True)
    return decay, pair, similar, inverse


def implied_row(q, k, v, *, g, beta, token):
    """The reference for one exact row: o_t = Σ_j A_tj v_j + S_0ᵀ x, walked backwards from token t.

    x ← q̃_t; for j = t … 0:  A_tj = β_j k_jᵀx;  x ← α_j (x - β_j k_j k_jᵀx).  O(T·dk) time per head.

    Returns:
        (row [head, source], x [head, key]); sources after `token` are 0.
    """
    heads = v.shape[1]
    k = grouped(k, heads)
    x = grouped(q, heads)[token]
    row = v.new_zeros(heads, len(v))
    for j in range(token, -1, -1):
        said = (k[j] * x).sum(-1)
        row[:, j] = beta[j] * said
        x = g[j].exp()[:, None] * (x - (beta[j] * said)[:, None] * k[j])
    return row, x


def implied(q, k, v, *, g, beta, rows=None, heads=None, chunk=64, form="value", queries=None):
    """Exact rows of the implied attention, for any number of query tokens: O(rows · T · dk), no T x dk x dv object.

    o_t = Σ_j A_tj v_j + S_0ᵀ x_t. Inside the query's own chunk A = (Q̃Kᵀ ⊙ D) M⁻¹ diag(β); what is left of the query
    at the chunk's entry, x, is carried back chunk by chunk: with y = diag(e^{c_C - c}) K x and w = M⁻ᵀ y,
    A_j = β_j w_j and x ← e^{c_C} x - Kᵀ (β eᶜ ⊙ w).

    Args:
        rows: query tokens, ascending; None for all.
        heads: value heads; None for all.
        form: "value" for A, which acts on the values v; "write" for Q̃Kᵀ ⊙ Γ, which acts on the net writes u;
            "heuristic" for the latter times β, which drops the removal of old content and is not exact.
        queries: [row, key_head, key] to read with at these rows; None takes the tokens' own, q.

    Returns:
        (weights [head, row, source], x [head, row, key]): x reads the state before the first token.
    """
    heads = list(range(v.shape[1])) if heads is None else heads
    shared = [h // (v.shape[1] // k.shape[1]) for h in heads]
    rows = torch.arange(len(v), device=v.device) if rows is None else torch.as_tensor(rows, device=v.device)
    asked = (q[rows] if queries is None else queries)[:, shared].transpose(0, 1)
    k = cut(k, chunk)[shared]
    g, beta = (cut(x[:, heads], chunk) for x in (g, beta))
    decay = g.cumsum(-1)
    pair = decay[..., :, None] - decay[..., None, :]
    above = torch.ones(chunk, chunk, dtype=torch.bool, device=v.device).triu(1)
    pair = pair.masked_fill_(above, float("-inf")).exp_()
    removal = form == "value"
    system = beta[..., None] * (k @ k.transpose(-1, -2)) * pair if removal else None
    weights = v.new_zeros(len(heads), len(rows), k.shape[1] * chunk)
    x = v.new_zeros(len(heads), len(rows), k.shape[-1])
    home = rows // chunk
    for n in range(k.shape[1] - 1, -1, -1):
        span = slice(n * chunk, (n + 1) * chunk)
        later, here = home > n, home == n
        keys, grown, total = k[:, n], decay[:, n].exp()[..., None], decay[:, n, -1:].exp()[..., None]
        if later.any():
            seen = x[:, later] @ (keys * (decay[:, n, -1:] - decay[:, n]).exp()[..., None]).transpose(1, 2)
            x[:, later] = x[:, later] * total
            _absorb(weights, x, later, span, seen, keys, grown, system, beta, n, removal)
        if here.any():
            inside = rows[here] - n * chunk
            seen = (asked[:, here] @ keys.transpose(1, 2)) * pair[:, n, inside]
            x[:, here] = asked[:, here] * grown[:, inside]
            _absorb(weights, x, here, span, seen, keys, grown, system, beta, n, removal)
    weights = weights[..., : len(v)]
    if form == "heuristic":
        weights = weights * beta.flatten(1)[:, None, : len(v)]
    return weights, x


def _absorb(weights, x, which, span, seen, keys, grown, system, beta, n, removal):
    """Turn what queries see of a chunk's writes into what they see of its values; take it off what is left."""
    if removal:
        seen = torch.linalg.solve_triangular(
            system[:, n].transpose(1, 2), seen.transpose(1, 2), upper=True, unitriangular=True
        ).transpose(1, 2)
        seen = seen * beta[:, n, None]
        x[:, which] = x[:, which] - (seen * grown.transpose(1, 2)) @ keys
    weights[:, which, span] = seen
