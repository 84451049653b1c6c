"""Where must states be saved so that a recurrent model reuses what attention alone could?

Prompt tokens that are computed over a whole session, as a multiple of what a model with attention alone computes, by
where states are saved, for the policy that drops thinking of earlier turns and for the one that keeps it. Means over
sessions of an agent drawn by seeds. The line is attention alone, which can be cut anywhere: no hybrid can do better.

Look at the two schemes with two states a call under dropping. One saves a state before the thinking block is opened,
which is what a later prompt can go back to; the other saves it two tokens later, where the prompt ends. That one in
place of the other is a control; the other control is thinking kept, where the place should not matter.

Source: accounting, `labkit.reuse.compare`; schemes after llama.cpp, mlx-lm, SGLang and Marconi (arXiv 2411.19379).
"""

import numpy as np

import figures
from figures import session_timeline
from labkit import draw as plot
from labkit import reuse, stats
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label

PLACE = ("thinking", 20)
SCHEMES = {
    "end": "end",
    "prompt_end": "prompt's end",
    "before_think": "before thinking",
    "end+before_think": "end + before thinking",
    "end+prompt_end": "end + prompt's end",
    "branch": "where prompts part",
    "every 784": "every 784 tokens",
}
POLICIES = {"strip": "thinking dropped", "preserve": "thinking kept"}
DROPPED, KEPT = POLICIES.values()
BEST, LATE = SCHEMES["end+before_think"], SCHEMES["end+prompt_end"]
TIMES = Quantity("computed", "prompt tokens computed", "times attention alone", "positive", "reuse.compare")


def data(lab):
    """times (session, policy, scheme); mean, low and high (policy, scheme) of them."""
    seeds, rows = session_timeline.SEEDS, []
    for seed in seeds:
        table = reuse.compare(session_timeline.session(seed), lab.tokenizer, schemes=tuple(SCHEMES))
        alone = table.recomputed.sel(scheme="attention-only")
        rows.append((table.recomputed.sel(scheme=list(SCHEMES)) / alone).values)
    coords = {
        "session": list(seeds),
        "policy": list(POLICIES.values()),
        "scheme": ("scheme", list(SCHEMES.values()), "where states are saved"),
    }
    facts = figures.made(
        table.model,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(seeds)} sessions of five turns, seeds {seeds[0]} to {seeds[-1]}",
        interval=f"95 %, Student's t over {len(seeds)} sessions",
    )
    ds = label(
        {"times": (tuple(coords), np.array(rows), TIMES)}, coords=coords, attrs={"reading": "reuse.compare"} | facts
    )
    low, high = stats.t_interval(ds.times, "session")
    return ds.assign(mean=ds.times.mean("session", keep_attrs=True), low=low, high=high)


def claim(ds):
    """Two states a call are as good as attention alone, in every session; two tokens later they are not."""
    late = {name: float(ds[name].sel(policy=DROPPED, scheme=LATE)) for name in ("mean", "low", "high")}
    worst = float(ds.times.sel(scheme=BEST).max())
    return Claim(
        f"States at end and before thinking: {worst:.2f} times attention alone; two tokens late, thinking dropped: "
        f"{late['mean']:.2f} ({late['low']:.2f} to {late['high']:.2f})",
        [
            Part("most that two states a call compute", worst, "=", 1, "attention alone, all sessions, both policies"),
            Part(
                "two tokens later, thinking dropped",
                late["mean"],
                ">",
                1,
                "attention alone",
                (late["low"], late["high"]),
            ),
        ],
    )


def controls(ds):
    """The state that is two tokens too late; the policy under which that is no matter."""
    moved = {
        name: ds[name].where(ds.scheme != BEST, ds[name].sel(scheme=LATE)) for name in ("times", "mean", "low", "high")
    }
    kept = {
        name: ds[name].where(ds.policy != DROPPED, ds[name].sel(policy=KEPT))
        for name in ("times", "mean", "low", "high")
    }
    return {
        "the state before thinking saved two tokens later": ds.assign(moved),
        "thinking kept in place of dropped": ds.assign(kept),
    }


def draw(ds):
    """Grouped bars with their intervals, and attention alone as a line."""
    return plot.bars(
        ds,
        "mean",
        x="scheme",
        color="policy",
        interval=("low", "high"),
        levels={"attention alone": 1.0},
        title=claim(ds).title,
    )
