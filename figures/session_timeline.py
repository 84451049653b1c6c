"""A recurrent model reads a whole conversation again at every turn, if its states were saved in the wrong place

A session of an agent, call by call, under the policy that drops thinking of earlier turns, with states saved where a
request ends. Each bar is one prompt: what was taken from the cache, what had to be read again although an attention
cache would have had it, what was new, and on top what was generated.

Look at the first call of each turn: the whole prompt is read again, because the saved state contains thinking that the
new prompt has no longer. Bars without the second colour would mean that states can be cut, and refute the title.

Source: chat template of Qwen3.6 (huggingface/trl, chat_templates/qwen3_6.jinja); accounting, `labkit.reuse.replay`.
"""

from labkit import draw as plot
from labkit import reuse


def session():
    """Five turns of an agent, drawn by a seed."""
    return reuse.drawn(5, turns=5, calls=2, thinking=150, answer=60, result=200)


def data(lab):
    """tokens (term, call) under strip with states at request ends; again, what is read again in all."""
    ds = reuse.replay(session(), policy="strip", snapshots="end", tokenizer=lab.tokenizer)
    return reuse.timeline(ds).assign(again=ds.penalty.sum(keep_attrs=True), read=ds.prompt.sum(keep_attrs=True))


def draw(ds):
    """One stacked bar per call."""
    title = f"{int(ds.again):,} of {int(ds.read):,} prompt tokens are read again for want of a state to go back to"
    return plot.bars(ds, "tokens", x="call", color="term", stacked=True, title=title)
