"""From which turn on is keeping earlier thinking slower than dropping it?

Keeping thinking saves prefill at every turn and costs decode time at every token, since each is generated with the kept
thinking in the cache. Seconds added over seconds saved, both summed up turn by turn, for three lengths of thinking,
mean over sessions drawn by seeds. Above the line keeping is slower. Good snapshots under both policies, one sequence on
an H200, lower bounds from bytes and FLOPs of Qwen3.6-27B; tokens are counted with a small vocabulary.

Look where each line passes one and at its interval. The first control saves states only where requests end, so that
dropping finds no state to go back to; the second exchanges the lengths of thinking.

Source: roofline of `labkit.spec` (peak FLOP/s and bandwidth of the card); accounting, `labkit.reuse.replay`.
"""

import numpy as np

import figures
from labkit import draw as plot
from labkit import reuse, stats
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label
from labkit.reuse.call import Encoder

PLACE = ("thinking", 50)
SEEDS, TURNS = range(8, 16), 10
THINKING = {"60 words of thinking": 60, "240 words of thinking": 240, "480 words of thinking": 480}
LITTLE, SOME, MUCH = THINKING
CASES = {"good snapshots": "end+before_think", "states saved only where a request ends": "end"}
RATIO = Quantity("added / saved", "decode time added over prefill time saved", "s per s", "positive", "reuse.replay")


def data(lab):
    """ratio, low, high (case, thinking, turn) of decode seconds added to prefill seconds saved, up to each turn from
    the second on; crossing (case, session, thinking), the turn from which keeping is slower for good, NaN if none is.
    """
    ratios = np.stack([[_session(lab, seed, mean) for mean in THINKING.values()] for seed in SEEDS])
    turns = np.arange(2, TURNS + 1)
    coords = {"session": list(SEEDS), "thinking": list(THINKING), "case": list(CASES), "turn": turns}
    facts = figures.made(
        "Qwen3.6-27B",
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(SEEDS)} sessions of {TURNS} turns for each length, seeds {SEEDS[0]} to {SEEDS[-1]}",
        interval=f"95 %, Student's t over {len(SEEDS)} sessions",
    )
    values = {
        "every": (tuple(coords), ratios, RATIO),
        "crossing": (("session", "thinking", "case"), np.apply_along_axis(_crossing, -1, ratios), None),
    }
    ds = label(values, coords=coords, attrs={"reading": "reuse.replay", "gpu": "H200"} | facts)
    low, high = stats.t_interval(ds.every, "session")
    return ds.assign(ratio=ds.every.mean("session", keep_attrs=True), low=low, high=high).drop_vars("every")


def _session(lab, seed, mean):
    """Seconds added over seconds saved (case, turn) of one session."""
    messages = reuse.drawn(seed, turns=TURNS, calls=2, thinking=mean, answer=60, result=300)
    encode = Encoder(lab.tokenizer)
    made = [list(reuse.calls(messages, encode, policy=policy)) for policy in ("strip", "preserve")]
    rows = []
    for scheme in CASES.values():
        strip, keep = (reuse.replay(calls, snapshots=scheme) for calls in made)
        parts = strip.prefill_seconds - keep.prefill_seconds, keep.decode_seconds - strip.decode_seconds
        saved, added = (part.groupby("turn").sum().cumsum().values[1:] for part in parts)
        rows.append(added / saved)
    return rows


def _crossing(ratios):
    """The turn from which on all are above one."""
    won = np.flatnonzero(ratios <= 1).max(initial=-1) + 1
    return won + 2.0 if won < len(ratios) else np.nan


def claim(ds):
    """Much thinking loses early, some later, little not at all: seconds at the end, and the turn of the crossing."""
    one = ds.isel(case=0)
    last = one.isel(turn=-1)
    ratio = {name: float(last.ratio.sel(thinking=name)) for name in THINKING}
    ends = {name: (float(last.low.sel(thinking=name)), float(last.high.sel(thinking=name))) for name in THINKING}
    later = one.crossing.fillna(TURNS + 1)
    gap = later.sel(thinking=SOME) - later.sel(thinking=MUCH)
    between = tuple(float(edge) for edge in stats.t_interval(gap, "session"))
    count, never = ds.sizes["session"], int(one.crossing.sel(thinking=LITTLE).isnull().sum())
    what = f"seconds added per second saved in {TURNS} turns, "
    return Claim(
        f"Keeping 480 words of thinking is slower from turn {_range(later, MUCH)}, "
        f"240 from {_range(later, SOME)}; 60 in {count - never} of {count} sessions of {TURNS}",
        [
            Part(what + MUCH, ratio[MUCH], ">", 1, "even", ends[MUCH]),
            Part(what + SOME, ratio[SOME], ">", 1, "even", ends[SOME]),
            Part(what + LITTLE, ratio[LITTLE], "<", 1, "even", ends[LITTLE]),
            Part("turns by which some thinking loses later than much", float(gap.mean()), ">", 0, "", between),
            Part(f"sessions that lose within {TURNS} turns, little thinking", ds.sizes["session"] - never, "=", 0),
        ],
    )


def _range(later, name):
    """First and last turn of the sessions' crossings, as text, and how many sessions have none."""
    turns = later.sel(thinking=name).values.astype(int)
    found, none = turns[turns <= TURNS], int((turns > TURNS).sum())
    if not len(found):
        return "none"
    return f"{found.min()} to {found.max()}" + (f" ({none} never)" if none else "")


def controls(ds):
    """No state to go back to; lengths exchanged."""
    turned = ds.isel(thinking=slice(None, None, -1)).assign_coords(thinking=ds.thinking)
    return {"states saved only where a request ends": ds.isel(case=[1]), "lengths of thinking exchanged": turned}


def draw(ds):
    """A line for each length of thinking, and the line of even."""
    one = ds.isel(case=0)
    at = {
        f"{name.partition(' ')[0]} words: median turn {median:g}": median
        for name in THINKING
        if np.isfinite(median := float(one.crossing.fillna(np.inf).sel(thinking=name).median()))
    }
    ends = ("low", "high")
    options = {"interval": ends, "levels": {"even": 1.0}, "at": at, "title": claim(ds).title}
    return plot.lines(one, "ratio", x="turn", color="thinking", **options)
