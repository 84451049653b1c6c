"""The recurrent states of the Gated DeltaNet layers: what heads keep and write, what is left, how full, who is read."""

import numpy as np
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
    over, names, peaks = [], ["keep", "write", "surprise"], []

    def read(run, layer):
        ds = deltanet.memory(run, layer=layer, tokens=[-1])
        of_heads = averaged(ds, ["surprise", "state_norm"], "head")
        most, where = place(of_heads.surprise, highest=True)  # of one token, before blocks are made
        peaks.append((most, f"layer {layer}, {where}"))
        over.append(pooled(of_heads, "token").drop_vars("layer"))
        return averaged(ds, names, "token")

    by_head = _layers(task, read)
    return by_head, _stacked(task, over).assign_attrs(zip(("most", "where"), max(peaks), strict=True))


def _memory(task):
    return task.once("memory", _both)[0]


def _memory_said(ds):
    (low, at), (high, to) = place(ds.keep, highest=False), place(ds.keep, highest=True)
    return f"Of a state, heads keep {low:.3f} ({at}) to {high:.3f} ({to}) at a token, on average"


def _surprise(task):
    return task.once("memory", _both)[1]


def _surprise_said(ds):
    most, where = ds.attrs["most"], ds.attrs["where"]
    return f"States foresee least of a value at {where}: the error is {most:.2f} of its norm, mean over heads"


def _survival(task):
    means = []

    def read(run, layer):
        ds = averaged(deltanet.survival(run, layer=layer, token=-1), ["survival", "decay_only"], "head")
        means.append([float(ds.survival.mean()), float(ds.decay_only.mean())])
        return pooled(ds, "source")

    made = _layers(task, read)
    left, alone = np.mean(means, axis=0).tolist()
    return made.assign_attrs(left=left, alone=alone)


def _survival_said(ds):
    left, alone = ds.attrs["left"], ds.attrs["alone"]
    return f"At the last token {left:.2f} of a stored key is left, mean over all; decay alone would leave {alone:.2f}"


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
    peaks = []

    def read(run, layer):
        ds = deltanet.implied_row(run, layer=layer, token=-1)
        if ds.sizes["source"] > 1:
            most, where = place(ds.weight.isel(source=slice(-1)), highest=True)  # of one token, before blocks are made
            peaks.append((most, f"layer {layer}, {where}"))
        made = ds[["weight"]].assign(size=abs(ds.weight).assign_attrs(ds.weight.attrs | {"scale": "positive"}))
        return pooled(made, "source", total=("weight", "size"), most=128)

    made = _layers(task, read)
    made = made.drop_vars([name for name in ("token", "token_text") if name in made.coords])
    return made.assign_attrs(zip(("most", "where"), max(peaks), strict=True)) if peaks else made


def _implied_said(ds):
    if "most" not in ds.attrs:
        return "A prompt of one token has no earlier one to read"
    most, where = ds.attrs["most"], ds.attrs["where"]
    return f"The largest weight with which the last token reads an earlier one is {most:.2f} ({where})"


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
