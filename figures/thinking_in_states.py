"""What of the states at a question was written by thinking of earlier turns?

Conversations in which a colour is decided in the thinking of the first turn, kept, and asked for two turns later. At
the last token of the prompt: how much of each value head's state was written by which part of the prompt, as a share of
the state, mean over layers, heads and conversations. Beside it, as the baseline, the share that the part has of the
tokens. Shares sum to one; a part that works against the others would have a negative share.

Look at the two bars of earlier thinking, and at those of the few tokens that open the next turn, which were read last.
The control is a reading of the same conversations at the end of a thinking block, where thinking is what was read last;
another deals the names of the parts to the tokens at random.

Source: Gated DeltaNet, arXiv 2412.06464; parts of a state, this project's `deltanet.written_by`.
"""

import random

import numpy as np

import figures
from labkit import deltanet, stats, thinking
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano import chat, tasks
from labkit.nano.tokens import KEYS, VALUES
from labkit.notation import Quantity, label

PLACE = ("thinking", 60)
SEEDS = range(4, 16)
PARTS = {
    "think": "earlier thinking",
    "frame": "headers and ends",
    "user": "user's words",
    "answer": "answers",
    "call": "tool calls",
    "tool": "tool results",
    "open": "opening of a turn",
}
THINK, OPEN = PARTS["think"], PARTS["open"]
OF = ["share of the tokens", "share of the states, mean"]
CASES = ["at the question", "read at the end of a thinking block", "names of the parts dealt to tokens at random"]
SHARE = Quantity("share", "share of the tokens, and of the state", "fraction", "fraction", "deltanet.written_by")


def session(seed=SEEDS[0]):
    """A colour decided in thinking, two other turns, and the question about it."""
    draw = random.Random(seed)
    keys, values = draw.sample(KEYS, 3), [draw.choice(VALUES) for _ in range(3)]
    messages = [chat.decide, chat.look, chat.tell]
    messages = [m for turn, key, value in zip(messages, keys, values, strict=True) for m in turn(draw, key, value)]
    messages.append(chat.user(f"what colour is the {keys[0]}?"))
    bare = lambda value: tasks.bare(value) if isinstance(value, str) else value  # noqa: E731
    return [{name: bare(value) for name, value in message.items()} for message in messages]


def data(lab):
    """share, low and high (case, of, segment): mean over conversations of the tokens and of the states."""
    rows = np.array([_read(lab, seed) for seed in SEEDS])
    coords = {
        "session": list(SEEDS),
        "case": CASES,
        "of": OF,
        "segment": ("segment", list(PARTS.values()), "part of the prompt"),
    }
    facts = figures.made(
        lab.name,
        vocabulary=figures.vocabulary(lab),
        sample=f"{len(SEEDS)} conversations, seeds {SEEDS[0]} to {SEEDS[-1]}",
        interval=f"95 %, Student's t over {len(SEEDS)} conversations",
    )
    facts |= {"reading": "deltanet.written_by", "layer": list(lab.spec.deltanet_layers)}
    ds = label({"every": (tuple(coords), rows, SHARE)}, coords=coords, attrs=facts)
    low, high = stats.t_interval(ds.every, "session")
    return ds.assign(share=ds.every.mean("session", keep_attrs=True), low=low, high=high).drop_vars("every")


def _read(lab, seed):
    """Shares (case, of, segment) of one conversation."""
    prompt = thinking.spans(session(seed), lab.tokenizer, preserve=True)
    run = lab.trace(list(prompt.ids), seams=["qkv", "a", "b", "read"])
    kinds, last = prompt.kinds(), prompt.of("think")[-1]
    mixed = random.Random(seed).sample(kinds, len(kinds))
    return [_shares(run, lab, *case) for case in ((kinds, len(kinds) - 1), (kinds, last), (mixed, len(kinds) - 1))]


def _shares(run, lab, kinds, token):
    """Shares (of, segment) of the tokens up to one of them, and of the states there, mean over layers and heads."""
    written = deltanet.written_by(run, layer=lab.spec.deltanet_layers, segments=kinds, token=token).share
    written = written.mean(("layer", "head")).reindex(segment=list(PARTS), fill_value=0.0).values
    read = kinds[: token + 1]
    return [[read.count(kind) / len(read) for kind in PARTS], written]


def claim(ds):
    """Thinking wrote less than its share of the tokens; the opening more than all the rest together."""
    at = ds.isel(case=0).sel(of=OF[1])
    tokens, last = (float(ds.share.isel(case=0).sel(of=OF[0], segment=part)) for part in (THINK, OPEN))
    wrote, opened = float(at.share.sel(segment=THINK)), float(at.share.sel(segment=OPEN))
    ends = {part: (float(at.low.sel(segment=part)), float(at.high.sel(segment=part))) for part in (THINK, OPEN)}
    rest = float(at.share.drop_sel(segment=OPEN).sum())
    return Claim(
        f"Thinking is {tokens:.0%} of the tokens and wrote {wrote:.1%} of a state, mean of all; "
        f"the last {last:.0%} of the tokens wrote {opened:.0%}",
        [
            Part(
                "mean share of the states that thinking wrote", wrote, "<", tokens, "its share of tokens", ends[THINK]
            ),
            Part("mean share that the opening of the turn wrote", opened, ">", rest, "all other tokens", ends[OPEN]),
        ],
    )


def controls(ds):
    """Read where thinking is what came last; parts that are none."""
    return {str(case): ds.sel(case=[case]) for case in ds.case.values[1:]}


def draw(ds):
    """Two bars for each part: of the tokens, and of the states."""
    ends = ("low", "high")
    return plot.bars(ds.isel(case=0), "share", x="segment", color="of", interval=ends, title=claim(ds).title)
