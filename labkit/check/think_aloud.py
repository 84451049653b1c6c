"""Exercises of 06_think_aloud: what of a prompt a cache gives back, what a snapshot weighs, what is computed again."""

from labkit.check.laws import Law, exercise

EARLIER = ["a", "b", "c", "d", "e", "f", "g"]


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
    one = lambda prompt: lambda: yours(list(EARLIER), list(prompt))
    yield Law("a prompt that goes on from the cache gets all of it", one("abcdefghij"), 7)
    yield Law("a prompt with another first token gets nothing", one("xbcdefg"), 0, "count from the first token on")
    yield Law("what agrees again behind the first difference is of no use", one("abxdefgh"), 2, "stop where they part")
    yield Law("a token that moved one place is another one", one("abdefgh"), 2, "compare place by place, not as sets")
    yield Law("the last token of a prompt is always read", one("abcde"), 4, "leave one over: its logits count")
    yield Law("the same prompt again has one token to read", one("abcdefg"), 6, "at most len(prompt) - 1")
    yield Law("an empty cache gives nothing", lambda: yours([], ["a", "b", "c"]), 0)


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
    sizes = dict(layers=2, heads=3, dk=5, dv=7, channels=11, kept=0)
    yield Law("without a convolution it is the states", lambda: yours(**sizes), 840, "every head has a matrix (dk, dv)")
    sizes["kept"] = 3
    yield Law("the inputs that the convolution keeps are a part of it", lambda: yours(**sizes), 1104, "channels · kept")
    yield Law("half of the width is half of the bytes", lambda: yours(**sizes, width=2), 552, "multiply by width")
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
    prompt, other = list("abcdefghij"), list("abcxyzuvw")
    one = lambda depths, ids=EARLIER: lambda: yours(prompt, [list(ids)], [list(depths)])
    yield Law("without a snapshot all is read", one([]), 10, "max() of nothing raises: begin with depth 0")
    yield Law("from a snapshot at the end of the cache only what is new is read", one([7]), 3)
    yield Law("the deepest snapshot that fits is taken", one([2, 5, 3]), 5, "the largest depth, not the first or last")
    late = one([1, 4], other)
    yield Law("a snapshot behind the place where they part is of no use", late, 9, "depth <= shared tokens, no more")
    at = one([3], other)
    yield Law("a snapshot at the place where they part is of use", at, 7, "depth <= shared, not <")
    two = lambda: yours(prompt, [list(EARLIER), list(other)], [[1], [3, 8]])
    yield Law("a shorter agreement with a deeper snapshot is better", two, 7, "look at every sequence, keep the best")
    same = lambda: yours(list("abcdefg"), [list(EARLIER)], [[6, 7]])
    yield Law("the last token of a prompt is read even so", same, 1, "a snapshot behind the whole prompt is too deep")
