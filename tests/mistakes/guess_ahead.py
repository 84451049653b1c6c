"""What readers do wrong in 11_guess_ahead: (their function, words of the law that must break)."""

import itertools

import numpy as np

MISTAKES = {
    "right_in_a_row": {
        "counts all right guesses": (
            lambda guesses, came: sum(a == b for a, b in zip(guesses, came, strict=True)),
            "counts 0",
        ),
        "counts tokens in any order": (lambda guesses, came: len(set(guesses) & set(came)), "counts 0"),
        "counts the false one too": (
            lambda guesses, came: next(
                (n + 1 for n, (a, b) in enumerate(map(tuple, zip(guesses, came, strict=True))) if a != b), len(came)
            ),
            "counts 0",
        ),
        "says whether, not how many": (lambda guesses, came: guesses == came, "counts 0"),
        "asks whether it is one object": (
            lambda guesses, came: next(
                (n for n, (a, b) in enumerate(zip(guesses, came, strict=True)) if a is not b), len(came)
            ),
            "by value",
        ),
    },
    "verified_round": {
        "forgets the model's own token": (
            lambda guesses, says: guesses[: next((n for n, g in enumerate(guesses) if g != says[n]), len(guesses))],
            "false first guess",
        ),
        "keeps what is right behind a false guess": (lambda guesses, says: list(says[:-1]), "false first guess"),
        "leaves out the last token of the model": (
            lambda guesses, says: (
                [*guesses[:n], says[n]]
                if (n := next((n for n, g in enumerate(guesses) if g != says[n]), len(guesses))) < len(guesses)
                else list(guesses)
            ),
            "k + 1 tokens",
        ),
        "asks whether it is one object": (
            lambda guesses, says: list(
                says[: next((n for n, g in enumerate(guesses) if g is not says[n]), len(guesses)) + 1]
            ),
            "by value",
        ),
        "makes numbers of tokens": (
            lambda guesses, says: [
                int(token)
                for token in says[: next((n for n, g in enumerate(guesses) if g != says[n]), len(guesses)) + 1]
            ],
            "second round",
        ),
    },
    "tokens_a_round": {
        "forgets the model's own token": (lambda share, k: sum(share**n for n in range(1, k + 1)), "plain decoding"),
        "adds the share once for each guess": (lambda share, k: 1 + k * share, "1.75"),
        "ends one guess too early": (lambda share, k: sum(share**n for n in range(k)), "always right"),
        "divides by zero at share 1": (lambda share, k: (1 - share ** (k + 1)) / (1 - share), "always right"),
    },
}


def _kept(guesses, came):
    return int(np.cumprod([a == b for a, b in zip(guesses, came, strict=False)]).sum()) if guesses else 0


WAYS = {
    "right_in_a_row": {
        "by a running product": lambda guesses, came: np.cumprod(np.equal(guesses, came)).sum(),
        "by takewhile": lambda guesses, came: len(
            [*itertools.takewhile(lambda pair: pair[0] == pair[1], zip(guesses, came, strict=True))]
        ),
    },
    "verified_round": {
        "what the model says": lambda guesses, says: says[: _kept(guesses, says) + 1],
        "as a tuple": lambda guesses, says: (*guesses[: _kept(guesses, says)], says[_kept(guesses, says)]),
        "as an array": lambda guesses, says: np.array(says[: _kept(guesses, says) + 1]),
    },
    "tokens_a_round": {
        "in closed form": lambda share, k: k + 1 if share == 1 else (1 - share ** (k + 1)) / (1 - share),
        "as an array's sum": lambda share, k: np.sum(share ** np.arange(k + 1)),
    },
}
