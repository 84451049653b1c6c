"""One prompt under all doses of a direction and of its controls: a unit of work of `steering.doses`.

They are rows of one batch, each with a vector of its own, and fork from one snapshot of what comes before the first
steered token.
"""

from collections.abc import Sequence

import numpy as np
import torch

from labkit import passes
from labkit.lab import Lab
from labkit.steering.sites import Arrow

ROWS = 64  # at a time
JUDGED = 2  # arrows whose continuations are: the direction, and one random one


@torch.no_grad()
def work(
    lab: Lab, unit: dict, *, sizes: Sequence[float], controls: int, new: int, seed: int, **direction
) -> dict[str, np.ndarray]:
    """What is measured of one prompt, [arrow · dose] each, and `plain` [score, perplexity], those without a dose.

    Args:
        unit: `ids`, `start` (the first token that is read steered), `own` and `foil`, ids of answers. direction: as
            `Arrow.told` gives it.
    """
    arrow, ids = Arrow.retold(lab.spec, direction), torch.tensor(unit["ids"])
    answer, start = (unit["own"], unit["foil"]), unit["start"]
    vectors = _vectors(arrow, sizes, controls, seed)
    snap, rest = _before(lab, ids, start - (arrow.site.crossed is None))
    base = _read(lab, snap, rest[None], answer)
    alone = _perplexity(lab, _grown(lab, ids[None], new), len(ids))[0] if new else torch.nan
    parts = []
    for some in vectors.split(ROWS):
        with lab.edit(arrow.edit(lab, some, start)):
            parts.append(_read(lab, snap, rest.expand(len(some), -1), answer, base["said"]))
    found = {key: torch.cat([part[key] for part in parts]) for key in ("score", "probability", "divergence")}
    found["moved"] = found["score"] - base["score"]
    found["perplexity"] = torch.full((len(vectors),), torch.nan)
    if new:
        told = vectors[: JUDGED * len(sizes)]
        with lab.edit(arrow.edit(lab, told, start)):
            grown = _grown(lab, ids.expand(len(told), -1), new)
        found["perplexity"][: len(told)] = _perplexity(lab, grown, len(ids))
    found["plain"] = torch.tensor([float(base["score"]), float(alone)])
    return {key: values.numpy() for key, values in found.items()}


def _vectors(arrow, sizes, controls, seed):
    """[arrow · dose, *shape]: the direction and random ones of the same norm, each by every dose."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(controls, *arrow.unit.shape, generator=generator)
    random = random / random.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, *[1] * arrow.unit.ndim)
    units = torch.cat([arrow.unit[None] / arrow.unit.norm().clamp(min=1e-30), random])
    scales = torch.tensor(sizes, dtype=torch.float32).view(1, -1, *[1] * arrow.unit.ndim)
    return (arrow.norm * scales * units[:, None]).flatten(0, 1)


def _before(lab, ids, first):
    """(snapshot of the first tokens, the rest); no snapshot where there are none."""
    if first < 1:
        return None, ids
    cache = lab.cache()
    lab.logits(ids[None, :first], cache=cache)
    return lab.snapshot(cache), ids[first:]


def _read(lab, snap, ids, answer, base=None):
    """What is said after ids [row, T] that follow a snapshot, by row, beside what `base` says."""
    own, foil = answer
    cache = None if snap is None else lab.restore(snap.stacked(len(ids)))
    logits = lab.logits(ids, cache=cache).float().cpu()
    said = logits.log_softmax(-1)
    base = said if base is None else base
    score = logits[:, own] - (0 if foil is None else logits[:, foil])
    divergence = (base.exp() * (base - said)).sum(-1)
    return dict(score=score, probability=said[:, own].exp(), divergence=divergence, said=said)


def _grown(lab, ids, new):
    return [run.ids for run in lab.generate(list(ids), max_new_tokens=new, layers=[])]


def _perplexity(lab, grown, length):
    """exp of the mean surprise of what follows the first `length` tokens of each row, [row]."""
    said = ahead(lab, grown, range(length - 1, max(map(len, grown)) - 1)).float().log_softmax(-1).cpu()
    lost = [-said[n, torch.arange(len(ids) - length), ids[length:]].mean() for n, ids in enumerate(grown)]
    return torch.stack(lost).exp()


def ahead(lab: Lab, rows: Sequence[torch.Tensor], columns: Sequence[int], **options) -> torch.Tensor:
    """Logits [row, column, vocab] of rows of different lengths, filled up behind their ends, where no token looks.

    Args:
        options: of `passes.feed`: a cache, gradients.
    """
    length = max(map(len, rows))
    ids = torch.stack([torch.cat([row, row.new_zeros(length - len(row))]) for row in rows])
    with lab.scopes.call():
        return passes.feed(lab, ids, columns=list(columns), **options)
