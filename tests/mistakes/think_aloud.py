"""What readers do wrong in 06_think_aloud: (their function, words of the law that must break)."""


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
            "it is the states",
        ),
        "counts numbers, not bytes": (
            lambda layers, heads, dk, dv, channels, kept, width=4: layers * (heads * dk * dv + channels * kept),
            "it is the states",
        ),
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
    },
}
