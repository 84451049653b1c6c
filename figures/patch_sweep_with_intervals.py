"""At which place of the prompt does the stream hold the answer, layer by layer?

Two prompts state the same facts but one, and both ask for that one. The second is read with one thing of the first in
it: the residual stream behind one layer, at one token. The effect is the share of the way from the second prompt's
answer (0) to the first one's (1), in the difference of the two answers' logits. The places are the value that differs,
the token behind it, and the last token, where the question ends.

Look where one line falls and the other rises: there a layer carries the fact from its place to the question. Whiskers
are 95 % intervals over prompts; p values, corrected for all cells by Holm's method, lie in the data. The controls
take the token behind the value in place of both, reverse the order of the layers, and exchange the value and the
last token.

Source: activation patching, arXiv 2404.15255; `attribution.patch_sweep`.
"""

import random

import xarray

import figures
from figures._state_samples import average
from labkit import attribution
from labkit import draw as plot
from labkit.claims import Claim, Part
from labkit.nano import questions

PLACE = ("causes", 60)
PAIRS, FACT = 12, 1  # pairs that differ in fact number 1, three tokens each: key, value, full stop
PLACES = {"the value that differs": 4, "the token behind it": 5, "the last token": -1}
VALUE, BEHIND, LAST = PLACES
MOVED = {"rtol": 0.0, "atol": 0.02, "reason": "shares move with the order of sums on other processors"}
TOLERANCE = dict.fromkeys(("effect", "mean", "low", "high", "p", "p_adjusted"), MOVED)


def data(lab):
    """effect (sample, layer, term) and its mean, low, high, p, p_adjusted (layer, term), by place of the prompt."""
    pairs, of, against, seeds = [], [], [], []
    seed = 0
    while len(pairs) < PAIRS:
        clean, other, question, right, wrong = questions.contrast(random.Random(seed))
        ids = [lab.encode(text) for text in (clean, other)]
        if int((ids[0] != ids[1]).nonzero()[0]) == 3 * FACT + 1:
            pairs.append((clean + question, other + question))
            of, against, seeds = [*of, right], [*against, wrong], [*seeds, seed]
        seed += 1
    tokens = list(PLACES.values())
    ds = attribution.patch_sweep(lab, pairs, of=of, against=against, seam="resid_post", tokens=tokens)
    sample = f"{PAIRS} pairs that differ in the second fact, of seeds 0 to {seeds[-1]}"
    interval = f"95 %, bootstrap over {PAIRS} pairs"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    kept = ds[["effect", "mean", "low", "high", "p", "p_adjusted"]].rename(token="term")
    return kept.assign_coords(term=("term", list(PLACES), {"long_name": "where it is patched"})).assign_attrs(made)


def claim(ds):
    """The value's place first, the question's later; and the layer between."""
    at = lambda layer, term: average(ds.effect.sel(layer=layer, term=term))
    mean = ds["mean"]
    first = int((mean.sel(term=LAST) > mean.sel(term=VALUE)).argmax("layer"))
    before, after = max(first - 1, 0), first + 1
    (value, ends), (last, last_ends) = at(before, VALUE), at(after, LAST)
    carried, carried_ends = at(after, VALUE)
    return Claim(
        f"Patched behind layer {before}, the stream at the value takes the answer {value:.0%} of the way; behind layer "
        f"{after} it takes {carried:.0%}, the stream at the last token {last:.0%}",
        [
            Part(f"way by the stream at the value, layer {before}", value, ">", 0.5, "half of the way", ends),
            Part(f"way by the stream at the last token, layer {after}", last, ">", 0.5, "half of the way", last_ends),
            Part(f"way by the stream at the value, layer {after}", carried, "<", 0.5, "half of the way", carried_ends),
        ],
    )


def controls(ds):
    """Other places."""
    behind = ds.effect.sel(term=BEHIND, drop=True)
    of_behind = xarray.concat([behind] * len(PLACES), "term").assign_coords(term=ds.term).transpose(*ds.effect.dims)
    exchanged = ds.effect.copy(data=ds.effect.sel(term=[LAST, BEHIND, VALUE]).values)
    return {
        "the token behind the value in place of all": ds.assign(effect=of_behind),
        "layers in reverse order": ds.assign(effect=ds.effect.copy(data=ds.effect.values[:, ::-1])),
        "the value and the last token exchanged": ds.assign(effect=exchanged),
    }


def draw(ds):
    """A line for each place, over layers."""
    shown = ds.assign(mean=ds["mean"].assign_attrs(symbol="share of the way"))
    options = dict(x="layer", color="term", interval=("low", "high"), levels={"the other answer": 1.0})
    return plot.lines(shown, "mean", **options, title=claim(ds).title)
