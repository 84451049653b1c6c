"""WriteSAE: `best.pt` with `{model_state_dict, config, ...}`, atoms of rank 1 for the state of one head.

As `core/train.py` and `core/sae.py` of its repository write and use them (arXiv 2605.12770): an atom is V_i W_iᵀ
[key, value], scaled by the strength s_i of

    bilinear, bilinear_tied    z_i = v_iᵀ S w_i + b_i, encoder vectors of its own or those of the decoder; the k largest
    rank1                      z = encoder · vec(S) + b; the k largest
    bilinear_jumprelu          the first, above the threshold exp(log_threshold)

and Ŝ = Σ_i s_i V_i W_iᵀ + bias. S is the state as the cache holds it: the paper trains on mean-centred states, its
code subtracts nothing, and the files hold no mean. Atoms of rank r are [feature, r, key] and [feature, r, value], old
ones of rank 1 lack the axis. With `use_batchtopk` the largest are chosen over a batch; here as its evaluation has it,
one state at a time. Pickled modules, which its model card also shows, are programs and are not read.
"""

import pathlib

import torch

from labkit.errors import CheckpointError, LayerError
from labkit.features.atoms import Atoms
from labkit.features.files import admitted, json_of, mapping, only, pickled, settled, size, tensor, told
from labkit.features.kinds import JumpRelu, TopK
from labkit.features.place import Place
from labkit.spec.documents import shown

FILES = ("best.pt", "final.pt")
STATE, SETTINGS = "model_state_dict", "config.json"
DECODER = {"rank1": ("V", "W")}
ENCODER = {
    "bilinear": ("V_enc", "W_enc", "b_enc"),
    "bilinear_tied": ("b_enc",),
    "bilinear_jumprelu": ("V_enc", "W_enc", "b_enc", "log_threshold"),
    "rank1": ("encoder.weight", "encoder.bias"),
}
KEPT = ("sae_type", "rank", "seed", "code_sha", "use_batchtopk")


def find(path: pathlib.Path, place: Place) -> pathlib.Path | None:
    """The file, if there may be one of this program."""
    if path.is_dir():
        return next((path / name for name in FILES if (path / name).is_file()), None)
    return path if path.suffix == ".pt" and path.is_file() else None


def read(path: pathlib.Path, place: Place) -> Atoms:
    """The atoms in the file.

    Raises:
        CheckpointError, InputError, BudgetError: see `features.open`. LayerError: a layer without states.
    """
    content, name = pickled(path), path.name
    if STATE not in content:
        raise CheckpointError(f"{name} is of no known program", got=shown(sorted(content)), expected=STATE)
    stored = mapping(content[STATE], f"{STATE} of {name}")
    beside = path.with_name(SETTINGS)
    facts = content.get("config") or (json_of(beside) if beside.is_file() else {})
    facts = mapping(facts, f"config of {name}")
    say = lambda fact, kind, default=None: told(facts, fact, kind, default, place=f"config of {name}")
    kind = say("sae_type", str, _guessed(stored))
    if kind not in ENCODER:
        got, expected = shown(kind), ", ".join(ENCODER)
        raise CheckpointError("a dictionary of states without atoms, or of another kind", got=got, expected=expected)
    layer, head = (place.agreed(part, say(part, int), place=f"config of {name}") for part in ("layer", "head"))
    weights = _weights(stored, kind, name)
    features, rank, dk, dv = *weights["V"].shape, weights["W"].shape[-1]
    for fact, own in (("n_features", features), ("rank", rank), ("d_k", dk), ("d_v", dv)):
        if say(fact, int, own) != own:
            raise CheckpointError(f"config of {name} is not of its tensors", got=f"{fact} {own}", expected=facts[fact])
    _check_place(place, layer, head, dk, dv, name)
    k = None if kind == "bilinear_jumprelu" else place.count(say("k", int), features, name)
    admitted({part: size(value) for part, value in weights.items()}, place.lab, name)
    weights, digest = settled(weights, place.lab, name, mapped=True)
    activation = TopK(k) if k else JumpRelu(weights.pop("log_threshold").exp())
    title, kept = "/".join(path.absolute().parts[-2:]), {fact: facts[fact] for fact in KEPT if fact in facts}
    return Atoms(title, "WriteSAE", layer, "state", activation, kept, digest, weights=weights, head=head)


def _guessed(stored):
    """The kind where no configuration says it; as `infer_sae_type`."""
    if "decoder.weight" in stored or "b_gate" in stored:
        return "flat" if "decoder.weight" in stored else "bilinear_gated"
    if "log_threshold" in stored:
        return "bilinear_jumprelu"
    return "rank1" if "V" in stored else "bilinear" if "V_enc" in stored else "bilinear_tied"


def _weights(stored, kind, place) -> dict[str, torch.Tensor]:
    """V, W of the atoms, bias [key, value]; left, right or encoder; b_enc; log_threshold."""
    names = DECODER.get(kind, ("V_dec", "W_dec"))
    only(stored, (*names, *ENCODER[kind], "bias", "steps_since_active"), place)
    bias = tensor(stored, "bias", (None, None), place)
    dk, dv = bias.shape

    def atoms(name, width):
        value = stored.get(name)
        flat = isinstance(value, torch.Tensor) and value.ndim == 2
        value = tensor(stored, name, (None, width) if flat else (None, None, width), place)
        return value[:, None] if flat else value

    decoder = {"V": atoms(names[0], dk), "W": atoms(names[1], dv)}
    features, rank = decoder["V"].shape[:2]
    made = decoder | {"bias": bias}
    if "V_enc" in ENCODER[kind]:
        made |= {"left": atoms("V_enc", dk), "right": atoms("W_enc", dv)}
    if kind == "rank1":
        made["encoder"] = tensor(stored, "encoder.weight", (features, dk * dv), place)
    for name in ("b_enc", "encoder.bias", "log_threshold"):
        if name in ENCODER[kind]:
            made[name.replace("encoder.bias", "b_enc")] = tensor(stored, name, (features,), place)
    for name in {"W", "left", "right"} & made.keys():
        if made[name].shape[:2] != (features, rank):
            got, expected = list(made[name].shape), [features, rank, made[name].shape[-1]]
            raise CheckpointError(f"{place}: as many atoms in {name}", got=got, expected=expected)
    return made


def _check_place(place, layer, head, dk, dv, name):
    spec = place.lab.spec
    place.width(layer, "resid_post")
    if layer not in spec.deltanet_layers:
        expected = f"a DeltaNet layer: {list(spec.deltanet_layers)}"
        raise LayerError(f"{name} is of states, and layer {layer} has none", got=layer, expected=expected)
    if (spec.dk, spec.dv) != (dk, dv) or not 0 <= head < spec.value_heads:
        got = f"head {head}, states {dk} x {dv}"
        expected = f"head 0 to {spec.value_heads - 1}, states {spec.dk} x {spec.dv}"
        raise CheckpointError(f"{name} is of another model", got=got, expected=expected)
