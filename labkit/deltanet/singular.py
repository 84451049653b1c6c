"""How full a state is, and how two states differ: singular values, ranks, principal angles.

For the singular values σ of a state [key, value], with p = σ²/Σσ²:

    stable rank      ‖S‖²/σ₁²           Rudelson and Vershynin 2007
    effective rank   exp(-Σ p ln p)     Roy and Vetterli 2007, there with p = σ/Σσ

1 ≤ stable rank ≤ effective rank ≤ min(dk, dv). The left singular vectors span what can be asked for. States come from
the chunk form; all heads and instants are decomposed together (`bisection`). Rank over time in a
hybrid: arXiv 2602.02195.
"""

from collections.abc import Sequence

import torch

from labkit import stats
from labkit.calling import check_ends
from labkit.deltanet import costs
from labkit.deltanet.bisection import singular_values
from labkit.deltanet.equation import grouped
from labkit.deltanet.recompute import SEAMS, one_token, walk
from labkit.errors import InputError
from labkit.notation import label, select
from labkit.reading import axis, reading
from labkit.trace import Run

SMALL = 1e-5  # singular values below this share of the largest span nothing


def ranks(singular: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(stable rank, effective rank) from singular values [..., mode], largest first."""
    power = singular.square()
    total = power.sum(-1, keepdim=True).clamp(min=1e-30)
    share = power / total
    entropy = -(share * share.clamp(min=1e-30).log()).sum(-1)
    return (total / power[..., :1].clamp(min=1e-30))[..., 0], entropy.exp()


@reading("deltanet", seams=SEAMS, instead="attention.pattern(run, layer={layer})", cost=costs.spectrum)
def spectrum(
    run: Run,
    *,
    layer: int | Sequence[int],
    tokens: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
) -> "xarray.Dataset":  # noqa: F821
    """Singular values and ranks of the states at some tokens.

    Args:
        run: `Run` with the seams qkv, a, b and read of this layer.
        layer: a DeltaNet layer, or several.
        tokens: where, relative to the run's first token, negative from its end; None for at most 64 places, evenly
            spaced, the last included.
        heads: value heads; None for all.

    Returns:
        Dataset: `singular` (head, token, mode), largest first; `stable_rank`, `effective_rank`, `state_norm` (head,
        token). The squares of the singular values sum to that of the norm. The attribute `places` says how many tokens
        were taken, and how.

    Raises:
        LayerError, SeamError, ParityError, InputError.
    """
    heads, count = select(heads, run.spec.value_heads, "head"), len(run)
    at = costs.spaced(count) if tokens is None else select(tokens, count, "token")
    walked = walk(run, layer, "deltanet.spectrum", at=at, reads=False)
    singular = singular_values(walked.states[:, heads]).transpose(0, 1)
    stable, effective = ranks(singular)
    values = {
        "singular": (("head", "token", "mode"), singular, "singular"),
        "stable_rank": (("head", "token"), stable, "stable_rank"),
        "effective_rank": (("head", "token"), effective, "effective_rank"),
        "state_norm": (("head", "token"), singular.square().sum(-1).sqrt(), "state_norm"),
    }
    coords = {**axis(run, "token", at), "head": heads, "mode": range(singular.shape[-1])}
    places = stats.share_text(len(at), count, "evenly spaced" if tokens is None else "chosen")
    return label(values, coords=coords, attrs=walked.parity | {"places": places})


@reading(
    "deltanet",
    seams=SEAMS,
    instead="attention.pattern(run, layer={layer})",
    cost=costs.state_difference,
    least={"modes": 1},
)
def state_difference(
    run: Run,
    other: Run,
    *,
    layer: int | Sequence[int],
    token: int = -1,
    heads: int | Sequence[int] | None = None,
    modes: int = 4,
    ends: str = "same",
) -> "xarray.Dataset":  # noqa: F821
    """How the state of one run differs from that of another, and what the difference says to the model's own query.

    Args:
        run, other: runs of the same model with this layer's seams qkv, a, b and read; compared at `token` of each.
        layer: a DeltaNet layer, or several. token: relative to each run's first token, negative from its end.
        heads: value heads; None for all.
        modes: principal angles between the strongest so many key directions of both.
        ends: "same" asks that both are at the same token there, of a common suffix; "any" compares all the same. What
            a token writes itself is in the difference then.

    Returns:
        Dataset: over head `difference` ‖S-S'‖/‖S'‖ and `readout` ‖(S-S')ᵀq̃‖ with the query of `other` at that token;
        `angle` (head, mode) in degrees, smallest first; NaN beyond the rank of a state. Parity is the worse of both.

    Raises:
        LayerError, SeamError, ParityError; InputError: runs of models of different shape, or at different tokens.
    """
    if differing := run.spec.differing(other.spec):
        got = f"{run.model} and {other.model}, other {', '.join(differing)}"
        raise InputError("two runs of different models", got=got, expected="one shape")
    heads = select(heads, run.spec.value_heads, "head")
    hint = f"deltanet.state_difference(run, run, layer={layer}, token=-1)"
    places = [one_token(each, token, hint) for each in (run, other)]
    check_ends(
        [(each.ids[t], each.tokens[t]) for each, t in zip((run, other), places, strict=True)],
        ends,
        "deltanet.state_difference",
        f'deltanet.state_difference(run, other, layer={layer}, token={token}, ends="any")',
    )
    walks = [
        walk(each, layer, "deltanet.state_difference", at=[t], reads=False)
        for each, t in zip((run, other), places, strict=True)
    ]
    first, second = (walked.states[0, heads] for walked in walks)
    query = grouped(walks[1].x.q[places[1:]], run.spec.value_heads)[0, heads]
    gap = first - second
    angles = torch.stack([_angles(*pair, modes) for pair in zip(first, second, strict=True)])
    size = second.flatten(1).norm(dim=1).clamp(min=1e-30)
    values = {
        "difference": (("head",), gap.flatten(1).norm(dim=1) / size, "difference"),
        "readout": (("head",), torch.einsum("hkv,hk->hv", gap, query).norm(dim=-1), "readout"),
        "angle": (("head", "mode"), angles, "angle"),
    }
    parity = max((walked.parity for walked in walks), key=lambda facts: facts["parity"])
    return label(values, coords={"head": heads, "mode": range(angles.shape[-1])}, attrs=parity)


def _angles(first, second, modes):
    """Principal angles [modes] in degrees between the strongest key directions of two states; NaN beyond their ranks.

    From sines as well as cosines, because a cosine near 1 says nothing about a small angle (Björck and Golub 1973).
    """
    directions = []
    for state in (first.double(), second.double()):
        left, singular, _ = torch.linalg.svd(state, full_matrices=False)
        directions.append(left[:, : min(modes, int((singular > SMALL * singular[0]).sum()))])
    a, b = sorted(directions, key=lambda keys: -keys.shape[1])  # the wider one first: as many angles as the narrower
    cosines = torch.linalg.svdvals(a.T @ b)
    sines = torch.linalg.svdvals(b - a @ (a.T @ b)).flip(0)
    angles = torch.rad2deg(torch.atan2(sines, cosines)).float()
    return torch.nn.functional.pad(angles, (0, modes - len(angles)), value=float("nan"))
