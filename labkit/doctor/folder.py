"""A checkpoint looked at without loading it: a verdict for each thing that goes wrong with checkpoints.

Names, shapes and settings go through what `labkit.load` itself uses, so a folder that passes here is taken there. Of
the weights no more than the headers is read, and lm_head and the embedding where both are stored and should be one.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Callable

import torch

from labkit import spec as specs
from labkit import thinking
from labkit.doctor.report import Report, Verdict
from labkit.errors import InputError, LabError, one_line
from labkit.families import FAMILIES
from labkit.plan import budget
from labkit.rotary import scaling_of
from labkit.spec import Spec, kv_bytes_per_token, parameters, size, vision_parameters, weight_bytes
from labkit.zoo import (
    adapters,
    files,
    finding,
    gguf,
    held,
    loading,
    matching,
    names,
    precision,
    routes,
    settings,
    tokens,
    towers,
    unpacking,
)

ASK = [{"role": "user", "content": "red fox"}]


@dataclasses.dataclass
class Patient:
    """A folder, the device it would be loaded to, and what the checks have found so far."""

    folder: pathlib.Path
    place: torch.device
    config: dict | None = None
    spec: Spec | None = None
    tensors: dict | None = None
    tokenizer: object = None


def examine(folder: str | pathlib.Path, *, device=None) -> Report:
    """Verdicts on a checkpoint's folder, on that of an adapter and its base, or on a .gguf file.

    Args:
        device: where it would be loaded to; None is the GPU if there is one.

    Raises:
        InputError: no folder. BackendError: no such device.
    """
    kind, where = finding.find(folder)
    if kind == "gguf":
        with loading.quiet():
            return Report((_tried("gguf", lambda: _gguf(where, precision.device_of(device))),))
    if kind not in ("folder", "nano"):
        got, hint = str(folder), "labkit.load(...) checks files and hub ids before it reads weights"
        raise InputError("not the folder of a checkpoint", got=got, expected="a folder", hint=hint)
    place, verdicts = precision.device_of(device), []
    if adapters.is_one(where):
        base = []
        verdicts.append(_tried("adapter", lambda: _adapter(where, base)))
        if not base:
            return Report(tuple(verdicts))
        where = base[0]
    patient = Patient(where, place)
    with loading.quiet():
        for check, needed in CHECKS.items():
            name = check.__name__.replace("_", " ")
            if absent := [what for what in needed if getattr(patient, what) is None]:
                verdicts.append(Verdict(name, "warn", f"not looked at: {SAID[absent[0]]} above comes first"))
            else:
                verdicts.append(_tried(name, lambda check=check: check(patient)))
    return Report(tuple(verdicts))


def _tried(name: str, check: Callable) -> Verdict:
    """The verdict of one check, "fail" with what to do where labkit refuses something."""
    try:
        return Verdict(name, *check())
    except LabError as error:
        return Verdict(name, "fail", told(error))
    except Exception as error:  # whatever else goes wrong is a verdict, and the other checks still run
        return Verdict(name, "fail", f"the check stumbled: {one_line(error)}")


def told(error: LabError) -> str:
    """An error of labkit in one line, and what to do about it."""
    facts = (("", error.what), ("", error.got), ("expected ", error.expected), ("try ", error.hint))
    return "; ".join(f"{name}{' '.join(str(fact).split())}" for name, fact in facts if fact is not None)


def _adapter(folder, base):
    """An adapter and whether its base is here; the base's folder goes into a list."""
    adapter = adapters.read(folder, merge=False, quantize=None)
    kind, where = finding.find(adapters.base_of(adapter, None))
    if kind in ("folder", "nano"):
        base.append(where)
    text = f"LoRA of rank {adapter.fields.get('r', 8)}, {len(adapter.tensors)} tensors; its base is {where}"
    return "ok", text + ("" if base else ", which labkit.load looks at")


def _gguf(path, place):
    """All that `labkit.load` checks of a .gguf file before it reads weights."""
    ready = gguf.checked(path, place=place, dtype=None, quantize=None)
    tokens.of_ready(ready, None)
    text = f"{ready.family.title}; {ready.spec.layers} layers, {parameters(ready.spec)['text']:,} parameters"
    return "ok", f"{text}; labkit.load takes it, unpacked to {str(ready.dtype).removeprefix('torch.')}"


