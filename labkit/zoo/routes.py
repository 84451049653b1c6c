"""From a name to a Lab: find the files, refuse what cannot work before a weight is read, load, record."""

import hashlib
import os
import pathlib
import re
from typing import TYPE_CHECKING

from labkit import spec as specs
from labkit.errors import CheckpointError, InputError
from labkit.families import FAMILIES
from labkit.kernels import lower_right
from labkit.zoo import backend as kernels
from labkit.zoo import files, gguf, held, loading, matching, precision, settings, unpacking
from labkit.zoo.settings import read_json

if TYPE_CHECKING:
    from labkit.lab import Lab


NANO = pathlib.Path(__file__).parents[1] / "nano"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SMALL = ["*.json", "*.jinja", "*.txt"]  # fetched from the hub before any weight
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def load(
    name: str | os.PathLike | None = None,
    *,
    device=None,
    dtype=None,
    quantize: str | None = None,
    backend: str | None = None,
    attention: str = "auto",
) -> "Lab":
    """Load a model to look into; `labkit.wrap` takes one that is already there.

    Args:
        name: "nano", a folder, a `.gguf` file, or a hub id "org/name", the only one that may use the network;
            None is $LABKIT_MODEL, or else "nano".
        device: "cuda", "cuda:1" or "cpu"; None is the GPU if there is one.
        dtype: of activations and unquantised weights, a torch dtype or its name; None is the checkpoint's own
            on a GPU, and float32 on a CPU if that fits.
        quantize: None, "nf4", "int8", "int4" or "fp8" for the large linear layers; lm_head, the a and b projections
            and routers stay as they are, and so do experts under all but "fp8". A checkpoint that is stored packed
            needs none; what the device cannot multiply packed is unpacked, as `lab.backend.quantize` says.
        backend: None runs installed kernels on a card and PyTorch's reference kernels elsewhere; "torch" forces the
            reference on the whole process, so on models of the family loaded before, too; "installed" undoes that.
        attention: "flash" needs no masks to continue a cache, and runs the fastest kernel that the card and the size of
            a head allow; "auto" is "flash" on a card and "sdpa" on a CPU; "eager", or another name of transformers'.

    Kernels of packages are chosen by the tensors from now on, for every model of the family in this process, since they
    are globals of transformers: the CPU runs the reference, and so does prefill in float32 on a CUDA card, which fla
    would round to TF32, unless PyTorch was asked for TF32 (`torch.set_float32_matmul_precision("high")`).

    Returns:
        `Lab` around an unmodified transformers model, in eval mode and without gradients, that stops at
        <|im_end|> and <|endoftext|>. `lab.backend` records what computes it.

    Raises:
        InputError: a name, device, dtype, quantisation, backend or attention that makes no sense, a model instead of a
            name, or another model family.
        BackendError: no such GPU, or missing packages.
        BudgetError: the weights would not fit; raised before they are read.
        CheckpointError: files that are missing, incomplete, damaged, unsafe to read or not this model's.
    """
    kernels.check(backend)
    loading.imports()
    lower_right.check(attention)
    place = precision.device_of(device)
    precision.check_quantize(quantize, place, dtype)
    name = os.environ.get("LABKIT_MODEL") or "nano" if name is None else name
    kind, where = find(name)
    choice = dict(place=place, dtype=dtype, quantize=quantize, small=kind == "nano")
    if kind == "gguf":
        ready = gguf.checked(where, **choice)
    elif kind == "hub":
        admitted(fetch(where, SMALL), title=where.split("/")[1], **choice)
        ready = checked(fetch(where, [*SMALL, "*.safetensors"]), title=where.split("/")[1], **choice)
    else:
        if kind == "nano":
            check_sums(where)
        ready = checked(where, title=where.resolve().name, **choice)
    model, tokenizer = loading.model(ready), loading.tokenizer(ready)
    loading.finish(model, tokenizer)
    kernels.choose(backend, ready.family)
    lower_right.choose(model, attention, place)
    from labkit.lab import Lab

    record = kernels.record(model, ready.spec, quantize=ready.how(model))
    return Lab(model, tokenizer, ready.spec, record, ready.spec.name)


def find(name: str | os.PathLike) -> tuple[str, str | pathlib.Path]:
    """("nano" | "folder" | "gguf" | "hub", where) of a name; nothing is opened.

    Raises:
        InputError: neither a path that exists nor a hub id. CheckpointError: a pickle file.
    """
    if name == "nano":
        return "nano", NANO
    if hasattr(name, "forward"):
        hint = "labkit.wrap(model, tokenizer) takes a model that is already there"
        raise InputError("a model, not the name of one", got=type(name).__name__, expected="a name", hint=hint)
    if not isinstance(name, str | os.PathLike) or not str(name).strip():
        raise InputError("not a name of a model", got=repr(name), expected='"nano", a path or a hub id "org/name"')
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return ("gguf", file) if (file := gguf.alone(path)) else ("folder", path)
    if path.is_file() and path.suffix == ".gguf":
        return "gguf", path
    if path.is_file() and path.suffix in files.PICKLES:
        raise CheckpointError(
            "pickle weights can run code when they are opened",
            got=path.name,
            expected="a folder with safetensors",
        )
    if path.is_file():
        raise InputError("not a checkpoint", got=path.name, expected="a .gguf file, or the folder of a checkpoint")
    if isinstance(name, str) and HUB_ID.fullmatch(name) and path.suffix not in (".gguf", ".safetensors"):
        return "hub", name
    raise InputError("no such model", got=str(name), expected='"nano", an existing folder or .gguf file, or "org/name"')


