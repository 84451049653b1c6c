"""Blocks of layers in the maps of a lens, and how much of them is that neighbours are alike.

    v_l(y) = J_lᵀ W_U[y]                    what layer l would have to hold for the lens to say y
    similarity of two layers                linear CKA of v over tokens y
    blocks                                  mean within three runs of layers - mean between, the best cut
    the distance null                       every similarity replaced by the mean over pairs as far apart

A matrix that falls off with distance alone has blocks too, by this measure: what counts is what is left above it.

Source: `geometry.py` and `controls.py` of m9h/jlens-lab; CKA: Kornblith et al., arXiv 1905.00414.
"""

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit import stats
from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.notation import Quantity, label
from labkit.plan import admit
from labkit.residual.branches import unembedded
from labkit.residual.lenses import Lens, fitting

if TYPE_CHECKING:
    import xarray

NAME = "residual.lens_geometry"
LEAST, SHARE = 2, 0.15  # layers of a block, at least: a lone layer is a block by itself
ALIKE = Quantity("CKA", "similarity of what two layers hold for the same tokens", "fraction", "fraction", NAME)
BLOCKS = Quantity("ΔCKA", "similarity within blocks of layers less that between them", "1", "signed", NAME)


@public
@torch.no_grad()
def lens_geometry(by: Lens, lab: Lab, *, vocab: int = 256, samples: int = 8, seed: int = 0) -> "xarray.Dataset":
    """Do the layers of a lens fall into blocks, or are neighbours merely more alike than layers far apart?

    Args:
        by: a fitted lens of at least six layers. lab: of its model, for the unembedding.
        vocab: tokens that a similarity is over. samples: of so many tokens, none twice. seed: that draws them.

    Returns:
        Dataset: `similarity` and `by_distance` (layer, other_layer), means over samples; `blocks` and `null` (sample),
        of either. The attributes `cuts` (first layers of the second and third block), `reproduced` (share of the blocks
        that the null has), `low`, `high` (95 % interval of what is left, Student's t) and `verdict`.

    Raises:
        InputError: fewer than six layers, more tokens than the vocabulary has, another model's lens. BudgetError.
    """
    facts = fitting(by, lab, NAME)
    vocab, samples = whole(vocab, "vocab", least=3), whole(samples, "samples", least=2)
    seed, layers = whole(seed, "seed", least=0), by.layers
    if len(layers) < 3 * LEAST:
        raise InputError(f"{NAME}: too few layers for three blocks", got=len(layers), expected=f"{3 * LEAST} or more")
    if vocab * samples > lab.spec.vocab:
        got, expected = f"{samples} times {vocab}", f"at most {lab.spec.vocab:,} tokens"
        raise InputError(f"{NAME}: more tokens than there are", got=got, expected=expected)
    parts = {
        "similarities": 8 * len(layers) * vocab**2,
        "rows and a map": 8 * lab.spec.hidden * (lab.spec.hidden + 2 * vocab),
    }
    admit(NAME, vocab * samples, parts, lab.device, [("vocab=64", sum(parts.values()) * 64 // vocab)])
    drawn = torch.randperm(lab.spec.vocab, generator=torch.Generator().manual_seed(seed))[: vocab * samples]
    alike = np.stack([_alike(by, unembedded(lab, part.tolist()).float()) for part in drawn.split(vocab)])
    null = np.stack([by_distance(matrix) for matrix in alike])
    blocks, falls = (np.array([_blocks(matrix)[0] for matrix in several]) for several in (alike, null))
    axes = ("layer", "other_layer")
    variables = {
        "similarity": (axes, alike.mean(0), ALIKE),
        "by_distance": (axes, null.mean(0), ALIKE),
        "blocks": (("sample",), blocks, BLOCKS),
        "null": (("sample",), falls, BLOCKS),
    }
    cuts = [layers[cut] for cut in _blocks(alike.mean(0))[1]]
    attrs = {
        "model": lab.name,
        "reading": NAME,
        "cuts": cuts,
        "reproduced": float(falls.mean() / blocks.mean()),
    } | facts
    made = label(variables, coords=dict.fromkeys(axes, layers) | {"sample": range(samples)}, attrs=attrs)
    low, high = (float(end) for end in stats.t_interval(made.blocks - made.null))
    said = f"layers as far apart are as alike: {attrs['reproduced']:.0%} of the blocks"
    said += f"; left {float(blocks.mean() - falls.mean()):+.3f} [{low:+.3f} to {high:+.3f}]"
    verdict = said if low > 0 else f"no blocks beyond distance: {said}"
    return made.assign_attrs(low=low, high=high, verdict=verdict)


def _alike(by, rows):
    """[layer, layer] of linear CKA between layers, over tokens whose unembedding rows are given."""
    grams = []
    for layer in by.layers:
        held = rows @ by.matrix(layer, rows)
        held = held - held.mean(0)
        gram = held @ held.T  # ‖XᵀY‖² = ⟨X Xᵀ, Y Yᵀ⟩
        grams.append((gram / gram.norm()).flatten())
    grams = torch.stack(grams)
    return (grams @ grams.T).cpu().double().numpy()


def by_distance(alike: np.ndarray) -> np.ndarray:
    """The matrix [layer, layer] with every entry replaced by the mean over the pairs of layers as far apart."""
    away = np.abs(np.subtract.outer(range(len(alike)), range(len(alike))))
    return np.array([alike[away == distance].mean() for distance in range(len(alike))])[away]


def _blocks(alike):
    """(similarity within three runs of layers less that between them, (starts of the second and third)), the best."""
    count = len(alike)
    least = max(LEAST, round(SHARE * count))
    best = (-np.inf, None)
    for cuts in itertools.combinations(range(least, count - least + 1), 2):
        if cuts[1] - cuts[0] >= least:
            block = np.searchsorted(cuts, np.arange(count), side="right")
            within = np.equal.outer(block, block)
            best = max(best, (alike[within].mean() - alike[~within].mean(), cuts))
    return best
