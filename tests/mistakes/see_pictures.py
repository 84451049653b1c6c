"""What readers do wrong in 12_see_pictures: (their function, words of the law that must break)."""

import numpy as np
import torch

from labkit import check

POSITIONS = check.rope_positions.solution


def _changed(axis, values):
    def wrong(before, rows, columns, after):
        made = POSITIONS(before, rows, columns, after).copy()
        made[axis, before : before + rows * columns] = values(before, rows, columns)
        return made

    return wrong


def _after(step):
    def wrong(before, rows, columns, after):
        made = POSITIONS(before, rows, columns, after).copy()
        made[:, before + rows * columns :] = step(before, rows, columns) + np.arange(after)
        return made

    return wrong


MISTAKES = {
    "picture_tokens": {
        "exchanges rows and columns": (lambda h, w, patch, merge: (w // patch // merge, h // patch // merge), "rows"),
        "forgets that patches are joined": (lambda h, w, patch, merge: (h // patch, w // patch), "rows"),
        "joins in one direction": (lambda h, w, patch, merge: (h // patch // merge, w // patch), "rows"),
        "joins two by two, always": (lambda h, w, patch, merge: (h // patch // 2, w // patch // 2), "without joining"),
    },
    "rope_positions": {
        "time goes on in the picture": (_changed(0, lambda b, r, c: b + np.arange(r * c)), "time stands still"),
        "exchanges height and width": (_changed(1, lambda b, r, c: b + np.tile(np.arange(c), r)), "height"),
        "counts rows from 0": (_changed(1, lambda b, r, c: np.repeat(np.arange(r), c)), "height"),
        "goes on as if every token took a position": (_after(lambda b, r, c: b + r * c), "behind the longer side"),
        "goes on behind the columns": (_after(lambda b, r, c: b + c), "a tall picture"),
        "gives tokens first": (lambda *sizes: POSITIONS(*sizes).T, "three axes"),
        "wants a word before": (lambda before, *sizes: POSITIONS(max(before, 1), *sizes), "without text"),
        "wants a word behind": (lambda *sizes: POSITIONS(*sizes[:3], max(sizes[3], 1)), "without text"),
    },
    "mass_over_even": {
        "leaves the mass as it is": (lambda w, part: np.asarray(w)[:, part].sum(1), "an even head"),
        "takes the natural logarithm": (lambda w, part: np.log(w[:, part].sum(1) / part.mean()), "a quarter"),
        "takes the mean over heads": (lambda w, part: np.log2(w[:, part].sum(1).mean() / part.mean()), "each head"),
        "takes every part for a quarter": (lambda w, part: np.log2(w[:, part].sum(1) / 0.25), "three heads"),
        "rounds": (lambda w, part: np.round(np.log2(w[:, part].sum(1) / part.mean())), "three heads"),
        "gives all heads their mean": (
            lambda w, part: np.full(len(w), np.log2(w[:, part].sum(1).mean() / part.mean())),
            "three heads",
        ),
        "takes odds for shares": (
            lambda w, part: np.log2(w[:, part].sum(1) / (1 - w[:, part].sum(1)) / part.mean() * (1 - part.mean())),
            "a quarter",
        ),
        "divides the wrong way round": (lambda w, part: np.log2(part.mean() / w[:, part].sum(1)), "a quarter"),
    },
}
WAYS = {
    "picture_tokens": {
        "as an array": lambda h, w, patch, merge: np.array([h, w]) // (patch * merge),
        "as a tensor": lambda h, w, patch, merge: torch.tensor([h, w]) // (patch * merge),
        "as a list of floats": lambda h, w, patch, merge: [h / patch / merge, w / patch / merge],
    },
    "rope_positions": {
        "as lists": lambda *sizes: POSITIONS(*sizes).tolist(),
        "in torch": lambda *sizes: torch.as_tensor(POSITIONS(*sizes)),
        "in floats": lambda *sizes: POSITIONS(*sizes).astype(float),
    },
    "mass_over_even": {
        "by means": lambda w, part: np.log2(w[:, part].mean(1) / w.mean(1)),
        "by a product": lambda w, part: np.log2(w @ part) - np.log2(part.sum() / part.size),
        "in torch": lambda w, part: torch.log2(torch.as_tensor(w)[:, torch.as_tensor(part)].sum(1) / part.mean()),
    },
}
