"""Exercises of 07_stretch_the_context: rotary positions (RoFormer, arXiv 2104.09864) and YaRN (arXiv 2309.00071)."""

import math

import torch

from labkit.check.laws import Law, exercise

WIDTH = 10  # channels that are rotated: five pairs


def _speeds(base, width):
    return base ** (-torch.arange(0, width, 2) / width)


def _rotated(x, position, speeds):
    half = len(speeds)
    first, second = x[:half], x[half:]
    cos, sin = torch.cos(position * speeds), torch.sin(position * speeds)
    return torch.cat([first * cos - second * sin, second * cos + first * sin])


def _stretched(speeds, factor, window, fast=32, slow=1):
    turns = window * speeds / (2 * math.pi)
    left = ((turns - slow) / (fast - slow)).clamp(0, 1)
    return left * speeds + (1 - left) * speeds / factor


def _tensors(yours):
    """The reader's function, whose arrays and lists are tensors from here on."""
    return lambda *given, **named: torch.as_tensor(yours(*given, **named))


@exercise(solution=_speeds)
def pair_speeds(yours):
    """How fast each pair of channels turns: `yours(base, width)` gives radians per token, (pair,).

    Args:
        yours: base is the rotary base, width how many channels are rotated; a pair takes two.

    Source: arXiv 2104.09864, section 3.2.2.
    """
    made = _tensors(yours)
    hint = "one number for each pair, in one row"
    yield Law("a pair takes two channels", lambda: tuple(made(10_000.0, WIDTH).shape), (WIDTH // 2,), hint)
    hint = "base to the 0: i counts from 0, and there is no factor before the power"
    yield Law("the first pair turns by one radian a token", lambda: made(10_000.0, WIDTH)[0], 1.0, hint)
    steps = lambda: made(10_000.0, WIDTH)[1:] / made(10_000.0, WIDTH)[:-1]
    hint = "the exponent falls by 2 / width from pair to pair"
    yield Law("each pair is slower by the same factor", steps, torch.full((4,), 10_000.0 ** (-2 / WIDTH)), hint)
    yield Law("with base 10,000 and four channels the second turns by 0.01", lambda: made(10_000.0, 4)[1], 0.01)
    yield Law("with base 81 it turns by a ninth", lambda: made(81.0, 4)[1], 1 / 9, "the base is that which is given")


@exercise(solution=_rotated)
def rotated(yours):
    """A vector turned as its position says: `yours(x, position, speeds)` gives a vector as long, (channel,).

    Args:
        yours: x (channel,), position a whole number, speeds (pair,) in radians a token. Channels i and
            i + channels / 2 are a pair, as transformers has them.

    Source: arXiv 2104.09864, equation 34; transformers, `apply_rotary_pos_emb`.
    """
    speeds, draw = _speeds(50.0, WIDTH), torch.Generator().manual_seed(1)
    q, k = torch.randn(2, WIDTH, generator=draw).double()
    speeds, made = speeds.double(), _tensors(yours)
    hint = "the first halves in their places, then the second ones"
    yield Law("at position 0 nothing is turned", lambda: made(q, 0, speeds), q, hint)
    yield Law("turning keeps the length", lambda: made(q, 7, speeds).norm(), q.norm(), "a rotation of each pair")
    unit = torch.eye(WIDTH).double()[0]
    hint = "channel 0 belongs to channel 0 + half of them, not to its neighbour"
    lands = lambda: made(unit, 1, speeds).nonzero().ravel().tolist()
    yield Law("a pair is channel i and channel i + half of them", lands, [0, WIDTH // 2], hint)
    hint = "cos on the channel itself, sin with a minus on the first half and a plus on the second"
    quarter = lambda: made(unit, 1, torch.full((WIDTH // 2,), math.pi / 2).double())[WIDTH // 2]
    yield Law("a quarter of a turn takes the first channel into the second", quarter, 1.0, hint)
    apart = lambda: made(q, 9, speeds) @ made(k, 4, speeds) - made(q, 105, speeds) @ made(k, 100, speeds)
    yield Law("moving both changes no product", lambda: float(apart()) + 1, 1.0, "only the distance may be left")
    made_at_3, hint = lambda: made(q, 3, speeds), "pair i by position * speeds[i]"
    yield Law("each pair turns at its own speed", made_at_3, _rotated(q, 3, speeds), hint)


@exercise(solution=_stretched)
def yarn_speeds(yours):
    """Speeds under YaRN: `yours(speeds, factor, window, fast=32, slow=1)` gives them, (pair,).

    Args:
        yours: speeds (pair,) in radians a token, factor by which the window is stretched, window in tokens; pairs that
            make more than `fast` turns in the window are left alone, those with fewer than `slow` are slowed by the
            factor, and those between are blended in proportion to their turns.

    Source: arXiv 2309.00071, section 3.2, equations 12 and 13.
    """
    turns = torch.tensor([100.0, 40.0, 16.5, 8.75, 1.0, 0.2]).double()
    window = 700
    speeds, made = turns * 2 * math.pi / window, _tensors(yours)
    slowed = lambda **named: speeds / made(speeds, 4.0, window, **named)
    yield Law("there is a speed for each pair", lambda: tuple(made(speeds, 4.0, window).shape), (6,))
    hint = "turns in the window are window * speed / 2π; with more than `fast` of them nothing changes"
    yield Law("pairs that turn often are left alone", lambda: slowed()[:2], [1.0, 1.0], hint)
    hint = "at `slow` turns and below, the speed is divided by the factor"
    yield Law("pairs that never finish a turn are slowed by the factor", lambda: slowed()[4:], [4.0, 4.0], hint)
    hint = "halfway between slow and fast the speed itself is the mean of both speeds"
    yield Law("halfway in turns is halfway in speed", lambda: made(speeds, 4.0, window)[2], speeds[2] * 5 / 8, hint)
    hint = "in proportion: (turns - slow) / (fast - slow) of the speed itself, and the rest of the slowed one"
    yield Law(
        "a quarter in turns is a quarter in speed", lambda: made(speeds, 4.0, window)[3], speeds[3] * 7 / 16, hint
    )
    yield Law("a factor of 1 changes nothing", lambda: made(speeds, 1.0, window), speeds, "divide by `factor`")
    ends = lambda: made(speeds, 4.0, window, fast=20, slow=5)[2] / speeds[2]
    yield Law("the ends are those that are given", ends, 0.825, "use fast and slow, both")
