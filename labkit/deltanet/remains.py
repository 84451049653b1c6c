"""What earlier tokens left in a state, and what later tokens took away from it.

For frozen keys, gates and write strengths the state is linear in the values:

    S_t = Σ_j p_tj v_jᵀ + Φ_t0 S_0,    p_tj = β_j Φ_tj k_j

With decay per channel α_t is a vector, and all of this holds as it stands. Φ_tj k_j is what is left of the stored key
k_j (`equation.left_of_keys`). Forward, what is left of one key is the delta rule itself, started at k_j with all values
zero. Gated DeltaNet: arXiv 2412.06464, section 3.
"""

from collections.abc import Callable, Sequence

import torch

from labkit.deltanet import costs
from labkit.deltanet.equation import delta_rule, grouped, left_of_keys, tiled
from labkit.deltanet.recompute import SEAMS, Inputs, decay_and_write, inputs, one_token, quantity
from labkit.errors import InputError
from labkit.notation import label, select
from labkit.reading import axis, reading
from labkit.trace import Run

TILE = 512  # tokens at once


def walk_back(run: Run, layer: int, name: str, x: Inputs, see: Callable) -> tuple[torch.Tensor | None, dict]:
    """Show what the last token of `x` finds left of every stored key, tile by tile, and prove it by the model's read.

    Args:
        name: of the reading. x: the rule's inputs of the run's first tokens.
        see: called with (slice of tokens, Φ_tj k_j [token, head, key]), last tile first.

    Returns:
        (what is left of the start state [head, key, value], or None for a cold run; parity).
    """
    query, start = grouped(x.q[-1:], x.v.shape[1])[0], None
    read = torch.zeros_like(x.v[0])
    for first, left in left_of_keys(x.k, g=x.g, beta=x.beta):
        if first is not None:
            span = slice(first, first + len(left))
            see(span, left)
            read = read + torch.einsum("hk,thk,th,thv->hv", query, left, x.beta[span], x.v[span])
        elif x.state is not None:
            start = left @ x.state
            read = read + torch.einsum("hk,hkv->hv", query, start)
    return start, run.check_parity(layer, name, read[None], run.seams[layer, "read"][len(x.v) - 1][None])


