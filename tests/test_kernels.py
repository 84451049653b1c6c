"""Which code computes: fast kernels only where they can, and attention that needs no mask to continue a cache."""

import copy
import dataclasses
import functools
import pickle
import sys
import types

import pytest
import tiny
import torch
from transformers.models.qwen3_5 import modeling_qwen3_5 as modeling

import labkit as lk
from labkit import attention, deltanet, edit, kernels
from labkit.errors import BackendError, InputError, ParityError
from labkit.families import FAMILIES
from labkit.kernels import bound, cards, lower_right, rounding
from labkit.kernels.limits import Work, able
from labkit.trace import cache_parameter

DENSE = FAMILIES["qwen3_5"]
IDS = tiny.ids(101)
CUDA = Work("cuda", torch.bfloat16, width=128, channels=192, taps=4)


# ------------------------------------------------------------------------------------ the kernels of packages


@pytest.fixture
def fast(monkeypatch):
    """fla and causal_conv1d as transformers would have found them at import: kernels that know CUDA tensors alone."""
    calls = []

    def package(operation, name):
        reference = bound.behind(getattr(modeling, name))["torch_function"]

        def kernel(*args, **options):
            assert args[0].device.type == "meta", "Pointer argument cannot be accessed from Triton (cpu tensor?)"
            calls.append((operation, sorted(options)))
            return "fast"

        kernel.__module__ = ("causal_conv1d" if "conv" in name else "fla.ops") + ".made_up"
        monkeypatch.setitem(sys.modules, kernel.__module__, types.ModuleType(kernel.__module__))

        def outer(implementation, torch_function):
            @functools.wraps(torch_function)
            def wrapped(*args, **options):
                return implementation(*args, **options) if implementation else torch_function(*args, **options)

            return wrapped

        monkeypatch.setattr(modeling, name, outer(kernel, reference))

    for operation, name in DENSE.kernels.items():
        package(operation, name)
    monkeypatch.setattr(bound, "_forced", {})
    return calls


def everything(lab):
    """One of all that a lab does with its model, as numbers."""
    cache = lab.cache()
    run = lab.trace(IDS[:70], logits="all", cache=cache)
    rest = lab.resume(lab.snapshot(cache), IDS)
    grown = lab.generate(IDS[:30], max_new_tokens=5)
    with lab.edit(*edit.ablate(1)):
        edited = lab.trace([IDS[:40], IDS[:33]])[1]
    for layer in lab.spec.deltanet_layers:
        deltanet.memory(run, layer=layer)
        deltanet.implied_attention(rest, layer=layer)
    sloped = lab.trace(IDS[:20], grad=True)
    slope = sloped.gradient(sloped.logits[-1, 7], layer=0, seam="resid_post")
    streamed = lab.stream(IDS, probes=[deltanet.norms()], chunk=64).state_norm.values
    parts = (run.logits, rest.logits, grown.logits, edited.logits, slope, torch.as_tensor(streamed))
    return [part.detach() for part in parts], grown.ids


def test_a_model_on_the_cpu_runs_where_fast_kernels_are_installed(fast, model):
    bare = {op: bound.reference(function) for op, function in bound.functions(DENSE).items()}
    assert kernels.installed(DENSE) == {
        "chunk_gated_delta_rule": "fla",
        "recurrent_gated_delta_rule": "fla",
        "causal_conv1d": "causal_conv1d",
        "causal_conv1d_update": "causal_conv1d",
    }
    with pytest.raises(AssertionError, match="cpu tensor"):
        model(IDS[None])
    lab = lk.wrap(model)
    assert set(lab.backend.kernels.values()) == {"torch"}
    assert "fla" not in lab.identity().kernels and "chunk_gated_delta_rule torch" in lab.identity().kernels
    assert kernels.installed(DENSE)["causal_conv1d"] == "causal_conv1d", "what is installed is told nevertheless"
    found, ids = everything(lab)
    for operation, function in bare.items():
        setattr(modeling, DENSE.kernels[operation], function)
    expected, same = everything(lk.wrap(model))
    assert torch.equal(ids, same) and all(map(torch.equal, found, expected))
    assert not fast, "no fast kernel was called"


