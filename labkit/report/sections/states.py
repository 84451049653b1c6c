"""The recurrent states of the Gated DeltaNet layers: what heads keep and write, what is left, how full, who is read."""

import xarray

from labkit import deltanet, draw
from labkit.claims import Claim, Part
from labkit.deltanet.recompute import SEAMS
from labkit.report.section import Section, averaged, place, pooled
from labkit.report.task import fits, needs


def _applies(task):
    return needs(task, "deltanet") or fits(task)


def _layers(task, read):
    """`read(run, layer)` of each DeltaNet layer, one after the other, along a first axis `layer`."""
    parts = []
    for layer in task.spec.deltanet_layers:
        run = task.run(layers=[layer], seams=task.spec.having("deltanet", SEAMS))
        parts.append(read(run, layer).drop_vars("layer", errors="ignore"))
    return _stacked(task, parts)


def _stacked(task, parts):
    whole = xarray.concat(parts, xarray.Variable("layer", list(task.spec.deltanet_layers)), combine_attrs="override")
    return whole.assign_attrs(layer=list(task.spec.deltanet_layers), parity=max(part.attrs["parity"] for part in parts))


def _both(task):
    """(means over tokens, means over heads) of one walk through every layer."""
    over, names = [], ["keep", "write", "surprise"]

    def read(run, layer):
        ds = deltanet.memory(run, layer=layer, tokens=[-1])
        over.append(pooled(averaged(ds, ["surprise", "state_norm"], "head"), "token").drop_vars("layer"))
        return averaged(ds, names, "token")

    return _layers(task, read), _stacked(task, over)


def _memory(task):
    return task.once("memory", _both)[0]


def _memory_said(ds):
    (low, at), (high, to) = place(ds.keep, highest=False), place(ds.keep, highest=True)
    return f"Of a state, heads keep {low:.3f} ({at}) to {high:.3f} ({to}) at a token, on average"


def _surprise(task):
    return task.once("memory", _both)[1]


def _surprise_said(ds):
    most, where = place(ds.surprise, highest=True)
    return f"States foresee least of a value at {where}: the error is {most:.2f} of its norm, mean over heads"


def _survival(task):
    def read(run, layer):
        ds = deltanet.survival(run, layer=layer, token=-1)
        return pooled(averaged(ds, ["survival", "decay_only"], "head"), "source")

    return _layers(task, read)


def _survival_said(ds):
    mean, alone = float(ds.survival.mean()), float(ds.decay_only.mean())
    return f"At the last token {mean:.2f} of a stored key is left, mean over all; decay alone would leave {alone:.2f}"


def _spectrum(task):
    def read(run, layer):
        ds = deltanet.spectrum(run, layer=layer, tokens=[-1])
        return ds[["effective_rank", "stable_rank", "state_norm"]].isel(token=0, drop=True)

    return _layers(task, read).assign_attrs(most=min(task.spec.dk, task.spec.dv))


def _spectrum_said(ds):
    rank, where = place(ds.effective_rank, highest=True)
    return f"The fullest state has an effective rank of {rank:.1f} of {ds.attrs['most']} ({where})"


def _spectrum_claim(ds):
    highest = float(ds.effective_rank.max())
    part = Part("largest effective rank of a head", highest, "<", ds.attrs["most"] / 2, "half of what a state can hold")
    return Claim("No state is more than half full after this prompt", [part])


def _implied(task):
    def read(run, layer):
        ds = deltanet.implied_row(run, layer=layer, token=-1)
        made = ds[["weight"]].assign(size=abs(ds.weight).assign_attrs(ds.weight.attrs | {"scale": "positive"}))
        return pooled(made, "source", total=("weight", "size"), most=128)

    made = _layers(task, read)
    return made.drop_vars([name for name in ("token", "token_text") if name in made.coords])


def _implied_said(ds):
    weight, where = place(ds.weight, highest=True)
    return f"The largest weight with which the last token reads an earlier one is {weight:.2f} ({where})"


SECTIONS = [
    Section(
        "memory",
        "states",
        "What does each head keep, and what does it write?",
        "Left the share of its state that a head keeps at a token (decay α), right how strongly it writes (β): means "
        "over the prompt, a row for every Gated DeltaNet layer, a column for every value head.",
        _memory,
        lambda ds, title: draw.maps((ds, "keep", "kept: α"), (ds, "write", "written: β"), title=title),
        _memory_said,
        applies=_applies,
    ),
    Section(
        "surprise",
        "states",
        "Which tokens does a state not foresee?",
        "Before it writes, a head recalls what its state holds for the token's key. The picture is the norm of "
        "its error as a share of the value's, mean over heads: 0 is foreseen, 1 is new.",
        _surprise,
        lambda ds, title: draw.heatmap(ds, "surprise", hover=("state_norm",), title=title),
        _surprise_said,
        applies=_applies,
    ),
    Section(
        "survival",
        "states",
        "What is left of each token's key at the end?",
        "For every token that was written, the share of its key that the state still answers for at the last "
        "token, mean over heads. Decay takes from all alike; later tokens erase what lies in their keys' "
        "direction.",
        _survival,
        lambda ds, title: draw.heatmap(ds, "survival", hover=("decay_only",), title=title),
        _survival_said,
        applies=_applies,
    ),
    Section(
        "spectrum",
        "states",
        "How full is each state?",
        "The effective rank of every head's state at the last token: how many directions it uses, counted by the "
        "entropy of its singular values.",
        _spectrum,
        lambda ds, title: draw.heatmap(ds, "effective_rank", hover=("stable_rank", "state_norm"), title=title),
        _spectrum_said,
        _spectrum_claim,
        applies=_applies,
    ),
    Section(
        "implied",
        "states",
        "What does the last token read from the states?",
        "The exact weight of every earlier token in the read of the last one, by head; the slider chooses the layer. "
        "Weights may be negative and need not sum to 1: a state erases as well.",
        _implied,
        lambda ds, title: draw.frames(ds, "weight", along="layer", title=title),
        _implied_said,
        applies=_applies,
    ),
]
