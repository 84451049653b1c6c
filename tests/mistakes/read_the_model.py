"""What readers do wrong in 00_read_the_model: (their function, words of the law that must break)."""

import torch


def lens(stream, gain, words, *, axis=-1, norm=None):
    size = norm(stream) if norm else (stream**2).mean(axis, keepdim=True).sqrt()
    return (gain * stream / size) @ words.T


MISTAKES = {
    "implied_map": {
        "exchanges token and source": (lambda reads, tokens: reads(torch.eye(tokens)).T, "left of the diagonal"),
        "gives a value to one token alone": (
            lambda reads, tokens: reads(torch.eye(tokens)[:, :1]),
            "a weight for every token and source",
        ),
        "gives every token a value of 1": (
            lambda reads, tokens: reads(torch.ones(tokens, tokens)),
            "left of the diagonal",
        ),
        "compares what is read with itself": (
            lambda reads, tokens: reads(torch.eye(tokens)) @ reads(torch.eye(tokens)).T,
            "left of the diagonal",
        ),
        "keeps the sign away": (lambda reads, tokens: reads(torch.eye(tokens)).abs(), "delta-rule head"),
    },
    "stream_lens": {
        "leaves the norm out": (lambda stream, gain, words: (gain * stream) @ words.T, "(1, 7)"),
        "divides by the length": (
            lambda *given: lens(*given, norm=lambda x: x.norm(dim=-1, keepdim=True)),
            "(1, 7)",
        ),
        "takes one norm of all layers": (
            lambda *given: lens(*given, norm=lambda x: (x**2).mean().sqrt()),
            "by itself",
        ),
        "leaves the gain out": (
            lambda stream, gain, words: lens(stream, torch.ones_like(gain), words),
            "the gain",
        ),
        "adds one to the size, not next to nothing": (
            lambda *given: lens(*given, norm=lambda x: ((x**2).mean(-1, keepdim=True) + 1).sqrt()),
            "(1, 7)",
        ),
        "exchanges layers and words": (lambda *given: lens(*given).T, "a logit for every layer and word"),
    },
    "joint_loss": {
        "the joint loss alone": (lambda whole, one, other, both: whole - both, "do not know of each other"),
        "what is left in place of what is lost": (
            lambda whole, one, other, both: both - one - other,
            "do not know of each other",
        ),
        "the other way round": (lambda whole, one, other, both: both + whole - one - other, "above 0"),
        "without its sign": (
            lambda whole, one, other, both: abs(one + other - both - whole),
            "below 0",
        ),
        "one number for all samples": (
            lambda whole, one, other, both: torch.as_tensor(one + other - both - whole).mean(),
            "for every sample",
        ),
    },
}
