"""What attribution needs before it runs: the run, what autograd keeps of the frozen pass, and the way back through it.

Counted from what the frozen network's equations save for their gradients, in numbers per token: of a value head five
times its values (the convolution's input, what opens them, they themselves, the norm's factor, what is handed on) and
three times its keys, beside three rows of a chunk; of a query head queries, keys, values, what it mixed, its gate and
what it hands on; of the stream what enters a layer, what two branches add, and two norms' factors. Held against counted
bytes by `tests/test_attribution.py`.
"""

import dataclasses
from collections.abc import Sequence

from labkit.cache import Snapshot
from labkit.deltanet.equation import CHUNK, TILE
from labkit.errors import InputError
from labkit.lab import Lab
from labkit.pictures import Seen
from labkit.plan import Pass, Plan, make, mixer_bytes, mlp_bytes
from labkit.spec.memory import dtype_bytes


def exact(
    lab: Lab, tokens: int, layers: int | Sequence[int] | None = None, *, cached: int | None = None, wide: bool = False
) -> Plan:
    """Of `attribution.exact`, of so many tokens after `cached` ones of a snapshot; `wide` by a copy in float32."""
    width = 4 if wide else dtype_bytes(lab.dtype)
    parts = _exact(lab, tokens, cached or 0, width)
    if wide:
        parts["a copy of the weights in float32"] = copied(lab)
    return _plan(lab, "attribution.exact", tokens, layers, cached, parts, width)


def circuit(lab: Lab, tokens: int, layers: int | Sequence[int] | None = None, *, cached: int | None = None) -> Plan:
    """Of `attribution.circuit`, as `exact`: the graph stays to the end, and beside it what each rule says to keys."""
    width = dtype_bytes(lab.dtype)
    parts = _exact(lab, tokens, cached or 0, width, kept=True)
    return _plan(lab, "attribution.circuit", tokens, layers, cached, parts, width)


def copied(lab: Lab) -> int:
    """Bytes of all weights in float32."""
    return sum(4 * weight.numel() for weight in lab.model.parameters())


def logit(lab: Lab, tokens: int, layers: int | Sequence[int] | None = None, *, cached: int | None = None) -> Plan:
    """Of `attribution.logit`, of so many tokens after `cached` ones of a snapshot: one mixer at a time."""
    spec, sources = lab.spec, tokens + (cached or 0)
    moments = [(_mixer(lab, kind, tokens, sources), _around(lab, kind, tokens)) for kind in set(spec.kinds)]
    graph, scratch = max(moments, key=sum)
    result = 2 * _wide(lab) * spec.layers * max(spec.value_heads, spec.query_heads) * tokens
    parts = {"graph of one layer": graph, "scratch of one layer": scratch, "result": result}
    return _plan(lab, "attribution.logit", tokens, layers, cached, parts, dtype_bytes(lab.dtype))


def admit(lab: Lab, plans, prompt, snap: Snapshot | None) -> None:
    """Refuse an attribution that would not fit, before the model runs; `plans` is `exact`, `circuit` or `logit`."""
    tokens = len(prompt.ids) if isinstance(prompt, Seen) else len(lab.encode(prompt))
    plans(lab, tokens, cached=None if snap is None else snap.length).refuse()


def _plan(lab, want, tokens, layers, cached, parts, width):
    if layers is not None:
        raise InputError(f"{want} goes through all layers", got=f"layers={layers!r}", expected="no layers=")
    run = make(lab, tokens=tokens, cached=cached)
    parts = {"seams": run.kept * width // dtype_bytes(lab.dtype), **parts}
    cheaper = [("residual.contributions", run.peak)]
    if want != "attribution.logit":
        cheaper.append(("attribution.logit", logit(lab, tokens, cached=cached).peak))
    peak = sum(parts.values())
    cheaper = tuple(sorted(((way, cost) for way, cost in cheaper if cost < peak), key=lambda way: -way[1]))
    parts = parts if peak > run.peak else run.parts
    return dataclasses.replace(run, want=want, parts=parts, kept=0, flops=3 * run.flops, cheaper=cheaper)


def _exact(lab, tokens, cached, width, kept=False):
    """Bytes at the highest moment of the frozen pass: before a layer's own mixer is done, or on the way back; with
    `kept` also while edges are followed."""
    spec, wide = lab.spec, _wide(lab)
    step, graph, moments = Pass(tokens, tokens), 0, []
    stream = 5 * tokens * spec.hidden * width
    # Of an MLP its gate after the nonlinearity: a third of what it makes.
    each = stream + mlp_bytes(spec, tokens, width) // (3 if not spec.experts else 2)
    for kind in spec.kinds:
        moments.append((graph, mixer_bytes(spec, kind, step, width)))
        graph += each + _mixer(lab, kind, tokens, tokens + cached)
    last = spec.kinds[-1]
    back = 4 * spec.query_heads * spec.head_dim if last == "attention" else 3 * spec.value_heads * spec.dv
    moments.append((graph, tokens * wide * back))
    if kept:
        moments.append((graph + len(spec.deltanet_layers) * _rule(lab, tokens), _recalled(lab, tokens)))
    graph, scratch = max(moments, key=sum)
    return {"graph": graph, "scratch of one layer": scratch, "logits": 4 * spec.vocab * width}


def _mixer(lab, kind, tokens, sources):
    """Bytes that the graph of one frozen mixer keeps."""
    spec, wide = lab.spec, _wide(lab)
    if kind == "deltanet":
        padded = -(-tokens // CHUNK) * CHUNK
        return wide * spec.value_heads * (5 * tokens * spec.dv + 3 * padded * (spec.dk + CHUNK))
    masked = sources > tokens
    mask = (1 + wide) * tokens * sources if masked else 0
    if spec.latent:
        keys = spec.plain + spec.shared
        made = sources * (keys + spec.plain + spec.head_dim) + tokens * (keys + 2 * spec.head_dim)
        padded = (tokens + sources) * max(keys, spec.head_dim)
        return wide * (spec.query_heads * (made + padded) + tokens * spec.latent) + mask
    heads = spec.query_heads * spec.head_dim
    return wide * heads * (4 * tokens + 2 * sources) + mask


def _rule(lab, tokens):
    """Bytes that are kept of a Gated DeltaNet layer once one of its edges is followed: its rule, and all it recalls."""
    spec = lab.spec
    gates = spec.value_heads * (1 + spec.decays)
    return _wide(lab) * tokens * (2 * spec.key_heads * spec.dk + gates + spec.value_heads * spec.dv)


def _recalled(lab, tokens):
    """Bytes of one tile of a rule without reads, beside what is kept of it."""
    spec, count = lab.spec, -(-min(tokens, TILE) // CHUNK) * CHUNK
    numbers = 7 * spec.dv + 2 * spec.dk + 4 * CHUNK + 2 * spec.dk * spec.dv // CHUNK
    if spec.decays > 1:  # in float64, and spread over halves of each block
        numbers += 6 * spec.dk
    return _wide(lab) * count * spec.value_heads * numbers


def _around(lab, kind, tokens):
    """Bytes beside it: of all tokens four times the values on the way there and back, and one tile of the rule."""
    spec, wide = lab.spec, _wide(lab)
    if kind == "deltanet":
        tile = min(tokens, TILE) * (4 * (spec.dk + spec.dv) + 2 * CHUNK)
        return wide * spec.value_heads * (4 * tokens * spec.dv + tile)
    return 2 * wide * tokens * spec.query_heads * spec.head_dim


def _wide(lab):
    return max(4, dtype_bytes(lab.dtype))
