"""Damaged folders of every other family and of packed weights, under `labkit plan`, the doctor and `labkit.load`.

Each try changes a configuration, a header, an index, the names or the files of a whole checkpoint. What the doctor says
of the folder is what loading comes to; what loads computes what it computed before, or what transformers makes of the
folder, and readings agree with the model.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import shutil
import warnings
from collections.abc import Callable

import checkpoints
import packers
import siblings
import tiny

from labkit.errors import LabError, ParityError
from labkit.families import FAMILIES
from tests.attacks import attack, tried
from tests.attacks.checkpoints import TEXT, misnamed, plain
from tests.attacks.json_damage import EXTRA, Raw, changed, dumped, put
from tests.attacks.weights import damaged

MORE = EXTRA | {  # settings of these families, and of how weights are packed
    "linear_allow_neg_eigval": (True, False, 1, "no"),
    "linear_attn_config": ({}, {"head_dim": 10}, {"kda_layers": [1], "full_attn_layers": [2]}, 3),
    "first_k_dense_replace": (0, 1, 2, 3, -1, "1"),
    "mlp_layer_types": (["dense"] * 3, ["sparse"] * 3, ["dense", "sparse", "sparse"], ["x"], 5),
    "layer_types": (["linear_attention"] * 3, ["full_attention"] * 3, ["linear_attention", "full_attention"], None),
    "num_shared_experts": (0, 1, 3, "2"),
    "q_lora_rank": (None, 0, 7),
    "n_group": (1, 2, 0),
    "topk_group": (1, 2),
    "num_expert_group": (1, 13),
    "moe_renormalize": (True, False),
    "norm_topk_prob": (True, False, 1),
    "routed_scaling_factor": (1.0, 2.5, 0, "x"),
    "moe_router_activation_func": ("sigmoid", "softmax"),
    "scoring_func": ("sigmoid", "softmax", 3),
    "use_qk_l2norm": (False,),
    "attention_bias": (True, False),
    "attention_dropout": (0.5, 0),
    "hidden_act": ("silu", "gelu"),
    "decoder_sparse_step": (1, 2),
    "sliding_window": (4, None),
    "mla_use_nope": (True, False),
    "rms_norm_eps": (1e-6, 1e-2, 0, -1.0),
    "clip_qkv": (0.1,),
    "A_init_range": ((1, 16), (3, 2)),
}


@dataclasses.dataclass
class Stored:
    """A whole checkpoint on disk: its folder, how many shards, and, of packed weights, a folder that is not packed."""

    folder: pathlib.Path
    shards: int = 1
    unpacked: pathlib.Path | None = None

    def __post_init__(self):
        found = computed(opened(self.folder))
        self.logits, self.encoded, self.spec = found["logits"], found["encoded"], found["lab"].spec

    def copy(self, place: pathlib.Path) -> pathlib.Path:
        """A folder of hard links."""
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self.folder, place, copy_function=os.link)

    def right(self, found: dict, folder: pathlib.Path) -> bool:
        """Whether that is the original, or what transformers makes of the configuration and these weights."""
        import torch

        lab, logits = found["lab"], found["logits"]
        if not logits.isfinite().all() or not told(lab):
            return False
        if torch.equal(logits, self.logits) and found["encoded"] == self.encoded:
            return True
        if self.unpacked is not None:
            text = json.loads((folder / "config.json").read_text())
            folder = shutil.copytree(self.unpacked, folder.with_name("unpacked"), dirs_exist_ok=True)
            packing = ("quantization_config", "quantization", "compression_config")
            put(folder / "config.json", json.dumps({k: v for k, v in text.items() if k not in packing}))
        theirs, tokens = plain(folder, lab)
        with torch.no_grad():
            same = torch.equal(logits, theirs(IDS[None]).logits[0])
        return same and found["encoded"] == tokens(TEXT, add_special_tokens=False)["input_ids"]


IDS = tiny.ids(9)


def opened(folder: pathlib.Path):
    """A lab from that folder or file."""
    import labkit as lk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is noted is no error
        return lk.load(folder, device="cpu", dtype="float32")


def computed(lab) -> dict:
    """What it says: `lab`, `logits`, `encoded`; readings agree with the model."""
    from labkit import attention, deltanet

    run = lab.trace(IDS, logits="all")
    for kind, reading in (("deltanet", deltanet.memory), ("attention", attention.pattern)):
        if kind not in FAMILIES[lab.spec.family].unread:
            for layer in (layer for layer, own in enumerate(lab.spec.kinds) if own == kind):
                try:
                    parity = reading(run, layer=layer).attrs["parity"]
                except ParityError as error:  # a model that labkit took for another one
                    raise AssertionError("a reading is not the model's") from error
                assert parity < 1e-4, parity
    return dict(lab=lab, logits=run.logits, encoded=lab.encode(TEXT).tolist())


def told(lab) -> bool:
    """Whether the spec says what the loaded model is: every size that its own configuration and weights have."""
    import torch

    from labkit import rotary, spec

    own, stack = spec.read(lab.model.config), lab.model.model
    turns = getattr(stack, "rotary_emb", None)
    same = not set(lab.spec.differing(own)) - {"vision", "mtp_layers", "tied", "dtype"}
    count = sum(weight.numel() for weight in lab.model.parameters())
    same &= count == spec.parameters(lab.spec)["text"] and len(stack.layers) == lab.spec.layers
    same &= lab.spec.tied == (lab.model.lm_head.weight is stack.embed_tokens.weight)
    if turns is not None and lab.spec.rotary_dim:
        scaling = rotary.scaling_of(lab.model.config)
        same &= torch.equal(turns.inv_freq, rotary.frequencies(scaling, **rotary.constants(lab.spec)))
    return same


def examined(folder: pathlib.Path) -> tuple:
    """(whether `labkit plan` has a card, the doctor's report)."""
    from labkit import __main__, doctor

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as said:
        status = __main__.main(["plan", str(folder)])
    assert (status, bool(out.getvalue()), bool(said.getvalue())) in ((0, True, False), (1, False, True)), said
    return not status, doctor.examine(folder, device="cpu")


def agree(folder: pathlib.Path) -> dict:
    """What a folder computes, once plan and doctor have spoken; a clear error is one that the doctor foretold."""
    planned, report = examined(folder)
    loads = next((one for one in report.verdicts if one.name == "loads"), report.verdicts[-1])
    taken = loads.status != "fail" and "labkit.load takes it" in loads.detail
    assert "stumbled" not in repr(report), repr(report)
    try:
        lab = opened(folder)
    except LabError as error:
        broken = "NaN or infinite" in error.what  # numbers, of which the doctor reads none
        assert broken or not taken, f"{error}\n{report!r}"
        raise
    assert taken and planned and report.healthy, repr(report)
    return computed(lab)


# ------------------------------------------------------------------------------------------------------ the originals

THREE = dict(num_hidden_layers=3, layer_types=["linear_attention", "linear_attention", "full_attention"])
WIDE = checkpoints.BLOCKS | THREE | dict(hidden_size=64, intermediate_size=192, linear_num_value_heads=8)


def qwen3_next(folder: pathlib.Path) -> Stored:
    """Experts apart, in two shards."""
    model = tiny.model(family="qwen3_next", **THREE)
    return Stored(checkpoints.text_only(folder / "whole", model, apart=True, shards=2), 2)


def olmo(folder: pathlib.Path) -> Stored:
    """The convolution's rows in three pieces."""
    from test_families_lin import publish

    place, model = folder / "whole", siblings.olmo()
    model.save_pretrained(place)
    checkpoints.write_tokenizer(place)
    checkpoints.rewrite(place, publish)
    return Stored(place)


def kimi(folder: pathlib.Path) -> Stored:
    """Experts and convolution in pieces, other names, sizes of recurrent layers in an object of their own."""
    from test_families_lin import as_published

    place = checkpoints.text_only(folder / "whole", siblings.kimi())
    text = json.loads((place / "config.json").read_text())
    linear = dict(head_dim=10, num_heads=9, short_conv_kernel_size=4, full_attn_layers=[3, 5], kda_layers=[1, 2, 4])
    dense = text["mlp_layer_types"].count("dense")
    kept = {k: v for k, v in text.items() if not k.startswith("linear_") and not k.endswith("layer_types")}
    checkpoints.write_json(place / "config.json", kept | dict(linear_attn_config=linear, first_k_dense_replace=dense))
    checkpoints.rewrite(place, as_published)
    return Stored(place)


def image_text(folder: pathlib.Path) -> Stored:
    """The dense family beside a picture tower, in three shards."""
    return Stored(checkpoints.image_text(folder / "whole", tiny.model(**THREE), shards=3), 3)


def packed(pack: Callable) -> Callable:
    """A function that writes packed weights and the same numbers unpacked."""

    def write(folder):
        model = tiny.model(**WIDE)
        place = checkpoints.text_only(folder / "whole", model)
        meant = pack(place)
        model.load_state_dict(model.state_dict() | meant)
        return Stored(place, 1, checkpoints.text_only(folder / "meant", model))

    return write


ORIGINALS = {
    "Qwen3-Next": qwen3_next,
    "OLMo Hybrid": olmo,
    "Kimi Linear": kimi,
    "image-text": image_text,
    "fp8": packed(lambda folder: packers.fp8(folder, block=32)),
    "even compressed-tensors": packed(packers.compressed),
    "uneven compressed-tensors": packed(lambda folder: packers.compressed(folder, symmetric=False)),
    "gptq": packed(packers.gptq),
    "awq": packed(packers.awq),
    "nf4": packed(packers.nf4),
    "int8": packed(packers.int8),
    "mlx": packed(packers.mlx),
}


# --------------------------------------------------------------------------------------------------------- the attacks


def spoilt(original: Stored, copy: pathlib.Path, rng: random.Random) -> str:
    """Change a configuration, names of tensors, headers, the index or files; returns what."""
    how = rng.choice(("config", "config", "names", "files", "files", "packing"))
    if how == "files":
        what = damaged(copy, rng)
        if original.unpacked is None or "swap" not in what:
            return what
        original.copy(copy)  # where two of one form stand for each other, that is another whole model
    if how == "names":
        return renamed(original, copy, rng)
    text = json.loads((copy / "config.json").read_text())
    part = "linear_attn_config" if "linear_attn_config" in text else "quantization_config"
    if how == "packing" and part in text:
        inside, what = changed(text[part], rng, {})
        put(copy / "config.json", dumped(text | {part: Raw(inside)}))
        return f"{part}: {what}"
    inside, what = changed(text, rng, MORE)
    put(copy / "config.json", inside)
    return what


def renamed(original: Stored, copy: pathlib.Path, rng: random.Random) -> str:
    """Give tensors other names; returns what was done to them."""
    from safetensors.torch import load_file

    named = {}
    for path in sorted(copy.glob("*.safetensors")):
        named |= load_file(path)
        path.unlink()
    named, what = misnamed(named, rng)
    (copy / "model.safetensors.index.json").unlink(missing_ok=True)
    checkpoints.write_tensors(copy, named, original.shards)
    return what


def registered(name: str, write: Callable) -> None:
    """The attack on one original."""

    @attack(f"checkpoint of {name}", short=8, long=300)
    def spoiling(tries, seed, folder):
        original = write(folder)
        for number in range(tries):
            rng, copy = random.Random(seed + number), original.copy(folder / "copy")
            what = f"{seed + number}: {spoilt(original, copy, rng)}"
            yield tried(lambda: agree(copy), lambda found: original.right(found, copy), what, seconds=60)  # noqa: B023


for _name, _write in ORIGINALS.items():
    registered(_name, _write)
