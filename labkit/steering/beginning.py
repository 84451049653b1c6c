"""A state before the first token: a snapshot of no tokens, which every call that takes a snapshot goes on from.

    snap = steering.begin(lab, tuned)
    run = lab.resume(snap, prompt)          # run.start.state is the state; deltanet's readings know it as "before"

The rule is linear in its start, so what is left of the state at a token, and what it adds to a read, is exact there.
Young, "S₀ Tuning", arXiv 2604.01168, section 3; initial states of other recurrent models: arXiv 2404.09610.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray

from labkit.arguments import whole
from labkit.cache import Snapshot
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, label, whole_numbers
from labkit.plan import admit
from labkit.steering.measuring import ahead
from labkit.steering.sites import Prompt
from labkit.trace import layers_of

SOURCE = "arXiv 2604.01168"
BEGINS = Quantity("S₀", "state before the first token", "1", "signed", SOURCE)
LOSS = Quantity("L", "surprise of a token of the answer", "nat", "positive", SOURCE)
ROWS = 32  # examples at a time
Example = tuple[Prompt, Prompt]


@public
def begin(lab: Lab, state: xarray.Dataset | Mapping[int, torch.Tensor]) -> Snapshot:
    """A snapshot of no tokens that holds a state for some layers, and nothing for the others.

    Args:
        state: what `steering.tune` or `steering.random_start` gives; or `{layer: [head, key, value]}`.

    Returns:
        `Snapshot` of length 0, for `lab.resume(snap, prompt)`, `lab.restore` and `lab.fork`; also inside edits.

    Raises:
        InputError: no states of this model. LayerError: one for an attention layer.
    """
    name = "steering.begin"
    spec, states = lab.spec, _states(state, name)
    chosen = layers_of(spec, list(states), "deltanet", name, 'edit.scale("v", layer={layer}, factor=0.0)')
    shape = (spec.value_heads, spec.dk, spec.dv)
    for layer in chosen:
        own = states[layer]
        if tuple(own.shape) != shape or not own.is_floating_point() or not bool(own.isfinite().all()):
            raise InputError(
                f"{name}: no state of layer {layer}", got=list(own.shape), expected=f"finite {list(shape)}"
            )
    held = {layer: torch.zeros(1, *shape, device=lab.device) for layer in spec.deltanet_layers}
    held |= {layer: states[layer][None].float().to(lab.device) for layer in chosen}
    windows = {
        layer: torch.zeros(1, spec.conv_channels, spec.conv, dtype=lab.dtype, device=lab.device) for layer in held
    }
    return Snapshot(0, {}, {}, windows, held, ids=torch.empty(0, dtype=torch.long))


@public
def random_start(tuned: xarray.Dataset, *, seed: int = 0) -> xarray.Dataset:
    """The control of a tuned state: a random one in its place, with the norm that each head of each layer has there.

    Args:
        tuned: what `steering.tune` gives. seed: of the generator.

    Raises:
        InputError: no tuned states, or a seed that is no whole number.
    """
    name = "steering.random_start"
    _states(tuned, name)
    if not isinstance(tuned, xarray.Dataset):
        raise InputError(f"{name}: no tuned states", got="a mapping", expected="what steering.tune gives")
    drawn = np.random.default_rng(whole(seed, "seed", least=0)).standard_normal(tuned.state.shape)
    norms = [np.sqrt((part**2).sum((-1, -2), keepdims=True)) for part in (tuned.state.values, drawn)]
    fresh = tuned.state.copy(data=(drawn * norms[0] / norms[1]).astype("float32"))
    return fresh.to_dataset(name="state").assign_attrs(tuned.attrs | {"reading": "steering.random_start", "seed": seed})


@public
@torch.no_grad()
def judged(
    lab: Lab,
    examples: Sequence[Example],
    *,
    starts: Mapping[str, xarray.Dataset | None],
) -> xarray.Dataset:
    """How surprising the answers of examples are after several beginnings, and whether they would be given.

    Args:
        examples: pairs (prompt, answer), texts or ids; best ones that no state was tuned on.
        starts: `{name: state}` as of `begin`; None is the model's own, empty.

    Returns:
        Dataset over start and sample: `loss`, the mean surprise of the answer's tokens; `right`, whether each of them
        is the likeliest where it stands.

    Raises:
        InputError: no examples, or no states of this model. BudgetError.
    """
    name = "steering.judged"
    rows = understood(lab, examples, name)
    if not isinstance(starts, Mapping) or not starts or isinstance(starts, xarray.Dataset):
        expected = '{"own": None, "tuned": what steering.tune gives}'
        raise InputError(f"{name}: beginnings have names", got=type(starts).__name__, expected=expected)
    columns = {"loss": [], "right": []}
    for state in starts.values():
        snap = begin(lab, state if state is not None else {lab.spec.deltanet_layers[0]: _empty(lab)})
        losses, hits = [], []
        for first in range(0, len(rows), ROWS):
            part = rows[first : first + ROWS]
            some = snap.stacked(len(part))
            loss, right = surprise(lab, part, lab.restore(some))
            losses, hits = [*losses, loss.cpu()], [*hits, right.cpu()]
        columns["loss"].append(torch.cat(losses))
        columns["right"].append(torch.cat(hits))
    variables = {
        "loss": (("start", "sample"), torch.stack(columns["loss"]), LOSS),
        "right": (("start", "sample"), torch.stack(columns["right"]), None),
    }
    coords = {"start": list(starts), "sample": range(len(rows))}
    return label(variables, coords=coords, attrs={"model": lab.name, "reading": name})


def understood(lab: Lab, examples: Sequence[Example], name: str) -> list[tuple[torch.Tensor, int]]:
    """(ids of prompt and answer, tokens of the answer) of examples.

    Raises:
        InputError: none, one that is no pair, or too long for the model.
    """
    rows = []
    for prompt, answer in paired(examples, name):
        ids, more = lab.encode(prompt), lab.encode(answer)
        lab.check_room(len(ids) + len(more))
        rows.append((torch.cat([ids, more]), len(more)))
    return rows


def paired(examples: Sequence[Example], name: str) -> Sequence[Example]:
    """The examples, if they are pairs. Raises InputError."""
    pairs = examples if isinstance(examples, Sequence) and not isinstance(examples, str) else []
    if not pairs or any(isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2 for pair in pairs):
        got, expected = repr(examples)[:80], '[(" fox red. fox", " red"), ...]'
        raise InputError(f"{name}: examples are pairs of prompt and answer", got=got, expected=expected)
    return pairs


def surprise(lab: Lab, rows: list[tuple[torch.Tensor, int]], cache, *, grad: bool = False) -> tuple:
    """(mean surprise of the answer's tokens [row], whether each is the likeliest [row]), read into a fresh cache.

    Args:
        rows: of `understood`. cache: of as many rows. grad: whether to build a graph.

    Raises:
        BudgetError: logits that would not fit.
    """
    length, most = max(len(ids) for ids, _ in rows), max(more for _, more in rows)
    columns = sorted({len(ids) - more - 1 + n for ids, more in rows for n in range(more)})
    size = 4 * lab.spec.vocab * len(columns) * len(rows) * (3 if grad else 2)
    admit("steering", length, {"logits": size}, lab.device, [("answers of one token", size // most)])
    where = {column: n for n, column in enumerate(columns)}
    said = ahead(lab, [ids for ids, _ in rows], columns, cache=cache, grad=grad).float().log_softmax(-1)
    losses, hits = [], []
    for n, (ids, more) in enumerate(rows):
        own = said[n, [where[len(ids) - more - 1 + at] for at in range(more)]]
        answer = ids[-more:].to(own.device)
        losses.append(-own[torch.arange(more), answer].mean())
        hits.append((own.argmax(-1) == answer).all())
    return torch.stack(losses), torch.stack(hits)


def _states(state, name):
    """`{layer: [head, key, value]}` of a Dataset or of a mapping."""
    if isinstance(state, xarray.Dataset) and {"state", "layer"} <= set(state.variables) and state.state.ndim >= 3:
        layers = np.atleast_1d(state.layer.values).tolist()
        parts = state.state.values if state.layer.ndim else state.state.values[None]
        return {layer: torch.from_numpy(np.array(part)) for layer, part in zip(layers, parts, strict=True)}
    if isinstance(state, Mapping) and state and all(isinstance(part, torch.Tensor) for part in state.values()):
        return dict(zip(whole_numbers(list(state), "layers"), state.values(), strict=True))
    expected = "what steering.tune gives, or {layer: tensor [head, key, value]}"
    raise InputError(f"{name}: no states", got=type(state).__name__, expected=expected)


def _empty(lab):
    return torch.zeros(lab.spec.value_heads, lab.spec.dk, lab.spec.dv)
