"""Direct attribution: what each head adds to a logit from each source token, both kinds of layer in one matrix.

    Gated DeltaNet    A_tj ⟨W_out [w ⊙ silu(z_t) ⊙ v_j / rms(o_t)], d⟩
    attention         P_tj ⟨W_O [σ(g_t) ⊙ v_j], d⟩                        d = w ⊙ (W_U[y] - W_U[y']) / rms(x_t)

With MLPs, embedding and what the cache holds they add up to the logit. Direct paths alone: what a head does to later
layers is no part of it (`attribution.exact`), nor what it does to a norm.

Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021); A of the delta rule: arXiv 2412.06464.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.attribution import costs
from labkit.attribution.frozen import Frozen, asked, by_reader, factor, proof
from labkit.cache import Snapshot
from labkit.calling import public
from labkit.lab import Lab
from labkit.notation import Quantity, label
from labkit.reading import axis
from labkit.residual.branches import unembedded
from labkit.residual.stream import Answers

if TYPE_CHECKING:
    import xarray

NAME = "attribution.logit"
ADDED = Quantity("c", "what is added to the logit directly, norms held", "nat", "signed", "direct logit attribution")


@public
def logit(
    lab: Lab,
    prompt: str | Sequence[int] | torch.Tensor,
    *,
    of: Answers,
    against: Answers | None = None,
    token: int = -1,
    snap: Snapshot | None = None,
) -> "xarray.Dataset":
    """What each head adds to a logit from each source token.

    Args:
        prompt, of, against, token, snap: as of `attribution.exact`.

    Returns:
        Dataset: `added` (layer, reader, source), readers being value heads or query heads (not-a-number where a layer
        has fewer); `cached` (layer), what the heads add from the cache; `mlp` (layer); `embedding`; `logit`, their sum.

    Raises:
        As `attribution.exact`.
    """
    run, at, ids, name = asked(lab, prompt, of, against, token, snap, NAME)
    frozen, layers = Frozen(lab, run), range(run.spec.layers)
    rows = unembedded(lab, ids).to(frozen.wide)
    last = run.seams[run.spec.layers - 1, "resid_post"][at].to(lab.device)
    way = (rows[0] - (rows[1] if against is not None else 0)) * factor(lab.final_norm, last).to(frozen.wide)
    take = lambda layer, seam: run.seams[layer, seam][at].to(lab.device, frozen.wide) @ way  # noqa: E731
    added, cached = {}, []
    for layer in layers:
        of_values, of_cache = _heads(frozen, layer, at, way)
        added[layer] = of_values[-len(run) :]
        cached.append(of_cache)
    parts = {"cached": torch.stack(cached), "mlp": torch.stack([take(layer, "mlp_out") for layer in layers])}
    matrix, embedding = by_reader(run, added), take(0, "resid_pre")
    own = run.logits[0, ids[0]] - (run.logits[0, ids[1]] if against is not None else 0)
    summed = embedding + matrix.nansum() + sum(part.sum() for part in parts.values())
    variables = {"added": (("layer", "reader", "source"), matrix, ADDED), "embedding": ((), embedding, ADDED)}
    variables |= {part: (("layer",), values, ADDED) for part, values in parts.items()} | {
        "logit": ((), own, "vocab_logit")
    }
    facts = {"model": run.model, "reading": NAME, "answer": name} | proof(run, NAME, summed.to(own.device) - own)
    return label(variables, coords={"layer": list(layers), **axis(run, "source")}, attrs=facts)


logit.plans = costs.logit


def _heads(frozen, layer, at, way):
    """([source, head], number) of one layer: what its heads add to a row from each value, and from the cache."""
    lab, run = frozen.lab, frozen.run
    with torch.enable_grad():
        branch = frozen.mixer(layer, run.seams[layer, "mixer_in"].to(lab.device)[None].requires_grad_())[0, at]
        norm = lab.branch_norm(layer)
        scale = 1 if norm is None else factor(norm, branch.detach())
        # What a convolution window holds is part of the first tokens' values.
        cached = [frozen.cached[layer, what] for what in ("state", "values") if (layer, what) in frozen.cached]
        leaves = [frozen.values.pop(layer), *cached]
        del frozen.mixed[layer], frozen.reads[layer]  # else the graphs of all layers stay
        slopes = torch.autograd.grad((branch * scale).to(frozen.wide) @ way, leaves, materialize_grads=True)
    values, *rest = (leaf.detach() * slope for leaf, slope in zip(leaves, slopes, strict=True))
    return values.sum(-1), torch.stack([part.sum() for part in rest]).sum() if rest else way.new_zeros(())
