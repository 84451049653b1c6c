"""Joint knock-outs: what several parts do that none of them does alone, since models back themselves up.

A part that is knocked out may be missed by nobody, because another does its work then; only without both is the answer
gone. `knockout_pairs` knocks out parts by pairs,

    interaction = effect of both - effect of one - effect of the other      above 0: they back each other up

and `knockout_greedy` lets a set grow by whatever hurts most, beside sets of as many parts that were drawn.

Backup heads: Wang et al., arXiv 2211.00593; self-repair: McGrath et al., arXiv 2307.15771.
"""

import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit.arguments import number, whole
from labkit.attribution.cells import Place, head_count, questions
from labkit.attribution.evidence import checked, with_statistics
from labkit.attribution.patching import LOST, RIGHT, labelled, measured
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label
from labkit.residual.stream import Answers

if TYPE_CHECKING:
    import xarray
    from distributed import Client

PAIRS, GREEDY = "attribution.knockout_pairs", "attribution.knockout_greedy"
TOGETHER = Quantity("Δ_ij - Δ_i - Δ_j", "loss of both beyond the sum of each", "1", "signed", "arXiv 2307.15771")
Parts = Sequence[tuple[int, int]] | Mapping[str, Sequence[tuple[int, int | None]]] | None


@public
def knockout_pairs(
    lab: Lab,
    prompts: Iterable,
    *,
    of: Answers,
    against: Answers,
    parts: Parts = None,
    put: str = "zero",
    correction: str = "holm",
    seed: int = 0,
    batch: int | None = None,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> "xarray.Dataset":
    """Knock out parts alone and by pairs, over prompts.

    Args:
        prompts, of, against, put, correction, seed, batch: as of `attribution.patch_sweep`, with `put` "zero" or
            "mean".
        parts: what is knocked out at once, `{name: [(layer, head), ...]}`, head None for a whole mixer; or a list of
            (layer, head), each a part; None for all heads of all layers.
        store, client, progress: as of `attribution.patch_sweep`.

    Returns:
        Dataset: `lost` (sample, part, other_part), the share of the answer's lead that is lost without both (without
        one, on the diagonal), and `right` of the same; `interaction` (sample, part, other_part), not-a-number on the
        diagonal. `mean`, `low`, `high`, `p` and `p_adjusted` are of the interaction, over samples; each pair is tested
        once.

    Raises:
        InputError: fewer than two parts, a layer or head that is not there; as `patch_sweep`.
    """
    named = _parts(lab, parts, PAIRS)
    if len(named) < 2:
        raise InputError(f"{PAIRS}: two parts make a pair", got=f"{len(named)} parts")
    _check(put, PAIRS)
    seed = checked(correction, seed, PAIRS)
    asked, names = questions(lab, prompts, of, against, put, PAIRS), list(named)
    pairs = list(itertools.combinations_with_replacement(range(len(names)), 2))
    cells = [_cell(named[names[i]], named[names[j]]) for i, j in pairs]
    kept = dict(store=store, client=client, progress=progress)
    found = measured(lab, asked, cells, put=put, batch=batch, **kept)
    rows, columns = np.array(pairs).T

    def square(values):
        made = np.empty((len(values), len(names), len(names)), np.float32)
        made[:, rows, columns] = made[:, columns, rows] = values
        return made

    axes = {"part": names, "other_part": names}
    ds = labelled(lab, found, {name: square(found[name]) for name in ("score", "right")}, axes, put, PAIRS)
    alone = ds.effect.values.diagonal(axis1=1, axis2=2)
    beyond = ds.effect.values - alone[:, :, None] - alone[:, None, :]
    beyond[:, range(len(names)), range(len(names))] = np.nan
    dims = ds.effect.dims
    tested = np.where(np.triu(np.ones((len(names), len(names)), bool), 1), beyond, np.nan)  # each pair once
    told = label({"effect": (dims, beyond, TOGETHER), "change": (dims, tested, TOGETHER)}, coords=dict(ds.coords))
    told = with_statistics(told, correction, seed)
    mirror = lambda p: p.copy(data=np.fmax(p.values, p.values.T))
    made = ds.rename(effect="lost").drop_vars("change").assign(interaction=told.effect)
    made = made.assign({name: told[name] for name in ("mean", "low", "high")})
    return made.assign({name: mirror(told[name]) for name in ("p", "p_adjusted")}).assign_attrs(told.attrs)


@public
def knockout_greedy(
    lab: Lab,
    prompts: Iterable,
    *,
    of: Answers,
    against: Answers,
    parts: Parts = None,
    put: str = "zero",
    most: int = 8,
    stop: float = 1.0,
    controls: int = 20,
    seed: int = 0,
    batch: int | None = None,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> "xarray.Dataset":
    """Knock out the part that hurts most, then the one that hurts most beside it, and so on.

    The set is chosen on these very prompts, so that its own loss is flattered; measure it on others by
    `knockout_pairs(..., parts={"chosen": [...], ...})`. `chance` is what as many parts do that were drawn.

    Args:
        prompts, of, against, parts, put, batch, store, client, progress: as of `knockout_pairs`; each step has a folder
            of its own in `store`.
        most: parts of the set at most. stop: the mean loss at which it is large enough; 1 is an even race between the
            two answers.
        controls: sets that are drawn for each size. seed: of them, and of resampling.

    Returns:
        Dataset over step: `part`, the name of what was added; `lost` and `right` (sample, step) of the set so far, with
        `mean`, `low` and `high` over samples; `chance` (sample, step, draw) and `chance_right`, of sets drawn.
        `alone` (sample, step), what the part costs by itself.

    Raises:
        InputError: as `knockout_pairs`.
    """
    named = _parts(lab, parts, GREEDY)
    _check(put, GREEDY)
    most, controls = whole(most, "most", least=1), whole(controls, "controls", least=1)
    stop, seed = number(stop, "stop"), whole(seed, "seed", least=0)
    asked, names = questions(lab, prompts, of, against, put, GREEDY), list(named)
    there = dict(client=client, progress=progress)
    stores = lambda step: None if store is None else pathlib.Path(store) / f"step-{step:03d}"
    run = lambda step, sets: _lost(lab, asked, named, sets, put, batch, dict(store=stores(step), **there))
    chosen, kept_loss, rng = [], [], np.random.default_rng(seed)
    alone = None
    while len(chosen) < min(most, len(names)):
        left = [name for name in names if name not in chosen]
        lost, right, found = run(len(chosen), [[*chosen, name] for name in left])
        alone = dict(zip(left, lost.T, strict=True)) if alone is None else alone
        best = int(np.nanmean(lost, 0).argmax())
        chosen.append(left[best])
        kept_loss.append((lost[:, best], right[:, best]))
        if np.nanmean(lost[:, best]) >= stop:
            break
    sizes = [size for size in range(1, len(chosen) + 1) for _ in range(controls)]
    drawn = [[str(name) for name in rng.choice(names, size, replace=False)] for size in sizes]
    chance, chance_right, _ = run(len(names), drawn)
    spread = lambda values: values.reshape(len(asked), len(chosen), controls)
    lost, right = (np.stack(column, 1) for column in zip(*kept_loss, strict=True))
    dims = ("sample", "step")
    variables = {
        "effect": (dims, lost, LOST),
        "change": (dims, lost, LOST),
        "right": (dims, right, RIGHT),
        "alone": (dims, np.stack([alone[name] for name in chosen], 1), LOST),
        "chance": ((*dims, "draw"), spread(chance), LOST),
        "chance_right": ((*dims, "draw"), spread(chance_right), RIGHT),
        "base_right": (("sample",), found["base_right"], RIGHT),
    }
    coords = {"step": range(1, len(chosen) + 1), "part": ("step", chosen, "part that was added")}
    facts = {"model": lab.name, "reading": GREEDY, "put": put, "samples": len(asked), "stop": stop}
    facts |= {name: found[name] for name in ("parity", "tolerance")}
    ds = with_statistics(label(variables, coords=coords, attrs=facts), "holm", seed)
    del ds.attrs["correction"]
    return ds.drop_vars(["change", "p", "p_adjusted"]).rename(effect="lost")


def _lost(lab, asked, named, sets, put, batch, kept):
    """(share of the lead that is lost [sample, set], whether right, all that was found)."""
    cells = [_cell(*(named[name] for name in names)) for names in sets]
    found = measured(lab, asked, cells, put=put, batch=batch, **kept)
    way = (found["reference"] - found["base"])[:, None]
    return (found["score"] - found["base"][:, None]) / np.where(way == 0, np.nan, way), found["right"], found


def _cell(*parts):
    """The places of several parts, none twice."""
    return [
        Place("mixer_out", layer) if head is None else Place("gated", layer, head)
        for layer, head in dict.fromkeys(itertools.chain(*parts))
    ]


def _check(put, name):
    if put not in ("zero", "mean"):
        raise InputError(f"{name}: unknown values", got=f"put={put!r}", expected="zero, mean")


def _parts(lab, parts, name):
    """`{name: [(layer, head or None), ...]}`, checked."""
    counts = {layer: head_count(lab, "gated", layer) for layer in range(lab.spec.layers)}
    if parts is None:
        parts = [(layer, head) for layer, count in counts.items() for head in range(count)]
    named = parts.items() if isinstance(parts, Mapping) else ((None, [place]) for place in _several(parts, name))
    made = {}
    for key, places in named:
        places = [_place(place, counts, name) for place in _several(places, name)]
        made[told(places[0]) if key is None else str(key)] = places
    if not made or not all(made.values()):
        raise InputError(f"{name}: a part holds something", got="no parts" if not made else "an empty one")
    return made


def _several(given, name):
    if isinstance(given, str) or not isinstance(given, Iterable):
        expected = '[(layer, head), ...] or {"name": [(layer, head), ...]}'
        raise InputError(f"{name}: no list of parts", got=repr(given)[:80], expected=expected)
    return given


def _place(given, counts, name):
    """(layer, head or None), checked."""
    place = tuple(given) if isinstance(given, tuple | list) else ()
    if len(place) == 2 and all(is_index(part) or part is None for part in place) and place[0] is not None:
        layer = place[0] + len(counts) * (place[0] < 0)  # negative from the end, as everywhere
        head = place[1] if place[1] is None or place[1] >= 0 else place[1] + counts.get(layer, 0)
        place = (layer, head)
    good = len(place) == 2 and is_index(place[0]) and place[0] in counts
    if not good or not (place[1] is None or (is_index(place[1]) and 0 <= place[1] < counts[place[0]])):
        expected = f"(layer, head) or (layer, None), layers 0 to {len(counts) - 1}"
        raise InputError(f"{name}: no such part", got=repr(given)[:80], expected=expected)
    return place


def told(place: tuple[int, int | None]) -> str:
    """What a part is called: "layer 4, head 0", "layer 3"."""
    layer, *head = place
    return f"layer {layer}" + (f", head {head[0]}" if head and head[0] is not None else "")
