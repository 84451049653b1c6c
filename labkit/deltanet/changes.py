"""What a change of a layer's state does to its later reads: predicted, and measured beside it.

For frozen keys, gates and write strengths the layer's own reads change by exactly

    δo_τ = (Φ_τt Δ)ᵀ q̃_τ,      Δ = the change of the state after token t

which is the delta rule started at Δ with all values zero. Tokens are relative to the run's first one and negative from
its end. Gated DeltaNet: arXiv 2412.06464.
"""

from collections.abc import Sequence

import torch

from labkit import edit
from labkit.deltanet import costs
from labkit.deltanet.equation import delta_rule
from labkit.deltanet.recompute import SEAMS, one_token, walk
from labkit.errors import InputError
from labkit.notation import label, select
from labkit.reading import axis, reading
from labkit.trace import Run


@reading("deltanet", seams=SEAMS, instead='edit.patch("v", layer={layer}, run=run)', cost=costs.response)
def response(
    run: Run,
    change: torch.Tensor | float | edit.StateEdit,
    *,
    layer: int | Sequence[int],
    at: int | None = None,
    heads: int | Sequence[int] | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """How the layer's reads change when the state after a token changes, everything else in the layer frozen.

    Args:
        run: the unchanged run.
        change: Δ [head, key, value] of the chosen heads; or an edit of this layer's state (`associate`, `forget`,
            `replace_state`), which says itself where it happens and to which heads.
        layer: a DeltaNet layer, or several.
        at: the token after which the state changes, relative to the run's first, negative from its end.
        heads: value heads; None for all.

    Returns:
        Dataset: `predicted` δo (head, token, value) for the tokens after `at`. Parity is that of the unchanged reads.

    Raises:
        LayerError, SeamError, ParityError; InputError: nothing comes after the token, an edit of another layer.
    """
    by_edit = isinstance(change, edit.StateEdit)
    example = (
        f"deltanet.response(run, deltanet.replace_state(0.0, layer={layer}, at=int(run.positions[0])), layer={layer})"
    )
    if by_edit:
        _check_edit(run, change, layer, example)
        at, heads = change.at - run.start.length, change.heads
    elif at is None:
        raise InputError("a change of the state needs the token after which it happens", hint=example)
    heads, t = select(heads, run.spec.value_heads, "head"), one_token(run, at, example)
    if t + 1 == len(run):
        raise InputError("nothing comes after this token", got=at, expected=f"at most {len(run) - 2}")
    walked = walk(run, layer, "deltanet.response", at=[t])
    x, later = walked.x, slice(t + 1, None)
    delta, old = torch.zeros_like(walked.states[0]), walked.states[:, heads]
    given = None if by_edit else edit.fitted(edit.tensor(change, "change"), delta[heads], "change")
    delta[heads] = (change.change(old) - old)[0] if by_edit else given
    rule = dict(q=x.q[later], k=x.k[later], g=x.g[later], beta=x.beta[later], state=delta)
    predicted, _ = delta_rule(v=torch.zeros_like(x.v[later]), **rule)
    coords = {"head": heads, **axis(run, "token", range(t + 1, len(run)))}
    values = {"predicted": (("head", "token", "value"), predicted[:, heads].transpose(0, 1), "predicted")}
    return label(values, coords=coords, attrs=walked.parity)


def _check_edit(run, change, layer, example):
    if change.layer not in (layer, layer - run.spec.layers):
        raise InputError("this edit is of another layer", got=change.layer, expected=layer)
    if change.window is not None:
        raise InputError(
            "the response is that of a state; the convolution window enters before it",
            got=f"{change} with a window",
            hint=f"edit.patch_state(snap, layer={layer}, at={change.at}, window=False)",
        )
    if change.change is None:
        raise InputError("the response is that of a state", got=f"{change} without a state", hint=example)
    if change.at < run.start.length:
        got, expected = change.at, f"from {run.start.length} on"
        raise InputError("this edit happens before the run begins", got=got, expected=expected)


@reading("deltanet", seams=SEAMS, instead='edit.patch("v", layer={layer}, run=run)', cost=costs.measured)
def measured(
    run: Run, changed: Run, *, layer: int | Sequence[int], at: int, heads: int | Sequence[int] | None = None
) -> "xarray.Dataset":  # noqa: F821
    """How the layer's reads differ between two runs, laid out as `response` predicts it.

    Args:
        run, changed: the same prompt without and with the edit.
        layer: a DeltaNet layer, or several.
        at: the token after which the reads are compared, relative to the run's first, negative from its end.
        heads: value heads; None for all.

    Returns:
        Dataset: `measured` δo (head, token, value) for the tokens after `at`. Parity is that of the unchanged run: its
        reads by the rule against its own. A changed state is no outcome of the rule, so that `changed` has none.

    Raises:
        LayerError, SeamError, ParityError; InputError: runs of different tokens, nothing comes after `at`.
    """
    same = run.start.length == changed.start.length and torch.equal(run.ids, changed.ids)
    if not same:
        raise InputError("two runs of different tokens", got=f"{run} and {changed}", expected="the same prompt twice")
    heads = select(heads, run.spec.value_heads, "head")
    t = one_token(run, at, f"deltanet.measured(run, run, layer={layer}, at=0)")
    if t + 1 == len(run):
        raise InputError("nothing comes after this token", got=at, expected=f"at most {len(run) - 2}")
    parity = walk(run, layer, "deltanet.measured").parity
    gap = changed.seams[layer, "read"].float() - run.seams[layer, "read"].float()
    coords = {"head": heads, **axis(run, "token", range(t + 1, len(run)))}
    values = {"measured": (("head", "token", "value"), gap[t + 1 :, heads].transpose(0, 1), "measured")}
    return label(values, coords=coords, attrs=parity)
