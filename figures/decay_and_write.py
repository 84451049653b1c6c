"""Every head has its own span of memory: some keep nearly all of their state at each token, some nearly nothing

Left, the decay gate α of every value head at every token: the share of the state that survives the step. Right, the
write strength β: how much of the error at this token is written. Both run from 0 to 1 and are properties of head and
token together; the slider changes the layer.

Look for rows: a dark row on the left is a head with a long memory, a pale one forgets within a token or two. Then look
for columns on the right, tokens at which many heads write. Rows of one shade in every layer would refute the title.

Source: Gated DeltaNet, arXiv 2412.06464, equation 10.
"""

from labkit import deltanet
from labkit import draw as plot

PROMPT = " fox red whale blue crow green fox gold lion pink whale black crow white fox"


def data(lab):
    """keep and write over (layer, head, token), all DeltaNet layers."""
    run = lab.trace(PROMPT)
    return deltanet.memory(run, layer=lab.spec.deltanet_layers, tokens=None)[["keep", "write"]]


def draw(ds):
    """Both gates side by side, with a slider over the layers."""
    spans = ds.keep.mean("token")
    title = f"Mean decay per head runs from {float(spans.min()):.2f} to {float(spans.max()):.2f}"
    return plot.maps((ds, "keep", "decay gate α"), (ds, "write", "write strength β"), slider="layer", title=title)
