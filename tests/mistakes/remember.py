"""What readers do wrong in 01_remember: (their function, words of the law that must break)."""

import torch


def adds(S, q, k, v, alpha, beta):
    S = alpha * S + beta * torch.outer(k, v)
    return S, S.T @ q


def asks_first(S, q, k, v, alpha, beta):
    error = v - S.T @ k
    S = alpha * S + beta * torch.outer(k, error)
    return S, S.T @ q


def reads_first(S, q, k, v, alpha, beta):
    read = (alpha * S).T @ q
    S = alpha * S
    return S + beta * torch.outer(k, v - S.T @ k), read


def decays_last(S, q, k, v, alpha, beta):
    S = alpha * (S + beta * torch.outer(k, v - S.T @ k))
    return S, S.T @ q


def entropy(share, log=torch.log):
    share = share / share.sum()
    return float(torch.exp(-(share * log(share.clamp(min=1e-12))).sum()))


def backwards(asked, keys, alpha, beta, *, erase=True, own=False):
    weights, x = torch.zeros(len(keys)), asked
    for j in reversed(range(len(keys))):
        x = alpha[j] * x if own else x
        weights[j] = beta[j] * (keys[j] @ x)
        x = x - weights[j] * keys[j] if erase else x
        x = x if own else alpha[j] * x
    return weights


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
    "gated_step": {
        "writes the value, not the error": (adds, "it is the delta rule"),
        "asks for the error before it forgets": (asks_first, "however much was forgotten"),
        "forgets what was just written": (decays_last, "however much was forgotten"),
        "reads before it writes": (reads_first, "the read is of the state after the write"),
        "returns the state alone": (lambda *given: asks_first(*given)[0], "it gives a state"),
        "never forgets": (lambda S, q, k, v, alpha, beta: asks_first(S, q, k, v, 1.0, beta), "multiplied by alpha"),
    },
    "effective_rank": {
        "does not square the singular values": (lambda S: entropy(torch.linalg.svdvals(S)), "3 to 1"),
        "counts in bits": (lambda S: entropy(torch.linalg.svdvals(S) ** 2, log=torch.log2), "three directions"),
        "counts those that are not zero": (lambda S: float(torch.linalg.matrix_rank(S)), "3 to 1"),
        "does not divide by the sum": (
            lambda S: float(torch.exp(-torch.special.xlogy(s := torch.linalg.svdvals(S), s).sum())),
            "three directions",
        ),
    },
    "whose_values": {
        "compares keys and leaves out what came after": (
            lambda asked, keys, alpha, beta: beta * (keys @ asked),
            "two tokens at alpha 1/2",
        ),
        "leaves out what was erased": (
            lambda *given: backwards(*given, erase=False),
            "a key that came again",
        ),
        "takes the token's own decay too": (lambda *given: backwards(*given, own=True), "the last token"),
        "forgets beta": (
            lambda asked, keys, alpha, beta: backwards(asked, keys, alpha, torch.ones_like(beta)),
            "the last token",
        ),
        "one weight for each channel of the key": (
            lambda asked, keys, alpha, beta: keys.T @ (beta * (keys @ asked)),
            "one weight for each token",
        ),
    },
}
