"""When keeping thinking costs more time than dropping it saves: closed forms, and from two ledgers of one session."""

import math

import xarray

from labkit.arguments import LONGEST, number
from labkit.calling import public
from labkit.spec import Spec, compute, memory


@public
def break_even_turn(
    spec: Spec,
    *,
    visible: float,
    generated: float,
    thinking: float,
    position: float,
    gpu: str = "H200",
    dtype: str = "bfloat16",
    rate: float | None = None,
) -> float:
    """The turn after which preserving costs more time than stripping saves, for uniform turns.

    Preserved thinking is read again at every decode step; stripping reads the visible tokens of every turn once more:

        U* = 2 v (a + b p) BW / (g κ R F)

    Args:
        visible: v, tokens of a turn that stay visible. generated: g, tokens generated per turn. thinking: R, of them
            thinking. position: p, mean length of the context.
        rate: F in FLOP/s; None is the card's peak.

    Returns:
        turns, a float; infinite without thinking.
    """
    given = dict(visible=visible, generated=generated, thinking=thinking, position=position)
    given = {name: number(tokens, name, least=0, most=LONGEST) for name, tokens in given.items()}
    visible, generated, thinking, position = given.values()
    card = compute.find_gpu(gpu)
    flops = compute.linear_flops(spec) + compute.core_flops(spec) + compute.pair_flops(spec) * position
    rate = compute.rates(card, dtype)[0] * 1e12 if rate is None else number(rate, "rate", above=0)
    reread = generated * memory.kv_bytes_per_token(spec, dtype) * thinking * rate
    return 2 * visible * flops * card.bandwidth * 1e12 / reread if reread else math.inf


def break_even_shortening(strip: xarray.Dataset, preserve: xarray.Dataset) -> float:
    """The share of generated tokens that preserving must save to take no more time than stripping; 0 if it need not.

    Args:
        strip, preserve: two ledgers of one session.
    """
    seconds = [float((ds.prefill_seconds + ds.decode_seconds).sum()) for ds in (strip, preserve)]
    return max(0.0, (seconds[1] - seconds[0]) / float(preserve.decode_seconds.sum()))