@reading("deltanet", seams=SEAMS, instead="attention.pattern(run, layer={layer})", cost=costs.survival)
def survival(
    run: Run, *, layer: int | Sequence[int], token: int = -1, heads: int | Sequence[int] | None = None
) -> "xarray.Dataset":  # noqa: F821
    """How much of every stored key is left in the state at one token.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer, or several.
        token: relative to the run's first token; negative from the end.
        heads: value heads; None for all.

    Returns:
        Dataset over (head, source), sources up to the token: `survival` ‖Φ_tj k_j‖/‖k_j‖; `decay_only` Πα, which it
        never exceeds, or ‖Πα ⊙ k_j‖/‖k_j‖ where channels decay each by itself; `returned` k_jᵀΦ_tj k_j/‖k_j‖², at most
        the survival: what the key itself still calls up of its value, below 0 where the memory answers with the
        opposite sign, as after a write with β above 1 along it (arXiv 2411.12537); `write` β_j, since a key that was
        hardly written survives all the same.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    return _survival(run, layer, token, heads, "deltanet.survival")


def _survival(run, layer, token, heads, name):
    heads = select(heads, run.spec.value_heads, "head")
    t = one_token(run, token, f"{name}(run, layer={layer})")
    x, tiles = inputs(run, layer).upto(t + 1), []
    key = grouped(x.k, x.v.shape[1])
    see = lambda span, left: tiles.append((left.norm(dim=-1), (left * key[span]).sum(-1)))  # noqa: E731
    _, parity = walk_back(run, layer, name, x, see)
    left, own = (torch.cat(parts[::-1]) for parts in zip(*tiles, strict=True))
    size = key.norm(dim=-1)
    share, returned = left / size, own / size.square()
    total = x.g.double().cumsum(0)
    values = {
        "survival": (("head", "source"), share[:, heads].T, "survival"),
        "returned": (("head", "source"), returned[:, heads].T, "returned"),
        "decay_only": (("head", "source"), _faded(total[-1] - total, key)[:, heads].T, "decay_only"),
        "write": (("head", "source"), x.beta[:, heads].T, quantity(run.spec, "write")),
    }
    coords = {"head": heads, **axis(run, "source", range(t + 1)), "token": run.positions[t]}
    return label(values, coords=coords, attrs=parity)


@reading("deltanet", seams=SEAMS, instead="attention.summary(run, layer={layer})", cost=costs.written_by)
def written_by(
    run: Run,
    *,
    layer: int | Sequence[int],
    segments: Sequence,
    token: int = -1,
    heads: int | Sequence[int] | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """Which parts of a prompt a state consists of: what the tokens of each part wrote and is still there.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer, or several.
        segments: a name for every token of the run up to `token`, for example the kinds of `thinking.spans`.
        token: relative to the run's first token, negative from its end. heads: value heads; None for all.

    Returns:
        Dataset over (head, segment): `share` ⟨S_part, S⟩/‖S‖², which sums to 1 and may be negative, and `part_norm`
        ‖S_part‖/‖S‖, with S_part = Σ_{j in part} p_tj v_jᵀ. What a warm cache brought is the segment "before".

    Raises:
        LayerError, SeamError, ParityError; InputError: not one name per token.
    """
    heads = select(heads, run.spec.value_heads, "head")
    t = one_token(run, token, f'deltanet.written_by(run, layer={layer}, segments=["all"] * len(run))')
    if len(segments) < t + 1:
        raise InputError("one segment per token", got=f"{len(segments)} names", expected=f"{t + 1} tokens")
    names = list(dict.fromkeys(str(name) for name in segments[: t + 1]))
    x = inputs(run, layer).upto(t + 1)
    kept = x.v.new_empty(len(x.v), x.v.shape[1], x.k.shape[-1])  # one state per segment would grow with their number

    def see(span, left):
        kept[span] = left

    start, parity = walk_back(run, layer, "deltanet.written_by", x, see)
    number = {name: n for n, name in enumerate(names)}
    place = torch.tensor([number[str(name)] for name in segments[: t + 1]], device=x.v.device)
    whole = _written(x, kept, torch.arange(t + 1, device=x.v.device))
    whole = whole if start is None else whole + start
    square, columns = whole.square().sum((-1, -2)).clamp(min=1e-30), []
    for n in range(len(names) + (start is not None)):
        part = start if n == len(names) else _written(x, kept, (place == n).nonzero()[:, 0])
        columns.append(((part * whole).sum((-1, -2)) / square, (part.square().sum((-1, -2)) / square).sqrt()))
    names = names if start is None else [*names, "before"]
    share, norm = (torch.stack(column) for column in zip(*columns, strict=True))
    values = {
        "share": (("head", "segment"), share[:, heads].T, "share"),
        "part_norm": (("head", "segment"), norm[:, heads].T, "part_norm"),
    }
    return label(values, coords={"head": heads, "segment": names, "token": run.positions[t]}, attrs=parity)


@reading("deltanet", seams=SEAMS, instead="attention.pattern(run, layer={layer})", cost=costs.forgetting)
def forgetting(
    run: Run, *, layer: int | Sequence[int], source: int, heads: int | Sequence[int] | None = None
) -> "xarray.Dataset":  # noqa: F821
    """What happens to one stored token: how much of it is left, who erased it, and whether it can still be recalled.

    Args:
        layer: a DeltaNet layer, or several.
        source: the token that was stored, relative to the run's first token, negative from its end.
        heads: value heads; None for all.

    Returns:
        Dataset over (head, token) from `source` on: `survival`, `returned` and `decay_only`, as in `survival`;
        `removed`, the share of the key that each token erased (for the source itself 0; up to 2 where β is); `signal`,
        the norm of its own value in S_tᵀk_j; `recall`, the cosine of S_tᵀk_j and v_j. The value of a token is that
        after the short convolution: it holds up to `spec.conv` tokens that end with the source. Parity is that of the
        model's last read.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    heads = select(heads, run.spec.value_heads, "head")
    j = one_token(run, source, f"deltanet.forgetting(run, layer={layer}, source=0)", "source")
    x = inputs(run, layer)
    count, later = x.v.shape[1], slice(j + 1, None)
    key, value, strength = grouped(x.k[j : j + 1], count)[0], x.v[j], x.beta[j]
    size = key.norm(dim=-1)
    _, state = delta_rule(**vars(x.upto(j + 1)), outputs=False)
    columns = {"left": [size[None]], "removed": [0 * size[None]], "own": [strength * size[None].square()]}
    columns["said"] = [_read(state, key)[None]]
    rule = dict(k=x.k[later], g=x.g[later], beta=x.beta[later], q=x.k[j : j + 1].expand_as(x.k[later]))
    of_key = tiled(v=x.v.new_zeros(len(x.v) - j - 1, count, 1), state=key[..., None], **rule)
    of_state = tiled(v=x.v[later], state=state, **rule)
    for (first, n, alone), (_, _, whole) in zip(of_key, of_state, strict=True):
        span = slice(j + 1 + first, j + 1 + first + n)
        length = grouped(x.k[span].norm(dim=-1), count)
        columns["left"].append(alone.flat(alone.vectors().norm(dim=-1), n))
        columns["removed"].append(x.beta[span] * alone.flat(alone.recalled, n)[..., 0].abs() * length)
        columns["own"].append(strength * alone.flat(alone.out, n)[..., 0])
        columns["said"].append(whole.flat(whole.out, n))
        state = whole.state
    last = _read(state, grouped(x.q[-1:], count)[0])
    parity = run.check_parity(layer, "deltanet.forgetting", last[None], run.seams[layer, "read"][-1:])
    left, removed, own, said = (torch.cat(columns[name])[:, heads] for name in ("left", "removed", "own", "said"))
    total = x.g.double().cumsum(0)[j:]
    values = {
        "survival": left / size[heads],
        "returned": own / (strength * size.square())[heads],
        "decay_only": _faded(total - total[:1], key)[:, heads],
        "removed": removed / size[heads],
        "signal": own.abs() * value[heads].norm(dim=-1),
        "recall": torch.cosine_similarity(said, value[None, heads], dim=-1),
    }
    variables = {name: (("head", "token"), column.T, name) for name, column in values.items()}
    variables["removed"] = (*variables["removed"][:2], quantity(run.spec, "removed"))
    coords = {"head": heads, **axis(run, "token", range(j, len(run))), "source": run.positions[j]}
    return label(variables, coords=coords, attrs=parity)


