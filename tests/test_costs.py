"""What a reading says that it costs, against counted bytes: the result within 3 %, with its scratch 0.75 to 1.25."""

import measure
import pytest
import tiny
import torch

from labkit import attention, deltanet, experts, plan
from labkit.deltanet import bisection, costs

MODULES = {"attention": attention, "deltanet": deltanet, "experts": experts}
OPTIONS = {  # arguments that a reading cannot be called without
    "deltanet.measured": {"at": 5},
    "deltanet.response": {"at": 5},
    "deltanet.forgetting": {"source": 3},
    "deltanet.recall": {"source": [3, 9]},
    "deltanet.written_by": {"segments": ["question", "thought", "answer"] * 300},
}
CHOICES = [  # requests of a part, or of more
    ("attention.window", {"rows": range(2)}),
    ("attention.window", {"sources": range(-10, 0)}),
    ("attention.summary", {"samples": 7}),
    ("attention.summary", {"links": 30, "segments": ["question", "thought", "answer"] * 100, "method": "tiles"}),
    ("attention.summary", {"block": 8}),
    ("attention.similarity", {"samples": 5}),
    ("attention.similarity", {"rows": range(300)}),
    ("attention.pattern", {"rows": range(40), "logits": True}),
    ("attention.bands_by_distance", {"by": "pair"}),
    ("deltanet.survival", {"token": 99}),
    ("deltanet.forgetting", {"source": 200}),
    ("deltanet.spectrum", {"tokens": range(0, 300, 7)}),
    ("deltanet.state_difference", {"modes": 2}),
    ("deltanet.memory", {"tokens": None}),
    ("experts.chosen", {"rows": range(0, 300, 7)}),
    ("experts.load", {"segments": ["word", "sign", "number"] * 100}),
]


@pytest.fixture(scope="module", params=[{}, {"linear_key_head_dim": 40, "linear_value_head_dim": 56}], ids=["", "wide"])
def asked(request):
    lab = tiny.make_lab(tiny.model(max_position_embeddings=2048, **request.param))
    return lab, {tokens: lab.trace(tiny.ids(tokens)) for tokens in (300, 900)}


def check(lab, run, name, options):
    needs = plan.readings()[name]
    kind, function = name.split(".")
    more = {"lab": lab, "other": run, "changed": run, "change": 0.1}
    more = [more[option] for option in needs.options if option in more]
    call = lambda: getattr(MODULES[kind], function)(run, *more, layer=2 if kind == "attention" else 1, **options)  # noqa: E731
    call()
    peak, _, data = measure.peak(call)
    sizes = {option: options[option] for option in ("heads", "rows", "samples") if option in options}
    rest = {option: value for option, value in options.items() if option not in sizes}
    cost = needs.cost(needs.request(lab.spec, len(run), options=rest, **sizes))
    result = sum(array.nbytes for array in data.data_vars.values())
    assert abs(cost.result / result - 1) < 0.03, f"{name}: planned {cost.result:,}, counted {result:,}"
    whole = cost.result + cost.scratch
    assert 0.75 * whole < peak < 1.25 * whole, f"{name}: planned {whole:,}, counted {peak:,}"


@pytest.fixture(scope="module")
def routed():
    lab = tiny.make_lab(tiny.model(experts=True, num_experts=61, max_position_embeddings=2048))
    return lab, {tokens: lab.trace(tiny.ids(tokens)) for tokens in (300, 900)}


@pytest.mark.parametrize("heads", [None, [1, 4]], ids=["all", "heads"])
@pytest.mark.parametrize("tokens", [300, 900])
@pytest.mark.parametrize("name", sorted(plan.readings()))
def test_a_cost_describes_the_reading(asked, routed, name, tokens, heads):
    lab, runs = routed if name.startswith("experts.") else asked
    chosen = {"heads": heads} if heads and "heads" in plan.readings()[name].options else {}
    check(lab, runs[tokens], name, OPTIONS.get(name, {}) | chosen)


@pytest.mark.parametrize(("name", "options"), CHOICES, ids=[f"{name} {[*options]}" for name, options in CHOICES])
def test_a_cost_knows_what_was_chosen(asked, routed, name, options):
    lab, runs = routed if name.startswith("experts.") else asked
    check(lab, runs[300], name, options)


def test_bisection_takes_what_its_cost_says():
    """Counted on the CPU, which otherwise takes LAPACK's singular values."""
    states = torch.randn(96, 24, 40)
    taken, *_ = measure.peak(lambda: bisection.bisected(states))
    assert 0.9 < taken / (costs.COPIES * states.nbytes) < 1.1
    needs, spec = deltanet.spectrum.needs, tiny.make_lab(tiny.model()).spec
    card, host = (needs.cost(needs.request(spec, 300, card=card)).scratch for card in (True, False))
    assert card > host
