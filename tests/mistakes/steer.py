"""What readers do wrong in 09_steer: (their function, words of the law that must break)."""

import numpy as np
import torch


def _nearest(rows, labels, *, aside=True, sides=(0, 1), far=np.linalg.norm):
    """A reader's leave-one-out; `aside` says whether the row is out of the means."""
    hits = []
    for n in range(len(rows)):
        rest = np.arange(len(rows)) != (n if aside else -1)
        zero, one = (far(rows[n] - rows[rest & (labels == side)].mean(0)) for side in sides)
        hits.append(int(one < zero) == labels[n])
    return hits


MISTAKES = {
    "unit_direction": {
        "leaves its length": (lambda some, others: some.mean(0) - others.mean(0), "lie apart"),
        "turns it around": (
            lambda some, others: (d := others.mean(0) - some.mean(0)) / np.linalg.norm(d),
            "lie apart",
        ),
        "sums over prompts": (
            lambda some, others: (d := some.sum(0) - others.sum(0)) / np.linalg.norm(d),
            "same say",
        ),
        "makes each mean a unit": (
            lambda some, others: (
                some.mean(0) / np.linalg.norm(some.mean(0)) - others.mean(0) / np.linalg.norm(others.mean(0))
            ),
            "lie apart",
        ),
        "takes the median of prompts": (
            lambda some, others: (d := np.median(some, 0) - np.median(others, 0)) / np.linalg.norm(d),
            "same say",
        ),
        "divides by the sum of channels": (lambda some, others: (d := some.mean(0) - others.mean(0)) / d.sum(), "turn"),
    },
    "taken_out": {
        "subtracts the direction": (lambda rows, d: rows - d, "(1, 0)"),
        "keeps it in place of the rest": (lambda rows, d: np.outer(rows @ d, d) / (d @ d), "(1, 0)"),
        "takes it for a unit": (lambda rows, d: rows - np.outer(rows @ d, d), "length"),
        "divides once by its length": (lambda rows, d: rows - np.outer(rows @ d, d) / np.linalg.norm(d), "length"),
        "takes the mean row's share": (lambda rows, d: rows - (rows @ d).mean() * d / (d @ d), "(1, 0)"),
        "takes out what is positive alone": (
            lambda rows, d: rows - np.outer(np.maximum(rows @ d, 0), d) / (d @ d),
            "(1, 0)",
        ),
        "brings rows back to their length": (
            lambda rows, d: (
                (left := rows - np.outer(rows @ d, d) / (d @ d))
                * np.linalg.norm(rows, axis=1, keepdims=True)
                / np.linalg.norm(left, axis=1, keepdims=True)
            ),
            "(1, 0)",
        ),
        "sets channels to 0": (lambda rows, d: np.where(d != 0, 0.0, rows), "(5, 5)"),
    },
    "left_out": {
        "leaves nothing out": (lambda rows, labels: np.mean(_nearest(rows, labels, aside=False)), "no row has a vote"),
        "turns the labels": (lambda rows, labels: np.mean(_nearest(rows, labels, sides=(1, 0))), "far apart"),
        "counts, no share": (lambda rows, labels: float(np.sum(_nearest(rows, labels))), "far apart"),
        "takes the better side": (
            lambda rows, labels: max(share := np.mean(_nearest(rows, labels)), 1 - share),
            "no row has a vote",
        ),
        "adds up channels": (
            lambda rows, labels: np.mean(_nearest(rows, labels, far=lambda x: np.abs(x).sum())),
            "nine rows of noise",
        ),
        "gives both labels the same say": (
            lambda rows, labels: np.mean(
                [np.mean(np.array(_nearest(rows, labels))[labels == side]) for side in (0, 1)]
            ),
            "on the other side",
        ),
    },
}


def _torch(positive, negative):
    apart = torch.as_tensor(positive).mean(0) - torch.as_tensor(negative).mean(0)
    return apart / apart.norm()


def _between(rows, labels):
    """By the side of the middle between the two means, all rows at once."""
    own = [(labels == side)[:, None] for side in (0, 1)]
    zero, one = ((rows[mine[:, 0]].sum(0) - np.where(mine, rows, 0)) / (mine.sum() - mine) for mine in own)
    return float(np.mean((((rows - (zero + one) / 2) * (one - zero)).sum(1) > 0) == labels))


WAYS = {
    "unit_direction": {
        "in torch": _torch,
        "as a list": lambda some, others: _torch(some, others).tolist(),
        "in float32": lambda some, others: _torch(some.astype("float32"), others.astype("float32")),
        "by einsum": lambda some, others: (
            (d := np.einsum("pc->c", some) / len(some) - np.einsum("pc->c", others) / len(others)) / np.sqrt(d @ d)
        ),
    },
    "taken_out": {
        "row by row": lambda rows, d: [row - (row @ d) / (d @ d) * d for row in rows],
        "by a matrix": lambda rows, d: rows @ (np.eye(len(d)) - np.outer(d, d) / (d @ d)),
        "in torch, float32": lambda rows, d: torch.as_tensor(rows - np.outer(rows @ d, d) / (d @ d)).float(),
    },
    "left_out": {
        "by the middle": _between,
        "in torch": lambda rows, labels: torch.tensor(_between(rows, labels)),
    },
}
