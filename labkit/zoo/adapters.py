"""An adapter of PEFT on disk: `adapter_config.json` and `adapter_model.safetensors`, put into its base.

Of PEFT's many kinds LoRA is read, with its variants that are settings of the same equations (rank-stabilised scaling,
DoRA, ranks by module, modules that were trained whole). The configuration is read field by field: PEFT's own reader
would import modules that a file names. The tensors must be exactly those that the configuration makes in this base.
"""

import dataclasses
import pathlib
import re

from labkit.errors import BackendError, CheckpointError, InputError, first_line
from labkit.families import Family
from labkit.spec.documents import shown
from labkit.zoo import files, finding, matching, precision, tokens
from labkit.zoo.loading import quiet
from labkit.zoo.settings import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAMES = re.compile(r"[\w.*]{1,300}")
RULE = re.compile(r"[\w.*+?^$|()\\\[\]-]{1,1000}")  # PEFT takes a text as a regular expression
REPEATS = 3  # in one, and none of a group: matching takes as many steps as a name has signs, to that power


def _rule(text, signs=RULE):
    """Whether PEFT may match names of modules with it."""
    bare = re.sub(r"(?<=[*+?])\?|(?<=\()\?", "", re.sub(r"\\.", "x", text))  # `.*?` is one repetition, `(?` none
    return bool(signs.fullmatch(text)) and len(re.findall("[*+?]", bare)) <= REPEATS and not re.search(r"\)[*+?]", bare)


def _names(value):
    listed = isinstance(value, list) and all(isinstance(name, str) and _rule(name, NAMES) for name in value)
    return listed or (isinstance(value, str) and _rule(value))


def _numbers(value):
    return isinstance(value, dict) and all(_rule(name) and _number(each) for name, each in value.items())


def _number(value):
    return type(value) in (int, float) and 0 < value < 2**20


def _layers(value):
    return type(value) is int or (isinstance(value, list) and all(type(layer) is int for layer in value))


FIELDS = {  # of LoRA's configuration: what they may be
    "r": lambda value: type(value) is int and 0 < value < 2**16,
    "lora_alpha": _number,
    "target_modules": _names,
    "exclude_modules": _names,
    "modules_to_save": _names,
    "target_parameters": _names,
    "layers_to_transform": _layers,
    "layers_pattern": _names,
    "rank_pattern": _numbers,
    "alpha_pattern": _numbers,
    "use_rslora": lambda value: isinstance(value, bool),
    "use_dora": lambda value: isinstance(value, bool),
    "lora_bias": lambda value: isinstance(value, bool),
    "fan_in_fan_out": lambda value: value is False,
    "bias": lambda value: value == "none",
}
# Take no part once an adapter is trained.
UNREAD = ("auto_mapping", "base_model_name_or_path", "inference_mode", "init_lora_weights", "lora_dropout", "peft_type")
UNREAD += ("peft_version", "revision", "task_type", "megatron_core", "runtime_config", "loftq_config", "eva_config")
UNREAD += ("corda_config", "lora_ga_config", "qalora_group_size", "ensure_weight_tying")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A checked adapter: where it is, LoRA's settings, the base that it names, its tensors, whether to merge it."""

    folder: pathlib.Path
    fields: dict
    base: str | None
    tensors: dict
    merge: bool

    @property
    def name(self) -> str:
        """As modules may be called."""
        return re.sub(r"\W", "_", self.folder.resolve().name) or "adapter"

    @property
    def tokenizer(self) -> pathlib.Path | None:
        """The folder, if a tokenizer was saved with the adapter."""
        return self.folder if tokens.held(self.folder) else None


def is_one(name) -> bool:
    """Whether a name is a folder that holds an adapter and no model."""
    folder = finding.local(name) if isinstance(name, str | pathlib.Path) and name else None
    if folder is None or not (folder / CONFIG).is_file():
        return False
    return not any((folder / file).exists() for file in (files.SINGLE, files.INDEX))


