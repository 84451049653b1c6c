"""What readers do wrong in 03_operate_on_memory: (their function, words of the law that must break), and right."""

import torch


def written(S, k, v):
    """A value written by hand."""
    k = k / k.norm()
    return S + torch.outer(k, v - S.T @ k)


def into(change, q, k, alpha, beta):
    """The change itself decays."""
    reads = []
    for t in range(len(q)):
        change *= alpha[t]
        change -= beta[t] * torch.outer(k[t], change.T @ k[t])
        reads.append(change.T @ q[t])
    return torch.stack(reads)


def double(score):
    return torch.as_tensor(score, dtype=torch.float64)


def product(k, alpha, beta):
    """The transitions of the tokens of `k` as one matrix, each token erasing before it decays."""
    all_ = torch.eye(k.shape[1])
    for t, key in enumerate(k):
        all_ = alpha[t] * (all_ - beta[t] * torch.outer(key, key @ all_))
    return all_


def later(change, q, k, alpha, beta, decay=True, write=True, early=False, swap=False):
    """The change at later reads, with something in it exchanged."""
    reads = []
    for t in range(len(q)):
        before = change
        change = alpha[t] * change if decay else change
        old = before if swap else change
        change = change - beta[t] * torch.outer(k[t], old.T @ k[t]) if write else change
        reads.append((before if early else change).T @ q[t])
    return torch.stack(reads)


MISTAKES = {
    "patch_effect": {
        "a difference, not a share": (lambda patched, clean, other: patched - other, "effect 1"),
        "a share of the clean score": (lambda patched, clean, other: patched / clean, "effect 0"),
        "the other end is zero": (lambda patched, clean, other: (clean - patched) / (clean - other), "effect 0"),
        "cut off at one": (
            lambda patched, clean, other: min(1.0, max(0.0, (patched - other) / (clean - other))),
            "too far above 1",
        ),
        "absolute values": (
            lambda patched, clean, other: (abs(patched) - abs(other)) / (abs(clean) - abs(other)),
            "a quarter",
        ),
        "absolute values of both differences": (
            lambda patched, clean, other: abs(patched - other) / abs(clean - other),
            "the wrong way",
        ),
        "one number of many": (
            lambda patched, clean, other: torch.as_tensor((patched - other) / (clean - other)).mean(),
            "many patches",
        ),
    },
    "rewrite": {
        "adds the value": (lambda S, k, v: S + torch.outer(k / k.norm(), v), "new value alone"),
        "writes the value everywhere": (lambda S, k, v: v.expand(S.shape).clone(), "new value alone"),
        "empties the rest": (lambda S, k, v: torch.outer(k / k.norm(), v), "right angles"),
        "takes the key as it is long": (lambda S, k, v: S + torch.outer(k, v - S.T @ k), "three times as long"),
        "exchanges the axes": (lambda S, k, v: (S + torch.outer(k, v - S.T @ k)).T, "axes"),
        "writes into the state it was given": (lambda S, k, v: S.add_(torch.outer(k, v - S.T @ k)), "left as it was"),
        "shortens the key that it was given": (lambda S, k, v: written(S, k.div_(k.norm()), v), "left as it was"),
        "makes the long key itself say it": (
            lambda S, k, v: S + torch.outer(k, v - S.T @ k) / (k @ k),
            "three times as long",
        ),
    },
    "later_reads": {
        "forgets the decay": (lambda *given: later(*given, decay=False), "decay of one half"),
        "forgets the writes": (lambda *given: later(*given, write=False), "a full write"),
        "reads before the token": (lambda *given: later(*given, early=True), "decay of one half"),
        "corrects by the change before its decay": (lambda *given: later(*given, swap=True), "difference of two runs"),
        "takes every read from the first change": (
            lambda change, q, k, alpha, beta: alpha[:, None] * (q @ change),
            "decay of one half",
        ),
        "takes the first token's gates for all": (
            lambda change, q, k, alpha, beta: later(change, q, k, alpha[:1].expand(len(q)), beta[:1].expand(len(q))),
            "its own alpha",
        ),
        "reads with the key": (lambda change, q, k, *gates: later(change, k, k, *gates), "the read of the change"),
        "adds what it should take": (
            lambda change, q, k, alpha, beta: later(change, q, k, alpha, -beta),
            "a full write",
        ),
        "lists its reads": (lambda *given: list(later(*given)), "a vector for every token"),
        "writes into the change it was given": (into, "left as it was"),
    },
}

WAYS = {
    "patch_effect": {
        "less what is missing": lambda patched, clean, other: 1 - (clean - patched) / (clean - other),
        "in float64": lambda *scores: WAYS["patch_effect"]["less what is missing"](*map(double, scores)),
    },
    "rewrite": {
        "as a projection": lambda S, k, v: S + torch.outer(k, v - k @ S / k.norm()) / k.norm(),
        "in float64": lambda *given: written(*(tensor.double() for tensor in given)),
        "with numpy": lambda *given: written(*given).numpy(),
    },
    "later_reads": {
        "erases, then decays": lambda change, q, k, alpha, beta: torch.stack(
            [q[t] @ product(k[: t + 1], alpha, beta) @ change for t in range(len(q))]
        ),
        "with numpy": lambda *given: later(*given).numpy(),
    },
}
