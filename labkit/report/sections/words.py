"""What the model says next: read at every layer, and as the sum of what every branch adds to it."""

import numpy as np

from labkit import draw, residual
from labkit.claims import Claim, Part
from labkit.report.section import Section, place
from labkit.report.task import fits

LAST = 48  # tokens of the prompt's end that a lens is read at


def _lens(task):
    run = task.run(seams=["resid_post"])
    count = min(LAST, len(task))
    ds = residual.lens(run, task.lab, tokens=range(len(task) - count, len(task)), top=1)
    best = ds.text.isel(choice=0).values.astype(str)
    return (
        ds[["probability", "entropy", "divergence"]]
        .isel(choice=0, drop=True)
        .assign_coords(best_text=(("layer", "token"), best))
    )


def _lens_said(ds):
    nats, where = place(ds.divergence, highest=True)
    return f"Read out at every layer, the stream is furthest from the model's own words at {where}: {nats:.1f} nats"


def _answer(task):
    answer = task.answer
    ds = residual.lens(task.run(seams=["resid_post"]), task.lab, tokens=-1, of=[answer], top=1)
    made = ds[["answer_probability", "answer_rank", "entropy"]].isel(answer=0, drop=True)
    return made.assign_attrs(answer=task.said(answer)).drop_vars("token_text", errors="ignore")


def _answer_said(ds):
    last = float(ds.answer_probability[-1])
    first = np.flatnonzero(ds.answer_rank.values > 0)
    since = 0 if not len(first) else int(ds.layer[int(first[-1]) + 1]) if first[-1] + 1 < ds.sizes["layer"] else None
    words = "never" if since is None else f"from layer {since} on"
    answer = ds.attrs["answer"]
    return f"The likeliest next token is {answer!r} ({last:.2f}); read layer by layer it comes first {words}"


def _added(task):
    answer = task.answer
    run = task.run(seams=["resid_pre", "resid_post", "mixer_out", "mlp_out"])
    ds = residual.contributions(run, task.lab, of=[answer], tokens=-1).isel(answer=0, drop=True)
    kinds = [f"{layer} {task.spec.kind(layer)}" for layer in range(task.spec.layers)]
    ds = ds[["added", "size", "embedding", "logit"]].assign_coords(layer_text=("layer", kinds))
    return ds.drop_vars("token_text", errors="ignore").assign_attrs(answer=task.said(answer))


def _added_said(ds):
    most, where = place(ds.added, highest=True)
    logit, answer = float(ds.logit), ds.attrs["answer"]
    return f"Of the logit {logit:.2f} of {answer!r}, {most:.2f} nats are added by {where}: the most"


def _added_claim(ds):
    total = float(ds.added.sum() + ds.embedding)
    off = abs(total - float(ds.logit))
    return Claim(
        "What embedding, mixers and MLPs add is the logit",
        [Part("nats between the sum and the logit", off, "<", 1e-3 * max(abs(float(ds.logit)), 1.0), "a thousandth")],
    )


SECTIONS = [
    Section(
        "answer",
        "answer",
        "At which layer is the next word there?",
        "The stream after every layer at the last token is read out as if the model ended there (the logit lens). "
        "Early layers speak in another basis: a low value there does not say that nothing is known yet.",
        _answer,
        lambda ds, title: draw.lines(ds, "answer_probability", x="layer", title=title),
        _answer_said,
        applies=fits,
    ),
    Section(
        "contributions",
        "answer",
        "Which layers bring it there?",
        "What every mixer and every MLP adds to the logit of the likeliest next token, directly, with the last norm's "
        "scale as it was. What a branch does through later layers is no part of it.",
        _added,
        lambda ds, title: draw.bars(ds, "added", x="layer", color="term", title=title),
        _added_said,
        _added_claim,
        applies=fits,
    ),
    Section(
        "lens",
        "answer",
        "How far is each layer from what the model says?",
        f"At the last tokens (at most {LAST}) and after every layer: the divergence of what the stream would say there "
        "from what the model says in the end. Darker is further.",
        _lens,
        lambda ds, title: draw.heatmap(ds, "divergence", hover=("probability", "entropy"), title=title),
        _lens_said,
        applies=fits,
    ),
]
