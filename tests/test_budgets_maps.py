"""Attention that makes its map: eager in every family, and sdpa on a processor where keys and values differ in width.

Sizes are such that the map is most of what a pass holds, and lengths two, so that a plan without its square fails.
"""

import measure
import pytest
import siblings
import tiny
import torch

from labkit import families
from labkit.plan import model, requests
from labkit.trace import wanted_seams

SIZES = (300, 900)
LIGHT = ["resid_post"]
HEADS = dict(num_attention_heads=12, max_position_embeddings=4096)
LATENT = dict(  # the delta rule small beside attention
    model_max_length=4096, num_attention_heads=14, num_key_value_heads=14, linear_head_dim=6, linear_num_heads=5
)
MADE = {
    "qwen3_5": lambda **more: tiny.model(**HEADS, **more),
    "qwen3_5_moe": lambda **more: tiny.model(family="qwen3_5_moe", **HEADS, **more),
    "qwen3_next": lambda **more: tiny.model(family="qwen3_next", **HEADS, **more),
    "olmo_hybrid": lambda **more: siblings.olmo(**HEADS, **more),
    "kimi_linear": lambda **more: siblings.kimi(**LATENT, **more),
}
KINDS = {  # of latent attention: widths of keys are 18 + 8
    "values narrower": {},
    "values wider": dict(v_head_dim=33, q_lora_rank=22),
    "values alike": dict(v_head_dim=26),
}
REQUESTS = {
    "trace": (lambda lab, n: lab.plan(tokens=n), lambda lab, n: lambda: lab.trace(tiny.ids(n))),
    "few seams": (
        lambda lab, n: lab.plan(tokens=n, seams=LIGHT),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), seams=LIGHT),
    ),
    "chunks": (
        lambda lab, n: lab.plan(tokens=n, chunk=192, seams=LIGHT),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), chunk=192, seams=LIGHT),
    ),
    "a batch": (
        lambda lab, n: requests.trace(lab, n, wanted_seams(lab.spec), prompts=3, padded=True),
        lambda lab, n: lambda: lab.trace([tiny.ids(n), tiny.ids(n // 3), tiny.ids(n // 2)]),
    ),
    "a warm cache": (lambda lab, n: lab.plan(tokens=n, cached=500), lambda lab, n: continued(lab, n)),
    "gradients": (
        lambda lab, n: lab.plan(tokens=n, grad=True),
        lambda lab, n: lambda: lab.trace(tiny.ids(n), grad=True),
    ),
    "generate": (
        lambda lab, n: lab.plan(tokens=n, want="generate", max_new_tokens=9),
        lambda lab, n: lambda: lab.generate(tiny.ids(n), max_new_tokens=9),
    ),
}


def continued(lab, tokens):
    cache = lab.cache()
    lab.trace(tiny.ids(500, seed=3), layers=[], cache=cache)
    snap = lab.snapshot(cache)
    return lambda: (again := lab.restore(snap), lab.trace(tiny.ids(tokens), cache=again))


def made(family, attention, **more):
    built = MADE[family](**more)
    if attention:
        built.set_attn_implementation(attention)
    lab = tiny.make_lab(built)
    lab.trace(tiny.ids(3))
    return lab


def true(lab, name, tokens):
    planned, call = REQUESTS[name]
    peak, counted = planned(lab, tokens).peak, measure.peak(call(lab, tokens))[0]
    assert 0.8 < counted / peak < 1.1, f"planned {peak:,}, counted {counted:,}: {counted / peak:.2f}"


@pytest.fixture(scope="module", params=MADE)
def eager(request):
    return made(request.param, "eager")


@pytest.fixture(scope="module", params=KINDS)
def latent(request):
    return made("kimi_linear", "sdpa", **KINDS[request.param])


def test_every_family_is_here():
    assert set(MADE) == set(families.FAMILIES)


@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("name", ["few seams", "a warm cache", "gradients"])
def test_eager_attention_takes_what_was_planned(eager, name, tokens):
    true(eager, name, tokens)


@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("name", REQUESTS)
def test_latent_attention_takes_what_was_planned(latent, name, tokens):
    true(latent, name, tokens)


@pytest.mark.parametrize("family", ["qwen3_5", "kimi_linear"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_in_sixteen_bits_scores_are_numbers_of_thirty_two(family, attention):
    built = MADE[family](dtype=torch.bfloat16)
    built.config._experts_implementation = "eager"  # transformers' grouped products ask for rows of 16 bytes
    built.set_attn_implementation(attention)
    lab = tiny.make_lab(built)
    lab.trace(tiny.ids(3))
    for name in ("few seams", "a warm cache"):
        for tokens in SIZES:
            true(lab, name, tokens)


def test_only_attention_that_makes_its_map_is_planned_with_one(latent):
    """Twice the tokens are four times the map; where nothing makes one, keys and values alone grow."""
    spec, step = latent.spec, {n: requests.Pass(n, n, **requests._attention(latent)) for n in SIZES}
    scratch = {n: model.mixer(spec, "attention", step[n], 4) for n in SIZES}
    if spec.plain + spec.shared == spec.head_dim:
        assert scratch[900] == 3 * scratch[300] and step[300].maps is None
    else:
        assert 2 * 4 * 14 * 900**2 < scratch[900] < 3 * 4 * 14 * 900**2 and scratch[900] > 7 * scratch[300]
        assert model.mixer(spec, "attention", requests.Pass(900, 900), 4) < scratch[900] / 3, "on a card"
