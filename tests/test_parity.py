"""The same readings in full prefill, chunked prefill, token by token, generation and padded batches; both dtypes."""

import pytest
import tiny
import torch
from tiny import make_lab

from labkit import attention, deltanet
from labkit.errors import ParityError
from labkit.trace import TOLERANCE

IDS = tiny.ids(101)  # not a multiple of the kernels' chunk of 64


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def pair(request):
    built = tiny.model(dtype=request.param)
    return make_lab(built), request.param


def readings(run):
    """Every reading of every layer of a run, as one dict of arrays."""
    found = {}
    for layer in run.spec.deltanet_layers:
        ds = deltanet.memory(run, layer=layer)
        found |= {f"{layer}.{name}": ds[name].values for name in ds.data_vars}
        found[f"{layer}.implied"] = deltanet.implied_attention(run, layer=layer).weight.values
    for layer in run.spec.attention_layers:
        ds = attention.pattern(run, layer=layer)
        found |= {f"{layer}.weight": ds.weight.values, f"{layer}.gate": ds.gate.values}
    return found


def assert_same(a, b, tolerance):
    assert a.keys() == b.keys()
    for name in a:
        scale = abs(b[name]).max()
        assert abs(a[name] - b[name]).max() <= tolerance * scale, name


# bfloat16 rounds every activation to 8 bits; after five layers the routes differ by a few roundings.
ACROSS = {torch.float32: 2e-4, torch.bfloat16: 0.12}


@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_chunked_prefill_gives_the_same_readings(pair, chunk):
    lab, dtype = pair
    whole, pieces = lab.trace(IDS, logits="all"), lab.trace(IDS, logits="all", chunk=chunk)
    assert (whole.logits - pieces.logits).abs().max() <= ACROSS[dtype] * whole.logits.abs().max()
    assert_same(readings(pieces), readings(whole), ACROSS[dtype])


def test_generation_gives_the_readings_of_a_prefill_of_the_same_tokens(pair):
    lab, dtype = pair
    grown = lab.generate(IDS[:30], max_new_tokens=12)
    assert (grown.prompt_length, len(grown)) == (30, 42)
    whole = lab.trace(grown.ids)
    assert_same(readings(grown), readings(whole), ACROSS[dtype])
    assert (grown.logits - whole.logits).abs().max() <= ACROSS[dtype] * whole.logits.abs().max()


def test_each_row_of_a_padded_batch_equals_the_prompt_alone(pair):
    lab, dtype = pair
    prompts = [IDS[:37], IDS[20:], IDS[50:53]]
    for row, prompt in zip(lab.trace(prompts, logits=[0, -1]), prompts, strict=True):
        alone = lab.trace(prompt, logits=[0, -1])
        assert torch.equal(row.ids, prompt)
        assert row.logits.shape == (2, tiny.SIZES["vocab_size"])
        assert (row.logits - alone.logits).abs().max() <= ACROSS[dtype] * alone.logits.abs().max()
        assert_same(readings(row), readings(alone), ACROSS[dtype])


def test_every_reading_agrees_with_the_models_own_next_seam(pair):
    lab, dtype = pair
    run = lab.trace(IDS)
    readings(run)
    assert len(run.parity) == 2 * 3 + 2
    assert max(run.parity.values()) < TOLERANCE[dtype]
    assert max(run.parity.values()) < (2e-6 if dtype == torch.float32 else 6e-3)


@pytest.mark.parametrize("share", [0.5, 2.0, 5.0])
def test_an_error_above_the_tolerance_is_refused(pair, share):
    """At half the bound a reading passes, at twice and five times it does not: no bound is looser than stated."""
    lab, dtype = pair
    run = lab.trace(IDS[:20], layers=[0], seams=["resid_post"])
    seam = run.seams[0, "resid_post"]
    bound = {torch.float32: 1e-4, torch.bfloat16: 1e-2}[dtype]
    wrong = seam.float().clone()
    wrong[3, 7] += share * bound * seam.abs().max()
    if share < 1:
        facts = run.check_parity(0, "test", wrong, seam)
        assert facts["tolerance"] == bound and facts["parity"] == pytest.approx(share * bound, rel=0.01)
    else:
        with pytest.raises(ParityError, match=f"(?s)at most {bound:g} for"):
            run.check_parity(0, "test", wrong, seam)
    assert run.parity[0, "test"] == pytest.approx(share * bound, rel=0.01)


def test_greedy_generation_is_what_the_model_itself_generates(pair):
    lab, _ = pair
    ids = IDS[None, :30]
    expected = lab.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert torch.equal(lab.generate(IDS[:30], max_new_tokens=12).ids, expected[0])


def test_a_longer_run_crosses_tiles(model):
    """More tokens than one tile of the chunk form, with pads in the last chunk."""
    from labkit.deltanet import recompute
    from labkit.deltanet.equation import tiled

    lab = make_lab(model)
    run = lab.trace(IDS)
    x = recompute.inputs(run, 3)
    walk = lambda tile: tiled(x.q, x.k, x.v, g=x.g, beta=x.beta, tile=tile)  # noqa: E731
    parts = [part.flat(part.out, count) for _, count, part in walk(64)]
    whole = [part.flat(part.out, count) for _, count, part in walk(512)]
    assert len(parts) == 2 and len(whole) == 1
    assert torch.allclose(torch.cat(parts), whole[0], atol=1e-6)
