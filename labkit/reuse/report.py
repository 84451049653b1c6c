"""A session under several policies and snapshot schemes side by side, and why consecutive prompts part."""

import collections
import itertools

import numpy as np

from labkit.notation import label
from labkit.progress import counter
from labkit.reuse.calls import calls
from labkit.reuse.ledger import Ledger
from labkit.tables import columns
from labkit.thinking import CAUSES, divergence

SHOWN = ("live", "end", "prompt_end", "before_think", "end+before_think", "branch", "every 784")
TOTALS = ("prompt", "generated", "recomputed", "penalty", "prefill_seconds", "decode_seconds")
TERMS = ("from the cache", "read again", "new", "generated")
PEAKS = ("kv_bytes", "dead_bytes", "snapshot_bytes", "window")


def compare(
    messages,
    tokenizer,
    *,
    policies=("strip", "preserve"),
    schemes=SHOWN,
    variant="3.6",
    tools=None,
    enable_thinking=None,
    progress=False,
    **options,
):
    """Totals and peaks of a session for every policy and scheme; the first row is a model with attention alone.

    The calls of a policy are rendered once, and all books are kept in the same pass.

    Args:
        messages: OpenAI messages. tokenizer, variant, tools, enable_thinking, progress: as for `replay`; its other
            arguments are `options`.
        policies, schemes: what is compared, each once.

    Returns:
        Dataset over (policy, scheme), as dims `step` and `term`: sums over the calls of `TOTALS`, peaks of `PEAKS`;
        and `parted` (step, mode), how many calls do not continue the one before, by `thinking.CAUSES`.
    """
    policies, schemes = list(dict.fromkeys(policies)), list(dict.fromkeys(schemes))
    rows, parted, count = [], [], sum(message.get("role") == "assistant" for message in messages)
    for policy in policies:
        books = [Ledger(snapshots="none", attention_only=True, **options)]
        books += [Ledger(snapshots=scheme, **options) for scheme in schemes]
        found, cached = collections.Counter(), None
        more = dict(variant=variant, tools=tools, enable_thinking=enable_thinking)
        made = calls(messages, tokenizer, policy=policy, **more)
        for call in counter(made, show=progress, unit="call", title=policy, total=count):
            for book in books:
                book.add(call)
            if cached is not None:
                found[divergence(cached, call.prompt, tokenizer).cause] += 1
            cached = books[0].last
        rows.append([book.dataset(policy=policy) for book in books])
        parted.append([found[cause] for cause in CAUSES])
    values = {name: [[float(ds[name].sum()) for ds in row] for row in rows] for name in TOTALS}
    values |= {name: [[float(ds[name].max()) for ds in row] for row in rows] for name in PEAKS}
    coords = {"step": list(policies), "term": ["attention-only", *schemes], "mode": list(CAUSES)}
    facts = {key: rows[0][0].attrs[key] for key in ("model", "gpu")} | {"calls": rows[0][0].sizes["call"]}
    arrays = {name: (("step", "term"), np.array(value)) for name, value in values.items()}
    arrays["parted"] = ("step", "mode"), np.array(parted)
    data = label(arrays, coords=coords, attrs=facts | {"reading": "reuse.compare"})
    for name, said in {"term": "where states are saved", "mode": "why", "step": "policy"}.items():
        data[name].attrs["long_name"] = said
    for name in ("prompt", "generated", "recomputed", "penalty"):
        data[name].attrs |= {"units": "tokens", "scale": "positive"}
    return data


def timeline(ds):
    """What each prompt of a ledger is made of, for stacked bars.

    Args:
        ds: of `replay`.

    Returns:
        Dataset: tokens (term, call), the terms of `TERMS`: taken from the cache; read again although keys and values
        alone would have served; new, no cache has them; generated. The first three sum to the prompt.
    """
    parts = np.stack([ds.state, ds.penalty, ds.prompt - ds.attention, ds.generated])
    coords = {"term": list(TERMS), "call": ds.call.values, "turn": ("call", ds.turn.values)}
    held = label({"tokens": (("term", "call"), parts)}, coords=coords, attrs=dict(ds.attrs))
    held.tokens.attrs = {"symbol": "tokens", "units": "", "scale": "positive"}
    return held


def costs(data):
    """Seconds of prefill and decode of a comparison: `{policy: Dataset seconds (mode, term)}`, for stacked bars."""
    kinds, found = ("prefill", "decode"), {}
    for policy in data.step.values:
        one = data.sel(step=policy)
        seconds = np.stack([one[f"{kind}_seconds"] for kind in kinds])
        ds = label(
            {"seconds": (("mode", "term"), seconds)},
            coords={"mode": list(kinds), "term": data.term.values},
            attrs=data.attrs,
        )
        ds.seconds.attrs = {"symbol": "time", "units": "s", "scale": "positive"}
        ds["term"].attrs = dict(data.term.attrs)
        found[str(policy)] = ds
    return found


def parted(data):
    """How many calls of a comparison part for which reason: `parted` (step, mode), reasons that occur."""
    held = data[["parted"]].isel(mode=np.flatnonzero(data.parted.sum("step").values))
    held.parted.attrs = {"symbol": "calls", "units": "", "scale": "positive"}
    return held


def causes(messages, tokenizer, *, policy="strip", variant="3.6", tools=None, enable_thinking=None):
    """Why the prompt of each call does not continue what was cached before it.

    Returns:
        List of `thinking.Divergence`, one for each call but the first.
    """
    found, cached = [], None
    more = dict(variant=variant, tools=tools, enable_thinking=enable_thinking)
    for call in calls(messages, tokenizer, policy=policy, **more):
        if cached is not None:
            found.append(divergence(cached, call.prompt, tokenizer))
        cached = np.concatenate([call.prompt, call.generated[:-1]])
    return found


def as_text(data):
    """A comparison, the dataset of `compare`, as a table for the terminal."""
    head, rows = ("policy", "snapshots", "prompts", "computed", "prefill s", "decode s", "peak GiB"), []
    for policy, scheme in itertools.product(data.step.values, data.term.values):
        row = data.sel(step=policy, term=scheme)
        numbers = [f"{int(row[name]):,}" for name in ("prompt", "recomputed")]
        numbers += [f"{float(row[name]):.1f}" for name in ("prefill_seconds", "decode_seconds")]
        rows.append([policy, scheme, *numbers, f"{float(row.kv_bytes + row.snapshot_bytes) / 2**30:.2f}"])
    facts = f"{data.attrs['calls']} calls, costs of {data.attrs['model']} on {data.attrs['gpu']} (lower bounds)"
    lines = [facts, "", columns(head, rows, left=2)]
    for policy in data.step.values:
        counts = [(int(data.parted.sel(step=policy, mode=cause)), str(cause)) for cause in data.mode.values]
        said = ", ".join(f"{count} {cause}" for count, cause in sorted(counts, key=lambda one: -one[0]) if count)
        lines.append(f"\n{policy}: between one call and the next, {said or 'nothing'}")
    return "\n".join(lines)
