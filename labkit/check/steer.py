"""Exercises of 09_steer: a direction, a vector without it, and what a probe proves. Controls: arXiv 1909.03368."""

import numpy as np

from labkit.check.laws import Law, exercise


def _direction(positive, negative):
    apart = positive.mean(0) - negative.mean(0)
    return apart / np.linalg.norm(apart)


def _without(rows, direction):
    unit = direction / np.linalg.norm(direction)
    return rows - np.outer(rows @ unit, unit)


def _share(rows, labels):
    hits = []
    for n in range(len(rows)):
        rest = np.arange(len(rows)) != n
        far = [np.linalg.norm(rows[n] - rows[rest & (labels == label)].mean(0)) for label in (0, 1)]
        hits.append(int(far[1] < far[0]) == labels[n])
    return float(np.mean(hits))


@exercise(solution=_direction)
def unit_direction(yours):
    """From the mean of one set to that of another: `yours(positive, negative)` gives a vector of length 1.

    Args:
        yours: positive, negative are float arrays (prompt, channel), not always of as many prompts.

    Source: Rimsky et al., arXiv 2312.06681, section 3.
    """
    plus, minus = np.array([[3.0, 1], [5, 1]]), np.array([[1.0, 1], [-1, 1]])
    apart, hint = np.array([1.0, 0]), "the mean of each set over prompts, axis 0; their difference; a length of 1"
    yield Law("means of (4, 1) and (0, 1) lie apart along (1, 0)", lambda: yours(plus, minus), apart, hint)
    hint = "from the negative to the positive"
    yield Law("exchanged sets turn it around", lambda: yours(minus, plus), np.array([-1.0, 0]), hint)
    rng = np.random.default_rng(0)
    some, others = rng.normal(1, 1, (5, 7)), rng.normal(0, 1, (3, 7))
    hint = "divide by the length of the difference, not of each mean"
    yield Law("its length is 1", lambda: np.linalg.norm(yours(some, others)), 1.0, hint)
    hint = "a mean over prompts, so that three prompts and five weigh the same"
    right = _direction(some, others)
    yield Law("sets of other sizes have the same say", lambda: yours(some, others), right, hint)
    yield Law("what both sets have in common is no part of it", lambda: yours(some + 9, others + 9), right, hint)


@exercise(solution=_without)
def taken_out(yours):
    """Rows without what they have along a direction: `yours(rows, direction)` gives an array like rows.

    Args:
        yours: rows are a float array (token, channel); direction (channel,), of any length above 0.

    Source: Arditi et al., arXiv 2406.11717, section 2.4.
    """
    rows, unit = np.array([[5.0, 5], [3, 2], [-4, 3]]), np.array([1.0, 0])
    hint = "a row has as much along a unit vector as their product says"
    yield Law(
        "without (1, 0) only channel two is left", lambda: yours(rows, unit), np.array([[0.0, 5], [0, 2], [0, 3]]), hint
    )
    slanted = np.array([[0.8, -0.6], [0.96, -0.72], [-4, 3]])
    hint = "subtract as much of the direction as there is, not the direction"
    yield Law("(5, 5) without (0.6, 0.8) is (0.8, -0.6)", lambda: yours(rows, np.array([0.6, 0.8])), slanted, hint)
    hint = "(3, 4) and (0.6, 0.8) are one direction: make its length 1 first"
    yield Law("the length of the direction does not matter", lambda: yours(rows, np.array([3.0, 4])), slanted, hint)
    rng = np.random.default_rng(0)
    many, along = rng.normal(size=(5, 7)), rng.normal(size=7)
    taken = lambda: many @ along - np.asarray(yours(many, along)) @ along
    yield Law("all that was along it is taken", taken, many @ along, hint)
    again = lambda: yours(np.asarray(yours(many, along)), along)
    yield Law("twice is once", again, _without(many, along), hint)


@exercise(solution=_share)
def left_out(yours):
    """Share of rows that the others tell the label of: `yours(rows, labels)` gives a number from 0 to 1.

    Args:
        yours: rows are a float array (prompt, channel); labels, 0 or 1, an array (prompt,). Each row in turn is left
            out, and gets the label of the nearer of the two means of the others.

    Source: Stone 1974, J. R. Stat. Soc. B 36, on cross-validation.
    """
    line = np.array([[0.0], [1], [2], [10], [11], [12]])
    half = np.array([0, 0, 0, 1, 1, 1])
    hint = "hits over rows; a hit is a row that is nearer to the mean of its own label than to the other"
    yield Law("two sets far apart are told apart", lambda: yours(line, half), 1.0, hint)
    yield Law("the label that stands for the right set is not turned", lambda: yours(line, 1 - half), 1.0, hint)
    one = np.array([[0.0], [1], [8], [10], [11], [12], [9]])
    hint = "each row asks the means of the others: it must not be among them"
    sides = np.array([0, 0, 0, 1, 1, 1, 1])
    missed = "of 0, 1 and 8 against 9 to 12 the row at 8 goes to the other side: six of seven are right"
    yield Law("a row on the other side counts as missed", lambda: yours(one, sides), 6 / 7, missed)
    twins = np.array([[0.0, 5], [3, 0], [9, 1], [4, 4], [0, 5], [3, 0], [9, 1], [4, 4]])
    none = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    yield Law("no row has a vote on itself", lambda: yours(twins, none), 0.0, hint)
    hint = "for each row two new means, of the rows that are left, and distances over all channels: a root of squares"
    rng = np.random.default_rng(1)
    rows, labels = rng.normal(size=(9, 5)), np.array([0, 1, 1, 0, 1, 0, 0, 1, 1])
    told = _share(rows, labels)
    yield Law("of nine rows of noise each goes to the nearer mean", lambda: yours(rows, labels), told, hint)
