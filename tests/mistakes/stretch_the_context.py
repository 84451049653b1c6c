"""What readers do wrong in 07_stretch_the_context: (their function, words of the law that must break)."""

import math

import torch

from labkit import check

RIGHT = check.rotated.solution


def _neighbours(x, position, speeds):
    """Pairs of channels side by side, as the paper has them and transformers has not."""
    a, b = x[0::2], x[1::2]
    cos, sin = torch.cos(position * speeds), torch.sin(position * speeds)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], 1).ravel()


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
    },
}
