"""Decode: what seams cost in a step, eager and captured, and whether both compute the same."""

from tests.benchmarks.card import Goal, Skip, check
from tests.benchmarks.card.bench import per_second


@check(seconds=60, room=8, of="27B")
def generate(bench):
    """`lab.generate` of 32 tokens after 512, all seams / `model.generate` of the same."""
    lab, ids = bench.big, bench.ids(bench.big, 512)
    new = 4 if bench.dry else 32
    plain = dict(max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
    times = bench.rivals(
        3,
        all_seams=lambda: lab.generate(ids, max_new_tokens=new),
        plain=lambda: lab.model.generate(ids[None].to(bench.device), **plain),
    )
    speeds = {f"{name}_tokens_per_s": per_second(new, taken) for name, taken in times.items()}
    return {"ratio": bench.ratio(times["all_seams"], times["plain"])} | speeds, {"tokens": len(ids), "new": new}


@check(seconds=70, room=10, of="27B", goals=(Goal("ratio", 1.1), Goal("all_tokens_per_s", 45, least=True)))
def decode(bench):
    """A decode step with all seams / the same loop without seams, captured where the card can: tokens per second."""
    raise Skip("lab.step is not there yet")
