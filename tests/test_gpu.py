"""The laws on an accelerator: `make test ARGS="-m gpu"` on a machine with a CUDA card. Not run by default."""

import pytest
import tiny
import torch
from tiny import make_lab

from labkit import attention, deltanet, yarn
from labkit.trace import TOLERANCE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
IDS = tiny.ids(201)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def pair(request):
    # Key and value widths of 32 and 64: fused kernels want powers of two.
    sizes = dict(linear_key_head_dim=32, linear_value_head_dim=64)
    return make_lab(tiny.model(dtype=request.param, **sizes).cuda()), request.param


def test_every_reading_agrees_with_the_models_own_next_seam(pair):
    lab, dtype = pair
    for run in (lab.trace(IDS), lab.trace(IDS, chunk=64), lab.trace(IDS, device="cpu"), lab.generate(IDS[:50])):
        for layer in lab.spec.deltanet_layers:
            deltanet.memory(run, layer=layer)
            deltanet.implied_attention(run, layer=layer)
        for layer in lab.spec.attention_layers:
            attention.pattern(run, layer=layer)
        assert max(run.parity.values()) < TOLERANCE[dtype]


def test_the_other_readings_run_where_the_model_is(pair):
    lab, dtype = pair
    run, tokens = lab.trace(IDS), list(range(100))
    for layer in lab.spec.deltanet_layers:
        for reading in (deltanet.memory, deltanet.survival, deltanet.half_life, deltanet.spectrum):
            reading(run, layer=layer)
        deltanet.recall(run, layer=layer, source=20)
        deltanet.forgetting(run, layer=layer, source=20)
        deltanet.written_by(run, layer=layer, segments=["a", "b", "c"] * 67)
    for layer in lab.spec.attention_layers:
        attention.summary(run, layer=layer, links=3)
        attention.contribution(run, lab, layer=layer)
        attention.similarity(run, layer=layer)
    attention.scores(lab, pool=tokens, length=40, samples=1)
    deltanet.patch_states(lab, IDS[:60], IDS[60:120], IDS[120:125], score=(3, 5))
    probes = [attention.watch(block=32), *deltanet.saturation(block=32), deltanet.rows(tokens=[150])]
    lab.stream(IDS, probes=probes, chunk=64, progress=False)
    assert max(run.parity.values()) < TOLERANCE[dtype]


def test_tracing_changes_no_logit(pair):
    lab, _ = pair
    with torch.no_grad():
        plain = lab.model(IDS[None].cuda()).logits[0]
    assert torch.equal(lab.trace(IDS, logits="all").logits, plain)


def test_resume_equals_cold(pair):
    lab, dtype = pair
    cache = lab.cache()
    lab.trace(IDS[:128], cache=cache)
    resumed = lab.resume(lab.snapshot(cache), IDS).logits
    cold = lab.trace(IDS).logits
    assert (resumed - cold).abs().max() < (2e-3 if dtype == torch.float32 else 0.12) * cold.abs().max()


def test_the_plan_bounds_what_the_card_allocates(pair):
    lab, _ = pair
    lab.trace(IDS[:5])
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    lab.trace(IDS)
    grown = torch.cuda.max_memory_allocated() - before
    assert grown < 1.15 * lab.plan(tokens=len(IDS)).peak


def test_keys_and_values_can_rest_on_the_host(pair):
    lab, _ = pair
    probes = lambda: [deltanet.gates(), deltanet.norms()]  # noqa: E731
    there = lab.stream(IDS, probes=probes(), chunk=64)
    rests = lab.stream(IDS, probes=probes(), chunk=64, kv_device="cpu")
    assert abs(there.keep - rests.keep).max() < 1e-3


def test_scalings_bands_and_dynamic_keys(pair):
    lab, dtype = pair
    if dtype != torch.float32:
        lab.model.model.rotary_emb.inv_freq = lab.model.model.rotary_emb.inv_freq.float()
    plain = lab.trace(IDS).logits
    for factor in (1, 4):
        with yarn.scaled(lab, factor):
            run = lab.trace(IDS)
            for layer in lab.spec.attention_layers:
                attention.bands(run, layer=layer, rows=[0, 150])
                attention.bands_by_distance(run, layer=layer)
            assert torch.equal(run.logits, plain) == (factor == 1)
            lab.stream(IDS, probes=[attention.watch_bands(block=32)], chunk=64, progress=False)
    with yarn.dynamic(lab):
        cache = lab.cache()
        lab.trace(IDS[:128], cache=cache)
        gap = (lab.trace(IDS[128:], cache=cache).logits - plain).abs().max()
    assert gap < (2e-3 if dtype == torch.float32 else 0.12) * plain.abs().max()
    assert torch.equal(lab.trace(IDS).logits, plain)
