"""The laws where a model is: on the CPU always, on a CUDA card with `make test ARGS="-m gpu -n 0"`.

One set of tests, in float32 and bfloat16; on a card with the reference kernels and with those of installed packages.
"""

import contextlib

import pytest
import tiny
import torch
from tiny import make_lab

import labkit as lk
from labkit import attention, deltanet, kernels, yarn
from labkit.families import FAMILIES
from labkit.kernels import cards, lower_right
from labkit.trace import TOLERANCE

CARD = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PLACES = [pytest.param(("cpu", "torch", dtype), id=f"cpu-{name}") for name, dtype in DTYPES.items()]
PLACES += [
    pytest.param(("cuda", packages, dtype), id=f"card-{packages}-{name}", marks=CARD)
    for packages in ("torch", "installed")
    for name, dtype in DTYPES.items()
]
# Key and value widths of 32 and 64: sizes that fused kernels take, and channels of the convolution a multiple of 8.
SIZES = dict(linear_key_head_dim=32, linear_value_head_dim=64)
IDS = tiny.ids(201)
NEAR = {torch.float32: 2e-3, torch.bfloat16: 0.12}  # two ways to the same logits


@pytest.fixture(scope="module", params=PLACES)
def pair(request):
    """(lab, dtype) on a device, with the reference kernels or with installed ones."""
    place, packages, dtype = request.param
    family = FAMILIES["qwen3_5"]
    kernels.settle(family)
    if packages == "installed" and set(kernels.installed(family).values()) == {"torch"}:
        pytest.skip("neither fla nor causal_conv1d is installed")
    with contextlib.ExitStack() as undo:
        if place == "cuda" and packages == "torch":
            kernels.force(family, True)
            undo.callback(kernels.force, family, False)
        yield lk.wrap(tiny.model(dtype=dtype, **SIZES).to(place), attention="auto"), dtype


def test_the_record_says_what_computes_this_model(pair):
    lab, dtype = pair
    assert lab.backend.precision == "ieee"
    rule = lab.backend.kernels["chunk_gated_delta_rule"]
    if lab.device.type == "cpu" or dtype == torch.float32:
        assert rule == "torch", "fla solves in TF32 by name"
    elif not lab.backend.forced:
        assert rule == kernels.installed(FAMILIES["qwen3_5"])["chunk_gated_delta_rule"]
    assert lab.backend.attention == ("sdpa" if lab.device.type == "cpu" else lower_right.NAME)


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
        plain = lab.model(IDS[None].to(lab.device)).logits[0]
    assert torch.equal(lab.trace(IDS, logits="all").logits, plain)


def test_resume_equals_cold(pair):
    lab, dtype = pair
    cache = lab.cache()
    lab.trace(IDS[:128], cache=cache)
    resumed = lab.resume(lab.snapshot(cache), IDS).logits
    cold = lab.trace(IDS).logits
    assert (resumed - cold).abs().max() < NEAR[dtype] * cold.abs().max()


def test_the_plan_bounds_what_the_card_allocates(pair):
    lab, _ = pair
    if lab.device.type == "cpu":
        pytest.skip("tests/test_budgets.py counts the bytes of the CPU")
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
    assert gap < NEAR[dtype] * plain.abs().max()
    assert torch.equal(lab.trace(IDS).logits, plain)


def test_attention_without_masks_gives_the_logits_of_sdpa(pair):
    lab, dtype = pair
    ways = {name: lk.wrap(lab.model, attention=name) for name in ("sdpa", "flash")}
    try:
        for chunk in (None, 64, 150):
            made = []
            for name in ways:
                lower_right.choose(lab.model, name, lab.device)
                made.append(lab.trace(IDS, logits="all", chunk=chunk).logits)
            gap, size = (made[0] - made[1]).abs().max(), made[0].abs().max()
            assert gap < NEAR[dtype] * size and (gap == 0 or lab.device.type != "cpu")
    finally:
        lower_right.choose(lab.model, "auto", lab.device)


@pytest.mark.parametrize("head_dim", [16, 128, 256])
@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=CARD)])
def test_every_kernel_of_this_card_that_was_proven_is_right(place, head_dim, record_property):
    capability = torch.cuda.get_device_capability() if place == "cuda" else None
    generator = torch.Generator().manual_seed(0)
    sizes = ((12, 300), (2, 1111), (2, 1111))
    q, k, v = (torch.randn(1, *size, head_dim, generator=generator).bfloat16() for size in sizes)
    right, index = cards.dense(q, k, v, 0.1), torch.cuda.current_device() if place == "cuda" else None
    names = cards.kernels_for(capability, torch.bfloat16, head_dim)
    taken = [name for name in names[:-1] if cards.failing(name, index, torch.bfloat16, head_dim, 6) is None]
    record_property("kernels", f"heads of {head_dim}: {', '.join(taken) or 'none'} of {', '.join(names)}")
    for name in taken:
        made = cards.KERNELS[name](q.to(place), k.to(place), v.to(place), 0.1).cpu()
        assert (made - right).abs().max() < cards.NEAR * right.abs().max(), name
    assert taken or capability is None or capability < (8, 0), "PyTorch's own flash kernel at least"


@pytest.mark.parametrize("place", [pytest.param("cuda", marks=CARD)])
def test_a_lab_on_the_cpu_works_beside_one_on_the_card(place):
    there, here = make_lab(tiny.model(**SIZES).to(place)), make_lab(tiny.model(**SIZES))
    made = [lab.trace(IDS, logits="all").logits.cpu() for lab in (there, here, there)]
    assert torch.equal(made[0], made[2]) and (made[0] - made[1]).abs().max() < 2e-3 * made[1].abs().max()
    assert set(here.backend.kernels.values()) == {"torch"}
