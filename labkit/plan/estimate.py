"""The estimates: a walk over the layers as the model makes it, and the scratch of each reading."""

import dataclasses

from labkit.errors import InputError
from labkit.plan import card
from labkit.plan.card import Plan
from labkit.spec import prefill_flops
from labkit.spec.memory import dtype_bytes
from labkit.trace import SEAMS, wanted_seams

READINGS = ("attention.pattern", "deltanet.implied_attention", "deltanet.memory")
NEEDS = {
    "attention.pattern": ("q", "k", "v", "gate", "gated"),
    "deltanet.implied_attention": ("qkv", "a", "b", "read"),
    "deltanet.memory": ("qkv", "a", "b", "read"),
}


def make(lab, *, tokens, want="trace", layers=None, keep=None, heads=None, rows=None, chunk=None, logits=1):
    """Plan a request without running it.

    Args:
        tokens: length of the prompt.
        want: "trace", "stream", "attention.pattern", "deltanet.implied_attention" or "deltanet.memory".
        layers: layers to watch; for a reading, the layers read one after another.
        keep: seams of a trace; None for all.
        heads, rows: how many heads (or which) and how many rows (or which) of a map; None for all.
        chunk: tokens per forward pass; None for one pass (a stream takes 2,048).
        logits: number of positions whose logits are kept.

    Returns:
        `Plan`; `plan.refuse()` raises when it does not fit.

    Raises:
        InputError: an unknown request, a reading on layers of the other kind, no tokens.
    """
    if want not in ("trace", "stream", *READINGS):
        raise InputError("unknown request", got=want, expected=", ".join(("trace", "stream", *READINGS)))
    if tokens < 1:
        raise InputError("a prompt holds at least one token", got=tokens)
    cheaper = ()
    if want in READINGS:
        plan = _reading(lab, tokens, want, layers, heads, rows, chunk)
        cheaper = _cheaper_reading(lab, tokens, want, layers, heads, rows, plan.peak)
    elif want == "stream":
        plan = _stream(lab, tokens, layers, chunk or 2048)
        cheaper = ((f"chunk={c}", _stream(lab, tokens, layers, c).peak) for c in (1024, 512, 256))
    else:
        plan = _trace(lab, tokens, wanted_seams(lab.spec, layers, keep), chunk, logits)
        cheaper = _cheaper_trace(lab, tokens, layers)
    smaller = sorted({way: cost for way, cost in cheaper if cost < plan.peak}.items(), key=lambda item: -item[1])
    return dataclasses.replace(plan, cheaper=tuple(smaller))


def admit_trace(lab, *, tokens, wanted, logits, device, chunk=None):
    """Refuse a trace that would not fit, before the model runs; see `Lab.trace`."""
    plan = _trace(lab, tokens, wanted, chunk, logits, offload=device is not None)
    if not plan.fits:
        layers = list(wanted)
        cheaper = sorted(_cheaper_trace(lab, tokens, layers), key=lambda item: -item[1])
        dataclasses.replace(plan, cheaper=tuple(cheaper)).refuse()


def seam_bytes(spec, layer, name, tokens, each):
    """Bytes of one seam; `gate` is a view that keeps the whole query-and-gate projection alive."""
    kind = spec.kind(layer)
    width = {
        "qkv": spec.conv_channels,
        "z": spec.heads * spec.dv,
        "a": spec.heads,
        "b": spec.heads,
        "read": spec.heads * spec.dv,
        "q": spec.query_heads * spec.head_dim,
        "k": spec.kv_heads * spec.head_dim,
        "v": spec.kv_heads * spec.head_dim,
        "gate": 2 * spec.query_heads * spec.head_dim,
        "gated": spec.heads * spec.dv if kind == "deltanet" else spec.query_heads * spec.head_dim,
    }
    return tokens * each * width.get(name, spec.hidden)


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
        cost = {name: seam_bytes(spec, layer, name, tokens, each) for name in SEAMS[kind]}
        inside = {name: seam_bytes(spec, layer, name, at_once, each) for name in SEAMS[kind]}
        owned = {name: cost[name] for name in names}
        if layer > 0 and "resid_post" in wanted.get(layer - 1, ()):
            owned.pop("resid_pre", None)  # the same tensor as the layer before gave
        before = sum(count for name, count in owned.items() if name in BEFORE)
        loose = sum(inside[name] for name in inside if name in LOOSE and name not in names)
        moments = [(kept + before, loose + _mixer_scratch(spec, kind, at_once, each))]
        loose = sum(inside[name] for name in ("resid_pre", "mixer_in") if name not in names)
        moments.append((kept + sum(owned.values()), loose + 3 * at_once * spec.intermediate * each))
        top = max(top, *moments, key=sum)
        kept += sum(owned.values())
    return kept, top


