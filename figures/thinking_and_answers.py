"""Is an answer that was only thought lost with the thinking?

Conversations of nano in which a colour is decided in the thinking of one turn, never said, and asked for two to five
turns later. The new thinking is begun for the model, "the fox is", and its next word is the answer: how often it is the
colour, with earlier thinking kept and dropped, with 95 % Wilson intervals. The line is guessing, one colour of those
that there are. The third bar is the same conversations with the colour also said aloud in the turn in which it was
decided, and thinking dropped.

Look at the second bar: if states or answers had kept a trace of what was thought, it would lie above the line. The
controls are the third bar in place of the second, and the same answers counted as right if they are the colour of
another conversation.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); questions, `labkit.nano.questions`.
"""

import random

import numpy as np

import figures
from labkit import draw as plot
from labkit import stats, thinking
from labkit.claims import Claim, Part
from labkit.nano import questions, tasks
from labkit.nano.exam import COLOUR
from labkit.notation import label

PLACE = ("thinking", 70)
SEED, SESSIONS = 11, 24
CASES = {"thought, thinking kept": True, "thought, thinking dropped": False, "also said aloud, thinking dropped": False}
KEPT, DROPPED, SAID = CASES
TIPPED = {"rtol": 0.0, "atol": 0.05, "reason": "one answer of 24 may tip on another processor"}
TOLERANCE = dict.fromkeys(("right", "low", "high", "other", "other_low", "other_high"), TIPPED)


def data(lab):
    """right (case), the share of right answers, low and high, its interval; the same scored by another's colour."""
    rows = []
    for case, preserve in CASES.items():
        words, colours = _asked(lab, preserve, aloud=case == SAID)
        row = []
        for expected in (colours, colours[1:] + colours[:1]):
            right = sum(word == colour for colour, word in zip(expected, words, strict=True))
            row += [right / SESSIONS, *stats.wilson(right, SESSIONS)]
        rows.append(row)
    names = ("right", "low", "high", "other", "other_low", "other_high")
    values = {name: (("case",), column, "right") for name, column in zip(names, np.array(rows).T, strict=True)}
    values["chance"] = (), np.asarray(COLOUR), "right"
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{SESSIONS} conversations, drawn by seed {SEED}",
        interval=f"95 %, Wilson, over {SESSIONS} answers",
    )
    return label(
        values,
        coords={"case": ("case", list(CASES), "how the colour was decided, and what was kept")},
        attrs={"reading": "lab.trace", "count": SESSIONS} | facts,
    )


def _asked(lab, preserve, *, aloud):
    """(the next words, the right ones) of all conversations."""
    draw_, words, colours = random.Random(SEED), [], []
    for _ in range(SESSIONS):
        messages, key, colour = questions.decided(draw_, preserve)
        if aloud:
            messages[1] = messages[1] | {"content": f"the {key} is {colour}."}
        prompt = tasks.bare(thinking.rendered(messages, lab.tokenizer, preserve=preserve)) + f"the {key} is"
        run = lab.trace(prompt, seams=[])
        words.append(lab.tokenizer.decode([int(run.logits[-1].argmax())]).strip())
        colours.append(colour)
    return words, colours


def claim(ds):
    """Kept and said are above guessing, thought and dropped is not."""
    right, chance, count = ds.right, float(ds.chance), ds.attrs["count"]
    ends = {case: (float(ds.low.sel(case=case)), float(ds.high.sel(case=case))) for case in CASES}
    kept, dropped, said = (float(right.sel(case=case)) for case in CASES)
    return Claim(
        f"Of {count}, {count * kept:.0f} are right with thinking kept, {count * dropped:.0f} with it dropped "
        f"(guessing: {count * chance:.1f}), {count * said:.0f} dropped but said aloud",
        [
            Part("share right, thinking kept", kept, ">", chance, "guessing", ends[KEPT]),
            Part("share right, thinking dropped", dropped, "∋", chance, "guessing", ends[DROPPED]),
            Part("share right, said aloud and thinking dropped", said, ">", chance, "guessing", ends[SAID]),
        ],
    )


def controls(ds):
    """The colour said aloud; answers scored by a colour that is not theirs."""
    names = ("right", "low", "high")
    said = {name: ds[name].where(ds.case != DROPPED, ds[name].sel(case=SAID)) for name in names}
    other = dict(zip(names, (ds[name] for name in ("other", "other_low", "other_high")), strict=True))
    return {
        "the colour also said aloud": ds.assign(said),
        "answers scored by the colour of the next conversation": ds.assign(other),
    }


def draw(ds):
    """Three bars with their intervals, and guessing as a line."""
    levels = {f"guessing, {float(ds.chance):.0%}": float(ds.chance)}
    return plot.bars(ds, "right", x="case", interval=("low", "high"), levels=levels, title=claim(ds).title)
