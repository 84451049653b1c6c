"""Exercises of 10_one_gpu: what a pass must cost, by counting. Roofline: Williams et al. 2009, CACM 52(4)."""

from labkit.check.laws import Law, exercise


def _floor(flops, moved, rate, bandwidth):
    return max(flops / rate, moved / bandwidth)


def _cache_bytes(spec, tokens, width):
    return 2 * len(spec.attention_layers) * spec.kv_heads * spec.head_dim * width * tokens


@exercise(solution=_floor)
def least_seconds(yours):
    """The floor of a pass: `yours(flops, moved, rate, bandwidth)` gives seconds.

    Args:
        yours: flops are operations, moved bytes that must come out of memory; rate and bandwidth are how many of each
            the card does in a second. Both go on at the same time.

    Source: Williams, Waterman, Patterson 2009, Communications of the ACM 52(4).
    """
    hint = "a card computes while it reads: the longer of the two counts, not both one after the other"
    much, little = lambda: yours(600, 10, 20, 5), lambda: yours(20, 300, 20, 5)
    yield Law("much arithmetic and little memory takes the arithmetic's time", much, 30.0, hint)
    yield Law("little arithmetic and much memory takes the memory's time", little, 60.0, hint)
    yield Law("where both take 7 seconds it takes 7", lambda: yours(140, 35, 20, 5), 7.0, hint)
    yield Law("a card twice as fast at both takes half", lambda: yours(140, 35, 40, 10), 3.5, hint)
    hint = "compare two times, in seconds and not rounded, and not operations a byte with the rate"
    yield Law("500 operations at 24 a second outlast 30 bytes at 5", lambda: yours(500, 30, 24, 5), 500 / 24, hint)


@exercise(solution=_cache_bytes)
def cache_grows_by(yours, *, spec):
    """Bytes of keys and values of a prompt: `yours(spec, tokens, width)` gives a whole number.

    Args:
        yours: spec is a model's shape: `attention_layers`, a tuple of their places in the stack, and two counts,
            `kv_heads` and `head_dim`; width is bytes a number.
        spec: of two models that are asked about, `{name: spec}`.

    Source: the shape of the model; `spec.kv_bytes` counts the same.
    """
    for name, shape in spec.items():
        one = _cache_bytes(shape, 1, 2)
        hint = "keys and values, of len(spec.attention_layers) layers, for each key/value head and not each query head"
        yield Law(f"one token of {name} takes its keys and values", lambda shape=shape: yours(shape, 1, 2), one, hint)
        many = lambda shape=shape: yours(shape, 1000, 2)
        yield Law(f"a thousand tokens of {name} take a thousand times that", many, 1000 * one, "it grows with tokens")
        half = lambda shape=shape: yours(shape, 64, 1)
        yield Law(f"8 bits a number in {name} take half", half, 32 * one, "`width` is bytes a number")
    yield Law("no token takes no byte", lambda: yours(next(iter(spec.values())), 0, 2), 0, "states are not in it")
