"""MLPs with experts: which ones the router of a layer chose, how they are weighted, and how evenly they are used.

    run = lab.trace("red fox, blue whale")
    experts.chosen(run, layer=3)                                   # expert and weight of every choice of every token
    experts.load(run, layer=[0, 1, 2, 3])                          # share of each expert, and what an even router gives
    experts.load(run, layer=3, segments=["word" if t.isalpha() else "sign" for t in run.tokens])

A choice is changed at the seam `router`, whose logits decide: `edit.add("router", layer=3, heads=[7], vector=-1e4)`
takes expert 7 away, and the weights of the chosen ones follow; the seam `routed` holds these weights.

In this folder: `routing` (what the router computes, proven), `readings` (`chosen`, `load`).
"""

from labkit.experts.readings import chosen, load

__all__ = ["chosen", "load"]


def __dir__():
    return sorted(__all__)
