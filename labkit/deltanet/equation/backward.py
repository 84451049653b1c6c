"""The rule read backwards: exact rows of the attention it implies, and what later tokens leave of stored keys.

For frozen keys, decays and write strengths reads and states are linear in the values (symbols: `equation`):

    o_t = Σ_j A_tj v_j + S_0ᵀ x_t,    A_tj = β_j q̃_tᵀ Φ_tj k_j,    x_t = Φ_t0ᵀ q̃_t
    S_t = Σ_j β_j Φ_tj k_j v_jᵀ + Φ_t0 S_0,    Φ_tj = Γ_t … Γ_{j+1}

Both walk back chunk by chunk with the matrices of `chunked`. Gated DeltaNet: arXiv 2412.06464, section 3.
"""

import collections.abc

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.deltanet.equation.chunked import CHUNK, TILE, couplings, cut, solved, spread
from labkit.deltanet.equation.reference import Decay, Keys, Write, check
from labkit.errors import InputError
from labkit.notation import select
from labkit.plan import admit


def implied(
    q: Keys,
    k: Keys,
    *,
    g: Decay,
    beta: Write,
    rows: collections.abc.Sized | None = None,
    heads: collections.abc.Iterable | None = None,
    chunk: int = 64,
    form: str = "value",
    queries: Float[Tensor, "row key_head key"] | None = None,
) -> tuple[Float[Tensor, "chosen row token"], Float[Tensor, "chosen row key"]]:
    """Exact rows of the implied attention, for any number of query tokens: O(rows · T · dk), no T x dk x dv object.

    Inside the query's own chunk A = P̃ M⁻¹ diag(β); what is left of the query at the chunk's entry, x, is carried back
    chunk by chunk: with y = (K ⊙ e^{c_C - c}) x and w = M⁻ᵀ y, A_j = β_j w_j and x ← e^{c_C} ⊙ x - K⁺ᵀ (β ⊙ w).

    Args:
        q, k, g, beta: as of `delta_rule`.
        rows: query tokens, in any order; None for all, none for no row.
        heads: value heads; None for all.
        form: "value" for A, which acts on the values v; "write" for Σ_κ q̃_tκ k_jκ exp(c_tκ - c_jκ), which acts on the
            net writes u; "heuristic" for the latter times β, which drops the removal of old content and is not exact.
        queries: to read with at these rows; None takes the tokens' own, q.

    Returns:
        (weights, x): x reads the state before the first token.

    Raises:
        InputError: an unknown form, rows or heads that do not exist; see `reference.check`. BudgetError: weights that
            would not fit.
    """
    if form not in ("value", "write", "heuristic"):
        raise InputError("unknown form", got=form, expected="'value', 'write' or 'heuristic'")
    check(k, g, beta)
    tokens, count = beta.shape
    heads = select(heads, count, "head")
    shared = [h // (count // k.shape[1]) for h in heads]
    rows = [] if rows is not None and not len(rows) else select(rows, tokens, "token")
    size = len(heads) * len(rows) * (-(-tokens // chunk) * chunk + k.shape[-1]) * k.element_size()
    admit("deltanet.implied", tokens, {"weights": size}, k.device, [("rows=[-1]", size // max(len(rows), 1))])
    rows = torch.tensor(rows, dtype=torch.long, device=k.device)
    asked = (q[rows] if queries is None else queries)[:, shared].transpose(0, 1)
    k, beta = cut(k, chunk)[shared], cut(beta[:, heads], chunk)
    decay, pair, similar = couplings(k, g[:, heads])
    weights = k.new_zeros(len(heads), len(rows), k.shape[1] * chunk)
    x = k.new_zeros(len(heads), len(rows), k.shape[-1])
    home = rows // chunk
    for n in range(k.shape[1] - 1, -1, -1):
        keys, c = k[:, n], decay[:, n]
        grown = c.exp().to(k)
        later, own = home > n, home == n
        parts = []
        if later.any():
            seen = x[:, later] @ (keys * (c[:, -1:] - c).exp().to(k)).transpose(1, 2)
            parts.append((later, seen, x[:, later] * grown[:, -1:]))
        if own.any():
            inside = rows[own] - n * chunk
            seen = _within(asked[:, own], keys, c, None if pair is None else pair[:, n], inside)
            parts.append((own, seen, asked[:, own] * grown[:, inside]))
        for which, seen, rest in parts:
            if form == "value":
                # what is seen of the chunk's net writes -> of its values; erasing is taken off the query
                system = (beta[:, n, :, None] * similar[:, n]).transpose(1, 2)
                seen = torch.linalg.solve_triangular(system, seen.transpose(1, 2), upper=True, unitriangular=True)
                seen = seen.transpose(1, 2) * beta[:, n, None]
                rest = rest - (seen @ (keys * grown) if pair is None else (seen * grown.transpose(1, 2)) @ keys)
            weights[:, which, n * chunk : (n + 1) * chunk] = seen
            x[:, which] = rest
    weights = weights[..., :tokens]
    return weights * beta.flatten(1)[:, None, :tokens] if form == "heuristic" else weights, x


def _within(asked, keys, c, pair, inside):
    """What queries [head, row, key] at tokens `inside` of a chunk see of its net writes, [head, row, C]."""
    if pair is not None:
        return (asked @ keys.transpose(1, 2)) * pair[:, inside]
    seen = keys.new_zeros(*asked.shape[:2], keys.shape[1])
    for i in inside.unique().tolist():
        decayed = keys[:, : i + 1] * (c[:, i : i + 1] - c[:, : i + 1]).exp().to(keys)
        seen[:, inside == i, : i + 1] = asked[:, inside == i] @ decayed.transpose(1, 2)
    return seen


def left_of_keys(
    k: Keys, *, g: Decay, beta: Write, tile: int = TILE, chunk: int = CHUNK
) -> collections.abc.Iterator[tuple[int | None, Float[Tensor, "..."]]]:
    """What is left of every stored key after the last token, walking back; memory O(tile·C) beside the result.

    Φ_tj k_j is what is left of the stored key k_j. Decay alone would leave exp(c_t - c_j) ⊙ k_j of it; the rest was
    erased by later tokens whose keys point the same way. Within a chunk, with K⁻ = K ⊙ e^{c_C - c},

        Φ_Cj k_j = Y_j,  Y = M⁻ᵀ K⁻,    Φ_chunk = Diag(e^{c_C}) - Yᵀ diag(β) K⁺

    so that all tokens are had in one walk back over the chunks with one key × key matrix per head.

    Yields:
        (first token, Φ_tj k_j [token, head, key] of a tile), last tile first; and at the end (None, Φ_t0 [head, key,
        key]), by which the start state is multiplied.

    Raises:
        InputError: see `reference.check`.
    """
    check(k, g, beta)
    heads, wide = beta.shape[1], k.shape[-1]
    identity = torch.eye(wide, dtype=k.dtype, device=k.device)
    run = identity.expand(heads, wide, wide)
    for first in range((len(k) - 1) // tile * tile, -1, -tile):
        span = slice(first, first + tile)
        keys, write = cut(k[span], chunk), cut(beta[span], chunk)
        decay, _, similar = couplings(keys, g[span])
        decayed = spread(keys, (decay[..., -1:, :] - decay).exp().to(k))
        inside = solved(similar, write).transpose(-1, -2) @ decayed
        scaled = spread(keys, (write[..., None] * decay.exp()).to(k))
        whole = decay[..., -1, :, None].exp().to(k) * identity - inside.transpose(-1, -2) @ scaled
        after = []
        for n in range(keys.shape[1] - 1, -1, -1):
            after.append(run)
            run = run @ whole[:, n]
        after = torch.stack(after[::-1], 1)
        yield first, (inside @ after.transpose(-1, -2)).flatten(1, 2)[:, : len(k[span])].transpose(0, 1)
    yield None, run
