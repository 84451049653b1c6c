"""Files of other programs are read as those programs read them; edits keep what is not explained; damage is told."""

import json
import math
import pathlib
import zipfile

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file

from labkit import deltanet, edit, features
from labkit.errors import BudgetError, CheckpointError, InputError, LayerError
from labkit.features.dictionary import TINY

IDS = tiny.ids(17)
D, N, K = 44, 70, 5  # channels, features, active
DK, DV, HEADS = 10, 14, 9
REPOSITORY = "SAE-Res-Tiny3.5-1B-Base-W1K-L0_5"


def rand(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def own():
    """A lab in float32, and one run."""
    lab = tiny.make_lab(tiny.model())
    return lab, lab.trace(IDS)


def scope(folder, count=1024, layer=3, dtype=torch.float32, **changes):
    """A file as Qwen-Scope publishes it, in a folder of the repository's name."""
    folder = folder / REPOSITORY
    folder.mkdir(exist_ok=True, parents=True)
    raw = {"W_enc": rand(count, D), "W_dec": rand(D, count, seed=1)}
    raw |= {"b_enc": rand(count, seed=2), "b_dec": rand(D, seed=3)}
    raw = {name: value.to(dtype) for name, value in (raw | changes).items() if value is not None}
    torch.save(raw, folder / f"layer{layer}.sae.pt")
    return folder / f"layer{layer}.sae.pt", raw


def saelens(folder, kind="standard", more=None, **settings):
    """A folder as `SAE.save_model` of SAELens 6 writes it."""
    folder.mkdir(exist_ok=True, parents=True)
    raw = {"W_enc": rand(D, N), "W_dec": rand(N, D, seed=1), "b_dec": rand(D, seed=3, scale=0.3)}
    raw |= {"b_enc": rand(N, seed=2)} if kind != "gated" else {}
    if kind == "jumprelu":
        raw["threshold"] = rand(N, seed=4).abs()
    if kind == "batchtopk":
        raw["topk_threshold"] = torch.tensor(0.7, dtype=torch.float64)
    if kind == "gated":
        raw |= {name: rand(N, seed=5 + i) for i, name in enumerate(("b_gate", "r_mag", "b_mag"))}
    raw |= more or {}
    save_file({name: value.contiguous() for name, value in raw.items()}, folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.12.1", "hook_name": "blocks.3.hook_resid_post", "model_name": "tiny"}
    facts = {
        "d_in": D,
        "d_sae": N,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata | settings.pop("metadata", {}),
        "architecture": kind,
    }
    (folder / "cfg.json").write_text(json.dumps(facts | ({"k": K} if kind == "topk" else {}) | settings))
    return folder, raw


def writesae(folder, kind="bilinear", rank=1, flat=False, **settings):
    """`best.pt` as `core/train.py` of WriteSAE saves it."""
    folder.mkdir(exist_ok=True, parents=True)
    drop = lambda value: value[:, 0] if flat else value
    left, right = rand(N, rank, DK, seed=1), rand(N, rank, DV, seed=2)
    raw = {"bias": rand(DK, DV, seed=5, scale=0.1), "steps_since_active": torch.zeros(N, dtype=torch.long)}
    if kind == "rank1":
        raw |= {"encoder.weight": rand(N, DK * DV, seed=3), "encoder.bias": rand(N, seed=4), "V": left, "W": right}
    else:
        raw |= {"V_dec": drop(left), "W_dec": drop(right), "b_enc": rand(N, seed=4, scale=0.2)}
    if kind in ("bilinear", "bilinear_jumprelu"):
        raw |= {"V_enc": drop(rand(N, rank, DK, seed=6)), "W_enc": drop(rand(N, rank, DV, seed=7))}
    if kind == "bilinear_jumprelu":
        raw["log_threshold"] = rand(N, seed=8)
    facts = {"sae_type": kind, "layer": 1, "head": 4, "n_features": N, "d_k": DK, "d_v": DV, "d_in": DK * DV}
    facts |= {"expansion_factor": 0, "k": K, "rank": rank, "use_batchtopk": False, "seed": 42, "code_sha": "c46283e"}
    content = {"model_state_dict": raw, "config": facts | settings, "epoch": 3, "step": 9, "val_mse": 0.5}
    torch.save(content, folder / "best.pt")
    return folder, raw


def top(z, k=K):
    """The k largest of every row, by sorting."""
    least = z.sort(-1, descending=True).values[..., k - 1 : k]
    return torch.where((z >= least) & (z > 0), z, 0)


# ------------------------------------------------------------------------------------------------------------ reading


def test_qwen_scope_is_read_as_its_cards_say(own, tmp_path):
    lab, run = own
    path, raw = scope(tmp_path)
    sae = features.open(path, lab)
    assert (len(sae), sae.layer, sae.seam, sae.activation.k) == (1024, 3, "resid_post", 5)
    assert sae.name == f"{REPOSITORY}/layer3.sae.pt" and sae.facts == {"trained on": "Tiny3.5-1B-Base"}
    x = run.seams[3, "resid_post"]
    strengths = top(x @ raw["W_enc"].T + raw["b_enc"])
    torch.testing.assert_close(sae.encode(x), strengths, atol=1e-4, rtol=1e-4)
    made = strengths @ raw["W_dec"].T + raw["b_dec"]
    torch.testing.assert_close(sae.decode(sae.encode(x), x), made, atol=1e-4, rtol=1e-4)
    assert features.open(path.parent, lab, layer=3).digest == sae.digest


def test_what_is_below_zero_among_the_largest_is_zero(own, tmp_path):
    lab, run = own
    sae = features.open(scope(tmp_path, b_enc=torch.full((1024,), -1e6))[0], lab)
    x = run.seams[3, "resid_post"]
    assert not sae.encode(x).any()
    torch.testing.assert_close(sae.decode(sae.encode(x), x), rand(D, seed=3).expand_as(x))


def test_the_number_of_active_features_stands_in_the_name_of_the_repository(own, tmp_path):
    lab, _ = own
    snapshot = tmp_path / f"models--Qwen--{REPOSITORY}" / "snapshots" / "0123abcd"
    path, _ = scope(snapshot)
    moved = snapshot / "layer3.sae.pt"
    path.rename(moved)
    assert features.open(moved, lab).activation.k == 5
    plain = tmp_path / "elsewhere" / "layer3.sae.pt"
    plain.parent.mkdir()
    moved.rename(plain)
    with pytest.raises(CheckpointError, match="does not say its k"):
        features.open(plain, lab)
    assert features.open(plain, lab, k=9).activation.k == 9
    with pytest.raises(InputError, match="k out of range"):
        features.open(plain, lab, k=1025)


def test_the_precision_of_the_file_stays(own, tmp_path):
    lab, run = own
    path, raw = scope(tmp_path, dtype=torch.bfloat16)
    sae, x = features.open(path, lab), run.seams[3, "resid_post"]
    assert {value.dtype for value in sae.weights.values()} == {torch.bfloat16}
    wide = {name: value.float() for name, value in raw.items()}
    strengths = top(x @ wide["W_enc"].T + wide["b_enc"])
    torch.testing.assert_close(sae.encode(sae.wide(x)), strengths, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu", "batchtopk", "gated"])
def test_saelens_is_read_as_it_reads_itself(own, tmp_path, kind, centred, norm):
    lab, run = own
    folder, raw = saelens(tmp_path, kind, apply_b_dec_to_input=centred, normalize_activations=norm)
    sae, x = features.open(folder, lab), run.seams[3, "resid_post"]
    mean, size = 0, 1
    entered = x
    if norm == "layer_norm":
        mean = x.mean(-1, keepdim=True)
        size = (x - mean).square().sum(-1, keepdim=True).div(D - 1).sqrt()
        entered = (x - mean) / (size + TINY)
    elif norm == "constant_norm_rescale":
        size = x.square().sum(-1, keepdim=True).sqrt() / math.sqrt(D)
        entered = x / size
    z = (entered - raw["b_dec"] * centred) @ raw["W_enc"]
    norms = raw["W_dec"].square().sum(-1).sqrt() if kind == "batchtopk" else 1
    if kind == "gated":
        strengths = (z * raw["r_mag"].exp() + raw["b_mag"]).clamp(min=0) * (z + raw["b_gate"] > 0)
    else:
        z = (z + raw["b_enc"]) * norms
        least = {"jumprelu": raw.get("threshold"), "batchtopk": 0.7}.get(kind, 0)
        strengths = top(z) if kind == "topk" else torch.where((z > least) & (z > 0), z, 0)
    torch.testing.assert_close(sae.encode(x), strengths, atol=1e-4, rtol=1e-4)
    made = ((strengths / norms) @ raw["W_dec"] + raw["b_dec"]) * size + mean
    torch.testing.assert_close(sae.decode(sae.encode(x), x), made, atol=1e-3, rtol=1e-4)
    some = [3, 69, 11]
    torch.testing.assert_close(sae.strengths(x, some), strengths[:, some], atol=1e-4, rtol=1e-4)


def test_rows_that_hardly_vary_are_normalised_as_saelens_does(own, tmp_path):
    """What it adds to a deviation is as large as these rows' own: half of it is taken away, not all."""
    lab, run = own
    folder, raw = saelens(tmp_path, "standard", normalize_activations="layer_norm")
    x = run.seams[3, "resid_post"]
    x = x / x.std(-1, keepdim=True) * TINY
    entered = (x - x.mean(-1, keepdim=True)) / (2 * TINY)
    strengths = ((entered - raw["b_dec"]) @ raw["W_enc"] + raw["b_enc"]).clamp(min=0)
    torch.testing.assert_close(features.open(folder, lab).encode(x), strengths, atol=1e-3, rtol=1e-3)


def test_norms_that_rank_are_those_of_the_decoder(own, tmp_path):
    lab, run = own
    folder, raw = saelens(tmp_path, "topk", rescale_acts_by_decoder_norm=True)
    x, norms = run.seams[3, "resid_post"], raw["W_dec"].norm(dim=-1)
    strengths = top(((x - raw["b_dec"]) @ raw["W_enc"] + raw["b_enc"]) * norms)
    sae = features.open(folder, lab)
    torch.testing.assert_close(sae.encode(x), strengths, atol=1e-3, rtol=1e-4)
    made = (strengths / norms) @ raw["W_dec"] + raw["b_dec"]
    torch.testing.assert_close(sae.decode(sae.encode(x), x), made, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(sae.directions([4]), raw["W_dec"][[4]] / norms[4])


@pytest.mark.parametrize(
    ("old", "place"),
    [
        ({"hook_point": "blocks.1.hook_resid_pre", "hook_point_head_index": None}, (1, "resid_pre", "relu")),
        ({"hook_name": "blocks.2.hook_mlp_out", "activation_fn_str": "relu"}, (2, "mlp_out", "relu")),
        ({"hook_name": "blocks.4.hook_attn_out", "normalize_activations": False}, (4, "mixer_out", "relu")),
        (
            {"hook_name": "model.layers.3", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 7}},
            (3, "resid_post", "top 7"),
        ),
    ],
)
def test_configurations_from_before_six_are_flat(own, tmp_path, old, place):
    lab, _ = own
    folder, _ = saelens(tmp_path, more={"scaling_factor": torch.ones(N)})
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "d_sae": N, "dtype": "torch.float32"} | old))
    sae = features.open(folder, lab)
    assert (sae.layer, sae.seam, str(sae.activation)) == place and sae.centred


