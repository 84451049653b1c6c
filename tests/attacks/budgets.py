"""Requests of random kinds and sizes under budgets of random size: refused, or done within the budget."""

import random
from unittest import mock

import measure
import tiny

from labkit import attention, deltanet, plan, stream
from tests.attacks import attack, tried

SHAPES = ({}, dict(linear_key_head_dim=40, linear_value_head_dim=56), dict(intermediate_size=300, hidden_size=100))
SLACK = 1.15  # counted bytes over a budget that was said to hold them
LAYERS = {"deltanet": 1, "attention": 2}
SEAMS = (None, ["resid_post"], ["qkv", "a", "b", "read"], ["q", "gate"])
READINGS = {
    "attention.pattern": lambda r, n: {"heads": r.choice([None, [0], [1, 4]]), "logits": r.random() < 0.3},
    "attention.summary": lambda r, n: {"links": r.choice([0, 5, 5000]), "block": r.choice([16, 50, 64])},
    "attention.window": lambda r, n: {"cells": r.choice([3, 20])},
    "deltanet.memory": lambda r, n: {"tokens": r.choice([None, -1, range(0, n, 5)])},
    "deltanet.written_by": lambda r, n: {"segments": [str(t // r.choice([1, 7, 90])) for t in range(n)]},
    "deltanet.spectrum": lambda r, n: {"tokens": range(0, n, r.choice([2, 30]))},
    "deltanet.implied_attention": lambda r, n: {"heads": r.choice([None, [2]])},
    "deltanet.survival": lambda r, n: {},
}
PROBES = (
    lambda r, n: [deltanet.gates(block=16)],
    lambda r, n: [deltanet.norms(block=16), deltanet.updates(block=16)],
    lambda r, n: [attention.watch(block=16, samples=r.choice([None, 2]))],
    lambda r, n: [stream.capture("resid_post", tokens=range(0, n, r.choice([1, 9])))],
    lambda r, n: [deltanet.rows(tokens=[n - 3])],
)


@attack("budgets", short=12, long=400)
def budgets(tries, seed, folder):
    """One request a try; `right` counts the bytes that it took."""
    labs = [tiny.make_lab(tiny.model(max_position_embeddings=2048, **shape)) for shape in SHAPES]
    for lab in labs:
        lab.trace(tiny.ids(3))
    for i in range(tries):
        r = random.Random(seed + i)
        lab, n = r.choice(labs), r.randint(130, 700)
        name, call, planned = r.choice((traced, streamed, generated, warmed, counted, read, read, read))(r, lab, n)
        room = int(planned * r.uniform(0.3, 2.0))
        with mock.patch.object(plan.card, "budget", lambda device, room=room: (room, "a machine of the attack")):
            right = lambda took, room=room: took <= SLACK * room  # noqa: E731
            yield tried(lambda call=call: measure.peak(call)[0], right, f"try {seed + i}: {name}, {n} tokens, {room:,}")


def traced(r, lab, n):
    """One prompt or several, whole or in chunks, some seams."""
    options = {"seams": r.choice(SEAMS), "chunk": r.choice([None, None, 64, 100])}
    rows = [n, n // 2] if options["chunk"] is None and r.random() < 0.3 else [n]
    options |= {"logits": "all"} if r.random() < 0.2 else {}
    prompts = [tiny.ids(length) for length in rows] if len(rows) > 1 else tiny.ids(n)
    planned = lab.plan(tokens=n, seams=options["seams"], chunk=options["chunk"], prompts=len(rows)).peak
    return f"trace {options} of {rows}", lambda: lab.trace(prompts, **options), planned


def warmed(r, lab, n):
    """A prompt behind a warm cache."""
    cache = lab.cache()
    lab.trace(tiny.ids(333, seed=1), layers=[], cache=cache)
    cache = lab.restore(lab.snapshot(cache))
    seams, chunk = r.choice(SEAMS), r.choice([None, 90])
    planned = lab.plan(tokens=n, seams=seams, cached=333, chunk=chunk).peak
    return (
        f"warm trace {seams}, {chunk}",
        lambda: lab.trace(tiny.ids(n), seams=seams, cache=cache, chunk=chunk),
        planned,
    )


def generated(r, lab, n):
    """A prompt and its continuation."""
    seams, new, rows = r.choice(SEAMS), r.randint(1, 12), r.choice([1, 1, 3])
    planned = lab.plan(tokens=n, want="generate", seams=seams, max_new_tokens=new, prompts=rows).peak
    prompts = [tiny.ids(n, seed=row) for row in range(rows)]
    return f"generate {rows}, {seams}", lambda: lab.generate(prompts, seams=seams, max_new_tokens=new), planned


def counted(r, lab, n):
    """Logits of several rows."""
    ids = tiny.ids(n)[None].expand(r.randint(1, 9), -1)
    return "logits", lambda: lab.logits(ids), lab.plan(tokens=n, want="logits", prompts=len(ids)).peak


def streamed(r, lab, n):
    """A stream of one or two probes."""
    probes, again = r.choice(PROBES), r.random()
    made = lambda: probes(random.Random(again), n)  # noqa: E731
    chunk = r.choice([64, 128])
    planned = lab.plan(tokens=n, want="stream", chunk=chunk, probes=made()).peak
    names = [type(probe).__name__ for probe in made()]
    return f"stream {names}", lambda: lab.stream(tiny.ids(n), probes=made(), chunk=chunk), planned


def read(r, lab, n):
    """A reading of a run that is there."""
    name = r.choice(sorted(READINGS))
    kind, function = name.split(".")
    run, options = lab.trace(tiny.ids(n)), READINGS[name](r, n)
    needs = plan.readings()[name]
    sizes = {"heads": options["heads"]} if options.get("heads") else {}
    rest = {key: value for key, value in options.items() if key != "heads"}
    cost = needs.cost(needs.request(lab.spec, n, options=rest, **sizes))
    call = getattr({"attention": attention, "deltanet": deltanet}[kind], function)
    said = {key: value if key != "segments" else "…" for key, value in options.items()}
    return f"{name} {said}", lambda: call(run, layer=LAYERS[kind], **options), cost.result + cost.scratch
