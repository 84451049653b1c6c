"""The head of a lab's checkpoint: read when it is first asked for, kept with the model, never part of it.

    x_t = fc [ norm(embedding of token t+1) ‖ norm(last hidden state of token t) ]
    logits of token t+2 = lm_head( norm( attention layer( x ) ) )

The modules are transformers' `MtpModel`; embedding, rotary angles and lm_head are the model's own. Weights that are
stored packed are unpacked, whatever the model computes with.
"""

import copy
import dataclasses
import pathlib
import types
import weakref
from typing import TYPE_CHECKING

import torch

from labkit import plan
from labkit.arguments import whole
from labkit.calling import public
from labkit.errors import BackendError, CheckpointError, first_line
from labkit.families import FAMILIES
from labkit.trace import cache_parameter, decoder
from labkit.zoo import files, loading, settings, unpacking

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

    from labkit.lab import Lab

PREFIX = "mtp."
# Where transformers puts what the published checkpoints call otherwise.
RENAMED = {
    "layers.0.eh_proj.": "fc.",
    "layers.0.enorm.": "pre_fc_norm_embedding.",
    "layers.0.hnorm.": "pre_fc_norm_hidden.",
    "layers.0.post_norm.": "norm.",
    "layers.0.mtp_block.": "layers.0.",
}
HINT = "labkit.mtp.head(lab, folder=...), a folder with the checkpoint's safetensors files"
_HEADS = weakref.WeakKeyDictionary()  # model -> Head