def _mixer_scratch(spec, kind, tokens, each):
    if kind == "deltanet":
        wide, pairs = 6 * spec.dk + 5 * spec.dv + 2 * 64, 3 * spec.dk + 2 * spec.dv + 4 * 64  # its two highest moments
        rule = spec.heads * (max(wide, pairs) + 8) * 4
        return -(-tokens // 64) * 64 * rule + tokens * spec.conv_channels * each
    # Rotated queries and keys, gate, mixed values, opened gate and their product.
    return tokens * each * (5 * spec.query_heads + spec.kv_heads) * spec.head_dim


def _trace(lab, tokens, wanted, chunk, logits, *, offload=False):
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    at_once = min(tokens, chunk or tokens)
    kept, (alive, scratch) = _walk(lab, tokens, wanted, at_once)
    rotary = 2 * tokens * spec.rotary_dim * each
    cached = tokens * len(spec.attention_layers) * 2 * spec.kv_heads * spec.head_dim * each if chunk else 0
    joined = kept if chunk and chunk < tokens else 0  # pieces and their concatenation live together for a moment
    if offload:
        alive, kept, joined = 0, 0, 0
    held, scratch = max((alive, scratch), (kept + joined, 0), key=sum)
    parts = {
        "seams": held,
        "scratch of one layer": scratch,
        "keys and values": cached,
        "rotary and logits": rotary + logits * spec.vocab * each,
    }
    free, where = card.budget(lab.device)
    return Plan(
        "trace",
        tokens,
        parts,
        kept + rotary + logits * spec.vocab * each,
        free,
        where,
        prefill_flops(spec, tokens)["total"],
    )


def _stream(lab, tokens, layers, chunk):
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    wanted = dict.fromkeys(layers or spec.deltanet_layers, NEEDS["deltanet.memory"])
    at_once = min(chunk, tokens)
    kept, (alive, scratch) = _walk(lab, at_once, wanted, at_once)
    cached = tokens * len(spec.attention_layers) * 2 * spec.kv_heads * spec.head_dim * each
    mask = at_once * tokens if chunk < tokens else 0
    repeated = tokens * 2 * spec.query_heads * spec.head_dim * each if chunk < tokens else 0
    state = 4 * spec.heads * spec.dk * spec.dv + spec.conv_channels * spec.conv * each
    held = state * (2 * len(spec.deltanet_layers) + len(wanted))  # in the cache, for an interrupt, and shown to probes
    scratch = max(scratch, _mixer_scratch(spec, "attention", at_once, each) + repeated)
    model = {"seams of one chunk": alive, "scratch of one layer": scratch, "attention mask": mask}
    probes = {"seams of one chunk": kept, "scratch of the probes": _memory_scratch(lab, at_once)}
    parts = max(model, probes, key=lambda part: sum(part.values()))
    parts = {"keys and values": cached, "states": held, **parts}
    free, where = card.budget(lab.device)
    return Plan("stream", tokens, parts, 0, free, where, prefill_flops(spec, tokens)["total"])


def _counted(values, count):
    if values is None:
        return count
    return values if isinstance(values, int) else len(list(values))


def _reading(lab, tokens, want, layers, heads, rows, chunk):
    spec = lab.spec
    kind = want.split(".")[0]
    fits = spec.attention_layers if kind == "attention" else spec.deltanet_layers
    layers = list(fits if layers is None else [layers] if isinstance(layers, int) else layers)
    if wrong := [layer for layer in layers if spec.kind(layer) != kind]:
        raise InputError(f"{want} does not fit these layers", got=wrong, expected=list(fits))
    run = _trace(lab, tokens, dict.fromkeys(layers, NEEDS[want]), chunk, 1)
    rows = _counted(rows, tokens)
    if want == "attention.pattern":
        heads = _counted(heads, spec.query_heads)
        result, scratch = 4 * heads * rows * tokens, _pattern_scratch(lab, tokens, heads, rows)
    elif want == "deltanet.implied_attention":
        heads = _counted(heads, spec.heads)
        padded = -(-tokens // 64) * 64
        result, scratch = 4 * heads * rows * padded, _implied_scratch(lab, tokens, heads, rows)
    else:
        result = 4 * spec.heads * (10 * tokens + spec.dk * spec.dv)
        scratch = _memory_scratch(lab, tokens)
    reading = {"seams": run.kept, "result of one layer": result, "scratch of the reading": scratch}
    parts = reading if sum(reading.values()) > run.peak else run.parts
    return Plan(f"{want} of layers {layers}", tokens, parts, run.kept + result, run.budget, run.where, run.flops)


def _pattern_scratch(lab, tokens, heads, rows):
    """Rotated queries and keys, and the products of the parity check."""
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    q = spec.query_heads * spec.head_dim
    rotated = tokens * (q + spec.kv_heads * spec.head_dim + q) * each
    tile = 4 * min(rows, 128) * tokens * 2
    return rotated + max(tile, 4 * rows * heads * spec.head_dim * 3)


def _inputs_bytes(spec, tokens):
    """Float32 inputs of the rule, and the convolution they are split from."""
    return 4 * tokens * (spec.conv_channels + 2 * spec.key_heads * spec.dk + 3 * spec.heads)


def _implied_scratch(lab, tokens, heads, rows):
    spec = lab.spec
    chunked = 4 * -(-tokens // 64) * 64 * heads * (3 * 64 + 2 * spec.dk)
    return _inputs_bytes(spec, tokens) + chunked + 4 * heads * rows * (spec.dk + 3 * spec.dv)


def _memory_scratch(lab, tokens):
    # Counted on seven shapes and three lengths, in tiles of 512, of which two live at once; within 10 % there.
    spec = lab.spec
    tile = min(tokens, 1024)
    chunked = tile * spec.heads * (0.5 * spec.dk + 1.95 * spec.dv + 3.3 * 32)
    entries = 1.4 * -(-tile // 32) * spec.heads * spec.dk * spec.dv
    return _inputs_bytes(spec, tokens) + int(4 * (chunked + entries + 2.3 * tokens * spec.heads * spec.dv))


def _cheaper_trace(lab, tokens, layers):
    first = (list(range(lab.spec.layers)) if layers is None else list(layers))[:1]
    yield f"layers={first}", _trace(lab, tokens, wanted_seams(lab.spec, first, None), None, 1).peak
    light = wanted_seams(lab.spec, layers, ["resid_post"])
    yield "keep=['resid_post']", _trace(lab, tokens, light, None, 1).peak
    yield "chunk=2048, keep=['resid_post']", _trace(lab, tokens, light, 2048, 1).peak
    yield "lab.stream(ids, probes=[...], chunk=1024)", _stream(lab, tokens, None, 1024).peak


def _cheaper_reading(lab, tokens, want, layers, heads, rows, peak):
    one = (lab.spec.attention_layers if want.startswith("attention") else lab.spec.deltanet_layers)[:1]
    one = list(one if layers is None else [layers] if isinstance(layers, int) else layers)[:1]
    yield f"layers={one}", _reading(lab, tokens, want, one, heads, rows, None).peak
    yield f"layers={one}, chunk=2048", _reading(lab, tokens, want, one, heads, rows, 2048).peak
    if want != "deltanet.memory":
        yield f"layers={one}, heads=[0]", _reading(lab, tokens, want, one, 1, rows, None).peak
        if want == "attention.pattern":
            yield (
                f"layers={one}, 256 rows, chunk=2048",
                _reading(lab, tokens, want, one, heads, 256, 2048).peak,
            )
        else:
            yield "deltanet.implied_row, chunk=2048", _reading(lab, tokens, want, one, heads, 1, 2048).peak
    yield "lab.stream(ids, probes=[...], chunk=1024)", _stream(lab, tokens, None, 1024).peak
