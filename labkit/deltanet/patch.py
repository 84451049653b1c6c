"""Which heads hold a fact: swap one head's state for that of another prompt, go on, and see what is said.

Two prefixes that differ in one fact (the clean one states what the question asks for, the other something else) are
read once each. For every layer and head a branch forks from the other prefix's snapshot, takes that one state from
the clean one, and reads the suffix: T + N·s token passes instead of N·(T + s). All branches of a batch run together;
keys and values are shared. Activation patching: arXiv 2404.15255; here of recurrent states, which propagates.
"""

import torch

from labkit.errors import InputError, LayerError
from labkit.notation import label, select


@torch.no_grad()
def patch_states(lab, clean, other, suffix, *, score, layers=None, heads=None, window=False, batch=64):
    """The effect of each head's state.

    Args:
        lab: `Lab`.
        clean, other: two prefixes, text or ids.
        suffix: what follows both, text or ids; the answer is what the model says after it.
        score: `(logits [branch, vocab]) -> [branch]`, or a pair (right, wrong) of token ids, whose logit difference is
            taken.
        layers: DeltaNet layers; None for all. heads: value heads; None for all.
        window: also take the clean convolution window of the layer, with every head.
        batch: branches that run together.

    Returns:
        Dataset: `score` (layer, head); `effect`, the share of the way from `other` (0) to `clean` (1) that the one
        state goes; scores of the two unpatched prompts in `attrs["clean"]` and `attrs["other"]`.

    Raises:
        InputError: an empty part, a layer or head out of range. LayerError: a layer without a state.
    """
    spec = lab.spec
    layers = list(spec.deltanet_layers) if layers is None else select(layers, spec.layers, "layer")
    if wrong := [layer for layer in layers if spec.kind(layer) != "deltanet"]:
        raise LayerError(
            "only Gated DeltaNet layers have a state",
            got=wrong,
            expected=list(spec.deltanet_layers),
            hint="edit.swap at the seams 'k' and 'v' patches an attention layer",
        )
    heads = select(heads, spec.heads, "head")
    sets = [[(layer, head)] for layer in layers for head in heads]
    found, effect, ends = _swept(lab, clean, other, suffix, score, sets, window, batch)
    facts = {"model": lab.name, "reading": "deltanet.patch_states"} | ends
    shape = len(layers), len(heads)
    values = {"score": (("layer", "head"), found.view(shape)), "effect": (("layer", "head"), effect.view(shape))}
    return label(values, coords={"layer": layers, "head": heads}, attrs=facts)


@torch.no_grad()
def patch_together(lab, clean, other, suffix, *, score, sets, window=False, batch=64):
    """The effect of several heads' states at once, as `patch_states` has it for one.

    Args:
        sets: sets of places, each a list of (layer, head) whose states are swapped in the same branch. A set and the
            set of all other heads say whether the first is enough for the answer, and whether the answer needs it.

    Returns:
        Dataset: `score` and `effect` over step, one per set.

    Raises:
        InputError: a place that is no head with a state.
    """
    known = {(layer, head) for layer in lab.spec.deltanet_layers for head in range(lab.spec.heads)}
    sets = [[tuple(place) for place in places] for places in sets]
    if wrong := [place for places in sets for place in places if place not in known]:
        raise InputError("no such (layer, head) with a state", got=wrong, expected=f"layers {lab.spec.deltanet_layers}")
    found, effect, ends = _swept(lab, clean, other, suffix, score, sets, window, batch)
    facts = {"model": lab.name, "reading": "deltanet.patch_together"} | ends
    values = {"score": (("step",), found), "effect": (("step",), effect)}
    return label(values, coords={"step": range(len(sets))}, attrs=facts)


def _swept(lab, clean, other, suffix, score, sets, window, batch):
    """(score and effect of every set [branch], scores of the two unpatched prompts)."""
    judge = _difference(*score) if isinstance(score, tuple | list) else score
    suffix = lab.encode(suffix)
    snaps = [_read(lab, prefix) for prefix in (clean, other)]
    ends = [float(judge(_branches(lab, snap, suffix, 1, ()))[0]) for snap in snaps]
    scores = []
    for first in range(0, len(sets), batch):
        chosen = sets[first : first + batch]
        swaps = [(row, *place) for row, places in enumerate(chosen) for place in places]
        scores.append(judge(_branches(lab, snaps[1], suffix, len(chosen), swaps, snaps[0], window)).float().cpu())
    found, span = torch.cat(scores), ends[0] - ends[1]
    effect = (found - ends[1]) / span if span else found * float("nan")
    return found, effect, {"clean": ends[0], "other": ends[1]}


def _difference(right, wrong):
    if right == wrong:
        raise InputError("the right and the wrong answer are the same token", got=right)
    return lambda logits: logits[:, right] - logits[:, wrong]


def _read(lab, prefix):
    cache = lab.cache()
    lab.trace(prefix, layers=[0], keep=["resid_pre"], cache=cache)
    return lab.snapshot(cache)


def _branches(lab, snap, suffix, n, swaps, source=None, window=False):
    """Logits [branch, vocab] after the suffix, from n branches of a snapshot with some states swapped."""
    stack = snap.stacked(n)
    for row, layer, head in swaps:
        stack.state[layer][row, head] = source.state[layer][0, head]
        if window:
            stack.conv[layer][row] = source.conv[layer][0]
    ids = suffix[None].expand(n, -1).to(lab.device)
    return lab.model(input_ids=ids, past_key_values=lab.restore(stack), logits_to_keep=1).logits[:, -1].float()
