"""What readers do wrong in 08_find_the_cause: (their function, words of the law that must break)."""

import itertools

import numpy as np


def _signs(count):
    return np.array(list(itertools.product((1, -1), repeat=count)))


def _held(p):
    return np.maximum.accumulate(p * np.arange(len(p), 0, -1))


def _matrix(beyond, *, both=True, alone_once=True):
    """A reader's matrix, with what a pair is given."""

    def made(lost, parts):
        matrix, single = np.zeros((len(parts), len(parts))), {part: lost([part]) for part in parts}
        for i, j in itertools.combinations(range(len(parts)), 2):
            one, two = (single[p] if alone_once else lost([p]) for p in (parts[i], parts[j]))
            matrix[i, j] = np.mean(beyond(lost([parts[i], parts[j]]), one, two))
            matrix[j, i] = matrix[i, j] if both else 0
        return matrix

    return made


MISTAKES = {
    "sign_flips": {
        "looks at one side": (lambda d: float((_signs(len(d)) @ d >= d.sum() * (1 - 1e-9)).mean()), "2 of 8"),
        "counts only what is farther": (
            lambda d: float((abs(_signs(len(d)) @ d) > abs(d.sum()) * (1 + 1e-9)).mean()),
            "2 of 8",
        ),
        "exchanges the order": (
            lambda d: float(np.mean([abs(sum(p)) >= abs(sum(d)) for p in itertools.permutations(d)])),
            "2 of 8",
        ),
        "counts signs, not sizes": (
            lambda d: float((abs(_signs(len(d)).sum(1)) >= abs(np.sign(d).sum())).mean()),
            "counts little",
        ),
        "forgets rounding": (
            lambda d: float(
                np.mean(
                    [abs(sum(s * x for s, x in zip(row, d, strict=True))) >= abs(sum(d)) for row in _signs(len(d)) * -1]
                )
            ),
            "another unit",
        ),
    },
    "corrected": {
        "multiplies all by their count": (lambda p: np.minimum(1, p * len(p)), "0.01, 0.02"),
        "multiplies by the place": (lambda p: np.minimum(1, p * (1 + np.argsort(np.argsort(p)))), "0.01, 0.02"),
        "gives them sorted": (lambda p: np.minimum(1, _held(np.sort(p))), "in its place"),
        "puts them back wrongly": (lambda p: np.minimum(1, _held(np.sort(p)))[np.argsort(p)], "in its place"),
        "lets them cross": (
            lambda p: np.minimum(1, p * (len(p) - np.argsort(np.argsort(p)))),
            "order is kept",
        ),
        "cuts nothing off": (lambda p: _held(np.sort(p))[np.argsort(np.argsort(p))], "above 1"),
    },
    "stand_ins": {
        "gives the joint loss": (_matrix(lambda both, one, two: both), "add up"),
        "takes the larger single loss": (_matrix(lambda both, one, two: both - np.maximum(one, two)), "add up"),
        "the sign": (_matrix(lambda both, one, two: one + two - both), "jointly"),
        "fills one half": (_matrix(lambda both, one, two: both - one - two, both=False), "jointly"),
        "cuts off at 0": (_matrix(lambda both, one, two: max(0, np.mean(both - one - two).round(9))), "in a row"),
        "asks again": (_matrix(lambda both, one, two: both - one - two, alone_once=False), "twice"),
    },
}
