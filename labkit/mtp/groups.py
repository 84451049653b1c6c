"""What guesses are compared with, and where they fail: by kind of token, by how surprising the token is."""

import collections
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit import stats
from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import Quantity, label

if TYPE_CHECKING:
    import xarray

DRAFT = "guess of a chain, 1 is the token after next"
EDGES = (0.1, 1.0, 3.0)  # nats
SURPRISE = ("sure: below 0.1 nat", "0.1 to 1 nat", "1 to 3 nats", "surprised: above 3 nats")
KINDS = (  # the first that fits a token's readable text
    ("special", re.compile(r"<\|?/?\w+\|?>$")),
    ("new line", re.compile(r".*⏎")),
    ("number", re.compile(r"[ ␣]?\d")),
    ("word", re.compile(r"[ ␣][^\W\d_]")),
    ("part of a word", re.compile(r"[^\W\d_]")),
)
REST = "sign"
SHARES = {"right": "the head", "main_right": "the model, one token before", "bigram_right": "pairs counted in the run"}


def bigram(ids: np.ndarray, starts: Sequence[int], drafts: int) -> np.ndarray:
    """What counts of pairs guess, [draft, start]: the token that followed most often, the latest of equals.

    Args:
        ids: [T] of a text. starts: chains begin there, as in `mtp.drafts`: token t+1 has been seen, t+2 is guessed
            first, and only pairs up to t+1 count. A token that nothing has followed yet is followed by the commonest.
    """
    followers, counts = collections.defaultdict(collections.Counter), collections.Counter()
    likeliest, guesses, wanted, text, most = {}, {}, set(starts), ids.tolist(), None
    for n, token in enumerate(text):
        counts[token] += 1
        most = token if counts[token] >= counts[most] else most
        if n:
            before = text[n - 1]
            after = followers[before]
            after[token] += 1
            if after[token] >= after[likeliest.get(before)]:
                likeliest[before] = token
        if n - 1 in wanted:
            chain = [token]
            for _ in range(drafts):
                chain.append(likeliest.get(chain[-1], most))
            guesses[n - 1] = chain[1:]
    return np.array([guesses[start] for start in starts]).T.reshape(drafts, len(starts))


@public
def failures(ds: "xarray.Dataset", *, by: str = "kind") -> "xarray.Dataset":
    """How often guesses came true, group by group of the tokens that were guessed.

    Args:
        ds: of `mtp.drafts`.
        by: "kind" of token, by its text; "surprise", the model's own loss for it with everything before it read; or
            "draft" alone, all tokens together.

    Returns:
        Dataset over (draft, group), or over (draft) alone: `right`, share of right guesses, with the 95 % Wilson
        interval `low` to `high`; `main_right` and `bigram_right`, the control and the baseline on the same tokens;
        `tokens`, how many there were. Shares of no tokens are NaN. Groups that no token is in are left out.

    Raises:
        InputError: not a dataset of `mtp.drafts`, an unknown `by`.
    """
    if not {"target_text", "main_loss", *SHARES} <= set(getattr(ds, "data_vars", ())):
        raise InputError("failures of guesses", got=type(ds).__name__, expected="what mtp.drafts returns")
    ways = {"kind": _kinds, "surprise": _surprises, "draft": lambda ds: np.zeros(ds.right.shape)}
    if by not in ways:
        raise InputError("unknown groups", got=repr(by), expected=", ".join(ways))
    names = {"kind": [*(name for name, _ in KINDS), REST], "surprise": SURPRISE, "draft": ["all"]}[by]
    known, group = np.isfinite(ds.right.values), ways[by](ds)
    inside = {name: known & (group == n) for n, name in enumerate(names)}
    inside = {name: mask for name, mask in inside.items() if mask.any()}
    if not inside:
        got, hint = "guesses beyond the end of the run", "mtp.drafts(lab.trace(ids), lab), of more ids"
        raise InputError("nothing came that was guessed", got=got, hint=hint)
    tally = lambda values: np.stack([np.where(mask, values, 0).sum(1).astype(int) for mask in inside.values()], 1)  # noqa: E731
    count, named = tally(1), {name: tally(ds[name].values) for name in SHARES}
    ends = np.vectorize(stats.wilson)(named["right"], count)
    dims, variables = ("draft", "group"), {}
    for name, who in SHARES.items():
        share = np.divide(named[name], count, out=np.full(count.shape, np.nan), where=count > 0)
        variables[name] = (dims, share, Quantity("right", f"share named by {who}", "fraction", "fraction", "this run"))
    variables |= {end: (dims, part, "right") for end, part in zip(("low", "high"), ends, strict=True)}
    variables |= {"tokens": (dims, count, "tokens")}
    attrs = dict(ds.attrs) | {"reading": "mtp.failures", "by": by}
    coords = {"draft": ("draft", ds.draft.values, DRAFT), "group": list(inside)}
    made = label(variables, coords=coords, attrs=attrs)
    return made.isel(group=0, drop=True) if by == "draft" else made


def _kinds(ds):
    def kind(text):
        return next((n for n, (_, pattern) in enumerate(KINDS) if pattern.match(text)), len(KINDS))

    return np.array([[kind(text) for text in row] for row in ds.target_text.values.tolist()])


def _surprises(ds):
    return np.digitize(np.nan_to_num(ds.main_loss.values), EDGES)
