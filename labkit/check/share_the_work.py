"""Exercises of 05_share_the_work: what a mixer adds, a loss measured in pairs, how many facts a state can hold."""

import torch

from labkit.check.laws import Law, exercise

TOKENS, WIDTH = 5, 3  # sizes that differ: an exchange of axes cannot pass
KEY, COLOURS = 4, 6


def _share(added, stream):
    return (added.norm(dim=-1) / stream.norm(dim=-1)).mean()


@exercise(solution=_share)
def added_share(yours):
    """What a mixer adds, over the stream it is added to: `yours(added, stream)`, the mean over tokens, a number.

    Args:
        yours: added and stream are (token, width): what the mixer gives, and the residual stream before it.

    Source: labkit.residual; the norm is Euclid's.
    """
    stream = torch.tensor([[3.0, 4, 0], [0, 0, 2], [1, 0, 0], [0, 10, 0], [0, 3, 4]])
    factor = torch.tensor([0.5, 1.0, 2.0, 0.1, 0.4])[:, None]
    turned = stream.roll(1, dims=1)
    yield Law("nothing added is a share of 0", lambda: float(yours(0 * stream, stream)), 0.0)
    yield Law("as much as there is, in another direction, is 1", lambda: float(yours(turned, stream)), 1.0, "use norms")
    yield Law("a step back counts as one forward", lambda: float(yours(-0.5 * stream, stream)), 0.5, "norms, not sums")
    each = lambda: float(yours(factor * turned, stream))
    yield Law("each token is measured by its own stream", each, 0.8, "a norm per token, then ratios, then their mean")


def _paired(whole, cut):
    lost = whole - cut
    return float(lost.mean()), float(lost.std(correction=1) / len(lost) ** 0.5)


@exercise(solution=_paired)
def paired_loss(yours):
    """What a cut costs, and how sure that is: `yours(whole, cut)` gives (mean loss, its standard error).

    Args:
        yours: whole and cut are tensors (question,) of 1.0 for a right answer and 0.0 for a wrong one, to the same
            questions in the same order.

    Source: Student 1908, the paired t-test.
    """
    whole = torch.tensor([1.0, 1, 1, 1, 0, 1, 1])
    cut = torch.tensor([1.0, 0, 1, 0, 0, 0, 1])
    yield Law("the loss is the mean of the differences", lambda: yours(whole, cut)[0], 3 / 7, "whole less cut")
    same = lambda: yours(whole, whole)
    yield Law("nothing is lost against oneself, for sure", same, (0.0, 0.0), "of the differences, not of the two")
    all_ = lambda: yours(torch.ones(4), torch.zeros(4))
    yield Law("a loss at every question has no error", all_, (1.0, 0.0), "the spread of the differences is 0 then")
    hint = "standard deviation with n - 1 below, over the root of n"
    two = lambda: yours(torch.tensor([1.0, 1]), torch.tensor([0.0, 1]))
    yield Law("one lost of two is 0.5 and 0.5", two, (0.5, 0.5), hint)
    yield Law(
        "three lost of seven is 3/7 with an error of 0.202", lambda: yours(whole, cut), (3 / 7, (2 / 49) ** 0.5), hint
    )


def _recalled(keys, values):
    S = torch.zeros(keys.shape[1], values.shape[1])
    for k, v in zip(keys, values, strict=True):
        S = S + torch.outer(k, v - S.T @ k)
    return int(((keys @ S).argmax(1) == values.argmax(1)).sum())


def _facts(seed, count):
    draw = torch.Generator().manual_seed(seed)
    keys = torch.randn(count, KEY, generator=draw)
    colours = torch.randint(COLOURS, (count,), generator=draw)
    return keys / keys.norm(dim=1, keepdim=True), torch.eye(COLOURS)[colours]


@exercise(solution=_recalled)
def facts_recalled(yours):
    """How many facts one state gives back: `yours(keys, values)`, a whole number.

    Args:
        yours: keys (fact, key) of length one and values (fact, value), a single 1 at the fact's colour, both in the
            order in which they are written, by the delta rule; a fact is given back if the read of its key is
            largest at its own colour.

    Source: arXiv 2412.06464, equation 10 with beta = 1 and no decay.
    """
    word_k, word_v = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]]), torch.eye(3)
    apart = lambda: yours(torch.eye(KEY), torch.eye(COLOURS)[[5, 0, 3, 0]])
    yield Law("keys at right angles are all given back", apart, 4)
    again = lambda: yours(torch.eye(KEY)[[0, 1, 0, 0]], torch.eye(COLOURS)[[5, 0, 5, 3]])
    yield Law("a key that is written again says its last value alone", again, 2, "write the error, and ask at the end")
    yield Law("of the three animals by hand, two", lambda: yours(word_k, word_v), 2, "ask for all after the last write")
    few, many = (_recalled(*_facts(seed, 9)) for seed in (0, 1))
    yield Law("of nine facts in four directions, some", lambda: yours(*_facts(0, 9)), few, "one write at a time")
    yield Law("and of nine others", lambda: yours(*_facts(1, 9)), many)