def test_a_dispatcher_asks_the_tensors(fast, monkeypatch):
    kernels.settle(DENSE)
    first = modeling.causal_conv1d_fn
    kernels.settle(DENSE)
    assert modeling.causal_conv1d_fn is first, "once per process"
    works = []

    def able_there(package, operation, work, tf32):
        works.append(work)
        return work.device == "meta"

    monkeypatch.setattr(bound, "able", able_there)
    keys = torch.zeros(1, 3, 2, 8, device="meta")
    for name in ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"):
        rule = getattr(modeling, name)
        decay = dict(g=torch.zeros(1, 3, 2), beta=torch.zeros(1, 3, 2), cu_seqlens=None)
        assert rule(keys, keys, keys, **decay) == "fast"
        here = rule(*[torch.zeros(1, 3, 2, 8)] * 3, **decay)
        assert here[0].shape == (1, 3, 2, 8)
    states = torch.zeros(1, 6, 5)
    assert first(states.to("meta"), torch.zeros(6, 4), None, activation="silu") == "fast"
    assert first(states, torch.zeros(6, 4), None, activation="silu", made_up=1).shape == (1, 6, 5)
    update = modeling.causal_conv1d_update
    assert update(states.to("meta"), torch.zeros(1, 6, 4), torch.zeros(6, 4), None, "silu") == "fast"
    assert [name for name, _ in fast] == [*DENSE.kernels]
    assert not any(work.packed or work.graph for work in works)
    # Gradients that are asked for, and packed sequences, are told.
    graph = keys.requires_grad_()
    modeling.torch_recurrent_gated_delta_rule(graph, graph, graph, g=None, beta=None)
    assert works[-1].graph and not works[-1].packed
    with torch.no_grad():
        modeling.torch_chunk_gated_delta_rule(graph, graph, value=graph, g=None, beta=None, cu_seqlens=torch.zeros(2))
    assert works[-1].packed and not works[-1].graph
    first(states.to("meta"), torch.zeros(6, 4), None, activation="silu", seq_idx=torch.zeros(1, 5))
    assert works[-1].packed
    with pytest.raises(BackendError, match="cannot keep packed sequences apart"):
        first(states, torch.zeros(6, 4), None, activation="silu", seq_idx=torch.zeros(1, 5))


def test_a_dispatcher_is_copied_and_pickled_by_its_name_as_functions_are(fast):
    kernels.settle(DENSE)
    holder = torch.nn.Module()
    holder.rule, holder.conv = modeling.torch_chunk_gated_delta_rule, modeling.causal_conv1d_fn
    assert isinstance(holder.rule, bound.Dispatcher)
    for twin in (copy.deepcopy(holder), copy.copy(holder), pickle.loads(pickle.dumps(holder))):
        assert twin.rule is holder.rule and twin.conv is holder.conv


def test_a_function_that_somebody_else_put_there_stays(fast, monkeypatch, model):
    kernels.settle(DENSE)
    rule = modeling.torch_chunk_gated_delta_rule
    mine = lambda *args, **options: rule(*args, **options)  # noqa: E731
    monkeypatch.setattr(modeling, "torch_chunk_gated_delta_rule", mine)
    lab = lk.wrap(model)
    assert modeling.torch_chunk_gated_delta_rule is mine
    assert lab.backend.kernels["chunk_gated_delta_rule"] == __name__
    assert len(lab.trace(IDS[:9])) == 9


@pytest.mark.parametrize(
    ("package", "operation", "change", "expected"),
    [
        ("fla", "chunk_gated_delta_rule", {}, True),
        ("fla", "chunk_gated_delta_rule", {"device": "cpu"}, False),
        ("fla", "chunk_gated_delta_rule", {"dtype": torch.float64}, False),
        ("fla", "chunk_gated_delta_rule", {"width": 264}, False),
        ("fla", "chunk_gated_delta_rule", {"dtype": torch.float32}, False),
        ("fla", "recurrent_gated_delta_rule", {"dtype": torch.float32, "width": 264}, True),
        ("causal_conv1d", "causal_conv1d", {}, True),
        ("causal_conv1d", "causal_conv1d", {"channels": 186}, False),
        ("causal_conv1d", "causal_conv1d_update", {"taps": 5}, False),
        ("torch", "causal_conv1d", {}, False),
        ("fla", "recurrent_gated_delta_rule", {"graph": True}, False),
        ("causal_conv1d", "causal_conv1d_update", {"graph": True}, False),
        ("fla", "chunk_gated_delta_rule", {"graph": True}, True),
        ("fla", "chunk_gated_delta_rule", {"dtype": torch.float32, "packed": True}, True),
        ("causal_conv1d", "causal_conv1d", {"channels": 186, "packed": True}, True),
        ("fla", "chunk_gated_delta_rule", {"device": "cpu", "packed": True}, False),
        ("fla", "chunk_gated_delta_rule", {"device": "meta"}, False),
        ("fla", "chunk_gated_delta_rule", {"device": "xpu", "dtype": torch.float32, "graph": True}, True),
        ("fla", "chunk_gated_delta_rule", {"device": "npu", "width": 264}, True),
        ("torch", "chunk_gated_delta_rule", {"device": "xpu"}, False),
    ],
)
def test_what_a_fast_kernel_can_compute(package, operation, change, expected):
    assert able(package, operation, dataclasses.replace(CUDA, **change), tf32=False) is expected


