"""The seams of a model in use: its decoder stack, what a request asks of it, and what one forward pass is handed.

A seam is a tensor that crosses a module boundary inside one decoder layer; where they are is said by the family's record
(`labkit.families`).
"""

import dataclasses
import inspect

import torch
from transformers.cache_utils import Cache

from labkit.errors import BackendError, InputError
from labkit.families import FAMILIES

CACHE_NAMES = ("cache", "past_key_values")  # of the parameter, newest first: transformers 5.24 renamed it


def decoder(model):
    """The stack of decoder layers: `model.model`, or `model.model.language_model` in the image-text class."""
    inner = model.model
    return getattr(inner, "language_model", inner)


def cache_parameter(module) -> str:
    """The name under which a module's forward takes its cache.

    Raises:
        BackendError: under none that labkit knows; a cache that nobody finds would drop edits in silence.
    """
    known = inspect.signature(type(module).forward).parameters
    for name in CACHE_NAMES:
        if name in known:
            return name
    raise BackendError(
        "this transformers takes its cache under another name",
        got=f"{type(module).__name__}.forward({', '.join(known)})",
        expected=" or ".join(CACHE_NAMES),
        hint="install a tested version; `labkit doctor` names them",
    )


def arguments(module, args, kwargs) -> dict:
    """A call's arguments by their names, as a hook sees it, however they were handed over."""
    given = inspect.signature(type(module).forward).bind(None, *args, **kwargs).arguments
    given = dict(list(given.items())[1:])  # without self
    return given | given.pop("kwargs", {})


@dataclasses.dataclass(frozen=True)
class Pass:
    """One forward pass of the decoder stack, as a hook on it sees the arguments.

    Attributes:
        batch, tokens: size of the input. cache: what is continued and grown, or None.
        before: tokens already in the cache. mask: [batch, before + tokens] padding mask, or None.
    """

    batch: int
    tokens: int
    cache: Cache | None
    before: int
    mask: torch.Tensor | None

    @classmethod
    def of(cls, module, args, kwargs) -> "Pass":
        """From a hook's arguments; the cache is found by its type, whatever its parameter is called.

        Raises:
            BackendError: no input, something in place of a cache that is none, or a cache under a name
                that this transformers does not know.
        """
        given = arguments(module, args, kwargs)
        source = next((given[name] for name in ("input_ids", "inputs_embeds") if given.get(name) is not None), None)
        caches = [value for value in given.values() if isinstance(value, Cache)]
        unknown = [name for name in CACHE_NAMES if given.get(name) is not None and given[name] not in caches]
        newer = CACHE_NAMES[: CACHE_NAMES.index(cache_parameter(module))]  # dropped in silence by this transformers
        unknown += [name for name in newer if given.get(name) is not None]
        if source is None or unknown or len(caches) > 1:
            raise BackendError(
                "a forward pass that labkit cannot follow",
                got=f"arguments {', '.join(given)}" + (f"; {unknown[0]} is not taken as a cache" if unknown else ""),
                expected="input_ids or inputs_embeds, and at most one cache",
                hint="lab.cache() makes one",
            )
        cache = caches[0] if caches else None
        mask = given.get("attention_mask")
        mask = mask if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None
        return cls(*source.shape[:2], cache, 0 if cache is None else cache.get_seq_length(), mask)


def wanted_seams(spec, layers=None, seams=None) -> dict[int, list[str]]:
    """`{layer: names}` from the arguments of `Lab.trace`; None means all.

    Raises:
        InputError: a layer out of range, or a seam that exists in none of the chosen layers.
    """
    layers = range(spec.layers) if layers is None else [layers] if isinstance(layers, int) else list(layers)
    seams = [seams] if isinstance(seams, str) else seams
    known = {name for layer in layers for name in spec.seams[spec.kind(layer)]}
    if seams is not None and (unknown := set(seams) - known):
        raise InputError("unknown seam", got=sorted(unknown), expected=", ".join(sorted(known)))
    return {
        layer: [name for name in spec.seams[spec.kind(layer)] if seams is None or name in seams]
        for layer in sorted(layers)
    }


def parameters_of(model, spec, layers) -> dict[tuple[int, str], torch.Tensor]:
    """Copies of the small weights that the readings of these layers need, by (layer, name)."""
    stack, paths = decoder(model), FAMILIES[spec.family].parameters
    return {
        (layer, name): stack.layers[layer].get_parameter(path).detach().clone()
        for layer in layers
        for name, path in paths[spec.kind(layer)].items()
    }
