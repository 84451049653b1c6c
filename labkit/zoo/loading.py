"""The loading itself: transformers' from_pretrained on checked files, then what came out is checked once
more.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import pathlib
import re
import warnings
from collections.abc import Iterator, Mapping

import torch

from labkit.errors import BackendError, BudgetError, CheckpointError, LabError, first_line
from labkit.families import FAMILIES, Family
from labkit.spec import Spec
from labkit.spec.documents import shown
from labkit.zoo import files, held, matching, precision, towers

ALIGNED = 64  # bytes, to which PyTorch allocates on a CPU
NOISY = ("accelerate", "bitsandbytes", "torch", "torchao")
STOPS = ("<|im_end|>", "<|endoftext|>")
TRIAL = "red fox 12\n" + "a" * 99 + "!" + " " * 99 + "é"  # a tokenizer that stumbles over this is broken


@dataclasses.dataclass(frozen=True)
class Ready:
    """A checked checkpoint and how to load it.

    Attributes:
        folder: where the files are. config: transformers' text config. spec: its `Spec`.
        dtype, place: torch dtype and device. quantize: on the way in, or None.
        stored: quantization_config of weights that are stored packed. gguf: name of the file in that format.
        vocabulary: whether that file holds one.
        weights: `{name: tensor that is read by indexing}` where labkit unpacks them; None is from the files.
        images: whether the image-text class is loaded.
        generation: transformers' settings of generation, or None. renaming: `{pattern: text}` of names on disk.
        notes: what the user should know of the loading; transformers' own warnings are added.
    """

    folder: pathlib.Path
    config: object
    spec: object
    dtype: torch.dtype
    place: torch.device
    quantize: str | None = None
    stored: dict | None = None
    gguf: str | None = None
    vocabulary: bool = True
    weights: Mapping | None = None
    images: bool = False
    generation: object = None
    renaming: dict | None = None
    notes: list = dataclasses.field(default_factory=list)

    @property
    def family(self) -> Family:
        """The record of the model's family, of the class that is loaded."""
        return towers.with_tower(FAMILIES[self.spec.family]) if self.images else FAMILIES[self.spec.family]

    def how(self, model) -> str | None:
        """How the linear weights of the loaded model are held, for the record; None is plain."""
        if self.gguf:
            return "gguf, unpacked"
        return how_stored(model, self.stored) if self.stored else self.quantize


def how_stored(model, stored) -> str:
    """The method of a `quantization_config`, a dict or transformers' own, and whether weights were unpacked at load."""
    method = stored["quant_method"] if isinstance(stored, dict) else stored.quant_method
    method = str(getattr(method, "value", method))
    return method if any(not precision.plain(weight) for weight in model.parameters()) else f"{method}, unpacked"


def imports() -> None:
    """Import what loading needs; transformers tries every quantiser that is installed, and some of them speak."""
    with quiet():
        from transformers import AutoConfig, AutoTokenizer, PreTrainedModel  # noqa: F401


