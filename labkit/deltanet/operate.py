"""Operations on the memory of a DeltaNet layer, as edits for `lab.edit`.

    with lab.edit(deltanet.associate(run, layer=2, heads=1, source=5, value=9, at=12)):
        changed = lab.trace(prompt)

A state edit happens after one token and propagates: the real kernel goes on from the changed state; `changes` says what
the layer's own reads must become. Gates are changed at the seams of the projections they come from:
α = exp(-exp(A_log)·softplus(a + dt_bias)), β = m σ(b), with the largest write m of the model, 1 or 2. Gated DeltaNet:
arXiv 2412.06464.

Where a run is given, tokens are relative to its first one and negative from its end; where none is, they are absolute.
"""

import math
from collections.abc import Sequence

import torch

from labkit import edit
from labkit.arguments import number, whole
from labkit.calling import public
from labkit.deltanet.equation import grouped, left_of_keys
from labkit.deltanet.recompute import inputs, one_token, places, walk
from labkit.errors import InputError
from labkit.notation import is_index, select
from labkit.trace import Run, layers_of

SHUT = -1e4  # softplus and sigmoid of it are exactly 0


@public
def never_forget(
    *, layer: int, heads: int | Sequence[int] | None = None, tokens: int | Sequence[int] | None = None
) -> edit.SeamEdit:
    """An edit that sets the decay α of heads to exactly 1: nothing decays, erasing goes on. Tokens are absolute."""
    return edit.function(_full(SHUT), seam="a", layer=layer, heads=heads, tokens=tokens, name="never_forget")


@public
def never_write(
    *, layer: int, heads: int | Sequence[int] | None = None, tokens: int | Sequence[int] | None = None
) -> edit.SeamEdit:
    """An edit that sets the write strength β of heads to 0: nothing is written and nothing erased. Tokens absolute."""
    return edit.function(_full(SHUT), seam="b", layer=layer, heads=heads, tokens=tokens, name="never_write")