def test_a_place_that_no_file_names_is_given(own, tmp_path):
    lab, _ = own
    folder, _ = saelens(tmp_path, metadata={"hook_name": "blocks.3.hook_resid_mid"})
    with pytest.raises(CheckpointError, match="does not say its seam"):
        features.open(folder, lab)
    sae = features.open(folder, lab, seam="mixer_in")
    assert (sae.layer, sae.seam) == (3, "mixer_in")
    folder, _ = saelens(tmp_path, metadata={"hook_name": "transformer.h.3"})
    with pytest.raises(CheckpointError, match="does not say its layer"):
        features.open(folder, lab)
    sae = features.open(folder, lab, layer=2, seam="mlp_out")
    assert (sae.layer, sae.seam) == (2, "mlp_out")
    folder, _ = saelens(tmp_path)
    with pytest.raises(InputError, match="says another layer"):
        features.open(folder, lab, layer=2)


def test_heads_side_by_side_are_channels(own, tmp_path):
    lab, run = own
    wide = 6 * 16
    more = {"W_enc": rand(wide, N), "W_dec": rand(N, wide), "b_dec": rand(wide)}
    hook = {"hook_name": "blocks.2.attn.hook_z"}
    folder, _ = saelens(tmp_path, more=more, d_in=wide, metadata=hook, reshape_activations="hook_z")
    sae = features.open(folder, lab)
    ds = features.activations(run, sae, tokens=[3])
    z = (run.seams[2, "gated"][3].flatten() - more["b_dec"]) @ more["W_enc"] + rand(N, seed=2)
    assert float(ds.strength[0, 0]) == pytest.approx(float(z.max()), rel=1e-5)
    with lab.edit(features.clamp(sae, 8, value=2.0, tokens=[3])):
        moved = lab.trace(IDS).seams[2, "gated"] - run.seams[2, "gated"]
    step = (2 - z.clamp(min=0)[8]) * more["W_dec"][8]
    torch.testing.assert_close(moved[3].flatten(), step, atol=1e-4, rtol=1e-4)
    assert not moved[4].any()


