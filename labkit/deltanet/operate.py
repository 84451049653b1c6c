"""Operations on the memory of a DeltaNet layer, as edits for `lab.edit`; and the response they must have.

    with lab.edit(deltanet.associate(run, layer=2, head=1, source=5, value=9, at=12)):
        changed = lab.trace(prompt)

A state edit happens after one token and propagates: the real kernel goes on from the changed state. For frozen keys,
gates and write strengths the layer's own reads change by exactly

    δo_τ = (Φ_τt Δ)ᵀ q̃_τ,      Δ = the change of the state after token t

which is the delta rule started at Δ with all values zero (`response`); later layers then get other inputs. Gates are
changed at the seams of the projections they come from: α = exp(-exp(A_log)·softplus(a + dt_bias)), β = σ(b). Gated
DeltaNet: arXiv 2412.06464.
"""

import math

import torch

from labkit import edit
from labkit.deltanet.equation import TILE, chunks, grouped, left_of_keys
from labkit.deltanet.readings import axis, inputs, proof, tiles
from labkit.errors import InputError
from labkit.notation import label, select

SHUT = -1e4  # softplus and sigmoid of it are exactly 0


def never_forget(*, layer, head=None, tokens=None):
    """An edit that sets the decay α of a head to exactly 1: nothing decays, erasing goes on."""
    return edit.function(_full(SHUT), seam="a", layer=layer, heads=head, tokens=tokens, name="never_forget")


def never_write(*, layer, head=None, tokens=None):
    """An edit that sets the write strength β of a head to 0: nothing is written and nothing erased."""
    return edit.function(_full(SHUT), seam="b", layer=layer, heads=head, tokens=tokens, name="never_write")


def clamp_keep(run, *, layer, value, head=None, tokens=None):
    """An edit that sets the decay gate α of heads to a number in (0, 1], at some tokens or all.

    Args:
        run: any run with this layer traced, for its A_log and dt_bias.
        value: α; 1 is `never_forget`.
    """
    run.require(layer, "deltanet", "deltanet.clamp_keep", "edit.scale")
    if not 0 < value <= 1:
        raise InputError("a decay gate lies above 0 and at most at 1", got=value)
    if value == 1:
        return never_forget(layer=layer, head=head, tokens=tokens)
    heads = select(head, run.spec.value_heads, "head")
    rate = run.parameters[layer, "A_log"].float().exp()[heads]
    span = (-math.log(value) / rate).double()
    wanted = (span + torch.log(-torch.expm1(-span))).float()  # ln(eˣ - 1) without overflow
    wanted = wanted - run.parameters[layer, "dt_bias"].float()[heads]
    change = lambda x, at: wanted.to(x).expand_as(x)  # noqa: E731
    return edit.function(change, seam="a", layer=layer, heads=heads, tokens=tokens, name="clamp_keep")


def clamp_write(*, layer, value, head=None, tokens=None):
    """An edit that sets the write strength β of heads to a number in [0, 1), at some tokens or all."""
    if not 0 <= value < 1:
        raise InputError("a write strength lies from 0 up to, but not at, 1", got=value)
    put = SHUT if value == 0 else math.log(value / (1 - value))
    return edit.function(_full(put), seam="b", layer=layer, heads=head, tokens=tokens, name="clamp_write")


def replace_state(state, *, layer, at, head=None, share=1.0, window=None):
    """An edit that blends the state after token `at` with another: S ← (1 - share)·S + share·S'.

    Args:
        state: S', [head, key, value] of the chosen heads, or a number that fills it (0 empties the memory).
        share: 1 replaces, 0 changes nothing.
        window: [channel, taps], to replace the convolution window as well; None leaves it.
    """
    mixed = lambda old: old + share * (torch.as_tensor(state).to(old) - old)  # noqa: E731
    held = None if window is None else lambda old: torch.as_tensor(window).to(old).expand_as(old)
    return edit.StateEdit(layer, at, mixed, edit.indices(head), held, "replace_state")


def associate(run, *, layer, source, value, at, head=None):
    """An edit after which the state says `value` when asked for the key of token `source`: S ← S - k(kᵀS) + k v'ᵀ.

    Args:
        run: a run whose tokens begin the prompt that will be traced.
        source: the token whose key is taken, relative to the run's first.
        value: [head, value] of the chosen heads, or a token whose values are taken.
        at: absolute position of the token after which the state is changed.
    """
    change, heads = _association(run, layer, source, value, head)
    return edit.StateEdit(layer, at, lambda old: old + change(old), edit.indices(heads), None, "associate")


def _association(run, layer, source, value, head):
    run.require(layer, "deltanet", "deltanet.associate", "edit.patch")
    x = inputs(run, layer)
    heads = select(head, run.spec.value_heads, "head")
    (j,) = select(source, len(run), "source")
    key = grouped(x.k[j : j + 1], run.spec.value_heads)[0, heads]
    key = key / key.norm(dim=-1, keepdim=True)
    new = x.v[select(value, len(run), "token")[0], heads] if isinstance(value, int) else torch.as_tensor(value)

    def change(old):
        unit, wanted = key.to(old), new.to(old)
        said = torch.einsum("bhkv,hk->bhv", old, unit)
        return torch.einsum("hk,bhv->bhkv", unit, wanted - said)

    return change, heads


