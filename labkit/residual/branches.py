"""The stream as a sum: embeddings, and what the mixer and the MLP of every layer add; and so a logit.

x_L = x_0 + Σ_l (mixer_l + mlp_l), and a logit is ⟨γ ⊙ W_U[y], x_L⟩ / rms(x_L): linear in every branch, with the norm's
scale frozen at what it was. This is direct logit attribution; what a branch does through later layers is no part of
it, and neither is what it does to rms.

Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021), direct paths.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.calling import public
from labkit.errors import ParityError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.plan import admit
from labkit.reading import axis
from labkit.residual import costs
from labkit.residual.stream import Answers, check_lab, check_sum, compared, logits
from labkit.spec.memory import dtype_bytes
from labkit.trace import TOLERANCE, Run

if TYPE_CHECKING:
    import xarray

SOURCE = "direct logit attribution"
TERMS = ("mixer", "mlp")
ADDED = Quantity("c", "what a branch adds to the logit, the norm frozen", "nat", "signed", SOURCE)
SIZE = Quantity("‖Δx‖", "norm of what a branch adds to the stream", "norm", "positive", "transformers")


@public
@torch.no_grad()
def contributions(
    run: Run, lab: Lab, *, of: Answers, against: Answers | None = None, tokens: int | Sequence[int] | None = -1
) -> "xarray.Dataset":
    """What every branch of every layer adds to the logit of an answer, directly.

    Args:
        run: `Run` with resid_pre of the first layer, resid_post of the last, and mixer_out and mlp_out of all.
        lab: the lab it came from, for the final norm and the unembedding.
        of: token ids, or texts of one token. against: as many, or one for all: then of the difference of the logits.
        tokens: that speak, relative to the run's first; None for all.

    Returns:
        Dataset: `added` (layer, term, token, answer), term "mixer" or "mlp"; `embedding` (token, answer); `logit`
        (token, answer), their sum, proven by the last layer's stream read out; `size` (layer, term, token). An int as
        `tokens` drops its axis.

    Raises:
        InputError: another model's run, an answer of several tokens, a token out of range. SeamError: a seam that was
            not kept. ParityError: branches that do not add up to the logit. BudgetError.
    """
    check_lab(run, lab, "residual.contributions")
    spec, rows = run.spec, select(tokens, len(run), "token")
    ids, foils, names = compared(lab, of, against, "residual.contributions")
    wide = torch.float64 if lab.dtype == torch.float64 else torch.float32
    parts, one = (costs.contribution_parts(spec, n, len(ids), dtype_bytes(lab.dtype)) for n in (len(rows), 1))
    admit("residual.contributions", len(run), parts, lab.device, [("tokens=-1", sum(one.values()))])
    take = lambda layer, seam: run.seams[layer, seam][rows].to(lab.device, wide)  # noqa: E731
    stream = take(spec.layers - 1, "resid_post")
    reads = way_out(lab, stream, ids, wide)  # [row, answer, channel]
    if foils is not None:
        reads = reads - way_out(lab, stream, foils, wide)
    read = lambda branch: torch.einsum("tc,tac->ta", branch, reads)  # noqa: E731
    embedding, added, size = read(take(0, "resid_pre")), [], []
    for layer in range(spec.layers):
        branches = [take(layer, seam) for seam in ("mixer_out", "mlp_out")]
        added.append(torch.stack([read(branch) for branch in branches]))
        size.append(torch.stack([branch.norm(dim=-1) for branch in branches]))
    added, size = torch.stack(added), torch.stack(size)
    row = logits(lab, stream)
    whole = row.to(wide)
    own = whole[:, ids] - (0 if foils is None else whole[:, foils])
    facts = _proof(run, embedding + added.sum((0, 1)) - own, row)
    place = ("layer", "term", "token")
    variables = {
        "added": ((*place, "answer"), added, ADDED),
        "embedding": (("token", "answer"), embedding, ADDED),
        "logit": (("token", "answer"), own, "vocab_logit"),
        "size": (place, size, SIZE),
    }
    coords = {"layer": range(spec.layers), "term": list(TERMS), **axis(run, "token", rows), "answer": names}
    attrs = {"model": run.model, "reading": "residual.contributions"} | facts
    made = label(variables, coords=coords, attrs=attrs)
    return made.isel(token=0) if tokens is not None and is_index(tokens) else made


contributions.plans = costs.contributions


def way_out(lab: Lab, stream: torch.Tensor, ids: list[int], wide: torch.dtype) -> torch.Tensor:
    """γ ⊙ W_U[y] / rms of every row, [row, answer, channel]: the logit is its inner product with the stream."""
    norm, ones = lab.final_norm, torch.ones(lab.spec.hidden, device=lab.device)
    epsilon = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    rounded = copy.deepcopy(norm).float().forward(ones) * (1 + epsilon) ** 0.5
    weight = norm.weight.detach().to(wide)
    # Families write the scale as a weight or as one more; both norms round to float32 on the way.
    gamma = next((exact for exact in (weight, 1 + weight) if torch.allclose(exact, rounded.to(wide), 1e-5)), rounded)
    scale = (stream.square().mean(-1) + epsilon).rsqrt()
    return (gamma * unembedded(lab, ids).to(wide)) * scale[:, None, None]


def unembedded(lab: Lab, ids: list[int]) -> torch.Tensor:
    """Rows of the unembedding, [answer, channel], also of a packed one; fp8 are numbers, but without their scales."""
    weight = lab.unembedding.weight
    if weight.dtype in TOLERANCE and weight.shape == (lab.spec.vocab, lab.spec.hidden):
        return weight.detach()[ids]
    eye = torch.eye(lab.spec.hidden, device=lab.device, dtype=lab.dtype)
    return torch.cat([lab.unembedding.forward(part)[:, ids] for part in eye.split(256)]).T


def _proof(run, off, row):
    try:
        facts = check_sum(run, "residual.contributions", off, row)
    except ParityError as error:
        hint = "an edit of the stream itself adds what is no branch: trace without it"
        what = "residual.contributions: the branches do not add up to the logit"
        raise ParityError(what, got=error.got, expected=error.expected, hint=hint) from error
    return facts | {"proven": "the sum of all branches"}
