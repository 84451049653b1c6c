"""Checkpoints stored packed: what is loaded and traced is the model with the numbers that the packed weights stand for.

The layouts are written by `packers`, which works out the numbers by itself.
"""

import checkpoints
import packers
import pytest
import tiny
import torch

import labkit as lk
from labkit.errors import BudgetError, CheckpointError
from labkit.zoo import precision, words

IDS = tiny.ids(23)
EXPERTS = checkpoints.BLOCKS | dict(
    moe_intermediate_size=64, shared_expert_intermediate_size=192, num_experts=5, num_experts_per_tok=3
)
EXPERTS.pop("intermediate_size")
WAYS = {
    "fp8, scales in bfloat16": (packers.fp8, "fp8"),
    "fp8, scales in float32": (lambda folder: packers.fp8(folder, torch.float32), "fp8"),
    "nf4 twice": (packers.nf4, "bitsandbytes"),
    "nf4 once": (lambda folder: packers.nf4(folder, double=False), "bitsandbytes"),
    "int8": (packers.int8, "bitsandbytes"),
    "compressed int4": (packers.compressed, "compressed-tensors"),
    "compressed int4, uneven": (lambda folder: packers.compressed(folder, symmetric=False), "compressed-tensors"),
    "compressed int3": (lambda folder: packers.compressed(folder, width=3, symmetric=False), "compressed-tensors"),
    "compressed int8 in words": (lambda folder: packers.compressed(folder, width=8), "compressed-tensors"),
    "compressed int8": (packers.compressed_int8, "compressed-tensors"),
    "compressed fp8": (packers.compressed_fp8, "compressed-tensors"),
    "compressed nvfp4": (packers.nvfp4, "compressed-tensors"),
    "gptq": (packers.gptq, "gptq"),
    "gptq, 8 bits in order": (lambda folder: packers.gptq(folder, width=8, mixed=False), "gptq"),
    "awq": (packers.awq, "awq"),
    "mlx": (packers.mlx, "mlx"),
    "mlx, 6 bits": (lambda folder: packers.mlx(folder, width=6), "mlx"),
}


@pytest.fixture(scope="module")
def wide():
    """A random hybrid of whole blocks."""
    return tiny.model(**checkpoints.BLOCKS)


@pytest.fixture
def folder(tmp_path, wide):
    """It as a checkpoint."""
    return checkpoints.text_only(tmp_path / "wide", wide)


def holds(lab, model, meant, dtype):
    """Whether a lab's weights are the model's, the packed ones as they were meant, and its passes those of that model."""
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict() | meant)
    for weight in twin.parameters():  # a whole model moved to bfloat16 rounds its rotary frequencies, too
        weight.data = weight.data.to(dtype)
    for name, weight in lab.model.named_parameters():
        assert torch.equal(weight, twin.get_parameter(name)), name
    run = lab.trace(IDS, logits="all")
    with torch.no_grad():
        assert torch.equal(run.logits, twin(IDS[None]).logits[0])
    implied = lk.deltanet.memory(run, layer=1)
    assert float(implied.parity) <= float(implied.tolerance)


@pytest.mark.parametrize(
    ("way", "dtype"),
    [(way, "float32") for way in WAYS] + [("fp8, scales in float32", "bfloat16"), ("mlx", "float16"), ("nf4 twice", None)],
)
def test_a_packed_checkpoint_computes_with_the_numbers_it_stands_for(way, dtype, folder, wide, monkeypatch):
    monkeypatch.setattr(precision, "stays_packed", lambda *_: False)
    pack, method = WAYS[way]
    meant = pack(folder)
    assert len(meant) >= 4 * 3 + 2 * 4 + 6 * 3
    lab = lk.load(folder, device="cpu", dtype=dtype)
    assert lab.backend.quantize == f"{method}, unpacked"
    holds(lab, wide, meant, getattr(torch, dtype or "float32"))


@pytest.mark.parametrize("way", ["fp8", "gptq", "compressed-tensors", "mlx"])
def test_packed_experts_are_unpacked(way, tmp_path, monkeypatch):
    """Stored apart and packed one by one, or stacked as MLX has them."""
    mixed = tiny.model(experts=True, **EXPERTS)
    folder = checkpoints.text_only(tmp_path / "mixed", mixed, apart=way != "mlx")
    pack = {"fp8": packers.fp8, "gptq": packers.gptq, "compressed-tensors": packers.compressed, "mlx": packers.mlx}[way]
    meant = pack(folder)
    fused = {}
    for name in mixed.state_dict():
        if name.endswith(".experts.gate_up_proj") and way != "mlx":
            head = name.removesuffix("gate_up_proj")
            rows = [[meant.pop(f"{head}{e}.{kind}_proj.weight") for kind in ("gate", "up")] for e in range(5)]
            fused[name] = torch.stack([torch.cat(pair) for pair in rows])
            fused[head + "down_proj"] = torch.stack([meant.pop(f"{head}{e}.down_proj.weight") for e in range(5)])
    holds(lk.load(folder, device="cpu"), mixed, meant | fused, torch.float32)
