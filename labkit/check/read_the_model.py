"""Exercises of 00_read_the_model: weights behind reads, words in the stream, losses that do not add up."""

import torch

from labkit.check.laws import Law, exercise

TOKENS, KEY, VALUE = 7, 3, 5  # sizes that differ: an exchange of axes cannot pass
LAYERS, CHANNELS, WORDS = 4, 6, 9


def _map(reads, tokens):
    return reads(torch.eye(tokens))


def _lens(stream, gain, words, eps=1e-6):
    size = (stream**2).mean(-1, keepdim=True)
    return (gain * stream / (size + eps).sqrt()) @ words.T


def _joint(whole, one, other, both):
    return (whole - both) - (whole - one) - (whole - other)


def _head(seed):
    """The reads of a random delta-rule head as a function of values (token, value)."""
    draw = torch.Generator().manual_seed(seed)
    keys = torch.nn.functional.normalize(torch.randn(TOKENS, KEY, generator=draw), dim=-1)
    queries = torch.randn(TOKENS, KEY, generator=draw)

    def reads(values):
        S, said = torch.zeros(KEY, values.shape[1]), []
        for q, k, v in zip(queries, keys, values, strict=True):
            S = 0.9 * S
            S = S + 0.8 * torch.outer(k, v - S.T @ k)
            said.append(S.T @ q)
        return torch.stack(said)

    return reads


@exercise(solution=_map)
def implied_map(yours):
    """The weights behind a head's reads: `yours(reads, tokens)` gives the map, (token, source).

    Args:
        yours: reads is a function that takes values (token, value), of any width, and gives what the head reads,
            (token, value); tokens is how many there are.

    Source: arXiv 2412.06464, section 3: reads are linear in the values.
    """
    shift = lambda values: torch.cat([torch.zeros(1, values.shape[1]), values[:-1]])
    shape = lambda: tuple(yours(shift, TOKENS).shape)
    hint = "values have a row for each token, and any width"
    yield Law("there is a weight for every token and source", shape, (TOKENS, TOKENS), hint)
    before = torch.eye(TOKENS).roll(1, 0)
    before[0] = 0
    hint = "rows are the tokens that read, columns those that are read from"
    left = lambda: yours(shift, TOKENS)
    yield Law("a head that reads the token before has a 1 left of the diagonal", left, before, hint)
    summed = lambda: yours(lambda values: values.cumsum(0), TOKENS)
    yield Law("a head that adds everything up has weights of 1", summed, torch.ones(TOKENS, TOKENS).tril())
    reads = _head(1)
    values = torch.randn(TOKENS, VALUE, generator=torch.Generator().manual_seed(2))
    rebuilt = lambda: yours(reads, TOKENS) @ values
    hint = "a value of 1 at one token and 0 at the others brings one column of the map"
    yield Law("the map times the values gives the reads of a delta-rule head", rebuilt, reads(values), hint)


@exercise(solution=_lens)
def stream_lens(yours):
    """Words in the residual stream: `yours(stream, gain, words)` gives a logit for every word, (layer, word).

    Args:
        yours: stream is what the residual stream carries after each layer, (layer, channel); gain the factor of the
            final norm for each channel, (channel,); words the direction of each word, (word, channel).

    Source: nostalgebraist, interpreting GPT: the logit lens, 2020; the norm is RMS, arXiv 1910.07467.
    """
    draw = torch.Generator().manual_seed(3)
    sizes = (LAYERS, CHANNELS), (CHANNELS,), (WORDS, CHANNELS)
    stream, gain, words = (torch.randn(*size, generator=draw) for size in sizes)
    ones, cross = torch.ones(2), torch.eye(2)
    shape = lambda: tuple(yours(stream, gain, words).shape)
    yield Law("there is a logit for every layer and word", shape, (LAYERS, WORDS), "multiply with words.T")
    hint = "divide by the root of the mean of the squares: of 1 and 49 that is 5"
    pencil = lambda: yours(torch.tensor([[1.0, 7.0]]), ones, cross)
    yield Law("a stream of (1, 7) is (0.2, 1.4) after the norm", pencil, torch.tensor([[0.2, 1.4]]), hint)
    flat = torch.ones(CHANNELS)
    second = lambda: yours(stream, flat, words)[1]
    hint = "the mean of the squares is of one layer: over the last axis"
    yield Law("every layer is read by itself", second, _lens(stream[1], flat, words), hint)
    longer = lambda: yours(10 * stream, flat, words)
    yield Law(
        "a longer stream says the same", longer, _lens(stream, flat, words), "the norm takes the length out", 1e-4
    )
    yield Law(
        "the gain stretches channels", lambda: yours(stream, gain, words), _lens(stream, gain, words), "times gain"
    )


@exercise(solution=_joint)
def joint_loss(yours):
    """What two parts lose together beyond both single losses: `yours(whole, one, other, both)`, a number or an array.

    Args:
        yours: what the model reaches as it is, without one part, without the other, and without both; numbers, or
            arrays of one shape, (sample,).

    Source: interaction of two knock-outs, as in arXiv 2211.00593, section 3.4 (backup heads).
    """
    hint = "a loss is the whole less what is left; take both single losses off the joint one"
    yield Law("parts that do not know of each other lose what they lose", lambda: yours(0.9, 0.7, 0.5, 0.3), 0.0, hint)
    spare = lambda: yours(1.0, 0.875, 0.75, 0.125)
    yield Law("parts that stand in for each other lose more jointly, above 0", spare, 0.5, hint)
    need = lambda: yours(0.875, 0.25, 0.25, 0.25)
    yield Law("parts that need each other lose less jointly, below 0", need, -0.625, "it may be negative: no abs()")
    draw = torch.Generator().manual_seed(4)
    four = [torch.rand(TOKENS, generator=draw) for _ in range(4)]
    yield Law("of arrays it is taken for every sample", lambda: yours(*four), _joint(*four), "no mean over samples")
