"""Small random models of the image-text class, and what a processor would give them, made by hand."""

import checkpoints
import tiny
import torch

from labkit.trace import decoder

IMAGE, VIDEO, START, END = 7, 8, 5, 6
PATCH = 3 * 2 * 2 * 2  # channels, frames, rows, columns
WIDE, TALL = (1, 6, 10), (1, 8, 4)  # patches; merged in twos they are 3 by 5 and 4 by 2 tokens
FILM = (2, 4, 6)  # two steps of 2 by 3 tokens


def image_text(seed=0, experts=False, vision=checkpoints.VISION, **sizes):
    """A small random model of the image-text class, all sizes different; `sizes` as of `tiny.model`."""
    from transformers import (
        Qwen3_5Config,
        Qwen3_5ForConditionalGeneration,
        Qwen3_5MoeConfig,
        Qwen3_5MoeForConditionalGeneration,
    )

    text = tiny.model(seed, experts=experts, **sizes)
    kind, config = (
        (Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig)
        if experts
        else (Qwen3_5ForConditionalGeneration, Qwen3_5Config)
    )
    signs = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END)
    own = text.config.to_dict() | {"tie_word_embeddings": False}
    torch.manual_seed(seed)
    model = kind(config(text_config=own, vision_config=dict(vision), tie_word_embeddings=False, **signs))
    for weight in model.model.visual.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, 0, weight[0].numel() ** -0.5)
    decoder(model).load_state_dict(text.model.state_dict())
    model.lm_head.load_state_dict(text.lm_head.state_dict())
    return model.eval().requires_grad_(False)


def processed(*parts, seed=0):
    """What a processor gives: parts are lists of ids, or grids of pictures (3 numbers, of films with several steps)."""
    ids, drawn = [], {"image": [], "video": []}
    generator = torch.Generator().manual_seed(seed)
    for part in parts:
        if isinstance(part, list):
            ids += part
            continue
        steps, rows, columns = part
        kind, pad = ("image", IMAGE) if steps == 1 else ("video", VIDEO)
        for _ in range(steps):
            ids += [START, *[pad] * (rows * columns // 4), END]
            ids += [20] if kind == "video" else []
        drawn[kind].append((part, torch.randn(steps * rows * columns, PATCH, generator=generator)))
    ids = torch.tensor(ids)[None]
    given = {"input_ids": ids, "mm_token_type_ids": ((ids == IMAGE) + 2 * (ids == VIDEO)).int()}
    for kind, names in (
        ("image", ("pixel_values", "image_grid_thw")),
        ("video", ("pixel_values_videos", "video_grid_thw")),
    ):
        if drawn[kind]:
            given[names[0]] = torch.cat([pixels for _, pixels in drawn[kind]])
            given[names[1]] = torch.tensor([grid for grid, _ in drawn[kind]])
    return given


PROMPT = ([30, 31, 32], WIDE, [40, 41], FILM, [42], TALL, [50, 51, 52, 53])