def configuration(patient: Patient) -> tuple[str, str]:
    """The sizes, the family, and that no code of its own is to run."""
    config = settings.read_json(patient.folder, "config.json")
    settings.refuse_code(patient.folder)
    spec = specs.read(patient.folder)
    settings.generation_config(patient.folder, spec)
    patient.config, patient.spec = config, spec
    text = f"{FAMILIES[spec.family].title}; {spec.layers} layers, {parameters(spec)['text']:,} parameters"
    return "ok", f"{text}, {spec.vocab:,} tokens"


def layout(patient: Patient) -> tuple[str, str]:
    """Files of weights: there, whole, and safetensors."""
    patient.tensors = files.tensors(patient.folder)
    sizes, stored = collections.Counter(), {tensor.file for tensor in patient.tensors.values()}
    for tensor in patient.tensors.values():
        sizes[tensor.dtype] += tensor.bytes
    kinds = ", ".join(f"{dtype} {size(count)}" for dtype, count in sizes.most_common())
    extra = sorted(path.name for path in patient.folder.glob("*.safetensors") if path not in stored)
    text = f"{len(patient.tensors)} tensors in {len(stored)} of safetensors, {kinds}"
    if extra:
        return "warn", f"{text}; no one reads {files.listed(extra)}: remove what is left over"
    return "ok", text


def tensors(patient: Patient) -> tuple[str, str]:
    """Their names and shapes are the model's, apart from what stands before all of them."""
    family, loose, stored = FAMILIES[patient.spec.family], patient.tensors, settings.stored(patient.config)
    if unpacked := bool(stored) and stored["quant_method"] in unpacking.METHODS:
        loose = unpacking.gathered(loose, stored)
    rules = names.renaming(loose, family)
    placed = names.placed(loose, rules, family)
    if unpacked or not stored:
        shapes = loading.shapes(settings.text_config(patient.folder, patient.spec), family)
        matching.compare(placed, shapes, family, tied=patient.spec.tied)
    skipped = sum(family.place(name) is None for name in placed)
    text = f"{len(placed) - skipped} of the text model" + (f", {skipped} of others, not loaded" if skipped else "")
    if patient.spec.tied and not matching.tied(placed, family):
        hint = "set tie_word_embeddings to false in config.json"
        return "warn", f"{text}; another lm_head than the embedding is stored and will be loaded: {hint}"
    if first := names.first(loose, rules, family):
        return "warn", f"{text}; read without what stands before the model's own names, as of {first[:100]}"
    return "ok", text


def rope(patient: Patient) -> tuple[str, str]:
    """Base, width and scaling of the rotary frequencies, and the window."""
    spec = patient.spec
    text = settings.text_config(patient.folder, spec)
    scaling = scaling_of(text)
    said = f"base {spec.rope_theta:,.0f}, {spec.rotary_dim} of {spec.head_dim} channels, window {spec.window:,}"
    if scaling.kind != "none":
        hint = "yarn.scaled(lab, factor=...) stretches a native one as long as it is wanted"
        return "warn", f"{said}; stretched by {scaling} for every prompt, short ones too: {hint}"
    return "ok", said


def tokenizer(patient: Patient) -> tuple[str, str]:
    """There, whole, and of this model."""
    if not tokens.held(patient.folder):
        hint = 'labkit.load(folder, tokenizer="path/or/hub id")'
        return "warn", f"none beside the weights, so a lab reads token ids alone: {hint}"
    settings.refuse_code(patient.folder)
    config = settings.text_config(patient.folder, patient.spec)
    patient.tokenizer = loading.tokenizer(patient.folder, patient.spec, config=config)
    known = patient.tokenizer.get_vocab()
    absent = [token for token in loading.STOPS if token not in known]
    text = f"{len(known):,} of {patient.spec.vocab:,} ids"
    if absent:
        return "warn", f"{text}; no {' and no '.join(absent)}, so a turn ends where generation_config.json says"
    return "ok", f"{text}; turns end at {' and '.join(loading.STOPS)}"


