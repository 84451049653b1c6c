"""Exercises of 06_think_aloud: what of a prompt a cache gives back, what a snapshot weighs, what is computed again."""

from labkit.check.laws import Law, exercise


def _ids(letters):
    """Token numbers of letters, so that a prompt can be read here; large ones, which are equal but not the same."""
    return [1000 + ord(letter) for letter in letters]


EARLIER = "abcdefg"


def _shared(cached, prompt):
    count = 0
    while count < min(len(cached), len(prompt) - 1) and cached[count] == prompt[count]:
        count += 1
    return count


@exercise(solution=_shared)
def shared_tokens(yours):
    """What keys and values give back: `yours(cached, prompt)` counts the tokens of a prompt that need not be read.

    Args:
        yours: cached are the tokens that were read before, prompt those of a new call, both lists, in order.

    Source: labkit.reuse, `attention` of the ledger.
    """
    one = lambda prompt: lambda: yours(_ids(EARLIER), _ids(prompt))
    hint = "count what agrees; the token that is left over is the prompt's last, not the cache's"
    yield Law("a prompt that goes on from the cache gets all of it", one("abcdefghij"), 7, hint)
    yield Law("a prompt with another first token gets nothing", one("xbcdefg"), 0, "count from the first token on")
    yield Law("what agrees again behind the first difference is of no use", one("abxdefgh"), 2, "stop where they part")
    yield Law("a token that moved one place is another one", one("abdefgh"), 2, "compare place by place, not as sets")
    yield Law("the last token of a prompt is always read", one("abcde"), 4, "leave one over: its logits count")
    yield Law("the same prompt again has one token to read", one("abcdefg"), 6, "at most len(prompt) - 1")
    yield Law("an empty cache gives nothing", lambda: yours([], _ids("abc")), 0)


def _size(layers, heads, dk, dv, channels, kept, width=4):
    return layers * (heads * dk * dv + channels * kept) * width


@exercise(solution=_size)
def snapshot_size(yours):
    """Bytes of a snapshot: `yours(layers, heads, dk, dv, channels, kept, width=4)`, a whole number.

    Args:
        yours: layers and heads count DeltaNet layers and the value heads of each; a state is (dk, dv); the convolution
            of a layer keeps its last `kept` inputs of `channels` numbers each; `width` is the bytes of one number.

    Source: labkit.spec.snapshot_bytes; arXiv 2412.06464 for the state.
    """
    one = dict(layers=1, heads=1, dk=5, dv=7, channels=11, kept=0)
    hint = "bytes, not numbers, nor MiB: a matrix (dk, dv) has dk · dv numbers of `width` bytes, 4 if nothing is said"
    yield Law("one head of one layer, without a convolution, is a matrix", lambda: yours(**one), 140, hint)
    heads = one | dict(layers=2, heads=3)
    yield Law("each head of each layer has a state", lambda: yours(**heads), 840, "multiply by both counts")
    whole, hint = heads | dict(kept=3), "channels · kept in each layer, not in each head"
    yield Law("the inputs that the convolution keeps are a part of it", lambda: yours(**whole), 1104, hint)
    hint = "multiply by width, states and inputs"
    yield Law("half of the width is half of the bytes", lambda: yours(**whole, width=2), 552, hint)
    big = dict(layers=48, heads=48, dk=128, dv=128, channels=10_240, kept=3)
    yield Law("that of Qwen3.6-27B takes 149.625 MiB", lambda: yours(**big) / 2**20, 149.625, "bytes, not MiB")


def _computed(prompt, cached, saved):
    usable = [0]
    for ids, depths in zip(cached, saved, strict=True):
        usable += [depth for depth in depths if depth <= _shared(ids, prompt)]
    return len(prompt) - max(usable)


@exercise(solution=_computed)
def tokens_computed(yours):
    """What a hybrid reads of a prompt: `yours(prompt, cached, saved)`, a number of tokens.

    Args:
        yours: prompt is a list of tokens, cached a list of earlier sequences, saved a list as long: for each sequence
            the depths at which a snapshot was taken, in tokens from its beginning.

    Source: labkit.reuse, `recomputed` of the ledger.
    """
    prompt, other = "abcdefghij", "abcxyzuvw"
    many = lambda prompt, *pairs: yours(_ids(prompt), [_ids(ids) for ids, _ in pairs], [list(at) for _, at in pairs])
    one = lambda depths, ids=EARLIER: lambda: many(prompt, (ids, depths))
    hint = "what is read, not what is given back; keys and values alone give nothing; depth 0 is always there"
    yield Law("without a snapshot all is read", one([]), 10, hint)
    hint = "the prompt's length less the depth"
    yield Law("from a snapshot at the end of the cache only what is new is read", one([7]), 3, hint)
    yield Law("the deepest snapshot that fits is taken", one([2, 5, 3]), 5, "the largest depth, not the first or last")
    late = one([1, 4], other)
    yield Law("a snapshot behind the place where they part is of no use", late, 9, "depth <= shared tokens, no more")
    at = one([3], other)
    yield Law("a snapshot at the place where they part is of use", at, 7, "depth <= shared, not <")
    short, long = (other, [3, 6]), (EARLIER, [1])
    hint = "look at every sequence, keep the best"
    yield Law("a shorter agreement with a deeper snapshot is better", lambda: many(prompt, (other, [3]), long), 7, hint)
    yield Law("the order of the sequences does not matter", lambda: many(prompt, long, (other, [3])), 7, hint)
    hint = "compare each depth with what its own sequence shares, not with the most that any does"
    yield Law("a snapshot counts for its own sequence alone", lambda: many(prompt, long, short), 7, hint)
    hint = "a state that has read the whole prompt is too deep, another one may do"
    yield Law("the last token of a prompt is read even so", lambda: many(EARLIER, (EARLIER, [4, 7])), 3, hint)