@reading("deltanet", seams=SEAMS, instead="attention.summary(run, layer={layer})", cost=costs.half_life)
def half_life(run: Run, *, layer: int | Sequence[int], heads: int | Sequence[int] | None = None) -> "xarray.Dataset":  # noqa: F821
    """After how many tokens half of a stored key is left: by decay alone, and with erasure counted.

    Args:
        layer: a DeltaNet layer, or several. heads: value heads; None for all.

    Returns:
        Dataset over (head): `decay_only`, ln 2 over the mean of -ln α, or, where channels decay each by itself, which
        makes a mixture of exponentials without a half-life of its own, the age as for `with_erasure`; `with_erasure`,
        the age at which the survival of the run's keys at its last token falls below one half (the median of five
        neighbouring ages; infinite if it never does within the run). Both in tokens.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    data = _survival(run, layer, -1, heads, "deltanet.half_life")
    by_age = torch.tensor(data.survival.values).flip(1)  # from the newest source to the oldest
    g = decay_and_write(run, layer)[0][:, data["head"].values.tolist()]
    alone = torch.log(torch.tensor(2.0)) / -g.mean(0).clamp(max=-1e-12)
    if g.ndim == 3:
        alone = [_crossing(line) for line in torch.tensor(data.decay_only.values).flip(1)]
    values = {
        "decay_only": (("head",), alone, "age"),
        "with_erasure": (("head",), [_crossing(line) for line in by_age], "age"),
    }
    return label(values, coords={"head": data["head"].values}, attrs=data.attrs)


def _faded(log, key):
    """The share of keys [token, head, key] that decay alone left, from log Πα [token, head] or with an axis of keys."""
    left = log.exp().to(key)
    return left if left.ndim == 2 else (left * key).norm(dim=-1) / key.norm(dim=-1)


def _crossing(line, window=5):
    """First age at which the median of `window` neighbours is below one half; infinite if it never is."""
    if len(line) < window:
        smooth = line
    else:
        smooth = torch.cat([line[:1].expand(window // 2), line]).unfold(0, window, 1).median(-1).values
    below = (smooth < 0.5).nonzero()
    return float(below[0]) if len(below) else float("inf")


def _written(x, kept, tokens):
    """Σ β_j Φ_tj k_j v_jᵀ [head, key, value] over some tokens, of which `kept` is what is left."""
    state = x.v.new_zeros(x.v.shape[1], kept.shape[-1], x.v.shape[-1])
    for some in tokens.split(TILE):
        fed = x.v[some] * x.beta[some][..., None]
        state += kept[some].permute(1, 2, 0) @ fed.transpose(0, 1)
    return state


def _read(state, query):
    return torch.einsum("hkv,hk->hv", state, query)
