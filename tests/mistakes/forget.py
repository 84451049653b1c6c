"""What readers do wrong in 02_forget: (their function, words of the law that must break)."""

import math

import torch


def left(key, keys, alpha, beta, *, decay=True, share=True, error=False, along=False):
    rest = key
    for k, a, b in zip(keys, alpha, beta, strict=True):
        rest = a * rest if decay else rest
        rest = rest - b * (k @ (key if error else rest)) * k
    size = (rest @ key / key.norm() if along else rest.norm()) / (key.norm() if share else 1)
    return float(size)


def terms(S, k, v, alpha, beta, *, first=True, sign=-1):
    told = S.T @ k * (alpha if first else 1)
    return sign * (1 - alpha) * S, sign * beta * torch.outer(k, told), beta * torch.outer(k, v)


MISTAKES = {
    "half_life": {
        "takes the mean of the shares": (
            lambda alpha: float(math.log(2) / -torch.log(alpha.mean())),
            "1/2 and 1/8 in turn",
        ),
        "forgets the logarithm": (
            lambda alpha: float(math.log(2) / (1 - alpha).mean()),
            "half is left after one token",
        ),
        "counts until nothing is left, 1 over the mean": (
            lambda alpha: float(1 / -torch.log(alpha).mean()),
            "half is left after one token",
        ),
        "counts whole tokens": (
            lambda alpha: float(math.ceil(math.log(2) / -torch.log(alpha).mean() - 1e-4)),
            "half a token",
        ),
        "adds up over the tokens": (lambda alpha: float(math.log(2) / -torch.log(alpha).sum()), "after one token"),
    },
    "key_survival": {
        "knows decay alone": (lambda key, keys, alpha, beta: float(alpha.prod()), "along the key"),
        "knows erasing alone": (lambda *given: left(*given, decay=False), "decay alone is left"),
        "gives a length, not a share": (lambda *given: left(*given, share=False), "right after the write"),
        "erases of the key as it was": (lambda *given: left(*given, error=True), "leans on it"),
        "asks what the key itself calls up": (lambda *given: left(*given, along=True), "leans on it"),
        "goes backwards": (
            lambda key, keys, alpha, beta: left(key, keys.flip(0), alpha.flip(0), beta.flip(0)),
            "of seven tokens",
        ),
        "erases whatever it leans on": (
            lambda key, keys, alpha, beta: float((alpha * (1 - beta * (keys @ key).abs() / key.norm())).prod()),
            "leans on it",
        ),
    },
    "update_terms": {
        "erases before it decays": (lambda *given: terms(*given, first=False), "of what decay has left"),
        "gives what is taken as positive": (lambda *given: terms(*given, sign=1), "decay takes a quarter"),
        "puts error and value together": (
            lambda S, k, v, alpha, beta: (-(1 - alpha) * S, beta * torch.outer(k, v - alpha * S.T @ k)),
            "three terms",
        ),
        "writes the error": (
            lambda S, k, v, alpha, beta: (
                *terms(S, k, v, alpha, beta)[:2],
                beta * torch.outer(k, v - alpha * S.T @ k),
            ),
            "what is written",
        ),
        "erases everything a little": (
            lambda S, k, v, alpha, beta: (-(1 - alpha) * S, -alpha * beta * S, beta * torch.outer(k, v)),
            "new to the memory",
        ),
    },
}
