"""The true shapes of Qwen3.6-27B, 35B-A3B and 80B-A3B on the meta device: every seam of every layer, no weights."""

import json
import pathlib

import pytest
import torch

from labkit import plan, spec
from labkit.families import FAMILIES
from labkit.rotary import constants
from labkit.scopes import scopes_of
from labkit.trace import Recorder, decoder, wanted_seams

TOKENS = 70
MODELS = {
    "Qwen3.6-27B": (48, 16, 5120, dict(head=48, query_head=24, kv_head=4)),
    "Qwen3.6-35B-A3B": (30, 10, 2048, dict(head=32, query_head=16, kv_head=2)),
    "Qwen3-Next-80B-A3B": (36, 12, 2048, dict(head=32, query_head=16, kv_head=2)),
}


@pytest.fixture(scope="module", params=MODELS)
def traced(request):
    """(spec, shapes of all seams without the token, what is published)."""
    config = pathlib.Path(spec.__file__).parent / "published" / f"{request.param}.json"
    facts = json.loads(config.read_text(encoding="utf-8"))
    anatomy = spec.read(facts)
    kind = FAMILIES[anatomy.family].model_class()
    with torch.device("meta"):
        model = kind(kind.config_class(**facts.get("text_config", facts))).to(torch.bfloat16).eval()
    scopes = scopes_of(model, decoder(model), FAMILIES[anatomy.family], constants(anatomy))
    wanted = wanted_seams(anatomy, None, None)
    with torch.no_grad(), scopes.call() as call, Recorder(call, model, anatomy, wanted) as seen:
        ids = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
        masks = dict.fromkeys(FAMILIES[anatomy.family].kinds)  # making masks reads values; there are none here
        model(ids, attention_mask=masks, use_cache=False, logits_to_keep=1)
        (seams,), _ = seen.joined(TOKENS)
    return anatomy, {key: tuple(value.shape) for key, value in seams.items()}, MODELS[request.param]


def test_every_seam_of_all_layers_fires_with_the_published_sizes(traced):
    anatomy, shapes, (deltas, attentions, hidden, heads) = traced
    assert len(shapes) == deltas * len(anatomy.seams["deltanet"]) + attentions * len(anatomy.seams["attention"])
    deltanet = {"qkv": (2 * 2048 + heads["head"] * 128,), "a": (heads["head"],), "b": (heads["head"],)}
    deltanet |= dict.fromkeys(("z", "read", "gated"), (heads["head"], 128))
    attention = dict.fromkeys(("q", "gate", "gated"), (heads["query_head"], 256))
    attention |= dict.fromkeys(("k", "v"), (heads["kv_head"], 256))
    for table in (deltanet, attention):
        table |= {"router": (anatomy.experts,)} | dict.fromkeys(("routed", "chosen"), (anatomy.active_experts,))
    for (layer, name), shape in shapes.items():
        table = deltanet if anatomy.kind(layer) == "deltanet" else attention
        assert shape == (TOKENS, *table.get(name, (hidden,))), (layer, name)


def test_the_planner_knows_the_bytes_of_every_seam(traced):
    anatomy, shapes, _ = traced
    # Their views keep the rest of the module's tensor alive; numbers of experts have 8 bytes.
    kept = {"gate": 2 * anatomy.query_heads * anatomy.head_dim, "chosen": 4 * anatomy.active_experts}
    if anatomy.family == "qwen3_next":
        kept |= dict.fromkeys(("qkv", "z"), 12_288) | dict.fromkeys(("a", "b"), 64)
    for (layer, name), shape in shapes.items():
        expected = 2 * TOKENS * kept.get(name, torch.Size(shape[1:]).numel())
        assert plan.seam_bytes(anatomy, layer, name, TOKENS, 2) == expected, (layer, name)


def test_seams_of_one_tensor_are_counted_once(traced):
    from labkit.plan import model

    anatomy, shapes, _ = traced
    names = [name for layer, name in shapes if layer == 0]
    counted = model.kept_bytes(anatomy, {0: names}, TOKENS, 2)
    split = anatomy.seams["deltanet"]["qkv"].source == anatomy.seams["deltanet"]["z"].source
    apart = sum(plan.seam_bytes(anatomy, 0, name, TOKENS, 2) for name in names)
    assert counted == apart - split * 2 * TOKENS * (12_288 + 64)