def shapes(config, family: Family) -> dict[str, tuple[int, ...]]:
    """`{name: shape}` of every tensor of the model, built without memory for them.

    Raises:
        CheckpointError: transformers takes the configuration and cannot build what it describes.
    """
    try:
        with torch.device("meta"), quiet():
            built = family.model_class()(config)
            return {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    except Exception as error:  # of a class that computes with settings of any size
        what = "transformers cannot build the model of this configuration"
        raise CheckpointError(what, got=f"config.json: {first_line(error)}") from error


def model(ready: Ready):
    """The transformers model of a checked checkpoint.

    Raises:
        CheckpointError: it could not be loaded, came out incomplete, or holds NaN.
        BackendError: the quantiser failed or packed too much.
        BudgetError: the device ran out of memory after all.
    """
    options = dict(config=ready.config, dtype=ready.dtype, output_loading_info=True, local_files_only=True)
    options |= dict(generation_config=ready.generation)
    if ready.weights is None:
        options |= dict(use_safetensors=True, key_mapping=ready.renaming)
    else:
        options |= dict(state_dict=ready.weights)
    if ready.quantize:
        skip = ready.family.unquantized
        options["quantization_config"] = precision.quantization_config(ready.quantize, ready.dtype, skip)
    if ready.quantize or (ready.stored and ready.weights is None) or importlib.util.find_spec("accelerate"):
        options["device_map"] = {"": ready.place}  # else by way of host memory
    try:
        with quiet(offline=ready.quantize != "fp8") as log:
            where = ready.folder if ready.weights is None else None
            built, info = ready.family.model_class().from_pretrained(where, **options)
            if "device_map" not in options:
                built.to(ready.place)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise BudgetError(
            f"{ready.spec.name} did not fit while loading",
            got=first_line(error),
            hint='quantize="nf4", or device="cpu"',
        ) from error
    except Exception as error:  # whatever a library stumbles over in files that were checked as far as they can be
        kind = BackendError if ready.quantize or (ready.stored and ready.weights is None) else CheckpointError
        reason = re.search(r"^\w*Error: .+", "\n".join(log), re.MULTILINE)  # in its report; the error only points there
        reason = reason[0] if reason else first_line(error)
        raise kind(f"transformers could not load {ready.spec.name}", got=reason) from error
    built.name_or_path = built.config.name_or_path = str(ready.folder)  # which weights given one by one do not say
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = sorted(map(str, info[what]))
        if names := [name for name in names if what != "unexpected_keys" or ready.family.place(name)]:
            raise CheckpointError(f"{what.replace('_', ' ')} after loading", got=files.listed(names), expected="none")
    ready.notes.extend(dict.fromkeys(f"transformers: {' '.join(line.split())[:400]}" for line in log))
    matching.refuse_broken_numbers((n, w.data) for n, w in built.named_parameters() if precision.plain(w))
    if ready.quantize:
        precision.check_kept(built, ready.family.unquantized)
    if ready.stored and ready.weights is None and ready.stored["quant_method"] != "bitsandbytes":
        _try(built, ready)  # of bitsandbytes `precision` knows the bounds
    held.lay_out(built)
    _align(built)
    return built


def _align(built):
    """Weights of a file lie at its offsets, and some processors round in another order where rows begin elsewhere: on a
    CPU they are put where one allocated alone would lie, so that a model gives the same bits from every file."""
    for weight in built.parameters():
        if weight.device.type == "cpu" and precision.plain(weight) and weight.data_ptr() % ALIGNED:
            weight.data = weight.data.clone()


def _try(built, ready):
    """Refuse packed weights that load and cannot be multiplied, before anybody reads from them."""
    try:
        with torch.no_grad(), quiet():
            built(torch.zeros(1, 2, dtype=torch.long, device=ready.place), use_cache=False)
    except Exception as error:  # kernels and quantisers fail in their own ways
        raise BackendError(
            "packed weights that cannot be multiplied here",
            got=f"{ready.how(built)}, dtype={str(ready.dtype).removeprefix('torch.')}: {first_line(error)}",
            hint=f'dtype="{ready.spec.dtype}" as they were packed, or the unpacked checkpoint',
        ) from error


def tokenizer(folder: pathlib.Path, spec: Spec, *, config=None, gguf: str | None = None):
    """The tokenizer in a folder, or the one inside a .gguf file there.

    Args:
        spec: of the model. config: transformers' of the model, if it is its own folder.

    Raises:
        CheckpointError: broken, or with more ids than the model has embeddings.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    options = dict(local_files_only=True, trust_remote_code=False)
    options |= {"gguf_file": gguf} if gguf else {} if config is None else {"config": config}
    try:
        with quiet():
            tokens = (PreTrainedTokenizerFast if gguf else AutoTokenizer).from_pretrained(folder, **options)
            tokens.decode(tokens(TRIAL, add_special_tokens=False)["input_ids"])
    except Exception as error:  # the tokenizers library raises plain Exception
        raise CheckpointError("the tokenizer is broken", got=first_line(error), expected="tokenizer.json") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of a library in Rust, and no Exception
            raise
        raise CheckpointError("the tokenizer is broken", got=first_line(error), expected="tokenizer.json") from error
    check_tokenizer(tokens, spec, CheckpointError)
    return tokens


def check_tokenizer(tokens, spec: Spec, kind: type[LabError]) -> None:
    """Refuse a tokenizer with ids that the model has no embeddings for, or a chat template that is none."""
    if len(tokens) > spec.vocab:
        got, expected = f"{len(tokens)} ids", f"at most {spec.vocab}, the rows of the embedding"
        raise kind("the tokenizer is of another model", got=got, expected=expected)
    if (last := max(tokens.get_vocab().values(), default=0)) >= spec.vocab:
        raise kind("the tokenizer is of another model", got=f"id {last}", expected=f"0 to {spec.vocab - 1}")
    template = getattr(tokens, "chat_template", None)
    texts = template.values() if isinstance(template, dict) else () if template is None else (template,)
    if not all(isinstance(text, str) for text in texts):
        raise kind("the chat template is no text", got=shown(template), expected="a template, or none")


def finish(model, tokenizer) -> None:
    """Eval mode, no gradients, and both stop ids: `config.eos_token_id` alone would never stop at
    <|im_end|>.
    """
    model.eval().requires_grad_(False)
    known = {} if tokenizer is None else tokenizer.get_vocab()
    if stops := [known[token] for token in STOPS if token in known]:
        model.generation_config.eos_token_id = stops
        if model.generation_config.pad_token_id is None:
            model.generation_config.pad_token_id = stops[-1]


@contextlib.contextmanager
def quiet(offline: bool = True) -> Iterator[list[str]]:
    """Progress bars, warnings and log lines held back, and nothing fetched, while the block lasts.

    Yields:
        list that collects transformers' log lines.
    """
    import huggingface_hub.constants as hub
    from transformers.utils import logging as theirs

    lines = []
    collector = logging.Handler()
    collector.emit = lambda record: lines.append(record.getMessage())
    bars, was_offline = theirs.is_progress_bar_enabled(), hub.HF_HUB_OFFLINE
    ours = theirs.get_logger("transformers")
    before, spoken = ours.handlers[:], ours.propagate
    levels = {name: logging.getLogger(name).level for name in NOISY}
    try:
        theirs.disable_progress_bar()
        ours.handlers[:], ours.propagate = [collector], False
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
        hub.HF_HUB_OFFLINE = was_offline or offline
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield lines
        lines += [str(each.message) for each in warned if "transformers" in pathlib.Path(each.filename).parts]
    finally:
        hub.HF_HUB_OFFLINE = was_offline
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        ours.handlers[:], ours.propagate = before, spoken
        if bars:
            theirs.enable_progress_bar()
