"""`lab.plan`: what was asked as a `Plan` with cheaper ways; and the doors that refuse what would not fit."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.plan import card, requests
from labkit.plan.card import Plan, ProbeCost
from labkit.spec.memory import dtype_bytes, kv_bytes_per_token
from labkit.trace import layers_of, stateful, wanted_seams

MECHANISMS = (
    "deltanet",
    "attention",
    "experts",
    "residual",
    "attribution",
    "yarn",
)  # folders whose readings can be planned
STREAMED = "deltanet.memory"  # what the probes of a stream are taken to need, where none are given
CHUNK = 2048  # tokens of a chunk of a stream
OPTIONS = {
    "trace": ("seams", "grad", "logits", "prompts", "cached"),
    "stream": ("probes", "kv_device"),
    "generate": ("seams", "max_new_tokens", "prompts", "states"),
    "logits": ("prompts", "cached"),
}


def readings() -> dict:
    """`{name: labkit.reading.Needs}` of every reading."""
    return {each.needs.name: each.needs for each in _functions() if hasattr(each, "needs")}


def planned() -> dict:
    """`{name: function}` of other public calls that plan themselves: `(lab, tokens, layers, **options) -> Plan`."""
    return {f"{_folder(each)}.{each.__name__}": each.plans for each in _functions() if hasattr(each, "plans")}


def make(
    lab,
    *,
    tokens: int,
    want: str | Callable = "trace",
    layers: int | Sequence[int] | None = None,
    chunk: int | None = None,
    **options,
) -> Plan:
    """Plan a request without running it.

    Args:
        tokens: length of the prompt.
        want: "trace", "stream", "generate", "logits"; a reading, by name ("attention.pattern") or the function itself;
            "attention.scores".
        layers: layers to watch, an int or several; for a reading, the layers read one after another.
        chunk: tokens per forward pass; None for one pass (a stream takes 2,048).
        options: of a trace `seams`, `grad`, `logits` (how many positions keep theirs), `prompts` (how many of this
            length, as one batch) and `cached` (tokens in the cache that is given); of a stream its `probes` and
            `kv_device`; of `generate` `seams`, `max_new_tokens`, `prompts` and `states`; of `logits` `prompts` and
            `cached`; of a reading its own, as it takes them: `heads`, `rows`, `samples`, ...

    Returns:
        `Plan`; `plan.refuse()` raises when it does not fit.

    Raises:
        InputError: an unknown request or option, no tokens. LayerError: a reading on layers of the other kind.
    """
    plain = isinstance(want, str) and want in OPTIONS  # no reading is looked up then, as sweeps ask often
    known, others = ({}, {}) if plain else (readings(), planned())
    needs = getattr(want, "needs", None) or known.get(want)
    itself = getattr(want, "plans", None) or others.get(want)
    if needs is None and itself is None and want not in OPTIONS:
        raise InputError("unknown request", got=want, expected=", ".join((*OPTIONS, *known, *others)))
    tokens, chunk = whole(tokens, "tokens", least=1), None if chunk is None else whole(chunk, "chunk", least=1)
    if itself is not None:
        return itself(lab, tokens, layers, **options)
    own = OPTIONS[want] if needs is None else needs.options[2:]
    if unknown := sorted(set(options) - set(own)):
        raise InputError(f"{want} has no such options", got=unknown, expected=f"layers, chunk, {', '.join(own)}")
    if needs is not None:
        layers = layers_of(lab.spec, layers, needs.kind, needs.name)
        plan = _reading(lab, needs, tokens, layers, chunk, options)
        cheaper = _cheaper_reading(lab, needs, tokens, layers, options)
    elif want == "stream":
        plan, cheaper = _planned_stream(lab, tokens, layers, chunk or CHUNK, **options)
    elif want == "generate":
        wanted, new = wanted_seams(lab.spec, layers, options.get("seams")), options.get("max_new_tokens", 32)
        held = stateful(lab.spec, options.get("states"), "lab.generate")
        plan = requests.generate(lab, tokens, new, wanted, prompts=options.get("prompts", 1), states=len(held))
        cheaper = _cheaper_generate(lab, tokens, new, list(wanted))
    elif want == "logits":
        plan = requests.logits(lab, tokens, **options)
        cheaper = [("prompts=1", requests.logits(lab, tokens, cached=options.get("cached")).peak)]
    else:
        wanted = wanted_seams(lab.spec, layers, options.pop("seams", None))
        plan = requests.trace(lab, tokens, wanted, chunk=chunk, **options)
        cheaper = _cheaper_trace(lab, tokens, list(wanted), options.get("grad", False))
    return _with(plan, cheaper)


def admit_trace(
    lab, *, tokens: int, wanted: dict[int, list[str]], logits: int, device, chunk: int | None = None, **facts
) -> None:
    """Refuse a trace that would not fit, before the model runs; see `Lab.trace`.

    Args:
        wanted: seams by layer. logits: rows of them.
        device: where the seams go; None where they arise. facts: `grad`, `prompts`, `padded` and `cached` of
            `requests.trace`.
    """
    away = device is not None and _type(device) != lab.device.type
    options = dict(chunk=chunk, logits=logits, cuts=lab.scopes.cuts, offload=away) | facts
    plan = requests.trace(lab, tokens, wanted, **options)
    if not plan.fits:
        _with(plan, _cheaper_trace(lab, tokens, list(wanted), facts.get("grad", False))).refuse()
    if away:  # there they are joined
        kept = requests.trace(lab, tokens, wanted, **options | {"offload": False}).kept
        card.admit("trace", tokens, {"seams": kept * (2 if chunk else 1)}, _device(device))


def admit_generate(lab, *, tokens: int, new: int, wanted: dict[int, list[str]], **facts) -> None:
    """Refuse a generation that would not fit, before the model runs; see `Lab.generate`.

    Args:
        tokens: of the prompt. new: tokens to come. wanted: seams by layer.
        facts: `prompts`, `padded` and `states` of `requests.generate`.
    """
    plan = requests.generate(lab, tokens, new, wanted, cuts=lab.scopes.cuts, **facts)
    if not plan.fits:
        _with(plan, _cheaper_generate(lab, tokens, new, list(wanted))).refuse()


def admit_logits(lab, *, tokens: int, prompts: int, cached: int | None) -> None:
    """Refuse rows of so many `prompts` behind `cached` tokens that would not fit, before the model runs; see
    `Lab.logits`.
    """
    plan = requests.logits(lab, tokens, prompts=prompts, cached=cached)
    if not plan.fits:
        peak = lambda rows: requests.logits(lab, tokens, prompts=rows, cached=cached).peak  # noqa: E731
        _with(plan, [("8 rows at a time", peak(8)), ("one row at a time", peak(1))]).refuse()


def admit_copies(lab, *, want: str, length: int, each: int, n: int) -> None:
    """Refuse `n` copies of a snapshot's own tensors, of `each` bytes, behind `length` tokens, which `want` asks for;
    see
    `Lab.fork`."""
    half = n // 2
    card.admit(want, length, {f"{n} branches": n * each}, lab.device, [(f"n={half}", half * each)] if half else [])


def admit_room(lab, *, tokens: int, offloading: bool) -> None:
    """Refuse keys and values of so many tokens that would not fit where they rest, with `offloading` on the host; see
    `Lab.cache`.

    Raises:
        InputError: more tokens than the window. BudgetError.
    """
    lab.check_room(tokens)
    parts = {"keys and values": tokens * kv_bytes_per_token(lab.spec, lab.dtype)}
    card.admit("lab.cache", tokens, parts, _device("cpu") if offloading else lab.device)


def admit_stream(
    lab,
    *,
    tokens: int,
    wanted: Mapping[int, Sequence[str]],
    costs: Sequence[ProbeCost],
    chunk: int,
    kv_device: str | None = None,
) -> None:
    """Refuse a stream that would not fit, on the model's device or in host memory, before the model runs.

    Args:
        wanted: seams by layer. costs: of its probes. kv_device: where keys and values rest; None is the model's device.

    Raises:
        InputError: keys and values that should rest somewhere else than in host memory. BudgetError.
    """
    if kv_device is not None and str(kv_device) != "cpu":
        raise InputError("keys and values can rest on the CPU alone", got=kv_device, expected="'cpu' or None")
    options = dict(chunk=chunk, kv_device=kv_device, cuts=lab.scopes.cuts)
    plan = requests.stream(lab, tokens, wanted, costs, **options)
    if not plan.fits:
        _with(plan, _cheaper_stream(lab, tokens, wanted, costs, options)).refuse()
    if lab.device.type != "cpu":
        requests.stream_on_host(lab, tokens, costs, kv_device=kv_device).refuse()


def _functions():
    for package in MECHANISMS:
        if importlib.util.find_spec(f"labkit.{package}") is not None:
            module = importlib.import_module(f"labkit.{package}")
            yield from (getattr(module, name) for name in module.__all__)


def _folder(function):
    return function.__module__.removeprefix("labkit.").split(".")[0]


def _device(device):
    import torch

    return torch.device(device)


def _type(device):
    return _device(device).type


def _with(plan: Plan, cheaper) -> Plan:
    """A plan with the ways that are cheaper, cheapest last."""
    smaller = sorted({way: cost for way, cost in cheaper if cost < plan.peak}.items(), key=lambda item: -item[1])
    return dataclasses.replace(plan, cheaper=tuple(smaller))


def _planned_stream(lab, tokens, layers, chunk, probes=None, kv_device=None):
    """A stream of these probes, or of one that walks the states of these layers."""
    spec, width = lab.spec, dtype_bytes(lab.dtype)
    if probes is None:
        layers, needs = layers_of(spec, layers, "deltanet", "lab.stream with probes of states"), readings()[STREAMED]
        wanted = dict.fromkeys(layers, needs.of(spec))
        sized = lambda size: [ProbeCost(needs.cost(needs.request(spec, size, width=width)).scratch)]
    else:
        probes, wanted = list(probes) if isinstance(probes, list | tuple) else [probes], {}
        for probe in probes:
            for layer, names in probe.needs(spec).items():
                wanted[layer] = sorted({*wanted.get(layer, ()), *names})
            probe.check(tokens)
        sized = lambda chunk: [
            probe.cost(spec, tokens=tokens, chunk=min(chunk, tokens), width=width) for probe in probes
        ]  # noqa: E731
    made = lambda chunk: requests.stream(lab, tokens, wanted, sized(chunk), chunk=chunk, kv_device=kv_device)  # noqa: E731
    return made(chunk), [(f"chunk={smaller}", made(smaller).peak) for smaller in (1024, 512, 256) if smaller < chunk]


def _cheaper_stream(lab, tokens, wanted, costs, options) -> Iterator[tuple[str, int]]:
    whole = options["chunk"]
    for chunk in (whole // 2, whole // 4, whole // 8):
        if chunk >= 64:
            less = [dataclasses.replace(cost, chunk=cost.chunk * chunk // whole) for cost in costs]
            yield f"chunk={chunk}", requests.stream(lab, tokens, wanted, less, **options | {"chunk": chunk}).peak
    if lab.device.type != "cpu":
        yield 'kv_device="cpu"', requests.stream(lab, tokens, wanted, costs, **options | {"kv_device": "cpu"}).peak
    half = tokens // 2
    less = [dataclasses.replace(cost, rows=cost.rows // 2, end=cost.end // 2) for cost in costs]
    if half:
        yield f"the first {half:,} tokens", requests.stream(lab, half, wanted, less, **options).peak


def _reading(lab, needs, tokens, layers, chunk, options):
    spec, width = lab.spec, dtype_bytes(lab.dtype)
    run = requests.trace(lab, tokens, dict.fromkeys(layers, needs.of(spec)), chunk=chunk)
    sizes = {name: value for name, value in options.items() if name in ("heads", "rows", "samples")}
    others = {name: value for name, value in options.items() if name not in sizes}
    facts = dict(width=width, options=others, card=lab.device.type == "cuda")
    cost = needs.cost(needs.request(spec, tokens, **sizes, **facts))
    result = cost.result * len(layers)
    reading = {"seams": run.kept, "result": result, "scratch of the reading": cost.scratch}
    parts = reading if sum(reading.values()) > run.peak else run.parts
    flops, want = run.flops + cost.flops * len(layers), f"{needs.name} of layers {layers}"
    return Plan(want, tokens, parts, run.kept + result, run.budget, run.where, flops)


def _cheaper_trace(lab, tokens, layers, grad=False):
    first, peak = layers[:1], lambda wanted, **more: requests.trace(lab, tokens, wanted, **more).peak
    yield f"layers={first}", peak(wanted_seams(lab.spec, first, None), grad=grad)
    light = wanted_seams(lab.spec, layers, ["resid_post"])
    yield "seams=['resid_post']", peak(light, grad=grad)
    if not grad:
        yield "chunk=2048, seams=['resid_post']", peak(light, chunk=2048)
    if not grad and lab.spec.deltanet_layers:  # whose states are what a stream is planned with
        yield "lab.stream(ids, probes=[...], chunk=1024)", _planned_stream(lab, tokens, None, 1024)[0].peak


def _cheaper_generate(lab, tokens, new, layers):
    yield f"layers={layers[:1]}", requests.generate(lab, tokens, new, wanted_seams(lab.spec, layers[:1], None)).peak
    light = wanted_seams(lab.spec, layers, ["resid_post"])
    yield "seams=['resid_post']", requests.generate(lab, tokens, new, light).peak
    yield "max_new_tokens=1", requests.generate(lab, tokens, 1, light).peak


def _cheaper_reading(lab, needs, tokens, layers, options):
    layers = layers[:1]
    smaller = {"heads": [0], "rows": range(-min(256, tokens), 0)}
    yield f"layers={layers}", _reading(lab, needs, tokens, layers, None, options).peak
    yield f"layers={layers}, chunk=2048", _reading(lab, needs, tokens, layers, 2048, options).peak
    for name, value in smaller.items():
        if name in needs.options and "samples" not in options:
            peak = _reading(lab, needs, tokens, layers, 2048, options | {name: value}).peak
            yield f"layers={layers}, {name}={value}, chunk=2048", peak
    for name in needs.cheaper:
        yield f"{name}, chunk=2048", _reading(lab, readings()[name], tokens, layers, 2048, {}).peak
    if lab.spec.deltanet_layers:
        yield "lab.stream(ids, probes=[...], chunk=1024)", _planned_stream(lab, tokens, None, 1024)[0].peak
