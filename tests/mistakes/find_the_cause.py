"""What readers do wrong in 08_find_the_cause: (their function, words of the law that must break)."""

import itertools

import numpy as np
from scipy.stats import wilcoxon

from labkit import check


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


def _made_positive(d):
    """Makes the mean positive, in place."""
    d *= np.sign(d.sum()) or 1
    return float((abs(_signs(len(d)) @ d) >= d.sum() * (1 - 1e-9)).mean())


def _scattered(p, kept):
    """Holm's factors, something kept of those before, and back into their places."""
    order, made = np.argsort(p), np.empty(len(p))
    made[order] = np.minimum(1, kept(p[order] * np.arange(len(p), 0, -1)))
    return made


def _dense(p):
    """Equal ones share a rank, and so the next factor is too large."""
    values, places = np.unique(p, return_inverse=True)
    return np.minimum(1, np.maximum.accumulate(values * (len(p) - np.arange(len(values)))))[places]


def _written_over(p):
    p[:] = _scattered(p, np.maximum.accumulate)
    return p


def _subtracted(lost, parts):
    """Takes the single losses from the very array that was given."""
    matrix, single = np.zeros((len(parts), len(parts))), {part: lost([part]) for part in parts}
    for i, j in itertools.combinations(range(len(parts)), 2):
        joint = lost([parts[i], parts[j]])
        joint -= single[parts[i]]
        joint -= single[parts[j]]
        matrix[i, j] = matrix[j, i] = joint.mean()
    return matrix


def _with_diagonal(lost, parts):
    matrix = check.stand_ins.solution(lost, parts)
    np.fill_diagonal(matrix, -0.1)
    return matrix


def _remembered(lost, parts):
    """Asks through a dictionary, and takes means first."""
    kept = {}

    def mean(*names):
        key = frozenset(names)
        if key not in kept:
            kept[key] = float(np.mean(lost(sorted(key))))
        return kept[key]

    return [[0.0 if a == b else mean(a, b) - mean(a) - mean(b) for a in parts] for b in parts]


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
        "takes ranks for sizes": (lambda d: float(wilcoxon(d).pvalue), "outweighs"),
        "leaves too much room": (
            lambda d: float((abs(_signs(len(d)) @ d) >= abs(d.sum()) - 1e-3).mean()),
            "thousandths",
        ),
        "counts, and does not divide": (
            lambda d: int((abs(_signs(len(d)) @ d) >= abs(d.sum()) * 0.999).sum()),
            "2 of 8",
        ),
        "leaves out the signs as they came": (
            lambda d: float((abs(_signs(len(d))[1:] @ d) >= abs(d.sum()) * (1 - 1e-9)).mean()),
            "2 of 8",
        ),
        "doubles one side": (
            lambda d: float(min(1, 2 * (_signs(len(d)) @ d >= d.sum() - 1e-9).mean())),
            "the sign of all",
        ),
        "makes all of one sign in place": (_made_positive, "left as it was"),
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
        "counts equal ones once": (_dense, "equal ones"),
        "writes over what it was given": (_written_over, "left as it was"),
        "goes on from the largest": (
            lambda p: _scattered(p, lambda q: np.minimum.accumulate(q[::-1])[::-1]),
            "order is kept",
        ),
        "takes the places the wrong way": (
            lambda p: np.minimum(1, _held(np.sort(p)))[np.argsort(p)],
            "its place",
        ),
        "cuts nothing off": (lambda p: _held(np.sort(p))[np.argsort(np.argsort(p))], "above 1"),
    },
    "stand_ins": {
        "gives the joint loss": (_matrix(lambda both, one, two: both), "add up"),
        "takes the larger single loss": (_matrix(lambda both, one, two: both - np.maximum(one, two)), "add up"),
        "the sign": (_matrix(lambda both, one, two: one + two - both), "jointly"),
        "fills one half": (_matrix(lambda both, one, two: both - one - two, both=False), "order of two parts"),
        "takes the median": (_matrix(lambda both, one, two: np.median(both - one - two)), "jointly"),
        "takes the sum over prompts": (_matrix(lambda both, one, two: np.sum(both - one - two)), "jointly"),
        "takes the first prompt": (_matrix(lambda both, one, two: (both - one - two)[0]), "jointly"),
        "takes losses as independent": (_matrix(lambda both, one, two: both - one - two + one * two), "add up"),
        "writes into the joint loss": (_subtracted, "`lost` gives is left as it was"),
        "keeps all prompts": (
            lambda lost, parts: np.stack([check.stand_ins.solution(lost, parts)] * 3, -1),
            "a number for each two",
        ),
        "fills the diagonal": (_with_diagonal, "with itself"),
        "cuts off at 0": (_matrix(lambda both, one, two: max(0, np.mean(both - one - two).round(9))), "in a row"),
        "asks again": (_matrix(lambda both, one, two: both - one - two, alone_once=False), "twice"),
    },
}

WAYS = {
    "sign_flips": {
        "half of the signs": lambda d: float(
            (abs(_signs(len(d) - 1) @ d[1:] + d[0]) >= abs(d.sum()) * (1 - 1e-9)).mean()
        ),
        "means that are close": lambda d: np.mean(
            [abs(x) > abs(d.mean()) or np.isclose(abs(x), abs(d.mean())) for x in (_signs(len(d)) * d).mean(1)]
        ),
    },
    "corrected": {
        "the definition": lambda p: [min(1, max(q * sum(r >= q for r in p) for q in p if q <= one)) for one in p],
        "sorted twice": lambda p: np.minimum(1, _held(np.sort(p)))[np.argsort(np.argsort(p, kind="stable"))],
    },
    "stand_ins": {"a dictionary of means": _remembered},
}
