"""What readers do wrong in 05_share_the_work: (their function, words of the law that must break), and right."""

import numpy as np
import torch


def recalled(keys, values, error=True, early=False, order=1, beta=1.0):
    """Facts that come back, with something in it exchanged."""
    S, right = torch.zeros(keys.shape[1], values.shape[1], dtype=keys.dtype), 0
    for k, v in list(zip(keys, values, strict=True))[::order]:
        S = S + beta * torch.outer(k, v - S.T @ k if error else v)
        right += int((S.T @ k).argmax() == v.argmax())
    return right if early else int(((keys @ S).argmax(1) == values.argmax(1)).sum())


def spread(lost, correction=1, over=0.5):
    """The error of a mean, with something in it exchanged."""
    return float(lost.std(correction=correction) / len(lost) ** over)


MISTAKES = {
    "added_share": {
        "sums for norms": (lambda added, stream: (added.sum(-1) / stream.sum(-1)).mean(), "another direction"),
        "squares for norms": (
            lambda added, stream: (added.square().sum(-1) / stream.square().sum(-1)).mean(),
            "a step back",
        ),
        "a ratio of means": (
            lambda added, stream: added.norm(dim=-1).mean() / stream.norm(dim=-1).mean(),
            "its own stream",
        ),
        "one norm of everything": (lambda added, stream: added.norm() / stream.norm(), "its own stream"),
        "upside down": (lambda added, stream: (stream.norm(dim=-1) / added.norm(dim=-1)).mean(), "nothing added"),
        "the length of the sum": (
            lambda added, stream: ((added + stream).norm(dim=-1) / stream.norm(dim=-1)).mean() - 1,
            "another direction",
        ),
        "absolute values for norms": (
            lambda added, stream: (added.abs().sum(-1) / stream.abs().sum(-1)).mean(),
            "another direction",
        ),
        "the largest number of each": (
            lambda added, stream: (added.abs().amax(-1) / stream.abs().amax(-1)).mean(),
            "another direction",
        ),
        "one number a token": (lambda added, stream: added.norm(dim=-1) / stream.norm(dim=-1), "nothing added"),
        "divides what it was given": (
            lambda added, stream: added.div_(stream.norm(dim=-1, keepdim=True)).norm(dim=-1).mean(),
            "left as it was",
        ),
    },
    "paired_loss": {
        "the other way round": (lambda whole, cut: (float((cut - whole).mean()), spread(cut - whole)), "the loss is"),
        "errors of both, added": (
            lambda whole, cut: (float((whole - cut).mean()), (spread(whole) ** 2 + spread(cut) ** 2) ** 0.5),
            "against oneself",
        ),
        "n below": (lambda whole, cut: (float((whole - cut).mean()), spread(whole - cut, 0)), "one lost of two"),
        "the spread of one question": (
            lambda whole, cut: (float((whole - cut).mean()), spread(whole - cut, over=0)),
            "one lost of two",
        ),
        "absolute differences": (
            lambda whole, cut: (float((whole - cut).abs().mean()), spread((whole - cut).abs())),
            "what is gained",
        ),
        "losses alone": (
            lambda whole, cut: (float((whole - cut).clamp(min=0).mean()), spread((whole - cut).clamp(min=0))),
            "what is gained",
        ),
        "the spread of zeros and ones": (
            lambda whole, cut: (
                float((whole - cut).mean()),
                float((whole - cut).mean() * (1 - (whole - cut).mean()) / (len(whole) - 1)) ** 0.5,
            ),
            "three gained",
        ),
    },
    "facts_recalled": {
        "adds the values": (lambda *given: recalled(*given, error=False), "written again"),
        "asks after each write": (lambda *given: recalled(*given, early=True), "written again"),
        "writes from the end": (lambda *given: recalled(*given, order=-1), "written again"),
        "keeps everything": (lambda keys, values: len(keys), "written again"),
        "as many as there are directions": (lambda keys, values: min(len(keys), keys.shape[1]), "written again"),
        "writes nine tenths of the error": (lambda *given: recalled(*given, beta=0.9), "of nine facts"),
    },
}

WAYS = {
    "added_share": {
        "in a loop": lambda added, stream: (
            sum(float(a.norm() / s.norm()) for a, s in zip(added, stream, strict=True)) / len(added)
        ),
        "with numpy": lambda added, stream: np.mean(
            np.linalg.norm(added.numpy(), axis=1) / np.linalg.norm(stream.numpy(), axis=1)
        ),
    },
    "paired_loss": {
        "with numpy": lambda whole, cut: (
            (whole - cut).numpy().mean(),
            (whole - cut).numpy().std(ddof=1) / len(whole) ** 0.5,
        ),
        "as one tensor": lambda whole, cut: torch.stack([(whole - cut).mean(), (whole - cut).std() / len(cut) ** 0.5]),
    },
    "facts_recalled": {
        "a tensor of one number": lambda keys, values: torch.tensor(recalled(keys, values)),
        "in float64": lambda keys, values: recalled(keys.double(), values.double()),
    },
}
