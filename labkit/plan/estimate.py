"""The estimates: a walk over the layers as the model makes it, and what a reading says that it needs."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Sequence

from labkit.arguments import whole
from labkit.errors import InputError
from labkit.plan import card
from labkit.plan.card import Plan
from labkit.spec import Spec, prefill_flops
from labkit.spec.memory import dtype_bytes
from labkit.trace import layers_of, wanted_seams

MECHANISMS = ("deltanet", "attention", "residual", "attribution", "yarn")  # folders whose readings can be planned
STREAMED = "deltanet.memory"  # what the probes of a stream are taken to need


def readings() -> dict:
    """`{name: labkit.reading.Needs}` of every reading."""
    named = {}
    for package in MECHANISMS:
        if importlib.util.find_spec(f"labkit.{package}") is not None:
            module = importlib.import_module(f"labkit.{package}")
            functions = [getattr(module, name) for name in module.__all__]
            named |= {each.needs.name: each.needs for each in functions if hasattr(each, "needs")}
    return named


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
        want: "trace", "stream", or a reading: its name ("attention.pattern") or the function itself.
        layers: layers to watch, an int or several; for a reading, the layers read one after another.
        chunk: tokens per forward pass; None for one pass (a stream takes 2,048).
        options: of a trace `seams`, `grad` and `logits` (how many positions keep theirs); of a reading its own, as it
            takes them: `heads`, `rows`, `samples`, ...

    Returns:
        `Plan`; `plan.refuse()` raises when it does not fit.

    Raises:
        InputError: an unknown request or option, no tokens. LayerError: a reading on layers of the other kind.
    """
    known = readings()
    needs = getattr(want, "needs", None) or known.get(want)
    if needs is None and want not in ("trace", "stream"):
        raise InputError("unknown request", got=want, expected=", ".join(("trace", "stream", *known)))
    tokens, chunk = whole(tokens, "tokens", least=1), None if chunk is None else whole(chunk, "chunk", least=1)
    own = {"trace": ("seams", "grad", "logits"), "stream": ()}.get(want) if needs is None else needs.options[2:]
    if unknown := sorted(set(options) - set(own)):
        raise InputError(f"{want} has no such options", got=unknown, expected=f"layers, chunk, {', '.join(own)}")
    if needs is not None:
        layers = layers_of(lab.spec, layers, needs.kind, needs.name)
        plan = _reading(lab, needs, tokens, layers, chunk, options)
        cheaper = _cheaper_reading(lab, needs, tokens, layers, options)
    elif want == "stream":
        layers = layers_of(lab.spec, layers, "deltanet", "lab.stream with probes of states")
        plan = _stream(lab, tokens, layers, chunk or 2048)
        cheaper = ((f"chunk={c}", _stream(lab, tokens, layers, c).peak) for c in (1024, 512, 256))
    else:
        grad, wanted = options.get("grad", False), wanted_seams(lab.spec, layers, options.get("seams"))
        plan = _trace(lab, tokens, wanted, chunk, options.get("logits", 1), grad=grad)
        cheaper = _cheaper_trace(lab, tokens, list(wanted), grad)
    smaller = sorted({way: cost for way, cost in cheaper if cost < plan.peak}.items(), key=lambda item: -item[1])
    return dataclasses.replace(plan, cheaper=tuple(smaller))


def admit_trace(
    lab, *, tokens: int, wanted: dict[int, list[str]], logits: int, device, chunk: int | None = None, grad: bool = False
) -> None:
    """Refuse a trace that would not fit, before the model runs; see `Lab.trace`."""
    plan = _trace(lab, tokens, wanted, chunk, logits, offload=device is not None, grad=grad)
    if not plan.fits:
        layers = list(wanted)
        cheaper = sorted(_cheaper_trace(lab, tokens, layers, grad), key=lambda item: -item[1])
        dataclasses.replace(plan, cheaper=tuple(cheaper)).refuse()


def seam_bytes(spec: Spec, layer: int, name: str, tokens: int, width: int) -> int:
    """Bytes of one seam of so many tokens, `width` bytes a number; a part keeps its whole tensor alive."""
    return tokens * width * spec.seams[spec.kind(layer)][name].width(spec)


BEFORE = (
    "resid_pre",
    "mixer_in",
    "qkv",
    "z",
    "b",
    "a",
    "q",
    "k",
    "v",
    "gate",
)  # kept ones are alive at the mixer's peak
LOOSE = ("resid_pre", "mixer_in", "z", "b", "a", "v")  # of those, the model itself still holds these then


def _walk(lab, tokens, wanted, at_once):
    """(seams kept in all, (kept, scratch) at the highest moment): one pass over the layers."""
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    kept, top = 0, (0, 0)
    for layer in range(spec.layers):
        names, kind = wanted.get(layer, ()), spec.kind(layer)
        cost = {name: seam_bytes(spec, layer, name, tokens, each) for name in spec.seams[kind]}
        inside = {name: seam_bytes(spec, layer, name, at_once, each) for name in spec.seams[kind]}
        owned = {name: cost[name] for name in names}
        if layer > 0 and "resid_post" in wanted.get(layer - 1, ()):
            owned.pop("resid_pre", None)  # the same tensor as the layer before gave
        before = sum(count for name, count in owned.items() if name in BEFORE)
        loose = sum(inside[name] for name in inside if name in LOOSE and name not in names)
        moments = [(kept + before, loose + _mixer_scratch(spec, kind, at_once, each))]
        loose = sum(inside[name] for name in ("resid_pre", "mixer_in") if name not in names)
        moments.append((kept + sum(owned.values()), loose + _mlp_scratch(spec, at_once, each)))
        top = max(top, *moments, key=sum)
        kept += sum(owned.values())
    return kept, top


