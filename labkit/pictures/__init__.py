"""Pictures and films in a prompt: `see` makes one that `lab.trace`, `lab.generate` and `lab.resume` take.

    lab = labkit.load(folder, images=True)
    seen = pictures.see(lab, messages)
    run = lab.trace(seen)
    run.pictures.spans, run.pictures.position_ids, run.pictures.segments("row")

The lab is one around the image-text class of transformers, loaded or wrapped (`labkit.wrap`). Pixels pass the model's
own tower; from there on a picture is tokens like any other, and every reading is that of a text.

In this folder: `prompt` (the prompt), `processing` (transformers' processor), `films` (frames without torchvision),
`tower` (what the tower costs), `grafting` (a small checkpoint to try it on).
"""

from labkit.pictures.grafting import graft
from labkit.pictures.processing import processor
from labkit.pictures.prompt import Seen, see
from labkit.trace import Pictures, Span

__all__ = ["Pictures", "Seen", "Span", "graft", "processor", "see"]


def __dir__():
    return sorted(__all__)
