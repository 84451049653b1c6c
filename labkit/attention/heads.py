"""What query heads add and what they share: contributions after the output projection, likeness of heads.

A query head hands W_O (σ(gate_t) ⊙ Σ_j p_tj v_j) to the residual stream, so a source adds p_tj W_O (σ(gate_t) ⊙ v_j),
and its norm, not the weight, is what counts (arXiv 2004.10102; output gate: arXiv 2505.06708).
"""

import dataclasses

import torch

from labkit.attention.readings import admit, inputs, weights
from labkit.errors import InputError
from labkit.notation import QUANTITIES, label, select
from labkit.trace import decoder


@torch.no_grad()
def contribution(run, lab, *, layer, heads=None, rows=None):
    """How much each source adds to the residual stream through each head: norms after gate and output projection.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        lab: the lab it came from, for the output projection.
        layer: an attention layer.
        heads: query heads; None for all.
        rows: reading tokens, relative to the run's first; None for all.

    Returns:
        Dataset: `weight` p and `contribution_norm` ‖p W_O (σ(gate) ⊙ v)‖, both (query_head, token, source).

    Raises:
        LayerError, SeamError, ParityError; InputError: a lab of another model; BudgetError: maps that would not fit.
    """
    run.require(layer, "attention", "attention.contribution", "deltanet.implied_attention")
    if lab.spec != run.spec:
        raise InputError("the run came from another model", got=run.model, expected=lab.name)
    heads = select(heads, run.spec.query_heads, "query_head")
    rows = select(rows, len(run), "token")
    admit("attention.contribution", run, layer, len(heads), len(rows), 2)
    x = inputs(run, layer)
    found, mixed = weights(x, rows=rows, heads=heads, first=run.start.length)
    gate = x.gate[rows][:, heads].float()
    error, tolerance = run.check_parity(
        layer, "attention.contribution", mixed * gate, run.seams[layer, "gated"][rows][:, heads]
    )
    shared, wide = run.spec.query_heads // run.spec.kv_heads, run.spec.head_dim
    out = decoder(lab.model).layers[layer].self_attn.o_proj
    norms = torch.empty_like(found)
    for i, head in enumerate(heads):
        basis = torch.zeros(wide, run.spec.query_heads * wide, dtype=lab.dtype, device=lab.device)
        basis[:, head * wide : (head + 1) * wide] = torch.eye(wide, dtype=lab.dtype, device=lab.device)
        columns = out.forward(basis).float().to(x.v.device)  # [value, channel]; of packed weights too, no hook
        gram = columns @ columns.T
        values = x.v[:, head // shared].float()
        for t in range(len(rows)):
            opened = values * gate[t, i]
            norms[i, t] = ((opened @ gram) * opened).sum(-1).clamp(min=0).sqrt() * found[i, t]
    known = run.start.length
    coords = {"query_head": heads, "token": run.positions[rows], "token_text": ("token", [run.tokens[t] for t in rows])}
    coords |= {"source": range(known + len(run)), "source_text": ("source", ["·"] * known + list(run.tokens))}
    facts = {"model": run.model, "layer": layer, "reading": "attention.contribution"}
    dims = ("query_head", "token", "source")
    data = label({"weight": (dims, found), "contribution_norm": (dims, norms)}, coords=coords, attrs=facts)
    data.weight.attrs = dataclasses.asdict(QUANTITIES["pattern"])
    return data.assign_attrs(parity=error, tolerance=tolerance)


def similarity(run, *, layer, rows=64):
    """How alike the query heads of a layer attend: overlap Σ_j min(p_j, p'_j), mean over rows; 1 is the same map.

    Args:
        rows: so many, evenly spaced, or a list; None for all.

    Returns:
        Dataset: `similarity` (query_head, other_head), with the kv head of each as coordinate `kv_head`.
    """
    from labkit.attention.summaries import chosen

    run.require(layer, "attention", "attention.similarity", "deltanet.state_difference")
    at, said = chosen(rows, len(run))
    x = inputs(run, layer)
    count = run.spec.query_heads
    total = torch.zeros(count, count)
    for t in at:
        found, mixed = weights(x, rows=[t], heads=range(count), first=run.start.length)
        run.check_parity(layer, "attention.similarity", mixed * x.gate[[t]].float(), run.seams[layer, "gated"][[t]])
        p = found[:, 0].cpu()
        for head in range(count):
            total[head] += torch.minimum(p, p[head]).sum(-1)
    heads, shared = range(count), count // run.spec.kv_heads
    coords = {"query_head": heads, "other_head": heads, "kv_head": ("query_head", [head // shared for head in heads])}
    facts = {"model": run.model, "layer": layer, "reading": "attention.similarity", "rows": said}
    facts["parity"] = run.parity[layer, "attention.similarity"]
    return label({"similarity": (("query_head", "other_head"), total / len(at))}, coords=coords, attrs=facts)