def read(folder: pathlib.Path, *, merge: bool, quantize: str | None) -> Adapter:
    """The adapter of a folder; no weight is read.

    Raises:
        BackendError: peft is not installed. CheckpointError: another kind than LoRA, settings that are none, pickles.
        InputError: to be merged into weights that are packed.
    """
    config = read_json(folder, CONFIG)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            "an adapter of a kind that labkit does not read",
            got=f"peft_type {shown(config.get('peft_type'))}",
            expected="LORA",
            hint="labkit.load(model, tokenizer=...) takes the model of PEFT that holds it",
        )
    if odd := [name for name, value in config.items() if name not in (*FIELDS, *UNREAD) and value]:
        got = ", ".join(f"{name} {shown(config[name])}" for name in odd[:3])
        raise CheckpointError("an adapter with settings that labkit does not read", got=f"{CONFIG}: {got}")
    fields = {name: config[name] for name in FIELDS if config.get(name) not in (None, {}, [])}
    if wrong := [name for name, value in fields.items() if not FIELDS[name](value)]:
        got = f"{CONFIG}: {wrong[0]} is {shown(fields[wrong[0]])}"
        expected = (
            f"names of modules, at most {REPEATS} signs of * + ? in each"
            if FIELDS[wrong[0]] in (_names, _numbers)
            else None
        )
        what, hint = "a setting of the adapter that is none", "download the file again"
        raise CheckpointError(what, got=got, expected=expected, hint=hint)
    if merge and quantize:
        hint = "labkit.load(adapter, base=..., merge=True), or quantize without merge"
        raise InputError(
            "packed weights cannot take an adapter in", got=f"merge=True, quantize={quantize!r}", hint=hint
        )
    if not (folder / WEIGHTS).is_file():
        others = files.listed(sorted(path.name for path in folder.iterdir() if path.suffix in files.PICKLES))
        raise CheckpointError("the adapter's weights are missing", got=others or folder.name, expected=WEIGHTS)
    precision.need_packages(("peft",), "an adapter")
    base = config.get("base_model_name_or_path")
    return Adapter(folder, fields, base if isinstance(base, str) else None, files.header(folder / WEIGHTS), merge)


def base_of(adapter: Adapter, given):
    """The name of the base: the given one, or the one that the adapter names, which may not reach for the network.

    Raises:
        InputError, CheckpointError: none, or not on this machine; the hint is the call that helps.
    """
    if given is not None:
        return given
    hint = f'labkit.load("{adapter.folder}", base="path/or/hub id of its base")'
    if not adapter.base:
        raise InputError(
            "the adapter does not name its base", got=CONFIG, expected="base_model_name_or_path", hint=hint
        )
    if (path := finding.local(adapter.base)) and path.is_dir():
        return adapter.base
    if not finding.HUB_ID.fullmatch(adapter.base) or not finding.cached(adapter.base):
        got = f"{CONFIG} names {adapter.base[:200]}, which is not on this machine"
        raise CheckpointError("the base of the adapter is not there", got=got, hint=hint)
    return adapter.base


def put(model, adapter: Adapter, family: Family) -> tuple:
    """(the model with the adapter in it, active, or merged into its weights; a note that says so).

    Raises:
        CheckpointError: tensors that are not those the configuration makes in this model, or NaN.
        BackendError: PEFT failed.
    """
    with quiet():
        import peft
        from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    name = adapter.name
    whole = any(".base_layer." in key for key in adapter.tensors)  # of an embedding with an adapter on it
    try:
        with quiet():
            around = peft.get_peft_model(model, peft.LoraConfig(**adapter.fields), adapter_name=name)
            expected = get_peft_model_state_dict(around, adapter_name=name, save_embedding_layers=whole)
    except Exception as error:  # of a library, over settings that were checked as far as they can be
        raise CheckpointError("the adapter does not fit this base", got=first_line(error)) from error
    stored = {_placed(key, family): key for key in adapter.tensors}
    _compare({new: adapter.tensors[key].shape for new, key in stored.items()}, expected)
    read = load_file(adapter.folder / WEIGHTS)
    weights = {new: read[key] for new, key in stored.items()}
    matching.refuse_broken_numbers(weights.items())
    try:
        with quiet():
            set_peft_model_state_dict(around, weights, adapter_name=name)
        around.eval()
        count = sum(hasattr(module, "merged_adapters") for module in around.modules())
        made = around.merge_and_unload() if adapter.merge else around.get_base_model()
    except Exception as error:
        raise BackendError("peft could not put this adapter in", got=first_line(error)) from error
    how = "merged into the weights" if adapter.merge else "beside the weights"
    return made, f"adapter {name}: LoRA of rank {adapter.fields.get('r', 8)} at {count} modules, {how}"


def _placed(name, family):
    """A tensor of an adapter that was trained in the other class of the family has its place in this one."""
    before = "base_model.model."
    placed = family.place(name.removeprefix(before)) if name.startswith(before) else None
    return name if placed is None else before + placed


def _compare(stored, expected):
    shapes = {name: tuple(weight.shape) for name, weight in expected.items()}
    if missing := sorted(shapes.keys() - stored.keys()):
        raise CheckpointError(
            "the adapter lacks tensors", got=f"{len(missing)} of {len(shapes)}: {files.listed(missing)}"
        )
    if extra := sorted(stored.keys() - shapes.keys()):
        raise CheckpointError(
            "the adapter holds tensors the model has no place for",
            got=f"{len(extra)} unexpected: {files.listed(extra)}",
            expected=f"the tensors of its {CONFIG} in this base",
        )
    if wrong := [name for name in shapes if tuple(stored[name]) != shapes[name]]:
        got, expected = f"{wrong[0]} {list(stored[wrong[0]])}", f"{list(shapes[wrong[0]])}, of this base"
        raise CheckpointError("the adapter is of another model", got=got, expected=expected)