def _mixer_scratch(spec, kind, tokens, each):
    if kind == "deltanet":
        wide, pairs = 6 * spec.dk + 5 * spec.dv + 2 * 64, 3 * spec.dk + 2 * spec.dv + 4 * 64  # its two highest moments
        rule = spec.value_heads * (max(wide, pairs) + 8) * 4
        return -(-tokens // 64) * 64 * rule + tokens * spec.conv_channels * each
    # Rotated queries and keys, gate, mixed values, opened gate and their product.
    return tokens * each * (5 * spec.query_heads + spec.kv_heads) * spec.head_dim


def _mlp_scratch(spec, tokens, each):
    """Gate, up and their product; with experts also every chosen expert's input and output."""
    widths = 3 * spec.intermediate
    if spec.experts:
        widths = spec.active_experts * (2 * spec.hidden + 3 * spec.intermediate) + 3 * spec.shared_intermediate
    return tokens * each * widths


def _graph_bytes(spec, tokens, each):
    """What autograd keeps of every layer, an upper bound on seven shapes: mixers, MLPs, norms, residuals."""
    mixers = 1.5 * sum(_mixer_scratch(spec, spec.kind(layer), tokens, each) for layer in range(spec.layers))
    return mixers + spec.layers * (_mlp_scratch(spec, tokens, 4 * each / 3) + 8 * tokens * spec.hidden * 4)


def _trace(lab, tokens, wanted, chunk, logits, *, offload=False, grad=False):
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    at_once = min(tokens, chunk or tokens)
    kept, (alive, scratch) = _walk(lab, tokens, wanted, at_once)
    rotary = 2 * tokens * spec.rotary_dim * each
    cached = tokens * len(spec.attention_layers) * 2 * spec.kv_heads * spec.head_dim * each if chunk else 0
    joined = kept if chunk and chunk < tokens else 0  # pieces and their concatenation live together for a moment
    if offload:
        alive, kept, joined = 0, 0, 0
    held, scratch = max((alive, scratch), (kept + joined, 0), key=sum)
    graph = int(_graph_bytes(spec, tokens, each)) if grad else 0
    parts = {
        "seams": held,
        "graph": graph,
        "scratch of one layer": scratch,
        "keys and values": cached,
        "rotary and logits": rotary + logits * spec.vocab * each,
    }
    free, where = card.budget(lab.device)
    return Plan(
        "trace",
        tokens,
        parts,
        kept + graph + rotary + logits * spec.vocab * each,
        free,
        where,
        prefill_flops(spec, tokens)["total"],
    )


def _stream(lab, tokens, layers, chunk):
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    needs = readings()[STREAMED]
    wanted = dict.fromkeys(layers, needs.seams)
    at_once = min(chunk, tokens)
    kept, (alive, scratch) = _walk(lab, at_once, wanted, at_once)
    cached = tokens * len(spec.attention_layers) * 2 * spec.kv_heads * spec.head_dim * each
    mask = at_once * tokens if chunk < tokens else 0
    repeated = tokens * 2 * spec.query_heads * spec.head_dim * each if chunk < tokens else 0
    state = 4 * spec.value_heads * spec.dk * spec.dv + spec.conv_channels * spec.conv * each
    held = state * (2 * len(spec.deltanet_layers) + len(wanted))  # in the cache, for an interrupt, and shown to probes
    scratch = max(scratch, _mixer_scratch(spec, "attention", at_once, each) + repeated)
    model = {"seams of one chunk": alive, "scratch of one layer": scratch, "attention mask": mask}
    probes = {
        "seams of one chunk": kept,
        "scratch of the probes": needs.cost(needs.request(spec, at_once, width=each)).scratch,
    }
    parts = max(model, probes, key=lambda part: sum(part.values()))
    parts = {"keys and values": cached, "states": held, **parts}
    free, where = card.budget(lab.device)
    return Plan("stream", tokens, parts, 0, free, where, prefill_flops(spec, tokens)["total"])


def _reading(lab, needs, tokens, layers, chunk, options):
    spec, width = lab.spec, dtype_bytes(lab.dtype)
    run = _trace(lab, tokens, dict.fromkeys(layers, needs.seams), chunk, 1)
    sizes = {name: value for name, value in options.items() if name in ("heads", "rows", "samples")}
    others = {name: value for name, value in options.items() if name not in sizes}
    cost = needs.cost(needs.request(spec, tokens, **sizes, width=width, options=others))
    result = cost.result * len(layers)
    reading = {"seams": run.kept, "result": result, "scratch of the reading": cost.scratch}
    parts = reading if sum(reading.values()) > run.peak else run.parts
    flops, want = run.flops + cost.flops * len(layers), f"{needs.name} of layers {layers}"
    return Plan(want, tokens, parts, run.kept + result, run.budget, run.where, flops)


def _cheaper_trace(lab, tokens, layers, grad=False):
    first = layers[:1]
    yield f"layers={first}", _trace(lab, tokens, wanted_seams(lab.spec, first, None), None, 1, grad=grad).peak
    light = wanted_seams(lab.spec, layers, ["resid_post"])
    yield "seams=['resid_post']", _trace(lab, tokens, light, None, 1, grad=grad).peak
    if not grad:
        yield "chunk=2048, seams=['resid_post']", _trace(lab, tokens, light, 2048, 1).peak
        yield "lab.stream(ids, probes=[...], chunk=1024)", _stream(lab, tokens, lab.spec.deltanet_layers, 1024).peak


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
    yield "lab.stream(ids, probes=[...], chunk=1024)", _stream(lab, tokens, lab.spec.deltanet_layers, 1024).peak
