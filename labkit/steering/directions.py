"""A direction from two sets of prompts: the difference of their means, and whether chance would have made one as long.

Turner et al., arXiv 2308.10248; Rimsky et al., "Steering Llama 2 via Contrastive Activation Addition", arXiv
2312.06681. The control exchanges labels: the p value is the share of drawings whose means are as far apart.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label
from labkit.plan import admit
from labkit.steering.sites import DIRECTION, NORM, Prompt, Site, sites_of, values

if TYPE_CHECKING:
    import xarray

SOURCE = "arXiv 2312.06681"
GAP = Quantity("Δ", "distance of the two means, in mean norms of what is there", "1", "positive", SOURCE)
SPREAD = Quantity("σ", "deviation along the direction within a set, in the same unit", "1", "positive", SOURCE)
P = Quantity("p", "share of exchanged labels whose means are as far apart", "fraction", "fraction", SOURCE)
LEVEL = 0.05


@public
def difference(
    lab: Lab,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    *,
    layer: int | Sequence[int],
    seam: str = "resid_post",
    token: int = -1,
    heads: int | Sequence[int] | None = None,
    draws: int = 199,
    seed: int = 0,
) -> "xarray.Dataset":
    """The direction from the mean of some prompts to that of others.

    Args:
        positive, negative: prompts, texts or ids, at least two of each.
        layer: an int, or several for a first axis `layer`.
        seam: of `lab.spec.seams`, of either kind of layer; "v", the values of a DeltaNet layer before its convolution;
            or "state", its recurrent state after the token.
        token: where, relative to each prompt's first, negative from its end.
        heads: of a seam with heads, or of states; None for all.
        draws: of exchanged labels, by `seed`.

    Returns:
        Dataset: `direction`, of norm 1 over all axes of the seam; `norm`, the mean norm of what is there, which is the
        unit of a dose; `gap`, `spread` in this unit; `shuffled` (draw), gaps with exchanged labels, and `p`;
        `reproduced`, whether chance does as well (p above 0.05).

    Raises:
        InputError: too few prompts, a token or head out of range. LayerError: a seam that the layer does not have.
        BudgetError.
    """
    name = "steering.difference"
    draws, seed = whole(draws, "draws", least=1), whole(seed, "seed", least=0)
    sites, held, signs = gathered(lab, positive, negative, layer, seam, token, heads, name)
    shuffles = shuffled(signs, draws, seed)
    columns = {key: [] for key in ("direction", "norm", "gap", "spread", "shuffled", "p")}
    for rows in held:
        flat = rows.flatten(1)
        moved, norm = _weights(signs) @ flat, flat.norm(dim=1).mean().clamp(min=1e-30)
        gap = moved.norm()
        unit = moved / gap.clamp(min=1e-30)
        along = flat @ unit
        spread = torch.stack([along[signs == sign].var() for sign in (1, -1)]).mean().sqrt()
        others = (_weights(shuffles) @ flat).norm(dim=1)
        columns["direction"].append(unit.view(rows.shape[1:]))
        columns["norm"].append(norm)
        columns["gap"].append(gap / norm)
        columns["spread"].append(spread / norm)
        columns["shuffled"].append(others / norm)
        columns["p"].append((1 + (others >= gap * (1 - 1e-6)).sum()).double() / (1 + draws))
    stacked = {key: torch.stack(column) for key, column in columns.items()}
    quantities = dict(norm=NORM, gap=GAP, spread=SPREAD, p=P)
    variables = {
        "direction": (("layer", *sites[0].dims), stacked["direction"], DIRECTION),
        "shuffled": (("layer", "draw"), stacked["shuffled"], GAP),
        "reproduced": (("layer",), stacked["p"] > LEVEL, None),
    }
    variables |= {key: (("layer",), stacked[key], quantity) for key, quantity in quantities.items()}
    return labelled(lab, variables, sites, heads, dict(token=token, seed=seed, reading=name), layer)


def gathered(
    lab: Lab,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    layer: int | Sequence[int],
    seam: str,
    token: int,
    heads: int | Sequence[int] | None,
    name: str,
) -> tuple[list[Site], list[torch.Tensor], torch.Tensor]:
    """(sites, what is there [prompt, *shape of the heads] at each, signs [prompt], 1 or -1). Raises as `difference`."""
    two_sets(positive, negative, name)
    token = whole(token, "token")
    sites = sites_of(lab, layer, seam, name)
    chosen = [site.heads(heads) for site in sites]
    if len({(site.dims, site.shape) for site in sites}) > 1:
        got = f"{seam!r} of layers {[site.layer for site in sites]}"
        raise InputError(f"{name}: layers of one kind at a time", got=got, expected="a seam of one shape")
    prompts = [*positive, *negative]
    each = 4 * sum(int(torch.tensor(site.shape).prod()) for site in sites)
    longest = max(len(lab.encode(prompt)) for prompt in prompts)
    cheaper = [("one layer at a time", 3 * len(prompts) * each // len(sites))]
    admit(name, longest, {"what is there, three times": 3 * len(prompts) * each}, torch.device("cpu"), cheaper)
    there = values(lab, prompts, sites, token)
    held = [there[site] if some is None else there[site][:, some] for site, some in zip(sites, chosen, strict=True)]
    signs = torch.tensor([1.0] * len(positive) + [-1.0] * len(negative))
    return sites, held, signs


def two_sets(positive: Sequence[Prompt], negative: Sequence[Prompt], name: str) -> None:
    """Refuse what is not a list of two prompts or more on either side. Raises InputError."""
    for what, given in (("positive", positive), ("negative", negative)):
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) < 2 or is_index(given[0]):
            expected, got = "at least two prompts, as a list", f"{what}={given!r}"[:80]
            raise InputError(f"{name}: two sets of prompts", got=got, expected=expected)


def shuffled(signs: torch.Tensor, draws: int, seed: int) -> torch.Tensor:
    """Labels in random order, [draw, prompt]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([signs[torch.randperm(len(signs), generator=generator)] for _ in range(draws)])


def _weights(signs):
    """What makes a difference of means of rows."""
    plus, minus = (signs > 0).float(), (signs < 0).float()
    return plus / plus.sum(-1, keepdim=True) - minus / minus.sum(-1, keepdim=True)


def labelled(
    lab: Lab, variables: dict, sites: list[Site], heads: int | Sequence[int] | None, facts: dict, layer: object
) -> "xarray.Dataset":
    """The Dataset of directions; an int as `layer` drops its axis."""
    axis, chosen = sites[0].dims[0], sites[0].heads(heads)
    coords = {"layer": [site.layer for site in sites]}
    if axis != "channel":
        coords[axis] = list(range(sites[0].shape[0])) if chosen is None else chosen
    made = label(variables, coords=coords, attrs={"model": lab.name, "seam": sites[0].seam} | facts)
    return made.isel(layer=0) if is_index(layer) else made
