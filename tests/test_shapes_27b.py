"""The true shapes of Qwen3.6-27B on the meta device: every seam of every layer, no weights."""

import json
import pathlib

import pytest
import torch

from labkit import plan, spec
from labkit.trace import SEAMS, Recorder, wanted_seams

CONFIG = pathlib.Path(spec.__file__).parent / "published" / "Qwen3.6-27B.json"
TOKENS = 70


@pytest.fixture(scope="module")
def traced():
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    facts = json.loads(CONFIG.read_text(encoding="utf-8"))
    anatomy = spec.read(facts)
    with torch.device("meta"):
        model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**facts["text_config"])).to(torch.bfloat16).eval()
    with torch.no_grad(), Recorder(model, anatomy, wanted_seams(anatomy, None, None)) as seen:
        ids = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
        masks = {
            "full_attention": None,
            "linear_attention": None,
        }  # making masks reads values; there are none here
        model(ids, attention_mask=masks, use_cache=False, logits_to_keep=1)
        seams, _ = seen.joined(TOKENS)
    return anatomy, {key: tuple(value.shape[1:]) for key, value in seams.items()}


def test_every_seam_of_all_64_layers_fires_with_the_published_sizes(traced):
    anatomy, shapes = traced
    assert len(shapes) == 48 * len(SEAMS["deltanet"]) + 16 * len(SEAMS["attention"])
    sizes = {
        "qkv": (10240,), "z": (48, 128), "a": (48,), "b": (48,), "read": (48, 128), "gated": (48, 128),
    }  # fmt: skip
    attention = {"q": (24, 256), "k": (4, 256), "v": (4, 256), "gate": (24, 256), "gated": (24, 256)}
    for (layer, name), shape in shapes.items():
        table = sizes if anatomy.kind(layer) == "deltanet" else attention
        assert shape == (TOKENS, *table.get(name, (5120,))), (layer, name)


def test_the_planner_knows_the_bytes_of_every_seam(traced):
    anatomy, shapes = traced
    for (layer, name), shape in shapes.items():
        expected = 2 * torch.Size(shape).numel() * (2 if name == "gate" else 1)  # its view keeps the query half alive
        assert plan.seam_bytes(anatomy, layer, name, TOKENS, 2) == expected, (layer, name)
