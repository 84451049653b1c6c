"""Exercises of 08_find_the_cause: signs by chance, a correction for many heads, stand-ins."""

import itertools

import numpy as np

from labkit.check.laws import Law, exercise

_P3 = np.array([0.03, 0.04, 0.5])
PARTS = ("mixer 3", "head 0", "head 1", "mixer 7")
ALONE = np.array([[0.1, 0.25, 0.05, 0.4], [0.2, 0.15, 0, 0.5], [0.3, 0.2, 0.1, 0.3]])  # lost (prompt, part)


def _flips(differences):
    values = np.asarray(differences, dtype=np.float64)
    signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
    return float((abs(signs @ values) >= abs(values.sum()) * (1 - 1e-9)).mean())


def _corrected(p):
    order, made, most = np.argsort(p), np.empty(len(p)), 0.0
    for n, place in enumerate(order):
        most = max(most, min(1.0, p[place] * (len(p) - n)))
        made[place] = most
    return made


def _beyond(lost, parts):
    alone = [lost([part]) for part in parts]
    made = np.zeros((len(parts), len(parts)))
    for i, j in itertools.combinations(range(len(parts)), 2):
        made[i, j] = made[j, i] = np.mean(lost([parts[i], parts[j]]) - alone[i] - alone[j])
    return made


class _Model:
    """A model that loses what its parts lose alone, and more without both of a pair; it keeps questions and answers."""

    def __init__(self, more=None):
        self.more, self.asked, self.given = more or {}, [], []

    def __call__(self, names):
        held = sorted({PARTS.index(name) for name in names})
        self.asked.append(tuple(held))
        joint = sum(self.more.get(pair, 0) for pair in itertools.combinations(held, 2))
        self.given.append(ALONE[:, held].sum(1) + np.array([0.4, 0.8, 1.8]) * joint)
        return self.given[-1]