@pytest.mark.parametrize(("rank", "flat"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize("kind", ["bilinear", "bilinear_tied", "rank1", "bilinear_jumprelu"])
def test_writesae_is_read_as_its_code_reads_it(own, tmp_path, kind, rank, flat):
    lab, _ = own
    folder, raw = writesae(tmp_path, kind, rank, flat)
    sae, S = features.open(folder, lab), rand(6, DK, DV, seed=9)
    assert (sae.layer, sae.head, sae.seam, len(sae)) == (1, 4, "state", N)
    stored = lambda name: raw[name][:, None] if raw[name].ndim == 2 else raw[name]
    V, W = (stored("V"), stored("W")) if kind == "rank1" else (stored("V_dec"), stored("W_dec"))
    if kind == "rank1":
        z = S.reshape(6, -1) @ raw["encoder.weight"].T + raw["encoder.bias"]
    else:
        left, right = (V, W) if kind == "bilinear_tied" else (stored("V_enc"), stored("W_enc"))
        z = torch.stack([sum(left[:, r] @ s * right[:, r] for r in range(rank)).sum(-1) for s in S]) + raw["b_enc"]
    least = raw["log_threshold"].exp() if kind == "bilinear_jumprelu" else None
    strengths = top(z) if least is None else torch.where(z > least, z, 0)
    torch.testing.assert_close(sae.encode(S), strengths, atol=1e-4, rtol=1e-4)
    atoms = sum(V[:, r, :, None] * W[:, r, None, :] for r in range(rank))
    torch.testing.assert_close(sae.atom(11), atoms[11])
    made = torch.tensordot(strengths, atoms, 1) + raw["bias"]
    torch.testing.assert_close(sae.decode(sae.encode(S), S), made, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat([each for _, _, each in sae.parts(S)]), made, atol=1e-4, rtol=1e-4)


def test_a_folder_of_saelens_written_by_saelens(own, tmp_path):
    pytest.importorskip("sae_lens", reason="SAELens, which writes the files, is not installed")
    from sae_lens import StandardSAE, StandardSAEConfig

    lab, run = own
    theirs = StandardSAE(StandardSAEConfig(d_in=D, d_sae=N))
    theirs.cfg.metadata.hook_name = "blocks.3.hook_resid_post"
    theirs.save_model(tmp_path)
    x = run.seams[3, "resid_post"]
    torch.testing.assert_close(features.open(tmp_path, lab).encode(x), theirs.encode(x).detach(), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------------- damage


def broken(path, name, value):
    content = torch.load(path, weights_only=True)
    torch.save(content | {name: value}, path)


SCOPES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-900]),
    "empty": lambda path: path.write_bytes(b""),
    "no zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(5000)),
    "a program": lambda path: torch.save(torch.nn.Linear(3, 4), path),
    "a list": lambda path: torch.save([1, 2], path),
    "no name": lambda path: torch.save({3: torch.ones(2)}, path),
    "another shape": lambda path: broken(path, "W_dec", torch.ones(1024, D)),
    "a bias too short": lambda path: broken(path, "b_enc", torch.ones(1023)),
    "whole numbers": lambda path: broken(path, "b_dec", torch.ones(D, dtype=torch.long)),
    "sparse": lambda path: broken(path, "b_dec", torch.ones(D).to_sparse()),
    "without numbers": lambda path: broken(path, "b_dec", torch.ones(D, device="meta")),
    "no tensor": lambda path: broken(path, "b_dec", 3.0),
    "NaN": lambda path: broken(path, "W_enc", torch.full((1024, D), float("nan"))),
    "infinity": lambda path: broken(path, "b_dec", torch.full((D,), float("inf"))),
    "one number for all": lambda path: broken(path, "W_enc", torch.ones(1).expand(1024, D)),
    "more names": lambda path: broken(path, "W_skip", torch.ones(D, D)),
}


