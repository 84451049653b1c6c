"""A Gated DeltaNet head and a softmax head, read on one scale of tokens: which earlier value does each token take?

Left, the exact implied attention of one value head of a DeltaNet layer: `A_tj` is the weight of token j's value in
what the head reads at token t. It is signed, and its rows do not sum to one. Right, the softmax map of the next
attention layer times its mean output gate: what is left of the attention once the gate has spoken. The prompt states
six facts and asks for four of them; the heads shown are those that put most weight on the right values.

Look along the rows of the questions, the last four keys: in a head that recalls, the cell under the value that
belongs to the key stands out. A map whose question rows were as flat as the others would refute that these heads
recall.

Source: Gated DeltaNet, arXiv 2412.06464, section 3; output gate, arXiv 2505.06708; exactness is checked against the
model's own reads.
"""

from labkit import attention, deltanet, draw

PROMPT = " fox red whale blue crow green lion gold bear black wolf white crow green fox red wolf white whale"
ASKED = {12: 5, 14: 1, 16: 11, 18: 3}  # token of a question: token that holds its answer
LAYERS = (6, 7)  # a DeltaNet layer and the attention layer behind it


def data(lab):
    """implied and gated (token, source) of the head of each layer that answers best."""
    run = lab.trace(PROMPT, layers=LAYERS)
    implied = deltanet.implied_attention(run, layer=LAYERS[0])
    pattern = attention.pattern(run, layer=LAYERS[1])
    gated = (pattern.weight * pattern.gate).assign_attrs(pattern.weight.attrs, symbol="σ(g)·P")
    left, right = best(implied.weight, "head"), best(gated, "query_head")
    found = implied.drop_vars("weight").drop_dims("head").assign(implied=left, gated=right)
    return found.assign_coords(head=left["head"], query_head=right["query_head"])


def best(maps, axis):
    """The head whose questions look hardest at their answers."""
    score = sum(maps.sel(token=asked, source=answer) for asked, answer in ASKED.items())
    return maps.isel({axis: int(abs(score).argmax())})


def draw_(ds):
    left = f"D layer {LAYERS[0]}, head {int(ds['head'])}: exact implied attention"
    right = f"A layer {LAYERS[1]}, query head {int(ds.query_head)}: gated softmax"
    title = "Both kinds of layer look from a key back to its value"
    return draw.maps((ds, "implied", left), (ds, "gated", right), title=title)
