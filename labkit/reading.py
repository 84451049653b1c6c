"""What all readings of a run share: one layer or several, the kind of layer, provenance, and what they cost.

    @reading("deltanet", seams=("qkv", "a", "b", "read"), instead="attention.pattern(run, layer={layer})", cost=...)
    def memory(run, *, layer, tokens=None, heads=None): ...

The function reads one layer and returns a Dataset whose attributes hold `parity` and `tolerance`
(`Run.check_parity`). The decorator checks what it is given, refuses what would not fit, adds `model`, `layer`,
`reading` and `scaling`, and stacks several layers along a first axis `layer`. `lab.plan` asks it what a request needs.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

import torch

from labkit import plan
from labkit.arguments import wholes
from labkit.calling import called, check_names, check_subjects, check_whole, subjects_of
from labkit.errors import SeamError
from labkit.notation import is_index, select
from labkit.spec import Spec
from labkit.trace import Run, layers_of

EXAMPLES = {"source": 0, "at": 0}  # of arguments that a reading may need, for a hint
SIZES = ("heads", "rows", "samples")  # options of a reading that say how much of it is asked for


class Stored(Run):
    """A run that holds what readings said, in place of what they are computed from (`labkit.packs`).

    Attributes:
        mark: what tells it from other runs; None where its tokens were left out.
    """

    mark: str | None

    def holds(self, read: Callable, more: Sequence, layer: int, chosen: Mapping) -> bool:
        """Whether it has the answer of one layer."""
        try:
            self.answers(read, more, [layer], chosen)
        except SeamError:
            return False
        return True

    def answers(self, read: Callable, more: Sequence, layers: Sequence[int], chosen: Mapping) -> list:
        """The Dataset of each layer, of the call `read(run, *more, layer=layers, **chosen)`.

        Raises:
            SeamError: it does not hold them.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Request:
    """The size of one request, for a cost function.

    Attributes:
        spec: `Spec`. tokens: of the run. sources: tokens that can be read, those of a warm cache included.
        heads, rows: how many of each. width: bytes of an activation.
        group: most of the query heads that read one key head. chosen: whether rows were, or samples.
        options: what else was given to the reading, by name. card: whether a CUDA card computes it.
    """

    spec: object
    tokens: int
    sources: int
    heads: int
    rows: int
    width: int
    options: Mapping = dataclasses.field(default_factory=dict)
    group: int = 1
    chosen: bool = True
    card: bool = False


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

    def of(self, spec: Spec) -> tuple[str, ...]:
        """Those of the seams that a model has."""
        return spec.having(self.kind, self.seams)

    def request(
        self,
        spec: Spec,
        tokens: int,
        *,
        sources: int | None = None,
        heads: int | Sequence[int] | None = None,
        rows: int | Sequence[int] | None = None,
        samples: int | None = None,
        width: int = 4,
        options: Mapping | None = None,
        card: bool = False,
    ) -> Request:
        """A request of this reading; `heads`, `rows` and `options`, the others by name, as the reading takes them."""
        axis = "head" if self.kind == "deltanet" else "query_head"
        which = select(heads, spec.axis_sizes[axis], axis)
        group = 1 if axis == "head" else max(map(len, spec.kv_groups(which).values()))
        if samples is not None:
            lines = min(samples, tokens)
        elif rows is None:
            lines = 1 if "token" in self.options else tokens
        else:
            lines = len(select(rows, tokens, "token"))
        sources = tokens if sources is None else sources
        chosen = rows is not None or samples is not None
        return Request(spec, tokens, sources, len(which), lines, width, options or {}, group, chosen, card)


def reading(
    kind: str, *, seams: tuple, instead: str, cost: Callable, cheaper: tuple = (), least: Mapping | None = None
) -> Callable:
    """Make a reading of a function `(run, *more, layer, **options) -> Dataset` that reads one layer.

    Args:
        kind: "deltanet" or "attention"; or "experts", layers of either kind whose MLP has them.
        seams: that the run must have kept, as far as the model has them.
        instead: the call for a layer of the other kind, with `{layer}`; shown in the error.
        cost: `Request -> plan.Cost` of one layer. cheaper: names of readings for less.
        least: `{name: least}` of its arguments that are whole numbers, beside `samples`.

    Raises (when the reading is called):
        InputError: something else than a run, no layer, a layer out of range.
        LayerError: a layer of the other kind. BudgetError: a result that would not fit.
    """

    def decorate(function):
        name, parameters = called(function), inspect.signature(function).parameters
        options, kinds = tuple(parameters), subjects_of(parameters)
        optional = {option for option in options if parameters[option].default is None}

        @functools.wraps(function)
        def read(*given, **chosen):
            if not (given and isinstance(given[0], Stored)):  # which needs no lab
                check_subjects(name, kinds, given, chosen)
            check_names(name, parameters, given, chosen)
            run, layers = given[0] if given else chosen.get(options[0]), [...]
            if run is not None:
                layers = layers_of(run.spec, chosen.get("layer"), kind, name, instead)
            check_whole(name, parameters, given, chosen, {"layer": layers[0], **EXAMPLES})
            run, *more = (chosen.pop(word) if n >= len(given) else given[n] for n, word in enumerate(kinds))
            layer, chosen = chosen.pop("layer"), wholes(chosen, {"samples": 1} | (least or {}), optional)
            layers = layers if layer is not None else kept(run, read, more, chosen) or layers
            if isinstance(run, Stored):
                results = run.answers(read, more, layers, chosen)
            else:
                admit(run, layers, read.needs, chosen)
                results = [one_layer(run, more, index, chosen) for index in layers]
            return results[0] if is_index(layer) else stacked(results)

        @torch.no_grad()
        def one_layer(run, more, layer, chosen):
            data = function(run, *more, layer=layer, **chosen)
            data.attrs = {"model": run.model, "layer": layer, "reading": name} | data.attrs
            if run.scaling.kind != "none":
                data.attrs.setdefault("scaling", str(run.scaling))
            return data.assign_coords(layer=layer)

        read.needs = Needs(name, kind, tuple(seams), cost, options, cheaper)
        return read

    return decorate


