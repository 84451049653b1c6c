"""Effect by dose: how far a direction moves an answer, what it does to everything else, and what random ones do.

All doses of a direction and of its controls run as rows of one batch, each with a vector of its own, and fork from one
snapshot of what comes before the first steered token: that is read once for all. How fluent the steered text is, the
model without steering says. Controls: random directions of the same norm; a direction that they match moves nothing in
particular. Turner et al., arXiv 2308.10248.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray

from labkit import sweeps
from labkit.arguments import number, whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.orders import ROUNDED
from labkit.plan import admit
from labkit.residual.stream import Answers, answers
from labkit.stats import bootstrap
from labkit.steering.directions import LEVEL
from labkit.steering.measuring import ROWS, work
from labkit.steering.sites import Arrow, Prompt

if TYPE_CHECKING:
    from distributed import Client

NAME = "steering.doses"
SOURCE = "arXiv 2308.10248"
DOSE = "dose [mean norms of what is there]"
SCORE = Quantity("z", "logit of the answer, or of its difference to another", "nat", "signed", SOURCE)
MOVED = Quantity("Δz", "what the dose adds to it", "nat", "signed", SOURCE)
SAID = Quantity("p", "probability of the answer", "fraction", "fraction", SOURCE)
FAR = Quantity("KL", "divergence of what is said from what is said unsteered", "nat", "positive", SOURCE)
PLAIN = Quantity("PPL", "perplexity of the continuation to the unsteered model", "1", "positive", SOURCE)
P = Quantity("p", "share of random directions that move the answer as far", "fraction", "fraction", SOURCE)
MEASURED = {"score": SCORE, "moved": MOVED, "probability": SAID, "divergence": FAR, "perplexity": PLAIN}
OWN, RANDOM = "direction", "random directions"


@public
def doses(
    lab: Lab,
    prompts: Sequence[Prompt],
    direction: xarray.Dataset,
    *,
    doses: Sequence[float],
    of: Answers,
    against: Answers | None = None,
    start: int = -1,
    controls: int = 19,
    new: int = 8,
    seed: int = 0,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> xarray.Dataset:
    """What doses of a direction do to the answer to prompts, beside random directions of the same norm.

    Args:
        prompts: texts or ids, other ones than made the direction.
        direction: as of `steering.add`. doses: numbers, in its unit.
        of: the answer, a token id or a text of one token; or one for every prompt. against: another: then the
            difference of their logits is followed.
        start: first token that is read steered, relative to each prompt's first, negative from its end; all that follow
            are too. Of a state at least the second.
        controls: random directions, by `seed`; with fewer than 19 none can be told from chance at 0.05.
        new: tokens that are generated, greedily, for the perplexity; 0 for none.
        store, client, progress: as of `labkit.sweeps.results`; a unit is one prompt.

    Returns:
        Dataset over arrow ("direction", "random 0", ...), dose, sample: `score` after the prompt, `moved` from the
        unsteered one, `probability`, `divergence`; `perplexity` of the direction and of one random one, else NaN. Over
        sample `unsteered`, the score, and `plain_perplexity`, that of the unsteered continuation. `p` (dose): 1 and the
        random directions whose mean moves as far, over 1 and all. The attribute `reproduced` says whether that is above
        0.05 at the largest dose.

    Raises:
        InputError: no prompts, no direction of this model, answers of several tokens or not one per prompt, a dose that
            is no number; a folder of other doses. BudgetError. CheckpointError: a folder that cannot be written.
    """
    arrow, rows = Arrow.of(lab, direction, NAME), _prompts(lab, prompts)
    sizes = [number(dose, "dose") for dose in np.atleast_1d(np.asarray(doses, dtype=object))]
    controls, new, seed = (
        whole(value, what, least=0) for value, what in ((controls, "controls"), (new, "new"), (seed, "seed"))
    )
    if not sizes:
        raise InputError(f"{NAME}: no dose", got="none", expected="doses=[0.25, 0.5, 1]")
    start = whole(start, "start")
    own, names = _answers(lab, of, len(rows))
    foils = None if against is None else _answers(lab, against, len(rows))[0]
    vocab, count = 4 * lab.spec.vocab, (1 + controls) * len(sizes)
    parts = {"logits": vocab * min(ROWS, count) * (2 + new), "result": 4 * len(MEASURED) * count * len(rows)}
    admit(NAME, max(map(len, rows)) + new, parts, lab.device, [("new=0", 2 * vocab * min(ROWS, count))])
    firsts = [select(start, len(ids), "start")[0] for ids in rows]
    units = [
        dict(ids=ids.tolist(), start=firsts[n], own=own[n], foil=None if foils is None else foils[n])
        for n, ids in enumerate(rows)
    ]
    options = arrow.told() | dict(sizes=sizes, controls=controls, new=new, seed=seed)
    found = list(sweeps.results(lab, work, units, options=options, store=store, client=client, progress=progress))
    return _labelled(lab, arrow, sizes, controls, found, names, dict(start=start, seed=seed))


def _labelled(lab, arrow, sizes, controls, found, names, facts):
    grid = lambda key: np.stack([each[key].reshape(1 + controls, len(sizes)) for each in found], -1)  # noqa: E731
    measured = {key: torch.from_numpy(grid(key)) for key in MEASURED}
    plain = torch.from_numpy(np.stack([each["plain"] for each in found]))
    far = measured["moved"].mean(-1).abs()
    p = (1 + (far[1:] >= far[0] - ROUNDED).sum(0)).double() / (1 + controls)
    variables = {key: (("arrow", "dose", "sample"), measured[key], MEASURED[key]) for key in MEASURED}
    variables |= {
        "unsteered": (("sample",), plain[:, 0], SCORE),
        "plain_perplexity": (("sample",), plain[:, 1], PLAIN),
        "p": (("dose",), p, P),
    }
    largest = int(np.abs(sizes).argmax())
    facts |= {"model": lab.name, "reading": NAME, "layer": arrow.site.layer, "seam": arrow.site.seam}
    facts |= {"answer": ", ".join(dict.fromkeys(names)), "reproduced": int(float(p[largest]) > LEVEL)}
    coords = {"arrow": [OWN, *(f"random {n}" for n in range(controls))], "dose": ("dose", sizes, DOSE)}
    return label(variables, coords=coords | {"sample": range(len(found))}, attrs=facts)


@public
def curves(ds: xarray.Dataset, name: str = "moved", *, seed: int = 0) -> xarray.Dataset:
    """What `steering.doses` measured, as curves over the dose, for `draw.lines(..., color="term")`.

    Args:
        name: of one of its variables over arrow, dose and sample. seed: of the bootstrap.

    Returns:
        Dataset over term ("direction", "random directions") and dose: `name`, means over prompts, with `low` and
        `high`: of the direction the 95 % bootstrap interval over prompts; of the random ones, whose mean is that of
        all, the least and the largest of them.

    Raises:
        InputError: no such variable, or no random directions.
    """
    known = [key for key in MEASURED if key in getattr(ds, "data_vars", ())]
    if name not in known or ds[name].dims != ("arrow", "dose", "sample") or ds.sizes["arrow"] < 2:
        got = repr(name) if known else type(ds).__name__
        expected = f"what steering.doses gives with controls: {', '.join(known or MEASURED)}"
        raise InputError("no curve over doses", got=got, expected=expected)
    low, high = bootstrap(ds[name].isel(arrow=0, drop=True), seed=seed)
    means = ds[name].mean("sample")
    others = means.isel(arrow=slice(1, None))
    parts = {
        name: (means.isel(arrow=0), others.mean("arrow")),
        "low": (low, others.min("arrow")),
        "high": (high, others.max("arrow")),
    }
    joined = {key: np.stack([np.asarray(part) for part in pair]) for key, pair in parts.items()}
    variables = {key: (("term", "dose"), values, MEASURED[name]) for key, values in joined.items()}
    coords = {"term": [OWN, RANDOM], "dose": ("dose", ds.dose.values, DOSE)}
    return label(variables, coords=coords, attrs=ds.attrs)


def _prompts(lab, prompts):
    if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not prompts or is_index(prompts[0]):
        raise InputError(f"{NAME}: several prompts", got=repr(prompts)[:80], expected="a list of texts or of ids")
    return [lab.encode(prompt) for prompt in prompts]


def _answers(lab, given, count):
    """(ids, texts) of answers, one for each of so many prompts."""
    ids, names = answers(lab, given, NAME)
    if len(ids) not in (1, count):
        raise InputError(f"{NAME}: one answer, or one for every prompt", got=len(ids), expected=f"1 or {count}")
    return ids * (count // len(ids)), names