def test_a_cpu_that_rounds_nothing_is_not_said_to_round(model):
    lab, before = lk.wrap(model), torch.get_float32_matmul_precision()
    plain = lab.identity()
    a, b = (torch.arange(64 * 300.0).sin().view(sizes) for sizes in ((64, 300), (300, 64)))
    exact = a.double() @ b.double()
    try:
        for asked in ("high", "medium"):
            torch.set_float32_matmul_precision(asked)
            off = float((a @ b - exact).abs().max() / exact.abs().max())
            assert (kernels.float32_as("cpu") == "ieee") == (off < 1e-5), off
            assert (lab.identity() == plain) == (off < 1e-5)
            assert kernels.float32_as("meta") == "ieee" and kernels.float32_as("cuda") == "tf32"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("bits", "rounded"), [(23, False), (10, True), (7, True)])
def test_a_product_says_whether_float32_is_rounded(bits, rounded, monkeypatch):
    product = torch.Tensor.__matmul__

    def short(part):
        bare = part.view(torch.int32) + (1 << (22 - bits)) if bits < 23 else part.view(torch.int32)
        return (bare & -(1 << (23 - bits))).view(torch.float32)

    def coarse(a, b):
        return product(short(a), short(b)) if a.dtype == torch.float32 else product(a, b)

    rounding.rounds.cache_clear()
    monkeypatch.setattr(torch.Tensor, "__matmul__", coarse)
    with torch.autocast("cpu"), torch.device("meta"):
        assert rounding.rounds("cpu", f"{bits} bits") is rounded
    rounding.rounds.cache_clear()


def test_tf32_is_taken_where_it_was_asked_for_and_told(model, monkeypatch):
    monkeypatch.setattr(rounding, "rounds", lambda device, chosen: True)  # a CPU that has such products
    lab, wide = lk.wrap(model), Work("cuda", torch.float32, width=128)
    before, plain = torch.get_float32_matmul_precision(), lab.identity()
    assert lab.backend.precision == kernels.float32_as("cuda") == "ieee"
    try:
        torch.set_float32_matmul_precision("high")
        assert kernels.float32_as("cuda") == lk.wrap(model).backend.precision == "tf32"
        assert able("fla", "chunk_gated_delta_rule", wide, tf32=True)
        assert lab.identity().differing(plain).keys() == {"kernels"}
        assert lab.identity().kernels.endswith("on cpu, float32 multiplied as tf32")
        run = lab.trace(IDS[:9], layers=[0], seams=["resid_post"])
    finally:
        torch.set_float32_matmul_precision(before)
    assert ("numbers", "precision", "ieee") in lk.wrap(model).backend.facts()
    seam = run.seams[0, "resid_post"]
    off = seam + 2e-3 * seam.abs().max()  # as much as TF32 may be off, and no more
    assert run.check_parity(0, "test", off, seam)["tolerance"] == 4e-3
    exact = lab.trace(IDS[:9], layers=[0], seams=["resid_post"])
    for bad, asked in ((off, exact), (seam + 5e-3 * seam.abs().max(), run)):
        with pytest.raises(ParityError):
            asked.check_parity(0, "test", bad, seam)


# --------------------------------------------------------------------------------------- lower-right attention


def module(groups, causal=True):
    return types.SimpleNamespace(num_key_value_groups=groups, is_causal=causal, layer_idx=0)


