"""`lab.step`: one token more for a cache, as a run; and which reader a call takes."""

import weakref

import torch

from labkit.cache import HybridCache
from labkit.errors import BackendError
from labkit.scopes import Call
from labkit.steps.capture import CudaGraph, refusal
from labkit.steps.fixed import Fixed
from labkit.steps.plain import Asked, Plain
from labkit.trace import Seams

_STEPPED = weakref.WeakKeyDictionary()  # cache -> Fixed, whose recording lasts from step to step


def reader(call: Call, lab, cache, asked: Asked, capture: bool | None = None) -> Plain | Fixed:
    """What reads tokens into a cache: on fixed shapes where a card can record that, else by ordinary passes.

    Args:
        capture: True demands a recording, False wants none, None takes it where it can be had.

    Raises:
        BackendError: a recording is demanded, and something stands in its way; it says what.
    """
    why = "not wanted" if capture is False else refusal(lab, cache)
    if why is None:
        return Fixed(call, lab, cache, asked, graph=CudaGraph, demanded=bool(capture))
    if capture:
        hint = "capture=None takes ordinary passes where there is no other way"
        raise BackendError("this decode step cannot be recorded", got=why, hint=hint)
    return Plain(call, lab, cache, asked)


def step(
    call: Call, lab, cache: HybridCache, tokens: torch.Tensor, asked: Asked, capture: bool | None
) -> tuple[torch.Tensor, list[Seams], tuple[torch.Tensor, ...], dict[int, torch.Tensor]]:
    """One token more of every row, [batch]: (logits [batch, vocab], seams of each row, rotary, states).

    Raises:
        BackendError: as `reader`.
    """
    held = _STEPPED.get(cache)
    known = capture is not False and held is not None and held.asked == asked and held.lab is lab
    if known and refusal(lab, cache) is None:
        held.call, held.demanded = call, bool(capture)
    else:
        with reader(call, lab, cache, asked, capture) as held:
            if isinstance(held, Plain):
                return held.step(tokens), *held.joined(), held.states()
        _STEPPED[cache] = held
    return held.step(tokens), *held.last(), held.states()