def forget(run, *, layer, source, at=-1, head=None, sense="value"):
    """An edit that takes one stored token out of the state after token `at`.

    Args:
        run: a run whose tokens begin the prompt that will be traced, up to `at` at least.
        source: the token to forget, relative to the run's first.
        at: the token after which it is taken out, relative to the run's first.
        sense: "value" takes what is left of its value, p_tj v_jᵀ; what it erased stays erased. "write" undoes its
            whole write, Φ_tj k_j u_jᵀ, so that what it erased comes back. Its decay stays in both.
    """
    gone, heads, t = forgotten(run, layer=layer, source=source, at=at, head=head, sense=sense)
    here = int(run.positions[t])
    return edit.StateEdit(layer, here, lambda old: old - gone.to(old), edit.indices(heads), None, "forget")


def forgotten(run, *, layer, source, at=-1, head=None, sense="value"):
    """(what `forget` takes out of the state [head, key, value], heads, token)."""
    run.require(layer, "deltanet", "deltanet.forget", "edit.scale")
    if sense not in ("value", "write"):
        raise InputError("unknown sense of forgetting", got=sense, expected="'value' or 'write'")
    x = inputs(run, layer)
    heads = select(head, run.spec.value_heads, "head")
    (t,) = select(at, len(run), "token")
    (j,) = select(source, t + 1, "source")
    rest = None
    for first, found in left_of_keys(x.k[: t + 1], g=x.g[: t + 1], beta=x.beta[: t + 1]):
        if first is not None and first <= j < first + len(found):
            rest = found[j - first]
    if sense == "value":
        put = x.beta[j, :, None] * x.v[j]
    else:
        for first, count, part in tiles(x.upto(j + 1), outputs=False):
            put = part.flat(part.write, count)[j - first] if first <= j < first + count else None
    return torch.einsum("hk,hv->hkv", rest, put)[heads], heads, t


def response(run, change, *, layer, at=None, head=None):
    """How the layer's reads change when the state after a token changes, everything else in the layer frozen.

    Args:
        run: the unchanged run.
        change: Δ [head, key, value] of the chosen heads; or an edit of this layer's state (`associate`, `forget`,
            `replace_state`), which says itself where it happens and to which heads.
        at: the token after which the state changes, relative to the run's first.

    Returns:
        Dataset: `predicted` δo (head, token, value) for the tokens after `at`.

    Raises:
        LayerError, SeamError, ParityError; InputError: nothing comes after the token, an edit of another layer.
    """
    run.require(layer, "deltanet", "deltanet.response", "edit.patch")
    x = inputs(run, layer)
    known = isinstance(change, edit.StateEdit)
    if known:
        if change.layer != layer:
            raise InputError("this edit is of another layer", got=change.layer, expected=layer)
        if change.change is None or change.window is not None:
            raise InputError(
                "the response is that of a state; the convolution window enters before it",
                got=f"{change} with a window" if change.window is not None else f"{change} without a state",
                hint="swap_state(..., window=False), or compare two runs with deltanet.measured",
            )
        at, head = change.at - int(run.positions[0]), change.heads
        if at < 0:
            raise InputError(
                "this edit happens before the run begins", got=change.at, expected=f"from {int(run.positions[0])} on"
            )
    elif at is None:
        raise InputError("a change of the state needs the token after which it happens", hint="at=")
    heads = select(head, run.spec.value_heads, "head")
    (t,) = select(at, len(run), "token")
    if t + 1 == len(run):
        raise InputError("nothing comes after this token", got=at, expected=f"at most {len(run) - 2}")
    parts, reads, held = [], [], None
    for first, count, part in tiles(x):
        reads.append(part.flat(part.out, count))
        if first <= t < first + count:
            held = part.state_after(t - first)[heads]
    state = x.v.new_zeros(run.spec.value_heads, run.spec.dk, run.spec.dv)
    state[heads] = change.change(held[None])[0] - held if known else torch.as_tensor(change).to(state)
    facts = proof(run, layer, "deltanet.response", torch.cat(reads), run.seams[layer, "read"])
    for a in range(t + 1, len(run), TILE):
        b = min(a + TILE, len(run))
        part = chunks(x.q[a:b], x.k[a:b], torch.zeros_like(x.v[a:b]), g=x.g[a:b], beta=x.beta[a:b], state=state)
        parts.append(part.flat(part.out, b - a))
        state = part.state
    coords = {"head": heads, **axis(run, "token", range(t + 1, len(run)))}
    found = torch.cat(parts)[:, heads].transpose(0, 1)
    return label({"predicted": (("head", "token", "value"), found)}, coords=coords, attrs=facts)


def measured(run, changed, *, layer, at, head=None):
    """How the layer's reads differ between two runs, laid out as `response` predicts it.

    Args:
        run, changed: the same prompt without and with the edit.

    Returns:
        Dataset: `measured` (head, token, value) for the tokens after `at`.
    """
    run.require(layer, "deltanet", "deltanet.measured", "edit.patch")
    heads = select(head, run.spec.value_heads, "head")
    (t,) = select(at, len(run), "token")
    gap = (changed.seams[layer, "read"].float() - run.seams[layer, "read"].float())[t + 1 :, heads].transpose(0, 1)
    coords = {"head": heads, **axis(run, "token", range(t + 1, len(run)))}
    facts = {"model": run.model, "layer": layer, "reading": "deltanet.measured"}
    return label({"measured": (("head", "token", "value"), gap)}, coords=coords, attrs=facts)


def _full(value):
    return lambda x, at: x.new_full(x.shape, value)
