"""What a feature says by itself, and what is lost when features alone are left.

The direction of a feature goes through the final norm and the unembedding, as a stream would that held nothing else.
That is the direct path alone, and for early layers a poor guess of what a feature does (`features.scale` tries it). A
direction of the same dictionary dealt anew stands beside: how high the likeliest of so many tokens comes by chance.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import edit
from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.features.active import described
from labkit.features.atoms import Atoms
from labkit.features.changes import Tokens, reconstruct
from labkit.features.dictionary import SCRATCH, Dictionary
from labkit.lab import Lab
from labkit.notation import Quantity, label, select
from labkit.plan import admit
from labkit.trace import texts

if TYPE_CHECKING:
    import xarray

STREAM = "resid_pre", "resid_post", "mixer_out", "mlp_out"
LENS = "nostalgebraist 2020"
SAID = Quantity("Δz", "logit above the mean of all tokens, of a stream of this direction alone", "nat", "signed", LENS)
LOSS = Quantity("L", "surprisal of the next token", "nat", "positive", "arXiv 2406.04093")
FAR = Quantity("KL", "divergence from what the model says", "nat", "positive", "arXiv 2406.04093")
SPLICES = "as it is", "reconstruction", "control", "mean"


@public
@torch.no_grad()
def says(sae: Dictionary, lab: Lab, features: int | Sequence[int], *, top: int = 8, seed: int = 0) -> "xarray.Dataset":
    """The tokens that the direction of each feature raises and lowers most, by the final norm and the unembedding.

    Args:
        features: numbers of features. top: how many tokens of either kind. seed: of the control.

    Returns:
        Dataset: `raised`, `lowered` (feature, choice) logits, their token ids `raised_id`, `lowered_id` and texts
        `raised_text`, `lowered_text`; `control` (feature, choice), the highest logits of the direction dealt anew.

    Raises:
        InputError: a feature out of range, a dictionary whose directions are not those of the stream. BudgetError.
    """
    if not isinstance(sae, Dictionary) or sae.seam not in STREAM:
        expected = f"a dictionary at {', '.join(STREAM)}"
        raise InputError("directions of another space than the stream's", got=repr(sae), expected=expected)
    chosen, top = sae.chosen(features), whole(top, "top", least=1, most=lab.spec.vocab)
    parts = {"result": len(chosen) * top * 40, "logits": 16 * len(chosen) * lab.spec.vocab}
    admit("features.says", len(chosen), parts, lab.device, [("features=0", sum(parts.values()) // len(chosen))])
    own, control = (_logits(lab, each.directions(chosen)) for each in (sae, sae.control(seed)))
    place, variables = ("feature", "choice"), {}
    for name, sign in (("raised", 1), ("lowered", -1)):
        best = (sign * own).topk(top, -1)
        words = [texts(lab.tokenizer, row) for row in best.indices.cpu()]
        variables[name] = (place, sign * best.values, SAID)
        variables[f"{name}_id"] = (place, best.indices, None)
        variables[f"{name}_text"] = (place, np.array(words, dtype=object).astype(str), None)
    variables["control"] = (place, control.topk(top, -1).values, SAID)
    attrs = {"model": lab.name, "reading": "features.says"} | described(sae)
    return label(variables, coords={"feature": chosen, "choice": range(top)}, attrs=attrs)


@public
@torch.no_grad()
def spliced(
    lab: Lab, prompt: str | Sequence[int] | torch.Tensor, sae: Dictionary, *, tokens: Tokens = None, seed: int = 0
) -> "xarray.Dataset":
    """What the model loses when the reconstruction takes the place of the stream.

    Args:
        prompt: text or ids, at least two tokens.
        tokens: where it does, negative from the end; None for all.
        seed: of the control, whose reconstruction is tried as well, as is the mean of what was replaced.

    Returns:
        Dataset: `loss` (splice, token), surprisal of the next token, NaN at the last; `divergence` (splice, token) from
        the model as it is. `attrs["recovered"]` is the share of the divergence that the mean brings and the
        reconstruction does not, from the first replaced token on: 1 loses nothing, 0 is no better than the mean, below
        0 worse; `attrs["control"]` that of the control.

    Raises:
        InputError: one token, or as `lab.trace`. BudgetError.
    """
    if isinstance(sae, Atoms):
        hint = "lab.edit(features.scale_atom(sae, feature, factor=0.0, at=12))"
        raise InputError("a stream is spliced", got=repr(sae), expected="a Dictionary", hint=hint)
    ids = lab.encode(prompt)
    rows = select(tokens, len(ids), "token")
    if len(ids) < 2:
        raise InputError("nothing follows that could be lost", got="1 token", expected="at least 2")
    parts = {"logits of two runs": 3 * 4 * len(ids) * lab.spec.vocab, "scratch": 3 * SCRATCH}
    admit("features.spliced", len(ids), parts, lab.device)
    sae.check(lab.spec)
    options = dict(layers=[sae.layer], seams=[sae.seam], logits="all")
    run = lab.trace(ids, **options)
    own = run.logits.float().log_softmax(-1)
    x = run.seams[sae.layer, sae.seam]
    mean = sae.wide(x[rows].flatten(1)).mean(0).view(x.shape[1:])
    edits = {"reconstruction": reconstruct(sae, tokens=rows), "control": reconstruct(sae.control(seed), tokens=rows)}
    edits["mean"] = edit.set(sae.seam, layer=sae.layer, value=mean, tokens=rows)
    columns = [_compared(own, own, ids)]
    for splice in SPLICES[1:]:
        with lab.edit(edits[splice]):
            said = lab.trace(ids, **options).logits.float().log_softmax(-1)
        columns.append(_compared(said, own, ids))
    loss, far = (torch.stack(values) for values in zip(*columns, strict=True))
    away = far[:, min(rows) :].mean(-1).tolist()
    recovered, by_control = (1 - one / away[3] if away[3] else float("nan") for one in away[1:3])
    variables = {"loss": (("splice", "token"), loss, LOSS), "divergence": (("splice", "token"), far, FAR)}
    coords = {"splice": list(SPLICES), "token": run.positions, "token_text": ("token", list(run.tokens))}
    attrs = {"model": lab.name, "reading": "features.spliced", "recovered": recovered, "control": by_control}
    return label(variables, coords=coords, attrs=attrs | described(sae))


def _logits(lab, directions):
    """Logits [row, vocab] above their mean; modules by `forward`, so that no hook of an edit acts."""
    raw = lab.unembedding.forward(lab.final_norm.forward(directions.to(lab.device, lab.dtype))).float()
    return raw - raw.mean(-1, keepdim=True)


def _compared(said, own, ids):
    """(surprisal of the next token, divergence) [token] of log-probabilities."""
    loss = said.new_full((len(ids),), float("nan"))
    loss[:-1] = -said[:-1].gather(-1, ids[1:, None].to(said.device))[:, 0]
    return loss.cpu(), (own.exp() * (own - said)).nan_to_num(0.0).sum(-1).cpu()
