"""What cards hold: numbers counted by hand, laws that no card may break, and the plans of a lab of that size."""

import dataclasses
import functools
import json
import pathlib

import pytest
import torch

from labkit import attention, deltanet, plan, spec
from labkit.__main__ import main
from labkit.errors import InputError
from labkit.families import FAMILIES
from labkit.lab import Lab
from labkit.plan import requests

PUBLISHED = pathlib.Path(spec.__file__).parent / "published"
BIG = spec.read(PUBLISHED / "Qwen3.6-27B.json")
STORED = ("bfloat16", "fp8", "int8", "int4", "nf4")  # from the largest to the smallest
CONTEXTS = ("here", "away", *plan.contexts.PROBES)


@pytest.fixture(scope="module")
def table():
    return plan.fit(BIG)


def row(table, card, stored):
    return next(each for each in table.rows if (each.gpu.name, each.stored) == (card, stored))


def tokens(each, context):
    return each.probes[context].tokens if context in each.probes else getattr(each, context).tokens


def test_27b_in_16_bits_counted_by_hand(table):
    h100 = row(table, "H100", "bfloat16")
    assert h100.weights == 2 * 26_895_998_464 and h100.budget == int(0.9 * (80e9 - 53_791_996_928))
    assert not row(table, "L40S", "bfloat16").loads and h100.loads
    window = 2 * 48 * (48 * 128 * 128 * 4 + 10_240 * 4 * 2)  # states and windows, and their copies for an interrupt
    keys = 65_536 * h100.here.tokens
    others = h100.budget - keys - window
    assert 0 < others < 0.5 * h100.budget, "scratch of one layer, its mask and repeated keys"
    assert h100.seconds == spec.prefill_seconds(BIG, h100.here.tokens, "H100")
    read = h100.weights - 2 * 248_320 * 5120 + keys + 2 * 48 * 48 * 128 * 128 * 4  # all but the embedding
    assert h100.rate == pytest.approx(3.35e12 / read)
    assert h100.away.host == 65_536 * h100.away.tokens and h100.here.host == 0


