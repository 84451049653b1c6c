"""An answer that was only thought is lost with the thinking

Conversations of nano in which a colour is decided in the thinking of one turn, never said, and asked for some turns
later. How often the answer names it, with earlier thinking kept and dropped, with 95 % Wilson intervals.

Look at the second bar: if the states or the answers had kept a trace of what was thought, it would lie above guessing,
one in sixteen.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); questions, `labkit.nano.questions`.
"""

import random

import numpy as np

from labkit import draw as plot
from labkit import stats, thinking
from labkit.nano import questions, tasks
from labkit.nano.exam import COLOUR
from labkit.notation import label

SESSIONS = 24
TIPPED = {"rtol": 0.0, "atol": 0.05, "reason": "one answer of 24 may tip on another processor"}
TOLERANCE = dict.fromkeys(("right", "low", "high"), TIPPED)


def data(lab):
    """right (term), the share of right answers with thinking kept and dropped; low and high, its interval."""
    rows = []
    for preserve in (True, False):
        draw_, right = random.Random(11), 0
        for _ in range(SESSIONS):
            messages, key, value = questions.decided(draw_, preserve)
            prompt = tasks.bare(thinking.rendered(messages, lab.tokenizer, preserve=preserve))
            said = lab.generate(prompt, max_new_tokens=24)
            text = lab.tokenizer.decode(said.ids[len(lab.encode(prompt)) :].tolist())
            right += f"the {key} is {value}." in text.partition("</think>")[2]
        rows.append([right / SESSIONS, *stats.wilson(right, SESSIONS)])
    values = {
        name: (("term",), column) for name, column in zip(("right", "low", "high"), np.array(rows).T, strict=True)
    }
    held = label(values, coords={"term": ["thinking kept", "thinking dropped"]}, attrs={"model": lab.name})
    held["right"].attrs = {"symbol": "right", "long_name": "share of right answers", "units": "", "scale": "fraction"}
    held["term"].attrs["long_name"] = "earlier turns"
    return held.assign(chance=COLOUR).assign_attrs(reading="lab.generate")


def draw(ds):
    """Two bars with their intervals."""
    kept, dropped = (float(ds.right.sel(term=term)) for term in ds.term.values)
    title = (
        f"Right {kept:.0%} of the time with thinking kept, {dropped:.0%} without; guessing is {float(ds.chance):.0%}"
    )
    return plot.bars(ds, "right", x="term", interval=("low", "high"), title=title)
