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
    """right (policy), the share of right answers with thinking kept and dropped; low and high, its interval."""
    rows = []
    for preserve in (True, False):
        draw_, right = random.Random(11), 0
        for _ in range(SESSIONS):
            messages, key, value = questions.decided(draw_, preserve)
            prompt = tasks.bare(thinking.rendered(messages, lab.tokenizer, preserve=preserve))
            run = lab.generate(prompt, max_new_tokens=24)
            text = lab.tokenizer.decode(run.ids[run.prompt_length :].tolist())
            right += f"the {key} is {value}." in text.partition("</think>")[2]
        rows.append([right / SESSIONS, *stats.wilson(right, SESSIONS)])
    columns = zip(("right", "low", "high"), np.array(rows).T, strict=True)
    values = {name: (("policy",), column, "right") for name, column in columns}
    values["chance"] = (), np.asarray(COLOUR), "right"
    coords = {"policy": ["thinking kept", "thinking dropped"]}
    return label(values, coords=coords, attrs={"model": lab.name, "reading": "lab.generate"})


def draw(ds):
    """Two bars with their intervals."""
    kept, dropped = (float(share) for share in ds.right)
    title = (
        f"Right {kept:.0%} of the time with thinking kept, {dropped:.0%} without; guessing is {float(ds.chance):.0%}"
    )
    return plot.bars(ds, "right", x="policy", interval=("low", "high"), title=title)