def template(patient: Patient) -> tuple[str, str]:
    """The chat template gives a prompt; which rules of thinking it follows."""
    if not patient.tokenizer.chat_template:
        return "warn", "none: labkit.thinking.render(messages) writes prompts of the family's own"
    prompt = thinking.rendered(ASK, patient.tokenizer)
    text = f"a prompt of {len(prompt)} characters"
    try:
        return "ok", f"{text}, by the rules of variant {thinking.variant_of(patient.tokenizer)}"
    except InputError as error:
        return "warn", f"{text}; {error.what}: labkit.reuse counts with ids alone"


def quantisation(patient: Patient) -> tuple[str, str]:
    """How weights are stored, and whether this machine can take them."""
    stored = settings.stored(patient.config)
    if not stored:
        return "ok", f"none; stored in {patient.spec.dtype or 'what config.json does not say'}"
    held.check_stored(stored["quant_method"], patient.place, FAMILIES[patient.spec.family])
    return "ok", f"{stored['quant_method']}, which this machine can take"


def room(patient: Patient) -> tuple[str, str]:
    """What fits this machine: the weights, and how much context beside them."""
    spec, place = patient.spec, patient.place
    free, where = budget(place)
    dtype = precision.dtype_of(None, spec, place)
    short, need = str(dtype).removeprefix("torch."), weight_bytes(spec, dtype)["text"]
    stored, family = settings.stored(patient.config), FAMILIES[spec.family]
    if stored and patient.tensors and held.as_read(patient.tensors, stored, place)[1]:
        need = sum(tensor.bytes for name, tensor in patient.tensors.items() if family.place(name))
        short = "as stored"
    elif stored:
        short += ", unpacked at load"
    said = f"{size(need)} of weights ({short}), {size(free)} to use ({where})"
    if need <= free:
        each = kv_bytes_per_token(spec, dtype)
        context = min((free - need) // each, spec.window) if each else spec.window
        return "ok", f"{said}; keys and values of {context:,} tokens beside them"
    ways = [
        f"{way}: {size(count)}"
        for way, count in precision.cheaper(spec, place, dtype, fixed=bool(stored))
        if count <= free
    ]
    if ways:
        return "warn", f"{said}; labkit.load(folder, {ways[0]}) fits"
    return "fail", f"{said}; a larger machine, or a smaller model: labkit fit MODEL names cards"


def loads(patient: Patient) -> tuple[str, str]:
    """All that `labkit.load` checks before it reads weights."""
    ready = routes.checked(patient.folder, title=patient.spec.name, place=patient.place, dtype=None, quantize=None)
    tokens.of_ready(ready, None)
    if ready.notes:
        return "warn", f"labkit.load takes it, and says: {'; '.join(ready.notes)}"
    return "ok", "labkit.load takes it"


def pictures(patient: Patient) -> tuple[str, str]:
    """The image tower and the processor, which `images=True` loads too."""
    spec = patient.spec
    if spec.vision is None:
        return "ok", "no image tower: a model of texts"
    choice = dict(place=patient.place, dtype=None, quantize=None, images=True)
    try:
        ready = routes.checked(patient.folder, title=spec.name, **choice)
    except LabError as error:
        return "warn", f"texts alone: images=True is refused, {told(error)}"
    added = f"{vision_parameters(spec):,} parameters, {size(towers.tower_bytes(spec, ready.dtype))}"
    text = f"labkit.load(folder, images=True) adds an image tower: {added}"
    if not towers.processor_there(patient.folder):
        return "warn", f"{text}; no processor beside it, so pictures are taken as a processor's output alone"
    return "ok", f"{text}; its processor is there"


SAID = {"spec": "the configuration", "tensors": "the layout", "tokenizer": "the tokenizer"}
CHECKS = {  # and what each needs
    configuration: (),
    layout: (),
    tensors: ("spec", "tensors"),
    rope: ("spec",),
    tokenizer: ("spec",),
    template: ("tokenizer",),
    quantisation: ("spec",),
    room: ("spec",),
    loads: ("spec", "tensors"),
    pictures: ("spec", "tensors"),
}
