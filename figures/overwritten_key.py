"""When a key is given a new value its old one can no longer be recalled, although the key decayed no faster

A state is asked, after every token, for the key of the fox. The first line says how well the answer agrees with the
first value (cosine), the second with the second value, from the token on that stored it. The head shown is the one in
which the second value takes most from the recall of the first.

Look at the step where the second value arrives: the first line falls within that one token, the second starts high.
Later facts about other keys move both lines less. A first line that falls slowly would mean decay, and refute the
title.

Source: Gated DeltaNet, arXiv 2412.06464, section 3.
"""

import xarray

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red. whale blue. crow green. lion gold. fox white. bear black. wolf pink. swan teal."
FIRST, SECOND = 1, 13  # tokens of the two values of the fox


def data(lab):
    """recall (term, token) of one head, named by the coordinates layer and head."""
    run = lab.trace(PROMPT)
    old = {layer: deltanet.forgetting(run, layer=layer, source=FIRST) for layer in lab.spec.deltanet_layers}
    kept = {layer: ds.recall.sel(token=SECOND - 1) - ds.recall.sel(token=SECOND + 1) for layer, ds in old.items()}
    layer = max(kept, key=lambda one: float(kept[one].max()))
    head = int(kept[layer].argmax("head"))
    new = deltanet.forgetting(run, layer=layer, source=SECOND, heads=head)
    pair = [old[layer].isel(head=head), new.isel(head=0)]
    curves = xarray.concat([ds.recall for ds in pair], "term", join="outer", coords="minimal", compat="override")
    curves = curves.assign_coords(term=["first value", "second value"]).assign_attrs(pair[0].recall.attrs)
    decay = float(pair[0].decay_only.sel(token=SECOND) / pair[0].decay_only.sel(token=SECOND - 1))
    texts = ("token", [run.tokens[t] for t in curves.token.values])
    held = curves.rename("recall").to_dataset().assign_coords(token_text=texts)
    return held.assign(decay=decay).assign_attrs(pair[0].attrs)


def draw(ds):
    """Two curves over the tokens."""
    first = ds.recall.sel(term="first value")
    before, after = float(first.sel(token=SECOND - 1)), float(first.sel(token=SECOND))
    where = f"Layer {ds.attrs['layer']}, head {int(ds['head'])}"
    title = (
        f"{where}: one token takes the old value from {before:.2f} to {after:.2f}; its decay is {float(ds.decay):.2f}"
    )
    return plot.lines(ds, "recall", x="token", color="term", title=title)
