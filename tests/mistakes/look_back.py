"""What readers do wrong in 04_look_back: (their function, words of the law that must break)."""

import torch


def head(q, k, v, gate, scale=lambda d: d**0.5, weigh=lambda scores: torch.softmax(scores, 0)):
    """A gated head, with something in it exchanged."""
    return gate * (weigh(k @ q / scale(len(q))) @ v)


def induction(weights, ids, which=-1, step=1, over=None):
    """The score of heads, with something in it exchanged."""
    pairs = [(t, [s for s in range(t) if ids[s] == ids[t]]) for t in range(len(ids))]
    found = [weights[:, t, earlier[which] + step] for t, earlier in pairs if earlier]
    return torch.stack(found).sum(0) / (over or len(found))


def chunked(q, chunks, top=lambda old, scores: max(old, float(scores.max())), total=True, read=True):
    """A read in chunks, with something in it exchanged."""
    most, weight, value = -1e9, 0.0, 0.0
    for k, v in chunks:
        scores = k @ q / len(q) ** 0.5
        new = top(most, scores)
        shrink, parts = torch.exp(torch.tensor(most - new)), torch.exp(scores - new)
        weight = weight * (shrink if total else 1) + parts.sum()
        value, most = value * (shrink if read else 1) + parts @ v, new
    return value / weight


def mean(q, chunks):
    """The mean of what each chunk gives."""
    return torch.stack([head(q, k, v, 1) for k, v in chunks]).mean(0)


def gathered(q, chunks):
    """All chunks first, then softmax."""
    kept = list(chunks)
    return head(q, torch.cat([k for k, _ in kept]), torch.cat([v for _, v in kept]), 1)


MISTAKES = {
    "gated_head": {
        "does not scale": (lambda *given: head(*given, scale=lambda d: 1), "three words"),
        "scales by the length itself": (lambda *given: head(*given, scale=lambda d: d), "three words"),
        "forgets the gate": (lambda q, k, v, gate: head(q, k, v, 1), "lets nothing through"),
        "one gate for all channels": (lambda q, k, v, gate: head(q, k, v, gate.mean()), "a gate of its own"),
        "does not divide by the sum": (lambda *given: head(*given, weigh=torch.exp), "the mean of the values"),
        "exp of the scores as they are": (
            lambda *given: head(*given, weigh=lambda scores: scores.exp() / scores.exp().sum()),
            "large scores",
        ),
    },
    "induction_score": {
        "looks at the copy": (lambda *given: induction(*given, step=0), "scores 1"),
        "takes the first copy": (lambda *given: induction(*given, which=0), "scores 1"),
        "divides by all tokens": (lambda *given: induction(*given, over=7), "scores 1"),
        "takes the mean over heads too": (lambda *given: induction(*given).mean(), "for each head"),
        "counts the weight around the copy": (
            lambda *given: induction(*given, step=0) + induction(*given),
            "the copy itself",
        ),
    },
    "read_in_chunks": {
        "takes the mean over chunks": (mean, "two chunks"),
        "keeps every chunk": (gathered, "two chunks"),
        "does not take the largest off": (
            lambda *given: chunked(*given, top=lambda old, scores: 0.0, total=False, read=False),
            "grow large",
        ),
        "shrinks one of two sums": (lambda *given: chunked(*given, total=False), "two chunks"),
        "forgets the largest so far": (
            lambda *given: chunked(*given, top=lambda old, scores: float(scores.max()), total=False, read=False),
            "two chunks",
        ),
        "takes the largest of the first chunk": (
            lambda *given: chunked(*given, top=lambda old, s: old if old > -1e9 else float(s.max())),
            "grow large",
        ),
    },
}
