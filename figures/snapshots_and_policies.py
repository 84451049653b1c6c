"""Two snapshots per call make a recurrent model as reusable as an attention cache, under both policies

Prompt tokens that are computed over a whole session, by where states are saved, for the policy that drops thinking of
earlier turns and for the one that keeps it. The first bars are a model with attention alone, which can be cut anywhere:
no hybrid can do better.

Look at "end" under strip, then at "before_think": one state saved two tokens before the end of the prompt, before the
thinking block opens, is what a later prompt can go back to. "prompt_end" comes two tokens too late. Bars of one height
would make the place of a snapshot a matter of taste.

Source: accounting, `labkit.reuse.compare`; schemes after llama.cpp, mlx-lm, SGLang and Marconi (arXiv 2411.19379).
"""

from figures import session_timeline
from labkit import draw as plot
from labkit import reuse


def data(lab):
    """recomputed (policy, scheme) and what else `reuse.compare` gives."""
    return reuse.compare(session_timeline.session(), lab.tokenizer)


def draw(ds):
    """Grouped bars."""
    best = ds.recomputed.sel(scheme="end+before_think")
    counts = " and ".join(f"{policy} {int(count):,}" for policy, count in zip(ds.policy.values, best, strict=True))
    title = f"Computed with end+before_think: {counts} tokens, as few as with attention alone"
    return plot.bars(ds, "recomputed", x="scheme", color="policy", title=title)
