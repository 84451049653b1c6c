"""Exercises of 04_look_back: one gated head, what makes a head an induction head, a read that never sees all keys."""

import torch

from labkit.check.laws import Law, exercise

TOKENS, KEY, VALUE = 5, 4, 3  # sizes that differ: an exchange of axes cannot pass


def _head(q, k, v, gate):
    weights = torch.softmax(k @ q / q.shape[-1] ** 0.5, 0)
    return gate * (weights @ v)


def _drawn(seed, *sizes):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(*size, generator=draw) for size in sizes]


@exercise(solution=_head)
def gated_head(yours):
    """One row of one head: `yours(q, k, v, gate)` gives what the head hands on, (value,).

    Args:
        yours: q is the query of the reading token (key,), k the keys (token, key) and v the values (token, value) of
            all tokens that it sees, gate (value,) between 0 and 1.

    Source: arXiv 1706.03762, equation 1; the gate: arXiv 2505.06708.
    """
    q, k, v = _drawn(1, (KEY,), (TOKENS, KEY), (TOKENS, VALUE))
    gate, open_, shut = torch.tensor([1.0, 0.5, 0.25]), torch.ones(VALUE), torch.zeros(VALUE)
    yield Law("it hands on one vector, as long as a value", lambda: tuple(yours(q, k, v, gate).shape), (VALUE,))
    alike = lambda: yours(q, k[:1].expand(TOKENS, KEY), v, open_)
    yield Law("keys that are all alike give the mean of the values", alike, v.mean(0), "weights sum to one over tokens")
    word_k, word_v = torch.eye(4)[[2, 0, 3]] + torch.eye(4)[[2, 1, 3]], torch.tensor([[10.0, 0], [0, 10], [10, 0]])
    words = lambda: yours(torch.tensor([2.0, 2, 0, 0]), word_k, word_v, torch.ones(2))
    expected = torch.tensor([2 / (2 + torch.e**2), torch.e**2 / (2 + torch.e**2)]) * 10
    yield Law("the three words by hand read 2.1 and 7.9", words, expected, "scores over √len(q)")
    yield Law(
        "a gate that is shut lets nothing through",
        lambda: yours(q, k, v, shut),
        shut,
        "multiply what was read by the gate",
    )
    each = lambda: yours(q, k, v, gate)
    yield Law("every channel has a gate of its own", each, gate * _head(q, k, v, open_), "multiply after the sum")
    large = lambda: yours(2000 * q, k, v, open_)
    yield Law("large scores give numbers", large, _head(2000 * q, k, v, open_), "take the largest score off before exp")


def _induction(weights, ids):
    found = []
    for t, token in enumerate(ids):
        earlier = [s for s in range(t) if ids[s] == token]
        if earlier:
            found.append(weights[:, t, earlier[-1] + 1])
    return torch.stack(found).mean(0)


@exercise(solution=_induction)
def induction_score(yours):
    """How much heads look at what followed the same token earlier: `yours(weights, ids)` gives (head,).

    Args:
        yours: weights are softmax weights (head, token, source), ids the token ids of the row, a list.

    Source: arXiv 2209.11895, "prefix matching", here with the last copy where there are several.
    """
    ids, heads = [3, 1, 4, 1, 5, 1, 4], 2
    follower = {3: 2, 5: 4, 6: 3}

    def looking(at):
        weights = torch.zeros(heads, len(ids), len(ids))
        for t in range(len(ids)):
            weights[0, t, at.get(t, 0)] = 1
            weights[1, t, : t + 1] = 1 / (t + 1)
        return weights

    even = sum(1 / (t + 1) for t in follower) / len(follower)
    perfect = lambda: yours(looking(follower), list(ids))
    yield Law("there is one number for each head", lambda: tuple(perfect().shape), (heads,), "a mean over tokens alone")
    hint = "for each token that stood in the row before: one behind its last place; average over these tokens alone"
    yield Law("a head that always looks there scores 1", lambda: perfect()[0], 1.0, hint)
    copies = lambda: yours(looking({3: 1, 5: 3, 6: 2}), list(ids))[0]
    yield Law("a head that looks at the copy itself scores 0", copies, 0.0, "the token behind the copy: one further")
    first = lambda: yours(looking({3: 2, 5: 2, 6: 3}), list(ids))[0]
    yield Law("of several copies the last one counts", first, 2 / 3, "earlier[-1]")
    yield Law("an even head scores what chance gives", lambda: perfect()[1], even, "the mean over tokens with a copy")


def _online(q, chunks):
    top, total, read = -torch.inf, 0.0, 0.0
    for k, v in chunks:
        scores = k @ q / q.shape[-1] ** 0.5
        new = max(top, float(scores.max()))
        shrink, parts = torch.exp(torch.tensor(top - new)), torch.exp(scores - new)
        total, read, top = total * shrink + parts.sum(), read * shrink + parts @ v, new
    return read / total


@exercise(solution=_online)
def read_in_chunks(yours):
    """Attention that never sees all keys: `yours(q, chunks)` gives what is read, (value,).

    Args:
        yours: q is a query (key,); chunks gives pairs of keys (token, key) and values (token, value), one after the
            other; a chunk is gone when the next one comes.

    Source: arXiv 1805.02867 (online softmax).
    """
    q, k, v = _drawn(2, (KEY,), (TOKENS + 2, KEY), (TOKENS + 2, VALUE))
    open_ = torch.ones(VALUE)

    def cut(k, *ends):
        gone = ()
        for begin, end in zip((0, *ends), (*ends, len(k)), strict=True):
            for tensor in gone:
                tensor.fill_(torch.nan)
            gone = k[begin:end].clone(), v[begin:end].clone()
            yield gone

    whole = _head(q, k, v, open_)
    yield Law("one chunk is softmax as ever", lambda: yours(q, cut(k)), whole, "scores over √len(q)")
    halves = lambda: yours(q, cut(k, 3))
    hint = "carry two sums; when the largest score grows, shrink both by exp(old - new); a chunk comes once"
    yield Law("two chunks give what the whole gives", halves, whole, hint)
    yield Law("so do chunks of any length", lambda: yours(q, cut(k, 1, 5)), whole, "divide once, at the end")
    grown, shrunk = (torch.linspace(*ends, len(k))[:, None] * q for ends in ((10, 900), (900, 10)))
    late = lambda: yours(q, cut(grown, 3))
    hint = "keep the largest score so far; when it grows, shrink both sums by exp(old - new)"
    yield Law("scores that grow large give numbers", late, _head(q, grown, v, open_), hint)
    yield Law("and those that fall", lambda: yours(q, cut(shrunk, 3)), _head(q, shrunk, v, open_), hint)
