"""Frames of a film without torchvision: transformers' own video processor, and the operations that it takes from there.

Its module imports where torchvision is missing; resizing, normalising and the look at the number of channels are all
that fails. They stand here as torchvision does them with a tensor of frames: torch's interpolation with antialiasing,
of whole numbers where frames are such, and (x - mean) / std. What stays out is decoding: a film is an array of frames.
"""

import torch
from transformers.image_utils import PILImageResampling
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_processing_utils import BaseVideoProcessor

MODES = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}


class Torchless(BaseVideoProcessor):
    """The operations; they stand behind the family's class, which calls them by `super`."""

    def resize(self, image: torch.Tensor, size, resample=None, **_) -> torch.Tensor:
        """Frames [..., channel, row, column] of another height and width."""
        rows, columns = size.height, size.width
        if tuple(image.shape[-2:]) == (rows, columns):
            return image
        mode = MODES.get(resample)
        if mode is None:
            raise ValueError(f"resample {resample} of films, expected {' or '.join(MODES.values())}")
        flat = image.reshape(-1, *image.shape[-3:])
        made = torch.nn.functional.interpolate(flat, (rows, columns), mode=mode, align_corners=False, antialias=True)
        return made.reshape(*image.shape[:-2], rows, columns)

    def normalize(self, image: torch.Tensor, mean, std, **_) -> torch.Tensor:
        """(image - mean) / std, by channel."""
        mean, std = (torch.as_tensor(part, dtype=image.dtype)[:, None, None] for part in (mean, std))
        return (image - mean) / std

    def convert_to_rgb(self, video: torch.Tensor, **_) -> torch.Tensor:
        """Frames [..., channel, row, column] as they are, grey ones three times.

        Raises:
            ValueError: neither grey nor three channels.
        """
        if video.shape[-3] not in (1, 3):
            raise ValueError(f"frames of {video.shape[-3]} channels, expected red, green and blue")
        return video if video.shape[-3] == 3 else video.expand(*video.shape[:-3], 3, -1, -1)


class Films(Qwen3VLVideoProcessor, Torchless):
    """The family's video processor, without torchvision."""
