"""What earlier tokens left in a state, and what later tokens took away from it.

For frozen keys, gates and write strengths the state is linear in the values:

    S_t = Σ_j p_tj v_jᵀ + Φ_t0 S_0,    p_tj = β_j Φ_tj k_j

Φ_tj k_j is what is left of the stored key k_j (`equation.left_of_keys`). Forward, what is left of one key is the delta
rule itself, started at k_j with all values zero. Gated DeltaNet: arXiv 2412.06464, section 3.
"""

import torch

from labkit.deltanet.equation import TILE, chunks, grouped, left_of_keys
from labkit.deltanet.readings import axis, inputs, proof, tiles
from labkit.errors import InputError
from labkit.notation import label, select


def survival(run, *, layer, token=-1, heads=None):
    """How much of every stored key is left in the state at one token.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer.
        token: relative to the run's first token; negative from the end.
        heads: value heads; None for all.

    Returns:
        Dataset over (head, source), sources up to the token: `survival` ‖Φ_tj k_j‖/‖k_j‖ and `decay_only` Πα, which
        it never exceeds; `write` β_j, since a key that was hardly written survives all the same.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    run.require(layer, "deltanet", "deltanet.survival", "attention.pattern")
    x = inputs(run, layer)
    heads = select(heads, run.spec.heads, "head")
    (t,) = select(_one(token, "survival"), len(x.v), "token")
    k, v, g, beta = (y[: t + 1] for y in (x.k, x.v, x.g, x.beta))
    query = grouped(x.q[t : t + 1], x.v.shape[1])[0]
    share, read = [], torch.zeros_like(x.v[0])
    size = k.norm(dim=-1).repeat_interleave(beta.shape[1] // k.shape[1], 1)
    for first, found in left_of_keys(k, g=g, beta=beta):
        if first is None:
            if x.state is not None:
                read = read + torch.einsum("hk,hkj,hjv->hv", query, found, x.state)
            break
        span = slice(first, first + len(found))
        share.append(found.norm(dim=-1) / size[span])
        read = read + torch.einsum("hk,thk,th,thv->hv", query, found, beta[span], v[span])
    facts = proof(run, layer, "deltanet.survival", read[None], run.seams[layer, "read"][t : t + 1])
    total = g.double().cumsum(0)
    values = {
        "survival": (("head", "source"), torch.cat(share[::-1])[:, heads].T),
        "decay_only": (("head", "source"), (total[-1] - total).exp().to(g)[:, heads].T),
        "write": (("head", "source"), beta[:, heads].T),
    }
    coords = {"head": heads, **axis(run, "source", range(t + 1)), "token": run.positions[t]}
    return label(values, coords=coords, attrs=facts)


def written_by(run, *, layer, segments, token=-1, heads=None):
    """Which parts of a prompt a state consists of: what the tokens of each part wrote and is still there.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        segments: a name for every token of the run up to `token`, for example the kinds of `thinking.spans`.
        token: relative to the run's first token. heads: value heads; None for all.

    Returns:
        Dataset over (head, segment): `share` ⟨S_part, S⟩/‖S‖², which sums to 1 and may be negative, and `part_norm`
        ‖S_part‖/‖S‖, with S_part = Σ_{j in part} p_tj v_jᵀ. What a warm cache brought is the segment "before".

    Raises:
        LayerError, SeamError, ParityError; InputError: not one name per token.
    """
    run.require(layer, "deltanet", "deltanet.written_by", "attention.summary")
    x = inputs(run, layer)
    heads = select(heads, run.spec.heads, "head")
    (t,) = select(_one(token, "written_by"), len(x.v), "token")
    if len(segments) < t + 1:
        raise InputError("one segment per token", got=f"{len(segments)} names", expected=f"{t + 1} tokens")
    names = list(dict.fromkeys(str(name) for name in segments[: t + 1]))
    place = torch.tensor([names.index(str(name)) for name in segments[: t + 1]], device=x.v.device)
    k, v, g, beta = (y[: t + 1] for y in (x.k, x.v, x.g, x.beta))
    parts = x.v.new_zeros(len(names), *(run.spec.heads, run.spec.dk, run.spec.dv))
    for first, found in left_of_keys(k, g=g, beta=beta):
        if first is None:
            if x.state is not None:
                names, parts = [*names, "before"], torch.cat([parts, (found @ x.state)[None]])
            break
        span = slice(first, first + len(found))
        member = torch.nn.functional.one_hot(place[span], len(parts)).to(found)
        parts = parts + torch.einsum("tn,thk,th,thv->nhkv", member, found, beta[span], v[span])
    state = parts.sum(0)
    read = torch.einsum("hk,hkv->hv", grouped(x.q[t : t + 1], x.v.shape[1])[0], state)
    facts = proof(run, layer, "deltanet.written_by", read[None], run.seams[layer, "read"][t : t + 1])
    square = state.square().sum((-1, -2)).clamp(min=1e-30)
    values = {
        "share": (("head", "segment"), ((parts * state).sum((-1, -2)) / square)[:, heads].T),
        "part_norm": (("head", "segment"), (parts.square().sum((-1, -2)) / square).sqrt()[:, heads].T),
    }
    return label(values, coords={"head": heads, "segment": names, "token": run.positions[t]}, attrs=facts)


def forgetting(run, *, layer, source, heads=None):
    """What happens to one stored token: how much of it is left, who erased it, and whether it can still be recalled.

    Args:
        source: the token that was stored, relative to the run's first token.

    Returns:
        Dataset over (head, token) from `source` on: `survival` and `decay_only`; `removed`, the share of the key that
        each token erased (for the source itself 0); `signal`, the norm of its own value in S_tᵀk_j; `recall`, the
        cosine of S_tᵀk_j and v_j. The value of a token is that after the short convolution: it holds up to
        `spec.conv` tokens that end with the source.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    run.require(layer, "deltanet", "deltanet.forgetting", "attention.pattern")
    x = inputs(run, layer)
    heads = select(heads, run.spec.heads, "head")
    (j,) = select(_one(source, "forgetting"), len(x.v), "source")
    count = x.v.shape[1]
    key, value = grouped(x.k[j : j + 1], count)[0], x.v[j]
    state = None
    for _, _, part in tiles(x.upto(j + 1), outputs=False):
        state = part.state
    size = key.norm(dim=-1)
    asked = x.k[j : j + 1].expand(len(x.v) - j - 1, *x.k.shape[1:])
    rows = [{"size": size, "removed": 0 * size, "own": x.beta[j] * size.square(), "said": _read(state, key)}]
    stored = key[..., None]
    for a in range(j + 1, len(x.v), TILE):
        b = min(a + TILE, len(x.v))
        k, g, beta, q = x.k[a:b], x.g[a:b], x.beta[a:b], asked[a - j - 1 : b - j - 1]
        kept = chunks(q, k, x.v.new_zeros(b - a, count, 1), g=g, beta=beta, state=stored)
        whole = chunks(q, k, x.v[a:b], g=g, beta=beta, state=state)
        stored, state = kept.state, whole.state
        flat = lambda y, part=kept, n=b - a: part.flat(y, n)  # noqa: E731
        length = k.norm(dim=-1).repeat_interleave(count // k.shape[1], 1)
        rows.append(
            {
                "size": flat(kept.vectors().norm(dim=-1)),
                "removed": beta * flat(kept.recalled)[..., 0].abs() * length,
                "own": x.beta[j] * flat(kept.out)[..., 0],
                "said": whole.flat(whole.out, b - a),
            }
        )
    final = _read(state, grouped(x.q[-1:], count)[0])
    facts = proof(run, layer, "deltanet.forgetting", final[None], run.seams[layer, "read"][-1:])
    rows = [{name: y if n else y[None] for name, y in row.items()} for n, row in enumerate(rows)]
    joined = {name: torch.cat([row[name] for row in rows])[:, heads] for name in rows[0]}
    total = x.g.double().cumsum(0)[j:]
    values = {
        "survival": joined["size"] / size[heads],
        "decay_only": (total - total[:1]).exp().to(x.g)[:, heads],
        "removed": joined["removed"] / size[heads],
        "signal": joined["own"].abs() * value[heads].norm(dim=-1),
        "recall": torch.cosine_similarity(joined["said"], value[None, heads], dim=-1),
    }
    coords = {"head": heads, **axis(run, "token", range(j, len(run))), "source": run.positions[j]}
    return label({name: (("head", "token"), y.T) for name, y in values.items()}, coords=coords, attrs=facts)


def half_life(run, *, layer, heads=None):
    """After how many tokens half of a stored key is left: by decay alone, and with erasure counted.

    Returns:
        Dataset over head: `decay_only`, ln 2 over the mean of -ln α, and `with_erasure`, the age at which the survival
        of the run's keys at its last token falls below one half (the median of five neighbouring ages; infinite if it
        never does within the run). Both in tokens.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    run.require(layer, "deltanet", "deltanet.half_life", "attention.summary")
    x = inputs(run, layer)
    heads = select(heads, run.spec.heads, "head")
    found = survival(run, layer=layer, heads=heads)
    by_age = torch.from_numpy(found.survival.values).flip(1)  # from the newest source to the oldest
    ages = [_crossing(line) for line in by_age]
    decay = torch.log(torch.tensor(2.0)) / (-x.g.mean(0)[heads]).clamp(min=1e-12)
    facts = {key: found.attrs[key] for key in ("model", "layer", "parity", "tolerance")}
    data = label({"decay_only": (("head",), decay), "with_erasure": (("head",), ages)}, coords={"head": heads})
    for name in ("decay_only", "with_erasure"):
        data[name].attrs = {"symbol": "t½", "units": "tokens", "scale": "positive", "source": "arXiv 2412.06464"}
    data.attrs = facts | {"reading": "deltanet.half_life"}
    return data


def _crossing(line, window=5):
    """First age at which the median of `window` neighbours is below one half; infinite if it never is."""
    if len(line) < window:
        smooth = line
    else:
        smooth = torch.cat([line[:1].expand(window // 2), line]).unfold(0, window, 1).median(-1).values
    below = (smooth < 0.5).nonzero()
    return float(below[0]) if len(below) else float("inf")


def _read(state, query):
    return torch.einsum("hkv,hk->hv", state, query)


def _one(token, reading):
    if not isinstance(token, int):
        raise InputError(f"deltanet.{reading}: one token at a time", got=token, expected="an int")
    return token
