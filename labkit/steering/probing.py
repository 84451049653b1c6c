"""Linear probes: can two sets of prompts be told apart from what is there, and would nothing at all do as well?

Logistic regression of scikit-learn, cross-validated; prompts of the same number in both sets share a fold, so that
pairs are never torn apart. Regularised, its solution lies in the span of the rows, so rows are turned onto an
orthonormal basis of that span first: nothing is lost, and a state of many thousands of numbers costs what its prompts
do. Controls: labels exchanged (Hewitt and Liang, arXiv 1909.03368, of tasks without meaning), and random directions.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import BackendError, InputError, install_hint
from labkit.lab import Lab
from labkit.notation import Quantity
from labkit.stats import wilson
from labkit.steering.directions import LEVEL, gathered, labelled, shuffled, two_sets
from labkit.steering.sites import DIRECTION, NORM, Prompt

if TYPE_CHECKING:
    import xarray

SOURCE = "arXiv 1909.03368"
RIGHT = Quantity("a", "share of held-out prompts told apart", "share", "fraction", SOURCE)
P = Quantity("p", "share of exchanged labels that are told apart as well", "fraction", "fraction", SOURCE)


@public
def probe(
    lab: Lab,
    positive: Sequence[Prompt],
    negative: Sequence[Prompt],
    *,
    layer: int | Sequence[int],
    seam: str = "resid_post",
    token: int = -1,
    heads: int | Sequence[int] | None = None,
    by_head: bool = False,
    folds: int = 5,
    draws: int = 19,
    strength: float = 1.0,
    seed: int = 0,
) -> "xarray.Dataset":
    """How well two sets of prompts are told apart, and the direction that does it.

    Args:
        positive, negative, layer, seam, token, heads: as of `steering.difference`; states are flattened.
        by_head: a probe of its own for each head, with an axis for them.
        folds: prompts are held out in so many parts; each set has at least two prompts for every fold.
        draws: of exchanged labels, and of random directions, by `seed`.
        strength: C of `LogisticRegression`, of rows whose mean norm is 1.

    Returns:
        Dataset over (layer, head where `by_head`): `accuracy` on held-out prompts with `low` and `high`, its 95 %
        Wilson interval; `shuffled` (draw) with exchanged labels, `p` of them, and `reproduced`, whether they do as
        well (p above 0.05); `random` (draw) of one random direction each, and `widespread`, whether one of them does as
        well; `direction` of norm 1, fitted on all prompts, and `norm` for its dose.

    Raises:
        BackendError: no scikit-learn. InputError, LayerError and BudgetError as `steering.difference`.
    """
    name = "steering.probe"
    regression = _regression(number(strength, "strength", above=0))
    folds, draws, seed = whole(folds, "folds", least=2), whole(draws, "draws", least=1), whole(seed, "seed", least=0)
    two_sets(positive, negative, name)
    if short := [len(part) for part in (positive, negative) if len(part) < 2 * folds]:
        got, hint = f"{short[0]} prompts in {folds} folds", f"folds={max(2, short[0] // 2)}"
        raise InputError(f"{name}: two prompts of each set for every fold", got=got, hint=hint)
    sites, held, signs = gathered(lab, positive, negative, layer, seam, token, heads, name)
    if by_head and (sites[0].dims[0] == "channel" or len(sites[0].dims) < 2):
        raise InputError(
            f"{name}: by_head=True needs vectors of heads", got=f"seam {seam!r}", expected="state, v, read"
        )
    fold = _folds(len(positive), len(negative), folds, seed)
    labels = [signs.numpy(), *shuffled(signs, draws, seed).numpy()]
    columns = {key: [] for key in ("accuracy", "low", "high", "shuffled", "random", "direction", "norm")}
    for rows in held:
        for part in rows.unbind(1) if by_head else [rows]:
            for key, value in _one(part.flatten(1), labels, fold, regression, draws, seed):
                columns[key].append(value)
    axes = ("layer", sites[0].dims[0]) if by_head else ("layer",)
    shape = (len(sites), -1) if by_head else (len(sites),)
    grid = {key: np.stack(column) for key, column in columns.items()}
    grid = {key: value.reshape(*shape, *value.shape[1:]) for key, value in grid.items()}
    grid["direction"] = grid["direction"].reshape(len(sites), *held[0].shape[1:])
    p = (1 + (grid["shuffled"] >= grid["accuracy"][..., None]).sum(-1)) / (1 + draws)
    variables = {key: (axes, grid[key], RIGHT) for key in ("accuracy", "low", "high")}
    variables |= {key: ((*axes, "draw"), grid[key], RIGHT) for key in ("shuffled", "random")}
    variables |= {
        "p": (axes, p, P),
        "reproduced": (axes, p > LEVEL, None),
        "widespread": (axes, grid["random"].max(-1) >= grid["accuracy"], None),
        "direction": (("layer", *sites[0].dims), grid["direction"], DIRECTION),
        "norm": (axes, grid["norm"], NORM),
    }
    facts = dict(token=token, seed=seed, reading=name, samples=len(signs), folds=folds)
    return labelled(lab, variables, sites, heads, facts, layer)


def _regression(strength):
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        what, hint = "steering.probe fits by scikit-learn", install_hint("probes")
        raise BackendError(what, got="no scikit-learn", expected="scikit-learn 1.4 or later", hint=hint) from None
    return lambda: LogisticRegression(C=strength, solver="newton-cholesky", max_iter=100)


def _folds(plus, minus, folds, seed):
    """Fold of every prompt: the same order for both sets, so that pairs stay together."""
    order = torch.randperm(max(plus, minus), generator=torch.Generator().manual_seed(seed)) % folds
    return torch.cat([order[:plus], order[:minus]]).numpy()


def _one(rows, labels, fold, regression, draws, seed) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of one probe of rows [prompt, number]."""
    norm = float(rows.norm(dim=1).mean())
    centred = (rows - rows.mean(0)).double()
    left, sizes, basis = torch.linalg.svd(centred, full_matrices=False)
    turned = (left * sizes).numpy() / max(norm, 1e-30)
    own, *exchanged = labels
    hits = _hits(turned, own, fold, regression)
    yield "accuracy", np.array(hits / len(own))
    low, high = wilson(hits, len(own))
    yield "low", np.array(low)
    yield "high", np.array(high)
    yield "shuffled", np.array([_hits(turned, each, fold, regression) for each in exchanged]) / len(own)
    random = torch.randn(turned.shape[1], draws, generator=torch.Generator().manual_seed(seed)).double().numpy()
    lines = turned @ (random / np.linalg.norm(random, axis=0))
    lines = lines / np.maximum(lines.std(0), 1e-30)  # one number each: its size should not count
    yield "random", np.array([_hits(line[:, None], own, fold, regression) for line in lines.T]) / len(own)
    weights = regression().fit(turned, own).coef_[0] @ basis.numpy()
    yield "direction", (weights / max(np.linalg.norm(weights), 1e-30)).astype("float32")
    yield "norm", np.array(norm)


def _hits(rows, labels, fold, regression):
    """Held-out prompts that are told right."""
    right = 0
    for number_ in np.unique(fold):
        out = fold == number_
        seen = labels[~out]
        one_sided = (seen == seen[0]).all()
        said = np.full(out.sum(), seen[0]) if one_sided else regression().fit(rows[~out], seen).predict(rows[out])
        right += int((said == labels[out]).sum())
    return right
