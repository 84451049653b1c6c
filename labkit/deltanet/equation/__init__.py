"""The gated delta rule. One head keeps a matrix S [key, value]; per token, with unit key k, value v, decay α = exp(g)
per head or per key channel, and write strength β:

    S ← Diag(α) S      decay
    r = Sᵀk            what the memory says for this key
    e = v - r          error
    S ← S + k (βe)ᵀ    erase what was said, write what should be said
    o = Sᵀ q̃           read, q̃ = q / √dk

so that S_t = Γ_t S_{t-1} + β_t k_t v_tᵀ with the transition Γ_t = (I - β_t k_t k_tᵀ) Diag(α_t): decay comes first, then
erasing; the two commute only if all channels decay alike. Along k erasing has the eigenvalue 1 - β: β = 1 erases,
β = 2 reflects.

    q, k [token, key_head, key]   unit length, q already divided by √dk; value head h reads key head
                                  h // (heads / key_heads)
    v    [token, head, value]     β [token, head], in [0, 2]
    g    [token, head] or [token, head, key], log α ≤ 0        S [head, key, value]

Everything is plain tensors of one sequence, float32 unless the inputs are float64. In this folder:

    reference   step, scan and implied_row: readable, never made fast; every other form is tested against them
    chunked     the chunk form, and the walk over tiles of it
    backward    exact rows of the implied attention, and what is left of stored keys
    rule        delta_rule: the one door to all forms that read

Decay per head: Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (arXiv 2412.06464), eq. 10, there with states
transposed. Decay per channel: Kimi Team, "Kimi Linear" (arXiv 2510.26692), eq. 1. β up to 2: Grazzi et al. (arXiv
2411.12537).
"""

from labkit.deltanet.equation.backward import implied, left_of_keys
from labkit.deltanet.equation.chunked import CHUNK, TILE, Chunks, chunks, tiled
from labkit.deltanet.equation.reference import grouped, implied_row, scan, step, unit
from labkit.deltanet.equation.rule import delta_rule

__all__ = [
    "CHUNK",
    "TILE",
    "Chunks",
    "chunks",
    "delta_rule",
    "grouped",
    "implied",
    "implied_row",
    "left_of_keys",
    "scan",
    "step",
    "tiled",
    "unit",
]
