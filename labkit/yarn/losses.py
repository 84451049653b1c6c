"""What a scaling does to the loss of texts: what it costs short ones, and what a longer context still adds."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, label, whole_numbers
from labkit.rotary import RELEASED, Scaling, stretched
from labkit.yarn.answers import distinct, interruptible
from labkit.yarn.scope import scaled, under
from labkit.yarn.tasks import filler_ids

if TYPE_CHECKING:
    import xarray

ROWS = 256  # tokens whose logits are turned to float32 at a time
CHANGE = Quantity("Δ loss", "loss minus that behind the shortest text", "nat", "signed", "this run")


@public
@torch.no_grad()
def short_context_cost(
    lab: Lab,
    *,
    factor: float = RELEASED,
    length: int | None = None,
    samples: int = 32,
    texts: Sequence | None = None,
) -> "xarray.Dataset":
    """What a stretched window costs a short text: 2 x 2 of its frequencies and its attention factor.

    Args:
        lab: `Lab`. factor: of YaRN. length: tokens of a text, at most the window; None is half of it.
        samples: how many texts. texts: your own, as text or ids; None draws sentences.

    Returns:
        Dataset over (frequencies, attention_factor, sample): `loss`, mean negative log-likelihood per token in nats.

    Raises:
        InputError: a text longer than the window.
    """
    length, samples = lab.spec.window // 2 if length is None else length, whole(samples, "samples", least=1)
    rows = [filler_ids(lab, length, seed=n) for n in range(samples)] if texts is None else list(map(lab.encode, texts))
    if (longest := max(map(len, rows))) > lab.spec.window:
        got, expected = f"{longest} tokens", f"at most {lab.spec.window}"
        raise InputError("this is a cost of short texts", got=got, expected=expected)
    scaling = stretched(lab.spec, factor)
    factors, loss = (1.0, scaling.attention_factor), np.zeros((2, 2, len(rows)), np.float32)
    for (i, kind), (j, m) in itertools.product(enumerate(("none", "yarn")), enumerate(factors)):
        with scaled(lab, factor, kind=kind, attention_factor=m):
            loss[i, j] = [likelihood(lab, ids) for ids in rows]
    dims = ("frequencies", "attention_factor", "sample")
    coords = {"frequencies": ["native", str(scaling)], "attention_factor": factors, "sample": range(len(rows))}
    facts = {"model": lab.name, "reading": "yarn.short_context_cost", "tokens": longest}
    return label({"loss": (dims, loss, "loss")}, coords=coords, attrs=facts)


@public
def likelihood(lab: Lab, ids: torch.Tensor, *, last: int | None = None, chunk: int | None = None) -> float:
    """Mean negative log-likelihood, in nats per token, of a text's tokens but the first, or of its `last` ones.

    Raises:
        InputError: fewer tokens than are to be scored, and one before them.
    """
    count = len(ids) - 1 if last is None else whole(last, "last")
    if not 1 <= count < len(ids):
        raise InputError("no token can be scored without one before it", got=f"last={last}, {len(ids)} tokens")
    before = list(range(len(ids) - 1 - count, len(ids) - 1))
    logits = lab.trace(ids, layers=[], logits=before, chunk=chunk).logits
    scored = ids[len(ids) - count :, None].to(logits.device)
    rows = zip(logits.split(ROWS), scored.split(ROWS), strict=True)  # in float32, a part at a time
    return float(-sum(part.float().log_softmax(-1).gather(1, at).sum() for part, at in rows) / count)


@public
@torch.no_grad()
def paired(
    lab: Lab,
    *,
    lengths: Sequence[int] | None = None,
    last: int = 64,
    samples: int = 16,
    scalings: Sequence[Scaling] | None = None,
    texts: Sequence | None = None,
    chunk: int | None = None,
    progress: bool = False,
) -> "xarray.Dataset":
    """The same last tokens behind more and more text: what a longer context adds, and under which scaling.

    Args:
        lab: `Lab`. lengths: tokens before the last ones, the first is what others are compared with; None is 1/4, 1, 2
            and 3 windows. last: tokens that are scored. samples: how many texts.
        texts: your own, each of at least `max(lengths) + last` tokens; None draws sentences.
        scalings: `rotary.Scaling`s; None is none and YaRN 4. chunk, progress: as in `grid`.

    Returns:
        Dataset over (scaling, length, sample): `loss` of the last tokens; `effect`, loss minus that at the first
        length, text by text.

    Raises:
        InputError: a text that is too short, lengths or `last` below 1, scalings of one name.
        Interrupted: on Ctrl-C; its dataset holds what was scored.
    """
    window = lab.spec.window
    lengths = [window // 4, window, 2 * window, 3 * window] if lengths is None else lengths
    lengths = whole_numbers(lengths, "lengths", least=1)
    last, samples = whole(last, "last", least=1), whole(samples, "samples", least=1)
    scalings = distinct([Scaling(), stretched(lab.spec)] if scalings is None else scalings)
    most = max(lengths) + last
    rows = [filler_ids(lab, most, seed=n) for n in range(samples)] if texts is None else list(map(lab.encode, texts))
    if (least := min(map(len, rows))) < most:
        raise InputError("a text is too short", got=f"{least} tokens", expected=f"at least {most}")
    loss = np.full((len(scalings), len(lengths), len(rows)), np.nan, np.float32)

    def dataset():
        dims = ("scaling", "length", "sample")
        coords = {"scaling": list(map(str, scalings)), "length": lengths, "sample": range(len(rows))}
        facts = {"model": lab.name, "reading": "yarn.paired", "window": window, "last": last}
        values = {"loss": (dims, loss, "loss"), "effect": (dims, loss - loss[:, :1], CHANGE)}
        return label(values, coords=coords, attrs=facts)

    hint = "error.dataset holds them, NaN for the rest"
    with interruptible(dataset, total=len(scalings) * len(rows), unit="text", show=progress, hint=hint) as bar:
        for n, (i, scaling) in itertools.product(range(len(rows)), enumerate(scalings)):
            with under(lab, scaling, max(most, int(scaling.factor * window))):
                for j, length in enumerate(lengths):
                    loss[i, j, n] = likelihood(lab, rows[n][-last - length :], last=last, chunk=chunk)
            bar.update(1)
    return dataset()
