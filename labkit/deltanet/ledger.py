"""The ledger of a state: what every token took by decay, took by erasing, and wrote; and the surprise that drove it.

    S_t - S_{t-1} = -(1-α_t) S_{t-1}  -  α_t β_t k_t (k_tᵀ S_{t-1})  +  β_t k_t v_tᵀ
                     decay               erase                          write

    ‖S_t‖² = α_t² ‖S_{t-1}‖² + 2 β_t r_t·e_t + β_t² ‖k_t‖² ‖e_t‖²

with r_t = α_t S_{t-1}ᵀ k_t what the memory says and e_t = v_t - r_t the error. Per token and head some scalars; no
state but those at chunk borders is formed. Gated DeltaNet: arXiv 2412.06464, eq. 10.
"""

import torch

from labkit.deltanet.readings import axis, inputs, per_token, proof, tiles
from labkit.notation import label, select


def ledger(run, *, layer, heads=None):
    """Decay, erasing, writing, surprise and energy of every token.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer.
        heads: value heads; None for all.

    Returns:
        Dataset over (token, head): `keep` α, `write` β; norms `decayed`, `erased`, `written` of the three terms, and of
        `recalled` r, `error` e; `agreement` r·e; `surprise` ‖e‖/‖v‖; `state_norm`; `energy`, the change of its square.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    run.require(layer, "deltanet", "deltanet.ledger", "attention.summary")
    x = inputs(run, layer)
    heads = select(heads, run.spec.value_heads, "head")
    before = x.v.new_zeros(x.v.shape[1]) if x.state is None else x.state.flatten(1).norm(dim=1)
    rows, reads, start = [], [], before
    for first, count, part in tiles(x):
        rows.append(per_token(x, part, first, count, before))
        before = rows[-1]["state_norm"][-1]
        reads.append(part.flat(part.out, count))
    facts = proof(run, layer, "deltanet.ledger", torch.cat(reads), run.seams[layer, "read"])
    found = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    found["energy"] = found["state_norm"].square().diff(dim=0, prepend=start[None].square())
    values = {name: (("token", "head"), value[:, heads]) for name, value in found.items()}
    return label(values, coords={**axis(run, "token"), "head": heads}, attrs=facts)
