"""The readable reference: one step, the loop over steps, the walk back from one query. Symbols: `equation`.

A recurrent loop of the same kind: `torch_recurrent_gated_delta_rule` of transformers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labkit.errors import InputError

Keys = Float[Tensor, "token key_head key"]
Values = Float[Tensor, "token head value"]
Decay = Float[Tensor, "token head"] | Float[Tensor, "token head key"]
Write = Float[Tensor, "token head"]
State = Float[Tensor, "head key value"]


def unit(x: Float[Tensor, "*axes channel"]) -> Float[Tensor, "*axes channel"]:
    """x / √(Σx² + 1e-6) along the last axis, as the family's kernels do; slightly shorter than 1."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def grouped(x: Float[Tensor, "token key_head *axes"], heads: int) -> Float[Tensor, "token {heads} *axes"]:
    """Each key head serves consecutive value heads."""
    return x.repeat_interleave(heads // x.shape[1], 1)


def step(
    state: State,
    q: Float[Tensor, "head key"],
    k: Float[Tensor, "head key"],
    v: Float[Tensor, "head value"],
    *,
    g: Float[Tensor, " head"] | Float[Tensor, "head key"],
    beta: Float[Tensor, " head"],
) -> tuple[State, Float[Tensor, "head value"], Float[Tensor, "head value"], Float[Tensor, "head value"]]:
    """One token: state, q, k and v of it, g its log α and beta its β; keys and queries already `grouped`.

    Returns:
        (state, out, recalled, error).
    """
    decayed = g.exp().reshape(len(g), -1, 1) * state
    recalled = torch.einsum("hkv,hk->hv", decayed, k)
    error = v - recalled
    state = decayed + torch.einsum("hk,hv->hkv", k, beta[:, None] * error)
    return state, torch.einsum("hkv,hk->hv", state, q), recalled, error


def scan(
    q: Keys, k: Keys, v: Values, *, g: Decay, beta: Write, state: State | None = None
) -> tuple[Values, Values, Values, State]:
    """The reference: `step` in a loop over tokens of q, k, v, g and beta, from a state or from zeros.

    Returns:
        (out, recalled, error, final state).

    Raises:
        InputError: see `check`.
    """
    check(k, g, beta)
    heads = v.shape[1]
    q, k = grouped(q, heads), grouped(k, heads)
    state = v.new_zeros(heads, k.shape[-1], v.shape[-1]) if state is None else state
    rows = []
    for t in range(len(v)):
        state, *row = step(state, q[t], k[t], v[t], g=g[t], beta=beta[t])
        rows.append(row)
    out, recalled, error = (torch.stack(part) for part in zip(*rows, strict=True))
    return out, recalled, error, state


def implied_row(
    q: Keys, k: Keys, *, g: Decay, beta: Write, token: int
) -> tuple[Float[Tensor, "head source"], Float[Tensor, "head key"]]:
    """The reference for one exact row: o_t = Σ_j A_tj v_j + S_0ᵀ x, walked backwards from token t.

    x ← q̃_t; for j = t … 0:  A_tj = β_j k_jᵀx;  x ← Diag(α_j) (x - β_j k_j k_jᵀx).  O(T·dk) time per head.

    Returns:
        (row, x); sources after `token` are 0.

    Raises:
        InputError: see `check`.
    """
    check(k, g, beta)
    heads = beta.shape[1]
    k = grouped(k, heads)
    x = grouped(q, heads)[token]
    row = k.new_zeros(heads, len(k))
    for j in range(token, -1, -1):
        written = beta[j] * (k[j] * x).sum(-1)
        row[:, j] = written
        x = g[j].exp().reshape(heads, -1) * (x - written[:, None] * k[j])
    return row, x


def check(k: Keys, g: Tensor, beta: Tensor) -> None:
    """Refuse gates whose shapes or values cannot be log α and β: g and β have one shape, a swap would go unnoticed.

    Raises:
        InputError: axes that do not fit, g above 0 or infinite, β outside [0, 2].
    """
    tokens, heads, wide = len(k), beta.shape[-1], k.shape[-1]
    if tuple(beta.shape) != (tokens, heads) or tuple(g.shape) not in ((tokens, heads), (tokens, heads, wide)):
        raise InputError(
            "the axes of the gates do not fit the keys",
            got=f"g {list(g.shape)}, beta {list(beta.shape)}, keys {list(k.shape)}",
            expected=f"beta [token, head] and g [token, head] or [token, head, key], {tokens} tokens, {wide} channels",
        )
    if not tokens:
        raise InputError("the delta rule needs at least one token", got="0 tokens")
    lowest, highest, least, most = torch.stack([*g.detach().aminmax(), *beta.detach().aminmax()]).tolist()
    got = f"g from {lowest:.4g} to {highest:.4g}, beta from {least:.4g} to {most:.4g}"
    expected = "g = log α, finite and at most 0; beta = β from 0 to 2"
    call = "deltanet.delta_rule(q, k, v, g={}, beta={})"
    if highest > 0 and most <= 0 and g.shape == beta.shape:
        raise InputError("g and beta are exchanged", got=got, expected=expected, hint=call.format("beta", "g"))
    if highest > 0:
        hint = call.format("g.clamp(min=1e-30).log()", "beta")
        raise InputError("g is the logarithm of the decay α, never above 0", got=got, expected=expected, hint=hint)
    if lowest == -torch.inf:
        hint = call.format("g.clamp(min=-80)", "beta")
        raise InputError("g is -inf, a decay of exactly 0", got=got, expected=expected, hint=hint)
    if least < 0 or most > 2:
        hint = call.format("g", "beta.sigmoid()")
        raise InputError("a write strength β lies from 0 to 2", got=got, expected=expected, hint=hint)
