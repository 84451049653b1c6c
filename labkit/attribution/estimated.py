"""Attribution patching: what `patch_sweep` runs, estimated by slopes, two forward passes and one backward in all.

    change ≈ ⟨∂s/∂x at the prompt that is read, new value - old value⟩

It is exact where the answer is linear in what is patched, and can be far off where a softmax, a gate or a norm answers
with a curve: compare it with `patch_sweep` on some prompts, by `agreement`, before it is trusted on others.

Nanda, "Attribution patching" (2023); Syed et al., arXiv 2310.10348; where it fails: Kramár et al., arXiv 2403.00745.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit.attribution.cells import STATES, grid, questions
from labkit.attribution.evidence import checked, with_statistics
from labkit.attribution.patching import gridded, measured
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.residual.stream import Answers

if TYPE_CHECKING:
    import xarray
    from distributed import Client

NAME = "attribution.patch_slopes"


@public
def patch_slopes(
    lab: Lab,
    prompts: Iterable,
    *,
    of: Answers,
    against: Answers,
    seam: str = "gated",
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = None,
    source: int | Sequence[int] | None = None,
    put: str = "other",
    whole: bool = False,
    ends: str = "same",
    correction: str = "holm",
    seed: int = 0,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> "xarray.Dataset":
    """The effect of patching each place of a grid, estimated by the slope of the answer at the prompt that is read.

    Args:
        prompts, of, against, seam, layers, heads, tokens, put, whole, ends, correction: as of
            `attribution.patch_sweep`; a seam alone, no state or window.

    Returns:
        Dataset as that of `patch_sweep`, without `right` and without parity: an estimate has none.

    Raises:
        InputError, LayerError: as `patch_sweep`; a state. BudgetError.
    """
    if seam in STATES:
        hint = "attribution.patch_sweep"
        raise InputError(f"{NAME}: a {seam} is no seam", got=f"seam={seam!r}", expected="a seam", hint=hint)
    seed = checked(correction, seed, NAME)
    asked = questions(lab, prompts, of, against, put, NAME, ends)
    given = dict(seam=seam, layers=layers, heads=heads, tokens=tokens, source=source, whole=whole)
    axes, where, cells = grid(lab, asked, put=put, **given, name=NAME)
    kept = dict(store=store, client=client, progress=progress)
    found = measured(lab, asked, cells, put=put, work=estimates, **kept)
    ds = gridded(lab, found, axes, where, put, NAME).drop_vars(["right", "base_right"])
    for fact in ("parity", "tolerance", "proven"):
        del ds.attrs[fact]
    return with_statistics(ds, correction, seed).assign_attrs(seam=seam)


def estimates(lab: Lab, unit: dict, *, put: str, batch: int | None) -> dict[str, np.ndarray]:
    """A unit of a sweep, as `forks.scores`; `right` is not known."""
    places = sorted({(place[1], place[0]) for cell in unit["cells"] for place in cell})
    layers, seams = (sorted({pair[n] for pair in places}) for n in (0, 1))
    traced = dict(layers=layers or [0], seams=seams or ["resid_pre"])  # equal prompts differ nowhere
    away = lambda logits: logits[-1, unit["of"]].float() - logits[-1, unit["against"]].float()
    other = None if unit["other"] is None else lab.trace(torch.tensor(unit["other"]), **traced)
    with torch.enable_grad():
        run = lab.trace(torch.tensor(unit["ids"]), grad=True, **traced)
        leaves = [run.graph[pair] for pair in places]
        slopes = torch.autograd.grad(away(run.logits), leaves, materialize_grads=True) if leaves else ()
    known = {}
    for (layer, seam), slope in zip(places, slopes, strict=True):
        read = lab.spec.seams[lab.spec.kind(layer)][seam].read
        known[layer, seam] = run.seams[layer, seam].detach(), read(slope, lab.spec, 1, len(run))[0]
    base = float(away(run.logits.detach()))
    estimate = [base + sum(_change(place, known, other, put) for place in cell) for cell in unit["cells"]]
    made = {"score": np.array(estimate, np.float32), "right": np.full(len(estimate), np.nan, np.float32)}
    theirs = np.nan if other is None else float(away(other.logits))
    return made | {
        "base": np.array([base, np.nan], np.float32),
        "other": np.array([theirs], np.float32),
        "off": np.zeros(1, np.float32),
    }


def _change(place, known, other, put):
    seam, layer, head, tokens, source = place
    old, slope = known[layer, seam]
    if put == "zero":
        new = torch.zeros_like(old[tokens])
    else:
        new = old.float().mean(0, keepdim=True) if put == "mean" else other.seams[layer, seam][source]
    step = (new.float() - old[tokens].float()) * slope[tokens].float()
    return float((step if head is None else step[:, head]).sum())
