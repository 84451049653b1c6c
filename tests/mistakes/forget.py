"""What readers do wrong in 02_forget: (their function, words of the law that must break), and right."""

import math

import numpy as np
import torch


def left(key, keys, alpha, beta, *, decay=True, share=True, error=False, along=False):
    rest = key
    for k, a, b in zip(keys, alpha, beta, strict=True):
        rest = a * rest if decay else rest
        rest = rest - b * (k @ (key if error else rest)) * k
    size = (rest @ key / key.norm() if along else rest.norm()) / (key.norm() if share else 1)
    return float(size)


def shrunk(key, keys, alpha, beta):
    """The key itself is made smaller."""
    size = float(key.norm())
    for k, a, b in zip(keys, alpha, beta, strict=True):
        key *= a
        key -= b * (k @ key) * k
    return key.norm() / size


def product(key, keys, alpha, beta):
    """All transitions as one matrix."""
    all_ = torch.eye(len(key))
    for k, a, b in zip(keys, alpha, beta, strict=True):
        all_ = a * (all_ - b * torch.outer(k, k @ all_))
    return float((all_ @ key).norm() / key.norm())


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
        "takes the first and the last": (
            lambda alpha: 2 * math.log(2) / -torch.log(alpha[[0, -1]]).sum(),
            "of seven tokens",
        ),
        "multiplies the shares first": (
            lambda alpha: -len(alpha) * math.log(2) / torch.log(alpha.prod()),
            "however many there are",
        ),
        "takes the logarithm in place": (lambda alpha: -math.log(2) / alpha.log_().mean(), "left as it was"),
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
        "takes a share of the length for each token": (
            lambda key, keys, alpha, beta: torch.prod(
                alpha * (1 - (2 * beta - beta**2) * (keys @ key / key.norm()) ** 2).sqrt()
            ),
            "of seven tokens",
        ),
        "shrinks the key that it was given": (shrunk, "left as it was"),
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
        "erases all that it says, whatever beta": (
            lambda S, k, v, alpha, beta: (
                terms(S, k, v, alpha, 1)[0],
                terms(S, k, v, alpha, 1)[1],
                beta * k[:, None] * v,
            ),
            "at beta 1/2",
        ),
        "lets the state it was given decay": (
            lambda S, k, v, alpha, beta: ((alpha - 1) * S, *terms(S.mul_(alpha), k, v, 1, beta)[1:]),
            "left as it was",
        ),
        "erases everything a little": (
            lambda S, k, v, alpha, beta: (-(1 - alpha) * S, -alpha * beta * S, beta * torch.outer(k, v)),
            "new to the memory",
        ),
    },
}

WAYS = {
    "half_life": {
        "with logarithms of 2": lambda alpha: float(-1 / torch.log2(alpha).mean()),
        "with numpy": lambda alpha: np.log(2) / -np.log(alpha.numpy()).mean(),
        "in a loop": lambda alpha: len(alpha) * math.log(2) / -sum(map(math.log, alpha)),
    },
    "key_survival": {
        "as one matrix": product,
        "in float64": lambda *given: left(*(tensor.double() for tensor in given)),
    },
    "update_terms": {
        "as one tensor": lambda *given: torch.stack(terms(*given)),
        "with numpy": lambda S, k, v, *gates: [t.numpy() for t in terms(S, k, v, *gates)],
    },
}
