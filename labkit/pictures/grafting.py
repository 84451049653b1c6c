"""A small image-text checkpoint: the text model of a lab beside an image tower that nobody trained."""

import json
import pathlib

import torch

from labkit.errors import InputError
from labkit.families import FAMILIES
from labkit.trace import decoder

TOWER = dict(
    depth=2,
    hidden_size=48,
    intermediate_size=80,
    num_heads=4,
    in_channels=3,
    patch_size=4,
    spatial_merge_size=2,
    temporal_patch_size=2,
    num_position_embeddings=64,
)
PIXELS = {"shortest_edge": 64, "longest_edge": 16_384}  # of a picture, after resizing
PADS = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
SIGNS = {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}


def graft(lab, folder: str | pathlib.Path, *, seed: int = 0) -> pathlib.Path:
    """Write an image-text checkpoint into a new or empty folder: a lab's text model, and a random image tower.

    It has the layout of the published ones, processor included. What it sees are random vectors that differ from
    picture to picture: it shows the instrument, and finds nothing about pictures.

    Args:
        lab: of a text class, with a tokenizer that has the family's signs for pictures.
        seed: of the tower's weights.

    Returns:
        the folder.

    Raises:
        InputError: a lab that has an image tower, or no such tokenizer; a folder that is not empty.
    """
    family, tokenizer, folder = FAMILIES[lab.spec.family], lab.tokenizer, pathlib.Path(folder)
    if decoder(lab.model) is not lab.model.model:
        raise InputError("this model has an image tower already", got=type(lab.model).__name__)
    ids = {} if tokenizer is None else tokenizer.get_vocab()
    if missing := [text for text in (PADS | SIGNS).values() if text not in ids]:
        raise InputError("the tokenizer has no signs for pictures", got=f"no {', '.join(missing)}")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError("the folder to write into is not empty", got=str(folder), hint="give a new folder")
    text = lab.model.config.to_dict() | {"dtype": "float32"}
    tower = TOWER | {"out_hidden_size": lab.spec.hidden}
    kind = family.model_class(images=True)
    config = kind.config_class(
        text_config=text,
        vision_config=tower,
        tie_word_embeddings=lab.spec.tied,
        **{name: ids[sign] for name, sign in (PADS | SIGNS).items()},
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = kind(config).eval()
        for weight in model.model.visual.parameters():
            if weight.ndim > 1:  # as large as a trained one's, so that pictures differ
                torch.nn.init.normal_(weight, 0, weight[0].numel() ** -0.5)
    with torch.no_grad():  # its vectors are as long as those of words
        model.model.visual.merger.linear_fc2.weight.mul_(decoder(lab.model).embed_tokens.weight.std())
    decoder(model).load_state_dict(decoder(lab.model).state_dict())
    model.lm_head.load_state_dict(lab.model.lm_head.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shapes = dict(patch_size=tower["patch_size"], merge_size=2, temporal_patch_size=2, size=PIXELS)
    shapes |= dict(image_mean=[0.5] * 3, image_std=[0.5] * 3, processor_class="Qwen3VLProcessor")
    kinds = {"preprocessor_config.json": ("image_processor_type", "Qwen2VLImageProcessor")}
    kinds["video_preprocessor_config.json"] = ("video_processor_type", "Qwen3VLVideoProcessor")
    for file, (key, name) in kinds.items():
        (folder / file).write_text(json.dumps(shapes | {key: name}, indent=1), encoding="utf-8")
    return folder