@exercise(solution=_flips)
def sign_flips(yours):
    """Two-sided p of a mean of paired differences by exchanging signs: `yours(differences)` gives a number.

    Args:
        yours: differences, a float array (pair,); all 2^pair signs are tried.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    hint = "a share of all signs, at least as far from 0 and on either side: -1, -2, -3 would have come as easily"
    yield Law("of three differences of one sign p is 2 of 8", lambda: yours(np.array([1.0, 2, 3])), 0.25, hint)
    yield Law("a mean of nothing is reached by all signs", lambda: yours(np.array([2.0, -2])), 1.0, hint)
    yield Law("more pairs of one sign halve p, each", lambda: yours(np.array([1.0, 2, 3, 1, 2])), 0.0625, hint)
    hint = "count the signs whose mean is at least as far from 0 as the mean that was found"
    yield Law(
        "a small difference of the other sign counts little", lambda: yours(np.array([4.0, 5, -1, 3])), 0.25, hint
    )
    yield Law("one large difference outweighs four small ones", lambda: yours(np.array([1.0, 2, 3, 4, -20])), 1.0, hint)
    yield Law("the sign of all together does not matter", lambda: yours(np.array([-4.0, -5, 1, -3])), 0.25, hint)
    hint = "0.1 + 0.2 and 0.3 are two numbers to a computer: let sums that differ by rounding count as equal"
    yield Law("another unit leaves p", lambda: yours(np.array([0.1, 0.2, -0.3, 0.6])), 0.625, hint)
    hint = "the room for rounding is a small share of the sum itself, as 1e-9 of it"
    yield Law("so do thousandths of a unit", lambda: yours(np.array([4.0, 5, -1, 3]) / 10_000), 0.25, hint)


@exercise(solution=_corrected)
def corrected(yours):
    """p values corrected for how many there are, after Holm: `yours(p)` gives an array like p.

    Args:
        yours: p, a float array (test,), in any order; the result stands in the same order.

    Source: Holm 1979, Scand. J. Stat. 6.
    """
    hint = "an array (test,) like p, multiplied by how many tests there are: by 1"
    yield Law("a single test is left as it is", lambda: yours(np.array([0.03])), np.array([0.03]), hint)
    hint = "the smallest of three is multiplied by 3, the next by 2, the largest by 1"
    yield Law("of 0.01, 0.02 and 0.5 come 0.03, 0.04 and 0.5", lambda: yours(np.array([0.01, 0.02, 0.5])), _P3, hint)
    hint = "sort, correct, and put each number back into its place"
    mixed = lambda: yours(np.array([0.5, 0.01, 0.02]))
    yield Law("each stays in its place", mixed, np.array([0.5, 0.03, 0.04]), hint)
    hint = "none may be below one that was smaller before: keep the largest so far"
    yield Law("their order is kept", lambda: yours(np.array([0.02, 0.025, 0.03])), np.array([0.06, 0.06, 0.06]), hint)
    hint = "each is a test of its own: two that are equal go as one before the other"
    yield Law("equal ones count each", lambda: yours(np.array([0.5, 0.02, 0.02])), np.array([0.5, 0.06, 0.06]), hint)
    yield Law("nothing is above 1", lambda: yours(np.array([0.9, 0.4, 0.7, 0.3])), np.ones(4), "cut off at 1")


@exercise(solution=_beyond)
def stand_ins(yours):
    """What is lost without two parts beyond both single losses: `yours(lost, parts)` gives an array (part, part).

    Args:
        yours: lost is a function of a list of names that gives the share of the lead that is lost without all of
            them, a float array (prompt,); parts are the names. The mean over the prompts; 0 on the diagonal.

    Source: Wang et al., arXiv 2211.00593, on backup heads.
    """
    ask = lambda model: yours(model, list(PARTS))
    shape = lambda: np.shape(ask(_Model()))
    yield Law("there is a number for each two parts", shape, (4, 4), "(part, part), the mean over the prompts in each")
    alone = lambda: np.diagonal(ask(_Model()))
    yield Law("a part with itself has none", alone, np.zeros(4), "leave the diagonal 0")
    hint = "take both single losses from the joint one"
    yield Law("parts whose losses add up do not stand in for each other", lambda: ask(_Model()), _zeros(), hint)
    more, less = _Model({(0, 2): 0.6}), _zeros((1, 3, -0.15))
    hint = "joint less both single losses, the mean over all prompts; what is lost beyond them is above 0"
    yield Law(
        "a part and its stand-in lose more jointly", lambda: np.triu(ask(more)), np.triu(_zeros((0, 2, 0.6))), hint
    )
    hint = "the loss of a pair is that of its second and its first part as well: fill both places"
    yield Law("the order of two parts does not matter", lambda: ask(more), _zeros((0, 2, 0.6)), hint)
    hint = "of two parts in a row the second has nothing to lose without the first: below 0, and nothing is cut off"
    yield Law("what two parts do in a row is lost once", lambda: ask(_Model({(1, 3): -0.15})), less, hint)
    hint = "keep the single losses: each question is a pass of the model"
    yield Law("no question is asked twice", lambda: _repeated(yours), 0, hint)
    yield Law(
        "what `lost` gives is left as it was", lambda: _written(yours), 0, "`x -= y` changes x itself: take x - y"
    )


def _zeros(place=None):
    made = np.zeros((len(PARTS), len(PARTS)))
    if place:
        made[place[0], place[1]] = made[place[1], place[0]] = place[2]
    return made


def _repeated(yours):
    model = _Model()
    yours(model, list(PARTS))
    return len(model.asked) - len(set(model.asked))


def _written(yours):
    """Answers of the model that were changed afterwards."""
    model = _Model()
    yours(model, list(PARTS))
    return sum(
        bool((given != ALONE[:, held].sum(1)).any()) for held, given in zip(model.asked, model.given, strict=True)
    )
