"""What `Lab.trace` and `Lab.generate` do once their arguments are understood: plan, run, record, and make runs of it.

Both take the `scopes.Call` inside which they run.
"""

from collections.abc import Sequence

import torch

from labkit import cache as _cache
from labkit import passes, plan, prompts
from labkit.scopes import Call
from labkit.trace import Recorder, Run, parameters_of, texts, wanted_seams


def trace(
    call: Call,
    lab,
    rows: list[torch.Tensor],
    layers: int | Sequence[int] | None,
    seams: Sequence[str] | None,
    logits: str | Sequence[int],
    chunk: int | None,
    cache,
    device: torch.device | str | None,
    position_ids: Sequence[int] | torch.Tensor | None,
    grad: bool,
) -> list[Run]:
    """A `Run` of each row of ids [T]; arguments, results and errors are those of `Lab.trace`."""
    wanted = wanted_seams(lab.spec, layers, seams)
    length, before = max(len(row) for row in rows), 0 if cache is None else cache.get_seq_length()
    asked = prompts.kept_positions(rows, logits)
    prompts.check_passes(lab, rows, chunk, before)
    lab.check_room(length + before)
    facts = dict(prompts=len(rows), padded=len(set(map(len, rows))) > 1, cached=None if cache is None else before)
    options = dict(logits=max(map(len, asked)), device=device, chunk=chunk, grad=grad) | facts
    plan.admit_trace(lab, tokens=length, wanted=wanted, **options)
    start = [_cache.start_of(cache, wanted, row) for row in range(len(rows))]
    chosen = position_ids is not None
    ids, mask, position_ids = prompts.placed(rows[0], position_ids, before) if chosen else prompts.padded(rows)
    columns = sorted({length - len(row) + int(t) for row, at in zip(rows, asked, strict=True) for t in at})
    passing = dict(mask=mask, position_ids=position_ids, chunk=chunk, cache=cache, columns=columns, grad=grad)
    with Recorder(call, lab.model, lab.spec, wanted, device=device, grad=grad) as recorder:
        given = passes.feed(lab, ids, **passing)
        pads = [length - len(row) for row in rows]
        seams, rotary = recorder.joined(length, pads)
        graph = recorder.crossed if grad else None
    shared = _shared(lab, wanted)
    shared |= dict(position_ids=position_ids[0] if chosen else None, graph=graph)
    place = {column: i for i, column in enumerate(columns)}
    runs = []
    for i, (row, pad) in enumerate(zip(rows, pads, strict=True)):
        own = dict(logits=given[i, [place[pad + int(t)] for t in asked[i]]], logit_tokens=asked[i])
        own |= dict(seams=seams[i], start=start[i])
        own |= dict(rotary=tuple(part[i if len(part) > 1 else 0, pad:] for part in rotary))
        runs.append(Run(ids=row, tokens=texts(lab.tokenizer, row), prompt_length=len(row), **own, **shared))
    return runs


def generate(
    call: Call,
    lab,
    ids: torch.Tensor,
    layers: int | Sequence[int] | None,
    seams: Sequence[str] | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    options: dict,
) -> Run:
    """A `Run` over a prompt's ids [T] and its continuation; see `Lab.generate`."""
    wanted = wanted_seams(lab.spec, layers, seams)
    plan.admit_generate(lab, tokens=len(ids), new=max_new_tokens, wanted=wanted)
    with Recorder(call, lab.model, lab.spec, wanted) as recorder:
        whole, last = passes.generate(lab, ids, max_new_tokens, temperature, seed, options)
        (seams,), rotary = recorder.joined(len(whole))
    return Run(
        ids=whole,
        tokens=texts(lab.tokenizer, whole),
        prompt_length=len(ids),
        logits=last,
        logit_tokens=torch.tensor([len(whole) - 1]),
        seams=seams,
        rotary=tuple(part[0] for part in rotary),
        start=_cache.start_of(None, wanted),
        **_shared(lab, wanted),
    )


def _shared(lab, wanted):
    """What all runs of one call have in common."""
    facts = dict(spec=lab.spec, model=lab.name, scaling=lab.scaling, identity=lab.seen)
    return facts | dict(parameters=parameters_of(lab.scopes.watched, lab.spec, wanted))
