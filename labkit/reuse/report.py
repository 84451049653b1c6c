"""A session under several policies and snapshot schemes side by side, and why consecutive prompts part."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np
import xarray

from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import label
from labkit.progress import counter
from labkit.reuse.call import POLICIES, Encoder, calls, count_of, names
from labkit.reuse.ledger import COLUMNS, Ledger, add, shared_by
from labkit.tables import columns
from labkit.thinking import CAUSES, Divergence, Session, divergence
from labkit.thinking.given import check_tokenizer

SHOWN = ("live", "end", "prompt_end", "before_think", "end+before_think", "branch", "every 784")
TOTALS = ("prompt", "generated", "recomputed", "penalty", "prefill_seconds", "decode_seconds")
TERMS = ("from the cache", "read again", "new", "generated")
PHASES = ("prefill", "decode")
PEAKS = ("kv_bytes", "dead_bytes", "snapshot_bytes", "window_share")


@public
def compare(
    messages: Sequence[dict] | Session,
    tokenizer,
    *,
    policies: Sequence[str] = ("strip", "preserve"),
    schemes: Sequence[str] = SHOWN,
    variant: str = "3.6",
    tools: list | None = None,
    enable_thinking: bool | None = None,
    progress: bool = False,
    **options,
) -> xarray.Dataset:
    """Totals and peaks of a session for every policy and scheme; the first row is a model with attention alone.

    The calls of a policy are rendered once, and all ledgers share one tree of what was cached.

    Args:
        messages: a `thinking.Session`, or OpenAI messages. tokenizer, variant, tools, enable_thinking, progress: as for
            `replay`; its other arguments are `options`.
        policies, schemes: what is compared, each once.

    Returns:
        Dataset over (policy, scheme): sums over the calls of `TOTALS`, peaks of `PEAKS`; and `parted` (policy, cause),
        how many calls of those that are not the first of their thread part from what was cached, by `thinking.CAUSES`.

    Raises:
        InputError: no list of policies or of schemes, an unknown one; no tokenizer; what `replay` refuses.
    """
    check_tokenizer(tokenizer, "reuse.compare")
    policies, schemes = names(policies, "policies", "reuse.compare"), names(schemes, "schemes", "reuse.compare")
    if not policies:
        raise InputError("no policies to compare", got="none", expected=", ".join(POLICIES))
    tables, parted, encode = [], [], Encoder(tokenizer)
    for policy in policies:
        ledgers = [Ledger(snapshots="none", attention_only=True, **options)]
        ledgers = shared_by(*ledgers, *(Ledger(snapshots=scheme, **options) for scheme in schemes))
        more = dict(policy=policy, variant=variant, tools=tools, enable_thinking=enable_thinking)
        made = counter(
            calls(messages, encode, **more), show=progress, unit="call", title=policy, total=count_of(messages)
        )
        counts = collections.Counter(one.cause for one in _parting(made, ledgers, tokenizer) if one is not None)
        tables.append([ledger.dataset(policy=policy) for ledger in ledgers])
        parted.append([counts[cause] for cause in CAUSES])
    numbers = {name: [[float(ds[name].sum()) for ds in row] for row in tables] for name in TOTALS}
    numbers |= {name: [[float(ds[name].max()) for ds in row] for row in tables] for name in PEAKS}
    values = {name: (("policy", "scheme"), np.array(rows), COLUMNS[name]) for name, rows in numbers.items()}
    values["parted"] = ("policy", "cause"), np.array(parted), "calls"
    coords = {"policy": policies, "scheme": ["attention-only", *schemes], "cause": list(CAUSES)}
    facts = {key: tables[0][0].attrs[key] for key in ("model", "gpu")} | {"calls": tables[0][0].sizes["call"]}
    return label(values, coords=coords, attrs=facts | {"reading": "reuse.compare"})


def _parting(made, ledgers, tokenizer):
    """Show calls to ledgers of one tree; for each the `Divergence` from what was cached, None for a thread's first."""
    seen = set()
    for call in made:
        shared, rest = add(ledgers, call)
        if call.thread in seen:
            yield divergence(np.concatenate([call.prompt[:shared], rest]), call.prompt, tokenizer)
        else:
            yield None
        seen.add(call.thread)


