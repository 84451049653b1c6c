"""Is a circuit so? Its heads are taken away, and as many others, and what the model then says is compared.

A circuit says how values flowed while all routing was held. Here a head hands on nothing (the seam before its output
projection is 0 at every token), the rest of the model goes on as it does, and the answer's logit falls by so much. If
the circuit names causes, heads that bring more make it fall more (rank correlation), and the drawn heads together do so
more than as many others. The control reads the same numbers off heads drawn by chance from those that the circuit
leaves out.

Models back each other up: a head may bring much and not be missed.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit import edit, stats
from labkit.arguments import whole
from labkit.attribution.frozen import asked
from labkit.attribution.graph import BROUGHT, circuit
from labkit.attribution.paths import difference
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, label

if TYPE_CHECKING:
    import xarray

NAME = "attribution.confirm"
FALL = Quantity("Δz", "how far the logit falls without it", "nat", "signed", "this run")
RANK = Quantity("ρ", "rank correlation of what heads bring and how far the logit falls without them", "1", "signed", "")
FEWEST = 3  # heads that have a rank correlation


@public
def confirm(
    lab: Lab,
    prompts: Iterable,
    *,
    of: Sequence[int | str],
    against: Sequence[int | str] | None = None,
    least: float = 0.05,
    draws: int = 4,
    seed: int = 0,
) -> "xarray.Dataset":
    """Circuits of several prompts, and what the model says without their heads and without others.

    Args:
        prompts: texts or ids, one after another. of, against, least: as of `attribution.circuit`, one per prompt.
        draws: sets of other heads per prompt, as many as are drawn each. seed: of these.

    Returns:
        Dataset over (sample, layer, reader), not-a-number where nothing was looked at: `brought`, what the reads of a
        head in the circuit bring; `fall` without it; `fall_other` without a head of the first set of others. Over
        (sample): `logit`; `together`, the fall without all drawn heads; `others` (sample, draw), without as many
        others; `order`, the rank correlation of `brought` and `fall`; `order_other`, the control: of `brought` and of
        the falls of others in their stead; `heads`, how many are drawn. Attributes are 95 % percentile intervals over
        the prompts, `order_interval` and, of `together` less the mean of the others, `more_interval`.

    Raises:
        InputError: no prompt, not as many answers. Else as `attribution.circuit`.
    """
    draws, seed = whole(draws, "draws", least=1), whole(seed, "seed", least=0)
    prompts, of = _listed(prompts, "prompts"), _listed(of, "of")
    foils = [None] * len(prompts) if against is None else _listed(against, "against")
    if not prompts or len(prompts) != len(of) or len(prompts) != len(foils):
        got = f"{len(prompts)} prompts, {len(of)} answers, {len(foils)} foils"
        raise InputError(f"{NAME}: one answer for each prompt", got=got, expected="as many of each, at least one")
    spec, rng = lab.spec, np.random.default_rng(seed)
    every = list(_heads(lab))
    shape = (len(prompts), spec.layers, max(head for _, head in every) + 1)
    brought, fall, fall_other = (np.full(shape, np.nan) for _ in range(3))
    rows = []
    for n, (prompt, answer, foil) in enumerate(zip(prompts, of, foils, strict=True)):
        ds = circuit(lab, prompt, of=answer, against=foil, least=least)
        named = _brought(ds)
        others = [place for place in every if place not in named]
        sets = [[others[i] for i in rng.permutation(len(others))[: len(named)]] for _ in range(draws)]
        run, _, ids, _ = asked(lab, prompt, answer, foil, -1, None, NAME)
        without = lambda heads, run=run, ids=ids: _without(lab, run, ids, heads)  # noqa: E731
        for place, value in named.items():
            brought[(n, *place)], fall[(n, *place)] = value, without([place])
        for place in sets[0]:
            fall_other[(n, *place)] = without([place])
        falls = [fall[(n, *place)] for place in named]
        swapped = [fall_other[(n, *place)] for place in sets[0]]
        ranks = [_rank(list(named.values()), each) for each in (falls, swapped)]
        rows.append([float(ds.logit), without(list(named)), [without(some) for some in sets], *ranks, len(named)])
    return _labelled(lab, (brought, fall, fall_other), rows, least)


def _listed(given, called):
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        what = f"{NAME}: one answer for each prompt"
        raise InputError(what, got=f"{called}={given!r}"[:80], expected="a list of each, as long as the other")
    return given.tolist() if hasattr(given, "tolist") else list(given)


def _heads(lab) -> Iterator[tuple[int, int]]:
    """(layer, head) of all value heads and query heads."""
    spec = lab.spec
    for layer in range(spec.layers):
        count = spec.value_heads if spec.kind(layer) == "deltanet" else spec.query_heads
        yield from ((layer, head) for head in range(count))


def _brought(ds):
    """`{(layer, head): what its reads bring}` of a circuit."""
    found = {}
    for n in np.flatnonzero(ds.part.values == "read"):
        place = int(ds.at_layer[n]), int(ds.at_head[n])
        found[place] = found.get(place, 0.0) + float(ds.flow[n])
    return found


def _without(lab, run, ids, heads):
    """How far the logit (difference) falls when these heads hand on nothing."""
    if not heads:
        return 0.0
    layers = {layer: [head for at, head in heads if at == layer] for layer, _ in heads}
    with lab.edit(*(edit.scale("gated", layer=layer, heads=some, factor=0.0) for layer, some in layers.items())):
        changed = lab.logits(run.ids[None])[0]
    return float(difference(run.logits[0], ids) - difference(changed, ids))


def _rank(one, other):
    from scipy.stats import spearmanr

    if len(one) < FEWEST or np.ptp(one) == 0 or np.ptp(other) == 0 or len(one) != len(other):
        return np.nan
    return float(spearmanr(one, other).statistic)


def _labelled(lab, grids, rows, least):
    columns = [np.array(column, dtype=float) for column in zip(*rows, strict=True)]
    logit, together, others, order, order_other, count = columns
    place = ("sample", "layer", "reader")
    variables = {
        "brought": (place, grids[0], BROUGHT),
        "fall": (place, grids[1], FALL),
        "fall_other": (place, grids[2], FALL),
        "logit": (("sample",), logit, "vocab_logit"),
        "together": (("sample",), together, FALL),
        "others": (("sample", "draw"), others, FALL),
        "order": (("sample",), order, RANK),
        "order_other": (("sample",), order_other, RANK),
        "heads": (("sample",), count.astype(int), None),
    }
    attrs = {"model": lab.name, "reading": NAME, "least": least}
    ds = label(variables, coords={"layer": range(lab.spec.layers)}, attrs=attrs)
    more = ds.together - ds.others.mean("draw")
    for name, values in (("order", ds.order), ("more", more)):
        ds.attrs[f"{name}_interval"] = [float(end) for end in stats.bootstrap(values)]
    return ds
