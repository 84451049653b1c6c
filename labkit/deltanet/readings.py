"""What a Gated DeltaNet layer did at every token, and the attention that it implies.

Recomputed from the seams of a run (`recompute`) and compared with the model's own reads; every reading carries that
error as `parity` and is refused above tolerance. Gated DeltaNet: arXiv 2412.06464.
"""

from collections.abc import Sequence

import torch

from labkit.deltanet import costs
from labkit.deltanet.equation import implied
from labkit.deltanet.recompute import SEAMS, TERMS, inputs, one_token, quantity, walk
from labkit.notation import GDN, Quantity, is_index, label, select
from labkit.reading import axis, reading
from labkit.trace import Run

WEIGHTS = {
    "value": "weight",
    "write": Quantity("Ã", "weight of the source's net write in the head's output", "1", "signed", f"{GDN} sec. 3"),
    "heuristic": Quantity("Ã β", "weight of the source's value, removal left out", "1", "signed", f"{GDN} sec. 3"),
}
NET_WRITE = Quantity("‖u‖", "norm of the source's net write", "norm", "positive", GDN)


@reading("deltanet", seams=SEAMS, instead="attention.pattern(run, layer={layer})", cost=costs.memory)
def memory(
    run: Run,
    *,
    layer: int | Sequence[int],
    tokens: int | Sequence[int] | None = -1,
    heads: int | Sequence[int] | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """What the layer kept, said, got wrong, erased, wrote and read at every token, and its state at some of them.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer, or several.
        tokens: where to give the whole state, relative to the run's first token, negative from its end; an int for
            one, several for an axis `step`, None for no state. A state takes key·value·4 bytes per head.
        heads: value heads; None for all.

    Returns:
        Dataset over (head, token): `keep` α, the mean of the channels' own if they have them, `write` β, up to
        `spec.most_write`; norms of the recalled value r, the error e, the read (`out`) and the state; `surprise`
        ‖e‖/‖v‖; `agreement` r·e; norms `decayed`, `erased`, `written` of the three terms of the update; `energy`, the
        change of ‖S‖². And `state` (head, key, value), or (head, step, key, value), with coordinate `state_token`.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    heads = select(heads, run.spec.value_heads, "head")
    at = [] if tokens is None else select(tokens, len(run), "token")
    walked = walk(run, layer, "deltanet.memory", at=at, updates=True)
    columns = walked.terms | {"out": walked.reads.norm(dim=-1)}
    values = {name: (("head", "token"), columns[name][:, heads].T, name) for name in (*TERMS, "out")}
    values["write"] = (*values["write"][:2], quantity(run.spec, "write"))
    coords = {**axis(run, "token"), "head": heads}
    if is_index(tokens):
        values["state"] = (("head", "key", "value"), walked.states[0, heads], "state")
        coords["state_token"] = run.positions[at[0]]
    elif tokens is not None:
        values["state"] = (("head", "step", "key", "value"), walked.states[:, heads].transpose(0, 1), "state")
        coords["state_token"] = ("step", run.positions[at])
    return label(values, coords=coords, attrs=walked.parity)


@reading(
    "deltanet",
    seams=SEAMS,
    instead="attention.pattern(run, layer={layer})",
    cost=costs.implied,
    cheaper=("deltanet.implied_row",),
)
def implied_attention(
    run: Run, *, layer: int | Sequence[int], heads: int | Sequence[int] | None = None, form: str = "value"
) -> "xarray.Dataset":  # noqa: F821
    """The exact attention that a DeltaNet layer implies: o_t = Σ_j A_tj v_j (+ what the start state contributes).

    Rows are signed and do not sum to 1. One map per value head, defined on the whole run, without chunk borders.

    Args:
        layer: a DeltaNet layer, or several. heads: value heads; None for all.
        form: "value" (exact), "write" (weights of the net writes u instead of the values v), or "heuristic" (the
            common shortcut that ignores what later tokens erased; not exact: its parity is that of the reads by the
            rule, its own error is `relative_error`).

    Returns:
        Dataset: weight (head, token, source), memory heads·T²·4 bytes; value_norm (head, source), of what is weighted.
        `attrs["relative_error"]` is the error of rebuilding the model's reads from these weights.

    Raises:
        LayerError, SeamError, ParityError, InputError; BudgetError: a map that would not fit.
    """
    return _implied(run, layer, heads, range(len(run)), form, "deltanet.implied_attention")


@reading("deltanet", seams=SEAMS, instead="attention.pattern(run, layer={layer})", cost=costs.implied)
def implied_row(
    run: Run,
    *,
    layer: int | Sequence[int],
    token: int = -1,
    heads: int | Sequence[int] | None = None,
    form: str = "value",
) -> "xarray.Dataset":  # noqa: F821
    """One exact row of `implied_attention`, in O(T·dk) per head and without the T x T map: weight (head, source);
    `form` as for it."""
    row = [one_token(run, token, f"deltanet.implied_row(run, layer={layer}, token=-1)")]
    return _implied(run, layer, heads, row, form, "deltanet.implied_row").isel(token=0)


def _implied(run, layer, heads, rows, form, name):
    heads, rows = select(heads, run.spec.value_heads, "head"), list(rows)
    if form == "value":
        x = inputs(run, layer)
    else:
        walked = walk(run, layer, name, writes=form == "write")
        x, parity = walked.x, walked.parity
    weights, left = implied(x.q, x.k, g=x.g, beta=x.beta, rows=rows, heads=heads, form=form)
    weighted = (walked.writes if form == "write" else x.v)[:, heads]
    rebuilt = torch.einsum("hts,shv->thv", weights, weighted)
    if x.state is not None:
        rebuilt = rebuilt + torch.einsum("htk,hkv->thv", left, x.state[heads])
    seam = run.seams[layer, "read"][rows][:, heads]
    if form != "heuristic":
        parity = run.check_parity(layer, name, rebuilt, seam)
    error = float((rebuilt - seam.float()).norm() / seam.float().norm())
    values = {
        "weight": (("head", "token", "source"), weights, WEIGHTS[form]),
        "value_norm": (("head", "source"), weighted.norm(dim=-1).T, NET_WRITE if form == "write" else "value_norm"),
    }
    coords = {**axis(run, "token", rows), **axis(run, "source"), "head": heads}
    return label(values, coords=coords, attrs=parity | {"relative_error": error, "form": form})
