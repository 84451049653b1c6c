"""By which path a lens's reading came: through states, attention, MLPs, or from the embedding.

The stream after layer l is x_0 + Σ_{k ≤ l} (mixer_k + mlp_k), and what a lens says there is

    z_y = ⟨γ ⊙ W_U[y], J x_l + b⟩ / rms(J x_l + b)

linear in every branch with rms held, so it is the sum of what J makes of each. A branch stands for what it wrote: that
it wrote so because of an earlier one is no part of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.calling import public
from labkit.errors import ParityError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.plan import admit
from labkit.reading import axis
from labkit.residual.branches import way_out
from labkit.residual.lenses import Lens, taken
from labkit.residual.stream import Answers, check_lab, check_sum, compared, logits, proof
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

NAME = "residual.lens_by_path"
PATHS = ("embedding", "states", "attention", "mlp", "bias")
MIXERS = {"deltanet": "states", "attention": "attention"}
SEAMS = ("mixer_out", "mlp_out")
CAME = Quantity("c", "what came to the lens's logit by this path, the norm held", "nat", "signed", "this run")


@public
@torch.no_grad()
def lens_by_path(
    run: Run,
    lab: Lab,
    *,
    of: Answers,
    against: Answers | None = None,
    by: Lens | None = None,
    layers: int | Sequence[int] | None = None,
    tokens: int | Sequence[int] | None = -1,
    each: bool = False,
) -> "xarray.Dataset":
    """What a lens says of an answer at every layer, as the sum of what came by states, attention, MLPs and embedding.

    Args:
        run: `Run` with resid_pre of layer 0, mixer_out and mlp_out up to the last layer that is read, the stream that
            the lens reads, and resid_post of the last layer.
        lab: the lab it came from.
        of: token ids, or texts of one token. against: as many, or one for all: then of the difference of the logits.
        by: a fitted lens; None is the logit lens. layers: None for all that it reads.
        tokens: that speak, relative to the run's first; None for all.
        each: also every branch by itself.

    Returns:
        Dataset: `came` (layer, path, token, answer), path "embedding", "states" (the Gated DeltaNet mixers),
        "attention", "mlp" and, of a lens that has one, "bias"; `logit` (layer, token, answer), what the lens says and
        their sum; with `each` `branch` (layer, source_layer, term, token, answer), term "mixer" or "mlp", 0 from where
        they were not written yet. An int as `layers` or `tokens` drops its axis. The attribute `residual` is how far
        sum and logit are apart.

    Raises:
        InputError: another model's run or lens, an answer of several tokens, a layer or token out of range.
        SeamError: a seam that was not kept. ParityError: branches that do not add up to the lens's logit. BudgetError.
    """
    check_lab(run, lab, NAME)
    spec, rows = run.spec, select(tokens, len(run), "token")
    chosen, seam, read = taken(by, lab, layers, None, NAME)
    ids, foils, names = compared(lab, of, against, NAME)
    parts = {
        "result": 8 * len(chosen) * len(rows) * len(ids) * (len(PATHS) + 1 + (2 * spec.layers if each else 0)),
        "branches": 8 * (2 * spec.layers + 3) * len(rows) * spec.hidden,
        "ways out": 8 * 3 * len(rows) * len(ids) * spec.hidden,
        "map of a layer": 0 if by is None else 16 * spec.hidden**2,
    }
    cheaper = [(way, sum(parts.values()) // count) for way, count in (("tokens=-1", len(rows)), ("of=[0]", len(ids)))]
    admit(NAME, len(run), parts, lab.device, cheaper)
    facts = proof(run, lab, NAME)
    wide = torch.float64 if lab.dtype == torch.float64 else torch.float32
    take = lambda layer, name: run.seams[layer, name][rows].to(lab.device, wide)  # noqa: E731
    embedding, after = take(0, "resid_pre"), seam == "resid_post"
    written = [torch.stack([take(layer, name) for name in SEAMS]) for layer in range(max(chosen) + after)]
    columns = {"came": [], "logit": [], "branch": []}
    for layer in chosen:
        stream = take(layer, seam)
        carried = stream if by is None else by.carry(stream, layer).to(wide)
        row, out = logits(lab, carried), way_out(lab, carried, ids, wide)
        own = row.to(wide)[:, ids]
        if foils is not None:
            own, out = own - row.to(wide)[:, foils], out - way_out(lab, carried, foils, wide)
        back = out if by is None else out @ by.matrix(layer, out)  # ⟨out, J x⟩ = ⟨Jᵀ out, x⟩
        added = own.new_zeros(spec.layers, 2, *own.shape)
        for index, branches in enumerate(written[: layer + after]):
            added[index] = torch.einsum("btc,tac->bta", branches, back)
        sums = _summed(spec, added) | {"embedding": torch.einsum("tc,tac->ta", embedding, back)}
        if by is not None and by.biases:
            sums["bias"] = out @ by.biases[layer].to(out)
        off = sum(sums.values()) - own
        facts |= _proof(run, facts, off, row) | {"residual": max(facts.get("residual", 0.0), float(off.abs().max()))}
        columns["came"].append(torch.stack([sums[path] for path in PATHS if path in sums]))
        columns["logit"].append(own)
        columns["branch"] += [added] if each else []
    dims, place = {"came": ("path",), "logit": (), "branch": ("source_layer", "term")}, ("token", "answer")
    meaning = {"came": CAME, "logit": "vocab_logit", "branch": CAME}
    variables = {
        name: (("layer", *dims[name], *place), torch.stack(parts), meaning[name])
        for name, parts in columns.items()
        if parts
    }
    coords = {
        "layer": chosen,
        "path": [path for path in PATHS if path in sums],
        "kind": ("layer", list(map(spec.kind, chosen))),
    }
    coords |= {**axis(run, "token", rows), "answer": names}
    coords |= {"source_layer": range(spec.layers), "term": ["mixer", "mlp"]} if each else {}
    made = label(variables, coords=coords, attrs={"model": run.model, "reading": NAME, "seam": seam} | read | facts)
    kept = {"layer": layers, "token": tokens}
    return made.isel({name: 0 for name, given in kept.items() if given is not None and is_index(given)})


def _summed(spec, added):
    """`{path: [token, answer]}` of what every branch added, [layer, term, token, answer]."""
    kinds = [spec.kind(layer) for layer in range(spec.layers)]
    sums = {path: added[[kind == own for own in kinds], 0].sum(0) for kind, path in MIXERS.items()}
    return sums | {"mlp": added[:, 1].sum(0)}


def _proof(run, facts, off, row):
    """Parity of the paths' sum, the worse of it and of what was proven before."""
    try:
        found = check_sum(run, NAME, off, row)
    except ParityError as error:
        hint = "an edit of the stream itself adds what is no branch: trace without it"
        what = f"{NAME}: the paths do not add up to what the lens says"
        raise ParityError(what, got=error.got, expected=error.expected, hint=hint) from error
    return found | {"parity": max(found["parity"], facts["parity"]), "proven": "the sum of all paths"}
