"""Which features are active where, and how much of the stream they leave out.

No strength is shown without the error of the reconstruction that it is part of, and none of these without that of a
control: the same dictionary with its channels dealt anew (`Record.control`), whose features mean nothing here. Where
that explains as much, `attrs["verdict"]` says so.

    unexplained = Σ ‖x - x̂‖² / Σ ‖x - x̄‖²       over the tokens that were chosen; 1 is what their mean alone explains
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.arguments import whole
from labkit.cache import Snapshot
from labkit.calling import public
from labkit.errors import InputError
from labkit.features.atoms import Atoms
from labkit.features.dictionary import SCRATCH, Dictionary
from labkit.notation import Quantity, label, select
from labkit.plan import admit
from labkit.reading import axis
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

SOURCE = "arXiv 2406.04093"
STRENGTH = Quantity("s", "strength of a feature", "1", "positive", SOURCE)
MISSED = Quantity("‖x-x̂‖/‖x‖", "what the reconstruction misses, over what there is", "1", "positive", SOURCE)
ALIKE = Quantity("cos", "cosine of what there is and its reconstruction", "1", "signed", SOURCE)
UNEXPLAINED = Quantity("FVU", "share of the variance over tokens that is not explained", "1", "positive", SOURCE)


@public
@torch.no_grad()
def activations(
    source: Run | Snapshot,
    sae: Dictionary | Atoms,
    *,
    tokens: int | Sequence[int] | None = None,
    top: int = 8,
    seed: int = 0,
) -> "xarray.Dataset":
    """The strongest features at every token, and the error of the reconstruction.

    Args:
        source: a run with the seam of the dictionary. For atoms of a state a run that kept states of the layer
            (`lab.generate(prompt, states=[layer])`), or a snapshot, whose last token it then is.
        tokens: relative to the run's first (of a run with states, to the first of these), negative from the end; None
            for all. The first token of a prompt is often far from all others, and then decides over `unexplained`.
        top: how many features to name.
        seed: of the control.

    Returns:
        Dataset: `feature` and `strength` (token, choice), strongest first, -1 and 0 where fewer are active; `active`
        (token), how many are; `error` and `cosine` (token); `unexplained`; and `control_error`, `control_cosine`
        (token), `control_unexplained` of the control.

    Raises:
        InputError: another model's run, no states of the layer, a token out of range. SeamError: a seam that was not
            kept. BudgetError.
    """
    top = whole(top, "top", least=1, most=len(sae))
    x, coords = _vectors(source, sae, tokens)
    sizes = {"result": len(x) * (12 * top + 40), "what is explained": 3 * 8 * x.numel(), "scratch": 3 * SCRATCH}
    cheaper = [("tokens=-1", sum(sizes.values()) // len(x) + 3 * SCRATCH)]
    admit("features.activations", len(x), sizes, sae.device, cheaper)
    own = _measured(sae, x, top)
    control = _measured(sae.control(seed), x, top)
    place = ("token", "choice")
    variables = {
        "feature": (place, own["feature"], None),
        "strength": (place, own["strength"], STRENGTH),
        "active": (("token",), own["active"], None),
    }
    for prefix, found in (("", own), ("control_", control)):
        variables[f"{prefix}error"] = (("token",), found["error"], MISSED)
        variables[f"{prefix}cosine"] = (("token",), found["cosine"], ALIKE)
        variables[f"{prefix}unexplained"] = ((), found["unexplained"], UNEXPLAINED)
    attrs = {"model": getattr(source, "model", "") or "snapshot", "reading": "features.activations"} | described(sae)
    attrs |= {"control": f"channels dealt anew, signs drawn, seed {seed}", "verdict": _verdict(own, control)}
    return label(variables, coords=coords | {"choice": range(top)}, attrs=attrs)


def described(sae: Dictionary | Atoms) -> dict:
    """What a Dataset tells of a dictionary."""
    where = {"layer": sae.layer, "seam": sae.seam} | ({"head": sae.head} if isinstance(sae, Atoms) else {})
    facts = {name: str(value) for name, value in sae.facts.items()}
    return where | {"dictionary": sae.name, "format": sae.format, "digest": sae.digest, "facts": str(facts)}


def _vectors(source, sae, tokens):
    """(what is explained [row, ...], coordinates of the rows)."""
    if isinstance(sae, Atoms):
        return _states(source, sae, tokens)
    if not isinstance(source, Run):
        hint = "features.activations(lab.trace(prompt), sae)"
        raise InputError("a dictionary reads a run", got=type(source).__name__, expected="a Run", hint=hint)
    rows = select(tokens, len(source), "token")
    sae.check(source.spec)
    return source.seams[sae.layer, sae.seam][rows].flatten(1).to(sae.device), axis(source, "token", rows)


def _states(source, sae, tokens):
    held = source.states if isinstance(source, Run) else getattr(source, "state", {})
    if sae.layer not in held:
        hint = f"lab.generate(prompt, states=[{sae.layer}])"
        got = f"{type(source).__name__} without states of layer {sae.layer}"
        raise InputError("atoms read states", got=got, expected="a run that kept them, or a snapshot", hint=hint)
    states = held[sae.layer]
    if states.shape[-2:] != sae.axes or sae.head >= states.shape[1]:
        got, expected = f"states {list(states.shape)}", f"head {sae.head} of {list(sae.axes)}"
        raise InputError("these atoms are of another model", got=got, expected=expected)
    if isinstance(source, Snapshot) and len(states) > 1:
        raise InputError("atoms read one sequence", got=f"a snapshot of {len(states)} rows")
    rows = select(tokens, len(states), "token")
    if isinstance(source, Run):
        coords = axis(source, "token", [len(source) - len(states) + row for row in rows])
    else:
        coords = {"token": [source.length - 1] * len(rows)}
    return states[rows, sae.head].to(sae.device), coords


def _measured(sae, x, top):
    """Columns of the reading, by name."""
    columns, mean = {}, sae.wide(x).mean(0)
    missed = spread = 0.0
    for rows, strengths, made in sae.parts(x):
        best = strengths.topk(top, -1)
        rows, made = rows.flatten(1), made.flatten(1)
        off = rows - made
        missed += float(off.square().sum())
        spread += float((rows - mean.flatten()).square().sum())
        found = {
            "feature": best.indices.where(best.values > 0, -1),
            "strength": best.values,
            "active": (strengths > 0).sum(-1),
            "error": off.norm(dim=-1) / rows.norm(dim=-1),
            "cosine": torch.cosine_similarity(rows, made, dim=-1),
        }
        for name, values in found.items():
            columns.setdefault(name, []).append(values.cpu())
    unexplained = missed / spread if spread else float("nan")
    return {name: torch.cat(parts) for name, parts in columns.items()} | {"unexplained": torch.tensor(unexplained)}


def _verdict(own, control):
    better = float(own["error"].square().mean()), float(control["error"].square().mean())
    if not better[0] < better[1]:
        return "the control explains as much: these features say nothing of this stream"
    return f"mean squared error {better[0]:.3g} of what there is, of the control {better[1]:.3g}"
