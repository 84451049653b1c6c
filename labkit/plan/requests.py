"""Plans of what a lab does with its model: trace, generate, stream, logits.

Each is a list of moments, of which the highest counts. A moment names what is alive: what the request keeps so far,
and the scratch of one layer of the model or of the probes.
"""

from collections.abc import Mapping, Sequence

from labkit.plan import card, model
from labkit.plan.card import Plan, ProbeCost
from labkit.plan.model import Pass
from labkit.spec import prefill_flops
from labkit.spec.memory import dtype_bytes, kv_bytes_per_token
from labkit.trace import IN_FLIGHT


def trace(
    lab,
    tokens: int,
    wanted: Mapping[int, Sequence[str]],
    *,
    chunk: int | None = None,
    logits: int = 1,
    grad: bool = False,
    offload: bool = False,
    prompts: int = 1,
    padded: bool = False,
    cached: int | None = None,
    cuts: Sequence[int] = (),
) -> Plan:
    """Of `Lab.trace`.

    Args:
        tokens: of each prompt. wanted: `{layer: seams}`. logits: how many positions of each prompt keep theirs.
        offload: whether seams go to another device at once. prompts: of a batch. padded: whether some are shorter.
        cached: tokens in the cache that was given; None without one. cuts: where state edits split the prompt.
    """
    spec, each, before = lab.spec, dtype_bytes(lab.dtype), cached or 0
    many, several = prompts * tokens, model.passes(tokens, chunk, cuts, before)[0].tokens < tokens
    filled = cached is not None or several
    split = model.passes(tokens, chunk, cuts, before, rows=prompts, padded=padded, cached=filled)
    rotary, answers = 2 * (many if padded else tokens) * spec.rotary_dim * each, prompts * logits * spec.vocab * each
    kept, moments = model.kept_bytes(spec, wanted, 0 if offload else many, each), []
    cache = _cache(lab, prompts, before + tokens) if filled else {}
    start = {"states at the start": _started(spec, wanted, prompts, each)} if before else {}
    if grad:
        loose = model.kept_bytes(spec, wanted, many, each, model.GRAPHED)
        graph = model.graph_bytes(spec, many, each)
        moments.append({"seams": loose, "graph": graph, "rotary and logits": rotary + 2 * answers})
        kept = loose + graph
    away = {"seams on their way": min(IN_FLIGHT, model.kept_bytes(spec, wanted, many, each))} if offload else {}
    for step in () if grad else split:
        done = step.sources - before - step.tokens
        high = model.highest(spec, each, step, {} if offload else wanted, done)
        grown = _cache(lab, prompts, step.sources) if filled else {}
        moments.append(
            _pass(high) | away | grown | start | {"rotary and logits": rotary * (done + step.tokens) // tokens}
        )
    if not grad:
        norm = 2 * many * spec.hidden * 4 if logits > 1 else 0
        moments.append(
            {"seams": kept, "rotary and logits": rotary + 2 * answers, "scratch of one layer": norm} | cache | start
        )
    if several:  # pieces and what they are joined to live together; a cache that nobody gave is gone
        joined = {"seams": 2 * kept, "rotary and logits": 2 * rotary + answers}
        moments.append(joined | start | (cache if cached is not None else {}))
    left = kept + rotary + answers + sum(start.values()) + (sum(cache.values()) if cached is not None else 0)
    return _plan(lab, "trace", many, moments, left)


def generate(lab, tokens: int, new: int, wanted: Mapping[int, Sequence[str]], *, cuts: Sequence[int] = ()) -> Plan:
    """Of `Lab.generate`: a prompt of so many tokens, then at most `new` ones, one at a time."""
    spec, each, whole = lab.spec, dtype_bytes(lab.dtype), tokens + new
    rotary, answers, moments = 2 * spec.rotary_dim * each, spec.vocab * (each + 3 * 4), []
    inside = [cut for cut in cuts if cut < tokens]
    for step in [*model.passes(tokens, None, inside, 0, cached=True), Pass(1, whole, cached=True)]:
        high = _pass(model.highest(spec, each, step, wanted, step.sources - step.tokens))
        moments.append(high | _cache(lab, 1, step.sources) | {"rotary and logits": rotary * step.sources + answers})
    kept = model.kept_bytes(spec, wanted, whole, each)
    moments.append({"seams": 2 * kept, "rotary and logits": 2 * rotary * whole + spec.vocab * each})
    return _plan(lab, "generate", whole, moments, kept + rotary * whole + spec.vocab * each)


def logits(lab, tokens: int, *, prompts: int = 1, cached: int | None = None) -> Plan:
    """Of `Lab.logits`: rows of so many tokens, after `cached` ones of each row in the cache that was given."""
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    step = Pass(tokens, (cached or 0) + tokens, prompts, cached=cached is not None)
    cache = {} if cached is None else _cache(lab, prompts, step.sources)
    answers = {"rotary and logits": prompts * spec.vocab * each + 2 * tokens * spec.rotary_dim * each}
    moments = [_pass(model.highest(spec, each, step, {})) | cache | answers]
    return _plan(lab, "logits", prompts * tokens, moments, sum(cache.values()) + prompts * spec.vocab * each)


def stream(
    lab,
    tokens: int,
    wanted: Mapping[int, Sequence[str]],
    costs: Sequence[ProbeCost],
    *,
    chunk: int,
    kv_device: str | None = None,
    cuts: Sequence[int] = (),
) -> Plan:
    """Of `Lab.stream`, on the device of the model.

    Args:
        wanted: `{layer: seams}` that the probes need. costs: what each probe needs beside.
    """
    spec, each, here = lab.spec, dtype_bytes(lab.dtype), lab.device.type == "cpu"
    window = model.state_bytes(spec, each)
    watched = [layer for layer in wanted if spec.kind(layer) == "attention"]
    # In the cache, the copies for an interrupt, and what entered the chunk, for the probes.
    states = window * 2 * len(spec.deltanet_layers) + _started(spec, wanted, 1, each)
    rows = sum(cost.rows for cost in costs) if here else 0
    moments, split = [], model.passes(tokens, chunk, cuts, 0, cached=True)
    for step in split:
        keys, before = _keys(lab, step.sources, kv_device), step.sources - step.tokens
        earlier = 0 if kv_device else before * 2 * spec.kv_heads * spec.head_dim * each * len(watched)
        held = {"keys and values": keys, "keys and values at the start": earlier, "states": states}
        held |= {"rows of the probes": rows * before // tokens, "rotary and logits": spec.vocab * each}
        moments.append(_pass(model.highest(spec, each, step, wanted)) | held)
        eaten = {"seams": model.kept_bytes(spec, wanted, step.tokens, each)}
        eaten["scratch of the probes"] = max(
            (cost.chunk * step.tokens // max(1, min(chunk, tokens)) for cost in costs), default=0
        )
        moments.append(eaten | held)
    end = {"keys and values": _keys(lab, tokens, kv_device), "states": window * 2 * len(spec.deltanet_layers)}
    end |= {"rows of the probes": rows, "datasets": sum(cost.end for cost in costs) if here else 0}
    return _plan(lab, "stream", tokens, [*moments, end], sum(cost.end for cost in costs) if here else 0)


def stream_on_host(lab, tokens: int, costs: Sequence[ProbeCost], *, kv_device: str | None = None) -> Plan:
    """What a stream on an accelerator leaves in host memory: the probes' rows, and keys and values that rest there."""
    keys = tokens * kv_bytes_per_token(lab.spec, lab.dtype) if kv_device else 0
    rows, end = sum(cost.rows for cost in costs), sum(cost.end for cost in costs)
    free, where = card.budget(_host())
    parts = {"keys and values": keys, "rows of the probes": rows, "datasets": end}
    return Plan("stream", tokens, parts, end, free, where, 0.0)


def _host():
    import torch

    return torch.device("cpu")


def _keys(lab, tokens, kv_device):
    """Keys and values on the model's device: all, or those of two layers, one read and one on its way."""
    per = kv_bytes_per_token(lab.spec, lab.dtype)
    layers = len(lab.spec.attention_layers)
    if kv_device is None or lab.device.type == "cpu":
        return tokens * per
    return tokens * per * min(2, layers) // max(layers, 1)


def _cache(lab, rows, tokens):
    """What a cache of so many rows and tokens holds."""
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    states = len(spec.deltanet_layers) * model.state_bytes(spec, each)
    return {"keys and values": rows * tokens * kv_bytes_per_token(spec, lab.dtype), "states": rows * states}


def _started(spec, wanted, rows, each):
    """Copies of the states that entered, of the layers that are watched."""
    return rows * model.state_bytes(spec, each) * sum(spec.kind(layer) == "deltanet" for layer in wanted)


def _pass(moment):
    return {"seams": moment.seams, "scratch of one layer": moment.scratch, "attention mask": moment.mask}


def _plan(lab, want, tokens, moments, kept):
    free, where = card.budget(lab.device)
    parts = max(moments, key=lambda parts: sum(parts.values()))
    return Plan(want, tokens, parts, kept, free, where, prefill_flops(lab.spec, tokens)["total"])
