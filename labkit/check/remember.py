"""Exercises of 01_remember: a state that corrects itself, forgets and answers. Gated DeltaNet: arXiv 2412.06464."""

import math

import torch

from labkit.check.laws import Law, exercise

KEY, VALUE = 3, 5  # sizes that differ: an exchange of axes cannot pass
TOKENS = 7


def _written(S, k, v, beta=1.0):
    return S + beta * torch.outer(k, v - S.T @ k)


def _stepped(S, q, k, v, alpha, beta):
    S = alpha * S
    S = S + beta * torch.outer(k, v - S.T @ k)
    return S, S.T @ q


def _rank(S):
    share = torch.linalg.svdvals(S) ** 2
    share = share / share.sum()
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def _whose(asked, keys, alpha, beta):
    weights, x = torch.zeros(len(keys)), asked
    for j in reversed(range(len(keys))):
        weights[j] = beta[j] * (keys[j] @ x)
        x = alpha[j] * (x - weights[j] * keys[j])
    return weights


def _drawn(seed):
    """q and a unit key, a value and a state, of sizes that differ."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (KEY,), (KEY,), (VALUE,), (KEY, VALUE)
    q, k, v, S = (torch.randn(*size, generator=draw) for size in sizes)
    return q, k / k.norm(), v, S


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
    yield Law(
        "the state keeps its axes, (key, value)",
        lambda: tuple(yours(S, k, v).shape),
        (KEY, VALUE),
        "torch.outer(k, error)",
    )
    first = lambda: yours(torch.zeros(KEY, VALUE), k, v).T @ k
    yield Law("an empty memory reads back what was written", first, v, "an outer product of key and value")
    again = lambda: yours(yours(S, k, v), k, other).T @ k
    yield Law("a key written again reads its new value alone", again, other, "write the error v - S.T @ k, not v")
    side = lambda: yours(S, k, v).T @ across
    yield Law("a key at right angles reads what it read before", side, S.T @ across, "write along k and nowhere else")
    half = lambda: yours(S, k, v, beta=0.25).T @ k
    quarter = 0.75 * (S.T @ k) + 0.25 * v
    yield Law("beta is the share of the way that is gone", half, quarter, "multiply what is added by beta")


@exercise(solution=_stepped)
def gated_step(yours):
    """One token of a Gated DeltaNet head: `yours(S, q, k, v, alpha, beta)` gives (state afterwards, read).

    Args:
        yours: S is the state (key, value), q a query and k a key of length one (key,), v a value (value,), alpha the
            share of the state that survives, beta the write strength; the read is (value,).

    Source: arXiv 2412.06464, equation 10.
    """
    q, k, v, S = _drawn(2)
    sizes = lambda: tuple(n for part in yours(S, q, k, v, 0.5, 0.25) for n in part.shape)
    yield Law("it gives a state (key, value) and a read (value)", sizes, (KEY, VALUE, VALUE), "return S, S.T @ q")
    silent = lambda: yours(S, q, k, v, 0.5, 0.0)[0]
    yield Law("with nothing written the state is multiplied by alpha", silent, 0.5 * S, "alpha * S comes first")
    kept = lambda: yours(S, q, k, v, 1.0, 0.25)[0]
    yield Law("with nothing forgotten it is the delta rule", kept, _written(S, k, v, 0.25), "your write, on alpha * S")
    whole = lambda: yours(S, q, k, v, 0.5, 1.0)[0].T @ k
    hint = "ask the memory for its error after it has forgotten, not before"
    yield Law("with beta 1 the key reads its value, however much was forgotten", whole, v, hint)
    after = lambda: yours(S, q, k, v, 0.5, 0.25)[1]
    read = _stepped(S, q, k, v, 0.5, 0.25)[1]
    hint = "read last, from the new state, with q and not with k"
    yield Law("the read is of the state after the write", after, read, hint)


@exercise(solution=_rank)
def effective_rank(yours):
    """How many directions a state uses: `yours(S)` gives one number, at least 1.

    Args:
        yours: S is a state (key, value); the number is exp(-Σ p ln p), p the squared singular values as
            shares of their sum.

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007, there with p of singular values that are not squared.
    """
    q, k, v, _ = _drawn(3)
    frame = torch.linalg.qr(torch.randn(VALUE, VALUE, generator=torch.Generator().manual_seed(4)))[0]
    even, uneven = (torch.diag(torch.tensor(sizes)) @ frame[:KEY] for sizes in ([2.0, 2, 2], [3.0, 1, 0]))
    hint = "torch.linalg.svdvals(S) gives the singular values; e to the entropy, not the entropy itself"
    yield Law("three directions of one size are three", lambda: yours(even), 3.0, hint)
    hint = "a singular value of 0 has no part in the sum: 0 ln 0 is 0"
    yield Law("one pattern is one direction", lambda: yours(torch.outer(k, v)), 1.0, hint, 1e-3)
    twice = lambda: yours(7 * even + torch.outer(k, v)) / yours(even + torch.outer(k, v) / 7)
    yield Law("a state seven times as large has as many", twice, 1.0, "divide what you squared by its sum")
    entropy = math.exp(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    hint = "singular values of 3 and 1 are shares of 9/10 and 1/10; with nan, use xlogy: 0 ln 0 is 0"
    yield Law("sizes of 3 to 1 count as 1.384 directions", lambda: yours(uneven), entropy, hint, 1e-3)


@exercise(solution=_whose)
def whose_values(yours):
    """Whose values come back: `yours(asked, keys, alpha, beta)` gives a weight for every token, (token,).

    Args:
        yours: asked is a key (key,) that the state is asked for after the last token, keys the unit keys of all tokens
            (token, key), alpha and beta their gates (token,). The state began empty.

    Source: arXiv 2412.06464, section 3: the product of the transitions, applied from the last token backwards.
    """
    draw = torch.Generator().manual_seed(5)
    keys = torch.nn.functional.normalize(torch.randn(TOKENS, KEY, generator=draw), dim=-1)
    values, asked = torch.randn(TOKENS, VALUE, generator=draw), torch.randn(KEY, generator=draw)
    alpha, beta = (0.3 + 0.7 * torch.rand(TOKENS, generator=draw) for _ in range(2))
    cross, ones = torch.eye(KEY), torch.ones(KEY)
    one = lambda: yours(asked, keys, alpha, beta).shape[0]
    yield Law(
        "there is one weight for each token",
        one,
        TOKENS,
        "a tensor: the weight of token j is what v_j is multiplied by",
    )
    last = lambda: yours(asked, keys, alpha, beta)[-1]
    hint = "w[-1] belongs to the last token; nothing came after it: beta * (its key with what is asked)"
    yield Law("the last token's weight is beta times k·asked", last, beta[-1] * (keys[-1] @ asked), hint)
    apart = lambda: yours(cross[0], cross, ones, ones)
    yield Law("keys at right angles that nobody forgets give back their own value", apart, cross[0])
    slow = lambda: yours(cross[0], cross, ones / 2, ones)[0]
    hint = "a value is multiplied by alpha of every token after its own, not by its own alpha"
    yield Law("two tokens at alpha 1/2 leave a quarter of the value before them", slow, 0.25, hint)
    again = lambda: yours(cross[0], torch.stack([cross[0], cross[1], cross[0]]), ones, ones)
    hint = "going backwards, take out of what is asked what a later token's key has covered"
    yield Law("a key that came again gives back its last value alone", again, cross[2], hint)
    S = torch.zeros(KEY, VALUE)
    for k, v, a, b in zip(keys, values, alpha, beta, strict=True):
        S, _ = _stepped(S, k, k, v, a, b)
    said = lambda: yours(asked, keys, alpha, beta) @ values
    yield Law("the values with these weights add up to what the state says", said, S.T @ asked, "x = alpha * (x - …)")
