"""Can the reason why a prompt does not continue the cache be read off the tokens?

Rows are habits of clients and templates, columns the reason why the next prompt parts from what was cached, read off
the first token that differs. A cell counts calls, the first of a session left out; "none" means that the prompt
continued the cache. All habits act on the same sessions, drawn by seeds.

Look for rows with one dark cell, and for columns with more than one. The controls are the same habits in sessions whose
thinking blocks are empty, where one mark hides the others, and the reasons of all calls that parted dealt to them at
random.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); `labkit.thinking.divergence`.
"""

import collections
import copy

import numpy as np

import figures
from labkit import draw as plot
from labkit import reuse, stats, thinking
from labkit.claims import Claim, Part
from labkit.notation import label

PLACE = ("thinking", 40)
SEEDS = range(6, 9)
CASES = {"sessions with thinking": 40, "sessions with empty thinking": 0}
DROPPED, AS_USER, PLAIN = "thinking dropped", "results as user messages", "thinking kept"


def habits(seed, words):
    """{habit: (messages, policy)}: one session, and what clients do to it."""
    plain = reuse.drawn(seed, turns=4, calls=2, thinking=words, answer=20, result=30)
    empty = [m | {"reasoning_content": ""} if m["role"] == "assistant" else m for m in plain]
    as_user = [{"role": "user", "content": m["content"]} if m["role"] == "tool" else m for m in plain]
    return {
        PLAIN: (plain, "preserve"),
        DROPPED: (plain, "strip"),
        "reasoning not sent back": (plain, "drop"),
        "empty thinking": (empty, "preserve"),
        AS_USER: (as_user, "strip"),
        "date in the system block": (plain, "dated"),
        "white space after answers": (plain, "spaced"),
    }


def data(lab):
    """count (case, habit, cause): calls of a habit that part for a reason."""
    rows = [[collections.Counter() for _ in habits(0, 1)] for _ in CASES]
    for row, words in zip(rows, CASES.values(), strict=True):
        for seed in SEEDS:
            for counts, habit in zip(row, habits(seed, words).values(), strict=True):
                counts.update(_causes(lab, *habit))
    causes = [cause for cause in thinking.CAUSES if any(counts[cause] for row in rows for counts in row)]
    numbers = np.array([[[counts[cause] for cause in causes] for counts in row] for row in rows])
    cause = ("cause", causes, "reason that is read off the tokens")
    habit = ("habit", list(habits(0, 1)), "what clients and templates do")
    coords = {"case": list(CASES), "habit": habit, "cause": cause}
    facts = figures.made(
        "Qwen3.6-27B",
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(SEEDS)} sessions, seeds {SEEDS[0]} to {SEEDS[-1]}",
        interval="95 %, Wilson, over calls",
    )
    values = {"count": (tuple(coords), numbers, "calls")}
    return label(values, coords=coords, attrs={"reading": "thinking.divergence"} | facts)


def _causes(lab, messages, policy):
    """Counts of reasons between consecutive calls."""
    if policy in reuse.POLICIES:
        return collections.Counter(d.cause for d in reuse.divergences(messages, lab.tokenizer, policy=policy))
    changed, cached = collections.Counter(), None
    for n, call in enumerate(reuse.calls(messages, lab.tokenizer, policy="preserve")):
        history = copy.deepcopy(messages[: call.message])
        if policy == "dated":
            history[0]["content"] = f"Request {n}. " + history[0]["content"]
        prompt = thinking.spans(history, lab.tokenizer, preserve=True).ids
        if cached is not None:
            changed[thinking.divergence(cached, prompt, lab.tokenizer).cause] += 1
        generated = lab.tokenizer.decode(call.generated[:-1].tolist()) + (" " if policy == "spaced" else "")
        cached = [*prompt, *lab.tokenizer(generated, add_special_tokens=False)["input_ids"]]
    return changed


def claim(ds):
    """One mark for each habit that parts prompts, but two share one and differ by how often it comes."""
    counts = ds["count"].isel(case=0)
    calls = int(counts.sel(habit=PLAIN).sum())
    parting = counts.drop_sel(cause="none")
    main, strays = parting.argmax("cause"), int((parting.sum("cause") - parting.max("cause")).sum())
    marked = [str(habit) for habit in ds.habit.values if parting.sel(habit=habit).sum()]
    marks = {str(parting.cause[int(main.sel(habit=habit))].item()) for habit in marked}
    often = {habit: int(parting.sel(habit=habit).sum()) for habit in (PLAIN, DROPPED, AS_USER)}
    shared = float(main.sel(habit=DROPPED) == main.sel(habit=AS_USER))
    mark = str(parting.cause[int(main.sel(habit=DROPPED))].item())
    ends = stats.wilson(often[AS_USER], calls)
    return Claim(
        f'{len(marked)} habits leave {len(marks)} marks; "{mark}" is of two: dropping '
        f"({often[DROPPED]} of {calls} calls), results as user messages ({often[AS_USER]})",
        [
            Part("different marks", len(marks), "=", len(marked) - 1, "one fewer than habits that part prompts"),
            Part("dropping and results as user messages share one", shared, "=", 1),
            Part("calls that part for another reason than their habit's", strays, "=", 0),
            Part("calls that part with thinking kept", often[PLAIN], "=", 0),
            Part(
                "share of calls parted, results as user messages",
                often[AS_USER] / calls,
                ">",
                often[DROPPED] / calls,
                DROPPED,
                ends,
            ),
        ],
    )


def controls(ds):
    """Thinking blocks with nothing in them; reasons dealt at random."""
    return {
        "sessions whose thinking blocks are empty": ds.isel(case=[1]),
        "reasons dealt to the calls that parted at random": _dealt(ds),
    }


def _dealt(ds):
    """The reasons of all calls that parted, dealt to them by a seed."""
    counts = ds["count"].isel(case=[0]).copy()
    parting = counts.values[0, :, 1:]
    reasons = np.repeat(np.tile(np.arange(parting.shape[1]), len(parting)), parting.ravel())
    np.random.default_rng(0).shuffle(reasons)
    hands = np.split(reasons, np.cumsum(parting.sum(1))[:-1])
    parting[:] = [np.bincount(hand, minlength=parting.shape[1]) for hand in hands]
    return ds.isel(case=[0]).assign(count=counts)


def draw(ds):
    """A map of habits and reasons."""
    return plot.heatmap(ds.isel(case=0), "count", x="cause", y="habit", title=claim(ds).title)
