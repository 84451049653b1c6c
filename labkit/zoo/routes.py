"""From a name to a Lab: find the files, refuse what cannot work before a weight is read, load, record."""

import dataclasses
import functools
import os
import pathlib
import warnings
from typing import TYPE_CHECKING

from labkit import spec as specs
from labkit.errors import InputError
from labkit.families import FAMILIES
from labkit.kernels import lower_right
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
    settings,
    tokens,
    towers,
    wrapping,
)
from labkit.zoo import backend as kernels
from labkit.zoo.settings import read_json

if TYPE_CHECKING:
    from labkit.lab import Lab


def load(
    model: str | os.PathLike | object | None = None,
    *,
    tokenizer=None,
    device=None,
    dtype=None,
    quantize: str | None = None,
    backend: str | None = None,
    attention: str = "auto",
    base: str | os.PathLike | None = None,
    merge: bool = False,
    images: bool = False,
) -> "Lab":
    """Load a model to look into, or take one that is already there, as `labkit.wrap` does.

    Args:
        model: "nano", a folder, a `.gguf` file, or a hub id "org/name", the only one that may use the network; None is
            $LABKIT_MODEL, or else "nano". A folder with an adapter of PEFT alone is loaded with its base. Or a model of
            transformers, also one that PEFT or torch.compile stands around.
        tokenizer: None takes the one beside the weights; a folder without any gives a lab that reads token ids alone,
            and a warning. Else a tokenizer, or the name of a folder or hub id that holds one.
        device: "cuda", "cuda:1" or "cpu"; None is the GPU if there is one.
        dtype: of activations and unquantised weights, a torch dtype or its name; None is the checkpoint's own
            on a GPU, and float32 on a CPU if that fits.
        quantize: None, "nf4", "int8", "int4" or "fp8" for the large linear layers; lm_head, the a and b projections
            and routers stay as they are, and so do experts under all but "fp8". A checkpoint that is stored packed
            needs none; what the device cannot multiply packed is unpacked, as `lab.backend.quantize` says.
        backend: None runs installed kernels on a card and PyTorch's reference kernels elsewhere; "torch" forces the
            reference on the whole process, so on models of the family loaded before, too; "installed" undoes that.
        attention: "flash" needs no masks to continue a cache, and runs the fastest kernel that the card and the size of
            a head allow; "auto" is "flash" on a card and "sdpa" on a CPU, and leaves a model that is already there as
            it is; "eager", or another name of transformers'.
        base: of an adapter's folder: the folder or hub id of the model that it was trained on; None takes the one that
            it names, if it is on this machine.
        merge: whether the adapter is added to the weights of its base, instead of computing beside them.
        images: whether the image-text class is loaded, with its image tower and its processor (`lab.processor`), for
            `pictures.see`; else the text class, which needs no memory for the tower. Texts give the same numbers.

    Kernels of packages are chosen by the tensors from now on, for every model of the family in this process, since they
    are globals of transformers: the CPU runs the reference, and so does prefill in float32 on a CUDA card, which fla
    would round to TF32, unless PyTorch was asked for TF32 (`torch.set_float32_matmul_precision("high")`).

    Returns:
        `Lab` around an unmodified transformers model, in eval mode and without gradients, that stops at
        <|im_end|> and <|endoftext|>. `lab.backend` records what computes it, and what the loading said.

    Raises:
        InputError: a name, device, dtype, quantisation, backend or attention that makes no sense, options of files
            beside a model in memory, or another model family.
        BackendError: no such GPU, or missing packages.
        BudgetError: the weights would not fit; raised before they are read.
        CheckpointError: files that are missing, incomplete, damaged, unsafe to read or not this model's.

    Warns:
        UserWarning: what transformers warned about, and what stands otherwise in the files than one would expect.
    """
    kernels.check(backend)
    loading.imports()
    if hasattr(model, "forward"):
        given = dict(device=device, dtype=dtype, quantize=quantize, base=base)
        given |= dict(merge=merge or None, images=images or None)
        if given := [name for name, value in given.items() if value is not None]:
            got, hint = f"{', '.join(given)} beside a model in memory", "labkit.load(model.to(device))"
            raise InputError("options of files, which a model in memory does not have", got=got, hint=hint)
        lab = wrapping.wrap(model, tokenizer, attention=None if attention == "auto" else attention)
        kernels.choose(backend, FAMILIES[lab.spec.family])
        return lab
    lower_right.check(attention)
    place = precision.device_of(device)
    precision.check_quantize(quantize, place, dtype)
    name = os.environ.get("LABKIT_MODEL") or "nano" if model is None else model
    adapter = None
    if adapters.is_one(name):
        adapter = adapters.read(pathlib.Path(name).expanduser(), merge=merge, quantize=quantize)
        name = adapters.base_of(adapter, base)
    elif base is not None or merge:
        hint = "labkit.load(adapter, base=...) with the folder of adapter_config.json"
        raise InputError("base and merge are of an adapter's folder", got=str(name), hint=hint)
    kind, where = finding.find(name)
    again = dict(device=device, dtype=dtype, quantize=quantize, backend=backend, attention=attention, merge=merge)
    again |= dict(model=anywhere(name if model is None else model), tokenizer=anywhere(tokenizer), base=anywhere(base))
    again |= dict(images=images) | ({"model": "nano"} if kind == "nano" else {})
    choice = dict(place=place, dtype=dtype, quantize=quantize, small=kind == "nano")
    if kind == "gguf":
        if images:
            got, hint = f"images=True, {where.name}", "leave images out, or load the safetensors folder"
            raise InputError("a .gguf file has no image tower", got=got, expected="a folder", hint=hint)
        ready = gguf.checked(where, **choice)
    elif kind == "hub":
        choice["images"] = images
        admitted(finding.fetch(where, finding.SMALL), title=where.split("/")[1], **choice)
        ready = checked(finding.fetch(where, [*finding.SMALL, "*.safetensors"]), title=where.split("/")[1], **choice)
    else:
        choice["images"] = images
        if kind == "nano":
            finding.check_sums(where)
        ready = checked(where, title=where.resolve().name, **choice)
    vocabulary = tokens.of_ready(ready, tokenizer if tokenizer is not None or adapter is None else adapter.tokenizer)
    made, name, notes = loading.model(ready), ready.spec.name, []
    if adapter is not None:
        made, note = adapters.put(made, adapter, ready.family)
        name, notes = f"{name} + {adapter.name}", [note]
    reader = towers.processor_of(ready.folder, ready.notes) if images else None
    loading.finish(made, vocabulary)
    kernels.choose(backend, FAMILIES[ready.spec.family])
    lower_right.choose(made, attention, place)
    for note in ready.notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    from labkit.lab import Lab

    record = kernels.record(made, ready.spec, quantize=ready.how(made), notes=[*notes, *ready.notes])
    lab = Lab(made, vocabulary, ready.spec, record, name, reader)
    lab.source = functools.partial(load, **again)
    return lab


