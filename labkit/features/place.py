"""Where a dictionary sits: what its file says, what was given, and what the model has there."""

import dataclasses
import math

from labkit.arguments import whole
from labkit.errors import CheckpointError, InputError
from labkit.lab import Lab

HINT = 'features.open(path, lab, layer=3, seam="resid_post")'


@dataclasses.dataclass(frozen=True)
class Place:
    """A lab, and what was given with a path.

    Attributes:
        layer, seam, head, k: None where nothing was given.
    """

    lab: Lab
    layer: int | None
    seam: str | None
    head: int | None
    k: int | None

    def agreed(self, name: str, told, *, place: str):
        """What a file says, or what was given where it says nothing.

        Raises:
            CheckpointError: neither does. InputError: they differ.
        """
        given = getattr(self, name)
        if told is None and given is None:
            raise CheckpointError(f"{place} does not say its {name}", got="nothing", expected=f"{name}=", hint=HINT)
        if None not in (told, given) and told != given:
            raise InputError(f"{place} says another {name}", got=f"{name}={given!r}", expected=repr(told))
        return given if told is None else told

    def width(self, layer: int, seam: str) -> int:
        """Numbers per token at a seam.

        Raises:
            InputError: no such layer, or no such seam in it.
        """
        spec = self.lab.spec
        layer = whole(layer, "layer", least=0, most=spec.layers - 1)
        seams = spec.seams[spec.kind(layer)]
        if seam not in seams:
            got, kind = f"{seam!r} of layer {layer}", spec.kind(layer)
            raise InputError(f"no such seam in a {kind} layer", got=got, expected=", ".join(seams))
        return math.prod(seams[seam].shape(spec))

    def check_width(self, channels: int, layer: int, seam: str, place: str) -> None:
        """Refuse a dictionary of another model.

        Raises:
            InputError: another width than the seam's.
        """
        if (width := self.width(layer, seam)) != channels:
            got, expected = f"{channels:,} channels", f"{width:,}, as {seam} of {self.lab.name} has"
            raise InputError(f"{place} is of another model", got=got, expected=expected)

    def count(self, told: int | None, features: int, place: str) -> int:
        """k, at least 1 and at most the number of features.

        Raises:
            CheckpointError, InputError.
        """
        k = self.agreed("k", told, place=place)
        if self.k is not None:
            return whole(k, "k", least=1, most=features)
        if not 1 <= k <= features:
            raise CheckpointError(f"{place}: k", got=k, expected=f"1 to {features:,}")
        return k
