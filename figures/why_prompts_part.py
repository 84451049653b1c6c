"""A cache is lost for many small reasons, and each has its own mark in the tokens

Rows are habits of clients and templates, columns the reason why the next prompt does not continue what was cached,
found from the first token that differs. A cell counts the calls of one session.

Look for rows with one dark cell: the reason can be read off the tokens. "none" means that the prompt continued the
cache. A column that were dark in all rows would name nothing.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); `labkit.thinking.divergence`.
"""

import collections
import copy

import numpy as np

from labkit import draw as plot
from labkit import reuse, thinking
from labkit.notation import label


def habits():
    """{habit: (messages, policy)}: one session, and what clients do to it."""
    plain = reuse.drawn(6, turns=4, calls=2, thinking=40, answer=20, result=30)
    empty = [m | {"reasoning_content": ""} if m["role"] == "assistant" else m for m in plain]
    as_user = [{"role": "user", "content": m["content"]} if m["role"] == "tool" else m for m in plain]
    return {
        "thinking kept": (plain, "preserve"),
        "thinking dropped": (plain, "strip"),
        "reasoning not sent back": (plain, "drop"),
        "empty thinking": (empty, "preserve"),
        "results as user messages": (as_user, "strip"),
        "date in the system block": (plain, "dated"),
        "white space after answers": (plain, "spaced"),
    }


def data(lab):
    """count (habit, cause): calls of a habit that part for a reason."""
    rows = {name: _causes(lab, *habit) for name, habit in habits().items()}
    causes = [cause for cause in thinking.CAUSES if any(cause in counts for counts in rows.values())]
    numbers = np.array([[counts[cause] for cause in causes] for counts in rows.values()])
    coords = {"habit": list(rows), "cause": causes}
    facts = {"reading": "thinking.divergence", "model": lab.name}
    return label({"count": (tuple(coords), numbers, "calls")}, coords=coords, attrs=facts)


def _causes(lab, messages, policy):
    """Counts of reasons between consecutive calls."""
    if policy in ("strip", "preserve", "drop"):
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


def draw(ds):
    """A map of habits and reasons."""
    lost = int(ds["count"].sum() - ds["count"].sel(cause="none").sum())
    title = f"{lost} of {int(ds['count'].sum())} calls do not continue the cache, for {ds.sizes['cause'] - 1} reasons"
    return plot.heatmap(ds, "count", x="cause", y="habit", title=title)
