"""The same session in the real model: its hybrid cache, real snapshots, tokens counted and timed, logits compared.

`play` goes through the calls as the ledger does, but with the model: it resumes from the deepest snapshot that the
prompt still agrees with, reads the rest, and reads the recorded answer as if it had generated it. What is resumed must
give the logits of the cold run. `cropped` does what some engines did: it cuts keys and values back and leaves the
states, which then remember tokens that are no longer there. The cache stays usable and is silently wrong.
"""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import torch
import xarray

from labkit import plan
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import label
from labkit.progress import counter
from labkit.reuse.call import Call, calls
from labkit.reuse.ledger import COLUMNS
from labkit.reuse.schemes import alone, depths, schemes
from labkit.spec.memory import kv_bytes_per_token
from labkit.thinking import Session, common_prefix
from labkit.thinking.given import check_tokenizer

MEASURED = {"seconds": "seconds", "cold_seconds": "seconds", "gap": "logit_gap", "same": None}  # their quantities


@public
def play(
    lab: Lab,
    messages: Sequence,
    *,
    policy: str = "strip",
    snapshots: str = "end+before_think",
    variant: str = "3.6",
    tools: list | None = None,
    check: bool = True,
    progress: bool = False,
) -> xarray.Dataset:
    """Play a session through the model.

    Args:
        lab: `Lab` with a tokenizer of the family. messages: as for `replay`, or a list of `Call`.
        policy, snapshots, variant, tools: as for `replay`; every sequence is kept, none is dropped.
        check: also read every prompt cold and compare.
        progress: show a bar.

    Returns:
        Dataset over call: `prompt`, `state` (tokens resumed), `recomputed`, `seconds` of reading the prompt; with
        `check` also `cold_seconds`, `gap`, the largest difference of the logits after the prompt, and `same`, whether
        the most likely next token is the same.

    Raises:
        InputError: a session that does not fit the window, and as `replay`. BudgetError: too many keys and values.
    """
    marks = schemes(snapshots)
    if not isinstance(messages, Session) and messages and isinstance(messages[0], Call):
        session = list(messages)
    else:
        hint = "labkit.load(name, tokenizer=...), or a list of reuse.Call"
        check_tokenizer(lab.tokenizer, "reuse.play", hint)
        session = list(calls(messages, lab.tokenizer, policy=policy, variant=variant, tools=tools))
    if any((call.prompt < 0).any() for call in session):
        hint = "reuse.replay counts it"
        raise InputError("a session with pictures is not played", got="pictures among the messages", hint=hint)
    longest = max(len(call.prompt) + len(call.generated) for call in session)
    if longest > lab.window:
        raise InputError(
            "the session does not fit the window", got=f"{longest} tokens", expected=f"at most {lab.window}"
        )
    each = [len(call.prompt) + len(call.generated) for call in session]
    kept = {"a snapshot of every call": sum(each) * kv_bytes_per_token(lab.spec, lab.dtype)}
    plan.admit("reuse.play", longest, kept, lab.device)
    saved, rows, live, fed = [], [], None, []
    for call in counter(session, show=progress, unit="call"):
        fits = lambda ids: len(ids) < len(call.prompt) and common_prefix(ids, call.prompt) == len(ids)  # noqa: B023
        usable = [(len(ids), snap) for ids, snap in saved if fits(ids)]
        begin, snap = max(usable, default=(0, None), key=lambda pair: pair[0])
        shared = max((common_prefix(ids, call.prompt) for ids in fed), default=0)
        saved = [pair for pair in saved if pair is not live]
        cached = np.concatenate([call.prompt, call.generated[:-1]])
        stops = depths(marks, call, len(cached), begin, shared)
        cache, started = lab.cache() if snap is None else lab.restore(snap), time.perf_counter()
        logits = _read(lab, cached, begin, len(call.prompt), cache, stops, saved)
        row = {"prompt": len(call.prompt), "state": begin, "recomputed": len(call.prompt) - begin}
        row["seconds"] = time.perf_counter() - started
        if len(cached) > len(call.prompt):
            _read(lab, cached, len(call.prompt), len(cached), cache, stops, saved)
        fed.append(cached)
        live = saved[-1] if alone(marks, call, len(cached), begin, shared) else None
        if check:
            started = time.perf_counter()
            cold = lab.logits(torch.from_numpy(call.prompt.astype(np.int64))[None])[0]
            row |= {"cold_seconds": time.perf_counter() - started, "gap": float((cold - logits).abs().max())}
            row["same"] = bool(cold.argmax() == logits.argmax())
        rows.append(row)
    values = {name: (("call",), np.array([row[name] for row in rows]), (COLUMNS | MEASURED)[name]) for name in rows[0]}
    coords = {"call": range(len(rows)), "turn": ("call", [call.turn for call in session])}
    facts = {"model": lab.name, "reading": "reuse.play", "policy": policy, "snapshots": snapshots}
    return label(values, coords=coords, attrs=facts)


def cropped(lab: Lab, cached: Sequence[int], prompt: Sequence[int]) -> dict:
    """What happens if keys and values are cut back to what a prompt shares with the cache, and the states are not.

    Args:
        cached: token ids in the cache. prompt: token ids of the next prompt.

    Returns:
        dict: `shared` tokens; `gap`, the largest difference of the logits after the prompt from those of a cold run;
        `kl` KL(cold ‖ wrong) in nats; `same`, whether the most likely next token is the same.

    Raises:
        InputError: nothing to crop, or nothing shared.
    """
    cached, prompt = (np.asarray(ids, np.int64) for ids in (cached, prompt))
    shared = min(common_prefix(cached, prompt), len(prompt) - 1)
    if not 0 < shared < len(cached):
        raise InputError("nothing to crop", got=f"{shared} of {len(cached)} tokens shared", expected="a part of them")
    cache = lab.cache()
    lab.logits(torch.from_numpy(cached)[None], cache=cache)
    snap = lab.snapshot(cache)
    cut = {name: {i: part[:, :, :shared] for i, part in getattr(snap, name).items()} for name in ("keys", "values")}
    wrong = lab.restore(dataclasses.replace(snap, length=shared, ids=None, **cut))
    logits = lab.logits(torch.from_numpy(prompt[shared:])[None], cache=wrong)[0]
    cold = lab.logits(torch.from_numpy(prompt)[None])[0]
    p, q = cold.log_softmax(-1), logits.log_softmax(-1)
    facts = {"shared": shared, "gap": float((cold - logits).abs().max()), "kl": float((p.exp() * (p - q)).sum())}
    return facts | {"same": bool(cold.argmax() == logits.argmax())}


def _read(lab, ids, begin, end, cache, stops, saved):
    """Feed tokens `begin` to `end`, saving a snapshot at every stop on the way; the last logits."""
    logits = None
    for stop in [*(stop for stop in stops if begin < stop < end), end]:
        if stop > begin:
            part = torch.from_numpy(ids[begin:stop].astype(np.int64))
            logits = lab.logits(part[None], cache=cache)[0]
            begin = stop
        if stop in stops:
            saved.append((ids[:stop], lab.snapshot(cache)))
    return logits
