"""What the ledger counts beside what the provider billed, call by call, and where the two part.

A log's usage is counted in the provider's own vocabulary and with its own system text, so the two are allowed to differ
by a factor and, for each thread, by a constant:

    billed ≈ factor · prompt + offset      factor: median of what a prompt grew by there over what it grew by here
                                           offset: median of billed - factor · prompt, of a thread

A call where this stops being so is a jump, and named:

    more sent      from here on more is billed than the log shows
    less sent      from here on less is
    cache missed   less than half came from the cache of what the prompt shares with an earlier one
    more cached    more came from the cache than the log shows to be shared

Usage is as the readers give it (`thinking.Usage`): the input holds the cached tokens. Sources: OpenAI API reference,
`usage.prompt_tokens_details`; Anthropic API reference, prompt caching.
"""

from collections.abc import Sequence

import numpy as np
import xarray

from labkit.calling import public
from labkit.errors import InputError
from labkit.notation import Quantity, label
from labkit.reuse.call import calls
from labkit.reuse.ledger import COLUMNS, Ledger, small_tokenizer
from labkit.tables import columns
from labkit.thinking import Session
from labkit.thinking.given import check_tokenizer

JUMPS = ("more sent", "less sent", "cache missed", "more cached")
FREE, SHARE = 64, 0.05  # tokens, and share of what was billed, that a call may be off without a jump
LEAST = 1024  # tokens below which providers keep nothing
FIRST = 20  # jumps that are shown
BILLED = {
    name: Quantity(symbol, meaning, units, "positive", "usage of the log")
    for name, symbol, units, meaning in (
        ("billed", "billed", "tokens", "tokens of the prompt that were billed"),
        ("billed_cached", "billed, cached", "tokens", "of these, from the provider's cache"),
        ("billed_output", "billed, output", "tokens", "generated tokens that were billed"),
        ("ratio", "billed/counted", "1", "billed tokens of the prompt over those that are counted here"),
        ("expected", "expected", "tokens", "factor times the counted prompt, and what is not in the log"),
    )
}


@public
def billed(
    session: Session,
    tokenizer=None,
    *,
    policy: str = "strip",
    variant: str = "3.6",
    enable_thinking: bool | None = None,
) -> xarray.Dataset:
    """Counted and billed tokens of every call.

    Args:
        session: of `thinking.read_session`. tokenizer: None is that of nano. policy, variant, enable_thinking: as for
            `replay`.

    Returns:
        Dataset over call: `prompt`, `shared` and `generated` as counted, `BILLED` (NaN where the log says nothing),
        `jump` (text, "" for none) and `thread` as coordinates; the factor as an attribute.

    Raises:
        InputError: no call of the session has usage.
    """
    if tokenizer is not None:
        check_tokenizer(tokenizer, "reuse.billed")
    if not isinstance(session, Session):
        expected = "thinking.read_session(path)"
        raise InputError("billed tokens come with a recorded session", got=type(session).__name__, expected=expected)
    usages = [call.usage for call in session.calls]
    if not any(usage and usage.input is not None for usage in usages):
        raise InputError("this log does not say what was billed", got=f"{len(usages)} calls without usage")
    ledger = Ledger(snapshots="none", attention_only=True)
    tokenizer = small_tokenizer() if tokenizer is None else tokenizer
    for call in calls(session, tokenizer, policy=policy, variant=variant, enable_thinking=enable_thinking):
        ledger.add(call)
    ds = ledger.dataset()
    given = {name: _numbers(usages, name) for name in ("input", "cached", "output")}
    prompt, threads = ds.prompt.values.astype(float), np.array([call.thread for call in session.calls])
    factor, offset = _fitted(prompt, given["input"], threads)
    expected = factor * prompt + np.nan_to_num(offset)
    jumps = _jumps(session, ds.shared.values, given, expected, factor, offset, threads)
    numbers = {"billed": given["input"], "billed_cached": given["cached"], "billed_output": given["output"]}
    numbers |= {"ratio": given["input"] / prompt, "expected": expected}
    values = {name: (("call",), ds[name].values, COLUMNS[name]) for name in ("prompt", "shared", "generated")}
    values |= {name: (("call",), numbers[name], quantity) for name, quantity in BILLED.items()}
    coords = {"call": ds.call.values, "jump": ("call", jumps), "thread": ("call", threads.tolist())}
    facts = {"reading": "reuse.billed", "policy": policy, "factor": factor, "offset": float(np.median(offset))}
    return label(values, coords=coords, attrs=facts)


