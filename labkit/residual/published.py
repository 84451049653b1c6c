"""Lenses in the files that their own programs write, read strictly (`Lens.save` writes the second form).

    tuned lens      a folder: `config.json`, and `params.pt`, the state of its translators, "0.weight", "0.bias", ...
    Jacobian lens   a file: {"J": {layer: [channel, channel]}, "n_prompts", "source_layers", "d_model"}

Translator i of a tuned lens reads `hidden_states[i]`, the stream before layer i; J of layer l reads what layer l gives.

Source: `tuned_lens/nn/lenses.py` of AlignmentResearch/tuned-lens, `jlens/lens.py` of anthropics/jacobian-lens.
"""

import os
import pathlib
import pickle
import re
import zipfile

import torch

from labkit.errors import CheckpointError, InputError, first_line
from labkit.folders import BOOK_LIMIT, brief, parsed, told
from labkit.residual.lenses import Lens

TUNED = ("config.json", "params.pt")
NAMES = {"base_model_name_or_path": str, "base_model_revision": str, "unembed_hash": str}
SIZES = {"d_model": int, "num_hidden_layers": int}
FORM = 'a file {"J": {layer: map}, "n_prompts", "source_layers", "d_model"}, or a folder of config.json and params.pt'


def open_lens(path: str | os.PathLike) -> Lens:
    """A lens from its published files; nothing in them is run.

    Args:
        path: a `.pt` of a Jacobian lens, or a folder: of a tuned lens, or one with a single `.pt`.

    Raises:
        CheckpointError: files that are missing, damaged, of another form, or that hold anything but numbers.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir() and (path / TUNED[0]).is_file() and (path / TUNED[1]).is_file():
        return _tuned(path)
    found = sorted(path.glob("*.pt")) if path.is_dir() else [path]
    if len(found) != 1 or not found[0].is_file():
        got = f"{path}: {', '.join(file.name for file in found[:4]) or 'no .pt file'}" if path.is_dir() else str(path)
        raise CheckpointError("no lens there", got=got, expected=FORM)
    return _jacobian(found[0])


def _jacobian(path):
    what, held = "a Jacobian lens cannot be read", _unpickled(path)
    if {"jacobian_sum", "n_done"} <= held.keys():
        got = f"{path}: the state of a fit that was stopped, after {brief(held['n_done'])} prompts"
        raise CheckpointError(what, got=got, expected="the lens that the fit gives in the end")
    maps, prompts, width = (held.get(name) for name in ("J", "n_prompts", "d_model"))
    numbers = isinstance(maps, dict) and all(type(number) is int for number in (prompts, width, *maps))
    if not numbers or min(prompts, width) < 1:
        raise CheckpointError(what, got=f"{path}: {brief(sorted(map(str, held)))}", expected=FORM)
    named = held.get("source_layers")
    if not isinstance(named, list) or {*map(repr, named)} != {*map(repr, maps)}:
        got = f"{path}: source_layers {brief(named)}, maps of {brief(list(maps))}"
        raise CheckpointError(what, got=got, expected="a map for every layer that it names")
    return _lens(path, what, width, maps=maps, prompts=prompts, known={"file": path.name})


def _tuned(folder):
    what = "a tuned lens cannot be read"
    with told(what, folder), (folder / TUNED[0]).open("rb") as file:
        raw = file.read(BOOK_LIMIT + 1)
    facts = parsed(raw) if len(raw) <= BOOK_LIMIT else None
    if not isinstance(facts, dict):
        raise CheckpointError(what, got=f"{folder / TUNED[0]}: no JSON object", expected="config.json of a tuned lens")
    if (kind := facts.get("lens_type", "linear_tuned_lens")) != "linear_tuned_lens":
        raise CheckpointError(what, got=f"{folder}: lens_type {brief(kind)}", expected="linear_tuned_lens")
    wrong = [name for name in SIZES if type(facts.get(name)) is not int or facts[name] < 1]
    wrong += [name for name in NAMES if not isinstance(facts.get(name, ""), str | None)]
    if wrong or not isinstance(facts.get("bias", True), bool):
        got = f"{folder / TUNED[0]}: {', '.join(f'{name} {brief(facts.get(name))}' for name in wrong or ['bias'])}"
        raise CheckpointError(what, got=got, expected="d_model, num_hidden_layers, bias and the model's name")
    held, depth, parts = _unpickled(folder / TUNED[1]), facts["num_hidden_layers"], {"weight": {}, "bias": {}}
    for name, tensor in held.items():
        matched = re.fullmatch(r"(0|[1-9][0-9]{0,5})\.(weight|bias)", name) if isinstance(name, str) else None
        if matched is None:
            got = f"{folder / TUNED[1]}: {brief(name)}"
            raise CheckpointError(what, got=got, expected="translators, 0.weight, 0.bias, 1.weight, ...")
        parts[matched[2]][int(matched[1])] = tensor
    expected = {"weight": depth, "bias": depth if facts.get("bias", True) else 0}
    if off := [name for name, count in expected.items() if set(parts[name]) != set(range(count))]:
        got = f"{folder / TUNED[1]}: {off[0]} of {len(parts[off[0]])} layers"
        raise CheckpointError(what, got=got, expected=f"{off[0]} of {expected[off[0]]}")
    known = {name: brief(value) for name, value in facts.items() if name not in ("bias", *SIZES) and value is not None}
    options = dict(kind="tuned", stream="resid_pre", depth=depth, onto=True, known=known)
    return _lens(folder, what, facts["d_model"], maps=parts["weight"], biases=parts["bias"], **options)


def _lens(path, what, width, **parts):
    """A lens whose channels are as many as its file says; what is wrong with its maps is wrong with the file."""
    try:
        lens = Lens(**parts)
    except InputError as error:
        raise CheckpointError(what, got=f"{path}: {error.what}, {error.got}", expected=error.expected) from error
    if lens.width != width:
        raise CheckpointError(what, got=f"{path}: maps of {lens.width} channels", expected=f"{width:,}, as it says")
    return lens


def _unpickled(path):
    """The dict of a `.pt` file, numbers alone, no larger in memory than on disk.

    Raises:
        CheckpointError: it is none.
    """
    what, expected = "this is no file of a lens", "what torch.save writes of numbers alone"
    with told(what, path):
        try:
            with zipfile.ZipFile(path) as packed:
                plain = all(record.compress_type == zipfile.ZIP_STORED for record in packed.infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise CheckpointError(what, got=f"{path}: {first_line(error)}", expected=expected) from error
        if not plain:
            raise CheckpointError(what, got=f"{path}: packed records", expected=expected)
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever bytes that torch did not write lead it to
            reason = "holds something else" if isinstance(error, pickle.UnpicklingError) else first_line(error)
            raise CheckpointError(what, got=f"{path}: {reason}", expected=expected) from error
    if not isinstance(held, dict):
        raise CheckpointError(what, got=f"{path}: {type(held).__name__}", expected=FORM)
    inner = [part for value in held.values() if isinstance(value, dict) for part in value.values()]
    tensors = [part for part in (*held.values(), *inner) if isinstance(part, torch.Tensor)]
    counted, size = sum(part.numel() * part.element_size() for part in tensors), path.stat().st_size
    if counted > size:  # one number on disk can be a matrix of any size
        got = f"{path}: tensors of {counted:,} bytes in a file of {size:,}"
        raise CheckpointError(what, got=got, expected="as many numbers as it holds")
    return held