def test_states_keys_and_logits_are_those_of_the_shape():
    facts = dict(chunk=2048, here=False, away=False, maskless=True)
    first, *_, end = requests.stream_moments(BIG, "bfloat16", 100_000, {}, [], **facts)
    assert first["states"] == end["states"] == 2 * 48 * (48 * 128 * 128 * 4 + 10_240 * 4 * 2)
    assert first["keys and values"] == 65_536 * 100_000 and first["rotary and logits"] == 248_320 * 2
    away = requests.stream_moments(BIG, "bfloat16", 100_000, {}, [], **facts | {"away": True})
    assert away[0] == first | {"keys and values": 65_536 * 100_000 * 2 // 16}, "two layers of 16"


def test_a_context_is_the_longest_that_fits(table):
    for each in table.rows:
        for context in CONTEXTS:
            longest, peak = tokens(each, context), functools.partial(plan.stream_peak, BIG, made=calls(context))
            if longest:
                assert peak(longest, away=context == "away")[0] <= each.budget
            if longest < table.most:
                assert peak(longest + 1024, away=context == "away")[0] > each.budget


def calls(context):
    """What makes the probes of a context."""
    parts = [name.split(".") for name in plan.contexts.PROBES.get(context, ())]
    return [getattr({"deltanet": deltanet, "attention": attention}[part], name) for part, name in parts]


def test_a_larger_card_and_smaller_weights_never_hold_less(table):
    for context in CONTEXTS:
        for stored in STORED:
            held = [tokens(row(table, card, stored), context) for card in plan.CARDS]
            assert held == sorted(held) and held[-1] > 0, (context, stored)
        for card in plan.CARDS:
            held = [tokens(row(table, card, stored), context) for stored in STORED]
            assert held == sorted(held), (context, card)
    for each in table.rows:
        assert each.away.tokens >= each.here.tokens >= max(room.tokens for room in each.probes.values())
        assert each.loads == (each.away.tokens > 0) and each.first >= each.rate


def test_longer_chunks_and_wider_numbers_never_hold_more():
    cards = dict(cards=["H100"], stored=[None, "nf4"])
    base, long, wide = (plan.fit(BIG, **cards, **more).rows for more in ({}, {"chunk": 8192}, {"dtype": "float32"}))
    for other in (long, wide):
        assert all(
            tokens(a, context) >= tokens(b, context) for a, b in zip(base, other, strict=True) for context in CONTEXTS
        )
    assert tokens(long[1], "here") < tokens(base[1], "here") > tokens(wide[1], "here")


@pytest.fixture(scope="module")
def large():
    """A lab of the 27B's true size on the meta device: it can be planned for, nothing else."""
    facts = json.loads((PUBLISHED / "Qwen3.6-27B.json").read_text("utf-8"))
    kind = FAMILIES[BIG.family].model_class()
    with torch.device("meta"):
        model = kind(kind.config_class(**facts["text_config"])).to(torch.bfloat16).eval()
    return Lab(model, None, BIG, None, "large")


@pytest.mark.parametrize(("dtype", "maskless"), [("bfloat16", True), ("float32", False)])
def test_contexts_in_16_bits_need_no_masks(dtype, maskless):
    """In float32 cards keep the mask: truth values, the same as numbers, keys and values for every query head."""
    facts, peaks = dict(chunk=2048, here=False, away=False), {}
    for without in (True, False):
        moments = requests.stream_moments(BIG, dtype, 100_000, {}, [], maskless=without, **facts)
        peaks[without] = max(sum(moment.values()) for moment in moments)
    assert plan.stream_peak(BIG, 100_000, (), dtype=dtype)[0] == peaks[maskless]
    assert peaks[False] - peaks[True] > 2048 * 100_000


@pytest.mark.parametrize("kv_device", [None, "cpu"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_lab_of_that_size_plans_the_same(large, table, kv_device, context, monkeypatch):
    monkeypatch.setattr(plan.requests, "_maskless", lambda lab: True)  # as on the cards of the table
    assert sum(weight.nbytes for weight in large.model.parameters()) == row(table, "H200", "bfloat16").weights
    probes = [make(block=plan.contexts.BLOCK) for make in calls(context)]
    for n in (1000, 100_000, 262_144):
        planned = large.plan(tokens=n, want="stream", kv_device=kv_device, probes=probes)
        peak = plan.stream_peak(BIG, n, calls(context), away=kv_device is not None)[0]
        assert planned.peak == peak


def test_the_table_says_what_it_counts(table):
    text, page = repr(table), table._repr_html_()
    for part in ("24 GB · RTX 4090", "141 GB · H200", "50.10 GiB of weights · does not fit", "no faster than this"):
        assert part in text and part in page
    assert "beside attention.watch: " in page and "keys on the host: " in page and "<script" not in page
    small = dataclasses.replace(BIG.card(gpu="H200").gpu, name="small", memory=54.6)
    shown = repr(plan.fit(BIG, cards=[small], stored=[None], most=4096))
    assert "does not fit" in shown or "no context beside them" in shown


def test_the_command_prints_it(capsys):
    options = ["--gpu", "H100", "--gpu", "rtx4090", "--tokens", "9000", "--chunk", "512"]
    assert main(["fit", str(PUBLISHED / "Qwen3.6-27B.json"), *options]) == 0
    shown = capsys.readouterr().out
    expected = plan.fit(BIG, cards=["H100", "rtx4090"], chunk=512, most=9000)
    assert shown == f"{expected}\n" and "80 GB · H100" in shown and "9,000 tokens" in shown and "L40S" not in shown
    assert main(["fit", "--gpu", "A100"]) == 0
    shown = capsys.readouterr().out
    assert "nano" in shown and "int8" in shown and "fp8" not in shown, "a card without its arithmetic"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(cards=["Z80"]), "unknown GPU"),
        (dict(stored=["int3"]), "(?s)unknown quantisation.*int3.*nf4"),
        (dict(cards=["A100"], stored=["fp8"]), "fp8 weights need fp8 arithmetic"),
        (dict(dtype="int77"), "unknown dtype"),
        (dict(chunk=0), "chunk out of range"),
        (dict(most=0), "most out of range"),
    ],
)
def test_misuse(options, message):
    with pytest.raises(InputError, match=message):
        plan.fit(BIG, **options)


def test_every_published_size_has_an_answer():
    for path in sorted(PUBLISHED.glob("*.json")):
        read = spec.read(json.loads(path.read_text("utf-8")))
        sizes = plan.fit(read, cards=["H200"], stored=[None, "nf4"]).rows
        assert sizes[0].here.tokens <= sizes[1].here.tokens, path.name
        # nf4 does not pack experts that are stacked in one tensor
        assert sizes[1].loads == (spec.weight_bytes(read, "bfloat16", "nf4")["text"] < 0.9 * 141e9), path.name
