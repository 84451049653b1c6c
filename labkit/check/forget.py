"""Exercises of 02_forget: decay, erasing, and the terms of an update. Gated Delta Networks, arXiv 2412.06464."""

import math

import torch

from labkit.check.laws import Law, exercise, tensor

TOKENS, KEY, VALUE = 7, 3, 5  # sizes that differ: an exchange of axes cannot pass


def _half_life(alpha):
    return float(math.log(2) / -torch.log(alpha).mean())


def _left(key, keys, alpha, beta):
    left = key
    for k, a, b in zip(keys, alpha, beta, strict=True):
        left = a * left
        left = left - b * (k @ left) * k
    return float(left.norm() / key.norm())


def _terms(S, k, v, alpha, beta):
    decayed = -(1 - alpha) * S
    erased = -alpha * beta * torch.outer(k, S.T @ k)
    return decayed, erased, beta * torch.outer(k, v)


@exercise(solution=_half_life)
def half_life(yours):
    """After how many tokens half is left, by decay alone: `yours(alpha)` gives a number of tokens.

    Args:
        yours: alpha is the share of a state that survives each token, (token,), above 0 and below 1.

    Source: Gated Delta Networks, arXiv 2412.06464, equation 10: decays multiply.
    """
    flat = lambda share, tokens=TOKENS: torch.full((tokens,), share)
    hint = "seven shares of 1/2, seven logarithms: their mean, with ln 2 above it"
    yield Law("at 1/2 a token, half is left after one token", lambda: yours(flat(0.5)), 1.0, hint)
    hint = "the shares multiply, so their logarithms add up: ln 2 over the mean of -ln alpha"
    yield Law("at 1/4 a token, half is left after half a token", lambda: yours(flat(0.25)), 0.5, hint)
    mixed = lambda: yours(torch.tensor([0.5, 0.125]))
    hint = "in two tokens 1/16 is left, four halvings: a mean of the shares does not know that"
    yield Law("at 1/2 and 1/8 in turn it is half a token", mixed, 0.5, hint)
    powers = torch.tensor([1.0, 4, 2, 7, 3, 6, 5])
    hint = "seven tokens halve it 28 times, four times each on average: every token has its part in that"
    yield Law("at 1/2, 1/16, 1/4, … of seven tokens, 28 halvings, it is 1/4", lambda: yours(0.5**powers), 0.25, hint)
    hint = "the product of so many shares is 0 to a computer: take logarithms first, then add"
    yield Law("at 1/2 it is one token however many there are", lambda: yours(flat(0.5, 2000)), 1.0, hint)
    slow = lambda: yours(flat(0.999))
    yield Law("at 0.999 it is 693 tokens", slow, math.log(2) / -math.log(0.999), "not a whole number", 1e-3)