@dataclasses.dataclass(frozen=True, repr=False)
class Head:
    """A head that is loaded.

    Attributes:
        model: transformers' `MtpModel`; hooks on its modules fire in every call of `labkit.mtp`.
        folder: where its tensors came from. parameters: how many numbers they are; embedding and lm_head are shared.
    """

    model: "MtpModel"
    folder: pathlib.Path
    parameters: int

    def __repr__(self):
        return f"Head({self.parameters:,} parameters from {self.folder.name})"

    @property
    def layer(self) -> torch.nn.Module:
        """transformers' `MtpLayer`."""
        return self.model.layers[0]

    def empty(self):
        """A cache for its keys and values, one entry for every pair that it reads."""
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    def read(
        self,
        lab: "Lab",
        hidden: torch.Tensor,
        ids: torch.Tensor,
        positions: torch.Tensor,
        *,
        cache=None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the head hands to lm_head, [n, hidden].

        Args:
            hidden: [n, hidden] what the model hands to lm_head at a token, or the head itself at its last guess.
            ids: [n] the token after it. positions: [n] rotary positions of `ids`.
            cache: of `empty`; keys and values of these pairs are added.
            mask: [n, pairs read before and now], True where a pair may be looked at; None is each at those before it.
        """
        held = 0 if cache is None else cache.get_seq_length()
        ids, hidden = ids.to(lab.device), hidden.to(lab.device, lab.dtype)
        if mask is None and held and len(ids) > 1:
            mask = torch.ones(len(ids), held + len(ids), dtype=torch.bool).tril(held)
        seen = lab.model.get_input_embeddings()(ids)[None]
        return self.layer(
            seen,
            hidden[None],
            position_embeddings=decoder(lab.model).rotary_emb(seen, positions.to(lab.device)[None, None]),
            attention_mask=None if mask is None else mask.to(lab.device)[None, None],
            position_ids=None,
            **{cache_parameter(self.layer): cache},
        )[0]


@public
def head(lab: "Lab", *, folder: str | pathlib.Path | None = None) -> Head:
    """The multi-token-prediction head of a lab's checkpoint; loaded once, as long as the model stays where it is.

    Args:
        lab: `Lab`. folder: of safetensors files with the tensors `mtp.*`; None is where the model came from.

    Raises:
        CheckpointError: the model came from no folder or from a .gguf file; no such tensors there, or not those of one
            head of this model, or packed in a way that is not read here.
        BackendError: a model that ends with another layer than attention. BudgetError: it would not fit.
    """
    known = _HEADS.get(lab.model)
    place = known.folder if folder is None and known is not None else _folder(lab, folder)
    weight = None if known is None else known.layer.eh_proj.weight
    if weight is not None and (known.folder, weight.device, weight.dtype) == (place, lab.device, lab.dtype):
        return known
    from transformers.modeling_layers import MtpModel

    main = _main(lab)
    with torch.device("meta"), loading.quiet():
        made = MtpModel(main, 1)
        made.layers.to(lab.dtype)
    tensors = _tensors(lab, place, {_stored(name): tuple(w.shape) for name, w in made.layers.state_dict().items()})
    need = 2 * sum(tensor.bytes for tensor in tensors.values())
    plan.admit("mtp.head", 1, {"its weights, and a copy on the way": need}, lab.device)
    try:
        with loading.quiet():
            _fill(made, main, tensors)
            made.layers.to(lab.device).eval().requires_grad_(False)  # which refuses what found no tensor
    except Exception as error:  # whatever a library stumbles over in files that were checked
        raise CheckpointError("transformers could not load the head", got=first_line(error)) from error
    _HEADS[lab.model] = Head(made, place, sum(weight.numel() for weight in made.layers.parameters()))
    return _HEADS[lab.model]


def _fill(made, main, tensors):
    """Put tensors into `MtpModel`, as its `from_pretrained` does with what it reads from files by itself."""
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    ways = LoadStateDictConfig(weight_mapping=made.get_weight_conversions(main))
    convert_and_load_state_dict_in_model(made, tensors, ways)


def _folder(lab, folder):
    """The folder that holds the tensors."""
    if folder is not None:
        place = pathlib.Path(folder).expanduser()
        if not place.is_dir():
            raise CheckpointError("no such folder", got=folder, expected="a folder of safetensors files")
        return place.resolve()
    stored = str(getattr(lab.backend, "quantize", None) or "")
    if stored.startswith("gguf"):
        got = "a .gguf file"
        raise CheckpointError("multi-token-prediction heads are read from safetensors alone", got=got, hint=HINT)
    name = str(getattr(lab.model.config, "name_or_path", "") or "")
    if not name or not pathlib.Path(name).is_dir():
        got = f"a model in memory, of {name}" if name else "a model in memory"
        raise CheckpointError("this model came from no folder that could hold a head", got=got, hint=HINT)
    return pathlib.Path(name).resolve()


def _main(lab):
    """What `MtpModel` asks of its main model; the model and its configuration stay as they are."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    stack = decoder(lab.model)
    if lab.spec.kind(lab.spec.layers - 1) != "attention":
        got, expected = "a last layer of another kind", "attention, which the head is made of"
        raise BackendError("no head fits this model", got=got, expected=expected)
    config = copy.deepcopy(stack.config)
    config.num_mtp_layers, config.mtp_layer_types = 1, [config.layer_types[-1]]
    config._attn_implementation = "sdpa"  # which takes the masks of several chains
    renamings = getattr(lab.model, "_weight_conversions", None)
    return types.SimpleNamespace(
        config=config,
        lm_head=lab.unembedding,
        get_decoder=lambda: stack,
        get_input_embeddings=lab.model.get_input_embeddings,
        _keys_to_ignore_on_load_unexpected={"^mtp\\."},
        _weight_conversions=get_model_conversion_mapping(lab.model) if renamings is None else renamings,
    )


def _stored(name):
    """The published name of one of the tensors of `MtpModel.layers`."""
    name = f"layers.{name}"
    ours = next(ours for ours in RENAMED if name.startswith(ours))
    return PREFIX + RENAMED[ours] + name.removeprefix(ours)


def _tensors(lab, folder, shapes):
    """`{name: tensor that is read by indexing}` of the head in a folder: all there, of these shapes, unpacked."""
    stored = files.tensors(folder)
    found = {name: tensor for name, tensor in stored.items() if name.startswith(PREFIX)}
    packed = settings.stored(settings.read_json(folder, "config.json", {})) or {}
    if packed.get("quant_method") == "mlx" and any(f".{PREFIX}" in f".{name}" for name in stored):
        got = "MLX's layout, where norms of heads are found with one added and without, and nothing says which"
        expected = "the checkpoint that was converted, or another method"
        raise CheckpointError("no head is read from these files", got=got, expected=expected, hint=HINT)
    if packed.get("quant_method") in unpacking.METHODS:
        found = unpacking.gathered(found, packed)
    if not found:
        got, expected = f"none of {len(stored)} tensors", f"{len(shapes)} tensors {PREFIX}*"
        raise CheckpointError("this checkpoint holds no multi-token-prediction head", got=got, expected=expected)
    for name, tensor in found.items():
        if tensor.dtype not in files.FLOATS:
            got = f"{name}: {tensor.dtype}, quant_method {packed.get('quant_method')}"
            expected = f"{', '.join(files.FLOATS)}, or a method of config.json: {', '.join(unpacking.METHODS)}"
            raise CheckpointError("the head's weights are stored packed", got=got, expected=expected)
    expected = FAMILIES[lab.spec.family].stored_shapes(shapes, found)
    for what, names in (("lacks", expected.keys() - found.keys()), ("has more than", found.keys() - expected.keys())):
        if names:
            title = f"the checkpoint {what} the tensors of one head"
            raise CheckpointError(title, got=files.listed(sorted(names)), expected=f"{len(expected)} tensors {PREFIX}*")
    for name, tensor in found.items():
        if tensor.shape != expected[name]:
            got, size = f"{name}: {list(tensor.shape)}", str(list(expected[name]))
            raise CheckpointError("the head is of another model", got=got, expected=size)
    return found


def count(value: int, name: str, *, least: int) -> int:
    """How many tokens a chain guesses, at most 64."""
    return whole(value, name, least=least, most=64)
