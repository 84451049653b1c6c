"""In nano the attention layer goes back for the answer, and the DeltaNet layer before it does not

Left, the exact implied attention of one value head of a Gated DeltaNet layer: `A_tj` is the weight of token j's value
in what the head reads at token t. It is signed, and its rows do not sum to one. Right, the softmax map of the next
attention layer times its mean output gate, which is what the gate lets through. The prompt states six facts and then
asks for four of them again. Of each layer the head is shown that puts most weight on the four answers.

Look along the rows of the last four keys. On the right the cell under the value that belongs to the key stands out;
on the left it does not, and the numbers above the maps say so. A DeltaNet head with as much weight on the answers as
the softmax head would refute the title; a model of other size or training may well share the work differently.

Source: Gated DeltaNet, arXiv 2412.06464, section 3; output gate, arXiv 2505.06708.
"""

from labkit import attention, deltanet
from labkit import draw as plot

PROMPT = " fox red whale blue crow green lion gold bear black wolf white crow green fox red wolf white whale"
ASKED = {12: 5, 14: 1, 16: 11, 18: 3}  # token of a question: token that holds its answer
DELTANET, ATTENTION = 2, 3


def data(lab):
    """implied and gated (token, source), each of the head named by the coordinates head and query_head."""
    run = lab.trace(PROMPT, layers=[DELTANET, ATTENTION])
    implied = deltanet.implied_attention(run, layer=DELTANET)
    pattern = attention.pattern(run, layer=ATTENTION)
    gated = (pattern.weight * pattern.gate).assign_attrs(pattern.weight.attrs | {"symbol": "σ(g)·P"})
    left = implied.weight.isel(head=int(abs(on_answers(implied.weight)).argmax("head")))
    right = gated.isel(query_head=int(on_answers(gated).argmax("query_head")))
    maps = {"implied": left.drop_vars("layer"), "gated": right.drop_vars("layer")}
    return implied.drop_dims("head").drop_vars("layer").assign(maps)


def on_answers(maps):
    """Mean weight that the four questions put on their answers."""
    return sum(maps.sel(token=asked, source=answer) for asked, answer in ASKED.items()) / len(ASKED)


def draw(ds):
    """Both maps side by side, the mean weight on the answers above each."""
    left = f"D layer {DELTANET}, head {int(ds['head'])}: {float(on_answers(ds.implied)):.2f} on the answers"
    right = f"A layer {ATTENTION}, query head {int(ds.query_head)}: {float(on_answers(ds.gated)):.2f} on the answers"
    title = "The attention layer goes back for the answer, the DeltaNet layer before it does not"
    return plot.maps((ds, "implied", left), (ds, "gated", right), title=title)
