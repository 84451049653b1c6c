"""The logit lens: what the model would say at every layer, if the stream went from there straight to the way out.

nostalgebraist, "interpreting GPT: the logit lens" (2020); `Belrose et al., arXiv 2303.08112` measure how far it can be
trusted: early layers speak in another basis, so a layer at which it says nothing may well know the answer.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.plan import admit
from labkit.reading import axis
from labkit.residual import costs
from labkit.residual.lenses import STREAMS, Lens, taken
from labkit.residual.stream import Answers, answers, check_lab, logits, proof
from labkit.spec.memory import dtype_bytes
from labkit.trace import Run, texts

if TYPE_CHECKING:
    import xarray

LENS = "arXiv 2303.08112"
SAID = Quantity("p", "probability that the lens gives a token", "fraction", "fraction", LENS)
RANK = Quantity("rank", "tokens that the lens finds likelier", "tokens", "positive", LENS)
LOGIT = Quantity("z", "logit that the lens gives a token", "nat", "signed", LENS)
UNSURE = Quantity("H", "entropy of what the lens says", "nat", "positive", LENS)
FAR = Quantity("KL", "divergence of what the lens says from what the model says", "nat", "positive", LENS)


@public
@torch.no_grad()
def lens(
    run: Run,
    lab: Lab,
    *,
    layers: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    of: Answers | None = None,
    top: int = 5,
    seam: str | None = None,
    by: Lens | None = None,
) -> "xarray.Dataset":
    """What the stream says after every layer, at every token.

    Args:
        run: `Run` with the seam of these layers, and with the last layer's `resid_post`, from which the model itself
            reads its logits: parity is that of the two.
        lab: the lab it came from, for the final norm and the unembedding. The run may have been made under edits.
        layers: None for all. tokens: that speak, relative to the run's first; None for all.
        of: answers to follow: token ids, or texts of one token.
        top: how many of the likeliest tokens to name.
        seam: which stream: "resid_post" after the layer, "resid_pre" before it (of layer 0 the embeddings); None the
            first, or the one that `by` maps.
        by: a fitted lens to read through, at the layers that it maps; None is the logit lens.

    Returns:
        Dataset over layer and token (an int drops its axis): `best` token ids, `text`, `probability` (choice);
        `entropy`, and `divergence` from what the model says at the token; with `of` `answer_probability`,
        `answer_logit` and `answer_rank` (answer), where rank 0 is the likeliest.

    Raises:
        InputError: another model's run, an answer of several tokens, a layer or token out of range. SeamError: a seam
            that was not kept. ParityError: a lab that does not read the run as its model did. BudgetError.
    """
    check_lab(run, lab, "residual.lens")
    if seam not in (None, *STREAMS):
        raise InputError("residual.lens reads the stream", got=f"seam {seam!r}", expected=" or ".join(STREAMS))
    spec, top = run.spec, whole(top, "top", least=1, most=run.spec.vocab)
    (chosen, seam, read), rows = taken(by, lab, layers, seam, "residual.lens"), select(tokens, len(run), "token")
    ids, names = ([], []) if of is None else answers(lab, of, "residual.lens")
    step, width = costs.step(spec), dtype_bytes(lab.dtype)
    parts, one = (costs.lens_parts(spec, n, len(rows), len(ids), top, width) for n in (len(chosen), 1))
    parts["map of a layer"] = 0 if by is None else 8 * spec.hidden**2
    admit("residual.lens", len(run), parts, lab.device, [("layers=[-1]", sum(one.values()))])
    facts, final = proof(run, lab, "residual.lens"), run.seams[spec.layers - 1, "resid_post"][rows]
    columns = {name: [] for name in ("best", "probability", "entropy", "divergence", "logit", "rank", "chance")}
    for layer in chosen:
        stream = run.seams[layer, seam][rows]
        stream = stream if by is None else by.carry(stream.to(lab.device), layer)
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            raw, own = (logits(lab, each[part]).float() for each in (stream, final))
            for name, values in _columns(raw, own.log_softmax(-1), ids, top):
                columns[name].append(values.cpu())
    grid = lambda name: torch.cat(columns[name]).view(len(chosen), len(rows), *columns[name][0].shape[1:])  # noqa: E731
    place, best = ("layer", "token"), grid("best")
    said = [texts(lab.tokenizer, row) for row in best.flatten(0, 1)]
    variables = {
        "best": ((*place, "choice"), best, None),
        "text": ((*place, "choice"), _array(said, best.shape), None),
        "probability": ((*place, "choice"), grid("probability"), SAID),
        "entropy": (place, grid("entropy"), UNSURE),
        "divergence": (place, grid("divergence"), FAR),
    }
    coords = {"layer": chosen, **axis(run, "token", rows), "choice": range(top)}
    if ids:
        followed = zip(("answer_probability", "answer_logit", "answer_rank"), ("chance", "logit", "rank"), strict=True)
        quantities = SAID, LOGIT, RANK
        for (name, column), quantity in zip(followed, quantities, strict=True):
            variables[name] = ((*place, "answer"), grid(column), quantity)
        coords |= {"answer": names, "answer_id": ("answer", ids)}
    attrs = {"model": run.model, "reading": "residual.lens", "seam": seam} | read | facts
    made = label(variables, coords=coords, attrs=attrs)
    kept = {"layer": layers, "token": tokens}
    return made.isel({name: 0 for name, given in kept.items() if given is not None and is_index(given)})


lens.plans = costs.lens


def _columns(raw, own, ids, top) -> Iterator[tuple[str, torch.Tensor]]:
    """What is kept of logits [row, vocab], beside the model's own log-probabilities of the same rows."""
    said = raw.log_softmax(-1)
    best = said.topk(top, -1)
    yield "best", best.indices
    yield "probability", best.values.exp()
    yield "entropy", -(said.exp() * said).nan_to_num(0.0).sum(-1)
    yield "divergence", (own.exp() * (own - said)).nan_to_num(0.0).sum(-1)
    if ids:
        followed = said[:, ids]
        yield "chance", followed.exp()
        yield "logit", raw[:, ids]
        yield "rank", torch.stack([(said > column[:, None]).sum(-1) for column in followed.T], -1)


def _array(rows, shape):
    return np.array(rows, dtype=object).astype(str).reshape(shape)