def curves(ds: xarray.Dataset) -> xarray.Dataset:
    """Both counts for one figure: `tokens` (term, call), counted ones in the provider's tokens.

    Args:
        ds: of `billed`.
    """
    shared = ds.attrs["factor"] * ds.shared + (ds.expected - ds.attrs["factor"] * ds.prompt) * (ds.shared > 0)
    terms = {"prompt, counted": ds.expected, "prompt, billed": ds.billed}
    terms |= {"shared, counted": shared, "from a cache, billed": ds.billed_cached}
    values = np.stack([np.asarray(one, float) for one in terms.values()]).clip(min=0)  # an offset may be negative
    coords = {"term": list(terms), "call": ds.call.values}
    return label({"tokens": (("term", "call"), values, "tokens")}, coords=coords, attrs=dict(ds.attrs))


def billed_text(ds: xarray.Dataset) -> str:
    """The dataset of `billed` for the terminal: totals, how the two counts belong together, and every jump."""
    known = np.isfinite(ds.billed.values)
    total, cached = float(ds.billed.sum()), float(ds.billed_cached.sum())
    lines = [f"billed: {total:,.0f} tokens of prompts in {int(known.sum())} calls, "]
    if np.isfinite(ds.billed_cached.values).any():
        lines[0] += f"{cached:,.0f} of them from a cache" + (f" ({cached / total:.0%})" if total else "")
    else:
        lines[0] += "nothing said of a cache"
    counted, shared = (float(ds[name].values[known].sum()) for name in ("prompt", "shared"))
    lines.append(f"counted here, of these: {counted:,.0f}, shared {shared:,.0f}")
    offset = ds.attrs["offset"]
    lines.append(f"one token here is {ds.attrs['factor']:.3f} there; ")
    if np.isfinite(offset):
        told = f"{round(offset):+,} tokens of every prompt are not" if round(offset) else "all of every prompt is"
        lines[-1] += told + " in the log"
    else:
        lines[-1] += "too few prompts grow to tell what is not in the log"
    places = np.flatnonzero(ds.jump.values != "")
    if not len(places):
        return "\n".join([*lines, "no call leaves that line"])
    head = ("call", "thread", "counted", "expected", "billed", "cached", "jump")
    rows = []
    for j in places[:FIRST]:
        row = ds.isel(call=j)
        numbers = [float(row[name]) for name in ("prompt", "expected", "billed", "billed_cached")]
        numbers = [f"{number:,.0f}" if np.isfinite(number) else "-" for number in numbers]
        rows.append([str(int(row.call)), str(row.thread.item())[:20], *numbers, str(row.jump.item())])
    more = [f"and {len(places) - FIRST} more"] if len(places) > FIRST else []
    return "\n".join([*lines, "", columns(head, rows, left=2), *more])


def _numbers(usages: Sequence, name: str) -> np.ndarray:
    """One of the numbers of each usage; NaN where there is none."""
    found = [getattr(usage, name) if usage else None for usage in usages]
    return np.array([np.nan if number is None else number for number in found], float)


def _pairs(threads, given):
    """(call, call before it in its thread) of those that say what was billed."""
    last = {}
    for j, thread in enumerate(threads):
        if np.isfinite(given[j]):
            if thread in last:
                yield j, last[thread]
            last[thread] = j


def _fitted(prompt, given, threads):
    """The factor, and the offset of every call's thread; NaN if too few prompts grow to tell the two apart."""
    grown = [(given[j] - given[i], prompt[j] - prompt[i]) for j, i in _pairs(threads, given)]
    slopes = [there / here for there, here in grown if here > 0 and there > 0]
    known = np.isfinite(given)
    if len(slopes) < 2:
        return float(np.median(given[known] / prompt[known])), np.full(len(prompt), np.nan)
    factor, offset = float(np.median(slopes)), np.zeros(len(prompt))
    for thread in set(threads.tolist()):
        own = threads == thread
        if (own & known).any():
            offset[own] = np.median((given - factor * prompt)[own & known])
    return factor, offset


def _jumps(session, shared, given, expected, factor, offset, threads):
    """The name of every call's jump, and how long the cache had lain idle where that is known."""
    names, off = [""] * len(expected), given["input"] - expected
    if not np.isfinite(offset).any():  # nothing to depart from
        return names
    for j, before in _pairs(threads, given["input"]):
        step, free = off[j] - off[before], max(FREE, SHARE * given["input"][j])
        if abs(step) > free:
            names[j] = f"{JUMPS[0] if step > 0 else JUMPS[1]} ({step:+,.0f})"
        could = min(max(0.0, factor * shared[j] + offset[j]), given["input"][j]) if shared[j] else 0
        if names[j] or not np.isfinite(given["cached"][j]):
            continue
        if could > LEAST and given["cached"][j] < could / 2:
            times = [session.calls[i].time for i in (before, j)]
            idle = f" after {(times[1] - times[0]) / 60:.0f} min" if None not in times else ""
            names[j] = f"{JUMPS[2]}{idle} ({could - given['cached'][j]:,.0f})"
        elif given["cached"][j] > could + max(free, SHARE * could):
            names[j] = f"{JUMPS[3]} ({given['cached'][j] - could:+,.0f})"
    return names
