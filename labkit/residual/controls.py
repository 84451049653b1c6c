"""A lens's reading beside what would read as much without knowing the answer.

A reading is how far up the lens puts the answer: log2(vocabulary / place), 11.3 bits for the first of 2,560 and 1.4 on
the mean if all places are as likely. It does not change with a lens's temperature, and no best of the layers is taken.

    another prompt's answer    the same stream, asked for the answers of the other prompts: what the lens always says
    near in the prompt         the same stream, asked for the tokens that stand nearest to the answer: echo
    random stream              a random vector of the stream's norm, through the same map
    random map                 one map of normal entries and of the same norm for all prompts, on the same stream

and, of a fitted lens, the logit lens: no null, but what needs no fitting.

Source: the controls of m9h/jlens-lab; Adebayo et al., arXiv 1810.03292.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import stats
from labkit.arguments import whole
from labkit.calling import check_subjects, public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.plan import admit
from labkit.residual.lenses import Lens, taken
from labkit.residual.stream import Answers, answers, check_lab, logits, proof
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

NAME = "residual.lens_controls"
OTHER, NEAR, STREAM, MAP = "another prompt's answer", "near in the prompt", "random stream", "random map"
NULLS, BASE = (OTHER, NEAR, STREAM, MAP), "logit lens"
NEAREST = 8  # tokens around the answer's place
SCRATCH = 1 << 26  # bytes of logits at a time
FOUND = Quantity("b", "how far up the lens puts the answer", "bit", "positive", "this run")
NULL = Quantity("b", "how far up its control puts the answer", "bit", "positive", "this run")
EXCESS = Quantity("Δb", "how much further up than its control", "bit", "signed", "this run")
RANK = Quantity("rank", "tokens that the lens finds likelier", "tokens", "positive", "this run")
SHARE = Quantity("share", "share of the reading that the control reproduces", "fraction", "positive", "this run")
P = Quantity("p", "permutation p, by Holm's rule over the layers", "fraction", "fraction", "this run")
LEVEL = 1 - stats.LEVEL


@public
@torch.no_grad()
def lens_controls(
    runs: Sequence[Run],
    lab: Lab,
    *,
    of: Answers,
    by: Lens | None = None,
    layers: int | Sequence[int] | None = None,
    token: int = -1,
    draws: int = 3,
    seed: int = 0,
) -> "xarray.Dataset":
    """Does a lens read the answers of several prompts, or would its controls read as much?

    Args:
        runs: one per prompt, as `lab.trace([prompts])` gives them, with the stream that the lens reads and resid_post
            of the last layer; they may have been made under edits.
        lab: the lab they came from.
        of: the answer of each prompt, in their order: token ids, or texts of one token.
        by: a fitted lens; None is the logit lens. layers: None for all that it reads.
        token: that speaks, relative to each run's first.
        draws: of either random control; their mean counts. seed: of these.

    Returns:
        Dataset: `found` (layer, sample), the reading; `answer_rank` (layer, sample); `null` (layer, control, sample);
        `excess`, `low`, `high` and `p` (layer, control), the mean of found - null over the prompts with its 95 %
        interval by Student's t, and its permutation p by Holm's rule over the layers; `reproduced` (layer, control),
        the share of the reading that the control gives; `beyond` (layer), whether the reading is beyond every null (all
        controls but the logit lens). The attribute `verdict` says it in words. An int as `layers` drops its axis.

    Raises:
        InputError: fewer than two prompts or answers, another number of answers, another model's run or lens.
        SeamError, ParityError, BudgetError: as of `residual.lens`.
    """
    runs = list(runs) if isinstance(runs, list | tuple) else [runs]
    for run in runs:
        check_subjects(NAME, {"run": ("Run",), "lab": ("Lab",)}, (run, lab), {})
        check_lab(run, lab, NAME)
    chosen, seam, read = taken(by, lab, layers, None, NAME)
    ids, names = answers(lab, of, NAME)
    draws, seed = whole(draws, "draws", least=1), whole(seed, "seed", least=0)
    if len(runs) != len(ids) or len(set(ids)) < 2:
        got = f"{len(runs)} prompts, {len(ids)} answers, {len(set(ids))} of them different"
        raise InputError(
            f"{NAME}: an answer for each of several prompts", got=got, expected="at least two different ones"
        )
    token = whole(token, "token")
    at = [select(token, len(run), "token")[0] for run in runs]
    near = [_nearest(run.ids.tolist(), answer, place) for run, answer, place in zip(runs, ids, at, strict=True)]
    if none := [n for n, found in enumerate(near) if not found]:
        raise InputError(
            f"{NAME}: nothing stands near the answer", got=f"prompt {none[0]}", expected="other tokens in it"
        )
    spec, controls = lab.spec, [*NULLS, *([] if by is None else [BASE])]
    parts = {
        "streams": 8 * (4 + draws) * len(runs) * spec.hidden,
        "logits of some rows": 4 * 4 * max(SCRATCH // 4, spec.vocab),
        "result": 8 * len(chosen) * len(runs) * (3 + len(controls)),
        "map of a layer": 0 if by is None else 16 * spec.hidden**2,
    }
    admit(NAME, len(runs), parts, lab.device, [("layers=[-1]", sum(parts.values()) // len(chosen))])
    facts = max((proof(run, lab, NAME) for run in runs), key=lambda found: found["parity"])
    generator, columns = torch.Generator().manual_seed(seed), []
    for layer in chosen:
        stream = torch.stack(
            [run.seams[layer, seam][place].to(lab.device) for run, place in zip(runs, at, strict=True)]
        )
        columns.append(_layer(lab, by, layer, stream, ids, near, draws, generator))
    found, ranks, null = (np.array(column) for column in zip(*columns, strict=True))
    coords = {"layer": chosen, "kind": ("layer", list(map(spec.kind, chosen))), "control": controls}
    coords |= {"sample": range(len(runs)), "answer": ("sample", names)}
    attrs = {"model": lab.name, "reading": NAME, "seam": seam, "seed": seed} | read | facts
    made = _compared(found, ranks, null, coords, attrs)
    return made.isel(layer=0) if layers is not None and is_index(layers) else made


def _layer(lab, by, layer, stream, ids, near, draws, generator):
    """(readings [sample], places [sample], readings of the controls [control, sample]) of one layer."""
    carry = (lambda h: h) if by is None else (lambda h: by.carry(h, layer))
    own = lambda h: np.concatenate(_bits(lab, h, [[each] for each in ids]))  # noqa: E731
    others = [[other for other in ids if other != each] for each in ids]
    asked = [[each, *rest, *close] for each, rest, close in zip(ids, others, near, strict=True)]
    bits = _bits(lab, carry(stream), asked)
    drawn = [
        (own(carry(_directions(stream, generator))), own(_mapped(stream, by, layer, generator))) for _ in range(draws)
    ]
    null = [
        [row[1 : 1 + len(rest)].mean() for row, rest in zip(bits, others, strict=True)],
        [row[1 + len(rest) :].mean() for row, rest in zip(bits, others, strict=True)],
        *np.mean(drawn, 0),
        *([] if by is None else [own(stream)]),
    ]
    found = np.array([row[0] for row in bits])
    return found, np.round(lab.spec.vocab * 2.0**-found) - 1, null


def _nearest(ids, answer, place):
    """The tokens of a prompt that stand nearest to the answer's last place in it, or to the token that speaks."""
    held = [n for n, token in enumerate(ids) if token == answer]
    center = held[-1] if held else place
    order = sorted((n for n, token in enumerate(ids) if token != answer), key=lambda n: (abs(n - center), n))
    return [ids[n] for n in order[:NEAREST]]


