"""What does a recurrent model read again that an attention cache would give back?

A session of an agent, call by call, under the policy that drops thinking of earlier turns, with states saved where a
request ends. Each bar is one prompt: what was taken from the cache, what had to be read again although an attention
cache would have had it, what was new, and on top what was generated. The session is the first of those that were drawn
by seeds; the share in the title is of all of them. Tokens are counted with a small vocabulary, so a count is not that
of the model that is named; which calls read again is.

Look at the first call of each turn after the first: nothing comes from the cache, because the saved state contains
thinking that the new prompt has no longer. The controls are the same sessions with thinking kept, on a model of
attention alone, and with a client that does not send reasoning back, where calls within a turn read again too.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); accounting, `labkit.reuse.replay`.
"""

import numpy as np
import xarray

import figures
from labkit import draw as plot
from labkit import reuse, stats
from labkit.claims import Claim, Part
from labkit.notation import Quantity, label

PLACE = ("thinking", 10)
SEEDS = range(5, 17)
CASES = {
    "thinking of earlier turns dropped": {"policy": "strip"},
    "thinking kept": {"policy": "preserve"},
    "a model with attention alone": {"policy": "strip", "attention_only": True},
    "a client that does not send reasoning back": {"policy": "drop"},
}
PROMPT = ["from the cache", "read again", "new"]
QUANTITIES = {
    "again": Quantity("again", "share of all prompt tokens that is read again", "fraction", "fraction", "reuse.replay"),
    "within": "calls",
    "reused": "tokens",
}


def session(seed=SEEDS[0]):
    """Five turns of an agent, drawn by a seed."""
    return reuse.drawn(seed, turns=5, calls=2, thinking=150, answer=60, result=200)


def data(lab):
    """tokens (case, term, call) of the first session; again, within and reused (case, session) of all."""
    bars, rows = [], []
    for options in CASES.values():
        ledgers = [reuse.replay(session(seed), tokenizer=lab.tokenizer, snapshots="end", **options) for seed in SEEDS]
        bars.append(reuse.timeline(ledgers[0]).tokens)
        rows.append([_numbers(ledger) for ledger in ledgers])
    columns = zip(QUANTITIES, np.moveaxis(np.array(rows), -1, 0), strict=True)
    values = {name: (("case", "session"), column, QUANTITIES[name]) for name, column in columns}
    facts = figures.made(
        ledgers[0].model,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(SEEDS)} sessions, seeds {SEEDS[0]} to {SEEDS[-1]}; the first is drawn",
        interval=f"95 %, Student's t over {len(SEEDS)} sessions",
    )
    ds = label(values, coords={"case": list(CASES), "session": list(SEEDS)}, attrs={"reading": "reuse.replay"} | facts)
    return ds.assign(tokens=xarray.concat(bars, "case"))


def _numbers(ledger):
    """(share of prompt tokens read again, calls within turns that read again, tokens reused at new questions)."""
    opens = np.diff(ledger.turn.values, prepend=0) > 0
    within = int((ledger.penalty.values[~opens] > 0).sum())
    return float(ledger.penalty.sum() / ledger.prompt.sum()), within, int(ledger.state.values[opens].sum())


def claim(ds):
    """All that could be shared is read again at each new question, and nowhere else."""
    one = ds.isel(case=0)
    again, prompt = (int(one.tokens.sel(term=terms).sum()) for terms in ("read again", PROMPT))
    mean, count = float(one.again.mean()), ds.sizes["session"]
    ends = tuple(float(end) for end in stats.t_interval(one.again, "session"))
    between = " to ".join(f"{end:.0%}" for end in ends)
    return Claim(
        f"New questions find no state: {again:,} of {prompt:,} prompt tokens are read again here, "
        f"{mean:.0%} ({between}) in {count} sessions",
        [
            Part("share of prompt tokens read again", mean, ">", 0, "what an attention cache reads again", ends),
            Part("tokens from the cache at new questions", float(one.reused.sum()), "=", 0, "all sessions"),
            Part("calls within a turn that read again", float(one.within.sum()), "=", 0, "all sessions"),
        ],
    )


def controls(ds):
    """The same sessions where a state can be used, or is not needed, or is missing within turns as well."""
    return {str(case): ds.sel(case=[case]) for case in ds.case.values[1:]}


def draw(ds):
    """One stacked bar per call."""
    return plot.bars(ds.isel(case=0), "tokens", x="call", color="term", stacked=True, title=claim(ds).title)
