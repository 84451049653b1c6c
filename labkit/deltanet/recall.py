"""The recall card of a stored token: what the memory says when it is asked for that token's key, and who spoils it.

    S_tᵀ k_j = Σ_i c_ji v_i + S_0ᵀ Φ_t0ᵀ k_j,    c_ji = k_jᵀ p_ti

c_jj v_j is the signal; every other term is crosstalk, and the largest of them name the tokens that corrupted it. The
coefficients are a row of the implied attention whose query is the stored key (`equation.implied`), so a card costs
O(T·dk) per head. Gated DeltaNet: arXiv 2412.06464, section 3.
"""

import torch

from labkit.deltanet.equation import grouped, implied
from labkit.deltanet.readings import axis, inputs, proof, tiles
from labkit.notation import label, select


def recall(run, *, layer, source, token=-1, heads=None):
    """Ask the state at one token for the key that an earlier token stored.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer.
        source: the stored token; an int, or several for a leading `step` axis.
        token: when it is asked; relative to the run's first token, like `source`.
        heads: value heads; None for all.

    Returns:
        Dataset: `contribution` c_ji (head, source); over head `signal` ‖c_jj v_j‖, `crosstalk` Σ_{i≠j} |c_ji| ‖v_i‖ and
        `recall`, the cosine of what is said and the stored value. `attrs["rebuilt"]` is the relative error of Σ c v
        against S_tᵀk_j read from the state.

    Raises:
        LayerError, SeamError, ParityError; InputError: a source after the token.
    """
    run.require(layer, "deltanet", "deltanet.recall", "attention.pattern")
    x = inputs(run, layer)
    heads = select(heads, run.spec.value_heads, "head")
    (t,) = select(token, len(x.v), "token")
    sources = select(source, t + 1, "source")
    count = x.v.shape[1]
    state, before = None, x.upto(t + 1)
    for _, _, part in tiles(before, outputs=False):
        state = part.state
    own = torch.einsum("hkv,hk->hv", state, grouped(x.q[t : t + 1], count)[0])
    facts = proof(run, layer, "deltanet.recall", own[None], run.seams[layer, "read"][t : t + 1])
    weights, rest = implied(
        before.q, before.k, g=before.g, beta=before.beta, rows=[t] * len(sources), queries=x.k[sources]
    )
    values = before.v
    said = torch.einsum("hjt,thv->jhv", weights, values)
    if x.state is not None:
        said = said + torch.einsum("hjk,hkv->jhv", rest, x.state)
    truth = torch.einsum("hkv,jhk->jhv", state, grouped(x.k[sources], count))
    sizes = weights.abs() * values.norm(dim=-1).T[:, None]
    place = torch.tensor(sources, device=sizes.device)
    signal = sizes[:, torch.arange(len(sources)), place]
    found = {
        "contribution": (("step", "head", "source"), weights.transpose(0, 1)[:, heads]),
        "signal": (("step", "head"), signal.T[:, heads]),
        "crosstalk": (("step", "head"), (sizes.sum(-1) - signal).T[:, heads]),
        "recall": (("step", "head"), torch.cosine_similarity(truth, values[sources], dim=-1)[:, heads]),
    }
    facts["rebuilt"] = float((said - truth).norm() / truth.norm().clamp(min=1e-30))
    coords = {**axis(run, "source", range(t + 1)), "head": heads, "token": run.positions[t]}
    coords |= {"stored": ("step", run.positions[sources]), "stored_text": ("step", [run.tokens[j] for j in sources])}
    data = label(found, coords=coords, attrs=facts)
    return data.isel(step=0) if isinstance(source, int) else data
