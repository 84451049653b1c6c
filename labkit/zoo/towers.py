"""The image-text class of a family: its text layers under other names, beside an image tower.

The loading and its checks take the record of `with_tower` where they take the family's own for texts. What readings use
stays the family's own: the seams are those of the text layers.
"""

import dataclasses
import pathlib

from labkit import spec as specs
from labkit.errors import BackendError, CheckpointError, InputError
from labkit.families import FAMILIES, Family
from labkit.pictures import processor
from labkit.spec import Spec, vision_parameters
from labkit.spec.documents import shown
from labkit.spec.memory import dtype_bytes
from labkit.zoo.settings import check_ids, read_json

TOWER = ("model.visual.", "visual.")
SIGNS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
# A tower of this family has these values and no others.
FIXED = {"hidden_act": "gelu_pytorch_tanh", "deepstack_visual_indexes": []}
FILES = ("preprocessor_config.json", "processor_config.json")


@dataclasses.dataclass(frozen=True)
class ImageText(Family):
    """The record of a family with its image-text class in the place of its text class.

    Attributes:
        text: the family's own record.
    """

    text: Family = None

    def place(self, stored: str) -> str | None:
        """The image-text model's name of a tensor in a checkpoint; None for what is not loaded."""
        if stored.startswith(TOWER):
            return stored if stored.startswith("model.") else f"model.{stored}"
        placed = self.text.place(stored)
        return placed if placed is None or not placed.startswith("model.") else self.text_prefix + placed[6:]


def with_tower(family: Family) -> Family:
    """The record that loads the image-text class."""
    own = {field.name: getattr(family, field.name) for field in dataclasses.fields(Family)}
    skipped = tuple(part for part in family.skipped if part not in TOWER)
    own |= dict(causal=family.conditional, skipped=skipped, unquantized=(*family.unquantized, "visual"))
    return ImageText(**own, text=family)


def check(spec: Spec) -> None:
    """Refuse a checkpoint without an image tower.

    Raises:
        InputError: of a text model.
    """
    if spec.vision is not None:
        return
    conditional = FAMILIES[spec.family].conditional
    raise InputError(
        "this checkpoint has no image tower",
        got=f"images=True, and {spec.name} reads texts alone",
        expected=f"a checkpoint of {conditional}" if conditional else "a family with image towers",
        hint="leave images out; pictures.graft(lab, folder) makes a small checkpoint to try pictures on",
    )


def tower_bytes(spec: Spec, dtype) -> int:
    """Bytes of the tower's weights, which no quantisation on the way in packs."""
    return vision_parameters(spec) * dtype_bytes(dtype)


def renaming(rules: dict[str, str], names, family: Family) -> dict[str, str]:
    """Rules of `names.renaming`, which are for the text class, for this one."""
    prefixed = all(name.startswith((family.text_prefix, *TOWER)) for name in names if name.startswith("model."))
    inside = r"^model\.(?!language_model\.|visual\.)"
    return rules if prefixed and not rules else rules | {inside: family.text_prefix}


def configuration(folder: pathlib.Path, spec: Spec, text, packed: dict | None = None):
    """transformers' configuration of the image-text class.

    Args:
        text: the checked one of the text model. packed: `quantization_config` of weights that are stored packed.

    Raises:
        CheckpointError: a setting of the tower that the family does not have, or signs that are no tokens.
    """
    config = read_json(folder, "config.json")
    vision = config["vision_config"]
    for name in (name for name in FIXED if vision.get(name) not in (None, FIXED[name])):
        got, expected = f"vision_config.{name} is {shown(vision[name])}", shown(FIXED[name])
        raise CheckpointError("an image tower of another kind", got=got, expected=expected)
    signs = {name: config.get(name) for name in SIGNS}
    for name, token in signs.items():
        check_ids(name, token, spec, "config.json")
    if None in signs.values() or len({*signs.values()}) < len(SIGNS):
        expected = f"{', '.join(SIGNS)}, all different"
        raise CheckpointError("pictures without signs of their own", got=shown(signs), expected=expected)
    kind = FAMILIES[spec.family].model_class(images=True).config_class
    options = dict(text_config=text.to_dict(), vision_config=dict(spec.vision), dtype=spec.dtype)
    try:
        made = kind(**options, **signs, tie_word_embeddings=spec.tied)
        theirs = specs.read(made)
    except Exception as error:  # transformers checks by decorators of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError("transformers does not take this configuration", got=reason[:300]) from error
    if differing := [name for name in spec.differing(theirs) if name != "mtp_layers"]:
        raise CheckpointError("transformers reads another model from config.json", got=", ".join(differing))
    if packed:
        made.quantization_config = packed
    return made


def processor_there(folder: pathlib.Path) -> bool:
    """Whether the settings of a processor are in a folder."""
    return any((folder / file).is_file() for file in FILES)


def processor_of(folder: pathlib.Path, notes: list[str]):
    """The processor beside the weights; None, which is noted, where there is none or nothing to read pictures with.

    Raises:
        CheckpointError: one that cannot be read.
    """
    if not processor_there(folder):
        notes.append(f"no {FILES[0]} beside the weights: pictures are taken as a processor's output alone")
        return None
    try:
        return processor(folder)
    except BackendError as error:
        notes.append(f"{error.what}: {error.got}")
        return None