@pytest.mark.parametrize("damage", SCOPES)
def test_a_damaged_file_of_qwen_scope_is_told(own, tmp_path, damage):
    lab, _ = own
    path, _ = scope(tmp_path)
    SCOPES[damage](path)
    with pytest.raises(CheckpointError) as error:
        features.open(path, lab)
    assert "layer3.sae.pt" in str(error.value)


class Program:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_program_in_a_file_is_not_run(own, tmp_path):
    lab, _ = own
    path, raw = scope(tmp_path)
    torch.save(raw | {"b_dec": Program(tmp_path / "ran")}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        features.open(path, lab)
    assert not (tmp_path / "ran").exists()


def test_a_compressed_file_would_hold_more_than_its_size(own, tmp_path):
    lab, _ = own
    path, _ = scope(tmp_path, W_enc=torch.zeros(1024, D))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="no more than its size"):
        features.open(path, lab)


def test_a_file_of_another_repository_is_told(own, tmp_path):
    lab, _ = own
    path, _ = scope(tmp_path, count=1000)
    with pytest.raises(CheckpointError, match="not of this repository"):
        features.open(path, lab)
    with pytest.raises(InputError, match="one layer of this folder") as error:
        features.open(path.parent, lab)
    assert error.value.expected == "[3]"
    with pytest.raises(CheckpointError, match="no dictionary that is read"):
        features.open(tmp_path, lab)
    with pytest.raises(CheckpointError, match="nothing there"):
        features.open(tmp_path / "layer9.pt", lab)


CONFIGS = {
    "a transcoder": dict(architecture="transcoder"),
    "a crosscoder": dict(architecture="crosscoder"),
    "no text": dict(architecture=3),
    "another width": dict(d_in=D + 1),
    "another count": dict(d_sae=N - 1),
    "a factor that is not there": dict(normalize_activations="expected_average_only_in"),
    "an old factor": dict(normalize_activations=True),
    "another norm": dict(normalize_activations="rms"),
    "another function": dict(activation_fn="tanh-relu"),
    "finetuned": dict(finetuning_scaling_factor=True),
    "one head": dict(metadata={"hook_head_index": 3}),
    "another place to write": dict(metadata={"hook_name_out": "blocks.3.hook_mlp_out"}),
    "no object": dict(metadata=[1]),
    "a truth": dict(apply_b_dec_to_input="yes"),
    "k of 0": dict(architecture="topk", k=0),
    "k of too many": dict(architecture="topk", k=N + 1),
    "k of a text": dict(architecture="topk", k="5"),
    "a hook that is no text": dict(metadata={"hook_name": 3}),
}


@pytest.mark.parametrize("damage", CONFIGS)
def test_a_configuration_that_is_not_read_is_told(own, tmp_path, damage):
    lab, _ = own
    folder, _ = saelens(tmp_path)
    facts, changes = json.loads((folder / "cfg.json").read_text()), dict(CONFIGS[damage])
    more = changes.pop("metadata", {})
    facts["metadata"] = facts["metadata"] | more if isinstance(more, dict) else more
    (folder / "cfg.json").write_text(json.dumps(facts | changes))
    with pytest.raises(CheckpointError):
        features.open(folder, lab)


WEIGHTS = {
    "missing": {"b_enc": None},
    "transposed": {"W_enc": torch.ones(N, D)},
    "too long": {"b_dec": torch.ones(D + 1)},
    "whole numbers": {"b_enc": torch.ones(N, dtype=torch.int32)},
    "NaN": {"W_dec": torch.full((N, D), float("nan"))},
    "a threshold too many": {"threshold": torch.ones(N)},
    "another scale": {"scaling_factor": torch.full((N,), 2.0)},
    "one axis": {"W_dec": torch.ones(N)},
}


@pytest.mark.parametrize("damage", WEIGHTS)
def test_weights_that_do_not_fit_are_told(own, tmp_path, damage):
    lab, _ = own
    folder, raw = saelens(tmp_path)
    raw = {name: value for name, value in (raw | WEIGHTS[damage]).items() if value is not None}
    save_file(raw, folder / "sae_weights.safetensors")
    with pytest.raises(CheckpointError, match="sae_weights|finetuned"):
        features.open(folder, lab)


@pytest.mark.parametrize("text", ["{", "[1]", "{}{}", '{"d_in": NaN}', "\xff"])
def test_what_is_no_json_is_told(own, tmp_path, text):
    lab, _ = own
    folder, _ = saelens(tmp_path)
    (folder / "cfg.json").write_bytes(text.encode("latin1"))
    with pytest.raises(CheckpointError, match="JSON|not names"):
        features.open(folder, lab)
    weights = folder / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    (folder / "cfg.json").write_text('{"hook_name": "blocks.3.hook_resid_post"}')
    with pytest.raises(CheckpointError, match="truncated"):
        features.open(folder, lab)


ATOMS = {
    "another count": (dict(n_features=N + 1), "not of its tensors"),
    "another key": (dict(d_k=DK + 1), "not of its tensors"),
    "flat": (dict(sae_type="flat"), "without atoms"),
    "gated": (dict(sae_type="bilinear_gated"), "without atoms"),
    "k of too many": (dict(k=N + 1), "k"),
    "no head": (dict(head=HEADS), "another model"),
    "negative": (dict(head=-1), "another model"),
    "a text": (dict(layer="1"), "layer"),
}


@pytest.mark.parametrize("damage", ATOMS)
def test_atoms_that_do_not_fit_are_told(own, tmp_path, damage):
    lab, _ = own
    changes, match = ATOMS[damage]
    folder, _ = writesae(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=match):
        features.open(folder, lab)


