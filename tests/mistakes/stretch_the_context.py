"""What readers do wrong in 07_stretch_the_context: (their function, words of the law that must break)."""

import math

import numpy as np
import torch

from labkit import check

RIGHT = check.rotated.solution


def _neighbours(x, position, speeds):
    """Pairs of channels side by side, as the paper has them and transformers has not."""
    a, b = x[0::2], x[1::2]
    cos, sin = torch.cos(position * speeds), torch.sin(position * speeds)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], 1).ravel()


def _in_place(x, position, speeds):
    """Writes the turned halves over what it was given."""
    x[:] = RIGHT(x, position, speeds)
    return x


def _half_overwritten(x, position, speeds):
    """Turns the second half by the first one after that was turned already."""
    made = x.clone()
    first, second = made.chunk(2)  # views
    cos, sin = torch.cos(position * speeds), torch.sin(position * speeds)
    made[: len(first)] = first * cos - second * sin
    made[len(first) :] = second * cos + first * sin
    return made


def _turned_by_numpy(x, position, speeds):
    x, angles = np.asarray(x), position * np.asarray(speeds)
    a, b = np.split(x, 2)
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)])


def _slowed(speeds, factor, window, fast=32, slow=1):
    """Pair by pair."""
    made = []
    for speed in speeds.tolist():
        turns = speed * window / (2 * math.pi)
        part = min(1, max(0, (turns - slow) / (fast - slow)))
        made.append(part * speed + (1 - part) * speed / factor)
    return made


def _blended(weigh):
    def wrong(speeds, factor, window, fast=32, slow=1):
        left = weigh(window * speeds / (2 * math.pi), fast, slow).clamp(0, 1)
        return left * speeds + (1 - left) * speeds / factor

    return wrong


MISTAKES = {
    "pair_speeds": {
        "counts channels, not pairs": (lambda base, width: base ** (-torch.arange(width) / width), "two channels"),
        "gives the exponent half": (lambda base, width: base ** (-torch.arange(width // 2) / width), "same factor"),
        "turns faster and faster": (lambda base, width: base ** (torch.arange(0, width, 2) / width), "same factor"),
        "multiplies by 2π": (
            lambda base, width: 2 * math.pi * base ** (-torch.arange(0, width, 2) / width),
            "one radian",
        ),
        "always takes base 10,000": (lambda base, width: 10_000.0 ** (-torch.arange(0, width, 2) / width), "base 81"),
        "counts pairs from 1": (lambda base, width: base ** (-torch.arange(2, width + 2, 2) / width), "one radian"),
        "spaces evenly from end to end": (
            lambda base, width: torch.logspace(0, -math.log10(base), width // 2),
            "same factor",
        ),
        "gives a column": (lambda base, width: base ** (-torch.arange(0, width, 2) / width)[:, None], "two channels"),
    },
    "rotated": {
        "pairs neighbours": (_neighbours, "channel i + half"),
        "turns backwards": (lambda x, position, speeds: RIGHT(x, -position, speeds), "a quarter of a turn"),
        "turns all pairs alike": (
            lambda x, position, speeds: RIGHT(x, position, speeds[:1].expand(len(speeds))),
            "its own speed",
        ),
        "adds the position": (lambda x, position, speeds: x + position, "keeps the length"),
        "forgets the sines": (
            lambda x, position, speeds: x * torch.cos(position * torch.cat([speeds, speeds])),
            "keeps the length",
        ),
        "writes into the vector": (_in_place, "left as it was"),
        "uses what it has turned already": (_half_overwritten, "keeps the length"),
        "exchanges the halves": (
            lambda x, position, speeds: RIGHT(x, position, speeds).roll(len(speeds)),
            "position 0",
        ),
        "gives two rows": (lambda x, position, speeds: RIGHT(x, position, speeds).reshape(2, -1), "position 0"),
        "turns from 1 on": (lambda x, position, speeds: RIGHT(x, position + 1, speeds), "position 0"),
        "gives speeds from the end": (lambda x, position, speeds: RIGHT(x, position, speeds.flip(0)), "its own speed"),
    },
    "yarn_speeds": {
        "slows every pair": (lambda speeds, factor, window, fast=32, slow=1: speeds / factor, "left alone"),
        "exchanges fast and slow": (_blended(lambda turns, fast, slow: (fast - turns) / (fast - slow)), "left alone"),
        "has no slope": (_blended(lambda turns, fast, slow: (turns > fast).double()), "halfway"),
        "forgets 2π": (
            lambda speeds, factor, window, fast=32, slow=1: _blended(lambda t, f, s: (t - s) / (f - s))(
                speeds, factor, window * 2 * math.pi, fast, slow
            ),
            "never finish",
        ),
        "leaves out the ends that are given": (
            lambda speeds, factor, window, fast=32, slow=1: check.yarn_speeds.solution(speeds, factor, window),
            "ends",
        ),
        "leaves out `slow`": (_blended(lambda turns, fast, slow: (turns - 1) / (fast - 1)), "ends"),
        "takes the mean of all between": (
            _blended(
                lambda turns, fast, slow: (turns > fast) + 0.5 * ((turns >= slow) & (turns <= fast) & (turns > 1))
            ),
            "a quarter in turns",
        ),
        "blends along a curve": (
            _blended(
                lambda turns, fast, slow: (lambda t: t * t * (3 - 2 * t))(((turns - slow) / (fast - slow)).clamp(0, 1))
            ),
            "a quarter in turns",
        ),
        "blends wave lengths": (
            lambda speeds, factor, window, fast=32, slow=1: (lambda t: speeds / (t + (1 - t) * factor))(
                ((window * speeds / (2 * math.pi) - slow) / (fast - slow)).clamp(0, 1)
            ),
            "halfway",
        ),
        "writes into the speeds": (
            lambda speeds, *given, **named: speeds.copy_(check.yarn_speeds.solution(speeds, *given, **named)),
            "left as it was",
        ),
    },
}

WAYS = {
    "pair_speeds": {
        "a list": lambda base, width: [base ** (-2 * i / width) for i in range(width // 2)],
        "numpy": lambda base, width: base ** (-np.arange(0, width, 2) / width),
        "exp and log": lambda base, width: torch.exp(-torch.arange(0, width, 2).double() / width * math.log(base)),
    },
    "rotated": {
        "numpy": _turned_by_numpy,
        "complex numbers": lambda x, position, speeds: torch.view_as_real(
            torch.complex(*x.chunk(2)) * torch.polar(torch.ones_like(speeds), position * speeds)
        ).T.reshape(-1),
    },
    "yarn_speeds": {"pair by pair": _slowed},
}