def fetch(hub_id: str, patterns: list[str]) -> pathlib.Path:
    """The folder of a hub repository in the ordinary cache, with at least the files that match.

    Raises:
        CheckpointError: no network and not in the cache, no such repository, or no access to it.
    """
    import huggingface_hub
    from huggingface_hub import errors

    hint = "load a local folder or .gguf file: labkit.load('/path/to/folder')"
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except errors.GatedRepoError:
        hint = f"accept its terms on the hub and log in with `hf auth login`, or {hint}"
        raise CheckpointError("the hub does not give access", got=hub_id, hint=hint) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError("the hub has no such repository", got=hub_id, expected="org/name", hint=hint) from None
    except Exception as error:  # connection errors differ between releases of the hub client
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            "the hub cannot be reached and its cache does not hold this model",
            got=f"{hub_id}: {type(error).__name__}{': ' + reason[0] if reason else ''}",
            hint=hint,
        ) from None


def admitted(folder: pathlib.Path, *, title: str, place, dtype, quantize: str | None, small: bool = False) -> tuple:
    """(spec, torch dtype, quantization_config if stored packed) once the configuration and the bytes are in order.

    Raises:
        CheckpointError: no or broken configuration, or one that wants to run its own code.
        InputError: another family, or a quantisation on top of another. BudgetError: it would not fit.
    """
    config = read_json(folder, "config.json")
    settings.refuse_code(folder)
    spec = specs.read(folder, name=title)
    stored = settings.stored(config)
    if stored and quantize:
        raise InputError(
            "this checkpoint is already quantised",
            got=f"quantize={quantize!r} on {stored['quant_method']} weights",
            hint="leave quantize out",
        )
    if stored:
        held.check_stored(stored["quant_method"], place)
    if stored and stored["quant_method"] == "torchao" and dtype is None:
        dtype = "auto"  # the dtype that is packed with its weights
    chosen = precision.dtype_of(dtype, spec, place, quantize=quantize, small=small)
    if quantize == "int4" and dtype is None:
        chosen = precision.dtype_of("bfloat16", spec, place)
    if not stored:
        precision.admit(spec, place, chosen, quantize=quantize)
    return spec, chosen, stored


def checked(
    folder: pathlib.Path, *, title: str, place, dtype, quantize: str | None, small: bool = False
) -> loading.Ready:
    """A `loading.Ready` checkpoint folder: every tensor, shape, file and the tokenizer are there.

    Raises:
        As `admitted`, and CheckpointError: as `files.tensors` and `matching.compare`, or no tokenizer.
    """
    spec, dtype, stored = admitted(folder, title=title, place=place, dtype=dtype, quantize=quantize, small=small)
    tensors, family = files.tensors(folder), FAMILIES[spec.family]
    packed = bool(stored)
    if stored and stored["quant_method"] in unpacking.METHODS:
        loose = unpacking.gathered(tensors, stored)
        matrices = [tensor.shape for tensor in loose.values() if isinstance(tensor, unpacking.Weight)]
        if not (packed := held.stays_packed(stored["quant_method"], place, matrices)):
            tensors = loose
    if packed:
        need = sum(tensor.bytes for name, tensor in tensors.items() if family.place(name))
        precision.admit(spec, place, dtype, need=need, stored=stored["quant_method"])
    elif stored:
        precision.admit(spec, place, dtype, fixed=True)
    matching.check_count(tensors, spec)
    config = settings.text_config(folder, spec, stored if packed else None)
    generation = settings.generation_config(folder, spec)
    shapes = loading.shapes(config, family)
    matching.compare(tensors, shapes, family, tied=spec.tied, prequantized=packed)
    if spec.tied:
        matching.check_tied(tensors, family)
    precision.check_widths(shapes, quantize, place, family.unquantized)
    if not any(all((folder / file).is_file() for file in group) for group in VOCABULARIES):
        raise CheckpointError("the tokenizer is missing", got=folder.name, expected="tokenizer.json beside config.json")
    if quantize:
        matching.refuse_broken_numbers(matching.stored_numbers(tensors, family))
    weights = unpacking.state_dict(tensors, family) if stored and not packed else None
    ways = dict(quantize=quantize, stored=stored, weights=weights, generation=generation)
    return loading.Ready(folder, config, spec, dtype, place, **ways)


def check_sums(folder: pathlib.Path) -> None:
    """Refuse an embedded checkpoint whose files are missing or changed; `checksums.json` holds their SHA-256.

    Raises:
        CheckpointError: names the file.
    """
    hint = "install labkit again"
    if not (folder / "config.json").is_file():
        raise CheckpointError("the embedded nano is missing", got="no config.json in labkit/nano", hint=hint)
    for file, expected in read_json(folder, "checksums.json", {}).items():
        if not (folder / file).is_file():
            raise CheckpointError("the embedded nano is incomplete", got=f"no {file}", hint=hint)
        got = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        if got != expected:
            raise CheckpointError(
                "the embedded nano is damaged",
                got=f"{file}: {got[:16]}…",
                expected=f"{str(expected)[:16]}…",
                hint=hint,
            )