@exercise(solution=_left)
def key_survival(yours):
    """What is left of a stored key: `yours(key, keys, alpha, beta)` gives a share of its length, a number.

    Args:
        yours: key is what was stored, (key,); keys are the unit keys of the tokens after it, (token, key), alpha and
            beta their gates, (token,).

    Source: Gated Delta Networks, arXiv 2412.06464, section 3: the product of the transitions.
    """
    draw = torch.Generator().manual_seed(1)
    key, keys = 3 * torch.randn(KEY, generator=draw), torch.randn(TOKENS, KEY, generator=draw)
    keys = torch.nn.functional.normalize(keys, dim=-1)
    alpha, beta = (0.3 + 0.7 * torch.rand(TOKENS, generator=draw) for _ in range(2))
    none, ones = torch.zeros(TOKENS), torch.ones(TOKENS)
    cross = torch.eye(KEY)
    one = lambda: yours(key, keys[:0], alpha[:0], beta[:0])
    yield Law("right after the write all of it is left", one, 1.0, "a share: divide by the key's own length")
    faded = lambda: yours(key, keys, alpha, none)
    hint = "every token multiplies what is left by its alpha"
    yield Law("where nothing is written, decay alone is left", faded, float(alpha.prod()), hint)
    again = lambda: yours(cross[0], cross[:1], ones[:1], ones[:1] / 4)
    hint = "a write takes beta of what lies along its key: left - beta * (k @ left) * k"
    yield Law("a write of 1/4 along the key leaves three quarters", again, 0.75, hint)
    apart = lambda: yours(cross[0], cross[1:], ones[1:KEY], ones[1:KEY])
    yield Law("keys at right angles erase nothing", apart, 1.0, hint)
    pencil = lambda: yours(cross[0], torch.tensor([[0.6, 0.8, 0.0]]), torch.tensor([0.5]), torch.tensor([1.0]))
    hint = "first decay, then erase, and the length of what is left"
    yield Law("a key that leans on it at 0.6, after a decay of 1/2, leaves 0.4", pencil, 0.4, hint)
    hint = "every token erases of what the tokens before it have left, in their order"
    seven, all_seven = lambda: yours(key, keys, alpha, beta), _left(key, keys, alpha, beta)
    yield Law("of seven tokens each takes of what is left", seven, all_seven, hint)


@exercise(solution=_terms)
def update_terms(yours):
    """What a token does to a state: `yours(S, k, v, alpha, beta)` gives (decayed, erased, written), each (key, value).

    Args:
        yours: S is the state before, (key, value), k a key of length one, (key,), v a value, (value,), alpha and beta
            the gates; the three terms are what is added to S, so that what is taken is negative.

    Source: Gated Delta Networks, arXiv 2412.06464, equation 10, multiplied out.
    """
    draw = torch.Generator().manual_seed(2)
    S, v, k = (torch.randn(*size, generator=draw) for size in ((KEY, VALUE), (VALUE,), (KEY,)))
    k, cross = k / k.norm(), torch.eye(KEY)
    decayed, erased, written = _terms(S, k, v, 0.75, 0.5)
    hint = "return three states: decayed, erased, written"
    count = lambda: [len(yours(S, k, v, 0.75, 0.5)), *(n for term in yours(S, k, v, 0.75, 0.5) for n in term.shape)]
    yield Law("there are three terms, (key, value) each", count, [3, *(KEY, VALUE) * 3], hint)
    fade = lambda: yours(S, k, v, 0.75, 0.5)[0]
    yield Law("at alpha 3/4 decay takes a quarter", fade, -S / 4, "-(1 - alpha) * S")
    hint = "the value itself: what the memory says of it already is the second term's"
    yield Law("what is written is beta times key times value", lambda: yours(S, k, v, 0.75, 0.5)[2], written, hint)
    new = lambda: yours(torch.outer(cross[0], v), cross[1], v, 0.75, 0.5)[1]
    hint = "what is erased is what the memory says for this key"
    yield Law("a key that is new to the memory erases nothing", new, torch.zeros(KEY, VALUE), hint)
    full = lambda: yours(S, k, v, 1, 1)[1]
    hint = "what the memory says for the key, put back along the key: an outer product, negative"
    yield Law("without decay, at beta 1, all of what it says for the key", full, -torch.outer(k, S.T @ k), hint)
    share = lambda: yours(S, k, v, 1, 0.5)[1]
    yield Law("at beta 1/2 half of that", share, -torch.outer(k, S.T @ k) / 2, "beta is the share that is erased")
    left = lambda: yours(S, k, v, 0.75, 0.5)[1]
    yield Law("a key erases of what decay has left", left, erased, "alpha comes first: it is alpha * S that is asked")
    all_three = lambda: S + sum(map(tensor, yours(S, k, v, 0.75, 0.5)))
    after = 0.75 * S + 0.5 * torch.outer(k, v - 0.75 * S.T @ k)
    yield Law("the three terms make the next state", all_three, after, "nothing else happens to a state")
