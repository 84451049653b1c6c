"""An answer that was only thought is lost with the thinking

Conversations of nano in which a colour is decided in the thinking of one turn, never said, and asked for some turns
later. How often the answer names it, with earlier thinking kept and dropped; the bars' ends are 95 % Wilson intervals,
the dotted row is guessing.

Look at the second group. If the states or the answers had kept a trace of what was thought, it would lie above
guessing.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); questions, `labkit.nano.questions`.
"""

import random

import numpy as np

from labkit import draw as plot
from labkit import thinking
from labkit.nano import questions, tasks
from labkit.nano.exam import COLOUR, wilson
from labkit.notation import label

SESSIONS = 40


def data(lab):
    """right (term, step): share of right answers and the ends of its interval, with thinking kept and dropped."""
    rows = []
    for preserve in (True, False):
        draw_, right = random.Random(11), 0
        for _ in range(SESSIONS):
            messages, key, value = questions.decided(draw_, preserve)
            prompt = tasks.bare(thinking.rendered(messages, lab.tokenizer, preserve=preserve))
            said = lab.generate(prompt, max_new_tokens=24)
            text = lab.tokenizer.decode(said.ids[len(lab.encode(prompt)) :].tolist())
            right += f"the {key} is {value}." in text.partition("</think>")[2]
        rows.append([right / SESSIONS, *wilson(right, SESSIONS)])
    coords = {"term": ["thinking kept", "thinking dropped"], "step": ["right", "low end", "high end"]}
    held = label({"right": (("term", "step"), np.array(rows))}, coords=coords, attrs={"model": lab.name})
    held["right"].attrs = {"symbol": "right", "units": "share", "scale": "fraction"}
    return held.assign(chance=COLOUR).assign_attrs(reading="lab.generate")


def draw(ds):
    """Grouped bars."""
    kept, dropped = (float(ds.right.sel(term=term, step="right")) for term in ds.term.values)
    title = (
        f"Right {kept:.0%} of the time with thinking kept, {dropped:.0%} without; guessing is {float(ds.chance):.0%}"
    )
    return plot.bars(ds, "right", x="term", color="step", title=title)
