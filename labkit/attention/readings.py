"""Gated attention layers: the exact softmax map of any heads and rows, with the output gate, recomputed from the seams.

    s_tj = ⟨R_t q_t, R_j k_j⟩ / √d      R rotates the first quarter of the channels, the rest carry no position
    P_tj = softmax_j≤t(s_tj)
    y_t  = σ(gate_t) ⊙ Σ_j P_tj v_j     and this, not P·v, reaches the residual stream

Source: `Qwen3_5Attention.forward` (transformers); the output gate follows "Gated Attention for Large Language Models"
(arXiv 2505.06708). Query head h reads key/value head h // (query heads / kv heads). The model's own attention kernel
stays as it is: nothing switches to eager attention, and only the rows and heads that are asked for are formed.
"""

import dataclasses

import torch

from labkit import plan, rotary
from labkit.errors import InputError
from labkit.notation import QUANTITIES, label, select

TILE = 128  # query rows per step: bounds the scratch memory beside the result


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What enters the softmax.

    Attributes:
        q: [token, query_head, value], rotated.
        k, v: [source, kv_head, value], k rotated; sources include those of a warm cache.
        gate: [token, query_head, value], after the sigmoid.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    gate: torch.Tensor


def rotate(x, cos, sin):
    """Rotary position embedding of x [token, head, value] on the first len(cos) channels, pairs (i, i + half)."""
    return rotary.rotate(x, cos[:, None], sin[:, None])


def inputs(run, layer):
    """Rotated queries and keys, values and opened gates of a layer; needs the seams q, k, v and gate."""
    if "dynamic" in run.scaling.kind and run.prompt_length < len(run) and run.scaling.at().factor > 1:
        hint = "lab.trace(run.ids) reads all rows in one pass, under one scaling"
        raise InputError("rows of this run were read under different scalings", got=str(run.scaling), hint=hint)
    cos, sin = (part.to(run.seams[layer, "q"].device) for part in run.rotary)
    q = rotate(run.seams[layer, "q"], cos, sin)
    k, v = rotate(run.seams[layer, "k"], cos, sin), run.seams[layer, "v"]
    if run.start.length:
        known = run.start.keys[layer].transpose(0, 1).to(k)
        if run.start.position_ids is not None:  # keys that a dynamic scaling turns at every pass
            known = rotate(known, *run.start.angles(run.scaling, run.spec, k))
        k = torch.cat([known, k])
        v = torch.cat([run.start.values[layer].transpose(0, 1).to(v), v])
    return Inputs(q, k, v, run.seams[layer, "gate"].sigmoid())


def weights(x, *, rows, heads, first=0, logits=None):
    """Softmax weights of these rows and heads, and what they mix, tile by tile; no source after a tile is touched.

    Args:
        x: `Inputs`.
        rows: tokens of the run; `first` is the number of sources before the run's first token.
        heads: query heads.
        logits: [query_head, row, source], where s is written to; -inf where there is nothing to read.

    Returns:
        (P [query_head, row, source], P v [row, query_head, value]), float32.
    """
    shared = x.q.shape[1] // x.k.shape[1]
    rows = torch.as_tensor(rows, device=x.q.device)
    found = x.q.new_empty(len(heads), len(rows), len(x.k), dtype=torch.float32)
    mixed = x.q.new_empty(len(rows), len(heads), x.q.shape[-1], dtype=torch.float32)
    queries = x.q[rows] * x.q.shape[-1] ** -0.5
    sources = torch.arange(len(x.k), device=x.q.device)
    for a in range(0, len(rows), TILE):
        tile = slice(a, a + TILE)
        last = rows[tile] + first
        free, seen = int(last.min()) + 1, int(last.max()) + 1  # all rows read up to free, none reads from seen on
        hidden = sources[None, free:seen] > last[:, None]
        for kv_head in sorted({head // shared for head in heads}):
            keys, values = (y[:seen, kv_head].float() for y in (x.k, x.v))
            for i in (i for i, head in enumerate(heads) if head // shared == kv_head):
                scores = queries[tile, heads[i]].float() @ keys.T
                scores[:, free:].masked_fill_(hidden, float("-inf"))
                if logits is not None:
                    logits[i, tile, :seen], logits[i, tile, seen:] = scores, float("-inf")
                found[i, tile, :seen] = weight = torch.softmax(scores, -1)
                torch.matmul(weight, values, out=mixed[tile, i])
        found[:, tile, seen:] = 0
    return found, mixed


def admit(want, run, layer, heads, rows, maps=1):
    """Refuse maps [head, row, source] of an attention layer that would not fit into memory."""
    sources, device = run.start.length + len(run), run.seams[layer, "q"].device
    count = 4 * maps * heads * sources
    ways = ("heads=[0]", count // heads * rows), ("rows=range(-64, 0)", count * 64)
    ways += (("attention.summary, which has no map", 4 * heads * min(sources // 64 + 1, 256) ** 2),)
    plan.admit(want, sources, count * rows, device, ways)


def pattern(run, *, layer, heads=None, rows=None, logits=False):
    """The softmax map of a gated attention layer and its output gate.

    Args:
        run: `Run` with the seams q, k, v, gate and gated of this layer.
        layer: an attention layer.
        heads: query heads; None for all.
        rows: reading tokens, relative to the run's first; None for all. Memory heads·rows·T·4 bytes.
        logits: also the logits s before the softmax, which take as much again.

    Returns:
        Dataset: weight (query_head, token, source), rows sum to 1; gate (query_head, token), the mean over the head's
        channels of σ(gate): a head with mass and a closed gate contributes nothing; value_norm (query_head, source),
        ‖v‖ of the kv head it reads; on request logit (query_head, token, source), -inf after the token.

    Raises:
        LayerError, SeamError, ParityError, InputError; BudgetError: a map that would not fit.
    """
    run.require(layer, "attention", "attention.pattern", "deltanet.implied_attention")
    heads = select(heads, run.spec.query_heads, "query_head")
    rows = select(rows, len(run), "token")
    admit("attention.pattern", run, layer, len(heads), len(rows), 2 if logits else 1)
    x = inputs(run, layer)
    asked = x.q.new_empty(len(heads), len(rows), len(x.k), dtype=torch.float32) if logits else None
    found, mixed = weights(x, rows=rows, heads=heads, first=run.start.length, logits=asked)
    gate = x.gate[rows][:, heads].float()
    error, tolerance = run.check_parity(
        layer, "attention.pattern", mixed * gate, run.seams[layer, "gated"][rows][:, heads]
    )
    known = run.start.length
    texts = ["·"] * known + list(run.tokens)
    maps, norms = ("query_head", "token", "source"), x.v.float().norm(dim=-1).T
    values = {"weight": (maps, found), "gate": (("query_head", "token"), gate.mean(-1).T)}
    values["value_norm"] = (
        ("query_head", "source"),
        norms[[h * run.spec.kv_heads // run.spec.query_heads for h in heads]],
    )
    if logits:
        values["logit"] = maps, asked
    data = label(
        values,
        coords={
            "query_head": heads,
            "token": run.positions[rows],
            "token_text": ("token", [run.tokens[t] for t in rows]),
            "source": torch.arange(known + len(run)),
            "source_text": ("source", texts),
        },
        attrs={
            "model": run.model,
            "layer": layer,
            "reading": "attention.pattern",
            "parity": error,
            "tolerance": tolerance,
        },
    )
    data.weight.attrs = dataclasses.asdict(QUANTITIES["pattern"])
    return data
