"""A session under several policies and snapshot schemes side by side, and why consecutive prompts part."""

import collections

import numpy as np

from labkit.notation import label
from labkit.reuse.calls import calls
from labkit.reuse.ledger import replay
from labkit.thinking import divergence

SHOWN = ("live", "end", "prompt_end", "before_think", "end+before_think", "branch", "every 784")
TOTALS = ("prompt", "recomputed", "penalty", "prefill_seconds", "decode_seconds")
PEAKS = ("kv_bytes", "snapshot_bytes", "window")


def compare(
    messages, tokenizer, *, policies=("strip", "preserve"), schemes=SHOWN, variant="3.6", tools=None, **options
):
    """Totals and peaks of a session for every policy and scheme; the first row is a model with attention alone.

    Args:
        messages, tokenizer, variant, tools: as for `replay`, with the other arguments of it as `options`.
        policies, schemes: what is compared.

    Returns:
        Dataset over (policy, scheme), as dims `step` and `term`: sums over the calls of `TOTALS`, peaks of `PEAKS`.
    """
    rows = []
    for policy in policies:
        made = list(calls(messages, tokenizer, policy=policy, variant=variant, tools=tools))
        found = [replay(made, snapshots="none", attention_only=True, **options)]
        found += [replay(made, snapshots=scheme, **options) for scheme in schemes]
        rows.append(found)
    values = {name: [[float(ds[name].sum()) for ds in row] for row in rows] for name in TOTALS}
    values |= {name: [[float(ds[name].max()) for ds in row] for row in rows] for name in PEAKS}
    coords = {"step": list(policies), "term": ["attention-only", *schemes]}
    facts = {key: rows[0][0].attrs[key] for key in ("model", "gpu")} | {"calls": rows[0][0].sizes["call"]}
    data = label(
        {name: (("step", "term"), np.array(value)) for name, value in values.items()}, coords=coords, attrs=facts
    )
    return data.assign_attrs(reading="reuse.compare")


def causes(messages, tokenizer, *, policy="strip", variant="3.6", tools=None):
    """Why the prompt of each call does not continue what was cached before it.

    Returns:
        List of `thinking.Divergence`, one for each call but the first.
    """
    found, cached = [], None
    for call in calls(messages, tokenizer, policy=policy, variant=variant, tools=tools):
        if cached is not None:
            found.append(divergence(cached, call.prompt, tokenizer))
        cached = np.concatenate([call.prompt, call.generated[:-1]])
    return found


def as_text(data, parted=None):
    """A comparison as a table for the terminal.

    Args:
        data: of `compare`. parted: `{policy: causes(...)}`, counted below the table.
    """
    head = f"{'policy':9} {'snapshots':18} {'read':>12} {'recomputed':>12} "
    head += f"{'prefill s':>10} {'decode s':>9} {'peak GiB':>9}"
    lines = [
        f"{data.attrs['calls']} calls, costs of {data.attrs['model']} on {data.attrs['gpu']} (lower bounds)",
        "",
        head,
    ]
    for policy in data.step.values:
        for scheme in data.term.values:
            row = data.sel(step=policy, term=scheme)
            size = float(row.kv_bytes + row.snapshot_bytes) / 2**30
            tokens = f"{int(row.prompt):12,} {int(row.recomputed):12,}"
            lines.append(
                f"{policy:9} {scheme:18} {tokens} {float(row.prefill_seconds):10.1f} "
                f"{float(row.decode_seconds):9.1f} {size:9.2f}"
            )
    for policy, found in (parted or {}).items():
        counts = collections.Counter(one.cause for one in found).most_common()
        said = ", ".join(f"{count} {cause}" for cause, count in counts)
        lines.append(f"\n{policy}: between one call and the next, {said}")
    return "\n".join(lines)
