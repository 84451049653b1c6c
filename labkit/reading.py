"""What all readings of a run share: one layer or several, the kind of layer, provenance, and what they cost.

    @reading("deltanet", seams=("qkv", "a", "b", "read"), instead="attention.pattern(run, layer={layer})", cost=...)
    def memory(run, *, layer, tokens=None, heads=None): ...

The function reads one layer and returns a Dataset whose attributes hold `parity` and `tolerance`
(`Run.check_parity`). The decorator checks what it is given, refuses a result that would not fit, adds `model`, `layer`,
`reading` and `scaling`, and stacks several layers along a first axis `layer`. `lab.plan` asks it what a request needs.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping

import torch

from labkit import plan
from labkit.errors import InputError, LayerError
from labkit.notation import is_index, select
from labkit.trace import Run

TITLES = {"deltanet": "Gated DeltaNet", "attention": "gated attention"}


@dataclasses.dataclass(frozen=True)
class Request:
    """The size of one request, for a cost function.

    Attributes:
        spec: `Spec`. tokens: of the run. sources: tokens that can be read, those of a warm cache included.
        heads, rows: how many of each. width: bytes of an activation.
        options: what else was given to the reading, by name.
    """

    spec: object
    tokens: int
    sources: int
    heads: int
    rows: int
    width: int
    options: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a reading needs, for `lab.plan`.

    Attributes:
        name: "deltanet.memory". kind: of the layers it reads. seams: that the run must have.
        cost: `Request -> plan.Cost`, for one layer. options: names of its arguments.
        cheaper: names of readings that answer a smaller question for less.
    """

    name: str
    kind: str
    seams: tuple[str, ...]
    cost: Callable
    options: tuple[str, ...]
    cheaper: tuple[str, ...] = ()

    def request(
        self, spec, tokens, *, sources=None, heads=None, rows=None, samples=None, width=4, options=None
    ) -> Request:
        """A request of this reading; `heads`, `rows` and `options`, the others by name, as the reading takes them."""
        axis = "head" if self.kind == "deltanet" else "query_head"
        many = len(select(heads, spec.axis_sizes[axis], axis))
        if samples is not None:
            lines = min(samples, tokens)
        elif rows is None:
            lines = 1 if "token" in self.options else tokens
        else:
            lines = len(select(rows, tokens, "token"))
        return Request(spec, tokens, tokens if sources is None else sources, many, lines, width, options or {})


def reading(kind: str, *, seams: tuple, instead: str, cost: Callable, cheaper: tuple = ()):
    """Make a reading of a function `(run, *more, layer, **options) -> Dataset` that reads one layer.

    Args:
        kind: "deltanet" or "attention". seams: that the run must have kept.
        instead: the call for a layer of the other kind, with `{layer}`; shown in the error.
        cost: `Request -> plan.Cost` of one layer. cheaper: names of readings for less.

    Raises (when the reading is called):
        InputError: something else than a run, no layer, a layer out of range.
        LayerError: a layer of the other kind. BudgetError: a result that would not fit.
    """

    def decorate(function):
        name = f"{function.__module__.split('.')[1]}.{function.__name__}"
        options = tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def read(run, *more, layer, **chosen):
            check_run(run, name)
            if is_index(layer):
                return one_layer(run, more, int(layer), chosen)
            layers = [int(index) for index in layer]
            if not layers:
                raise InputError(f"{name}: no layer chosen", expected=f"an int or a list, of {fits(run.spec, kind)}")
            return stacked([one_layer(run, more, index, chosen) for index in layers])

        @torch.no_grad()
        def one_layer(run, more, layer, chosen):
            require(run, layer, kind, name, instead)
            sizes = {key: chosen[key] for key in ("heads", "rows", "samples") if chosen.get(key) is not None}
            admit(run, layer, read.needs, sizes, {key: value for key, value in chosen.items() if key not in sizes})
            data = function(run, *more, layer=layer, **chosen)
            data.attrs = {"model": run.model, "layer": layer, "reading": name} | data.attrs
            if run.scaling.kind != "none":
                data.attrs.setdefault("scaling", str(run.scaling))
            return data.assign_coords(layer=layer)

        read.needs = Needs(name, kind, tuple(seams), cost, options, cheaper)
        return read

    return decorate


def check_run(run, name: str) -> None:
    """Refuse what is no run, and name the call that makes one.

    Raises:
        InputError: a text, a lab, a dataset, ...
    """
    if isinstance(run, Run):
        return
    what = {"str": "a text", "Lab": "a lab"}.get(type(run).__name__, type(run).__name__)
    prompt = repr(run[:40]) if isinstance(run, str) else '"red fox"'
    hint = f"{name}(lab.trace({prompt}), ...)"
    raise InputError(f"{name} reads a run", got=what, expected="what lab.trace or lab.generate returns", hint=hint)


def require(run, layer: int, kind: str, name: str, instead: str) -> None:
    """Refuse a layer of the other kind.

    Raises:
        InputError: no such layer. LayerError: the other kind; names the call that fits.
    """
    if run.spec.kind(layer) != kind:
        raise LayerError(
            f"{name}: layer {layer} is a {TITLES[run.spec.kind(layer)]} layer",
            expected=f"a {TITLES[kind]} layer: {', '.join(map(str, fits(run.spec, kind)))}",
            hint=instead.format(layer=layer),
        )


def fits(spec, kind: str) -> tuple[int, ...]:
    """The layers of a kind."""
    return spec.deltanet_layers if kind == "deltanet" else spec.attention_layers


def admit(run, layer: int, needs: Needs, chosen: dict, options: dict) -> None:
    """Refuse a reading whose result would not fit; before anything is allocated."""
    seam, sources = run.seams[layer, needs.seams[-1]], run.start.length + len(run)

    def result(needs, **chosen):
        sizes = dict(sources=sources, width=seam.element_size(), options=options)
        request = needs.request(run.spec, len(run), **sizes, **chosen)
        return needs.cost(request).result

    smaller = {"heads": [0], "rows": [-1]}
    ways = [
        (f"{name}={value}", result(needs, **chosen | {name: value}))
        for name, value in smaller.items()
        if name in needs.options
    ]
    ways += [(name, result(plan.readings()[name])) for name in needs.cheaper] if needs.cheaper else []
    plan.admit(needs.name, len(run), result(needs, **chosen), seam.device, ways)


def axis(run, name: str, rows=None, *, cached: bool = False) -> dict:
    """Coordinates of `token` or `source`: absolute positions, and readable texts as `token_text` or `source_text`.

    Args:
        rows: indices below the run's length; None for all.
        cached: begin with the tokens of the warm cache, whose texts the run does not know.
    """
    rows, before = list(range(len(run)) if rows is None else rows), run.start.length if cached else 0
    positions = torch.cat([torch.arange(before), run.positions[rows]])
    return {name: positions, f"{name}_text": (name, ["·"] * before + [run.tokens[t] for t in rows])}


def stacked(layers: list):
    """Datasets of one layer each as one with a first axis `layer`; parity is the worst of them."""
    import xarray

    data = xarray.concat(layers, dim="layer", data_vars="all", coords="different", compat="equals", join="outer")
    data.attrs = dict(layers[0].attrs)
    data.attrs["layer"] = [one.attrs["layer"] for one in layers]
    data.attrs["parity"] = max(one.attrs["parity"] for one in layers)
    return data.transpose("layer", ...)
