"""The estimate against counted bytes, within 15 %; refusal before anything runs, with a cheaper way."""

import types

import measure
import numpy
import pytest
import tiny
import torch
from tiny import make_lab

from labkit import attention, deltanet, plan
from labkit.errors import BudgetError, InputError, LayerError

SHAPES = {
    "tiny": {},
    "states": dict(linear_key_head_dim=64, linear_value_head_dim=48),
    "wide": dict(hidden_size=160, intermediate_size=480, vocab_size=997),
    "heads": dict(linear_num_value_heads=18, linear_key_head_dim=24, linear_value_head_dim=20, head_dim=32),
    "experts": dict(experts=True),
    "attention": dict(num_attention_heads=12, num_key_value_heads=4, head_dim=64, max_position_embeddings=2048),
}


@pytest.fixture(scope="module", params=SHAPES, ids=list(SHAPES))
def shaped(request):
    rope = dict(tiny.SIZES["rope_parameters"])
    changes = SHAPES[request.param]
    rope["mrope_section"] = [changes.get("head_dim", 16) // 4 - 2, 1, 1]
    return make_lab(tiny.model(**{"max_position_embeddings": 2048, "rope_parameters": rope} | changes))


def within(estimate, counted, share=0.15):
    assert abs(estimate / counted - 1) < share, f"planned {estimate:,}, counted {counted:,}"


@pytest.mark.parametrize("tokens", [257, 1024])
@pytest.mark.parametrize("seams", [None, ["resid_post"], ["qkv", "a", "b", "read"]], ids=["all", "light", "some"])
def test_trace(shaped, tokens, seams):
    ids = tiny.ids(tokens)
    shaped.trace(ids[:3])
    planned = shaped.plan(tokens=tokens, seams=seams)
    peak, kept, _ = measure.peak(lambda: shaped.trace(ids, seams=seams))
    within(planned.peak, peak)
    within(planned.kept, kept)


def test_a_graph_is_planned(shaped):
    ids = tiny.ids(512)
    shaped.trace(ids[:3], grad=True)
    peak, _, _ = measure.peak(lambda: shaped.trace(ids, grad=True))
    planned = shaped.plan(tokens=512, grad=True)
    assert planned.parts["graph"] > 0 and "graph" not in shaped.plan(tokens=512).parts
    within(planned.peak, peak)


@pytest.mark.parametrize("chunk", [128, 512])
def test_chunks_and_streams(shaped, chunk):
    ids = tiny.ids(1024)
    shaped.trace(ids[:3])
    peak, _, _ = measure.peak(lambda: shaped.trace(ids, chunk=chunk))
    within(shaped.plan(tokens=1024, chunk=chunk).peak, peak)
    probes = [deltanet.gates(), deltanet.norms()]
    peak, _, _ = measure.peak(lambda: shaped.stream(ids, probes=probes, chunk=chunk))
    within(shaped.plan(tokens=1024, want="stream", chunk=chunk).peak, peak)


@pytest.mark.parametrize(
    ("want", "read"),
    [
        ("attention.pattern", lambda run: attention.pattern(run, layer=2)),
        ("deltanet.implied_attention", lambda run: deltanet.implied_attention(run, layer=1)),
        ("deltanet.memory", lambda run: deltanet.memory(run, layer=1)),
    ],
    ids=["pattern", "implied", "memory"],
)
def test_readings(shaped, want, read):
    layer = 2 if want.startswith("attention") else 1
    ids = tiny.ids(1024)

    def whole():
        run = shaped.trace(ids, layers=[layer], seams=plan.readings()[want].of(shaped.spec))
        return run, read(run)

    peak, _, _ = measure.peak(whole)
    within(shaped.plan(tokens=1024, want=want, layers=[layer]).peak, peak)


def test_chosen_rows_and_heads_cost_less(lab):
    whole = lab.plan(tokens=500, want="attention.pattern")
    some = lab.plan(tokens=500, want="attention.pattern", heads=[0], rows=range(8))
    assert some.parts["seams"] <= whole.parts["seams"] and some.peak < whole.peak


def test_a_request_above_the_budget_is_refused_before_the_model_runs(lab, monkeypatch):
    monkeypatch.setattr(plan.card, "budget", lambda device: (100_000, "host memory"))
    fired = []
    handle = lab.model.register_forward_pre_hook(lambda *_: fired.append(1))
    with pytest.raises(BudgetError, match="(?s)trace of 400 tokens would not fit.*seams.*at most .*host memory.*try:"):
        lab.trace(tiny.ids(400))
    handle.remove()
    assert not fired


def test_the_refusal_names_a_way_that_fits(lab, monkeypatch):
    full = lab.plan(tokens=500).peak
    monkeypatch.setattr(plan.card, "budget", lambda device: (int(full * 0.9), "host memory"))
    with pytest.raises(BudgetError, match="(?s)try: .*(layers=|seams=).*"):
        lab.trace(tiny.ids(500))
    lab.trace(tiny.ids(500), seams=["resid_post"])


def test_a_map_of_a_run_above_the_budget_is_refused_before_it_is_made(lab, monkeypatch):
    from labkit import attention, deltanet

    run = lab.trace(tiny.ids(300))
    monkeypatch.setattr(plan.card, "budget", lambda device: (1_400_000, "host memory"))
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda *_: pytest.fail("the map was begun"))
    monkeypatch.setattr(torch, "einsum", lambda *_: pytest.fail("the map was begun"))
    said = r"would not fit.*got: .*at most 1.34 MiB \(host memory\).*try: "
    with pytest.raises(BudgetError, match="(?s)attention.pattern of 300 tokens " + said + r".*rows=range\(-64, 0\)"):
        attention.pattern(run, layer=4)
    with pytest.raises(BudgetError, match="(?s)attention.contribution of 300 tokens " + said):
        attention.contribution(run, lab, layer=4)
    with pytest.raises(BudgetError, match="(?s)deltanet.implied_attention of 300 tokens " + said + r"heads=\[0\]"):
        deltanet.implied_attention(run, layer=1)
    monkeypatch.undo()
    monkeypatch.setattr(plan.card, "budget", lambda device: (1_400_000, "host memory"))  # and what was named, fits
    assert attention.pattern(run, layer=4, rows=range(-64, 0)).sizes["token"] == 64