def test_atoms_of_other_tensors_or_layers_are_told(own, tmp_path):
    lab, _ = own
    folder, raw = writesae(tmp_path, layer=2)
    with pytest.raises(LayerError, match="layer 2 has none"):
        features.open(folder, lab)
    others = {"W_enc": rand(N, 2, DV), "V_dec": rand(N, 1, DK + 1), "b_enc": rand(N - 1), "M": rand(3)}
    for name, value in others.items():
        torch.save({"model_state_dict": raw | {name: value}, "config": {"layer": 1, "head": 0}}, folder / "best.pt")
        with pytest.raises(CheckpointError, match="best.pt"):
            features.open(folder, lab)
    torch.save({"sae": raw}, folder / "best.pt")
    with pytest.raises(CheckpointError, match="no known program"):
        features.open(folder, lab)


def test_a_checkpoint_without_its_configuration_takes_what_lies_beside_it(own, tmp_path):
    lab, _ = own
    for kind in ("bilinear", "bilinear_tied", "rank1", "bilinear_jumprelu"):
        folder, raw = writesae(tmp_path / kind, kind)
        whole = features.open(folder, lab)
        torch.save({"model_state_dict": raw}, folder / "best.pt")
        (folder / "config.json").write_text(json.dumps({"layer": 1, "head": 4, "k": K}))
        beside = features.open(folder / "best.pt", lab)
        assert (beside.digest, str(beside.activation)) == (whole.digest, str(whole.activation))
        (folder / "config.json").unlink()
        given = features.open(folder, lab, layer=1, head=4, k=None if kind == "bilinear_jumprelu" else K)
        assert given.digest == whole.digest


def test_another_model_is_told(own, tmp_path):
    lab, run = own
    other = tiny.make_lab(tiny.model(hidden_size=40))
    path, _ = scope(tmp_path)
    with pytest.raises(InputError, match="another model"):
        features.open(path, other)
    sae = features.open(path, lab)
    with pytest.raises(InputError, match="another model"):
        features.activations(other.trace(IDS), sae)
    with pytest.raises(InputError, match="another model"):
        features.spliced(other, IDS, sae)
    with pytest.raises(InputError, match="another model"), other.edit(features.ablate(sae, 3)):
        pass
    deep, _ = scope(tmp_path, layer=7)
    with pytest.raises(InputError, match="layer out of range"):
        features.open(deep, lab)


def test_what_would_not_fit_is_refused_before_it_is_loaded(own, tmp_path, monkeypatch):
    lab, run = own
    path, raw = scope(tmp_path)
    sae, vectors = features.open(path, lab), features.of_matrix(torch.eye(D), lab, layer=3, k=3)
    held = sum(value.nbytes for value in raw.values())
    monkeypatch.setattr("labkit.plan.card.budget", lambda device: (held - 1, "a small machine"))
    with monkeypatch.context() as patch:
        patch.setattr("labkit.features.qwen_scope.settled", lambda *args, **options: pytest.fail("it was loaded"))
        with pytest.raises(BudgetError, match="W_enc"):
            features.open(path, lab)
    folder, _ = saelens(tmp_path / "other")
    monkeypatch.setattr("labkit.plan.card.budget", lambda device: (100, "a small machine"))
    monkeypatch.setattr("labkit.zoo.files.Tensor.__getitem__", lambda *args: pytest.fail("it was loaded"))
    for refused in (
        lambda: features.open(folder, lab),
        lambda: features.activations(run, sae),
        lambda: features.says(vectors, lab, 3),
        lambda: features.spliced(lab, IDS, sae),
    ):
        with pytest.raises(BudgetError):
            refused()


# ----------------------------------------------------------------------------------------------------------- readings


def test_activations_are_the_strongest_and_the_error_beside_them(own, tmp_path):
    lab, run = own
    folder, _ = saelens(tmp_path, "jumprelu")
    sae, rows = features.open(folder, lab), [4, 9, 2, 16]
    ds = features.activations(run, sae, tokens=rows, top=6)
    x = run.seams[3, "resid_post"][rows]
    s = sae.encode(x)
    best = s.sort(descending=True)
    assert (ds.feature.values == best.indices[:, :6].numpy()).all()
    np.testing.assert_allclose(ds.strength, best.values[:, :6], rtol=1e-5)
    assert ds.active.values.tolist() == (s > 0).sum(-1).tolist() and ds.token.values.tolist() == rows
    off = x - sae.decode(s, x)
    np.testing.assert_allclose(ds.error, off.norm(dim=-1) / x.norm(dim=-1), rtol=1e-4)
    assert float(ds.unexplained) == pytest.approx(float(off.square().sum() / (x - x.mean(0)).square().sum()), rel=1e-4)
    np.testing.assert_allclose(ds.cosine, torch.cosine_similarity(x, x - off), atol=1e-5)
    assert ds.attrs["dictionary"].endswith(folder.name) and ds.attrs["layer"] == 3


def test_where_fewer_are_active_none_is_named(own, tmp_path):
    lab, run = own
    folder, _ = saelens(tmp_path, "jumprelu", more={"threshold": torch.full((N,), 1e6)})
    ds = features.activations(run, features.open(folder, lab), tokens=-1, top=3)
    assert ds.feature.values.tolist() == [[-1, -1, -1]] and not ds.strength.any() and not ds.active.any()


def test_rows_in_parts_are_rows_at_once(own, tmp_path, monkeypatch):
    lab, run = own
    path, _ = scope(tmp_path)
    sae = features.open(path, lab)
    whole, spliced = features.activations(run, sae), features.spliced(lab, IDS, sae)
    monkeypatch.setattr("labkit.features.dictionary.SCRATCH", 16 * 1024 * 3)
    assert sae.rows() == 3
    for name, values in features.activations(run, sae).data_vars.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(features.spliced(lab, IDS, sae).divergence, spliced.divergence, atol=1e-4)


