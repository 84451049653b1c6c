"""What readers do wrong in 03_operate_on_memory: (their function, words of the law that must break)."""

import torch


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
    },
    "rewrite": {
        "adds the value": (lambda S, k, v: S + torch.outer(k / k.norm(), v), "new value alone"),
        "writes the value everywhere": (lambda S, k, v: v.expand(S.shape).clone(), "new value alone"),
        "empties the rest": (lambda S, k, v: torch.outer(k / k.norm(), v), "right angles"),
        "takes the key as it is long": (lambda S, k, v: S + torch.outer(k, v - S.T @ k), "three times as long"),
        "exchanges the axes": (lambda S, k, v: (S + torch.outer(k, v - S.T @ k)).T, "axes"),
        "writes into the state it was given": (lambda S, k, v: S.add_(torch.outer(k, v - S.T @ k)), "left as it was"),
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
    },
}
