"""The seams of a model in use: its decoder stack, what a request asks of it, and what one forward pass is handed.

A seam is a tensor that crosses a module boundary inside one decoder layer; the family's record says where they are
(`labkit.families`).
"""

import dataclasses
import inspect
from collections.abc import Iterable, Sequence

import torch
from transformers.cache_utils import Cache

from labkit.errors import BackendError, InputError, LayerError
from labkit.families import DELTANET, FAMILIES
from labkit.notation import select, whole_numbers
from labkit.spec import Spec
from labkit.watched import Watched

TITLES = {"deltanet": "Gated DeltaNet", "attention": "gated attention"}
CACHE_NAMES = ("cache", "past_key_values")  # of the parameter, newest first: transformers 5.24 renamed it


def decoder(model) -> torch.nn.Module:
    """The stack of decoder layers: `model.model`, or `model.model.language_model` in the image-text class."""
    inner = model.model
    return getattr(inner, "language_model", inner)


def cache_parameter(module: torch.nn.Module) -> str:
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


def arguments(module: torch.nn.Module, args: tuple, kwargs: dict) -> dict:
    """The arguments of a call of a `module` by their names, as a hook sees it, however they were handed over."""
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
    def of(cls, module: torch.nn.Module, args: tuple, kwargs: dict) -> "Pass":
        """From a hook's arguments; the cache is found by its type, whatever its parameter is called.

        Raises:
            BackendError: no input, something in the cache's place that is no transformers cache, or a cache under a
                name that this transformers does not know.
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


def wanted_seams(
    spec: Spec, layers: int | Sequence[int] | None = None, seams: Sequence[str] | None = None
) -> dict[int, list[str]]:
    """`{layer: names}` from `layers` and `seams`, the arguments of `Lab.trace`; None means all.

    Raises:
        InputError: a layer out of range, no names, or a seam that exists in none of the chosen layers.
    """
    chosen = [] if layers is None else whole_numbers(layers, "layers")
    layers = range(spec.layers) if layers is None else select(chosen, spec.layers, "layer") if chosen else []
    given, seams = seams, [seams] if isinstance(seams, str) else list(seams) if isinstance(seams, Iterable) else seams
    if seams is not None and not (isinstance(seams, list) and all(isinstance(name, str) for name in seams)):
        hint = "seams=['resid_post']; None keeps all"
        raise InputError("seams are names", got=f"seams={str(given)[:80]}", expected="a name or several", hint=hint)
    known = {name for layer in layers for name in spec.seams[spec.kind(layer)]}
    if seams is not None and (unknown := set(seams) - known):
        raise InputError("unknown seam", got=sorted(unknown), expected=", ".join(sorted(known)))
    return {
        layer: [name for name in spec.seams[spec.kind(layer)] if seams is None or name in seams]
        for layer in sorted(layers)
    }


def layers_of(
    spec: Spec, layers: int | Sequence[int] | None, kind: str, name: str, instead: str | None = None
) -> list[int]:
    """The layers of a kind among these; None is all of them.

    Args:
        name: of the call that asks. instead: the call for the first layer of the other kind, with `{layer}`.

    Raises:
        InputError: no such layer, or none. LayerError: one of the other kind; names the call that fits.
    """
    fitting = spec.layers_of(kind)
    chosen = list(fitting) if layers is None else whole_numbers(layers, "layers")
    chosen = select(chosen, spec.layers, "layer") if chosen else []
    if kind == "experts" and not fitting:
        hint = instead and instead.format(layer=next(iter(chosen), 0))
        what = f"{name}: no layer of this model has a router that is read"
        raise LayerError(what, got=spec.name, expected="a model whose routers are seams", hint=hint)
    if not chosen:
        raise InputError(f"{name}: no layer chosen", expected=f"an int or several, of {list(fitting)}")
    if (why := FAMILIES[spec.family].unread.get(kind)) is not None and all(layer in fitting for layer in chosen):
        hint = f'lab.trace("red fox", layers={chosen[:1]}).seams[{chosen[0]}, "gated"]'
        raise LayerError(f"{name}: no readings of these layers", got=why, hint=hint)
    for layer in chosen:
        if spec.kind(layer) != kind and layer not in fitting:
            raise LayerError(
                f"{name}: layer {layer} is a {TITLES[spec.kind(layer)]} layer",
                expected=f"a {TITLES[kind]} layer: {', '.join(map(str, fitting))}",
                hint=None if instead is None else instead.format(layer=layer),
            )
    return chosen


def stateful(spec: Spec, states: int | Sequence[int] | None, name: str) -> tuple[int, ...]:
    """DeltaNet layers, `states`, whose states a call of that `name` keeps; None is none. Raises as `layers_of`."""
    instead = "lab.snapshot(cache).keys[{layer}]"
    return () if states is None else tuple(layers_of(spec, states, DELTANET, f"{name}(states=...)", instead))


def parameters_of(watched: Watched, spec: Spec, layers: Iterable[int]) -> dict[tuple[int, str], torch.Tensor]:
    """Copies of the small weights of a `watched` model that the readings of these layers need, by (layer, name).

    Weights of one name are copied by one operation, however many layers there are.
    """
    copied = {}
    for places, weights in watched.alike(spec, layers):
        copied.update(zip(places, torch.stack(weights).detach().unbind(), strict=True))
    return copied