def test_a_control_has_the_same_norms_and_angles_in_another_space(own, tmp_path):
    lab, run = own
    folder, raw = saelens(tmp_path, "topk")
    sae = features.open(folder, lab)
    control, other = sae.control(3), sae.control(4)
    own_rows, rows = sae.directions([*range(N)]), control.directions([*range(N)])
    torch.testing.assert_close(rows @ rows.T, own_rows @ own_rows.T, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(rows, own_rows) and not torch.allclose(rows, other.directions([*range(N)]))
    assert control.weights["W_enc"].data_ptr() == sae.weights["W_enc"].data_ptr()
    turn = torch.linalg.lstsq(own_rows, rows).solution  # the orthogonal map between the two
    torch.testing.assert_close(turn @ turn.T, torch.eye(D), atol=1e-3, rtol=0)
    x, mean = run.seams[3, "resid_post"], raw["b_dec"]
    back = (x - mean) @ turn.T + mean
    torch.testing.assert_close(control.encode(x), sae.encode(back), atol=1e-3, rtol=1e-3)
    ds = features.activations(run, sae, seed=3)
    off = x - control.decode(control.encode(x), x)
    np.testing.assert_allclose(ds.control_error, off.norm(dim=-1) / x.norm(dim=-1), rtol=1e-4)


def test_a_control_that_explains_as_much_is_told(own):
    lab, run = own
    x = run.seams[3, "resid_post"]
    mean = x.mean(0)
    basis = features.of_matrix(torch.eye(D), lab, layer=3, k=D)
    ds = features.activations(run, basis)
    assert float(ds.unexplained) < 1e-9 and "the control explains as much" in ds.attrs["verdict"]
    found = torch.linalg.svd(x - mean, full_matrices=False)[2][:6]
    ds = features.activations(run, features.of_matrix(found, lab, layer=3, k=6, mean=mean))
    assert float(ds.unexplained) < float(ds.control_unexplained) and "the control explains" not in ds.attrs["verdict"]


def test_a_complete_basis_loses_nothing_and_the_mean_everything(own):
    lab, run = own
    basis = features.of_matrix(torch.linalg.qr(rand(D, D))[0], lab, layer=1, k=D)
    ds = features.spliced(lab, IDS, basis)
    assert ds.attrs["recovered"] > 1 - 1e-6 and float(ds.divergence.sel(splice="reconstruction").max()) < 1e-6
    own_rows = lab.trace(IDS, logits="all").logits.log_softmax(-1)
    lost = -own_rows[range(16), IDS[1:]]
    np.testing.assert_allclose(ds.loss.sel(splice="as it is")[:-1], lost, atol=1e-5)
    assert np.isnan(ds.loss[:, -1]).all()
    x = run.seams[1, "resid_post"]
    with lab.edit(edit.set("resid_post", layer=1, value=x.mean(0))):
        said = lab.trace(IDS, logits="all").logits.log_softmax(-1)
    far = torch.nn.functional.kl_div(said, own_rows, log_target=True, reduction="none").sum(-1)
    np.testing.assert_allclose(ds.divergence.sel(splice="mean"), far, atol=1e-4)


def test_an_edit_of_all_tokens_begins_with_the_first(own, tmp_path):
    lab, run = own
    folder, raw = saelens(tmp_path, "standard")
    sae, x = features.open(folder, lab), run.seams[3, "resid_post"]
    with lab.edit(features.clamp(sae, 7, value=3.0)):
        moved = lab.trace(IDS).seams[3, "resid_post"]
    expected = x + (3 - sae.encode(x)[:, [7]]) * raw["W_dec"][7]
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)


def test_only_chosen_tokens_are_spliced(own, tmp_path):
    lab, run = own
    path, raw = scope(tmp_path)
    sae = features.open(path, lab)
    ds = features.spliced(lab, IDS, sae, tokens=[-4])
    assert float(abs(ds.divergence[:, :13]).max()) < 1e-6 and float(ds.divergence[1, 13]) > 1e-4
    x = run.seams[3, "resid_post"]
    made = sae.decode(sae.encode(x), x)
    with lab.edit(edit.set("resid_post", layer=3, value=made[13], tokens=[13])):
        said = lab.trace(IDS, logits="all").logits.log_softmax(-1)
    lost = -said[13, IDS[14]]
    assert float(ds.loss.sel(splice="reconstruction")[13]) == pytest.approx(float(lost), abs=1e-4)
    with pytest.raises(InputError, match="nothing follows"):
        features.spliced(lab, [5], sae)


def test_a_feature_says_its_direction_through_norm_and_unembedding(own, tmp_path):
    lab, _ = own
    path, raw = scope(tmp_path)
    sae = features.open(path, lab)
    ds = features.says(sae, lab, [7, 100], top=4)
    direction = raw["W_dec"].T[100].double()
    unit = direction / (direction.square().mean() + 1e-6).sqrt() * (1 + lab.final_norm.weight.double())
    said = lab.unembedding.weight.double() @ unit
    best = (said - said.mean()).sort(descending=True)
    assert ds.raised_id[1].values.tolist() == best.indices[:4].tolist()
    np.testing.assert_allclose(ds.raised[1], best.values[:4], rtol=1e-4)
    assert ds.lowered_id[1].values.tolist() == best.indices.flip(0)[:4].tolist()
    np.testing.assert_allclose(ds.lowered[1], best.values.flip(0)[:4], rtol=1e-4)
    assert (ds.control.values != ds.raised.values).all() and ds.feature.values.tolist() == [7, 100]
    with pytest.raises(InputError, match="another space"):
        features.says(features.of_matrix(torch.eye(D), lab, layer=3, seam="mixer_in", k=3), lab, 0)
    with pytest.raises(InputError, match="feature out of range"):
        features.says(sae, lab, 1024)


