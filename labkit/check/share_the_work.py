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
    turned = torch.tensor([[0.0, 0, 5], [0, 2, 0], [0, 0.6, 0.8], [6, 0, 8], [5, 0, 0]])
    yield Law("nothing added is a share of 0", lambda: yours(0 * stream, stream), 0.0, "one number, the mean of all")
    hint = "the norm of each token, over its width: the root of the sum of squares"
    yield Law("as much as there is, in another direction, is 1", lambda: yours(turned, stream), 1.0, hint)
    yield Law(
        "a step back counts as one forward",
        lambda: yours(-0.5 * stream, stream),
        0.5,
        "norms, not squares: half the length is half",
    )
    each = lambda: yours(factor * turned, stream)
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
    hint = "whole less cut; the mean comes first, then its error"
    yield Law("the loss is the mean of the differences", lambda: yours(whole, cut)[0], 3 / 7, hint)
    gain = lambda: yours(torch.tensor([1.0, 0, 1, 0]), torch.tensor([0.0, 1, 0, 0]))[0]
    hint = "a question that only the cut model answers counts -1: no absolute value, nothing left out"
    yield Law("what is gained counts against what is lost", gain, 0.25, hint)
    same = lambda: yours(whole, whole)
    yield Law("nothing is lost against oneself, for sure", same, (0.0, 0.0), "of the differences, not of the two")
    all_ = lambda: yours(torch.ones(4), torch.zeros(4))
    yield Law("a loss at every question has no error", all_, (1.0, 0.0), "the spread of the differences is 0 then")
    hint = "standard deviation with n - 1 below, over the root of n"
    two = lambda: yours(torch.tensor([1.0, 1]), torch.tensor([0.0, 1]))
    yield Law("one lost of two is 0.5 and 0.5", two, (0.5, 0.5), hint)
    seven = lambda: yours(whole, cut)
    yield Law("three lost of seven is 3/7 with an error of 0.202", seven, (3 / 7, (2 / 49) ** 0.5), hint)
    swapped = lambda: yours(cut, whole)
    hint = "the spread of the differences, whatever their signs: no p (1 - p), which is of zeros and ones alone"
    yield Law("three gained of seven is -3/7, as sure", swapped, (-3 / 7, (2 / 49) ** 0.5), hint)


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
    yield Law(
        "keys at right angles are all given back", apart, 4, "a count: how many reads are largest at their colour"
    )
    again = lambda: yours(torch.eye(KEY)[[0, 1, 0, 0]], torch.eye(COLOURS)[[5, 0, 5, 3]])
    yield Law("a key that is written again says its last value alone", again, 2, "write the error, and ask at the end")
    yield Law("of the three animals by hand, two", lambda: yours(word_k, word_v), 2, "ask for all after the last write")
    few, many = (_recalled(*_facts(seed, 9)) for seed in (122, 83))  # of nine tenths of the error it is another count
    hint = "one write at a time, of the whole error, and the loudest colour is the largest number"
    yield Law("of nine facts in four directions, some", lambda: yours(*_facts(122, 9)), few, hint)
    yield Law("and of nine others", lambda: yours(*_facts(83, 9)), many, hint)
