"""What readers do wrong in 01_remember: (their function, words of the law that must break)."""

import torch

MISTAKES = {
    "delta_rule": {
        "writes the value, not the error": (
            lambda S, k, v, beta=1.0: S + beta * torch.outer(k, v),
            "a key written again",
        ),
        "exchanges key and value": (lambda S, k, v, beta=1.0: S + beta * torch.outer(v - S.T @ k, k).T.T, "axes"),
        "forgets beta": (lambda S, k, v, beta=1.0: S + torch.outer(k, v - S.T @ k), "beta"),
        "writes into the state it was given": (
            lambda S, k, v, beta=1.0: S.add_(beta * torch.outer(k, v - S.T @ k)),
            "left as it was",
        ),
    },
}
