"""What a Gated DeltaNet layer did, recomputed from the seams of a run and proven against the model's own read.

The seams `qkv`, `a` and `b` give the rule's inputs (`inputs`); the rule gives the reads; the model's own reads cross
the seam `read`. Every reading compares the two and is refused above tolerance.
"""

import dataclasses

import torch
import torch.nn.functional as F

from labkit import plan
from labkit.deltanet.equation import TILE, implied, tiled, unit
from labkit.errors import InputError
from labkit.notation import label, select


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What enters the rule: see `labkit.deltanet.equation` for shapes; `state` is S before the first token."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor
    beta: torch.Tensor
    state: torch.Tensor | None

    def upto(self, count):
        """The first `count` tokens."""
        return Inputs(*(part[:count] for part in (self.q, self.k, self.v, self.g, self.beta)), self.state)


def inputs(run, layer):
    """Queries, keys, values, log decay and write strength of every token, after convolution and normalisation.

    Source: `Qwen3_5GatedDeltaNet.forward`. The convolution and SiLU run in the model's dtype, as there; the rest is
    float32.
    """
    spec = run.spec
    qkv = run.seams[layer, "qkv"]
    taps = run.parameters[layer, "conv1d.weight"].to(qkv.device)
    before = run.start.conv.get(layer)
    history = qkv.new_zeros(spec.conv - 1, qkv.shape[1]) if before is None else before[:, 1 - spec.conv :].T.to(qkv)
    mixed = F.conv1d(torch.cat([history, qkv]).T[None].to(taps.dtype), taps, groups=qkv.shape[1])[0].T
    mixed = F.silu(mixed).to(qkv.dtype)
    width = spec.key_heads * spec.dk
    q, k, v = mixed.split([width, width, spec.value_heads * spec.dv], -1)
    q, k = (unit(x.float().reshape(len(x), spec.key_heads, spec.dk)) for x in (q, k))
    a_log, bias = (run.parameters[layer, name].to(qkv.device) for name in ("A_log", "dt_bias"))
    g = -a_log.float().exp() * F.softplus(run.seams[layer, "a"].float() + bias)
    state = run.start.state.get(layer)
    return Inputs(
        q=q * spec.dk**-0.5,
        k=k,
        v=v.float().reshape(len(v), spec.value_heads, spec.dv),
        g=g.float(),
        beta=run.seams[layer, "b"].sigmoid().float(),
        state=None if state is None else state.to(qkv.device).float(),
    )


def tiles(x, *, outputs=True, tile=TILE):
    """Walk the chunk form over a sequence: yields (first token, tokens, `Chunks`) with bounded memory."""
    return tiled(x.q, x.k, x.v, g=x.g, beta=x.beta, state=x.state, outputs=outputs, tile=tile)


