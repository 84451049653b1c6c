"""SAELens: a folder with `cfg.json` and `sae_weights.safetensors`; W_enc [channel, feature], W_dec [feature, channel].

Read as SAELens 6 does (`sae_lens/saes`, `handle_pre_6_0_config`): configurations from before 6.0 are flat and name
things otherwise; later ones keep `hook_name` and more in `metadata`. Architectures

    standard     relu
    topk         the k largest; with `rescale_acts_by_decoder_norm` ranked and told by z_i ‖W_dec,i‖
    jumprelu     relu above a threshold; what batch-top-k dictionaries are saved as
    batchtopk    the same while it is trained: one threshold for all, `topk_threshold`
    gated        b_gate, r_mag, b_mag

`apply_b_dec_to_input` is true where it is not told. `attn.hook_z` is what enters the output projection.
`expected_average_only_in` needs a factor that is not in the files.
"""

import pathlib
import re
from collections.abc import Mapping

import torch

from labkit.errors import CheckpointError
from labkit.features.dictionary import Dictionary
from labkit.features.files import admitted, json_of, mapping, only, settled, told
from labkit.features.kinds import Gated, JumpRelu, Relu, TopK
from labkit.features.place import Place
from labkit.lab import Lab
from labkit.spec.documents import shown
from labkit.zoo.files import FLOATS, header

SETTINGS, WEIGHTS = "cfg.json", "sae_weights.safetensors"
OLD = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
MORE = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "batchtopk": ("b_enc", "topk_threshold"),
    "gated": ("b_gate", "r_mag", "b_mag"),
}
HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "mixer_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "gated",
}
BLOCK = re.compile(r"blocks\.(\d{1,4})\.([\w.]{1,80})")
LAYER = re.compile(r"(?:model\.)?(?:language_model\.)?layers\.(\d{1,4})(?:\.output)?")  # the name in Hugging Face
NORMS = ("none", "layer_norm", "constant_norm_rescale")
KEPT = ("model_name", "hook_name", "hf_hook_name", "context_size", "dataset_path", "prepend_bos", "sae_lens_version")


def find(path: pathlib.Path, place: Place) -> pathlib.Path | None:
    """The folder, if it is one of this program."""
    folder = path if path.is_dir() else path.parent
    named = path.is_dir() or path.name in (SETTINGS, WEIGHTS)
    return folder if named and all((folder / name).is_file() for name in (SETTINGS, WEIGHTS)) else None


def read(folder: pathlib.Path, place: Place) -> Dictionary:
    """The dictionary in the folder.

    Raises:
        CheckpointError, InputError, BudgetError: see `features.open`.
    """
    facts = _modern(json_of(folder / SETTINGS))
    say = lambda name, kind, default=None: told(facts, name, kind, default, place=SETTINGS)
    kind, normalised = say("architecture", str, "standard"), say("normalize_activations", str, "none")
    _check(facts, kind, normalised)
    weights = _weights(folder / WEIGHTS, kind, place.lab)
    features, channels = weights["W_dec"].shape
    for name, own in (("d_sae", features), ("d_in", channels)):
        if say(name, int, own) != own:
            raise CheckpointError(f"{WEIGHTS} is not of this {SETTINGS}", got=f"{name} {own}", expected=facts[name])
    k = place.count(say("k", int), features, SETTINGS) if kind == "topk" else None
    layer, seam = (_agreed(place, name, facts) for name in ("layer", "seam"))
    place.check_width(channels, layer, seam, SETTINGS)
    weights, digest = settled(weights, place.lab, WEIGHTS, mapped=False)
    activation = _activation(kind, weights, k)
    kept = {name: weights[name] for name in ("W_dec", "b_dec")} | {"W_enc": weights["W_enc"].T}
    bias = weights["b_enc"] if kind != "gated" else torch.zeros_like(weights["b_gate"])
    if say("rescale_acts_by_decoder_norm", bool, kind == "batchtopk") and kind in ("topk", "batchtopk"):
        kept["scale"] = weights["W_dec"].norm(dim=-1)
    return Dictionary(
        name="/".join(folder.absolute().parts[-2:]),
        format="SAELens",
        layer=layer,
        seam=seam,
        activation=activation,
        facts={name: facts[name] for name in KEPT if type(facts.get(name)) in (str, int, bool)},
        digest=digest,
        weights=kept | {"b_enc": bias},
        centred=say("apply_b_dec_to_input", bool, True),
        normalised=normalised,
    )


