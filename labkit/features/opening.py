"""The one door to dictionaries on disk: which program wrote it, and whether it fits the model and the place."""

import math
import pathlib
from collections.abc import Sequence

import torch

from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import CheckpointError, InputError
from labkit.features import qwen_scope, saelens, writesae
from labkit.features.atoms import Atoms
from labkit.features.dictionary import Dictionary
from labkit.features.files import settled
from labkit.features.kinds import TopK
from labkit.features.place import Place
from labkit.lab import Lab

KNOWN = "layer{n}.sae.pt, cfg.json with sae_weights.safetensors, or best.pt of WriteSAE"


@public
def open(
    path: str | pathlib.Path,
    lab: Lab,
    *,
    layer: int | None = None,
    seam: str | None = None,
    head: int | None = None,
    k: int | None = None,
) -> Dictionary | Atoms:
    """A sparse autoencoder that somebody else trained, on the lab's device, in the precision of its file.

    Qwen-Scope: `layer{n}.sae.pt`, or its folder and `layer`; k is read from the name of the repository. SAELens: a
    folder with `cfg.json` and `sae_weights.safetensors`. WriteSAE: `best.pt`, or a folder with it.

    Args:
        layer, seam, head, k: where it sits and how many features are active, where the files do not say it.

    Raises:
        CheckpointError: no such files, damaged ones, or a kind that is not read (transcoders, crosscoders, ...).
        InputError: a place that the model does not have, of another width, or not what the files say.
        BudgetError: more than the device holds; raised before anything is loaded.
    """
    path, place = pathlib.Path(path), Place(lab, layer, seam, head, k)
    for reader in (saelens, qwen_scope, writesae):
        if (found := reader.find(path, place)) is not None:
            return reader.read(found, place)
    got = f"{path.name}: {'a folder without them' if path.is_dir() else 'a file of another kind'}"
    got = got if path.exists() else f"{path.name}: nothing there"
    raise CheckpointError("no dictionary that is read", got=got, expected=KNOWN)


@public
@torch.no_grad()
def of_matrix(
    matrix: torch.Tensor | Sequence,
    lab: Lab,
    *,
    layer: int,
    seam: str = "resid_post",
    k: int,
    mean: torch.Tensor | None = None,
) -> Dictionary:
    """A dictionary of given directions, each of them and its opposite a feature, of which the k largest are active.

    With the singular vectors of a stream it is the baseline that a trained dictionary must beat with as many active.

    Args:
        matrix: [direction, channel], brought to unit length. mean: [channel], taken off before; None for none.
        k: how many of the 2 · directions features are active.

    Raises:
        InputError: another width, a direction of length 0, numbers that are not finite, k out of range.
    """
    place = Place(lab, layer, seam, None, k)
    width = place.width(layer, seam)
    rows = torch.as_tensor(matrix).to(torch.promote_types(lab.dtype, torch.float32))
    mean = rows.new_zeros(width) if mean is None else torch.as_tensor(mean).to(rows, copy=True)
    if rows.ndim != 2 or rows.shape[1] != width or mean.shape != (width,):
        got = f"matrix {list(rows.shape)}, mean {list(mean.shape)}"
        raise InputError("directions of another width than the seam", got=got, expected=f"[direction, {width}]")
    norms = rows.norm(dim=-1, keepdim=True)
    if not bool(norms.isfinite().all()) or not bool(mean.isfinite().all()) or not math.prod(norms.shape):
        raise InputError("directions are finite numbers", got=f"{len(rows)} directions")
    if not bool((norms > 0).all()):
        raise InputError("a direction of length 0", got=(norms[:, 0] == 0).nonzero()[:, 0].tolist()[:5])
    rows = torch.cat([rows / norms, -rows / norms])
    k = whole(k, "k", least=1, most=len(rows))
    weights = {"W_enc": rows, "W_dec": rows.clone(), "b_enc": rows.new_zeros(len(rows)), "b_dec": mean}
    weights, digest = settled(weights, lab, "a matrix", mapped=False)
    name = f"{len(rows) // 2} directions"
    return Dictionary(name, "a matrix", layer, seam, TopK(k), {}, digest, weights=weights, centred=True)
