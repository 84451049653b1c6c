"""The readings of routers (arXiv 1701.06538): the choices of every token, and the load of every expert."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from labkit.errors import InputError
from labkit.experts.routing import SEAMS, chosen_cost, load_cost, routing
from labkit.notation import MOE, Quantity, label, select
from labkit.reading import axis, reading
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

BALANCE = "arXiv 2101.03961 eq. 5"
MASS = Quantity("Σp", "router probability of the chosen experts together", "fraction", "fraction", MOE)
UNSURE = Quantity("H", "entropy of the router's probabilities", "nat", "positive", MOE)
LOAD = Quantity("f", "share of all choices that fall on the expert", "fraction", "fraction", BALANCE)
WEIGHT = Quantity("Σw", "share of all weights that fall on the expert", "fraction", "fraction", BALANCE)
SPREAD = Quantity("e^H", "experts that the load is spread over", "experts", "positive", BALANCE)
OUTSIDE = Quantity("n/E", "share of experts whose load no even router gives", "fraction", "fraction", BALANCE)
LEVEL = 0.95
INSTEAD = 'lab.trace("red fox").seams[{layer}, "mlp_out"]'


@reading("experts", seams=SEAMS, instead=INSTEAD, cost=chosen_cost)
def chosen(run: Run, *, layer: int | Sequence[int], rows: int | Sequence[int] | None = None) -> "xarray.Dataset":
    """Which experts every token was given to, and with what weights.

    Args:
        run: `Run` with the seams router, routed and chosen of this layer.
        layer: any layer, or several. rows: tokens, relative to the run's first; None for all.

    Returns:
        Dataset: `expert` and `weight` (token, choice), heaviest first, weights sum to 1; `mass` (token), the
        probability of the chosen ones, by which their weights were divided; `entropy` (token) of all probabilities.

    Raises:
        LayerError: a model without experts. SeamError, ParityError, InputError.
    """
    rows = select(rows, len(run), "token")
    routed = routing(run, layer, "experts.chosen")
    variables = {
        "expert": (("token", "choice"), routed.chosen[rows], "chosen"),
        "weight": (("token", "choice"), routed.weights[rows], "routed"),
        "mass": (("token",), routed.mass[rows], MASS),
        "entropy": (("token",), routed.entropy[rows], UNSURE),
    }
    coords = axis(run, "token", rows) | {"choice": range(routed.chosen.shape[-1])}
    return label(variables, coords=coords, attrs=routed.parity)


@reading("experts", seams=SEAMS, instead=INSTEAD, cost=load_cost)
def load(
    run: Run,
    *,
    layer: int | Sequence[int],
    segments: Sequence[str] | Mapping[str, Sequence[int]] | None = None,
) -> "xarray.Dataset":
    """How often each expert is chosen, by kind of token if these are given, beside what an even router would give.

    A router that chooses k of E experts evenly, and for every token anew, gives an expert Binomial(n, k/E) of n tokens.
    Tokens of a text are not drawn apart from each other, so `outside` above 1 - 0.95 is no proof of an uneven router;
    what differs between kinds of token of one text is.

    Args:
        run: `Run` with the seams router, routed and chosen of this layer.
        layer: any layer, or several.
        segments: the kind of every token, by name; or `{kind: tokens}`, relative to the run's first, which may overlap.

    Returns:
        Dataset: `share` and `weight` (expert), of all choices and of their weights, each sums to 1; `even`, 1/E; `low`
        and `high`, between which an even router's share lies in 95 % of runs; `outside`, the share of experts beyond
        them; `spread`, e^H of the shares, E if they are even; `tokens`, how many were counted. With `segments` all but
        `even` have a first axis `segment`.

    Raises:
        LayerError: a model without experts. SeamError, ParityError, InputError.
    """
    from scipy.stats import binom

    groups = _groups(segments, len(run))
    routed, (experts, k) = routing(run, layer, "experts.load"), (run.spec.experts, run.spec.active_experts)
    columns: dict[str, list] = {name: [] for name in ("share", "weight", "low", "high", "outside", "spread", "tokens")}
    for tokens in groups.values():
        count, choices = len(tokens), routed.chosen[tokens].flatten()
        times = choices.bincount(minlength=experts)
        weights = choices.bincount(routed.weights[tokens].double().flatten(), minlength=experts) / count
        low, high = (int(binom.ppf(q, count, k / experts)) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        beyond = float(((times < low) | (times > high)).float().mean())
        share = times / (count * k)
        spread = float(torch.special.entr(share).sum().exp())
        found = (share, weights.float(), low / (count * k), high / (count * k), beyond, spread, count)
        for name, value in zip(columns, found, strict=True):
            columns[name].append(value)
    first = () if segments is None else ("segment",)
    quantities = {"weight": WEIGHT, "outside": OUTSIDE, "spread": SPREAD, "tokens": None}
    variables = {"even": ((), torch.tensor(1 / experts), LOAD)}
    for name, values in columns.items():
        dims = ("expert",) if isinstance(values[0], torch.Tensor) else ()
        whole = torch.stack(values) if dims else torch.tensor(values)
        variables[name] = ((*first, *dims), whole if first else whole[0], quantities.get(name, LOAD))
    coords = {"expert": range(experts)} | ({"segment": list(groups)} if first else {})
    return label(variables, coords=coords, attrs=routed.parity)


def _groups(segments, length):
    """`{kind: tokens}`."""
    if segments is None:
        return {"all": list(range(length))}
    if isinstance(segments, Mapping):
        groups = {str(name): select(tokens, length, "token") for name, tokens in segments.items()}
    else:
        if isinstance(segments, str) or len(segments) != length:
            got = "a text" if isinstance(segments, str) else f"{len(segments)} names"
            hint = 'experts.load(run, layer=0, segments=["word" if t.isalpha() else "sign" for t in run.tokens])'
            raise InputError("one kind of every token", got=got, expected=f"{length} names", hint=hint)
        groups = {}
        for token, name in enumerate(segments):
            groups.setdefault(str(name), []).append(token)
    if not groups:
        raise InputError("no kinds of token", got="segments is empty", expected="one name or more")
    return groups