@public
@torch.no_grad()
def clamp_keep(
    run: Run,
    *,
    layer: int,
    value: float,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> edit.SeamEdit:
    """An edit that sets the decay gate α of heads to a number in (0, 1], at some tokens or all.

    Args:
        run: a run with this layer traced, for its A_log and dt_bias.
        value: α; 1 is `never_forget`.
        heads: value heads; None for all.
        tokens: relative to the run's first, negative from its end; None for all tokens of any prompt.
    """
    layer = _layer(run, layer, "deltanet.clamp_keep", 'edit.scale("gated", layer={layer}, factor=0.0)')
    value = number(value, "value", above=0, most=1)
    heads = select(heads, run.spec.value_heads, "head")
    tokens = None if tokens is None else run.positions[places(run, tokens, "token")].tolist()
    if value == 1:
        return never_forget(layer=layer, heads=heads, tokens=tokens)
    rate = run.parameters[layer, "A_log"].float().exp().flatten()[heads]
    span = (-math.log(value) / rate).double()
    a = (span + torch.log(-torch.expm1(-span))).float()  # ln(eˣ - 1) without overflow
    a = a[:, None] - run.parameters[layer, "dt_bias"].float().view(run.spec.value_heads, -1)[heads]
    a = a if run.spec.decays > 1 else a[:, 0]
    change = lambda x, at: a.to(x).expand_as(x)  # noqa: E731
    return edit.function(change, seam="a", layer=layer, heads=heads, tokens=tokens, name="clamp_keep")


@public
def clamp_write(
    *,
    layer: int,
    value: float,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
) -> edit.SeamEdit:
    """An edit that sets the write strength β of heads to a number, at some (absolute) tokens or all.

    Args:
        value: β, from 0 to below the model's largest, `spec.most_write`; above 1 a write reflects the state.
    """
    value = number(value, "value", least=0, below=2)

    def of_model(spec):
        b = SHUT if value == 0 else math.log(value / (spec.most_write - number(value, "value", below=spec.most_write)))
        return _full(b)

    change = edit.OfModel(of_model)
    return edit.function(change, seam="b", layer=layer, heads=heads, tokens=tokens, name="clamp_write")


@public
def replace_state(
    state: torch.Tensor | float,
    *,
    layer: int,
    at: int,
    heads: int | Sequence[int] | None = None,
    share: float = 1.0,
    window: torch.Tensor | None = None,
) -> edit.StateEdit:
    """An edit that blends the state after a token with another: S ← (1 - share)·S + share·S'.

    Args:
        state: S', [head, key, value] of the chosen heads, or a number that fills it (0 empties the memory).
        at: absolute position of the token after which the state is changed.
        share: 1 replaces, 0 changes nothing.
        window: [channel, taps], to replace the convolution window as well; None leaves it.
    """
    at, share, new = whole(at, "at", least=0), number(share, "share", least=-1e6, most=1e6), edit.tensor(state, "state")
    blend = lambda old: old + share * (edit.fitted(new, old, "state") - old)
    new_window = None if window is None else edit.tensor(window, "window")
    taps = None if window is None else lambda old: edit.fitted(new_window, old, "window")
    return edit.StateEdit(layer, at, blend, edit.indices(heads, "heads"), taps, "replace_state")


@public
@torch.no_grad()
def associate(
    run: Run,
    *,
    layer: int,
    source: int,
    value: torch.Tensor | int,
    at: int = -1,
    heads: int | Sequence[int] | None = None,
) -> edit.StateEdit:
    """An edit after which the state says `value` when asked for the key of token `source`: S ← S - k(kᵀS) + k v'ᵀ.

    Args:
        run: a run whose tokens begin the prompt that will be traced.
        source: the token whose key is taken, relative to the run's first, negative from its end.
        value: [head, value] of the chosen heads, or a token (as `source`) whose values are taken.
        at: the token after which the state is changed, relative to the run's first, negative from its end.
        heads: value heads; None for all.
    """
    layer = _layer(run, layer, "deltanet.associate", 'edit.patch("v", layer={layer}, run=run)')
    hint = f"deltanet.associate(run, layer={layer}, source=0, value=1, at=-1)"
    j, t = one_token(run, source, hint, "source"), one_token(run, at, hint)
    x, heads = inputs(run, layer), select(heads, run.spec.value_heads, "head")
    key = grouped(x.k[j : j + 1], run.spec.value_heads)[0, heads]
    key = key / key.norm(dim=-1, keepdim=True)
    new = x.v[one_token(run, value, hint), heads] if is_index(value) else edit.tensor(value, "value")

    def change(old):
        direction, wanted = key.to(old), edit.fitted(new, old[:, :, 0], "value")
        recalled = torch.einsum("bhkv,hk->bhv", old, direction)
        return old + torch.einsum("hk,bhv->bhkv", direction, wanted - recalled)

    return edit.StateEdit(layer, int(run.positions[t]), change, edit.indices(heads, "heads"), None, "associate")


@public
@torch.no_grad()
def forget(
    run: Run,
    *,
    layer: int,
    source: int,
    at: int = -1,
    heads: int | Sequence[int] | None = None,
    sense: str = "value",
) -> edit.StateEdit:
    """An edit that takes one stored token out of the state after token `at`.

    Args:
        run: a run whose tokens begin the prompt that will be traced, up to `at` at least.
        source: the token to forget, relative to the run's first, negative from its end; not after `at`.
        at: the token after which it is taken out, relative to the run's first, negative from its end.
        heads: value heads; None for all.
        sense: "value" takes what is left of its value, p_tj v_jᵀ; what it erased stays erased. "write" undoes its
            whole write, Φ_tj k_j u_jᵀ, so that what it erased comes back. Its decay stays in both.

    Raises:
        LayerError, SeamError, InputError; ParityError: the layer's reads are not those of the rule.
    """
    layer = _layer(run, layer, "deltanet.forget", 'edit.scale("v", layer={layer}, factor=0.0)')
    if sense not in ("value", "write"):
        raise InputError("unknown sense of forgetting", got=sense, expected="'value' or 'write'")
    hint = f"deltanet.forget(run, layer={layer}, source=0, at=-1)"
    t = one_token(run, at, hint)
    j = one_token(run, source, hint, "source", last=t)
    heads = select(heads, run.spec.value_heads, "head")
    walked = walk(run, layer, "deltanet.forget", writes=True)
    x = walked.x.upto(t + 1)
    tiles = left_of_keys(x.k, g=x.g, beta=x.beta)
    left = next(left[j - first] for first, left in tiles if first <= j)
    written = x.beta[j, :, None] * x.v[j] if sense == "value" else walked.writes[j]
    gone = torch.einsum("hk,hv->hkv", left, written)[heads]
    return edit.StateEdit(
        layer, int(run.positions[t]), lambda old: old - gone.to(old), edit.indices(heads, "heads"), None, "forget"
    )


def _layer(run, layer, name, instead):
    """The one layer of an edit, counted from 0."""
    return layers_of(run.spec, whole(layer, "layer"), "deltanet", name, instead)[0]


def _full(value):
    return lambda x, at: x.new_full(x.shape, value)
