"""The softmax map of an attention layer, and what its entries add after the output projection.

A query head hands W_O (σ(gate_t) ⊙ Σ_j p_tj v_j) to the residual stream, so a source adds p_tj W_O (σ(gate_t) ⊙ v_j),
and its norm, not the weight, is what counts (arXiv 2004.10102; output gate: arXiv 2505.06708). Where the branch y_t
passes a norm before it is added, w ⊙ y_t / rms(y_t), so does every part of it, by the same w and the same rms(y_t): the
parts still sum to what is added.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.attention.softmax import SEAMS, Softmax, map_cost
from labkit.errors import InputError, ParityError
from labkit.lab import Lab
from labkit.notation import label, select
from labkit.plan import Cost
from labkit.reading import Request, axis, reading
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

MAP = ("query_head", "token", "source")


def _pattern_cost(request: Request) -> Cost:
    return map_cost(request, 2 if request.options.get("logits") else 1)


def _contribution_cost(request: Request) -> Cost:
    return map_cost(request, 2)


@reading(
    "attention",
    seams=SEAMS,
    instead="deltanet.implied_attention(run, layer={layer})",
    cost=_pattern_cost,
    cheaper=("attention.summary",),
)
def pattern(
    run: Run,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | int | None = None,
    logits: bool = False,
) -> "xarray.Dataset":
    """The softmax map of an attention layer and its output gate.

    Args:
        run: `Run` with the seams q, k, v, gated and, if heads have one, gate of this layer.
        layer: attention layers. heads: query heads; None for all.
        rows: reading tokens, relative to the run's first; None for all. Memory heads·rows·T·4 bytes.
        logits: also the logits s before the softmax, which take as much again.

    Returns:
        Dataset: weight (query_head, token, source), rows sum to 1; gate (query_head, token), if heads have one, the
        mean over the head's channels of σ(gate): a head with mass and a closed gate contributes nothing; value_norm
        (query_head, source), ‖v‖ of the kv head it reads; on request logit (query_head, token, source), -inf after the
        token.

    Raises:
        LayerError, SeamError, ParityError, InputError; BudgetError: a map that would not fit.
    """
    heads, rows = select(heads, run.spec.query_heads, "query_head"), select(rows, len(run), "token")
    softmax = Softmax(run, layer, heads=heads, rows=rows)
    maps = softmax.maps(logits=logits)
    x, kv_heads = softmax.x, [run.spec.kv_head(head) for head in heads]
    variables = {
        "weight": (MAP, maps[0] if logits else maps, "pattern"),
        "value_norm": (("query_head", "source"), x.v.float().norm(dim=-1).T[kv_heads], "value_norm"),
    }
    if x.gate is not None:
        variables["gate"] = (MAP[:2], x.gate[rows][:, heads].float().mean(-1).T, "gate")
    if logits:
        variables["logit"] = (MAP, maps[1], "logit")
    return label(variables, coords=_axes(run, heads, rows), attrs=softmax.proof("attention.pattern"))


@reading(
    "attention",
    seams=SEAMS,
    instead="deltanet.implied_attention(run, layer={layer})",
    cost=_contribution_cost,
    cheaper=("attention.summary",),
)
def contribution(
    run: Run,
    lab: Lab,
    *,
    layer: int,
    heads: Sequence[int] | int | None = None,
    rows: Sequence[int] | int | None = None,
) -> "xarray.Dataset":
    """How much each source adds to the residual stream through each head: norms after gate, output projection and, if
    the branch passes one, its norm.

    Args:
        run: `Run` with the seams q, k, v, gated and, if heads have one, gate of this layer.
        lab: the lab it came from, for the output projection and the norm. Its weights are compared with those that the
            run was made with, and where the run kept the seam `mixer_out`, that is compared with what they make of the
            opened heads.
        layer: attention layers. heads: query heads; None for all.
        rows: reading tokens, relative to the run's first; None for all.

    Returns:
        Dataset: `weight` p and `contribution_norm` ‖p W_O (σ(gate) ⊙ v)‖, both (query_head, token, source); with a
        norm of the branch y ‖p w ⊙ W_O v‖ / rms(y).

    Raises:
        LayerError, SeamError; ParityError, also for a lab of other weights; InputError: a lab of another shape;
        BudgetError: maps that would not fit.
    """
    if differing := run.spec.differing(lab.spec):
        got, expected = f"{run.model}, other {', '.join(differing)}", lab.name
        raise InputError("the run came from another model", got=got, expected=expected)
    lab.identity().check(run.identity, "this run was made")
    spec = run.spec
    heads, rows = select(heads, spec.query_heads, "query_head"), select(rows, len(run), "token")
    projected, (scale, rms) = _projected(run, lab, layer, rows), _normed(run, lab, layer, rows)
    softmax = Softmax(run, layer, heads=heads, rows=rows)
    weight, x = softmax.maps(), softmax.x
    norms = torch.zeros_like(weight)
    for i, head in enumerate(heads):
        basis = torch.zeros(spec.head_dim, spec.query_heads, spec.head_dim, dtype=lab.dtype, device=lab.device)
        basis[:, head] = torch.eye(spec.head_dim, dtype=lab.dtype, device=lab.device)
        # `forward` alone: packed weights are unpacked, and no hook of an edit changes them.
        columns = lab.projection(layer).forward(basis.flatten(1)).float().to(x.v.device) * scale
        gram, v = columns @ columns.T, x.v[:, spec.kv_head(head)].float()
        for n, row in enumerate(rows):
            seen = run.start.length + row + 1
            opened = v[:seen] if x.gate is None else v[:seen] * x.gate[row, head].float()
            size = ((opened @ gram) * opened).sum(-1).clamp(min=0).sqrt() / rms[n]
            norms[i, n, :seen] = size * weight[i, n, :seen]
    variables = {"weight": (MAP, weight, "pattern"), "contribution_norm": (MAP, norms, "contribution_norm")}
    worst = max(projected, softmax.proof("attention.contribution"), key=lambda facts: facts.get("parity", 0.0))
    run.parity[layer, "attention.contribution"] = worst["parity"]
    return label(variables, coords=_axes(run, heads, rows), attrs=worst)


def _projected(run, lab, layer, rows):
    """Parity of W_O over all opened heads with the seam `mixer_out` of these rows; {} where the run has none.

    Raises:
        ParityError: the lab's projection is not the one that the run went through.
    """
    if (layer, "mixer_out") not in set(run.seams):
        return {}
    opened = run.seams[layer, "gated"][rows].flatten(1).to(lab.device, lab.dtype)
    try:
        made, norm = lab.projection(layer).forward(opened), lab.branch_norm(layer)
        made = made if norm is None else norm.forward(made)
        return run.check_parity(layer, "attention.contribution", made, run.seams[layer, "mixer_out"][rows])
    except ParityError as error:
        hint = "attention.contribution(lab.trace(run.ids), lab, layer={layer})"
        what = f"attention.contribution: the output projection of layer {layer} in this lab is not that of the run"
        raise ParityError(what, got=error.got, expected=error.expected, hint=hint.format(layer=layer)) from error


def _normed(run, lab, layer, rows):
    """(w [hidden], rms [row]) of the norm that the branch passes; ones without."""
    opened, norm = run.seams[layer, "gated"][rows].flatten(1), lab.branch_norm(layer)
    if norm is None:
        return 1.0, opened.new_ones(len(rows), dtype=torch.float32)
    branch = lab.projection(layer).forward(opened.to(lab.device, lab.dtype)).float()
    rms = (branch.square().mean(-1) + norm.variance_epsilon).sqrt()
    return norm.weight.detach().float().to(opened.device), rms.to(opened.device)


def _axes(run, heads, rows):
    return {"query_head": heads, **axis(run, "token", rows), **axis(run, "source", cached=True)}