# -------------------------------------------------------------------------------------------------------------- edits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["standard", "topk", "gated"])
def test_a_factor_of_one_changes_no_bit(tmp_path, kind, dtype):
    lab = tiny.make_lab(tiny.model(dtype=dtype))
    folder, _ = saelens(tmp_path, kind, normalize_activations="layer_norm")
    sae, run = features.open(folder, lab), lab.trace(IDS, logits="all")
    with lab.edit(features.scale(sae, [3, 20, 69], factor=1.0)):
        same = lab.trace(IDS, logits="all")
    assert torch.equal(same.logits, run.logits)
    with lab.edit(features.scale(sae, [*range(N)], factor=0.5)):
        other = lab.trace(IDS, logits="all")
    assert not torch.equal(other.logits, run.logits)


@pytest.mark.parametrize("norm", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("kind", ["topk", "jumprelu", "batchtopk"])
def test_edits_move_a_feature_and_nothing_else(own, tmp_path, kind, norm):
    lab, run = own
    folder, raw = saelens(tmp_path, kind, normalize_activations=norm)
    sae, x = features.open(folder, lab), run.seams[3, "resid_post"]
    s = sae.encode(x)
    used = s.max(0).values.topk(2).indices.tolist()
    made = {}
    changes = {
        "ablate": (features.ablate(sae, used, tokens=[5, 6, 11]), torch.zeros_like),
        "double": (features.scale(sae, used, factor=2.0, tokens=[5, 6, 11]), lambda old: 2 * old),
        "clamp": (features.clamp(sae, used, value=1.5, tokens=[5, 6, 11]), lambda old: torch.full_like(old, 1.5)),
    }
    for name, (change, new) in changes.items():
        with lab.edit(change):
            made[name] = lab.trace(IDS).seams[3, "resid_post"]
        wanted = s.clone()
        wanted[:, used] = new(s[:, used])
        step = sae.decode(wanted, x) - sae.decode(s, x)
        torch.testing.assert_close((made[name] - x)[[5, 6, 11]], step[[5, 6, 11]], atol=2e-4, rtol=1e-3)
        assert torch.equal(made[name][[0, 4]], x[[0, 4]])
    assert s[[5, 6, 11]][:, used].any() and not torch.equal(made["ablate"], x)


def test_an_edit_is_known_by_the_numbers_of_its_dictionary(own, tmp_path):
    lab, _ = own
    path, _ = scope(tmp_path)
    first, again = features.open(path, lab), features.open(path, lab)
    key = lambda sae, **options: edit.checked([features.scale(sae, 3, **options)], lab.spec)[0].fingerprint
    assert key(first, factor=2.0) == key(again, factor=2.0) is not None
    assert key(first, factor=2.0) != key(first, factor=3.0)
    assert key(first.control(), factor=2.0) != key(first, factor=2.0)
    path, _ = scope(tmp_path, b_enc=rand(1024, seed=77))
    assert key(features.open(path, lab), factor=2.0) != key(first, factor=2.0)
    clamp = edit.checked([features.clamp(first, 3, value=2.0)], lab.spec)[0].fingerprint
    assert clamp not in (None, key(first, factor=2.0))


def test_edits_hold_in_decode_and_in_chunks(own, tmp_path):
    lab, _ = own
    path, _ = scope(tmp_path)
    with lab.edit(features.clamp(features.open(path, lab), [5, 6], value=4.0)):
        whole = lab.trace(IDS)
        parts, grown = lab.trace(IDS, chunk=1), lab.generate(IDS[:9], max_new_tokens=4)
        again = lab.trace(grown.ids)
    for name in ("resid_pre", "resid_post"):
        torch.testing.assert_close(whole.seams[3, name], parts.seams[3, name], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(again.seams[3, name], grown.seams[3, name], atol=1e-3, rtol=1e-3)


def test_edits_hold_in_a_batch_and_read_their_own_tokens_alone(own, tmp_path, monkeypatch):
    lab, _ = own
    sae = features.open(scope(tmp_path)[0], lab)
    prompts = [IDS.tolist(), IDS[3:11].tolist()]
    for change in (features.clamp(sae, [5, 6], value=4.0, tokens=[2, 6]), features.reconstruct(sae, tokens=[2, 6])):
        with lab.edit(change):
            alone, together = [lab.trace(prompt) for prompt in prompts], lab.trace(prompts)
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-4)
    seen, encode = [], type(sae).encode
    monkeypatch.setattr(type(sae), "encode", lambda self, x: seen.append(len(x)) or encode(self, x))
    with lab.edit(features.scale(sae, 5, factor=2.0, tokens=[2, 6])):
        lab.trace(IDS)
    assert sum(seen) == 2


def test_what_depends_on_a_changed_feature_can_be_differentiated(own, tmp_path):
    lab, _ = own
    sae = features.open(saelens(tmp_path, "jumprelu")[0], lab)
    with lab.edit(features.reconstruct(sae, tokens=[6])):
        run = lab.trace(IDS, grad=True)
        slope = run.gradient(run.logits[-1, 7], layer=3, seam="resid_pre")
    step = torch.zeros(D).index_fill(0, torch.tensor([5]), 1e-2)
    said = []
    for sign in (1, -1):
        nudge = edit.add("resid_pre", layer=3, vector=sign * step, tokens=[6])
        with lab.edit(nudge, features.reconstruct(sae, tokens=[6])):
            said.append(lab.trace(IDS).logits[-1, 7])
    assert float(slope[6, 5]) == pytest.approx(float(said[0] - said[1]) / 2e-2, rel=0.05, abs=1e-4)


def test_edits_of_the_wrong_kind_are_told(own, tmp_path):
    lab, run = own
    vectors = features.of_matrix(torch.eye(D), lab, layer=3, k=3)
    atoms = features.open(writesae(tmp_path)[0], lab)
    for call in (
        lambda: features.clamp(atoms, 3, value=1.0),
        lambda: features.reconstruct(atoms),
        lambda: features.spliced(lab, IDS, atoms),
        lambda: features.says(atoms, lab, 3),
        lambda: features.scale_atom(vectors, 3, factor=0.0, at=2),
        lambda: features.clamp(vectors, [3, 3], value=1.0),
        lambda: features.clamp(vectors, 2 * D, value=1.0),
        lambda: features.scale(vectors, 3, factor=float("nan")),
        lambda: features.activations(run, atoms),
        lambda: features.activations("red fox", vectors),
        lambda: features.replace_write(atoms, 3, edit.state(torch.zeros_like, layer=1, at=3, heads=2)),
        lambda: features.replace_write(atoms, 3, edit.state(torch.zeros_like, layer=1, at=3, heads=4), match="size"),
        lambda: features.of_matrix(torch.zeros(2, D), lab, layer=3, k=1),
        lambda: features.of_matrix(torch.eye(D + 1), lab, layer=3, k=1),
        lambda: features.of_matrix(torch.eye(D) / 0, lab, layer=3, k=1),
        lambda: features.of_matrix(torch.eye(D), lab, layer=3, seam="read", k=1),
        lambda: features.of_matrix(torch.eye(D), lab, layer=3, k=2 * D + 1),
    ):
        with pytest.raises(InputError):
            call()


# ---------------------------------------------------------------------------------------------------------- of states


def test_atoms_read_the_states_of_their_head(own, tmp_path):
    lab, _ = own
    folder, _ = writesae(tmp_path)
    sae = features.open(folder, lab)
    run = lab.generate(IDS, max_new_tokens=5, states=[1])
    states = run.states[1][:, 4]
    ds = features.activations(run, sae, top=3)
    s = sae.encode(states)
    assert (ds.feature.values == s.topk(3).indices.numpy()).all() and ds.attrs["head"] == 4
    assert ds.token.values.tolist() == list(range(len(run) - len(states), len(run)))
    off = states - sae.decode(s, states)
    np.testing.assert_allclose(ds.error, off.flatten(1).norm(dim=-1) / states.flatten(1).norm(dim=-1), rtol=1e-4)
    cache = lab.cache()
    lab.trace(run.ids, cache=cache)
    last = features.activations(lab.snapshot(cache), sae, top=3)
    np.testing.assert_allclose(last.strength[0], ds.strength[-1], atol=1e-4)
    assert last.token.values.tolist() == [len(run) - 1]
    control = sae.control(1)
    made = control.decode(control.encode(states), states)
    np.testing.assert_allclose(
        features.activations(run, sae, seed=1).control_error,
        (states - made).flatten(1).norm(dim=-1) / states.flatten(1).norm(dim=-1),
        rtol=1e-4,
    )
    assert float(control.atom(3).norm()) == pytest.approx(float(sae.atom(3).norm()), rel=1e-5)
    assert not torch.allclose(control.atom(3), sae.atom(3))


def test_a_control_of_atoms_reads_what_it_adds(own, tmp_path):
    lab, _ = own
    folder, raw = writesae(tmp_path, "bilinear_tied")
    sae = features.open(folder, lab)
    control, S = sae.control(2), rand(6, DK, DV, seed=9)
    atoms = torch.stack([control.atom(feature) for feature in range(N)])
    torch.testing.assert_close(control.encode(S), top(torch.tensordot(S, atoms, ([1, 2], [1, 2])) + raw["b_enc"]))
    torch.testing.assert_close(atoms.flatten(1).norm(dim=-1), torch.stack([sae.atom(f).norm() for f in range(N)]))
    assert not torch.allclose(atoms[5], sae.atom(5)) and not torch.equal(atoms[5].abs(), sae.atom(5).abs())


def changed_reads(lab, run, change):
    """(predicted, measured) reads of layer 1 after an edit of its state."""
    with lab.edit(change):
        changed = lab.trace(IDS)
    at = change.at
    predicted = deltanet.response(run, change, layer=1).predicted
    measured = deltanet.measured(run, changed, layer=1, at=at, heads=[4]).measured
    return predicted.values, measured.values


def test_an_edit_of_an_atom_moves_reads_as_the_rule_says(own, tmp_path):
    lab, run = own
    sae = features.open(writesae(tmp_path)[0], lab)
    state = deltanet.recompute.walk(run, 1, "test", at=[8]).states[0, 4]
    strengths = sae.encode(state[None])[0]
    used = int(strengths.argmax())
    write = deltanet.forget(run, layer=1, source=8, at=8, heads=4)
    x = deltanet.recompute.inputs(run, 1)
    native = x.beta[8, 4] * torch.outer(x.k[8, 4 // 3], x.v[8, 4])
    atom = sae.atom(used)
    wanted = {
        "add": (features.add_atom(sae, used, strength=-2.0, at=8), -2 * atom),
        "erase": (features.scale_atom(sae, used, factor=0.0, at=8), -strengths[used] * atom),
        "replace": (features.replace_write(sae, used, write), strengths[used] * atom - native),
        "match": (
            features.replace_write(sae, used, write, match="norm"),
            native.norm() / atom.norm() * atom - native,
        ),
    }
    for name, (change, delta) in wanted.items():
        step = change.change(state[None, None])[0, 0] - state
        torch.testing.assert_close(step, delta, atol=1e-4, rtol=1e-4, msg=name)
        predicted, measured = changed_reads(lab, run, change)
        np.testing.assert_allclose(predicted, measured, atol=1e-5, err_msg=name)
        assert abs(measured).max() > 1e-3
        assert edit.checked([change], lab.spec)[0].fingerprint is not None


def test_an_atom_times_one_changes_no_bit(own, tmp_path):
    lab, run = own
    sae = features.open(writesae(tmp_path)[0], lab)
    state = rand(2, 1, DK, DV)
    for feature in range(0, N, 7):
        assert torch.equal(features.scale_atom(sae, feature, factor=1.0, at=8).change(state), state)
    with pytest.raises(InputError, match="another model"):
        features.add_atom(sae, 3, strength=1.0, at=8).change(torch.zeros(1, 1, DV, DK))