def test_the_27b_at_its_window_needs_rows_not_maps():
    """On the true shapes: the full map of one layer is terabytes, 256 rows of it are not."""
    from labkit import spec

    class Stub:
        spec, dtype, device = None, torch.bfloat16, torch.device("cpu")
        model = types.SimpleNamespace(
            model=types.SimpleNamespace(config=types.SimpleNamespace(_attn_implementation="sdpa"))
        )

    Stub.spec = spec.read("Qwen3.6-27B")
    whole = plan.make(Stub, tokens=262_144, want="attention.pattern", layers=[3])
    assert not whole.fits
    assert whole.parts["result"] == 24 * 262_144**2 * 4
    with pytest.raises(BudgetError, match="(?s)TiB.*try: "):
        whole.refuse()
    rows = plan.make(Stub, tokens=262_144, want="attention.pattern", layers=[3], rows=range(16), chunk=2048)
    assert rows.parts.get("result", 0) <= 24 * 16 * 262_144 * 4
    assert repr(whole).splitlines()[0] == whole.title == "attention.pattern of layers [3], 262,144 tokens"
    assert "cheaper" in repr(whole) and "<table" in whole._repr_html_()
    for group, name, value in whole.facts():
        assert f"  {name}  " in repr(whole) and value in repr(whole)
        assert all(part in whole._repr_html_() for part in (group, name, value))


def test_misuse(lab):
    with pytest.raises(InputError, match="(?s)unknown request.*maps.*attention.pattern"):
        lab.plan(tokens=5, want="maps")
    with pytest.raises(LayerError, match="(?s)attention.pattern: layer 1 is a Gated DeltaNet layer.*2, 4"):
        lab.plan(tokens=5, want="attention.pattern", layers=[1])
    with pytest.raises(InputError, match="(?s)deltanet.memory has no such options.*'rows'.*layers, chunk, .*heads"):
        lab.plan(tokens=5, want="deltanet.memory", rows=[0])
    with pytest.raises(InputError, match="(?s)trace has no such options.*'keep'.*seams, grad, logits"):
        lab.plan(tokens=5, keep=None)
    with pytest.raises(InputError, match="(?s)tokens out of range.*1 or more"):
        lab.plan(tokens=0)


def test_options_of_a_reading_count(lab):
    """An int is one layer; rows by number, logits and several layers change the bytes as they change the result."""
    plan = lambda **options: lab.plan(tokens=90, want="attention.pattern", **options)  # noqa: E731
    assert plan(layers=2).peak == plan(layers=[2]).peak and lab.plan(tokens=90, layers=numpy.int64(2)).fits
    one, both, logits = plan(layers=2), plan(layers=[2, 4]), plan(layers=2, logits=True)
    maps = 4 * lab.spec.query_heads * 90 * 90
    assert logits.kept - one.kept == maps and both.kept - one.kept > maps
    assert lab.plan(tokens=90, want="stream", layers=1).peak < lab.plan(tokens=90, want="stream").peak
    assert lab.plan(tokens=90, want="attention.summary", samples=16).fits


@pytest.mark.parametrize("kind", ["linear_attention", "full_attention"])
def test_a_model_of_one_kind_of_layer_is_planned(kind):
    lab = tiny.make_lab(tiny.model(num_hidden_layers=2, layer_types=[kind] * 2))
    made = lab.plan(tokens=40, want="trace")
    assert made.kept > 0 and (kind == "linear_attention" or "lab.stream" not in str(made))
    reading = "attention.pattern" if kind == "full_attention" else "deltanet.implied_attention"
    assert lab.plan(tokens=40, want=reading).peak > 0