def timeline(ds: xarray.Dataset) -> xarray.Dataset:
    """What each prompt of a ledger is made of, for stacked bars.

    Args:
        ds: of `replay`.

    Returns:
        Dataset: tokens (term, call), the terms of `TERMS`: taken from the cache; read again although keys and values
        alone would have served; new, no cache has them; generated. The first three sum to the prompt.
    """
    parts = np.stack([ds.state, ds.penalty, ds.prompt - ds.attention, ds.generated])
    coords = {"term": list(TERMS), "call": ds.call.values, "turn": ("call", ds.turn.values)}
    return label({"tokens": (("term", "call"), parts, "tokens")}, coords=coords, attrs=dict(ds.attrs))


def costs(data: xarray.Dataset) -> xarray.Dataset:
    """Seconds of prefill and decode of a comparison: `seconds` (phase, policy, scheme), for stacked bars."""
    seconds = np.stack([data[f"{phase}_seconds"] for phase in PHASES])
    coords = {"phase": list(PHASES), "policy": data.policy.values, "scheme": data.scheme.values}
    return label({"seconds": (tuple(coords), seconds, "seconds")}, coords=coords, attrs=data.attrs)


def parted(data: xarray.Dataset) -> xarray.Dataset:
    """How many calls of a comparison part for which reason: `parted` (policy, cause), causes that occur."""
    return data[["parted"]].isel(cause=np.flatnonzero(data.parted.sum("policy").values))


@public
def divergences(
    messages: Sequence[dict] | Session,
    tokenizer,
    *,
    policy: str = "strip",
    variant: str = "3.6",
    tools: list | None = None,
    enable_thinking: bool | None = None,
) -> list[Divergence]:
    """Where and why prompts part from what was cached: from the sequence that shares most with them.

    One for each call that is not the first of its thread; of sequences that share as much, the one in use last counts.
    `messages`, `policy`, `variant`, `tools` and `enable_thinking` as for `replay`.
    """
    check_tokenizer(tokenizer, "reuse.divergences")
    more = dict(policy=policy, variant=variant, tools=tools, enable_thinking=enable_thinking)
    found = _parting(calls(messages, tokenizer, **more), (Ledger(snapshots="none"),), tokenizer)
    return [one for one in found if one is not None]


def as_text(data: xarray.Dataset) -> str:
    """A comparison, the dataset of `compare`, as a table for the terminal."""
    head, rows = ("policy", "snapshots", "prompts", "computed", "prefill s", "decode s", "peak GiB"), []
    for policy, scheme in itertools.product(data.policy.values, data.scheme.values):
        row = data.sel(policy=policy, scheme=scheme)
        numbers = [f"{int(row[name]):,}" for name in ("prompt", "recomputed")]
        numbers += [f"{float(row[name]):.1f}" for name in ("prefill_seconds", "decode_seconds")]
        rows.append([policy, scheme, *numbers, f"{float(row.kv_bytes + row.snapshot_bytes) / 2**30:.2f}"])
    facts = f"{data.attrs['calls']} calls, costs of {data.attrs['model']} on {data.attrs['gpu']} (lower bounds)"
    lines = [facts, "", columns(head, rows, left=2)]
    for policy, counts in zip(data.policy.values, data.parted, strict=True):
        shown = counts.isel(cause=np.argsort(-counts.values, kind="stable"))
        reasons = ", ".join(f"{int(count)} {count.cause.item()}" for count in shown if count)
        lines.append(f"\n{policy}: between one call and the next, {reasons or 'nothing'}")
    return "\n".join(lines)