def kept(run: Run, read: Callable, more: Sequence, chosen: Mapping) -> list[int]:
    """The layers of a reading's kind of which a run has all that it needs."""
    layers, needed = run.spec.layers_of(read.needs.kind), read.needs.of(run.spec)
    if not isinstance(run, Stored):
        held = set(run.seams)
        seams = {layer: [seam for seam in needed if seam in run.spec.seams[run.spec.kind(layer)]] for layer in layers}
        return [layer for layer in layers if all((layer, seam) in held for seam in seams[layer])]
    return [layer for layer in layers if run.holds(read, more, layer, chosen)]


def admit(run: Run, layers: Sequence[int], needs: Needs, chosen: Mapping) -> None:
    """Refuse a reading of these layers whose results, or scratch, would not fit; before anything is allocated."""
    seam = run.seams[layers[0], needs.seams[-1]]
    sizes = {key: chosen[key] for key in SIZES if chosen.get(key) is not None}
    options = {key: value for key, value in chosen.items() if key not in sizes}

    def parts(needs, count, **chosen):
        facts = dict(sources=run.start.length + len(run), width=seam.element_size(), options=options, card=seam.is_cuda)
        cost = needs.cost(needs.request(run.spec, len(run), **facts, **chosen))
        results = cost.result * (2 * count if count > 1 else 1)  # several are stacked, which copies them
        return {"result": results, "scratch of the reading": cost.scratch}

    ways = {f"layer={layers[0]}": parts(needs, 1, **sizes)} if len(layers) > 1 else {}
    smaller, taken = {"heads": [0], "rows": range(-min(64, len(run)), 0)}, {}
    for name in smaller if "samples" not in sizes else ("heads",):
        if name in needs.options:  # each alone, then all of them
            for some in ({name: smaller[name]}, taken := taken | {name: smaller[name]}):
                ways[", ".join(f"{key}={value}" for key, value in some.items())] = parts(needs, 1, **sizes | some)
    ways |= {name: parts(plan.readings()[name], 1) for name in needs.cheaper}
    whole = parts(needs, len(layers), **sizes)
    plan.admit(needs.name, len(run), whole, seam.device, [(way, sum(less.values())) for way, less in ways.items()])
    if seam.device.type != "cpu":  # what is labelled lies in host memory
        plan.admit(needs.name, len(run), {"result": whole["result"]}, torch.device("cpu"))


def axis(run: Run, name: str, rows: Sequence[int] | None = None, *, cached: bool = False) -> dict:
    """Coordinates of `token` or `source`: absolute positions, and readable texts as `token_text` or `source_text`.

    Args:
        rows: indices below the run's length; None for all.
        cached: begin with the tokens of the warm cache, whose texts the run does not know.
    """
    rows, before = list(range(len(run)) if rows is None else rows), run.start.length if cached else 0
    positions = torch.cat([torch.arange(before), run.positions[rows]])
    return {name: positions, f"{name}_text": (name, ["·"] * before + [run.tokens[t] for t in rows])}


def stacked(layers: list) -> "xarray.Dataset":  # noqa: F821
    """Datasets of one layer each as one with a first axis `layer`; parity is the worst of them.

    An attribute that differs between the layers becomes the list of its values, in their order.
    """
    import xarray

    data = xarray.concat(layers, dim="layer", data_vars="all", coords="different", compat="equals", join="outer")
    facts = {name: [each.attrs[name] for each in layers] for name in layers[0].attrs}
    data.attrs = {
        name: values if values.count(values[0]) < len(values) else values[0] for name, values in facts.items()
    }
    data.attrs |= {"layer": facts["layer"], "parity": max(facts["parity"])}
    return data.transpose("layer", ...)
