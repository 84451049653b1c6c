"""Exercises of 03_operate_on_memory: the share of the way, a value written by hand, what later reads make of it."""

import torch

from labkit.check.laws import Law, exercise, tensor

KEY, VALUE, TOKENS = 3, 5, 4  # sizes that differ: an exchange of axes cannot pass


def _effect(patched, clean, other):
    return (patched - other) / (clean - other)


@exercise(solution=_effect)
def patch_effect(yours):
    """How far a patch moves an answer: `yours(patched, clean, other)`, a number or a tensor of them.

    Args:
        yours: logit of the clean prompt's answer less that of the other prompt's, in three runs: the other prompt with
            something of the clean one put in, the clean prompt, the other prompt.

    Source: arXiv 2404.15255, activation patching.
    """
    hint = "the way begins at `other`"
    yield Law("a patch that changes nothing has the effect 0", lambda: yours(-3.0, 5.0, -3.0), 0.0, hint)
    hint = "a share: over the whole way, from `other` to `clean`"
    yield Law("one that gives the clean answer has the effect 1", lambda: yours(5.0, 5.0, -3.0), 1.0, hint)
    hint = "how far it moved, over how far there is to go"
    yield Law("a quarter of the way is 0.25", lambda: yours(-1.0, 5.0, -3.0), 0.25, hint)
    beyond = lambda: [yours(score, 5.0, -3.0) for score in (-5.0, 7.0)]
    hint = "cut nothing off, and take no absolute value"
    yield Law("the wrong way is below 0, too far above 1", beyond, torch.tensor([-0.25, 1.25]), hint)
    yield Law("the signs of the scores do not matter", lambda: yours(4.0, 2.0, 6.0), 0.5, "no absolute values")
    many = torch.tensor([-3.0, 1.0, 5.0])
    hint = "one effect for each: no float(), no mean"
    yield Law("many patches at once", lambda: yours(many, 5.0, -3.0), torch.tensor([0.0, 0.5, 1.0]), hint)


def _rewritten(S, k, v):
    k = k / k.norm()
    return S + torch.outer(k, v - S.T @ k)


@exercise(solution=_rewritten)
def rewrite(yours):
    """A new value under one key: `yours(S, k, v)` gives the state afterwards, (key, value).

    Args:
        yours: S is a state (key, value), k a key (key,) of any length, v the value (value,) that it shall have.

    Source: arXiv 2412.06464, equation 10 with beta = 1 and no decay.
    """
    draw = torch.Generator().manual_seed(3)
    S, v = (torch.randn(*size, generator=draw) for size in ((KEY, VALUE), (VALUE,)))
    k, across = torch.tensor([0.6, 0.0, 0.8]), torch.tensor([0.8, 0.0, -0.6])
    told = lambda asked: tensor(yours(S, k, v)).T @ asked
    hint = "torch.outer(k, …) has one row for each number of the key"
    yield Law("the state keeps its axes, (key, value)", lambda: tuple(yours(S, k, v).shape), (KEY, VALUE), hint)
    yield Law("asked for the key, it says the new value alone", lambda: told(k), v, "take the old one out")
    side = lambda: told(across)
    yield Law("a key at right angles says what it said", side, S.T @ across, "change along k and nowhere else")
    between = (k + across) / 2**0.5
    half = lambda: told(between)
    yield Law("a key half-way between has half of either", half, (v + S.T @ across) / 2**0.5, "one outer product of k")
    longer = lambda: yours(S, 3 * k, v)
    hint = "divide k by its length first, then ask and write"
    yield Law("a key three times as long is the same key", longer, _rewritten(S, k, v), hint)


def _change(change, q, k, alpha, beta):
    reads = []
    for t in range(len(q)):
        change = alpha[t] * change
        change = change - beta[t] * torch.outer(k[t], change.T @ k[t])
        reads.append(change.T @ q[t])
    return torch.stack(reads)


def _reads(S, q, k, v, alpha, beta):
    reads = []
    for t in range(len(q)):
        S = alpha[t] * S
        S = S + beta[t] * torch.outer(k[t], v[t] - S.T @ k[t])
        reads.append(S.T @ q[t])
    return torch.stack(reads)


@exercise(solution=_change)
def later_reads(yours):
    """What a change of a state does to every later read: `yours(change, q, k, alpha, beta)` gives (token, value).

    Args:
        yours: change is the state after the edit less the state before (key, value); q and k are queries and keys of
            the tokens that follow (token, key), alpha their decays and beta their write strengths (token,).

    Source: arXiv 2412.06464, equation 10, of which two solutions are subtracted.
    """
    draw = torch.Generator().manual_seed(4)
    sizes = (KEY, VALUE), (KEY, VALUE), (TOKENS, KEY), (TOKENS, KEY), (TOKENS, VALUE)
    S, change, q, k, v = (torch.randn(*size, generator=draw) for size in sizes)
    k = k / k.norm(dim=-1, keepdim=True)
    alpha, beta = torch.rand(TOKENS, generator=draw), torch.rand(TOKENS, generator=draw)
    ones, none = torch.ones(TOKENS), torch.zeros(TOKENS)
    all_ = lambda a, b, keys=k: lambda: yours(change, q, keys, a, b)
    shape = lambda: tuple(getattr(yours(change, q, k, alpha, beta), "shape", ("no tensor",)))
    hint = "one row for each token: torch.stack(reads)"
    yield Law("there is a vector for every token, (token, value)", shape, (TOKENS, VALUE), hint)
    hint = "each token reads with its query: change.T @ q[t]"
    yield Law("nothing decays and nothing is written: the read of the change", all_(ones, none), q @ change, hint)
    halves = 0.5 ** torch.arange(1, TOKENS + 1)[:, None] * (q @ change)
    yield Law("decay of one half halves it at every token", all_(ones / 2, none), halves, "decay before each read")
    gated = alpha.cumprod(0)[:, None] * (q @ change)
    hint = "token t brings alpha[t] and beta[t], on top of what came before"
    yield Law("every token decays it by its own alpha", all_(alpha, none), gated, hint)
    wiped = lambda: tensor(yours(change, k[:1], k[:1], ones[:1], ones[:1])).round(decimals=5) + 0
    hint = "a token overwrites what stood under its key: take beta of the change along k away"
    yield Law("a full write under a key wipes the change there", wiped, torch.zeros(1, VALUE), hint)
    args = q, k, v, alpha, beta
    both = _reads(S + change, *args) - _reads(S, *args)
    yield Law(
        "it is the difference of two runs, whatever values come", all_(alpha, beta), both, "first decay, then write"
    )
