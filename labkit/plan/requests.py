"""Plans of what a lab does with its model: trace, generate, stream, logits.

Each is a list of moments, of which the highest counts. A moment names what is alive: what the request keeps so far,
and the scratch of one layer of the model or of the probes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from labkit.cache import grown
from labkit.kernels import lower_right
from labkit.plan import card, model
from labkit.plan.card import Plan, ProbeCost
from labkit.plan.model import Maps, Pass
from labkit.spec import Spec, prefill_flops
from labkit.spec.memory import dtype_bytes, kv_bytes_per_token
from labkit.trace import IN_FLIGHT, decoder


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
    split = model.passes(tokens, chunk, cuts, before, rows=prompts, padded=padded, grows=before > 0)
    rotary, answers = 2 * (many if padded else tokens) * spec.rotary_dim * each, prompts * logits * spec.vocab * each
    kept, moments = model.kept_bytes(spec, wanted, 0 if offload else many, each), []
    cache = _cache(lab, prompts, _room(before, tokens)) if filled else {}
    start = {"states at the start": _started(spec, wanted, prompts, each)} if before else {}
    if grad:
        loose = model.kept_bytes(spec, wanted, many, each, model.GRAPHED)
        step = Pass(tokens, before + tokens, prompts, **_attention(lab))
        graph = model.graph_bytes(spec, step, each)
        moments.append({"seams": loose, "graph": graph, "rotary and logits": rotary + 2 * answers})
        beside = model.graph_scratch(spec, step, each)
        moments.append({"seams": loose, "graph": graph, "rotary and logits": rotary, "scratch of one layer": beside})
        kept = loose + graph
    away = {"seams on their way": min(IN_FLIGHT, model.kept_bytes(spec, wanted, many, each))} if offload else {}
    for step in () if grad else split:
        done = step.sources - before - step.tokens
        high = _pass(_highest(lab, each, step, {} if offload else wanted, done))
        turned = {"rotary and logits": rotary * (done + step.tokens) // tokens}
        moments.append(high | away | cache | start | turned)
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


def generate(
    lab,
    tokens: int,
    new: int,
    wanted: Mapping[int, Sequence[str]],
    *,
    prompts: int = 1,
    padded: bool = False,
    states: int = 0,
    cuts: Sequence[int] = (),
) -> Plan:
    """Of `Lab.generate`: prompts of so many tokens, then at most `new` ones of each, one at a time.

    Args:
        states: of how many layers the state is kept after each of the new tokens.
    """
    spec, each, whole = lab.spec, dtype_bytes(lab.dtype), tokens + new
    rotary, answers, moments = 2 * spec.rotary_dim * each, prompts * spec.vocab * (2 * each + 3 * 4), []
    turns, cache = prompts if padded else 1, _cache(lab, prompts, whole)
    inside, facts = [cut for cut in cuts if cut < tokens], dict(rows=prompts, padded=padded)
    for step in [*model.passes(tokens, None, inside, 0, **facts), Pass(1, whole, **facts)]:
        high = _pass(_highest(lab, each, step, wanted, step.sources - step.tokens))
        moments.append(high | cache | {"rotary and logits": turns * rotary * step.sources + answers})
    held = prompts * new * states * 4 * spec.value_heads * spec.dk * spec.dv
    kept = model.kept_bytes(spec, wanted, prompts * whole, each) + held
    left = turns * rotary * whole + prompts * spec.vocab * each
    joined = {"seams": 2 * kept, "rotary and logits": 2 * left}
    return _plan(lab, "generate", prompts * whole, [*moments, joined], kept + left)


def logits(lab, tokens: int, *, prompts: int = 1, cached: int | None = None) -> Plan:
    """Of `Lab.logits`: rows of so many tokens, after `cached` ones of each row in the cache that was given."""
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    step = Pass(tokens, (cached or 0) + tokens, prompts, grows=bool(cached))
    cache = {} if cached is None else _cache(lab, prompts, _room(cached, tokens))
    answers = {"rotary and logits": prompts * spec.vocab * each + 2 * tokens * spec.rotary_dim * each}
    moments = [_pass(_highest(lab, each, step, {})) | cache | answers]
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
    here = lab.device.type == "cpu"
    facts = dict(chunk=chunk, here=here, away=bool(kv_device) and not here, cuts=cuts)
    moments = stream_moments(lab.spec, lab.dtype, tokens, wanted, costs, **_attention(lab), **facts)
    return _plan(lab, "stream", tokens, moments, sum(cost.end for cost in costs) if here else 0)


def stream_moments(
    spec: Spec,
    dtype,
    tokens: int,
    wanted: Mapping[int, Sequence[str]],
    costs: Sequence[ProbeCost],
    *,
    chunk: int,
    here: bool,
    away: bool,
    maskless: bool,
    maps: Maps | None = None,
    cuts: Sequence[int] = (),
) -> list[dict[str, int]]:
    """What is alive on the device at each high moment of a stream, `{name: bytes}`, beside the weights.

    Args:
        here: whether the device is the host, where the probes' rows are kept. away: whether keys and values rest there
            while an accelerator computes. maskless, maps: of attention, as of `Pass`.
    """
    each, window = dtype_bytes(dtype), model.state_bytes(spec, dtype_bytes(dtype))
    # In the cache, the copies for an interrupt, and what entered the chunk, for the probes.
    states = window * 2 * len(spec.deltanet_layers) + _started(spec, wanted, 1, each)
    keys, rows = _keys(spec, tokens, dtype, away), sum(cost.rows for cost in costs) if here else 0
    moments = []
    for step in model.passes(tokens, chunk, cuts, 0):
        before = step.sources - step.tokens
        held = {"keys and values": keys, "states": states}
        held |= {"rows of the probes": rows * before // tokens, "rotary and logits": spec.vocab * each}
        step = dataclasses.replace(step, maskless=maskless, maps=maps)
        moments.append(_pass(model.highest(spec, each, step, wanted)) | held)
        eaten = {"seams": model.kept_bytes(spec, wanted, step.tokens, each)}
        eaten["scratch of the probes"] = max(
            (cost.chunk * step.tokens // max(1, min(chunk, tokens)) for cost in costs), default=0
        )
        moments.append(eaten | held)
    end = {"keys and values": keys, "states": window * 2 * len(spec.deltanet_layers)}
    return [*moments, end | {"rows of the probes": rows, "datasets": sum(cost.end for cost in costs) if here else 0}]


def stream_on_host(lab, tokens: int, costs: Sequence[ProbeCost], *, kv_device: str | None = None) -> Plan:
    """What a stream on an accelerator leaves in host memory: the probes' rows, and keys and values that rest there."""
    free, where = card.budget(_host())
    parts = host_parts(lab.spec, lab.dtype, tokens, costs, away=bool(kv_device))
    return Plan("stream", tokens, parts, parts["datasets"], free, where, 0.0)


