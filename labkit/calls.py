"""What `Lab.trace`, `generate` and `step` do once their arguments are understood: plan, run, record, make runs of it.

They take the `scopes.Call` inside which they run.
"""

import dataclasses
from collections.abc import Sequence

import torch

from labkit import cache as _cache
from labkit import passes, plan, prompts, steps
from labkit.errors import BackendError
from labkit.pictures import Seen
from labkit.rotary import check_rotated
from labkit.scopes import Call
from labkit.trace import Recorder, Run, Seams, parameters_of, stateful, texts, wanted_seams


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
    seen: Seen | None = None,
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
    if seen is not None:
        seen.admit(lab)
    start = [_cache.start_of(cache, wanted, row) for row in range(len(rows))]
    if chosen := position_ids is not None:
        check_rotated(lab.spec.rotary_dim)
    ids, mask, position_ids = prompts.placed(rows[0], position_ids, before) if chosen else prompts.padded(rows)
    columns = sorted({length - len(row) + int(t) for row, at in zip(rows, asked, strict=True) for t in at})
    passing = dict(mask=mask, position_ids=position_ids, chunk=chunk, cache=cache, columns=columns, grad=grad)
    at = None if chosen else passes.places(cache, length, seen)
    with Recorder(call, lab.model, lab.spec, wanted, device=device, grad=grad) as recorder:
        given = passes.feed(lab, ids, seen=seen, **passing)
        pads = [length - len(row) for row in rows]
        seams, rotary = recorder.joined(length, pads)
        graph = recorder.crossed if grad else None
    shared = _shared(lab, wanted)
    shared |= dict(position_ids=position_ids[0] if chosen else None, graph=graph) | _placed(at, seen)
    place = {column: i for i, column in enumerate(columns)}
    runs = []
    for i, (row, pad) in enumerate(zip(rows, pads, strict=True)):
        own = dict(logits=given[i, [place[pad + int(t)] for t in asked[i]]], logit_tokens=asked[i])
        own |= dict(seams=seams[i], start=start[i], prompt_length=len(row))
        runs.append(_run(lab, row, rotary, i, pad, own | shared))
    return runs


def generate(
    call: Call,
    lab,
    rows: list[torch.Tensor],
    layers: int | Sequence[int] | None,
    seams: Sequence[str] | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    states: int | Sequence[int] | None,
    capture: bool | None,
    options: dict,
    seen: Seen | None = None,
    begun: _cache.Snapshot | None = None,
) -> list[Run]:
    """A `Run` over each prompt's ids [T] and its continuation; see `Lab.generate`."""
    wanted, states = wanted_seams(lab.spec, layers, seams), stateful(lab.spec, states, "lab.generate")
    length, padded = max(map(len, rows)), len(set(map(len, rows))) > 1
    facts = dict(prompts=len(rows), padded=padded, states=len(states))
    plan.admit_generate(lab, tokens=length, new=max_new_tokens, wanted=wanted, **facts)
    if seen is not None:
        seen.admit(lab)
        capture = _uncaptured(capture)
    pads = [length - len(row) for row in rows]
    cache = lab.cache() if begun is None else lab.restore(begun.stacked(len(rows)))
    cache.reserve(length + max_new_tokens)
    start = [_cache.start_of(cache, wanted, row) for row in range(len(rows))]
    asked = steps.Asked(wanted, states, tuple(pads), max_new_tokens, seen)
    with steps.reader(call, lab, cache, asked, capture) as reader:
        whole, last = steps.generate(lab, reader, rows, max_new_tokens, temperature, seed, options)
        (crossed, rotary), held = reader.joined(), reader.states()
    shared, runs = _shared(lab, wanted), []
    for i, (row, ids, pad) in enumerate(zip(rows, whole, pads, strict=True)):
        own = dict(logits=last[i : i + 1], logit_tokens=torch.tensor([len(ids) - 1]), prompt_length=len(row))
        own |= dict(start=start[i], seams=Seams({key: value[: len(ids)] for key, value in crossed[i].items()}))
        own |= dict(states={layer: part[i, : len(ids) - len(row)] for layer, part in held.items()})
        own |= {} if seen is None else dict(pictures=seen.pictures.grown(len(ids)))
        runs.append(_run(lab, ids, rotary, i, pad, own | shared))
    return runs


def step(
    call: Call,
    lab,
    cache,
    tokens: torch.Tensor,
    layers: int | Sequence[int] | None,
    seams: Sequence[str] | None,
    states: int | Sequence[int] | None,
    capture: bool | None,
) -> list[Run]:
    """A `Run` of one token for every row of a cache, [batch]; see `Lab.step`."""
    wanted, states = wanted_seams(lab.spec, layers, seams), stateful(lab.spec, states, "lab.step")
    asked, before = steps.Asked(wanted, states, (0,) * len(tokens)), cache.get_seq_length()
    plan.admit_trace(lab, tokens=1, wanted=wanted, logits=1, device=None, prompts=len(tokens), cached=before)
    start = [_cache.start_of(cache, wanted, row) for row in range(len(tokens))]
    at = passes.places(cache, 1)
    logits, seen, rotary, held = steps.step(call, lab, cache, tokens, asked, capture)
    shared, runs = _shared(lab, wanted) | _placed(at), []
    for i, token in enumerate(tokens[:, None]):
        own = dict(logits=logits[i : i + 1], logit_tokens=torch.tensor([0]), prompt_length=1, start=start[i])
        own |= dict(seams=seen[i], states={layer: part[i] for layer, part in held.items()})
        runs.append(_run(lab, token, rotary, i, 0, own | shared))
    return runs


def _run(lab, ids, rotary, row, pad, facts):
    """The run of a row of a batch: its tokens begin after so many columns of padding."""
    turned = tuple(part[row if len(part) > 1 else 0, pad : pad + len(ids)] for part in rotary)
    return Run(ids=ids, tokens=texts(lab.tokenizer, ids), rotary=turned, tokenizer=lab.tokenizer, **facts)


def _placed(at, seen=None):
    """What a run knows of positions [3, 1, token] that pictures made; none are known of a text that counts on."""
    if at is None:
        return {}
    if seen is None:
        return dict(position_ids=at[0, 0])
    return dict(pictures=dataclasses.replace(seen.pictures, position_ids=at[:, 0]))


def _uncaptured(capture):
    if capture:
        hint = "capture=None takes ordinary passes where there is no other way"
        raise BackendError("this decode step cannot be recorded", got="a prompt with pictures", hint=hint)
    return False


def _shared(lab, wanted):
    """What all runs of one call have in common."""
    facts = dict(spec=lab.spec, model=lab.name, scaling=lab.scaling, identity=lab.seen)
    return facts | dict(parameters=parameters_of(lab.scopes.watched, lab.spec, wanted))