def drawn(batch=2, heads=6, groups=3, n=7, m=19, width=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    sizes = ((heads, n), (heads // groups, m), (heads // groups, m))
    return [torch.randn(batch, *size, width, generator=generator).to(dtype) for size in sizes]


@pytest.mark.parametrize("n", [1, 2, 7, 18, 19])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_query_sees_the_last_key(n, dtype):
    q, k, v = drawn(n=n, dtype=dtype)
    made, _ = lower_right.attend(module(3), q, k, v, None, scaling=0.3)
    right = cards.dense(q, k, v, 0.3).transpose(1, 2)
    assert made.shape == right.shape == (2, n, 6, 16) and made.dtype == dtype and made.is_contiguous()
    assert (made - right).abs().max() < (1e-6 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("options", [dict(dropout=1e-9), dict(position_bias=torch.zeros(1, 1, 7, 19))])
@pytest.mark.parametrize("n", [1, 7, 19])
def test_what_only_sdpa_can_do_is_aligned_to_the_last_key_too(options, n, monkeypatch):
    monkeypatch.setattr(cards, "tried", lambda *facts: ("flash", {}))  # as on a card; it is not called
    if "position_bias" in options:
        options = dict(position_bias=options["position_bias"].new_zeros(1, 1, n, 19))
    q, k, v = drawn(n=n)
    made, _ = lower_right.attend(module(3), q, k, v, None, scaling=0.25, **options)
    assert (made - cards.dense(q, k, v, 0.25).transpose(1, 2)).abs().max() < 1e-6


@pytest.mark.parametrize("causal", [True, False])
def test_a_mask_that_is_given_counts_and_image_towers_see_everything(causal):
    q, k, v = drawn()
    seen = torch.rand(2, 1, 7, 19, generator=torch.Generator().manual_seed(1)) < 0.6
    seen[..., 0] = True
    expected = torch.nn.functional.scaled_dot_product_attention(
        q, *(part.repeat_interleave(3, 1) for part in (k, v)), attn_mask=seen
    )
    made, _ = lower_right.attend(module(3, causal), q, k, v, seen)
    assert torch.equal(made, expected.transpose(1, 2))
    whole = lower_right.attend(module(3), q, k, v, None, is_causal=False)[0]
    assert (whole - cards.dense(q[:, :, -1:], k, v, 0.25).transpose(1, 2)).abs().max() > 0.1
    last = lower_right.attend(module(3), q[:, :, -1:], k, v, None)[0]
    assert torch.allclose(whole[:, -1:], last, atol=1e-6)


def asked(**changes):
    """What transformers asks for in a pass of 7 tokens after 12 others."""
    from transformers.masking_utils import causal_mask_function

    facts = dict(batch_size=2, q_length=7, kv_length=19, q_offset=12, mask_function=causal_mask_function)
    return facts | dict(attention_mask=None, use_vmap=False, dtype=torch.float32, config=None, device="cpu") | changes


def test_no_mask_is_made_where_attention_is_plainly_causal():
    from transformers.masking_utils import sdpa_mask, sliding_window_causal_mask_function

    assert lower_right.mask(**asked()) is None
    assert lower_right.mask(**asked(attention_mask=torch.ones(2, 19, dtype=torch.bool))) is None
    padded = torch.ones(2, 19, dtype=torch.bool)
    padded[1, :3] = False
    others = {
        "padded rows": asked(attention_mask=padded),
        "a cache of fixed length": asked(q_offset=torch.tensor(12), kv_length=32),
        "a first pass into one": asked(q_offset=0, kv_length=32),
        "a sliding window": asked(mask_function=sliding_window_causal_mask_function(5)),
        "packed sequences": asked(allow_is_causal_skip=False),
    }
    for name, facts in others.items():
        made = lower_right.mask(**facts)
        assert made is not None and torch.equal(made, sdpa_mask(**facts | {"allow_is_causal_skip": False})), name
    assert torch.equal(lower_right.mask(**others["packed sequences"])[0, 0], torch.ones(7, 19).tril(12).bool())


def test_a_graph_that_is_traced_depends_on_no_numbers(monkeypatch):
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        assert lower_right.mask(**asked(attention_mask=torch.ones(2, 19, dtype=torch.bool))).shape == (2, 1, 7, 19)
        assert lower_right.mask(**asked()) is None
        monkeypatch.setattr(cards, "tried", lambda *facts: ("flash", {}))  # would be proven with numbers
        q, k, v = (torch.zeros(2, heads, n, 16) for heads, n in ((6, 7), (2, 19), (2, 19)))
        assert lower_right.attend(module(3), q, k, v, None)[0].shape == (2, 7, 6, 16)


@pytest.mark.parametrize("images", [False, True])
def test_a_whole_model_computes_the_same_bits_under_flash_on_the_cpu(images, model):
    built = pictured() if images else tiny.model()
    plain = lk.wrap(built)
    before = plain.trace(IDS, logits="all").logits, everything(plain), chunks(plain)
    lab = lk.wrap(built, attention="flash")
    assert lab.backend.attention == lower_right.NAME and "labkit_lower_right (sdpa)" in repr(lab.backend)
    assert "attention labkit_lower_right (sdpa)" in lab.identity().kernels
    after = lab.trace(IDS, logits="all").logits, everything(lab), chunks(lab)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1][1], after[1][1])
    assert all(map(torch.equal, before[1][0], after[1][0]))
    assert all(map(torch.equal, before[2], after[2]))
    if images:
        assert built.config.vision_config._attn_implementation == "sdpa", "the tower keeps its own"
    attention.pattern(lab.trace(IDS, chunk=40), layer=2)


def chunks(lab):
    return [lab.trace(IDS[: 20 * chunk], logits="all", chunk=chunk).logits for chunk in (1, 7, 64, 100)]


def pictured():
    """The image-text class around the tiny hybrid."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    vision = dict(depth=1, hidden_size=16, num_heads=2, intermediate_size=24, out_hidden_size=44, patch_size=4)
    config = Qwen3_5Config(text_config=tiny.SIZES, vision_config=vision | dict(num_position_embeddings=16))
    torch.manual_seed(0)
    return Qwen3_5ForConditionalGeneration(config).eval().requires_grad_(False)


def test_no_pass_of_a_lab_makes_a_mask_but_for_padded_rows(monkeypatch):
    lab, made = lk.wrap(tiny.model(), attention="flash"), []
    monkeypatch.setattr(lower_right, "mask", spied(lower_right.mask, made))
    lower_right.register()
    try:
        everything_but_batches = [lab.trace(IDS, chunk=40), lab.generate(IDS[:20], max_new_tokens=3)]
        assert len(everything_but_batches) == 2 and made and all(each is None for each in made)
        lab.trace([IDS[:40], IDS[:33]])
        assert made[-1] is not None
    finally:
        monkeypatch.undo()
        lower_right.register()


def spied(function, seen):
    def spy(*args, **options):
        seen.append(function(*args, **options))
        return seen[-1]

    return spy


def test_a_cache_of_fixed_length_is_honoured():
    from transformers import StaticCache

    built = tiny.model()
    lk.wrap(built, attention="flash")
    cache, name = StaticCache(config=built.config, max_cache_len=40), cache_parameter(built)
    with torch.no_grad():
        parts = [built(IDS[None, a:b], **{name: cache}).logits for a, b in ((0, 20), (20, 21), (21, 30))]
        whole = built(IDS[None, :30]).logits
        early = torch.ones(1, 1, 30, 30, dtype=torch.bool).tril(-3)
        early[..., 0] = True
        seen = built(IDS[None, :30], attention_mask={"linear_attention": None, "full_attention": early}).logits
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-4 * whole.abs().max()
    assert (seen - whole).abs().max() > 1e-3 * whole.abs().max(), "a mask that is given always counts"


def test_attention_is_chosen_by_name(model, monkeypatch):
    assert lk.load("nano").backend.attention == "sdpa", "auto changes nothing on the CPU"
    assert lk.load("nano", attention="eager").backend.attention == "eager"
    assert lk.load("nano", attention="flash").backend.attention == lower_right.NAME
    assert lk.wrap(model).backend.attention == "sdpa"
    for way in (functools.partial(lk.load, "nano"), functools.partial(lk.wrap, model)):
        with pytest.raises(InputError, match='(?s)unknown attention.*fast.*"auto", "flash", "sdpa", "eager"'):
            way(attention="fast")
    with pytest.raises(BackendError, match="(?s)attention='flash_attention_2' cannot be had here"):
        lk.wrap(tiny.model(), attention="flash_attention_2")
    set_to = []
    built = types.SimpleNamespace(config=types.SimpleNamespace(), set_attn_implementation=set_to.append)
    lower_right.choose(built, "auto", torch.device("cuda"))
    assert set_to == [lower_right.NAME]


# ----------------------------------------------------------------------------------- kernels of a card


@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "expected"),
    [
        (None, torch.bfloat16, 256, ("sdpa",)),
        ((9, 0), torch.float32, 256, ("sdpa",)),
        ((9, 0), torch.bfloat16, 256, ("flash3", "cudnn", "flash", "sdpa")),
        ((9, 0), torch.float16, 260, ("sdpa",)),
        ((9, 0), torch.bfloat16, 264, ("sdpa",)),
        ((8, 0), torch.bfloat16, 256, ("flash", "sdpa")),
        ((12, 0), torch.bfloat16, 128, ("flash", "sdpa")),
        ((7, 5), torch.float16, 64, ("sdpa",)),
    ],
)
def test_the_table_of_cards(capability, dtype, head_dim, expected):
    assert cards.kernels_for(capability, dtype, head_dim) == expected


def as_a_card(q, k, v, scale):
    return cards.dense(q, k, v, scale).to(q.dtype)


def upper_left(q, k, v, scale):
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], 1) for part in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def other_groups(q, k, v, scale):
    order = torch.arange(q.shape[1]).view(-1, k.shape[1]).T.reshape(-1)
    return as_a_card(q[:, order], k, v, scale)


def failing(q, k, v, scale):
    raise RuntimeError("no execution plans\nsupport the graph")


def one_prompt(q, k, v, scale):
    return as_a_card(q[:1], k[:1], v[:1], scale).expand(q.shape)


def as_if_contiguous(q, k, v, scale):
    k, v = (torch.as_strided(part, part.shape, torch.empty(part.shape).stride()) for part in (k, v))
    return as_a_card(q, k, v, scale)


def many_alone(q, k, v, scale):
    return (as_a_card if q.shape[2] > 8 else upper_left)(q, k, v, scale)


def room_too(q, k, v, scale):
    whole = k.as_strided((*k.shape[:2], k.stride(1) // k.stride(2), k.shape[3]), k.stride())
    return as_a_card(q, k, v, scale) + 0 * whole.sum()


WRONG = (upper_left, other_groups, one_prompt, as_if_contiguous, many_alone, room_too)


@pytest.mark.parametrize(
    ("wrong", "why"), [*((each, "wrong numbers") for each in WRONG), (failing, "RuntimeError: no")]
)
def test_a_kernel_is_taken_once_it_was_right_on_this_card(wrong, why, monkeypatch):
    monkeypatch.setattr(cards, "kernels_for", lambda *facts: ("cudnn", "flash", "sdpa"))
    monkeypatch.setattr(cards, "KERNELS", {"cudnn": wrong, "flash": as_a_card})
    cards.failing.cache_clear()
    here = torch.device("cpu")
    with torch.device("meta"):  # a default of others
        assert cards.kernel_for(here, torch.bfloat16, 32, 3) == "flash"
    refused = cards.tried(here, torch.bfloat16, 32, 3)[1]
    assert list(refused) == ["cudnn"] and refused["cudnn"].startswith(why) and "\n" not in refused["cudnn"]
    q, k, v = drawn(dtype=torch.bfloat16)
    right = cards.dense(q, k, v, 0.25).transpose(1, 2)
    made, _ = lower_right.attend(module(3), q, k, v, None)
    assert made.dtype == torch.bfloat16 and (made - right).abs().max() < 2e-2
    monkeypatch.setattr(cards, "KERNELS", {"cudnn": wrong, "flash": wrong})
    cards.failing.cache_clear()
    assert cards.kernel_for(here, torch.bfloat16, 32, 3) == "sdpa"
    graph = q.requires_grad_()
    monkeypatch.setattr(cards, "KERNELS", {"cudnn": failing, "flash": failing})
    assert lower_right.attend(module(3), graph, k, v, None)[0].requires_grad, "with a graph transformers' own path"
    cards.failing.cache_clear()


def test_a_card_that_was_full_is_asked_again(monkeypatch):
    def full(q, k, v, scale):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cards, "kernels_for", lambda *facts: ("flash", "sdpa"))
    monkeypatch.setattr(cards, "KERNELS", {"flash": full})
    cards.failing.cache_clear()
    with pytest.raises(torch.OutOfMemoryError):
        cards.kernel_for(torch.device("cpu"), torch.bfloat16, 32, 3)
    monkeypatch.setattr(cards, "KERNELS", {"flash": as_a_card})
    assert cards.kernel_for(torch.device("cpu"), torch.bfloat16, 32, 3) == "flash"
    cards.failing.cache_clear()


def test_the_kernel_within_attention_is_told_and_why_others_are_not_taken(monkeypatch):
    monkeypatch.setattr(cards, "kernels_for", lambda *facts: ("cudnn", "flash", "sdpa"))
    monkeypatch.setattr(cards, "KERNELS", {"cudnn": failing, "flash": as_a_card})
    cards.failing.cache_clear()
    lab = lk.wrap(tiny.model(), attention="flash")
    assert lab.backend.attention_kernel == "flash" and "labkit_lower_right (flash)" in repr(lab.backend)
    why = "RuntimeError: no execution plans support the graph"
    assert ("kernels", "attention, not cudnn", why) in lab.backend.facts() and why in repr(lab.backend)
    first = lab.identity()
    assert "attention labkit_lower_right (flash)" in first.kernels
    cards.failing.cache_clear()
    monkeypatch.setattr(cards, "KERNELS", {"cudnn": as_a_card, "flash": as_a_card})
    assert "attention labkit_lower_right (cudnn)" in lab.identity().kernels, "as it computes now"
    assert lab.identity().differing(first).keys() == {"kernels"} and lab.backend.attention_kernel == "flash"
    cards.failing.cache_clear()


@pytest.mark.parametrize("n", [1, 7, 18, 19])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("column", [False, True])
def test_two_softmaxes_meet_by_their_log_sums(n, dtype, column):
    """As a kernel that knows square causal and full attention alone gives them, grouped heads and all."""

    def part(q, k, v, causal, scale):
        assert not causal or q.shape[2] == k.shape[2]
        k, v = (each.repeat_interleave(3, 1) for each in (k, v))
        logits = q.double() @ k.double().transpose(-1, -2) * scale
        if causal:
            logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -torch.inf)
        total = logits.logsumexp(-1).float()
        return (logits.softmax(-1) @ v.double()).to(q.dtype), total[..., None] if column else total

    q, k, v = drawn(n=n, dtype=dtype)
    made = cards.in_two_parts(part, q, k, v, 0.3)
    right = cards.dense(q, k, v, 0.3)
    assert made.dtype == dtype and (made - right).abs().max() < (2e-6 if dtype == torch.float32 else 2e-2)


# ------------------------------------------------------------------------------------------------- plans


@pytest.fixture
def true_size(monkeypatch):
    """A stand-in for a lab of the 27B on an H200 with lower-right attention: its shape, no weights."""
    import json
    import pathlib

    from labkit import plan

    folder = pathlib.Path(lk.spec.__file__).parent / "published"
    facts = json.loads((folder / "Qwen3.6-27B.json").read_text(encoding="utf-8"))
    anatomy, kind = lk.spec.read(facts), DENSE.model_class()
    with torch.device("meta"):
        model = kind(kind.config_class(**facts["text_config"])).to(torch.bfloat16).eval()
    monkeypatch.setattr(cards, "tried", lambda *facts: ("flash", {}))
    free = int(plan.card.SHARE * (139 * 2**30 - sum(weight.nbytes for weight in model.parameters())))
    monkeypatch.setattr(plan.card, "budget", lambda device: (free, "an H200"))
    scopes = types.SimpleNamespace(cuts=[])
    lab = types.SimpleNamespace(spec=anatomy, model=model, dtype=torch.bfloat16, scopes=scopes)
    lab.device = torch.device("cuda", 0)
    return lab


def test_a_million_tokens_of_the_27b_in_one_stream_fit_a_card(true_size):
    from labkit.plan import requests

    lab, probes = true_size, {0: ["a", "b"], 2: ["a", "b"]}
    lower_right.choose(lab.model, "flash", lab.device)
    planned = lambda chunk: requests.stream(lab, 1_010_000, probes, [], chunk=chunk)  # noqa: E731
    assert all(planned(chunk).fits and not planned(chunk).parts["attention mask"] for chunk in (2048, 8192))
    lab.model.set_attn_implementation("sdpa")
    assert not planned(8192).fits, "masks and repeated keys take what is missing"
    lower_right.choose(lab.model, "flash", lab.device)
    padded = requests.trace(lab, 4096, probes, prompts=2, padded=True, chunk=1024)
    assert padded.parts["attention mask"] or padded.peak > requests.trace(lab, 4096, probes, prompts=2, chunk=1024).peak
