"""What readers do wrong in 06_think_aloud: (their function, words of the law that must break)."""

import numpy as np
import torch


def agreeing(cached, prompt):
    """How many tokens two sequences share at their beginning."""
    same = [a == b for a, b in zip(cached, prompt, strict=False)]
    return (same + [False]).index(False)


def sharing(cached, prompt):
    """The same, with a token left to read."""
    return min(agreeing(cached, prompt), len(prompt) - 1)


def computed(prompt, cached, saved, fits=lambda depth, shared: depth <= shared, choose=max, shared=sharing):
    """What a hybrid reads, with something in it exchanged."""
    pairs = zip(cached, saved, strict=True)
    usable = [d for ids, depths in pairs for d in depths if fits(d, shared(ids, prompt))]
    return len(prompt) - (choose(usable) if usable else 0)


def longest(prompt, cached, saved):
    """Looks at the sequence alone that agrees longest."""
    best = max(range(len(cached)), key=lambda n: sharing(cached[n], prompt))
    return computed(prompt, [cached[best]], [saved[best]])


def emptied(cached, prompt):
    """Takes tokens out of both lists as long as they agree."""
    count, most = 0, len(prompt) - 1
    while cached and count < most and cached[0] == prompt[0]:
        del cached[0], prompt[0]
        count += 1
    return count


def ordered(prompt, cached, saved):
    """Sorts the depths that it was given."""
    for depths in saved:
        depths.sort()
    return computed(prompt, cached, saved)


def mixed(prompt, cached, saved):
    """Compares every depth with the most that any sequence shares."""
    shared = max(sharing(ids, prompt) for ids in cached)
    return len(prompt) - max([0] + [d for depths in saved for d in depths if d <= shared])


def sized(layers, heads, dk, dv, channels, kept, width=4, **other):
    """The size, with something in it exchanged."""
    inputs = channels * (kept + other.get("more", 0)) * (heads if other.get("each") else 1)
    return layers ** other.get("power", 1) * (heads * dk * dv + inputs) * width


MISTAKES = {
    "shared_tokens": {
        "counts what agrees anywhere": (
            lambda cached, prompt: sum(a == b for a, b in zip(cached, prompt[:-1], strict=False)),
            "another first token",
        ),
        "counts tokens as a set": (lambda cached, prompt: len(set(cached) & set(prompt[:-1])), "another first token"),
        "leaves no token to read": (agreeing, "the last token of a prompt"),
        "stops one early": (lambda cached, prompt: max(0, sharing(cached, prompt) - 1), "goes on from the cache"),
        "goes on behind the difference": (
            lambda cached, prompt: (
                sum(a == b for a, b in zip(cached, prompt[:-1], strict=False)) if cached[:1] == prompt[:1] else 0
            ),
            "agrees again",
        ),
        "takes the tokens out": (emptied, "left as it was"),
        "asks whether they are the same object": (
            lambda cached, prompt: sum(a is b for a, b in zip(cached, prompt[:-1], strict=False)),
            "goes on from the cache",
        ),
        "leaves the cache's last token over": (
            lambda cached, prompt: sharing(cached[:-1], prompt),
            "goes on from the cache",
        ),
    },
    "snapshot_size": {
        "forgets the convolution": (
            lambda layers, heads, dk, dv, channels, kept, width=4: layers * heads * dk * dv * width,
            "the convolution keeps",
        ),
        "counts a vector for a matrix": (
            lambda layers, heads, dk, dv, channels, kept, width=4: (
                layers * (heads * (dk + dv) + channels * kept) * width
            ),
            "is a matrix",
        ),
        "counts numbers, not bytes": (
            lambda layers, heads, dk, dv, channels, kept, width=4: layers * (heads * dk * dv + channels * kept),
            "is a matrix",
        ),
        "gives MiB": (lambda **sizes: sized(**sizes) / 2**20, "is a matrix"),
        "forgets the layers": (lambda **sizes: sized(**sizes, power=0), "each head of each layer"),
        "keeps inputs for each head": (lambda **sizes: sized(**sizes, each=True), "the convolution keeps"),
        "keeps an input more": (lambda **sizes: sized(**sizes, more=1), "is a matrix"),
        "always takes four bytes": (
            lambda layers, heads, dk, dv, channels, kept, width=4: layers * (heads * dk * dv + channels * kept) * 4,
            "half of the width",
        ),
    },
    "tokens_computed": {
        "cuts the state where they part": (
            lambda prompt, cached, saved: len(prompt) - max(sharing(ids, prompt) for ids in cached),
            "without a snapshot",
        ),
        "takes the deepest, fitting or not": (
            lambda *given: computed(*given, fits=lambda depth, shared: True),
            "behind the place where they part",
        ),
        "wants a snapshot before the place": (
            lambda *given: computed(*given, fits=lambda depth, shared: depth < shared),
            "a snapshot at the",
        ),
        "takes the last that fits": (lambda *given: computed(*given, choose=lambda fit: fit[-1]), "the deepest"),
        "looks where they agree longest": (longest, "deeper snapshot is better"),
        "leaves no token to read": (lambda *given: computed(*given, shared=agreeing), "is read even so"),
        "leaves no token to read, and counts one": (
            lambda *given: max(1, computed(*given, shared=agreeing)),
            "is read even so",
        ),
        "looks at the first sequence": (
            lambda prompt, cached, saved: computed(prompt, cached[:1], saved[:1]),
            "order of the sequences",
        ),
        "looks at the last sequence": (
            lambda prompt, cached, saved: computed(prompt, cached[-1:], saved[-1:]),
            "deeper snapshot is better",
        ),
        "takes depths of another sequence": (mixed, "its own sequence"),
        "sorts the depths in place": (ordered, "left as it was"),
        "gives what is used again": (lambda *given: len(given[0]) - computed(*given), "without a snapshot"),
    },
}

WAYS = {
    "shared_tokens": {
        "tensors": lambda cached, prompt: (
            torch.tensor(cached[: len(prompt) - 1])[: len(prompt)]
            .eq(torch.tensor(prompt[: min(len(cached), len(prompt) - 1)]))
            .long()
            .cumprod(0)
            .sum()
        ),
        "the longest beginning that is the same": lambda cached, prompt: max(
            n for n in range(len(prompt)) if cached[:n] == prompt[:n]
        ),
    },
    "snapshot_size": {
        "numpy": lambda layers, heads, dk, dv, channels, kept, width=4: (
            width * (np.prod([layers, heads, dk, dv]) + np.prod([layers, channels, kept]))
        )
    },
    "tokens_computed": {
        "deepest first": lambda prompt, cached, saved: next(
            len(prompt) - depth
            for depth, ids in sorted(
                [(0, [])] + [(d, ids) for ids, depths in zip(cached, saved, strict=True) for d in depths], reverse=True
            )
            if depth < len(prompt) and ids[:depth] == prompt[:depth]
        )
    },
}