def _bits(lab, carried, asked):
    """How far up the tokens asked for are in what streams [sample, channel] say; an array per sample."""
    step, made, vocab = max(1, SCRATCH // (4 * lab.spec.vocab)), [], lab.spec.vocab
    for first in range(0, len(asked), step):
        said = logits(lab, carried[first : first + step]).float()
        ordered = said.sort(-1).values
        for row, line, tokens in zip(said, ordered, asked[first : first + step], strict=True):
            likelier = vocab - torch.searchsorted(line, row[tokens], right=True).cpu().numpy()
            made.append(np.log2(vocab / (likelier + 1)))
    return made


def _directions(stream, generator):
    """Random vectors with the norms of these, on their device."""
    made = torch.randn(stream.shape, generator=generator, dtype=torch.float32).to(stream.device)
    return (made / made.norm(dim=-1, keepdim=True) * stream.float().norm(dim=-1, keepdim=True)).to(stream.dtype)


def _mapped(stream, by, layer, generator):
    """What one map of normal entries, of the norm of the lens's own, makes of all streams [sample, channel].

    The map itself is never made: on the span of the streams, Hᵀ = Q R, it is a matrix of normal entries times R.
    """
    h, width = stream.float(), stream.shape[-1]
    norm = width**0.5 if by is None else float(by.matrix(layer, h).norm())
    span = torch.linalg.qr(h.T.cpu()).R
    made = (torch.randn(width, len(span), generator=generator) * (norm / width) @ span).T.to(stream.device)
    return made + by.biases[layer].to(made) if by is not None and by.biases else made


def _compared(found, ranks, null, coords, attrs):
    """The Dataset of readings [layer, sample], and of controls [layer, control, sample]."""
    import xarray

    differences = xarray.DataArray(found[:, None] - null, dims=("layer", "control", "sample"))
    low, high = stats.t_interval(differences)
    p = stats.permutation(differences)
    p = xarray.concat([stats.holm(p.isel(control=n)) for n in range(p.sizes["control"])], "control")
    mean, pair = differences.mean("sample"), ("layer", "control")
    nulls = [name in NULLS for name in coords["control"]]
    beyond = ((mean > 0) & (p.transpose(*pair) < LEVEL))[:, nulls].all("control")
    variables = {
        "found": (("layer", "sample"), found, FOUND),
        "answer_rank": (("layer", "sample"), ranks, RANK),
        "null": ((*pair, "sample"), null, NULL),
        "excess": (pair, mean.values, EXCESS),
        "low": (pair, low.values, EXCESS),
        "high": (pair, high.values, EXCESS),
        "p": (pair, p.transpose(*pair).values, P),
        "reproduced": (pair, null.mean(-1) / found.mean(-1)[:, None], SHARE),
        "beyond": (("layer",), beyond.values, None),
    }
    made = label(variables, coords=coords, attrs=attrs)
    return made.assign_attrs(verdict=_verdict(made))


def _verdict(ds):
    """In words: which layers read the answer beyond every null, what reproduces the others, what no fitting reads."""
    samples, layers = ds.sizes["sample"], ds.sizes["layer"]
    if 2.0 ** (1 - samples) * layers >= LEVEL:
        return f"{samples} prompts cannot tell {layers} layers from chance, whatever they read"
    told, named = (ds.excess > 0) & (ds.p < LEVEL), lambda held: _named(ds.layer.values[held.values])
    said = [f"beyond every control: {named(ds.beyond)}" if ds.beyond.any() else "no layer reads beyond its controls"]
    for control in NULLS:
        if (within := ~told.sel(control=control)).any():
            shares = ds.reproduced.sel(control=control)[within.values]
            ends = dict.fromkeys(f"{share:.0%}" for share in (float(shares.min()), float(shares.max())))
            said.append(f"{control} reproduces {' to '.join(ends)} of the reading in {named(within)}")
    if BASE in ds.control.values:
        better = told.sel(control=BASE)
        said.append(f"further up than by the logit lens: {named(better) if better.any() else 'no layer'}")
    return "; ".join(said)


def _named(layers):
    """ "layer 3", "layers 0 to 4", "layers 0, 2, 3"."""
    layers = [int(layer) for layer in layers]
    if len(layers) == 1:
        return f"layer {layers[0]}"
    run = len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1))
    return f"layers {layers[0]} to {layers[-1]}" if run else f"layers {', '.join(map(str, layers))}"