def _modern(facts: Mapping) -> dict:
    """The configuration as 6.0 names it, `metadata` on one level with the rest."""
    more = mapping(facts.get("metadata") or {}, f"metadata of {SETTINGS}")
    flat = {OLD.get(name, name): value for name, value in facts.items() if name != "metadata"} | dict(more)
    function = flat.pop("activation_fn", "relu")
    if "architecture" not in flat:
        flat["architecture"] = "topk" if function == "topk" else "standard"
    elif function == "topk" and flat["architecture"] == "standard":
        flat["architecture"] = "topk"
    if function not in ("relu", "topk"):
        raise CheckpointError("a dictionary of another activation", got=shown(function), expected="relu or topk")
    options = mapping(flat.get("activation_fn_kwargs") or {}, f"activation_fn_kwargs of {SETTINGS}")
    if flat["architecture"] == "topk" and flat.get("k") is None:
        flat["k"] = options.get("k")
    norm = flat.get("normalize_activations")
    if isinstance(norm, bool):
        flat["normalize_activations"] = "expected_average_only_in" if norm else "none"
    return flat


def _check(facts, kind, normalised):
    """Refuse what would be read as something else."""
    if kind not in MORE:
        raise CheckpointError("a dictionary of another architecture", got=shown(kind), expected=", ".join(MORE))
    if normalised not in NORMS:
        hint = "SAE.fold_activation_norm_scaling_factor of SAELens, then save it again"
        expected = ", ".join(NORMS)
        what = "a normalisation that the files do not hold"
        raise CheckpointError(what, got=shown(normalised), expected=expected, hint=hint)
    if facts.get("hook_head_index") is not None or facts.get("hook_name_out") is not None:
        got = facts.get("hook_name_out") or f"head {facts['hook_head_index']}"
        raise CheckpointError("a dictionary that reads one place and writes another, or one head", got=shown(got))
    if facts.get("finetuning_scaling_factor"):
        raise CheckpointError("a dictionary with finetuned strengths", got="finetuning_scaling_factor")
    if (shape := facts.get("reshape_activations") or "none") not in ("none", "hook_z"):
        raise CheckpointError("reshaped activations", got=shown(shape), expected="none or hook_z")


def _weights(path: pathlib.Path, kind: str, lab: Lab) -> dict[str, torch.Tensor]:
    """Tensors of the file, their names, shapes and sizes known from its header before one is read."""
    entries = header(path)
    names = ("W_enc", "W_dec", "b_dec", *MORE[kind])
    only(entries, (*names, "scaling_factor"), path.name)
    shapes = {name: entry.shape for name, entry in entries.items()}
    if len(shapes.get("W_dec", ())) != 2 or not all(shapes["W_dec"]):
        raise CheckpointError(f"{path.name}: W_dec", got=shown(shapes.get("W_dec")), expected="[feature, channel]")
    features, channels = shapes["W_dec"]
    wanted = {"W_enc": (channels, features), "W_dec": (features, channels), "b_dec": (channels,), "topk_threshold": ()}
    admitted({name: entry.bytes for name, entry in entries.items()}, lab, path.name)
    read = {}
    for name in (*names, *({"scaling_factor"} & entries.keys())):
        shape = wanted.get(name, (features,))
        if name not in entries or tuple(shapes[name]) != shape or entries[name].dtype not in FLOATS:
            got = f"{entries[name].dtype} {list(shapes[name])}" if name in entries else "nothing"
            raise CheckpointError(f"{path.name}: {name}", got=got, expected=f"real numbers {list(shape)}")
        read[name] = entries[name][...]
    if not bool((read.pop("scaling_factor", torch.ones(1)) == 1).all()):
        raise CheckpointError("a dictionary with finetuned strengths", got="scaling_factor")
    return read


def _activation(kind, weights, k):
    if kind == "topk":
        return TopK(k)
    if kind == "jumprelu":
        return JumpRelu(weights["threshold"])
    if kind == "batchtopk":
        return JumpRelu(weights["topk_threshold"].expand(len(weights["b_enc"])))
    return Relu() if kind == "standard" else Gated(weights["b_gate"], weights["r_mag"], weights["b_mag"])


def _agreed(place, name, facts):
    """Layer or seam of the hook that the file names; what was given, where its name is another."""
    hook = told(facts, "hook_name", str, "", place=SETTINGS)
    block, whole = BLOCK.fullmatch(hook), LAYER.fullmatch(hook)
    seam = HOOKS.get(block[2]) if block else "resid_post" if whole else None
    found = {"layer": int((block or whole)[1]) if block or whole else None, "seam": seam}
    return place.agreed(name, found[name], place=f"{SETTINGS}, hook {hook!r},")
