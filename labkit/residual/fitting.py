"""The Jacobian lens, fitted here: the mean of what a small change of the stream does to the last layer's.

    J_l = mean over prompts and places p of  Σ_{p' ≥ p} ∂h_last[p'] / ∂h_l[p]

by autograd, exact for every prompt: rows of the sum at a time, each one backward pass through the graph of one forward.
Places at which a prompt begins, where attention sinks stand, and its last one are left out on either side.

Source: `jlens/fitting.py` of anthropics/jacobian-lens, whose default reduction this is.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray

from labkit import sweeps
from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select, whole_numbers
from labkit.plan import admit
from labkit.residual.lenses import Lens
from labkit.residual.stream import logits

if TYPE_CHECKING:
    from distributed import Client

SKIP, LONGEST, ROWS = 16, 128, 16
SOURCE = "anthropics/jacobian-lens, jlens/fitting.py"
APART = Quantity("‖J′-J″‖/‖J‖", "how far two lenses of as many prompts each are apart", "fraction", "positive", SOURCE)
SAME = Quantity("agreement", "places at which both name the same token", "fraction", "fraction", SOURCE)


@public
def fit_lens(
    lab: Lab,
    prompts: Sequence,
    *,
    layers: int | Sequence[int] | None = None,
    skip: int = SKIP,
    longest: int = LONGEST,
    rows: int = ROWS,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    every: int = 1,
    progress: bool = False,
) -> Lens:
    """Fit a Jacobian lens; `lens.save(path)` writes what other programs read.

    Args:
        prompts: texts or ids, each of more than `skip` + 1 tokens. How many are enough depends on the model: ask
            `lens_convergence`.
        layers: whose stream is mapped; None for all but the last.
        skip: places at the beginning of each prompt that do not count. longest: tokens of a prompt that are read.
        rows: of the map at a time; more are faster and take more memory.
        store, client, progress: as `sweeps.total`; a unit is a prompt. every: prompts after which the sum is written:
            of a large model it is larger than the model.

    Returns:
        `Lens`, whose maps are float32.

    Raises:
        InputError: a prompt that is too short, the last layer, what `sweeps.total` refuses. BudgetError.
    """
    units, options, chosen = _asked(lab, prompts, layers, skip, longest, rows, "residual.fit_lens")
    spread = dict(store=store, client=client, progress=progress)
    summed = sweeps.total(lab, jacobian_of_ids, units, options=options, every=every, **spread)
    return _lens(lab, summed["J"] / len(units), chosen, len(units))


@public
def lens_convergence(
    lab: Lab,
    prompts: Sequence,
    held_out: Sequence,
    *,
    sizes: Sequence[int],
    layers: int | Sequence[int] | None = None,
    skip: int = SKIP,
    longest: int = LONGEST,
    rows: int = ROWS,
    store: str | os.PathLike | None = None,
    client: "Client | None" = None,
    progress: bool = False,
) -> xarray.Dataset:
    """How many prompts are enough: two lenses of as many prompts each, of which none is in both, beside each other.

    Args:
        skip, longest: as for `fit_lens`.
        prompts: as `fit_lens`; those with an even number go to one lens, the others to the other.
        held_out: prompts that neither is fitted on, on which both are read.
        sizes: prompts of either lens.

    Returns:
        Dataset over layer and size: `apart` ‖J′-J″‖/‖J‖ by Frobenius' norm, J their mean; `agreement`, the share of
        places of the held-out prompts at which both name the same token; `with_model`, the same with what the model
        itself says there; and `logit_lens` (layer), with no lens at all.

    Raises:
        InputError: sizes beyond half of the prompts, or as `fit_lens`. BudgetError.
    """
    name = "residual.lens_convergence"
    units, options, chosen = _asked(lab, prompts, layers, skip, longest, rows, name)
    sizes = whole_numbers(sizes, "size", least=1)
    if not sizes or max(sizes) > len(units) // 2:
        got, expected = f"sizes {sizes}, {len(units)} prompts", f"sizes of 1 to {len(units) // 2}"
        raise InputError(f"{name}: both lenses have prompts of their own", got=got, expected=expected)
    units = units[: 2 * max(sizes)]
    runs = [lab.trace(prompt, seams=["resid_post"]) for prompt in _several(held_out, "held_out", name)]
    if not runs:
        raise InputError(f"{name}: no held-out prompts", expected="prompts that no lens is fitted on")
    own = [logits(lab, run.seams[lab.spec.layers - 1, "resid_post"]).argmax(-1) for run in runs]
    plain = torch.stack([_same(lab, runs, own, layer, None)[0] for layer in chosen])
    halves, found = [0.0, 0.0], []
    spread = dict(store=store, client=client, progress=progress)
    for n, result in enumerate(sweeps.results(lab, jacobian_of_ids, units, options=options, **spread)):
        halves[n % 2] = halves[n % 2] + result["J"].astype(np.float64)
        if n % 2 and (n + 1) // 2 in sizes:
            found.append(_beside(lab, [half / ((n + 1) // 2) for half in halves], chosen, runs, own))
    place = ("layer", "size")
    variables = {
        column: (place, torch.stack([each[column] for each in found], 1), quantity)
        for column, quantity in (("apart", APART), ("agreement", SAME), ("with_model", SAME))
    }
    variables["logit_lens"] = (("layer",), plain, SAME)
    attrs = {"model": lab.name, "reading": name, "held_out": len(runs), "skip": skip, "longest": longest}
    return label(variables, coords={"layer": chosen, "size": sorted(set(sizes))}, attrs=attrs)


def _asked(lab, prompts, layers, skip, longest, rows, name):
    """(ids of each prompt, options of the work, layers), if they can be read and fit into memory."""
    last = lab.spec.layers - 1
    chosen = list(range(last)) if layers is None else select(layers, lab.spec.layers, "layer")
    if last in chosen:
        got, expected = f"layer {last}", f"0 to {last - 1}"
        raise InputError(f"{name}: the last layer needs no map", got=got, expected=expected)
    skip, rows = whole(skip, "skip", least=0), whole(rows, "rows", least=1, most=lab.spec.hidden)
    longest = whole(longest, "longest", least=skip + 2)
    units = [lab.encode(prompt)[:longest].tolist() for prompt in _several(prompts, "prompts", name)]
    if not units:
        raise InputError(f"{name}: no prompts", got="none", expected="texts or ids")
    if short := [n for n, unit in enumerate(units) if len(unit) < skip + 2]:
        got, expected = f"prompt {short[0]}: {len(units[short[0]])} tokens", f"at least {skip + 2}"
        raise InputError(f"{name}: a prompt is too short", got=got, expected=expected, hint="skip=0")
    tokens, width = max(map(len, units)), lab.spec.hidden
    sums, graph = 3 * 8 * len(chosen) * width**2, rows * 4 * (len(chosen) + 8) * tokens * width
    _admit(name, tokens, {"sums": sums}, {"rows": graph}, lab.device, rows, len(chosen))
    return units, dict(layers=chosen, skip=skip, rows=rows), chosen


def _admit(name, tokens, sums, rows, device, count, layers):
    """Refuse what would not fit: sums lie in the memory of the processor, rows of slopes where the model is."""
    host = torch.device("cpu")
    for own, where in [({**sums, **rows}, host)] if device.type == host.type else [(sums, host), (rows, device)]:
        whole = sum(own.values())
        ways = [("rows=1", whole - own["rows"] + own["rows"] // count)] if "rows" in own else []
        admit(name, tokens, own, where, [*ways, ("layers=[0]", whole // layers)])


def _several(prompts, what, name):
    """Prompts as a list; one text is not read as its letters, nor one prompt as its ids."""
    several = list(prompts) if isinstance(prompts, Iterable) and not isinstance(prompts, str) else None
    if several is None or any(is_index(prompt) or getattr(prompt, "ndim", 1) == 0 for prompt in several):
        got = f"{what}={prompts!r}"[:80]
        raise InputError(f"{name}: several prompts", got=got, expected="a list of texts or of ids")
    return several


@torch.enable_grad()
def jacobian_of_ids(lab: Lab, ids: Sequence[int], *, layers: Sequence[int], skip: int, rows: int) -> sweeps.Arrays:
    """`J` [layer, channel out, channel in] of one prompt, float32: exact, by one backward pass for each channel out."""
    last, width = lab.spec.layers - 1, lab.spec.hidden
    run = lab.trace(ids, layers=[*layers, last], seams=["resid_post"], grad=True)
    sources, target = [run.graph[layer, "resid_post"] for layer in layers], run.graph[last, "resid_post"]
    counted = torch.arange(skip, len(ids) - 1, device=target.device)
    found = np.empty((len(layers), width, width), dtype=np.float32)
    for first in range(0, width, rows):
        channels = torch.arange(first, min(first + rows, width), device=target.device)
        asks = target.new_zeros(len(channels), *target.shape)  # each row one channel, at every place that counts
        asks[(channels - first)[:, None], 0, counted, channels[:, None]] = 1
        slopes = torch.autograd.grad(target, sources, asks, retain_graph=True, is_grads_batched=True)
        for n, slope in enumerate(slopes):
            found[n, first : first + rows] = slope[:, 0, counted].float().mean(1).cpu().numpy()
    return {"J": found}


def _lens(lab, maps, layers, prompts):
    made = {layer: torch.from_numpy(each).float() for layer, each in zip(layers, maps, strict=True)}
    return Lens(made, kind="jacobian", prompts=prompts, depth=lab.spec.layers, known={"model": lab.name})


def _beside(lab, pair, layers, runs, own):
    """Two lenses compared: apart, agreement with each other and with the model, each [layer]."""
    norm = lambda each: np.sqrt((each**2).sum((1, 2)))  # noqa: E731
    one, other = (_lens(lab, maps, layers, 1) for maps in pair)
    apart = norm(pair[0] - pair[1]) / norm((pair[0] + pair[1]) / 2)
    rows = []
    for layer in layers:
        right, said = _same(lab, runs, own, layer, one)
        rows.append((_same(lab, runs, said, layer, other)[0], right))
    agreement, right = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"apart": torch.from_numpy(apart), "agreement": agreement, "with_model": right}


@torch.no_grad()
def _same(lab, runs, expected, layer, lens):
    """(share of places at which a lens names the expected token, what it names there)."""
    streams = [run.seams[layer, "resid_post"] for run in runs]
    said = [logits(lab, each if lens is None else lens.carry(each, layer)).argmax(-1) for each in streams]
    return (torch.cat(said) == torch.cat(expected)).double().mean().cpu(), said
