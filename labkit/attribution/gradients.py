"""Slopes of a number at the seams of a run, along chosen paths alone: of the model itself, with nothing held.

    slope    ∂ number / ∂ seam, by one backward pass
    passed   ⟨slope, seam⟩: by how much the number would change if the seam were twice itself, to first order

A cut lets the numbers of a seam through and no slope: what is left goes along the other paths, so a slope says through
which path. It is the derivative of the model in which that seam keeps the numbers that it had in this run, and finite
differences of that model give it too. `attribution.exact` holds norms and gates as well; there nothing is left over.

Gradient times input: Simonyan et al., arXiv 1312.6034; stopped at attention weights: Ali et al., arXiv 2202.07304.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from labkit import edit
from labkit.attribution.paths import difference
from labkit.calling import public
from labkit.edit import SeamEdit
from labkit.errors import InputError, LayerError
from labkit.lab import Lab
from labkit.notation import Quantity, is_index, label, select
from labkit.reading import axis
from labkit.residual.stream import Answers, answers
from labkit.spec import Spec
from labkit.trace import Run

if TYPE_CHECKING:
    import xarray

NAME = "attribution.slopes"
SOURCE = "arXiv 1312.6034"
PASSED = Quantity(
    "⟨∂, x⟩", "change of the number if this grew by all of itself, to first order", "nat", "signed", SOURCE
)
STEEP = Quantity("‖∂‖", "norm of the slope", "nat per unit", "positive", SOURCE)
NUMBER = Quantity("f", "the number whose slopes these are", "nat", "signed", "this run")
STREAM = ("resid_pre", "mixer_out", "mlp_out")
THROUGH = ("values", "deltanet", "attention")
# What decides where values go, by quantity: queries, keys, gates, decays, write strengths, weights of experts.
ROUTING = ("query", "key_vector", "gate_input", "write_input", "decay_input", "routed")
Place = tuple[int, str]


@public
def stop(
    seam: str, *, layer: int, heads: int | Sequence[int] | None = None, tokens: int | Sequence[int] | None = None
) -> SeamEdit:
    """A cut: the numbers of a seam go on as they are, and no slope comes back through it.

    Args:
        heads, tokens: as of `edit.scale`; None for all.
    """
    return edit.function(_stopped, seam=seam, layer=layer, heads=heads, tokens=tokens, name="stop")


@public
@torch.enable_grad()
def slopes(
    lab: Lab,
    prompt: str | Sequence[int] | torch.Tensor,
    *,
    of: Answers | Callable[[Run], torch.Tensor],
    against: Answers | None = None,
    token: int = -1,
    at: Sequence[Place] | None = None,
    through: str | None = None,
    cut: Sequence[Place | SeamEdit] = (),
) -> "xarray.Dataset":
    """How a number depends on seams of a run: by token, head and branch, along all paths or chosen ones.

    Args:
        prompt: one text, or its ids, read from its first token on.
        of: the answer, a token id or a text of one token, whose logit is meant; or a function of the run that gives a
            tensor of one number, computed from `run.logits` or `run.seams`.
        against: another answer: then the difference of their logits.
        token: whose logits `of` is about, or whose alone the run has as `run.logits[0]`.
        at: (layer, seam) pairs; None for the stream and both branches of every layer.
        through: "values": queries, keys, gates, decays, write strengths and routers keep their numbers; "deltanet": so
            do the mixers of attention layers, "attention": those of Gated DeltaNet layers; MLPs pass in all of them.
        cut: where slopes end beside that: (layer, seam) pairs, or `attribution.stop` of some heads or tokens.

    Returns:
        Dataset: `passed` (place, token), slope times value; `by_head` (place, reader, token), the same of every head,
        not-a-number where a seam has fewer or none; `steep` (place, token), the slope's norm; `number`. `place` says
        "layer 3, v", with the coordinates `at_layer` and `seam`. The slope itself, channel by channel:
        `run.gradient`, with `attribution.stop` as an edit around the trace.

    Raises:
        InputError: a seam whose numbers are no real ones, one that the number does not depend on, more than one number.
        LayerError: a seam that the layer does not have; values that cannot be told from keys. BudgetError.
    """
    spec = lab.spec
    places = [(layer, seam) for layer in range(spec.layers) for seam in STREAM] if at is None else _places(at, spec)
    cuts = [*_through(through, spec), *(each if isinstance(each, SeamEdit) else _stop(each, spec) for each in cut)]
    ids, names = ([], []) if callable(of) else _asked(lab, of, against)
    layers, seams = sorted({layer for layer, _ in places}), sorted({seam for _, seam in places})
    # What follows from a seam only where somebody changes it (weights of experts, from a router) is made to follow.
    kinds = {place: spec.seams[spec.kind(place[0])][place[1]] for place in places}
    led = [edit.scale(seam, layer=layer, factor=1.0) for (layer, seam), kind in kinds.items() if kind.follow]
    with lab.edit(*led, *cuts):
        run = lab.trace(prompt, logits=[token], layers=layers, seams=seams, grad=True)
    number = of(run) if callable(of) else difference(run.logits[0], ids)
    if getattr(number, "numel", lambda: 0)() != 1:
        got = f"shape {list(number.shape)}" if isinstance(number, torch.Tensor) else type(number).__name__
        raise InputError(f"{NAME}: `of` gives one number", got=got, expected="for example run.logits[0, 7]")
    rows = {place: run.gradient(number, layer=place[0], seam=place[1]).float() for place in places}
    facts = {"model": run.model, "reading": NAME, "answer": " - ".join(names) or "a function of the run"}
    facts |= {"through": through or "all paths", "cut": [repr(each) for each in cuts if each.name == "stop"]}
    return _labelled(run, number, rows, facts)


def _labelled(run, number, rows, facts):
    values = {place: run.seams[place].detach().to(slope) for place, slope in rows.items()}
    heads = {place: (slope * values[place]).sum(-1) for place, slope in rows.items() if _head_axis(run.spec, place)}
    most = max((part.shape[1] for part in heads.values()), default=1)
    by_head = torch.full((len(rows), most, len(run)), torch.nan)
    for n, place in enumerate(rows):
        if place in heads:
            by_head[n, : heads[place].shape[1]] = heads[place].T
    flat = lambda tensor: tensor.reshape(len(run), -1)  # noqa: E731
    passed = torch.stack([flat(slope * values[place]).sum(-1) for place, slope in rows.items()])
    variables = {
        "passed": (("place", "token"), passed, PASSED),
        "by_head": (("place", "reader", "token"), by_head, PASSED),
        "steep": (("place", "token"), torch.stack([flat(slope).norm(dim=-1) for slope in rows.values()]), STEEP),
        "number": ((), number, NUMBER),
    }
    named = {"at_layer": ("place", [layer for layer, _ in rows]), "seam": ("place", [seam for _, seam in rows])}
    coords = {"place": [f"layer {layer}, {seam}" for layer, seam in rows], **named, **axis(run, "token")}
    return label(variables, coords=coords, attrs=facts)


def _head_axis(spec, place):
    layer, seam = place
    shape = spec.seams[spec.kind(layer)][seam]
    return shape.dims[0] != "channel" and len(shape.dims) > 1


def _asked(lab, of, against):
    """Ids of an answer and of what it is compared with, and their texts."""
    found = [answers(lab, each, NAME) for each in (of, against) if each is not None]
    if any(len(ids) > 1 for ids, _ in found):
        got = " and ".join(str(len(ids)) for ids, _ in found)
        raise InputError(f"{NAME}: one answer at a time", got=got, expected="one token")
    return [ids[0] for ids, _ in found], [names[0] for _, names in found]


def _places(at, spec):
    """Checked (layer, seam) pairs.

    Raises:
        InputError: none, no pairs, or a seam that names things by whole numbers. LayerError: no such seam.
    """
    pairs = [tuple(each) if isinstance(each, tuple | list) else each for each in at]
    expected = '(layer, seam) pairs: [(3, "v"), (0, "mixer_out")]'
    if not pairs:
        raise InputError(f"{NAME}: no seam chosen", expected=expected)
    for each in pairs:
        if not (isinstance(each, tuple) and len(each) == 2 and is_index(each[0]) and isinstance(each[1], str)):
            raise InputError(f"{NAME}: not a seam of a layer", got=repr(each), expected=expected)
        kind = spec.kind(select(each[0], spec.layers, "layer")[0])
        if each[1] not in spec.seams[kind]:
            known, what = ", ".join(spec.seams[kind]), f"layer {each[0]} is a {kind} layer and has no seam {each[1]!r}"
            raise LayerError(f"{NAME}: {what}", expected=known)
        if spec.seams[kind][each[1]].indexes is not None:
            raise InputError(f"{NAME}: whole numbers have no slope", got=f"seam {each[1]!r}", expected="routed, router")
    return list(dict.fromkeys((int(layer) % spec.layers, seam) for layer, seam in pairs))


def _stop(place, spec):
    ((layer, seam),) = _places([place], spec)
    return stop(seam, layer=layer)


def _through(word, spec: Spec) -> Iterator[SeamEdit]:
    """Cuts that leave the paths that a word names.

    Raises:
        InputError: another word. LayerError: keys and values in one seam, as in latent attention.
    """
    if word is not None and word not in THROUGH:
        raise InputError(f"{NAME}: no such paths", got=repr(word), expected=", ".join(map(repr, THROUGH)))
    for layer, kind in enumerate(spec.kinds if word else ()):
        if word == "values":
            yield from _routing(spec, layer, kind)
        elif kind != word:
            yield stop("mixer_out", layer=layer)


def _routing(spec, layer, kind):
    seams = spec.seams[kind]
    if "latent" in seams:
        what, got = f"{NAME}: keys and values of layer {layer} come out of one seam", "latent attention"
        raise LayerError(what, got=got, expected="another `through`, or `cut`", hint=f'cut=[({layer}, "mixer_out")]')
    for name, seam in seams.items():
        if seam.quantity in ROUTING or (seam.quantity == "projection" and name in ("q", "k")):
            yield stop(name, layer=layer)
        elif name == "qkv":  # channels of queries and keys come first
            kept = 2 * spec.key_heads * spec.dk
            only = lambda x, at, kept=kept: torch.cat([x[..., :kept].detach(), x[..., kept:]], -1)  # noqa: E731
            yield edit.function(only, seam=name, layer=layer, name="stop")


def _stopped(x, at):
    return x.detach()
