"""The recall card of a stored token: what the memory says when it is asked for that token's key, and who spoils it.

    S_tᵀ k_j = Σ_i c_ji v_i + S_0ᵀ Φ_t0ᵀ k_j,    c_ji = k_jᵀ p_ti

c_jj v_j is the signal; every other term is crosstalk, and the largest of them name the tokens that corrupted it. The
coefficients are a row of the implied attention whose query is the stored key (`equation.implied`), so a card costs
O(T·dk) per head. Gated DeltaNet: arXiv 2412.06464, section 3.
"""

from collections.abc import Sequence

import torch

from labkit.deltanet import costs
from labkit.deltanet.equation import grouped, implied
from labkit.deltanet.recompute import SEAMS, one_token, places, walk
from labkit.notation import is_index, label, select
from labkit.reading import axis, reading
from labkit.trace import Run


@reading("deltanet", seams=SEAMS, instead="attention.pattern(run, layer={layer})", cost=costs.recall)
def recall(
    run: Run,
    *,
    layer: int | Sequence[int],
    source: int | Sequence[int],
    token: int = -1,
    heads: int | Sequence[int] | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """Ask the state at one token for the key that an earlier token stored.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer, or several.
        source: the stored token, relative to the run's first, negative from its end; several for an axis `step`.
        token: when it is asked; relative to the run's first token, negative from its end.
        heads: value heads; None for all.

    Returns:
        Dataset: `contribution` c_ji (head, source); over head `signal` ‖c_jj v_j‖, `crosstalk` Σ_{i≠j} |c_ji| ‖v_i‖ and
        `recall`, the cosine of what is said and the stored value; with several sources `step` follows head.
        `attrs["rebuilt"]` is the relative error of Σ c v against S_tᵀk_j read from the state. On a warm run what the
        start state says belongs to neither signal nor crosstalk.

    Raises:
        LayerError, SeamError, ParityError; InputError: a source after the token.
    """
    heads = select(heads, run.spec.value_heads, "head")
    t = one_token(run, token, f"deltanet.recall(run, layer={layer}, source=0, token=-1)")
    sources = places(run, source, "source", last=t)
    walked = walk(run, layer, "deltanet.recall", at=[t], reads=False)
    x, state = walked.x.upto(t + 1), walked.states[0, heads]
    keys = grouped(x.k[sources], x.v.shape[1])[:, heads]
    weights, rest = implied(
        x.q, x.k, g=x.g, beta=x.beta, rows=[t] * len(sources), heads=heads, queries=x.k[sources]
    )  # [head, step, source]
    values = x.v[:, heads]
    said = torch.einsum("hjs,shv->hjv", weights, values)
    if x.state is not None:
        said = said + torch.einsum("hjk,hkv->hjv", rest, x.state[heads])
    truth = torch.einsum("hkv,jhk->hjv", state, keys)
    stored = values[sources].transpose(0, 1)
    sizes = weights.abs() * values.norm(dim=-1).T[:, None]
    own = torch.nn.functional.one_hot(torch.tensor(sources, device=sizes.device), t + 1).bool()
    variables = {
        "contribution": (("head", "step", "source"), weights, "contribution"),
        "signal": (("head", "step"), (sizes * own).sum(-1), "signal"),
        "crosstalk": (("head", "step"), (sizes * ~own).sum(-1), "crosstalk"),
        "recall": (("head", "step"), torch.cosine_similarity(truth, stored, dim=-1), "recall"),
    }
    rebuilt = float((said - truth).norm() / truth.norm().clamp(min=1e-30))
    coords = {**axis(run, "source", range(t + 1)), "head": heads, "token": run.positions[t]}
    coords |= {"stored": ("step", run.positions[sources]), "stored_text": ("step", [run.tokens[j] for j in sources])}
    data = label(variables, coords=coords, attrs=walked.parity | {"rebuilt": rebuilt})
    return data.isel(step=0) if is_index(source) else data
