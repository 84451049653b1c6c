"""A model that is already there: checked, described and put into a Lab as it is."""

import warnings
from typing import TYPE_CHECKING

from labkit import passes
from labkit import spec as specs
from labkit.errors import BackendError, InputError
from labkit.families import FAMILIES, of_model
from labkit.kernels import lower_right
from labkit.rotary import check_rotated, constants
from labkit.trace import decoder
from labkit.turning import stated
from labkit.zoo import backend, held, loading, tokens

if TYPE_CHECKING:
    from labkit.lab import Lab

PARALLEL = ("DataParallel", "DistributedDataParallel")
OUTSIDE = ("XLORA", "POLY")  # kinds of PEFT, beside prompts


def wrap(model, tokenizer=None, *, name: str | None = None, attention: str | None = None) -> "Lab":
    """A lab around a transformers model of a family that labkit knows, text or image-text class.

    One that PEFT, torch.compile or a data-parallel wrapper stands around is read without them; adapters compute in its
    layers all the same, and `lab.identity()` names those that act.

    The model stays as it is: dtype, device, gradients (`requires_grad`), generation settings and stop ids are yours;
    an image-text model reads texts here, whatever images it saw before, and pictures by `pictures.see`. It must be in
    eval mode, and stay so.

    Kernels of packages are chosen by the tensors from now on, in the whole process, as by `labkit.load`.

    Args:
        model: `labkit.families` names the classes.
        tokenizer: its tokenizer, or the name of a folder or hub id that holds one; None reads token ids alone.
        name: shown in titles; None takes the name in its configuration.
        attention: None leaves the text layers' attention as it is; else as for `labkit.load`.

    Returns:
        `Lab`; `lab.backend` records what computes the model.

    Raises:
        InputError: another class, training mode, compiled modules, rounded rotary frequencies, an adapter that
            works outside the layers, a tokenizer that does not fit, an unknown attention, and as `passes.check_mode`.
        CheckpointError: a folder without a tokenizer, or a broken one.
        BackendError: weights that are not in memory or on several devices, modules that were replaced, or an attention
            whose package is missing.

    Warns:
        UserWarning: hooks of others on the model, which compute along.
    """
    model, notes = _plain(model)
    of_model(model)
    if training := [part for part, module in model.named_modules() if module.training]:
        got = f"training mode in {training[0] or 'the model'}"
        raise InputError("readings need a model in eval mode", got=got, hint="labkit.wrap(model.eval())")
    spec = specs.read(model.config, name=name)
    _check_place(model)
    _check_modules(model, spec)
    if tokenizer is not None:
        tokenizer = tokens.given_one(tokenizer, spec)
    from labkit.lab import Lab

    stored = getattr(model.config, "quantization_config", None)
    backend.choose(None, FAMILIES[spec.family])
    lower_right.choose(model, attention, decoder(model).norm.weight.device)
    how = loading.how_stored(model, stored) if stored else None
    held.lay_out(model)
    lab = Lab(model, tokenizer, spec, name=spec.name)
    passes.check_mode(lab)
    if hooks := [hook for hook in lab.seen.hooks if not hook.startswith("transformers.")]:  # which only look
        notes.append(f"hooks of others are on this model and compute along: {', '.join(hooks[:5])}")
        warnings.warn(f"{lab.name}: {notes[-1]}", stacklevel=2)
    notes += [f"adapters: {lab.seen.adapters}"] if lab.seen.adapters else []
    lab.backend = backend.record(model, spec, quantize=how, notes=notes)
    return lab


def _plain(model):
    """(the model itself, notes on what stood around it)."""
    notes = []
    while True:
        if type(model).__name__ == "OptimizedModule":
            model = model._orig_mod
            notes.append("torch.compile stood around it: the original module is read, uncompiled")
        elif callable(getattr(model, "get_base_model", None)) and hasattr(model, "peft_config"):
            _check_adapters(model)
            model = model.get_base_model()
            notes.append("PEFT stood around it: the base is read, with the adapters in its layers")
        elif type(model).__name__ in PARALLEL:
            model = model.module
            notes.append("a data-parallel wrapper stood around it: the model inside is read")
        else:
            return model, notes


def _check_adapters(model):
    """Refuse adapters that the wrapper of PEFT works out, since the base alone computes without them."""
    for name, config in model.peft_config.items():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        prompt = getattr(config, "is_prompt_learning", False)
        if prompt or getattr(config, "alora_invocation_tokens", None) or kind in OUTSIDE:
            base = "model.base_model" if prompt else "model.unload()"
            raise InputError(
                "an adapter that works outside the layers, where nothing is read",
                got=f"{name}, {kind}",
                expected="adapters in the layers, such as LoRA",
                hint=f"labkit.wrap({base}) is the model without it",
            )


def _check_place(model):
    parts = (decoder(model), model.get_output_embeddings())
    devices = sorted({str(weight.device) for part in parts for weight in part.parameters()})
    if devices == ["meta"] or len(devices) > 1:
        raise BackendError(
            "labkit looks into a model whose weights are all on one device",
            got="weights on " + " and ".join(devices),
            expected="one CPU or GPU",
            hint='model.to("cpu"), or load it without device_map="auto"',
        )


def _check_modules(model, spec):
    """Every module that readings watch or take weights from is where the family's record says."""
    stack, family = decoder(model), FAMILIES[spec.family]
    if len(stack.layers) != spec.layers:
        got, expected = f"{len(stack.layers)} layers", f"{spec.layers}, as its configuration says"
        raise BackendError("the model is not what its configuration says", got=got, expected=expected)
    for layer, (block, kind) in enumerate(zip(stack.layers, spec.kinds, strict=True)):
        paths = {seam.path for seam in family.seams[kind].values()} | {family.projections[kind]}
        paths |= {path.rpartition(".")[0] for path in family.parameters[kind].values()}
        for path in sorted(paths):
            try:
                block.get_submodule(path)
            except AttributeError:
                expected = f"{family.title}, unmodified: {', '.join(sorted(filter(None, paths)))}"
                raise BackendError("a module is missing", got=f"layer {layer}: no {path}", expected=expected) from None


def exact_rotation(model):
    """Put a model's rotary frequencies back to what its configuration says, in float32, where `model.to(dtype)` rounded
    them; returns the model.

    Raises:
        InputError: another class, or a model that rotates nothing.
    """
    model, _ = _plain(model)
    of_model(model)
    stack, spec = decoder(model), specs.read(model.config)
    check_rotated(spec.rotary_dim)
    exact = stated(stack, constants(spec))
    stack.rotary_emb.inv_freq, stack.rotary_emb.original_inv_freq = exact, exact.clone()
    return model
