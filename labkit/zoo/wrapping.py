"""A model that is already there: checked, described and put into a Lab as it is."""

from typing import TYPE_CHECKING

from labkit import spec as specs
from labkit.errors import BackendError, InputError
from labkit.families import FAMILIES, of_model
from labkit.kernels import lower_right
from labkit.trace import decoder
from labkit.zoo import backend, loading

if TYPE_CHECKING:
    from labkit.lab import Lab


def wrap(model, tokenizer=None, *, name: str | None = None, attention: str | None = None) -> "Lab":
    """A lab around a transformers model of a family that labkit knows, text or image-text class.

    The model stays as it is: dtype, device, gradients (`requires_grad`), generation settings and stop ids are yours;
    an image-text model reads texts here, whatever images it saw before, and pictures by `pictures.see`. It must be in
    eval mode, and stay so.

    Kernels of packages are chosen by the tensors from now on, in the whole process, as by `labkit.load`.

    Args:
        model: `labkit.families` names the classes. tokenizer: its tokenizer; None reads token ids alone.
        name: shown in titles; None takes the name in its configuration.
        attention: None leaves the text layers' attention as it is; else as for `labkit.load`.

    Returns:
        `Lab`; `lab.backend` records what computes the model.

    Raises:
        InputError: another class, training mode, a tokenizer that does not fit, an unknown attention.
        BackendError: weights that are not in memory or on several devices, modules that were replaced, or an attention
            whose package is missing.
    """
    of_model(model)
    if training := [part for part, module in model.named_modules() if module.training]:
        got = f"training mode in {training[0] or 'the model'}"
        raise InputError("readings need a model in eval mode", got=got, hint="labkit.wrap(model.eval())")
    spec = specs.read(model.config, name=name)
    _check_place(model)
    _check_modules(model, spec)
    if tokenizer is not None:
        if not hasattr(tokenizer, "get_vocab"):
            hint = "labkit.wrap(model, processor.tokenizer)" if hasattr(tokenizer, "tokenizer") else None
            raise InputError("not a tokenizer", got=type(tokenizer).__name__, expected="a tokenizer", hint=hint)
        loading.check_tokenizer(tokenizer, spec, InputError)
    from labkit.lab import Lab

    stored = getattr(model.config, "quantization_config", None)
    backend.choose(None, FAMILIES[spec.family])
    lower_right.choose(model, attention, decoder(model).norm.weight.device)
    how = loading.how_stored(model, stored) if stored else None
    return Lab(model, tokenizer, spec, backend.record(model, spec, quantize=how), spec.name)


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
