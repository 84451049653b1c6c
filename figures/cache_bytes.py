"""From how many tokens on do keys and values take more memory than saved states?

Bytes of Qwen3.6-27B over the tokens that are cached: keys and values, and states by where they are saved, mean over
sessions of an agent drawn by seeds. Keys and values grow with each token; the one state that is kept to go on from does
not, and the upright line is where they pass it, a length that depends on the model alone. How many states a scheme
saves by a length depends on how long calls are, and so on the vocabulary that counts them, which is a small one here.

Look at which lines keys and values cross. A scheme that saves a state or two a call is crossed only where calls are
long: a control are sessions with calls some six times as long. The other is a state every 784 tokens in place of the
one that is kept, since no length is long enough for a grid as fine as that.

Source: sizes from the model's configuration, `labkit.spec`; accounting, `labkit.reuse.replay`.
"""

import numpy as np

import figures
from labkit import draw as plot
from labkit import reuse, spec, stats
from labkit.claims import Claim, Part
from labkit.notation import label

PLACE = ("thinking", 30)
MODEL = "Qwen3.6-27B"
SEEDS, STEP, END = range(5), 500, 20_000
CASES = {
    "sessions as drawn": {"turns": 6, "calls": 4},
    "sessions with longer calls": {"turns": 2, "calls": 3, "thinking": 2000, "answer": 2000, "result": 4000},
}
SCHEMES = {
    "one state, the last": "live",
    "a state before thinking": "before_think",
    "two states a call": "end+before_think",
    "a state every 784 tokens": "every 784",
}
KV, ONE, TWO, GRID = "keys and values", "one state, the last", "two states a call", "a state every 784 tokens"
LINES = [KV, *SCHEMES]


def data(lab):
    """size, low, high (case, memory, cached) in GiB; crossing (case, session, memory), the tokens from which on keys
    and values are more, NaN where they never are; per_call (case, session), tokens cached by a call; worth of a state.
    """
    model = spec.read(MODEL)
    worth, each = spec.memory.snapshot_tokens(model), spec.memory.snapshot_bytes(model)
    grid, sizes, crossings, added = np.arange(0, END + 1, STEP), [], [], []
    for options in CASES.values():
        rows = [_session(lab, seed, options, grid, worth) for seed in SEEDS]
        sizes.append([row[0] for row in rows])
        crossings.append([row[1] for row in rows])
        added.append([row[2] for row in rows])
    coords = {"case": list(CASES), "session": list(SEEDS), "memory": LINES, "cached": grid}
    facts = figures.made(
        MODEL,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(SEEDS)} sessions, seeds {SEEDS[0]} to {SEEDS[-1]}",
        interval=f"95 %, Student's t over {len(SEEDS)} sessions",
    )
    values = {
        "every": (tuple(coords), np.array(sizes) * each / 2**30, "gibibytes"),
        "crossing": (("case", "session", "memory"), np.array(crossings), "tokens"),
        "per_call": (("case", "session"), np.array(added), "tokens"),
        "worth": ((), np.asarray(worth), "tokens"),
    }
    ds = label(values, coords=coords, attrs={"reading": "reuse.replay"} | facts)
    ds["cached"].attrs["long_name"] = f"cached tokens, in the vocabulary of {lab.name}"
    low, high = stats.t_interval(ds.every, "session")
    return ds.assign(size=ds.every.mean("session", keep_attrs=True), low=low, high=high).drop_vars("every")


def _session(lab, seed, options, grid, worth):
    """Sizes in states (memory, cached), crossings (memory) and the mean tokens that a call adds, of one session."""
    calls = list(reuse.calls(reuse.drawn(seed, **options), lab.tokenizer))
    ledgers = [reuse.replay(calls, snapshots=scheme) for scheme in SCHEMES.values()]
    per_token = spec.memory.kv_bytes_per_token(spec.read(MODEL))
    cached = ledgers[0].kv_bytes.values / per_token
    saved = [ledger.snapshots.values for ledger in ledgers]
    steps = np.searchsorted(cached, grid, side="right")
    rows = [grid / worth, *(np.concatenate([[0], counts])[steps] for counts in saved)]
    return rows, [0.0, *(_crossing(cached, counts * worth) for counts in saved)], cached[-1] / len(calls)


def _crossing(cached, states):
    """The tokens from which on `cached` is above `states`, which changes at the end of a call; NaN if it never is."""
    behind = np.flatnonzero(np.append(cached[1:], cached[-1]) < states)  # calls at whose end it is not, as yet
    if not len(behind):
        return max(cached[0], states[0]) if cached[0] < states[0] else states[0]
    last = behind[-1] + 1
    return np.nan if last >= len(cached) else max(cached[last], states[last])


def claim(ds):
    """They pass the one state at its worth in tokens, and two states a call in no session."""
    one, end = ds.isel(case=0), ds.isel(case=0, cached=-1)
    crossing, worth = float(one.crossing.sel(memory=ONE).max(skipna=False)), float(ds.worth)
    kv, live, two = (float(end["size"].sel(memory=name)) for name in (KV, ONE, TWO))
    length, call = int(ds.cached[-1]), float(one.per_call.mean())
    ends = tuple(float(end[name].sel(memory=TWO)) for name in ("low", "high"))
    around = tuple(float(edge) for edge in stats.t_interval(one.per_call, "session"))
    passed = float(one.crossing.sel(memory=TWO).notnull().sum())
    return Claim(
        f"Keys and values pass one state at {crossing:,.0f} tokens; two states a call of {call:,.0f} are "
        f"{two / kv:.1f} times as much at {length:,}",
        [
            Part("tokens from which on keys and values are more than one state", crossing, "=", worth, "its worth"),
            Part(f"GiB of the one state at {length:,} tokens", live, "<", kv, "keys and values"),
            Part(f"GiB of two states a call at {length:,} tokens", two, ">", kv, "keys and values", ends),
            Part("sessions in which keys and values pass two states a call", passed, "=", 0),
            Part("tokens that a call adds", call, "<", 2 * worth, "worth of two states", around),
        ],
    )


def controls(ds):
    """Longer calls; a grid in place of the one state."""
    names = ("size", "low", "high", "crossing")
    fine = {name: ds[name].where(ds.memory != ONE, ds[name].sel(memory=GRID)) for name in names}
    return {
        "sessions with longer calls": ds.isel(case=[1]),
        "a state every 784 tokens in place of the one": ds.assign(fine),
    }


def draw(ds):
    """Lines over the cached tokens; upright, where keys and values pass one state."""
    one = ds.isel(case=0)
    where = float(one.crossing.sel(memory=ONE).max())
    at, ends = {f"one state passed, {where:,.0f} tokens": where}, ("low", "high")
    return plot.lines(one, "size", x="cached", color="memory", interval=ends, at=at, title=claim(ds).title)