def anywhere(name):
    """A name as a process of another folder needs it: that of a file or folder which is here in full."""
    here = isinstance(name, str | os.PathLike) and pathlib.Path(name).expanduser()
    return str(here.resolve()) if here and here.exists() else name


def admitted(
    folder: pathlib.Path,
    *,
    title: str,
    place,
    dtype,
    quantize: str | None,
    small: bool = False,
    images: bool = False,
) -> tuple:
    """(spec, torch dtype, quantization_config if stored packed) once the configuration and the bytes are in order.

    Raises:
        CheckpointError: no or broken configuration, or one that wants to run its own code.
        InputError: another family, a quantisation on top of another, or no image tower. BudgetError: it would not fit.
    """
    config = read_json(folder, "config.json")
    settings.refuse_code(folder)
    spec = specs.read(folder, name=title)
    if images:
        towers.check(spec)
    stored = settings.stored(config)
    if stored and quantize:
        raise InputError(
            "this checkpoint is already quantised",
            got=f"quantize={quantize!r} on {stored['quant_method']} weights",
            hint="leave quantize out",
        )
    if stored:
        held.check_stored(stored["quant_method"], place, FAMILIES[spec.family])
    if stored and stored["quant_method"] == "torchao" and dtype is None:
        dtype = "auto"  # the dtype that is packed with its weights
    chosen = precision.dtype_of(dtype, spec, place, quantize=quantize, small=small)
    if quantize == "int4" and dtype is None:
        chosen = precision.dtype_of("bfloat16", spec, place)
    if not stored:
        tower = towers.tower_bytes(spec, chosen) if images else 0
        precision.admit(spec, place, chosen, quantize=quantize, tower=tower)
    return spec, chosen, stored


def checked(
    folder: pathlib.Path,
    *,
    title: str,
    place,
    dtype,
    quantize: str | None,
    small: bool = False,
    images: bool = False,
) -> loading.Ready:
    """A `loading.Ready` checkpoint folder: every tensor, shape and file is there.

    Raises:
        As `admitted`, and CheckpointError: as `files.tensors`, `names.renaming` and `matching.compare`.
    """
    choice = dict(place=place, dtype=dtype, quantize=quantize, small=small, images=images)
    spec, dtype, stored = admitted(folder, title=title, **choice)
    text, (loose, packed) = FAMILIES[spec.family], held.as_read(files.tensors(folder), stored, place)
    rules, notes = names.renaming(loose, text), []
    tensors = names.placed(loose, rules, text)
    family = towers.with_tower(text) if images else text
    if odd := names.first(loose, rules, text):
        notes.append(f"names on disk are read without what stands before the model's own, as of {odd[:200]}")
    if packed:
        need = sum(tensor.bytes for name, tensor in tensors.items() if family.place(name))
        precision.admit(spec, place, dtype, need=need, stored=stored["quant_method"])
    elif stored:
        precision.admit(spec, place, dtype, fixed=True, tower=towers.tower_bytes(spec, dtype) if images else 0)
    matching.check_count(tensors, spec)
    if spec.tied and not matching.tied(tensors, text):
        spec = dataclasses.replace(spec, tied=False)
        notes.append("tie_word_embeddings is true, yet another lm_head.weight is stored: loaded as stored, not tied")
    config = settings.text_config(folder, spec, stored if packed and not images else None)
    if images:
        config = towers.configuration(folder, spec, config, stored if packed else None)
        rules = towers.renaming(rules, loose, family)
    generation = settings.generation_config(folder, spec)
    shapes = loading.shapes(config, family)
    matching.compare(tensors, shapes, family, tied=spec.tied, prequantized=packed)
    of_text = {name: shape for name, shape in shapes.items() if ".visual." not in name}
    precision.check_widths(of_text, quantize, place, family.unquantized)
    if quantize:
        matching.refuse_broken_numbers(matching.stored_numbers(tensors, family))
    ways = dict(quantize=quantize, stored=stored, generation=generation, notes=notes, images=images)
    if stored and not packed:
        ways["weights"] = {name: tensor for source, tensor in tensors.items() if (name := family.place(source))}
    else:
        ways["renaming"] = rules or None
    return loading.Ready(folder, config, spec, dtype, place, **ways)
