"""Does attention matter more, the more facts a prompt states?

Share of questions that nano answers, by the number of facts among which the right one stands: the whole model, the
same without its attention mixers (A), and without its DeltaNet mixers (D). Prompts have about 190 tokens, those with 60
facts about 220; sentences about other things fill the ones with few facts. The same questions go to each model;
whiskers are 95 % intervals, the level line is what guessing a colour gives.

Look at the distance between the first two lines, from few facts to many, and where it opens. The controls put the third
line, the other kind of mixer taken away, or the first in place of the second: neither should part from it with the
load. nano was trained with attention silenced in a part of the rows about facts (`labkit/nano/lessons.py`): its states
hold what those of another model may not, so the load at which it begins to need attention is its own.

Source: ablations of hybrids, arXiv 2510.19861 and 2603.22473; questions, `labkit.nano.questions.recall`.
"""

import random

import numpy as np
import xarray

import figures
from labkit import draw as plot
from labkit import edit, stats
from labkit.claims import Claim, Part
from labkit.nano import exam, questions
from labkit.notation import Quantity, label

PLACE = ("attention", 20)
LOADS, QUESTIONS, FEWER, ROOM = (4, 16, 32, 60), 24, 8, 192
WHOLE, NO_A, NO_D = "whole model", "without A mixers", "without D mixers"
LOST = Quantity("lost", "share of right answers that is lost", "1", "signed", "this run")
TIPPED = {"rtol": 0.0, "atol": 0.1, "reason": "two answers of 24, or one of 8, may tip on another processor"}
ENDS = ("", "_low", "_high")
TOLERANCE = {"low": TIPPED, "right": TIPPED, "high": TIPPED}
TOLERANCE |= {name + end: TIPPED | {"atol": 0.15} for name in ("lost", "growth") for end in ENDS}


def data(lab):
    """right (term, facts) with its interval; of what the cuts lose, lost (cut, facts) and growth (cut), few to many."""
    size = lambda text: len(lab.encode(text))  # noqa: E731
    draws = {load: [random.Random(f"{n} {load}") for n in range(QUESTIONS)] for load in LOADS}
    asked = {load: [questions.recall(draw, ROOM, size, facts=load) for draw in row] for load, row in draws.items()}
    cuts = {WHOLE: (), NO_A: lab.spec.attention_layers, NO_D: lab.spec.deltanet_layers}
    right = {term: _right(lab, asked, cut, FEWER if term == NO_D else QUESTIONS) for term, cut in cuts.items()}
    ends = np.array([[stats.wilson(int(row.sum()), row.size) for row in rows] for rows in right.values()])
    shares = np.array([rows.mean(-1) for rows in right.values()]), ends[..., 0], ends[..., 1]
    variables = dict(zip(("right", "low", "high"), ((("term", "facts"), of, "right") for of in shares), strict=True))
    for cut in (NO_A, NO_D):
        lost = xarray.DataArray(right[WHOLE][:, : right[cut].shape[1]] - right[cut], dims=("facts", "sample"))
        for name, of in (("lost", lost), ("growth", lost[-1] - lost[0])):
            for end, values in zip(ENDS, (of.mean("sample"), *stats.t_interval(of)), strict=True):
                variables.setdefault(name + end, (("cut", *values.dims), [], LOST))[1].append(values.values)
    coords = {"term": list(cuts), "cut": [NO_A, NO_D], "facts": ("facts", list(LOADS), "facts in the prompt")}
    sample = f"{QUESTIONS} questions at each load, {FEWER} of them without D mixers; seeds 0 to {QUESTIONS - 1}"
    interval = "95 %, Wilson for shares, Student's t over questions for what is lost"
    facts = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    stacked = {name: (dims, np.array(values), quantity) for name, (dims, values, quantity) in variables.items()}
    return label(stacked, coords=coords, attrs=facts | {"reading": "edit.ablate"}).assign(chance=exam.COLOUR)


def _right(lab, asked, cut, count):
    """Right answers [load, question], 1 or 0."""
    with lab.edit(*edit.ablate(cut)):
        return np.array([exam.answers(lab, row[:count])[0].float().numpy() for row in asked.values()])


def claim(ds):
    """Little is lost with few facts and much with many."""
    few, some, many = (int(load) for load in ds.facts.values[[0, 1, -1]])
    right = lambda term, load: float(ds.right.sel(term=term, facts=load))  # noqa: E731
    ends = lambda name, at: tuple(float(ds[name + end].sel(cut=NO_A, **at)) for end in ENDS)  # noqa: E731
    grown, *growth = ends("growth", {})
    lost, *loss = ends("lost", {"facts": many})
    soon, *sooner = ends("lost", {"facts": some})
    held = [float(ds[end].sel(term=NO_A, facts=few)) for end in ("low", "high")]
    whole = ", ".join(f"{right(WHOLE, load):.0%}" for load in (few, some, many))
    sentence = (
        f"Without attention nano gets {right(NO_A, few):.0%} right with {few} facts, {right(NO_A, some):.0%} with "
        f"{some}, {right(NO_A, many):.0%} with {many}; with it {whole}"
    )
    of_few = f"right without attention, {few} facts"
    return Claim(
        sentence,
        [
            Part(f"share lost at {many} facts less that at {few}", grown, ">", 0, "no growth", tuple(growth)),
            Part(f"share lost at {some} facts", soon, ">", 0, "nothing lost", tuple(sooner)),
            Part(f"share lost at {many} facts", lost, ">", 0, "nothing lost", tuple(loss)),
            Part(of_few, right(NO_A, few), ">", float(ds.chance), "guessing", tuple(held)),
        ],
    )


def controls(ds):
    """The other kind taken away; nothing taken away."""
    return {
        "the D mixers taken away instead": _as_without_a(ds, NO_D),
        "nothing taken away": _as_without_a(ds, WHOLE),
    }


def _as_without_a(ds, term):
    """Numbers of another model in the place of those without attention."""
    other = ds.copy(deep=True)
    for name in ("right", "low", "high"):
        other[name].loc[{"term": NO_A}] = ds[name].sel(term=term)
    for name in (quantity + end for quantity in ("lost", "growth") for end in ENDS):
        other[name].loc[{"cut": NO_A}] = ds[name].sel(cut=term) if term in ds.cut else 0.0
    return other


def draw(ds):
    """Three lines over the load, with intervals and chance."""
    levels = {"guessing": float(ds.chance)}
    fig = plot.lines(
        ds, "right", x="facts", color="term", interval=("low", "high"), levels=levels, title=claim(ds).title
    )
    return fig.update_yaxes(title={"text": "share of right answers"})
