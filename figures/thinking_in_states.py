"""Most of what a state holds at a question was not written by the question: some of it is old thinking

A conversation in which a colour is decided in the thinking of the first turn, kept, and asked for later. At the last
token of the prompt: how much of each value head's state was written by the thinking blocks, as a share of the state.
Shares of all parts of the prompt sum to one; a part that works against the others has a negative share.

Look for dark cells, heads that carry thinking across turns. If thinking left no trace in the states, dropping it would
change nothing for them, and the map would be blank.

Source: Gated DeltaNet, arXiv 2412.06464; parts of a state, this project's `deltanet.written_by`.
"""

import random

import xarray

from labkit import deltanet, thinking
from labkit import draw as plot
from labkit.nano import chat, tasks


def session():
    """A colour decided in thinking, two other turns, and the question about it."""
    draw = random.Random(4)
    messages = chat.decide(draw, "fox", "red") + chat.look(draw, "whale", "blue") + chat.tell(draw, "crow", "green")
    messages.append(chat.user("what colour is the fox?"))
    bare = lambda value: tasks.bare(value) if isinstance(value, str) else value  # noqa: E731
    return [{name: bare(value) for name, value in message.items()} for message in messages]


def data(lab):
    """share (layer, head) of the thinking blocks, and all parts (layer, head, segment)."""
    prompt = thinking.spans(session(), lab.tokenizer, preserve=True)
    run = lab.trace(list(prompt.ids), seams=["qkv", "a", "b", "read"])
    parts = deltanet.written_by(run, layer=lab.spec.deltanet_layers, segments=prompt.kinds()).share
    share = parts.sel(segment="think", drop=True)
    tokens = len(prompt.of("think")) / len(prompt.ids)
    return xarray.Dataset({"share": share, "parts": parts, "tokens": tokens}, attrs={"reading": "deltanet.written_by"})


def draw(ds):
    """A map of layers and heads."""
    low, high = float(ds.share.min()), float(ds.share.max())
    title = f"Thinking is {float(ds.tokens):.0%} of the tokens and {max(low, 0):.0%} to {high:.0%} of a state"
    return plot.heatmap(ds, "share", x="head", y="layer", title=title)
