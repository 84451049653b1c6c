"""Qwen-Scope: one `layer{n}.sae.pt` a layer, `{W_enc [feature, channel], W_dec [channel, feature], b_enc, b_dec}`.

Of the stream after the layer; b_dec is not subtracted before encoding. How many features are active stands in the name
of the repository alone, `SAE-Res-Qwen3.5-27B-W80K-L0_100`: 80 · 1,024 features, 100 active. What is below 0 among the
largest is 0, as in SAELens (`qwen_scope_sae_huggingface_loader`); the model cards keep it, which differs only where
fewer than k pre-activations are positive. Qwen-Scope: arXiv 2605.11887.
"""

import pathlib
import re

from labkit.errors import CheckpointError, InputError
from labkit.features.dictionary import Dictionary
from labkit.features.files import admitted, only, pickled, settled, size, tensor
from labkit.features.kinds import TopK
from labkit.features.place import Place

FILE = re.compile(r"layer(\d{1,4})\.sae\.pt")
REPOSITORY = re.compile(r"SAE-Res-(?P<model>[\w.-]+)-W(?P<width>\d{1,5})K-L0_(?P<k>\d{1,6})")
NAMES = ("W_enc", "W_dec", "b_enc", "b_dec")


def find(path: pathlib.Path, place: Place) -> pathlib.Path | None:
    """The file, if there is one of this program.

    Raises:
        InputError: a folder of several layers, and none chosen.
    """
    if path.is_dir():
        layers = sorted(int(found[1]) for file in path.iterdir() if (found := FILE.fullmatch(file.name)))
        if not layers:
            return None
        if place.layer not in layers:
            hint = f"features.open(path, lab, layer={layers[0]})"
            raise InputError("one layer of this folder", got=f"layer={place.layer!r}", expected=str(layers), hint=hint)
        return path / f"layer{place.layer}.sae.pt"
    return path if FILE.fullmatch(path.name) else None


def read(path: pathlib.Path, place: Place) -> Dictionary:
    """The dictionary in the file.

    Raises:
        CheckpointError, InputError, BudgetError: see `features.open`.
    """
    content, name = pickled(path), path.name
    only(content, NAMES, name)
    encoder = tensor(content, "W_enc", (None, None), name)
    features, channels = encoder.shape
    shapes = {"W_enc": (features, channels), "W_dec": (channels, features), "b_enc": (features,), "b_dec": (channels,)}
    weights = {part: tensor(content, part, shape, name) for part, shape in shapes.items()}
    folder = next((found for part in reversed(path.absolute().parts[:-1]) if (found := REPOSITORY.search(part))), None)
    if folder is not None and int(folder["width"]) * 1024 != features:
        got, expected = f"{features:,} features", f"{int(folder['width']) * 1024:,}, as {folder[0]} says"
        raise CheckpointError(f"{name} is not of this repository", got=got, expected=expected)
    k = place.count(None if folder is None else int(folder["k"]), features, name)
    layer = place.agreed("layer", int(FILE.fullmatch(name)[1]), place=name)
    seam = place.agreed("seam", "resid_post", place=name)
    place.check_width(channels, layer, seam, name)
    facts = {} if folder is None else {"trained on": folder["model"]}
    admitted({part: size(value) for part, value in weights.items()}, place.lab, name)
    weights, digest = settled(weights, place.lab, name, mapped=True)
    weights["W_dec"] = weights["W_dec"].T
    title = name if folder is None else f"{folder[0]}/{name}"
    return Dictionary(title, "Qwen-Scope", layer, seam, TopK(k), facts, digest, weights=weights)
