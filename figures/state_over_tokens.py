"""A state is written key by key: each new fact adds a rank-one pattern, and a repeated key changes one in place

The recurrent state of one value head after every token, rows the 24 key channels and columns the 32 value channels.
Move the slider through the tokens of the prompt; it needs no running model. The head is the one with the longest memory
in its layer.

Look at what changes from one token to the next: the difference of two states is one column of keys times one row of
values. A state that faded as a whole between facts would refute the title for this head.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10.
"""

import numpy as np

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red. whale blue. crow green. fox gold."
LAYER = 4


def data(lab):
    """state (token, key, value) of one head."""
    run = lab.trace(PROMPT)
    ds = deltanet.memory(run, layer=LAYER, tokens=range(len(run)))
    head = int(ds.keep.mean("token").argmax("head"))
    states = ds.state.isel(head=head).rename(step="token").drop_vars("state_token")
    states = states.assign_coords(token=ds.token, token_text=ds.token_text).to_dataset()
    change = states.state.diff("token").isel(token=-2)
    power = np.linalg.svd(change.values, compute_uv=False) ** 2
    return states.assign(share=float(power[0] / power.sum())).assign_attrs(ds.attrs)


def draw(ds):
    """One map with a slider over the tokens, the last one shown first."""
    where = f"Layer {ds.attrs['layer']}, head {int(ds['head'])}"
    title = f"{where}: {float(ds.share):.0%} of the change at the last value is one pattern"
    return plot.frames(ds, "state", along="token", start=-1, x="value", y="key", title=title)
