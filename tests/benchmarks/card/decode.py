"""Decode: what seams cost in a step, recorded and one by one, and whether both compute the same."""

import torch

import labkit
from tests.benchmarks.card import Goal, check, models
from tests.benchmarks.card.bench import per_second

WAYS = {  # what is kept, whether steps are recorded, steps that are timed
    "none": (dict(layers=[]), None, 48),
    "all": ({}, None, 48),
    "resid_post": (dict(seams=["resid_post"]), None, 48),
    "eager": (dict(layers=[]), False, 16),
    "eager_all": ({}, False, 16),
}


@check(seconds=70, room=10, of="27B", goals=(Goal("ratio", 1.1), Goal("all_tokens_per_s", 45, least=True)))
def decode(bench):
    """Steps of `lab.generate` with all seams / without, recorded where the card can: tokens per second after 512.

    What a call costs beside its steps (prefill, recording) is left out: the time of a few steps is taken from that of
    many. `eager` steps are ordinary passes.
    """
    lab, ids = bench.big, bench.ids(bench.big, 512)
    few, calls, steps = 8, {}, {}
    for name, (kept, capture, many) in WAYS.items():
        steps[name] = 4 if bench.dry else many
        for new in (few, few + steps[name]):
            calls[f"{name} {new}"] = lambda new=new, kept=kept, capture=capture: lab.generate(
                ids, max_new_tokens=new, min_new_tokens=new, capture=capture, **kept
            )
    times, each = bench.rivals(2, **calls), {}
    for name, many in steps.items():
        pairs = zip(times[f"{name} {few + many}"], times[f"{name} {few}"], strict=True)
        each[name] = [(long - short) / many for long, short in pairs]
    numbers = {
        "ratio": bench.ratio(each["all"], each["none"]),
        "eager_ratio": bench.ratio(each["eager_all"], each["eager"]),
    }
    return numbers | {f"{name}_tokens_per_s": per_second(1, taken) for name, taken in each.items()}, {
        "tokens": len(ids)
    }


@check(seconds=25, room=10, of="27B")
def step(bench):
    """`lab.step` one after another with all seams, each a run / without seams: tokens per second after 512."""
    lab, ids = bench.big, bench.ids(bench.big, 512)
    many, calls = 4 if bench.dry else 24, {}
    for name in ("none", "all"):
        cache = lab.cache(room=len(ids) + 5 * many)
        lab.trace(ids, layers=[], cache=cache)
        kept = WAYS[name][0]
        calls[name] = lambda cache=cache, kept=kept: [lab.step(cache, 5, **kept) for _ in range(many)]
    times = bench.rivals(3, **calls)
    speeds = {f"{name}_tokens_per_s": per_second(many, taken) for name, taken in times.items()}
    return {"ratio": bench.ratio(times["all"], times["none"])} | speeds, {"tokens": len(ids), "steps": many}


@check(seconds=30, room=16, goals=(Goal("fp32", 1e-4), Goal("bf16_over_noise", 1)), dtype="float32, bfloat16")
def decode_logits(bench):
    """Logits of given tokens, read by recorded steps against ordinary ones: largest difference / largest logit.

    The noise is that of the same tokens in one pass against ordinary steps, bfloat16 both; one period of the 27B.
    """
    small = models.TINY | {"num_hidden_layers": 4} if bench.dry else {}
    numbers, steps = {}, 8 if bench.dry else 48
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        lab = models.period(bench.device, dtype=dtype, **small)
        ids = bench.ids(lab, 512)
        recorded, plain = (stepped(lab, ids, steps, capture) for capture in (bench.capture, False))
        numbers[name] = gap(recorded, plain)
    whole = lab.trace(torch.cat([ids, ids[:steps]]), layers=[], logits=range(len(ids), len(ids) + steps)).logits
    numbers["bf16_noise"] = gap(whole, plain)
    return numbers | {"bf16_over_noise": numbers["bf16"] / max(numbers["bf16_noise"], 1e-9)}, {"steps": steps}


def stepped(lab: "labkit.Lab", ids: torch.Tensor, steps: int, capture: bool | None) -> torch.Tensor:
    """Logits [step, vocab] after each of the prompt's first tokens, read once more behind the prompt."""
    cache = lab.cache(room=len(ids) + steps)
    lab.trace(ids, layers=[], cache=cache)
    return torch.cat([lab.step(cache, int(token), layers=[], capture=capture).logits for token in ids[:steps]])


def gap(some: torch.Tensor, others: torch.Tensor) -> float:
    """The largest difference over the largest value."""
    return float((some.float() - others.float()).abs().max() / others.float().abs().max())
