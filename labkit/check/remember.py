"""Exercises of 01_remember: a state that corrects itself. Gated Delta Networks, arXiv 2412.06464, equation 10."""

import torch

from labkit.check.laws import Law, exercise

KEY, VALUE = 3, 5  # sizes that differ: an exchange of axes cannot pass


def _written(S, k, v, beta=1.0):
    return S + beta * torch.outer(k, v - S.T @ k)


@exercise(solution=_written)
def delta_rule(yours):
    """One write of the delta rule: `yours(S, k, v, beta=1.0)` gives the state afterwards, (key, value).

    Args:
        yours: S is the state (key, value), k a key of length one (key,), v a value (value,), beta the write strength.

    Source: arXiv 2412.06464, equation 10 without the gate.
    """
    draw = torch.Generator().manual_seed(1)
    S, v, other = (torch.randn(*size, generator=draw) for size in ((KEY, VALUE), (VALUE,), (VALUE,)))
    k, across = torch.tensor([0.6, 0.0, 0.8]), torch.tensor([0.8, 0.0, -0.6])
    kept = S.clone()
    yield Law("the state keeps its axes, (key, value)", lambda: tuple(yours(S, k, v).shape), (KEY, VALUE))
    yield Law("the state that was given is left as it was", lambda: (yours(S, k, v), S)[1], kept, "return a new tensor")
    first = lambda: yours(torch.zeros(KEY, VALUE), k, v).T @ k
    yield Law("an empty memory reads back what was written", first, v, "an outer product of key and value")
    again = lambda: yours(yours(S, k, v), k, other).T @ k
    yield Law("a key written again reads its new value alone", again, other, "write the error v - S.T @ k, not v")
    side = lambda: yours(S, k, v).T @ across
    yield Law("a key at right angles reads what it read before", side, S.T @ across, "write along k and nowhere else")
    half = lambda: yours(S, k, v, beta=0.25).T @ k
    quarter = 0.75 * (S.T @ k) + 0.25 * v
    yield Law("beta is the share of the way that is gone", half, quarter, "multiply what is added by beta")
