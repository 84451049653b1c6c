"""Whose property is a gate: the head's or the token's?

Left, the decay gate α of every value head at every token of one prompt: the share of the state that survives the step.
Right, the write strength β: how much of the error at this token is written. The slider changes the layer. Above each,
how much of the gate's variance, over all heads of all layers and the tokens of a prompt, is between the means of heads;
the rest is between tokens of one head.

Look for rows of one shade: a head that keeps, or forgets, whatever it reads. Columns would be tokens at which all heads
write or forget. The control gives the readings of each token to the heads at random, so that no head has anything of
its own.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10.
"""

import numpy as np
import xarray

import figures
from figures._fact_prompts import stated
from figures._state_samples import average
from labkit import deltanet
from labkit import draw as plot
from labkit.claims import Claim, Part

PLACE = ("states", 40)
ORDER = (0, 1, 2, 0, 3, 1, 4, 5)
SEEDS = range(12)
GATES = {"keep": "decay gate α", "write": "write strength β"}


def data(lab):
    """keep, write (layer, head, token) of the first prompt; share, shuffled (gate, sample), of variance by head."""
    runs = [lab.trace(stated(seed, ORDER)) for seed in SEEDS]
    each = [deltanet.memory(run, layer=lab.spec.deltanet_layers, tokens=None)[list(GATES)] for run in runs]
    rng = np.random.default_rng(0)
    gates = [[ds[gate].values.reshape(-1, ds.sizes["token"]) for gate in GATES] for ds in each]
    facts = {"long_name": "variance between the means of heads", "units": "share", "symbol": "η²", "scale": "fraction"}
    variables = {
        "share": (("gate", "sample"), np.transpose([[_by_head(x) for x in pair] for pair in gates]), facts),
        "shuffled": (
            ("gate", "sample"),
            np.transpose([[_by_head(rng.permuted(x, axis=0)) for x in pair] for pair in gates]),
            facts,
        ),
    }
    sample = f"{len(SEEDS)} prompts of {len(runs[0])} tokens, seeds 0 to 11; the first is shown"
    interval = f"95 %, Student's t over {len(SEEDS)} prompts"
    made = figures.made(lab.name, vocabulary=figures.vocabulary(lab), sample=sample, interval=interval)
    return xarray.merge([each[0], xarray.Dataset(variables, {"gate": list(GATES)})]).assign_attrs(each[0].attrs | made)


def _by_head(readings):
    """Variance of the heads' means over that of all readings [head, token]."""
    return readings.mean(1).var() / readings.var()


def claim(ds):
    """More than half of the variance of both, and more of the decay's."""
    keep, write = (ds.share.sel(gate=gate, drop=True) for gate in GATES)
    (of_keep, keeping), (of_write, writing), (gap, between) = map(average, (keep, write, keep - write))
    return Claim(
        f"Which head it is makes {of_keep:.0%} of the variance of decay α, {of_write:.0%} of write strength β",
        [
            Part("variance of α between heads", of_keep, ">", 1 - of_keep, "between tokens of one head", keeping),
            Part("variance of β between heads", of_write, ">", 1 - of_write, "between tokens of one head", writing),
            Part("share of α's variance less that of β's", gap, ">", 0, "the same share", between),
        ],
    )


def controls(ds):
    """No head has anything of its own; no gate either."""
    swapped = ds.share.assign_coords(gate=list(GATES)[::-1])
    return {
        "readings of each token shuffled over heads, seed 0": ds.assign(share=ds.shuffled),
        "the two gates exchanged": ds.assign(share=swapped.sel(gate=ds.gate)),
    }


def draw(ds):
    """Both gates side by side, with a slider over the layers."""
    shares = {gate: float(ds.share.sel(gate=gate).mean()) for gate in GATES}
    panels = [(ds, gate, f"{name}: {shares[gate]:.0%} of its variance by head") for gate, name in GATES.items()]
    return plot.maps(*panels, slider="layer", title=claim(ds).title)
