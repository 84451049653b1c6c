"""Where pictures stand in a run: spans of their tokens, their grids, and the three rotary axes of every token.

A picture of H by W tokens lies between two texts row by row. Its tokens share one time, count rows on the second axis
and columns on the third, and the text goes on after max(H, W) positions, not after H·W. A film is a picture for every
two frames, each with its own time in words before it (transformers, `Qwen3_5Model.get_rope_index`).
"""

import dataclasses
from collections.abc import Sequence

import torch

from labkit.errors import InputError

ROPE_AXES = ("time", "height", "width")
NAMES = ("kind", "picture", "row")
TEXT, BEFORE = "text", "before"


@dataclasses.dataclass(frozen=True)
class Span:
    """The tokens of one picture, or of one step of a film.

    Attributes:
        kind: "image" or "video". number: which of its kind, from 0. step: of a film, from 0; of a picture 0.
        first, last: its tokens are `range(first, last)`, relative to the run's first.
        rows, columns: of its grid; token `first + row * columns + column`.
        digest: of its pixels; pads are alike, pictures are not.
    """

    kind: str
    number: int
    step: int
    first: int
    last: int
    rows: int
    columns: int
    digest: str

    @property
    def name(self) -> str:
        """As in `Pictures.segments`."""
        return f"{self.kind} {self.number}" + (f" step {self.step}" if self.kind == "video" else "")

    def moved(self, by: int) -> "Span":
        """The same span, so many tokens later."""
        return dataclasses.replace(self, first=self.first + by, last=self.last + by)


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """What a run knows of its pictures.

    Attributes:
        spans: `Span`s in their order.
        position_ids: [3, token] rotary positions: time, height, width.
        axes: [pair] which of the three turns each rotary pair.
    """

    spans: tuple[Span, ...]
    position_ids: torch.Tensor
    axes: torch.Tensor

    @property
    def turned(self) -> torch.Tensor:
        """[token, pair] the position by which each rotary pair is turned."""
        return self.position_ids[self.axes].T

    def grown(self, tokens: int) -> "Pictures":
        """With texts behind, up to so many tokens."""
        more = tokens - self.position_ids.shape[1]
        text = int(self.position_ids.max()) + 1 + torch.arange(more)
        return dataclasses.replace(self, position_ids=torch.cat([self.position_ids, text.expand(3, more)], 1))

    def segments(self, by: str = "picture", *, before: int = 0) -> list[str]:
        """A name for every token, for `attention.summary(segments=)` and `deltanet.written_by(segments=)`.

        Args:
            by: "kind" (text, image, video), "picture" (text, image 0, video 0 step 1), or "row" (image 0 row 2).
            before: tokens of a warm cache that come first, called "before".

        Raises:
            InputError: another `by`.
        """
        if by not in NAMES:
            raise InputError("no such names of segments", got=by, expected=", ".join(NAMES))
        names = [TEXT] * self.position_ids.shape[1]
        for span in self.spans:
            for at in range(span.first, span.last):
                row = f" row {(at - span.first) // span.columns}" if by == "row" else ""
                names[at] = span.kind if by == "kind" else span.name + row
        return [BEFORE] * before + names


def axes_of(sections: Sequence[int], pairs: int) -> torch.Tensor:
    """[pair] which axis turns each rotary pair: time, height, width in turn, as far as the sections of the last two go.

    Args:
        sections: `mrope_section`, how many pairs each axis has. pairs: of the model.
    """
    axes = torch.zeros(pairs, dtype=torch.long)
    for axis in (1, 2):
        axes[axis : 3 * sections[axis] : 3] = axis
    return axes
