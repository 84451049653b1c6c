"""Patching: what of an answer depends on what a place held, one place after another, over prompts.

The corrupt prompt of a pair is read with one thing of the clean one in it; `effect` is the share of the way that its
answer goes. Or a place is knocked out of a prompt, and `effect` is the share of its lead that goes. Every cell is run,
in suffixes that share the reading of what is before them; `attribution.patch_slopes` estimates the same by gradients.

Activation patching: arXiv 2202.05262; its conventions: arXiv 2404.15255. Corrections: see `labkit.stats`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit import sweeps
from labkit.arguments import whole as whole_number
from labkit.attribution.cells import Place, Question, grid, questions, units
from labkit.attribution.evidence import checked, with_statistics
from labkit.attribution.forks import scores
from labkit.calling import public
from labkit.errors import ParityError
from labkit.lab import Lab
from labkit.notation import Quantity, label
from labkit.residual.stream import Answers
from labkit.trace import TOLERANCE

if TYPE_CHECKING:
    import xarray
    from distributed import Client

NAME = "attribution.patch_sweep"
SOURCE = "arXiv 2404.15255"
SCORE = Quantity("s", "difference of the two answers' logits", "nat", "signed", SOURCE)
CHANGE = Quantity("Δs", "change of the difference of the two answers' logits", "nat", "signed", SOURCE)
EFFECT = Quantity("Δ", "share of the way to the other prompt's answer", "1", "signed", SOURCE)
LOST = Quantity("Δ", "share of the answer's lead that is lost", "1", "signed", SOURCE)
RIGHT = Quantity("", "whether the answer is first of all tokens", "fraction", "fraction", SOURCE)


@public
def patch_sweep(
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
    batch: int | None = None,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> "xarray.Dataset":
    """The effect of patching each place of a grid, over prompts.

    Args:
        prompts: pairs (clean, corrupt) of texts or ids, of equal length; the corrupt one is read, with values of the
            clean one. With `put="zero"` or `"mean"`, single prompts, which are read.
        of, against: the answers whose logits are compared, one token for all prompts or one for each: the right one
            (after the clean prompt), and the wrong one (after the corrupt one).
        seam: of `lab.spec.seams`; or "state" or "window", the recurrent state and the convolution window of DeltaNet
            layers after a token, with which the reading goes on.
        layers: None for all that have it. heads: None for all, each by itself. tokens: each by itself, relative to a
            prompt's first, negative from its end; None patches all tokens at once, without the axis.
        source: tokens of the clean prompts to take values from, one for each of `tokens`; None for the same.
        put: "other", values of the clean prompt; "zero"; "mean", the place's mean over the tokens of its prompt.
        whole: patch all heads of a layer, or those given, at once, without the axis `reader`.
        ends: "same" asks that both prompts of a pair end in the same token, since the answers that are compared follow
            it; "any" takes what there is.
        correction: of the p values of all cells, "holm" (no false one among them) or "benjamini_hochberg" (few among
            those found). seed: of resampling.
        batch: rows of a pass at most; None for what is fast. Other batches change the last digits.
        store, client, progress: as of `labkit.sweeps.results`; a unit is 512 cells of one prompt.

    Returns:
        Dataset over layer, reader (a head of either kind, not-a-number where a layer has fewer) and token, where there
        are: `score` (sample, ...), its `change` from `base` (sample); `effect` (sample, ...), the change over
        `reference` - `base`, the score of the clean prompt, or 0 of a knock-out, where the answers are as likely;
        `right` (sample, ...), whether the answer is first of all tokens, and `base_right` (sample). Over samples:
        `mean` of the effect, `low` and `high` (95 % bootstrap), `p` (of all signs of the change, or 2^17 of them: of n
        samples never below 2^(1-n)) and `p_adjusted`. Parity is that of a cell of every unit, read anew as a whole.

    Raises:
        InputError: pairs of unequal lengths or that end in different tokens, answers of several tokens, tokens or heads
            out of range. LayerError: a seam of the other layer kind. ParityError: a fork that does not say what the
            whole prompt says. BudgetError.
    """
    seed = checked(correction, seed, NAME)
    asked = questions(lab, prompts, of, against, put, NAME, ends)
    given = dict(seam=seam, layers=layers, heads=heads, tokens=tokens, source=source, whole=whole)
    axes, where, cells = grid(lab, asked, put=put, **given, name=NAME)
    found = measured(lab, asked, cells, put=put, batch=batch, store=store, client=client, progress=progress)
    ds = gridded(lab, found, axes, where, put, NAME)
    return with_statistics(ds, correction, seed).assign_attrs(seam=seam)


def measured(
    lab: Lab,
    asked: Sequence[Question],
    cells: Sequence[Sequence[Place]],
    *,
    put: str,
    work: Callable = scores,
    batch: int | None = None,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> dict[str, np.ndarray | float]:
    """Run cells on every prompt.

    Args:
        work: what a unit of them gives, as `forks.scores`.

    Returns:
        score, right [sample, cell]; base, base_right, reference [sample]; parity, the largest; tolerance.

    Raises:
        ParityError: a fork that does not say what the whole prompt says.
    """
    batch = None if batch is None else whole_number(batch, "batch", least=1)
    made, numbers = units(asked, cells)
    options = dict(options={"put": put, "batch": batch}, store=store, client=client, progress=progress)
    found = {name: np.full((len(asked), len(cells)), np.nan, np.float32) for name in ("score", "right")}
    found |= {name: np.full(len(asked), np.nan, np.float32) for name in ("base", "base_right", "reference")}
    per, parity = len(made) // len(asked), 0.0
    for n, (result, held) in enumerate(zip(sweeps.results(lab, work, made, **options), numbers, strict=True)):
        sample = n // per
        found["score"][sample, held], found["right"][sample, held] = result["score"], result["right"]
        found["base"][sample], found["base_right"][sample] = result["base"]
        found["reference"][sample] = result["other"][0] if put == "other" else 0.0
        parity = max(parity, float(result["off"][0]))
    if not parity <= (tolerance := TOLERANCE[lab.dtype]):
        expected, hint = f"at most {tolerance:g}", "close edits that are open"
        raise ParityError(
            "a forked suffix does not say what the whole prompt says", got=f"{parity:.2g}", expected=expected, hint=hint
        )
    return found | {"parity": parity, "tolerance": tolerance}


def gridded(lab: Lab, found: dict, axes: dict[str, list], where: list[tuple], put: str, name: str) -> "xarray.Dataset":
    """The Dataset of cells that stand in a grid; not-a-number where it has none."""
    shape, at = tuple(map(len, axes.values())), tuple(np.array(where).T)

    def spread(values):
        made = np.full((len(values), *shape), np.nan, np.float32)
        made[(slice(None), *at)] = values
        return made

    return labelled(lab, found, {k: spread(found[k]) for k in ("score", "right")}, axes, put, name)


def labelled(lab: Lab, found: dict, each: dict, axes: dict[str, list], put: str, name: str) -> "xarray.Dataset":
    """The Dataset of scores [sample, *axes], what they changed and which share of the way that is."""
    dims, one = ("sample", *axes), (slice(None), *[None] * len(axes))
    change = each["score"] - found["base"][one]
    way = (found["reference"] - found["base"])[one]
    effect = np.divide(change, way, out=np.full_like(change, np.nan), where=way != 0)
    variables = {
        "score": (dims, each["score"], SCORE),
        "change": (dims, change, CHANGE),
        "effect": (dims, effect, EFFECT if put == "other" else LOST),
        "right": (dims, each["right"], RIGHT),
        "base": (("sample",), found["base"], SCORE),
        "base_right": (("sample",), found["base_right"], RIGHT),
        "reference": (("sample",), found["reference"], SCORE),
    }
    facts = {"model": lab.name, "reading": name, "put": put, "samples": len(found["base"])}
    facts |= {"parity": found["parity"], "tolerance": found["tolerance"], "proven": "a cell of every unit, read anew"}
    return label(variables, coords={"sample": range(len(found["base"])), **axes}, attrs=facts)
