"""Damaged dictionaries of other programs: pickles, zips, headers and settings.

None of these files carries a digest: a number that was changed to another finite one is what the file says. Right is
therefore what an independent reading of the damaged file computes.
"""

import json
import math
import pathlib
import random
import struct
from collections.abc import Iterator

import tiny
import torch
from safetensors.torch import load_file, save_file

from labkit import features
from tests.attacks import Outcome, attack, tried
from tests.attacks.json_damage import changed, garbled, put
from tests.attacks.weights import damaged_entry, dumped, parts, write_parts

D, N, K, DK, DV = 44, 1024, 5, 10, 14
EXTRA = {
    "activation_fn": ("relu", "topk", "tanh-relu", 3),
    "activation_fn_str": ("relu", "topk", None),
    "activation_fn_kwargs": ({"k": 3}, {"k": "3"}, [], None),
    "k": (1, 70, 71, 0, -1, 2.0, True, None),
    "hook_point": ("blocks.1.hook_resid_post", "blocks.99.hook_resid_post", "blocks.-1.hook_resid_pre"),
    "finetuning_scaling_factor": (True, False),
    "rescale_acts_by_decoder_norm": (True, False, None, 1),
    "hook_head_index": (3, None),
}
NUMBERS = {"W_enc": (N, D), "W_dec": (D, N), "b_enc": (N,), "b_dec": (D,)}


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def damaged_zip(path: pathlib.Path, rng: random.Random) -> str:
    """Damage a file of torch.save: bytes, its end, sizes in its directory; returns how."""
    data = bytearray(path.read_bytes())
    how = rng.choice(("flip", "pickle", "cut", "directory", "directory", "zeros", "twice", "before"))
    if how == "pickle":  # the first kilobytes, where the pickle and the first name stand
        data[rng.randrange(1200)] = rng.randrange(256)
    elif how == "flip":
        for _ in range(rng.choice((1, 5, 50))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[rng.randrange(len(data)) :]
    elif how == "directory":  # the last kilobyte: names, offsets and sizes
        at = len(data) - rng.randrange(4, 1000)
        data[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1, rng.randrange(2**20))))
    elif how == "zeros":
        at = rng.randrange(len(data))
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif how == "twice":
        data = data * 2
    else:
        data = bytearray(rng.randbytes(64)) + data
    path.unlink()
    path.write_bytes(data)
    return how


@attack("dictionaries: pickles", short=40, long=4000)
def pickles(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """`layer{n}.sae.pt` of Qwen-Scope and `best.pt` of WriteSAE with damage."""
    lab, rng = tiny.make_lab(tiny.model()), random.Random(seed)
    scope, write = folder / "SAE-Res-T-W1K-L0_5" / "layer3.sae.pt", folder / "write" / "best.pt"
    for path in (scope, write):
        path.parent.mkdir(parents=True)
    names = {"V_enc": (30, 1, DK), "W_enc": (30, 1, DV), "V_dec": (30, 1, DK), "W_dec": (30, 1, DV), "b_enc": (30,)}
    state = {name: rand(*shape, seed=index) for index, (name, shape) in enumerate(names.items())}
    config = {"sae_type": "bilinear", "layer": 1, "head": 4, "k": K}
    stored = {"model_state_dict": state | {"bias": rand(DK, DV)}, "config": config}
    x, S = rand(3, D, seed=8), rand(3, DK, DV, seed=9)

    def right_scope(sae):
        raw = torch.load(scope, weights_only=True, map_location="cpu")
        z = x @ raw["W_enc"].float().T + raw["b_enc"].float()
        return same(sae.encode(x), z, K) and sae.layer == 3

    def right_write(sae):
        raw = torch.load(write, weights_only=True, map_location="cpu")
        state, config = raw["model_state_dict"], raw["config"]
        z = torch.einsum("irk,nkv,irv->ni", state["V_enc"].view(-1, 1, DK), S, state["W_enc"].view(-1, 1, DV))
        return same(sae.encode(S), z + state["b_enc"], config["k"]) and (sae.layer, sae.head) == (
            config["layer"],
            config["head"],
        )

    for index in range(tries):
        for path in (scope, write):
            path.unlink(missing_ok=True)
        numbers = {name: rand(*shape, seed=len(name)) for name, shape in NUMBERS.items()}
        torch.save(numbers, scope)
        torch.save(stored, write)
        path, right = ((scope, right_scope), (write, right_write))[index % 2]
        how = damaged_zip(path, rng)
        yield tried(lambda path=path: features.open(path, lab), right, f"{path.name}, {how}")


@attack("dictionaries: settings and weights", short=40, long=4000)
def settings(tries: int, seed: int, folder: pathlib.Path) -> Iterator[Outcome]:
    """`cfg.json` and `sae_weights.safetensors` of SAELens with damage."""
    lab, rng = tiny.make_lab(tiny.model()), random.Random(seed)
    text, weights = folder / "cfg.json", folder / "sae_weights.safetensors"
    raw = {"W_enc": rand(D, 70), "W_dec": rand(70, D, seed=1), "b_enc": rand(70, seed=2), "b_dec": rand(D, seed=3)}
    place = {"hook_name": "blocks.3.hook_resid_post", "sae_lens_version": "6.18.0", "hook_head_index": None}
    facts = {"d_in": D, "d_sae": 70, "dtype": "float32", "apply_b_dec_to_input": True, "architecture": "topk", "k": K}
    facts |= {"normalize_activations": "none", "reshape_activations": "none", "metadata": place}
    x = rand(3, D, seed=8)

    def right(sae):
        told = json.loads(text.read_text())
        told = {key: value for key, value in told.items() if key != "metadata"} | (told.get("metadata") or {})
        stored = load_file(weights)
        entered = x
        if told.get("normalize_activations") == "layer_norm":
            entered = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
        if told.get("normalize_activations") == "constant_norm_rescale":
            entered = x / x.norm(dim=-1, keepdim=True) * math.sqrt(D)
        bias = stored["b_dec"].float() * (told.get("apply_b_dec_to_input") is not False)
        z = (entered - bias) @ stored["W_enc"].float() + stored["b_enc"].float()
        function = told.get("activation_fn_str") or told.get("activation_fn")
        kind = told.get("architecture") or function or "standard"
        k = told.get("k") or (told.get("activation_fn_kwargs") or {}).get("k")
        if "topk" in (kind, function):
            scale = stored["W_dec"].float().norm(dim=-1) if told.get("rescale_acts_by_decoder_norm") else 1
            return same(sae.encode(x), z * scale, k)
        return same(sae.encode(x), z, 70)

    for _ in range(tries):
        weights.unlink(missing_ok=True)
        save_file(raw, weights)
        put(text, json.dumps(facts))
        how = rng.choice(("facts", "facts", "text", "header", "bytes"))
        if how == "facts":
            damaged, what = changed(facts, rng, EXTRA)
            put(text, damaged)
        elif how == "text":
            damaged, what = garbled(json.dumps(facts), rng)
            put(text, damaged)
        elif how == "header":
            table, numbers = parts(weights)
            what = damaged_entry(table, rng)
            write_parts(weights, dumped(table), numbers)
        else:
            data, what = bytearray(weights.read_bytes()), "a byte"
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            weights.write_bytes(data)
        yield tried(lambda: features.open(folder, lab), right, f"{how}: {what}")


def same(strengths, z, k):
    """Whether these are the k largest of z, where they are above 0."""
    least = z.sort(-1, descending=True).values[:, k - 1 : k]
    return torch.allclose(strengths, torch.where((z >= least) & (z > 0), z, 0), atol=1e-3, rtol=1e-3)
