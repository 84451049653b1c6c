"""How full a state is, and how two states differ: singular values, ranks, principal angles.

For the singular values σ of a state [key, value], with p = σ²/Σσ²:

    stable rank      ‖S‖²/σ₁²           Rudelson and Vershynin 2007
    effective rank   exp(-Σ p ln p)     Roy and Vetterli 2007, there with p = σ/Σσ

1 ≤ stable rank ≤ effective rank ≤ min(dk, dv). The left singular vectors span what can be asked for. States come from
the chunk form; all heads and instants are decomposed in one batched call. Rank over time in a hybrid: arXiv 2602.02195.
"""

import torch

from labkit.deltanet.equation import grouped
from labkit.deltanet.readings import inputs, proof, tiles
from labkit.errors import InputError
from labkit.notation import label, select

SMALL = 1e-5  # singular values below this share of the largest span nothing


def ranks(singular):
    """(stable rank, effective rank) from singular values [..., mode], largest first."""
    power = singular.square()
    total = power.sum(-1, keepdim=True).clamp(min=1e-30)
    share = power / total
    entropy = -(share * share.clamp(min=1e-30).log()).sum(-1)
    return (total / power[..., :1].clamp(min=1e-30))[..., 0], entropy.exp()


def states(run, layer, tokens):
    """States after these tokens [step, head, key, value], and the facts of their proof against the model's reads."""
    x = inputs(run, layer)
    held = {}
    for first, count, part in tiles(x, outputs=False):
        held |= {t: part.state_after(t - first) for t in tokens if first <= t < first + count}
    found = torch.stack([held[t] for t in tokens])
    read = torch.einsum("nhkv,nhk->nhv", found, grouped(x.q[tokens], x.v.shape[1]))
    return found, proof(run, layer, "deltanet.spectrum", read, run.seams[layer, "read"][tokens])


def spectrum(run, *, layer, tokens=None, heads=None):
    """Singular values and ranks of the states at some tokens.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer.
        tokens: where, relative to the run's first token; None for at most 64 places, evenly spaced, the last included.
        heads: value heads; None for all.

    Returns:
        Dataset: `singular` (token, head, mode), largest first; `stable_rank`, `effective_rank`, `state_norm` (token,
        head). The squares of the singular values sum to that of the norm.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    run.require(layer, "deltanet", "deltanet.spectrum", "attention.pattern")
    heads = select(heads, run.spec.value_heads, "head")
    count = len(run)
    spaced = range(count - 1, -1, -max(1, -(-count // 64)))
    at = sorted(spaced) if tokens is None else select(tokens, count, "token")
    found, facts = states(run, layer, at)
    singular = torch.linalg.svdvals(found[:, heads])
    stable, effective = ranks(singular)
    values = {
        "singular": (("token", "head", "mode"), singular),
        "stable_rank": (("token", "head"), stable),
        "effective_rank": (("token", "head"), effective),
        "state_norm": (("token", "head"), singular.square().sum(-1).sqrt()),
    }
    coords = {"token": run.positions[at], "token_text": ("token", [run.tokens[t] for t in at])}
    coords |= {"head": heads, "mode": range(singular.shape[-1])}
    return label(values, coords=coords, attrs=facts)


def state_difference(run, other, *, layer, token=-1, heads=None, modes=4):
    """How the state of one run differs from that of another, and what the difference says to the model's own query.

    Args:
        run, other: runs of the same model with this layer's seams qkv, a, b and read; compared at `token` of each,
            which should be the same token of a common suffix.
        modes: principal angles between the strongest so many key directions of both.

    Returns:
        Dataset: over head `difference` ‖S-S'‖/‖S'‖ and `readout` ‖(S-S')ᵀq̃‖ with the query of `other` at that token;
        `angle` (head, mode) in degrees, smallest first; NaN beyond the rank of a state.

    Raises:
        LayerError, SeamError, ParityError; InputError: runs of models of different shape.
    """
    run.require(layer, "deltanet", "deltanet.state_difference", "attention.pattern")
    if run.spec != other.spec:
        raise InputError("two runs of different models", got=f"{run.model} and {other.model}", expected="one model")
    heads = select(heads, run.spec.value_heads, "head")
    pair, queries = [], None
    for one in (run, other):
        (t,) = select(token, len(one), "token")
        held, facts = states(one, layer, [t])
        pair.append(held[0])
        queries = grouped(inputs(one, layer).q[t : t + 1], run.spec.value_heads)[0]
    gap = pair[0] - pair[1]
    angles = torch.stack([_angles(*both, modes) for both in zip(*pair, strict=True)])
    values = {
        "difference": (("head",), gap.flatten(1).norm(dim=1) / pair[1].flatten(1).norm(dim=1).clamp(min=1e-30)),
        "readout": (("head",), torch.einsum("hkv,hk->hv", gap, queries).norm(dim=-1)),
        "angle": (("head", "mode"), angles),
    }
    data = label(values, coords={"head": range(run.spec.value_heads), "mode": range(angles.shape[-1])}, attrs=facts)
    return data.isel(head=heads).assign_attrs(reading="deltanet.state_difference")


def _angles(one, other, modes):
    """Principal angles [modes] in degrees between the strongest key directions of two states; NaN beyond their ranks.

    From sines as well as cosines, because a cosine near 1 says nothing about a small angle (Björck and Golub 1973).
    """
    found = []
    for state in (one.double(), other.double()):
        left, singular, _ = torch.linalg.svd(state, full_matrices=False)
        found.append(left[:, : min(modes, int((singular > SMALL * singular[0]).sum()))])
    a, b = sorted(found, key=lambda keys: -keys.shape[1])  # the wider one first: as many angles as the narrower has
    cosines = torch.linalg.svdvals(a.T @ b)
    sines = torch.linalg.svdvals(b - a @ (a.T @ b)).flip(0)
    angles = torch.rad2deg(torch.atan2(sines, cosines)).float()
    return torch.nn.functional.pad(angles, (0, modes - len(angles)), value=float("nan"))