def host_parts(spec: Spec, dtype, tokens: int, costs: Sequence[ProbeCost], *, away: bool) -> dict[str, int]:
    """`{name: bytes}` of host memory that a stream on an accelerator takes; arguments as of `stream_moments`."""
    keys = tokens * kv_bytes_per_token(spec, dtype) if away else 0
    rows, end = sum(cost.rows for cost in costs), sum(cost.end for cost in costs)
    return {"keys and values": keys, "rows of the probes": rows, "datasets": end}


def _host():
    import torch

    return torch.device("cpu")


def _keys(spec, tokens, dtype, away):
    """Keys and values on the model's device: all, or those of two layers, one read and one on its way."""
    whole, layers = tokens * kv_bytes_per_token(spec, dtype), len(spec.attention_layers)
    return whole * min(2, layers) // max(layers, 1) if away else whole


def _room(before, tokens):
    """Tokens that the buffers of a cache have room for afterwards: as many as it holds, or more where they grew."""
    return grown(before + tokens) if before else tokens


def _cache(lab, rows, tokens):
    """What a cache with room for so many tokens of so many rows takes."""
    spec, each = lab.spec, dtype_bytes(lab.dtype)
    states = len(spec.deltanet_layers) * model.state_bytes(spec, each)
    return {"keys and values": rows * tokens * kv_bytes_per_token(spec, lab.dtype), "states": rows * states}


def _started(spec, wanted, rows, each):
    """Copies of the states that entered, of the layers that are watched."""
    return rows * model.state_bytes(spec, each) * sum(spec.kind(layer) == "deltanet" for layer in wanted)


def _highest(lab, each, step, wanted, done=0):
    """The highest moment of a pass with this lab's attention."""
    return model.highest(lab.spec, each, dataclasses.replace(step, **_attention(lab)), wanted, done)


def _attention(lab):
    """What a pass of this lab takes for its attention, as fields of `Pass`."""
    return {"maskless": _maskless(lab), "maps": _maps(lab)}


def _maskless(lab):
    """Whether its attention continues a cache without a mask."""
    return lab.device.type == "cuda" and lower_right.maskless(decoder(lab.model).config, lab.device, lab.dtype)


def _maps(lab):
    """Of attention that makes its map: all that is eager, and on a processor keys and values of unequal widths."""
    spec, each, host = lab.spec, dtype_bytes(lab.dtype), lab.device.type == "cpu"
    if decoder(lab.model).config._attn_implementation == "eager":
        return model.eager(each, host)
    return model.unfused(each) if host and spec.latent and spec.plain + spec.shared != spec.head_dim else None


def _pass(moment):
    return {"seams": moment.seams, "scratch of one layer": moment.scratch, "attention mask": moment.mask}


def _plan(lab, want, tokens, moments, kept):
    free, where = card.budget(lab.device)
    parts = max(moments, key=lambda parts: sum(parts.values()))
    return Plan(want, tokens, parts, kept, free, where, prefill_flops(lab.spec, tokens)["total"])
