"""What the router of a layer computes from its logits ℓ, recomputed and compared with what it returned.

    p = softmax ℓ over all experts, in float32        chosen  the k largest p        w = p / Σ p over the chosen

Source: `Qwen3_5MoeTopKRouter.forward`; sparse gating: arXiv 1701.06538. Two experts of one probability may be chosen in
either order, and in 16 bits many are of one: so it is not the numbers of the experts that are compared, but whether the
experts that were chosen have the k largest probabilities, and the weights that follow from theirs.
"""

import dataclasses

import torch

from labkit.plan import Cost
from labkit.reading import Request
from labkit.trace import Run

SEAMS = ("router", "chosen", "routed")


@dataclasses.dataclass(frozen=True)
class Routing:
    """The choices of a layer, proven.

    Attributes:
        chosen: [token, choice] numbers of the experts, heaviest first. weights: [token, choice], sum 1, as recomputed.
        mass: [token] probability of the chosen experts together. entropy: [token] of all probabilities, nat.
        parity: `{"parity": ..., "tolerance": ...}` of the weights, for a dataset's attributes.
    """

    chosen: torch.Tensor
    weights: torch.Tensor
    mass: torch.Tensor
    entropy: torch.Tensor
    parity: dict


def routing(run: Run, layer: int, name: str) -> Routing:
    """What the router of a layer chose.

    Raises:
        SeamError, ParityError: an edit of the weights, or a router that chooses in another way.
    """
    logits, chosen, routed = (run.seams[layer, seam] for seam in SEAMS)
    probabilities = logits.float().softmax(-1)
    taken = probabilities.gather(-1, chosen)
    best = probabilities.topk(chosen.shape[-1], -1).values
    entropy = torch.special.entr(probabilities).sum(-1)
    mass = taken.sum(-1)
    weights = taken / mass[:, None]
    checks = [run.check_parity(layer, name, weights, routed)]
    checks.append(run.check_parity(layer, f"{name} choice", best / best.sum(-1, keepdim=True), routed))
    parity = max(checks, key=lambda facts: facts["parity"])
    run.parity[layer, name] = parity["parity"]
    return Routing(chosen, weights, mass, entropy, parity)


def scratch(request: Request) -> int:
    """Bytes of the probabilities and one more such tensor, and of the choices, on the way."""
    spec = request.spec
    copied = 4 if request.width < 4 else 0  # logits in float32
    return request.tokens * ((8 + copied) * spec.experts + 16 * spec.active_experts)


def chosen_cost(request: Request) -> Cost:
    """Two numbers of each choice and two of each token."""
    return Cost(request.rows * (12 * request.spec.active_experts + 8), scratch(request))


def load_cost(request: Request) -> Cost:
    """Two numbers of each expert and seven more, of each segment."""
    segments = request.options.get("segments")
    names = 1 if segments is None else len(segments if isinstance(segments, dict) else set(map(str, segments)))
    return Cost(names * (8 * request.spec.experts + 28) + 4, scratch(request))
