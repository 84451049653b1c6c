"""`lab.step`: one token more for a cache, as a run; and which reader a call takes."""

import weakref
from collections.abc import Sequence

import torch

from labkit.cache import HybridCache
from labkit.errors import BackendError
from labkit.scopes import Call
from labkit.steps.capture import CudaGraph, refusal
from labkit.steps.fixed import Fixed
from labkit.steps.plain import Plain
from labkit.trace import Seams

_STEPPED = weakref.WeakKeyDictionary()  # cache -> (what was asked, Fixed): its recording lasts from step to step


def reader(
    call: Call,
    lab,
    cache,
    wanted: dict[int, list[str]],
    *,
    most: int,
    pads: Sequence[int] = (0,),
    states: Sequence[int] = (),
    capture: bool | None = None,
) -> Plain | Fixed:
    """What reads tokens into a cache: on fixed shapes where a card can record that, else by ordinary passes.

    Args:
        most: steps whose seams are kept. states: DeltaNet layers whose state is kept after each of them.
        capture: True demands a recording, False wants none, None takes it where it
            can be had.

    Raises:
        BackendError: a recording is demanded, and something stands in its way; it says what.
    """
    why = "not wanted" if capture is False else refusal(lab, cache)
    if why is None:
        return Fixed(
            call, lab, cache, wanted, most=most, pads=pads, states=states, graph=CudaGraph, demanded=bool(capture)
        )
    if capture:
        hint = "capture=None takes ordinary passes where there is no other way"
        raise BackendError("this decode step cannot be recorded", got=why, hint=hint)
    return Plain(call, lab, cache, wanted, pads=pads, states=states)


def step(
    call: Call,
    lab,
    cache: HybridCache,
    tokens: torch.Tensor,
    wanted: dict[int, list[str]],
    states: tuple[int, ...],
    capture: bool | None,
) -> tuple[torch.Tensor, list[Seams], tuple[torch.Tensor, ...], dict[int, torch.Tensor]]:
    """One token more of every row, [batch]: (logits [batch, vocab], seams of each row, rotary, states).

    Raises:
        BackendError: as `reader`.
    """
    asked, (before, held) = (wanted, states, len(tokens)), _STEPPED.get(cache, (None, None))
    if capture is not False and before == asked and held.lab is lab and refusal(lab, cache) is None:
        held.call, held.demanded = call, bool(capture)
        return held.step(tokens), *held.last(), held.states()
    options = dict(pads=(0,) * len(tokens), states=states, capture=capture)
    with reader(call, lab, cache, wanted, most=1, **options) as made:
        if isinstance(made, Plain):
            return made.step(tokens), *made.joined(), made.states()
    _STEPPED[cache] = asked, made
    return made.step(tokens), *made.last(), made.states()