def per_token(x, part, first, tokens, before):
    """The ledger of one tile: `{name: [token, head]}`; `before` is ‖S‖ before the tile, [head].

    ΔS_t = -(1-α)S (decay) - αβ k(kᵀS) (erase) + β k vᵀ (write); each is given by its Frobenius norm.
    """
    span = slice(first, first + tokens)
    flat = lambda y: part.flat(y, tokens)  # noqa: E731
    keep, write = x.g[span].exp(), x.beta[span]
    norm = flat(part.norms())
    recalled, error = flat(part.recalled.norm(dim=-1)), flat(part.error.norm(dim=-1))
    length = x.k[span].norm(dim=-1).repeat_interleave(write.shape[1] // x.k.shape[1], 1)
    size = x.v[span].norm(dim=-1)
    return {
        "keep": keep,
        "write": write,
        "recalled": recalled,
        "error": error,
        "surprise": error / size.clamp(min=1e-30),
        "agreement": flat((part.recalled * part.error).sum(-1)),
        "state_norm": norm,
        "decayed": (1 - keep) * torch.cat([before[None], norm[:-1]]),
        "erased": write * length * recalled,
        "written": write * length * size,
    }


def memory(run, *, layer, tokens=None):
    """What the layer kept, said, got wrong, wrote and read at every token, and its state at some of them.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer.
        tokens: where to give the whole state, relative to the run's first token; None for the last, an int for one,
            several for a leading `step` axis. A state takes key·value·4 bytes per head.

    Returns:
        Dataset over (token, head): keep α, write β, norms of the recalled value, the error, the read (`out`) and the
        state, `surprise` ‖e‖/‖v‖, `agreement` r·e, and the ledger `decayed`, `erased`, `written`; and `state`
        (head, key, value), with coordinate `state_token`.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    run.require(layer, "deltanet", "deltanet.memory", "attention.pattern")
    x = inputs(run, layer)
    at = select(-1 if tokens is None else tokens, len(x.v), "token")
    rows, states, reads = [], {}, []
    before = x.v.new_zeros(x.v.shape[1]) if x.state is None else x.state.flatten(1).norm(dim=1)
    for first, count, part in tiles(x):
        rows.append(per_token(x, part, first, count, before))
        before = rows[-1]["state_norm"][-1]
        reads.append(part.flat(part.out, count))
        states |= {t: part.state_after(t - first) for t in at if first <= t < first + count}
    read = torch.cat(reads)
    facts = proof(run, layer, "deltanet.memory", read, run.seams[layer, "read"])
    values = {name: (("token", "head"), torch.cat([row[name] for row in rows])) for name in rows[0]}
    values["out"] = (("token", "head"), read.norm(dim=-1))
    single = tokens is None or isinstance(tokens, int)
    held = states[at[0]] if single else torch.stack([states[t] for t in at])
    values["state"] = (("head", "key", "value") if single else ("step", "head", "key", "value"), held)
    where = run.positions[at[0]] if single else ("step", run.positions[at])
    coords = {**axis(run, "token"), "head": range(run.spec.value_heads), "state_token": where}
    return label(values, coords=coords, attrs=facts)


def implied_attention(run, *, layer, heads=None, form="value"):
    """The exact attention that a DeltaNet layer implies: o_t = Σ_j A_tj v_j (+ what the start state contributes).

    Rows are signed and do not sum to 1. One map per value head, defined on the whole run, without chunk borders.

    Args:
        heads: value heads; None for all.
        form: "value" (exact), "write" (weights of the net writes u instead of the values v), or "heuristic" (the
            common shortcut that ignores what later tokens erased; not exact, carries its own error in `attrs`).

    Returns:
        Dataset: weight (head, token, source), memory heads·T²·4 bytes; value_norm (head, source), of what is weighted.
        `attrs["relative_error"]` is the error of rebuilding the model's reads from these weights.

    Raises:
        LayerError, SeamError, ParityError, InputError; BudgetError: a map that would not fit.
    """
    return _implied(run, layer, heads, None, form, "deltanet.implied_attention", "attention.pattern")


def implied_row(run, *, layer, token=-1, heads=None, form="value"):
    """One exact row of `implied_attention`, in O(T·dk) per head and without the T x T map: weight (head, source)."""
    if not isinstance(token, int):
        raise InputError("one token at a time", got=token, expected="an int", hint="implied_attention gives all rows")
    ds = _implied(run, layer, heads, token, form, "deltanet.implied_row", "attention.pattern")
    return ds.isel(token=0)


def _implied(run, layer, heads, token, form, reading, instead):
    run.require(layer, "deltanet", reading, instead)
    if form not in ("value", "write", "heuristic"):
        raise InputError("unknown form", got=form, expected="'value', 'write' or 'heuristic'")
    x = inputs(run, layer)
    heads = select(heads, run.spec.value_heads, "head")
    rows = select(token, len(x.v), "token")
    count = 4 * len(heads) * len(rows) * len(x.v)
    row = 4 * len(heads) * len(x.v)
    ways = ("heads=[0]", count // len(heads)), ("deltanet.implied_row, a row at a time", row)
    plan.admit(reading, len(x.v), count, x.v.device, ways)
    weights, left = implied(x.q, x.k, g=x.g, beta=x.beta, rows=rows, heads=heads, form=form)
    acted = x.v[:, heads]
    if form == "write":
        acted = torch.cat([part.flat(part.write, n)[:, heads] for _, n, part in tiles(x, outputs=False)])
    rebuilt = torch.einsum("hts,shv->thv", weights, acted)
    if x.state is not None:
        rebuilt = rebuilt + torch.einsum("htk,hkv->thv", left, x.state[heads])
    seam = run.seams[layer, "read"][rows][:, heads]
    if form == "heuristic":
        error = float((rebuilt - seam.float()).norm() / seam.float().norm())
        facts = {"model": run.model, "layer": layer, "reading": reading, "relative_error": error}
    else:
        facts = proof(run, layer, reading, rebuilt, seam)
        facts["relative_error"] = float((rebuilt - seam.float()).norm() / seam.float().norm())
    coords = {**axis(run, "token", rows), **axis(run, "source"), "head": heads}
    values = {"weight": (("head", "token", "source"), weights)}
    values["value_norm"] = ("head", "source"), acted.norm(dim=-1).T
    return label(values, coords=coords, attrs=facts | {"form": form})


def proof(run, layer, reading, recomputed, seam):
    """Attributes every reading carries: where it comes from and how well it agrees with the model."""
    error, tolerance = run.check_parity(layer, reading, recomputed.to(seam.device), seam)
    return {"model": run.model, "layer": layer, "reading": reading, "parity": error, "tolerance": tolerance}


def axis(run, name, rows=None):
    """Positions and readable texts along `token` or `source`."""
    rows = range(len(run)) if rows is None else rows
    return {name: run.positions[list(rows)], f"{name}_text": (name, [run.tokens[t] for t in rows])}
