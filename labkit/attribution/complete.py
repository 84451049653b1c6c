"""Exact attribution: a logit as the sum of what embeddings and cache bring to it through the frozen network.

    logit = Σ_j ⟨∂logit/∂e_j, e_j⟩ + what the cache brings          one backward pass

and at every layer the same for the stream there: nothing is lost on the way. The sum is compared with the model's own
logit (parity) and with the frozen network's (`residual`, which is rounding alone).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.attribution import costs
from labkit.attribution.frozen import HELD, Frozen, asked, by_reader, proof
from labkit.attribution.wide import in_float32
from labkit.cache import Snapshot
from labkit.calling import public
from labkit.errors import BackendError
from labkit.lab import Lab
from labkit.notation import Quantity, label
from labkit.pictures import Seen
from labkit.reading import axis
from labkit.residual.stream import Answers

if TYPE_CHECKING:
    import xarray

NAME = "attribution.exact"
SOURCE = "gradient times input, gates held; arXiv 2202.07304"
BROUGHT = Quantity("c", "what comes to the logit from here, all routing held", "nat", "signed", SOURCE)
BRANCHES = {"mixer": "mixer_out", "mlp": "mlp_out"}


@public
@torch.enable_grad()
def exact(
    lab: Lab,
    prompt: str | Sequence[int] | torch.Tensor,
    *,
    of: Answers,
    against: Answers | None = None,
    token: int = -1,
    snap: Snapshot | None = None,
    wide: bool = False,
) -> "xarray.Dataset":
    """What of a logit came from which token, layer, branch, head and part of the cache.

    Args:
        prompt: text or ids; with `snap` those that follow it.
        of: the answer, a token id or a text of one token. against: another: then the difference of their logits.
        token: that answers, relative to the prompt's first.
        snap: a snapshot to continue from; what it holds becomes a source of its own.
        wide: of a model in a half precision: by a copy of its weights in float32, which takes as much again and more,
            and adds up to its own logit; `rounding` is how far that is from the model's, in nat.

    Returns:
        Dataset: `embedding` (source), by token of the prompt, and `cached` (layer, held), what states, convolution
        windows and values of the cache bring: together the `logit`. `stream` (layer, source), by token at each layer's
        input: with what the cache brings from that layer on, the logit again. `branch` (layer, term, source), what
        leaves mixer and MLP at each token. `read` (layer, reader, source), what heads hand to their output projection
        there; `stored` (layer, reader, source), what the value of each token brings through the head. Readers are value
        heads or query heads; layers of the kind with fewer have not-a-number in the others. The attribute `residual` is
        how far the sum is from the frozen network's logit.

    Raises:
        InputError: an answer of several tokens, a token out of range. ParityError: a sum that is not the model's logit.
            BudgetError. BackendError: weights without slopes.
    """
    if wide:
        return in_float32(exact, lab, prompt, NAME, of=of, against=against, token=token, snap=snap)
    run, at, ids, name = asked(lab, prompt, of, against, token, snap, NAME)
    frozen = Frozen(lab, run)
    # What the mixers make of an empty cache is replaced.
    said, crossed = frozen.flow(at, ["resid_pre", *BRANCHES.values()], prompt if isinstance(prompt, Seen) else None)
    signs = torch.tensor([1.0, -1.0])[: len(ids)].to(said)
    logit, own = ((each[ids] * signs).sum() for each in (said, run.logits[0]))
    if not logit.requires_grad:
        what, expected = f"{NAME}: no slope passes the unembedding of this model", "weights that PyTorch derives"
        raise BackendError(
            what, got=type(lab.unembedding).__name__, expected=expected, hint="load it unpacked, in bfloat16"
        )
    return _labelled(run, frozen, _brought(logit, crossed, frozen), logit.detach(), own, name)


exact.plans = costs.exact


def _brought(logit: torch.Tensor, crossed: dict, frozen: Frozen) -> dict:
    """`{place: slope times value}`, summed: of seams by token, of heads' values and what they mix by token and head, of
    what came from the cache as a number."""
    leaves = crossed | frozen.cached
    for what, tensors in (("stored", frozen.values), ("read", frozen.mixed)):
        leaves |= {(layer, what): tensor for layer, tensor in tensors.items()}
    slopes = torch.autograd.grad(logit, list(leaves.values()), materialize_grads=True)
    brought = {}
    for (place, value), slope in zip(leaves.items(), slopes, strict=True):
        whole = (value.detach() * slope).to(frozen.wide)
        kept = 0 if place in frozen.cached else 2 if place[1] in ("stored", "read") else 1
        whole = whole.reshape(len(frozen.run), -1) if kept == 1 else whole
        brought[place] = whole.flatten(kept).sum(-1)
    return brought


def _labelled(run, frozen, brought, logit, own, name):
    layers, none = range(run.spec.layers), torch.zeros((), dtype=frozen.wide, device=frozen.lab.device)
    heads = lambda what: by_reader(run, {layer: brought[layer, what][-len(run) :] for layer in layers})  # noqa: E731
    cached = torch.stack([torch.stack([brought.get((layer, what), none) for what in HELD]) for layer in layers])
    embedding = brought[0, "resid_pre"]
    summed = embedding.sum() + cached.sum()
    facts = proof(run, NAME, summed - own) | {"residual": float((summed - logit).abs()), "answer": name}
    branch = torch.stack([torch.stack([brought[layer, seam] for seam in BRANCHES.values()]) for layer in layers])
    variables = {
        "embedding": (("source",), embedding, BROUGHT),
        "cached": (("layer", "held"), cached, BROUGHT),
        "stream": (("layer", "source"), torch.stack([brought[layer, "resid_pre"] for layer in layers]), BROUGHT),
        "branch": (("layer", "term", "source"), branch, BROUGHT),
        "read": (("layer", "reader", "source"), heads("read"), BROUGHT),
        "stored": (("layer", "reader", "source"), heads("stored"), BROUGHT),
        "logit": ((), own, "vocab_logit"),
    }
    coords = {"layer": list(layers), "term": list(BRANCHES), "held": list(HELD), **axis(run, "source")}
    return label(variables, coords=coords, attrs={"model": run.model, "reading": NAME} | facts)
