"""What readers do wrong in 05_share_the_work: (their function, words of the law that must break)."""

import torch


def recalled(keys, values, error=True, early=False, order=1):
    """Facts that come back, with something in it exchanged."""
    S, right = torch.zeros(keys.shape[1], values.shape[1]), 0
    for k, v in list(zip(keys, values, strict=True))[::order]:
        S = S + torch.outer(k, v - S.T @ k if error else v)
        right += int((S.T @ k).argmax() == v.argmax())
    return right if early else int(((keys @ S).argmax(1) == values.argmax(1)).sum())


def spread(lost, correction=1, over=0.5):
    """The error of a mean, with something in it exchanged."""
    return float(lost.std(correction=correction) / len(lost) ** over)


MISTAKES = {
    "added_share": {
        "sums for norms": (lambda added, stream: (added.sum(-1) / stream.sum(-1)).mean(), "a step back"),
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
    },
    "facts_recalled": {
        "adds the values": (lambda *given: recalled(*given, error=False), "written again"),
        "asks after each write": (lambda *given: recalled(*given, early=True), "written again"),
        "writes from the end": (lambda *given: recalled(*given, order=-1), "written again"),
        "keeps everything": (lambda keys, values: len(keys), "written again"),
        "as many as there are directions": (lambda keys, values: min(len(keys), keys.shape[1]), "written again"),
    },
}
