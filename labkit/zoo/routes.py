"""From a name to a Lab: find the files, refuse what cannot work, load by transformers, check what came out."""

import dataclasses
import os
import pathlib
import re

from labkit.errors import CheckpointError, InputError
from labkit.zoo import backend as kernels
from labkit.zoo import files, precision

NANO = pathlib.Path(__file__).parents[1] / "nano"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
STOPS = ("<|im_end|>", "<|endoftext|>")
SMALL = ["*.json", "*.jinja", "*.txt"]  # fetched from the hub before any weight


@dataclasses.dataclass(frozen=True)
class Ready:
    """A checked checkpoint: what `from_pretrained` needs, and the facts that the checks used."""

    folder: pathlib.Path
    config: object
    spec: object
    tensors: dict
    gguf: str | None = None
    stored: dict | None = None  # quantization_config of a checkpoint that is already packed


def load(name=None, *, device=None, dtype=None, quantize=None, backend=None):
    """Load a model to look into.

    Args:
        name: "nano", a folder, a `.gguf` file, or a hub id "org/name" (the only one that may use the network); None is
            $LABKIT_MODEL, or else "nano".
        device: "cuda", "cuda:1" or "cpu"; None is the GPU if there is one.
        dtype: of activations and unquantised weights, a torch dtype or its name; None is the checkpoint's own on a GPU,
            and float32 on a CPU if that fits.
        quantize: None, "nf4", "int8", "int4" or "fp8" for the large linear layers; lm_head and the a and b projections
            stay as they are. A checkpoint that is stored packed needs none.
        backend: None keeps the kernels transformers resolved at import; "torch" forces the PyTorch reference kernels in
            the whole process, for models loaded before too; "installed" undoes that.

    Returns:
        `Lab` with an unmodified transformers model in eval mode, without gradients, that stops at <|im_end|> and
        <|endoftext|>. `lab.backend` records what computes it.

    Raises:
        InputError: a name, device, dtype, quantisation or backend that makes no sense, or another family of model.
        BackendError: no such GPU, or missing packages.
        BudgetError: the weights would not fit; raised before they are read.
        CheckpointError: files that are missing, incomplete, damaged, unsafe to read or not this model's.
    """
    kernels.choose(None if backend == "torch" else backend)
    place = precision.device_of(device)
    precision.check_quantize(quantize, place, dtype)
    name = os.environ.get("LABKIT_MODEL") or "nano" if name is None else name
    kind, where = find(name)
    if kind == "hub":
        where = _fetch(where, SMALL)
        _check_config(where)
        ready = _admitted(where, str(name).split("/")[-1], place, dtype, quantize)
        where = _fetch(str(name), [*SMALL, "*.safetensors"])
    if kind == "gguf":
        ready, dtype = _ready_gguf(where, place, dtype, quantize)
    else:
        if kind == "nano":
            _check_sums(where)
        _check_config(where)
        ready, dtype = _ready_folder(where, kind, name, place, dtype, quantize)
    kernels.choose(backend)
    model = _model(ready, place, dtype, quantize)
    tokenizer = _tokenizer(ready)
    _finish(model, tokenizer, ready.spec)
    from labkit.lab import Lab

    how = quantize or (ready.stored and _stored_method(ready.stored))
    return Lab(model, tokenizer, ready.spec, kernels.record(model, quantize=how), ready.spec.name)


def find(name):
    """("nano" | "folder" | "gguf" | "hub", where) of a name; nothing is opened.

    Raises:
        InputError: neither a path that exists nor a hub id.
    """
    if name == "nano":
        return "nano", NANO
    if not isinstance(name, str | os.PathLike) or not str(name).strip():
        raise InputError("not a name of a model", got=repr(name), expected='"nano", a path or a hub id "org/name"')
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return "folder", path
    if path.is_file():
        if path.suffix == ".gguf":
            return "gguf", path
        if path.suffix in files.PICKLES:
            raise CheckpointError(
                "pickle weights can run code when they are opened", got=path.name, expected="a folder with safetensors"
            )
        raise InputError("a single file", got=path.name, expected="a .gguf file, or the folder of a checkpoint")
    if isinstance(name, str) and HUB_ID.fullmatch(name) and not name.endswith((".gguf", ".safetensors")):
        return "hub", name
    raise InputError("no such model", got=str(name), expected='"nano", an existing folder or .gguf file, or "org/name"')
